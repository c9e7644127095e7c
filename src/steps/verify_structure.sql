SELECT EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck') AS amcheck,
    current_setting('server_version_num')::int >= 140000 AS heap
\gset
\if :amcheck
CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA public;
SELECT nspname AS schema FROM pg_catalog.pg_extension JOIN pg_catalog.pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'amcheck'
\gset
SELECT pg_catalog.format(
    'SELECT pg_catalog.json_build_object(''index'', %L) FROM (SELECT %I.bt_index_check(%s::pg_catalog.regclass)) AS checked',
    pg_class.oid::pg_catalog.regclass, :'schema', pg_class.oid)
FROM pg_catalog.pg_class
    JOIN pg_catalog.pg_am ON pg_am.oid = relam
    JOIN pg_catalog.pg_index ON indexrelid = pg_class.oid
WHERE amname = 'btree' AND relkind = 'i' AND indisvalid AND relpersistence = 'p'
\gexec
\if :heap
SELECT pg_catalog.format(
    'SELECT pg_catalog.json_build_object(''damaged'', %L, ''why'', msg) FROM %I.verify_heapam(%s::pg_catalog.regclass)',
    oid::pg_catalog.regclass, :'schema', oid)
FROM pg_catalog.pg_class WHERE relkind IN ('r', 'm', 't') AND relpersistence = 'p'
\gexec
\endif
\endif
