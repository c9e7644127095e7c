@restore @needs-restore-into
Feature: Backups that are proven, and restores into a new instance
  Only the builtin stack can restore into another instance than the one the backup was made of.

  Background:
    Given a cluster with the a8s stack

  Scenario: A backup is verified, and nothing of it is left
    Given an instance "solo"
    And the blog data set as "posts.sql"
    And I have applied the file "posts.sql" to "solo"
    And I have run `a9s pg apply -i solo --sql 'CREATE DATABASE "another one"' --yes`
    And I have run `a9s pg apply -i solo --database 'another one' --sql 'CREATE TABLE more AS SELECT 1 AS n' --yes`
    And a backup "nightly" of "solo"
    When I run `a9s pg verify nightly -o json`
    Then the command succeeds
    And standard output is one JSON document
    And these values are in the document:
      | field                   | value                    |
      | /verified               | true                     |
      | /instance               | solo                     |
      | /content/checksums      | true                     |
      | /content/tables/0/table | public.posts             |
      | /content/tables/0/rows  | 20                       |
      | /content/tables/1/table | another one: public.more |
      | /content/tables/1/rows  | 1                        |
    And nothing of a verification is left
    When I run `a9s pg verify nightly --against-live`
    Then the command succeeds
    And standard output says "The instance solo has the same content now."
    When I apply the statement "DELETE FROM posts WHERE ctid = (SELECT min(ctid) FROM posts)" to "solo"
    And I run `a9s pg verify nightly --against-live`
    Then the command succeeds
    And standard output says "public.posts has 20 rows in the backup, 19 in the instance"
    And "solo" answers "SELECT count(*) FROM posts" with "19"
    And nothing of a verification is left

  @full
  Scenario: Large objects are read, and compared with those of the instance
    Given an instance "solo"
    And I have applied the statement "SELECT lo_from_bytea(4711, 'before')" to "solo"
    And a backup "nightly" of "solo"
    When I run `a9s pg verify nightly --against-live -o json`
    Then the command succeeds
    And these values are in the document:
      | field                      | value                     |
      | /verified                  | true                      |
      | /content/tables/0/table    | pg_catalog.pg_largeobject |
      | /content/tables/0/rows     | 1                         |
      | /differencesToLive         | []                        |
    When I apply the statement "SELECT lo_put(4711, 0, 'behind')" to "solo"
    And I run `a9s pg verify nightly --against-live`
    Then the command succeeds
    And standard output says "pg_catalog.pg_largeobject has as many rows and another content"
    And nothing of a verification is left

  Scenario: A backup that has outlived its instance is verified, and restored into a new one
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    When I delete the instance "solo"
    And I run `a9s pg verify nightly`
    Then the command succeeds
    And standard output says "public.kept"
    And nothing of a verification is left
    When I create a restore "copy" of the backup "nightly" into a new instance "twin"
    Then the command succeeds
    And "twin" answers "SELECT value FROM kept" with "before"

  # To plan a query is to run what its tables' indexes call; to read a row as text is to run its cast.
  Scenario: What an application's tables run when they are read is not run in the place of the superuser
    Given an instance "solo"
    And service bindings "app" to "solo"
    When as "app" these statements are run:
      """
      CREATE FUNCTION seize() RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN ALTER ROLE a9s_user SUPERUSER; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$;
      CREATE FUNCTION seized(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.seize(); RETURN $1; END $$;
      CREATE TABLE bait (n int);
      INSERT INTO bait VALUES (1);
      CREATE INDEX ON bait ((seized(1) + n));
      CREATE FUNCTION as_text(bait) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.seize(); RETURN ''; END $$;
      CREATE CAST (bait AS text) WITH FUNCTION as_text(bait);
      CREATE TABLE named (it int, t int, value int);
      INSERT INTO named VALUES (1, 2, 3);
      CREATE SCHEMA a9s_verify;
      CREATE FUNCTION a9s_verify.verify_heapam(regclass) RETURNS TABLE (msg text) LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'run by the superuser'; END $$;
      """
    And I create a backup "nightly" of "solo"
    And I run `a9s pg verify nightly --against-live`
    Then the command succeeds
    And standard output says "The instance solo has the same content now."
    And "solo" answers "SELECT rolsuper FROM pg_roles WHERE rolname = 'a9s_user'" with "f"
    And "solo" answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a9s_verify%'" with "0"
    When as "app" the statement "UPDATE named SET value = 4" is run
    And I run `a9s pg verify nightly --against-live`
    Then the command succeeds
    And standard output says "public.named has as many rows and another content"

  # Functions that name others without their schema, and such as only their owner may call.
  Scenario: Tables whose indexes call functions are read as their owner reads them
    Given an instance "solo"
    And service bindings "app" to "solo"
    When as "app" these statements are run:
      """
      CREATE FUNCTION step() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
      CREATE FUNCTION next(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1 + step(); END';
      REVOKE EXECUTE ON FUNCTION step, next FROM PUBLIC;
      CREATE TABLE counted (n int);
      INSERT INTO counted VALUES (1), (2);
      CREATE INDEX ON counted ((next(1) + n)) WHERE n > next(0);
      CREATE SCHEMA apart;
      CREATE FUNCTION apart.step() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
      SET search_path = apart;
      CREATE FUNCTION next(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1 + step(); END';
      CREATE TABLE guarded (n int);
      INSERT INTO guarded VALUES (3);
      CREATE INDEX ON guarded ((next(1) + n));
      ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
      """
    And I create a backup "nightly" of "solo"
    And I run `a9s pg verify nightly --against-live -o json`
    Then the command succeeds
    And these values are in the document:
      | field                   | value          |
      | /verified               | true           |
      | /content/tables/0/table | apart.guarded  |
      | /content/tables/0/rows  | 1              |
      | /content/tables/1/table | public.counted |
      | /content/tables/1/rows  | 2              |
      | /content/unread         | []             |
      | /differencesToLive      | []             |

  @negative
  Scenario: A table that cannot be read is named, the others are read, and the backup is not verified
    Given an instance "solo"
    And service bindings "app" to "solo"
    When as "app" these statements are run:
      """
      CREATE FUNCTION broken(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
      CREATE TABLE closed (n int);
      CREATE INDEX ON closed ((broken(1) + n));
      CREATE OR REPLACE FUNCTION broken(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN nowhere($1); END';
      CREATE TABLE open (n int);
      """
    And I create a backup "nightly" of "solo"
    And I run `a9s pg verify nightly --against-live`
    Then it ends with the finding "backup-unread"
    And standard error says "of public.closed PostgreSQL says: function nowhere(integer) does not exist"
    And standard output says "public.open"
    And standard output says "public.closed was not read, and is not compared"
    And nothing of a verification is left

  @negative
  Scenario: A database that lets nobody in is named, and the backup is not verified
    Given an instance "solo"
    When I run `a9s pg apply -i solo --database postgres --sql 'ALTER DATABASE a9s_apps_default_db ALLOW_CONNECTIONS false' --yes`
    Then the command succeeds
    When I create a backup "nightly" of "solo"
    And I run `a9s pg verify nightly`
    Then it ends with the finding "backup-unread"
    And standard error says "of the database a9s_apps_default_db PostgreSQL says:"
    And nothing of a verification is left

  Scenario: A verification that is interrupted removes what it made
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When I run `a9s pg verify nightly` and interrupt it while it waits
    Then the command fails with exit code 130
    And nothing of a verification is left
    And the instance "solo" is ready

  Scenario: Two verifications of one backup at once do not disturb each other
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When I run `a9s pg verify nightly` twice at once
    Then the command succeeds
    And nothing of a verification is left

  @full @negative
  Scenario Outline: A verification that does not come to its end reads nothing more of the instance: <what>
    Given an instance "solo"
    And a backup "nightly" of "solo"
    And an SQL file "slow.sql":
      """
      CREATE FUNCTION nap(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
      CREATE TABLE slow (n int);
      CREATE INDEX ON slow ((nap(1) + n));
      CREATE OR REPLACE FUNCTION nap(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(300); RETURN $1; END';
      """
    And I have applied the file "slow.sql" to "solo"
    When I run `a9s pg verify nightly --against-live<end>
    Then it ends with the finding "<finding>"
    And nothing of a verification is left
    And "solo" soon answers "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'" with "0"

    Examples:
      | what              | end                                                                     | finding     |
      | it is interrupted | ` and interrupt it once standard error says "it runs in the pod solo-0" | interrupted |

    @kubectl
    Examples:
      | what                     | end                                                                                                     | finding           |
      | what it has made is gone | `, and once it says `it runs in the pod solo-0` `kubectl delete pg -l a8s.a9s/verifies` is run          | deleted-meanwhile |

  @negative
  Scenario: A verification that is suspended for too long is told why it misses what it has made
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When I run `a9s pg verify nightly`, suspended while it waits until `a9s pg verify nightly` has succeeded
    Then it ends with the finding "deleted-meanwhile"
    And standard error says "no sign of life for 10 s, for example while it is suspended"
    And nothing of a verification is left

  @kubectl
  Scenario: What verifications have left that were cut off is removed by another run, also where its backup is gone
    Given an instance "solo"
    And a backup "nightly" of "solo"
    And the object:
      """
      apiVersion: postgresql.anynines.com/v1beta3
      kind: Postgresql
      metadata: {name: verify-gone, labels: {a8s.a9s/verifies: 0f8fad5b-d9cb-469f-a165-70867728950e}}
      spec:
        version: 13
        resources: {requests: {cpu: 100m}, limits: {memory: 100Mi}}
      """
    When I run `a9s pg verify nightly`, cut off 2 times
    Then the command succeeds
    And nothing of a verification is left

  @negative @needs-backup-objects
  Scenario: A backup whose object is damaged is not verified
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When a byte of the backup "nightly" is changed in the store
    And I run `a9s pg verify nightly`
    Then the command fails with exit code 1
    And standard error says "The restore has not been completed"
    And nothing of a verification is left

  @negative
  Scenario: A table that was damaged before the backup was made is found by its verification
    Given an instance "solo"
    And an SQL file "damage.sql":
      """
      CREATE EXTENSION pg_surgery;
      CREATE TABLE wide AS SELECT string_agg(sha256(n::text::bytea)::text, '') AS text FROM generate_series(1, 300) n;
      SELECT heap_force_kill(reltoastrelid::regclass, ARRAY['(0,1)']::tid[]) FROM pg_class WHERE relname = 'wide';
      """
    When I apply the file "damage.sql" to "solo"
    And I create a backup "nightly" of "solo"
    Then the command succeeds
    When I run `a9s pg verify nightly`
    Then it ends with the finding "backup-damaged"
    And standard error says "the backup nightly restores, but can't be read to its end: "
    And standard error says "chunk number"
    And nothing of a verification is left

  @needs-audit
  Scenario: A restore into a new instance, which is made like the old one
    Given an instance "solo" with `--limits-memory 320Mi`
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "solo"
    When I create a restore "copy" of the backup "nightly" into a new instance "twin"
    Then the command succeeds
    And "twin" answers "SELECT value FROM kept" with "before"
    And "solo" answers "SELECT value FROM kept" with "after"
    And the postgresql "twin" has these values:
      | field                          | value |
      | /spec/resources/limits/memory  | 320Mi |
    When I run it again
    Then the command succeeds
    And the program has sent no changing request
    And standard output says "and is not done again"

  Scenario: A restore says which instance it is for by its backup
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "solo"
    When I create a restore "back" of the backup "nightly" with `-o json`
    Then the command succeeds
    And these values are in the document:
      | field     | value   |
      | /instance | solo    |
      | /backup   | nightly |
      | /complete | true    |
    And "solo" answers "SELECT value FROM kept" with "before"

  Scenario: A backup tells its size, and is described with its objects
    Given an instance "solo"
    When I create a backup "nightly" of "solo" with `-o json`
    Then the command succeeds
    And the document has a number at "/bytes"
    And the document has a number at "/seconds"
    When I run `a9s describe pg backup nightly`
    Then the command succeeds
    And standard output says "objects in the store {namespace}/solo/"
    When I run `a9s pg status solo -o json`
    Then the command succeeds
    And the value at `/lastBackup/name` of the document is `nightly`
