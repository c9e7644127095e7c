@sql @core
Feature: SQL in an instance
  A developer loads a file or a statement into an instance, and is told the truth about how that went.

  Background:
    Given a cluster with the a8s stack
    And an instance "solo"

  @smoke
  Scenario: The blog data set from a file
    Given the blog data set as "posts.sql"
    When I apply the file "posts.sql" to "solo"
    Then the command succeeds
    And standard output says "Successfully applied SQL file to pod solo-0"
    And "solo" answers "SELECT count(*) FROM posts" with "20"
    And no uploaded file is left in the pod of "solo"
    When I apply the statement "SELECT COUNT(*) FROM POSTS" to "solo"
    Then the command succeeds
    And standard output matches `-------\n20`

  Scenario: A failing statement in a file fails the command and names line and error
    Given an SQL file "broken.sql":
      """
      CREATE TABLE first (n int);
      INSERT INTO first VALUES (1);
      INSERT INTO nowhere VALUES (2);
      INSERT INTO first VALUES (3);
      """
    When I apply the file "broken.sql" to "solo"
    Then the command fails with exit code 1
    And standard error says "the SQL failed in the pod solo-0: broken.sql:3"
    And standard error says "Statements before the failing one have taken effect, unless BEGIN was among them."
    And standard error says "nowhere"
    And standard output does not say "Successfully applied"
    And "solo" answers "SELECT count(*) FROM first WHERE n = 3" with "0"
    And no uploaded file is left in the pod of "solo"

  @full @negative
  Scenario Outline: What psql itself refuses is told with its line: <command>
    Given an SQL file "commands.sql":
      """
      SELECT 1;
      \<command>
      SELECT 2;
      """
    When I apply the file "commands.sql" to "solo"
    Then it ends with the finding "sql-failed"
    And standard error says "the SQL failed in the pod solo-0: commands.sql:2: "
    And standard error says '<words>'

    Examples:
      | command         | words                                  |
      | connect nowhere | database "nowhere" does not exist      |
      | i nowhere.sql   | nowhere.sql: No such file or directory |

  @full
  Scenario: The uploaded file stays when I ask for it
    Given an SQL file "kept.sql":
      """
      SELECT 1;
      """
    When I run `a9s pg apply -i solo --file kept.sql --no-delete --yes`
    Then the command succeeds
    And the uploaded file is still in the pod of "solo"

  @full
  Scenario: Two uploads of the same name at once
    Given the file "one/load.sql" with:
      """
      CREATE TABLE from_one (n int); INSERT INTO from_one VALUES (1); SELECT pg_sleep(0.3);
      """
    And the file "two/load.sql" with:
      """
      CREATE TABLE from_two (n int); INSERT INTO from_two VALUES (2); SELECT pg_sleep(0.3);
      """
    When I apply the files "one/load.sql" and "two/load.sql" to "solo" at the same time
    Then the command succeeds
    And "solo" answers "SELECT (SELECT n FROM from_one), (SELECT n FROM from_two)" with "1|2"
    And no uploaded file is left in the pod of "solo"

  Scenario: A failing statement
    When I apply the statement "SELECT nothing FROM nowhere" to "solo"
    Then the command fails with exit code 1
    And standard error says "nowhere"

  Scenario: Of several statements, those before the failing one stay, and that is said
    When I apply the statement "CREATE TABLE kept (n int); SELECT nothing FROM nowhere" to "solo"
    Then the command fails with exit code 1
    And standard error says "Statements before the failing one have taken effect, unless BEGIN was among them."
    And "solo" answers "SELECT count(*) FROM kept" with "0"

  Scenario: What is not committed is undone, and that is said
    Given an SQL file "open.sql":
      """
      CREATE TABLE kept (n int);
      BEGIN;
      CREATE TABLE undone (n int);
      """
    When I apply the file "open.sql" to "solo"
    Then the command fails with exit code 1
    And standard error says "the SQL left a transaction open in the pod solo-0, which the server has rolled back"
    And standard error says "End it with COMMIT, or with ROLLBACK where nothing of it is to stay."
    And standard output does not say "Successfully applied"
    And "solo" answers "SELECT to_regclass('kept'), to_regclass('undone')" with "kept|"
    When I apply the statement "BEGIN; CREATE TABLE undone (n int); ROLLBACK; BEGIN; SELECT 'looked' AS said" to "solo"
    Then the command succeeds
    And standard output says "looked"

  Scenario: What the server says besides is shown
    Given an SQL file "notices.sql":
      """
      DROP TABLE IF EXISTS nowhere;
      DO $$ BEGIN RAISE WARNING 'half way'; END $$;
      """
    When I apply the file "notices.sql" to "solo"
    Then the command succeeds
    And standard error says "notices.sql:1: NOTICE:  table"
    And standard error says "notices.sql:2: WARNING:  half way"

  Scenario: A statement with quotes, dollars and semicolons arrives as it was typed
    When I apply the statement "SELECT 'it''s $HOME; `id` \\ é' AS said" to "solo"
    Then the command succeeds
    And standard output says "it's $HOME; `id` \\ é"

  @full
  Scenario: A long file
    Given an SQL file "long.sql" of 30000 rows
    When I apply the file "long.sql" to "solo"
    Then the command succeeds
    And "solo" answers "SELECT count(*) FROM long" with "30000"
    And no uploaded file is left in the pod of "solo"

  @full
  Scenario: SQL that is interrupted ends in the server, too
    Given an SQL file "long.sql":
      """
      CREATE TABLE before (n int);
      BEGIN;
      CREATE TABLE half (n int);
      \echo begun
      SELECT pg_sleep(300);
      COMMIT;
      """
    When I start `a9s pg apply -i solo --file long.sql --yes` and interrupt it once it says `begun`
    Then the command fails with exit code 130
    And standard error says "It was ended in the server: what it had committed stays, the rest is undone."
    And standard error says "it would be done once more"
    And "solo" soon answers "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(300)%'" with "0"
    And "solo" answers "SELECT to_regclass('before'), to_regclass('half')" with "before|"
    And no uploaded file is left in the pod of "solo"

  @full @negative
  Scenario: SQL that takes too long ends in the server, too
    When I run `a9s pg apply -i solo --sql "SELECT pg_sleep(301)" --timeout 3s --yes`
    Then the command fails with exit code 4
    And standard error says "It was ended in the server"
    And standard error says "it would be done once more. Give it more time than --timeout 3s."
    And the reason is one clear sentence
    And "solo" soon answers "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(301)%'" with "0"

  @full @negative
  Scenario: A question that takes too long ends in the server, too
    When I run `a9s pg check -i solo --sql "SELECT pg_sleep(302)" --is slept --timeout 3s`
    Then the command fails with exit code 4
    And the reason is one clear sentence
    And "solo" soon answers "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(302)%'" with "0"

  @negative
  Scenario: Garbage instead of SQL
    Given 65536 bytes of random data as "garbage.sql"
    When I apply the file "garbage.sql" to "solo"
    Then the command fails with exit code 1
    And the reason is one clear sentence
    And no uploaded file is left in the pod of "solo"
    And "solo" answers "SELECT 1" with "1"

  @negative
  Scenario: What cannot be applied
    Then these commands fail:
      | command                                                    | code | standard error says                                                                         |
      | a9s pg apply -i solo --file missing.sql --yes              | 3    | Can't upload file missing.sql: No such file or directory                                    |
      | a9s pg apply -i solo --file . --yes                        | 3    | Can't upload file .: it is not a file                                                       |
      | a9s pg apply -i solo --file - --yes                        | 3    | a9s pg psql NAME -- -v ON_ERROR_STOP=1                                                      |
      | a9s pg apply -i solo --database nix --sql 'SELECT 1' --yes | 1    | nix                                                                                         |
      | a9s pg apply -i solo --yes                                 | 2    | --sql                                                                                       |
      | a9s pg apply -i solo --file a.sql --sql 'SELECT 1' --yes   | 2    | --sql                                                                                       |
      | a9s pg apply -i nobody --sql 'SELECT 1' --yes              | 3    | Can't find primary pod of service instance: {namespace}/nobody: the instance does not exist |
      | a9s pg apply -i nobody --sql 'SELECT 1' --yes              | 3    | a9s list pg instance -A lists those there are.                                              |

  @full @negative @linux
  Scenario: A file in which there is less than its size says cannot be applied
    Then these commands fail:
      | command                                                                        | code | standard error says                    |
      | a9s pg apply -i solo --file /sys/devices/system/cpu/online --timeout 20s --yes | 3    | there is less in it than its size says |
