\set QUIET on
\pset format unaligned
\pset tuples_only on
SET DateStyle = 'ISO'; SET TimeZone = 'UTC'; SET IntervalStyle = 'postgres';
SET extra_float_digits = 1; SET bytea_output = 'hex'; SET search_path = '';
SELECT pg_catalog.json_build_object('checksums', current_setting('data_checksums') = 'on');
SELECT pg_catalog.format(
    'SELECT pg_catalog.json_build_object(''table'', %L, ''rows'', count(*), '
    '''hash'', coalesce(sum(hashtextextended(t::text, 0)), 0)::text) FROM ONLY %1$s AS t',
    pg_catalog.format('%I.%I', nspname, relname), nspname, relname)
FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'm') AND relpersistence <> 't' AND relispopulated
    AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\_%'
ORDER BY nspname, relname
\gexec
