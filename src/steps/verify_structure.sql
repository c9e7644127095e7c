SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck') AS amcheck,
    current_setting('server_version_num')::int >= 140000 AS heap
\gset
\if :amcheck
-- In the scratch instance only. In a schema that was just made, nobody else has functions that fit better.
CREATE SCHEMA :"own";
CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA :"own";
ALTER EXTENSION amcheck SET SCHEMA :"own";
SELECT format(
    'SELECT json_build_object(''index'', %L) FROM (SELECT %I.bt_index_check(%s::regclass)) AS checked',
    pg_class.oid::regclass, :'own', pg_class.oid)
FROM pg_class
    JOIN pg_am ON pg_am.oid = relam
    JOIN pg_index ON indexrelid = pg_class.oid
WHERE amname = 'btree' AND relkind = 'i' AND indisvalid AND relpersistence = 'p'
\gexec
\if :heap
SELECT format(
    'SELECT json_build_object(''damaged'', %L, ''why'', msg) FROM %I.verify_heapam(%s::regclass)',
    oid::regclass, :'own', oid)
FROM pg_class WHERE relkind IN ('r', 'm', 't') AND relpersistence = 'p'
\gexec
\endif
\endif
