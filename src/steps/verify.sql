\set QUIET on
\pset format unaligned
\pset tuples_only on
SET DateStyle = 'ISO'; SET TimeZone = 'UTC'; SET IntervalStyle = 'postgres';
SET extra_float_digits = 1; SET bytea_output = 'hex'; SET standard_conforming_strings = on;
-- A policy that would hide rows is an error, and no time limit that an application has set for its database is ours.
SET statement_timeout = 0; SET lock_timeout = 0; SET row_security = off;
SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'
\g /dev/null
-- A table that is gone by the time it is read fails where that is caught.
SET check_function_bodies = off;
-- A name that nobody has.
SELECT 'a9s_verify_' || gen_random_uuid() AS own
\gset
SELECT json_build_object('checksums', current_setting('data_checksums') = 'on');
-- To plan a query of a table may be to run functions of its owner, those in expressions of its indexes and statistics. They are
-- not run by the superuser, but by the owner, as PostgreSQL itself runs them, with a path on which they find what they name. A
-- table of a superuser, and one that its owner may not read as a whole, is read by a role that is made for it and may only read.
-- Neither can become another role, as the function that has it is a security definer. What they have done is taken back. Where
-- they may not call a function, do not find it or it refuses, their table is not read; other errors are of the table itself.
-- pg_read_all_data locks no row of the table's. It may read more than a table's owner, but not more than a superuser. After what
-- they have run, the superuser evaluates nothing until all is taken back. No cast is looked for: a table's row may have one.
SELECT format('BEGIN; %1$s'
    'CREATE FUNCTION pg_temp.content() RETURNS pg_catalog.json LANGUAGE sql SECURITY DEFINER '
    'SET search_path = %2$I, public AS %3$L; '
    'ALTER FUNCTION pg_temp.content() OWNER TO %4$I; '
    'CREATE FUNCTION pg_temp.attempt() RETURNS pg_catalog.json LANGUAGE plpgsql AS %5$L',
    CASE
        WHEN by_owner THEN ''
        WHEN rolsuper AND current_setting('server_version_num')::int >= 140000 THEN
            format('CREATE ROLE %1$I BYPASSRLS; GRANT pg_read_all_data TO %1$I; ', :'own')
        ELSE
            format('CREATE ROLE %1$I BYPASSRLS; GRANT USAGE ON SCHEMA %2$I TO %1$I; GRANT SELECT ON %3$s TO %1$I; ',
                :'own', nspname, name)
    END,
    nspname,
    format('SELECT pg_catalog.json_build_object(''table'', %1$L, ''rows'', pg_catalog.count(*), ''hash'', '
        'coalesce(pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.textin(pg_catalog.record_out(it.*)), 0)), 0)'
        '::pg_catalog.text) FROM ONLY %1$s AS it', name),
    CASE WHEN by_owner THEN rolname ELSE :'own' END,
    format('BEGIN RETURN pg_temp.content(); EXCEPTION WHEN syntax_error_or_access_rule_violation OR plpgsql_error THEN '
        'RETURN json_build_object(''unread'', %L, ''why'', SQLERRM); END', name)),
    'SELECT pg_temp.attempt()',
    'ROLLBACK'
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace JOIN pg_roles ON pg_roles.oid = relowner
    CROSS JOIN LATERAL (SELECT
        format('%I.%I', nspname, relname) AS name,
        NOT rolsuper AND NOT relforcerowsecurity AND has_schema_privilege(relowner, relnamespace, 'USAGE')
            AND has_table_privilege(relowner, pg_class.oid, 'SELECT') AS by_owner) AS found
WHERE relkind IN ('r', 'm') AND relpersistence <> 't' AND relispopulated
    AND (nspname <> 'information_schema' AND nspname NOT LIKE 'pg\_%'
        -- Large objects are rows of a catalog.
        OR pg_class.oid = 'pg_catalog.pg_largeobject'::regclass AND EXISTS (SELECT FROM pg_catalog.pg_largeobject))
ORDER BY nspname, relname
\gexec
