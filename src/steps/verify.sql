\set QUIET on
\pset format unaligned
\pset tuples_only on
SET DateStyle = 'ISO'; SET TimeZone = 'UTC'; SET IntervalStyle = 'postgres';
SET extra_float_digits = 1; SET bytea_output = 'hex'; SET standard_conforming_strings = on;
SET statement_timeout = 0; SET default_transaction_read_only = off;
-- A name that nobody has.
SELECT 'a9s_verify_' || gen_random_uuid() AS own
\gset
SELECT json_build_object('checksums', current_setting('data_checksums') = 'on');
-- To plan a query of a table may be to run functions of its owner, those in expressions of its indexes and statistics. They are
-- not run by the superuser, but by a role that may only read the table; it can't become another one, as the function that has it
-- is a security definer. What they have done is taken back with the role. No cast is looked for: a table's row may have one.
SELECT format(
    'BEGIN; CREATE ROLE %1$I BYPASSRLS; GRANT USAGE ON SCHEMA %2$I TO %1$I; GRANT SELECT ON %3$s TO %1$I; '
    'CREATE FUNCTION pg_temp.content() RETURNS json LANGUAGE sql SECURITY DEFINER AS %4$L; '
    'ALTER FUNCTION pg_temp.content() OWNER TO %1$I',
    :'own', nspname, name, format(
        'SELECT json_build_object(''table'', %1$L, ''rows'', count(*), '
        '''hash'', coalesce(sum(hashtextextended(textin(record_out(it.*)), 0)), 0)::text) FROM ONLY %1$s AS it', name)),
    'SELECT pg_temp.content()',
    'ROLLBACK'
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    CROSS JOIN LATERAL (SELECT format('%I.%I', nspname, relname) AS name) AS named
WHERE relkind IN ('r', 'm') AND relpersistence <> 't' AND relispopulated
    AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\_%'
ORDER BY nspname, relname
\gexec
