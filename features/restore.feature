@restore
Feature: Restores
  A restore replaces the content of an instance exactly: the old content or the backup's, and nothing in between.

  Background:
    Given a cluster with the a8s stack

  @smoke @namespace
  Scenario: Backup, then restore, in a namespace of its own
    Given a namespace "shop"
    And an instance "solo" in the namespace "shop"
    When I apply the statement "CREATE TABLE carts (n int); INSERT INTO carts VALUES (3)" to "solo" in the namespace "shop"
    And I create a backup "nightly" of "solo" in the namespace "shop"
    Then the command succeeds
    And standard output says "The backup with the name nightly in namespace {namespace}-shop has been successful."
    And the backup "nightly" in the namespace "shop" is complete
    And there is no backup "nightly"
    When I apply the statement "INSERT INTO carts VALUES (4)" to "solo" in the namespace "shop"
    And I create a restore "back" of the backup "nightly" into "solo" in the namespace "shop"
    Then the command succeeds
    And standard output says "The restore with the name back in namespace {namespace}-shop has been successful."
    And "solo" in the namespace "shop" answers "SELECT string_agg(n::text, ',') FROM carts" with "3"

  Scenario: With open connections, every table is exactly as it was
    Given an instance "solo"
    And the blog data set as "posts.sql"
    And I have applied the file "posts.sql" to "solo"
    And the table "kept" of "solo" holds "before"
    And I remember the content of "solo"
    And a backup "nightly" of "solo"
    And the table "later" of "solo" holds "after"
    And I have applied the statement "DELETE FROM posts; INSERT INTO kept VALUES ('after')" to "solo"
    And 3 clients are connected to "solo"
    When I create a restore "back" of the backup "nightly" into "solo"
    Then the command succeeds
    And the content of "solo" is as I remember it
    And the pod of "solo" is the same as before
    And nobody has access to the store any more

  @kubectl
  Scenario: A client reads through a port-forward that was opened before
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "solo"
    And a port-forward to "solo"
    When I create a restore "back" of the backup "nightly" into "solo"
    Then the command succeeds
    And the port-forward answers "SELECT value FROM kept" with "before" at the first attempt

  @negative
  Scenario: A Restore that somebody else made of a backup that is not there
    Given an instance "solo"
    When somebody orders a restore "theirs" of the backup "never" into "solo"
    Then the restore "theirs" fails for good with "non-existing backup never"

  @negative
  Scenario: A Restore that somebody else made for an instance that is not there
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When somebody orders a restore "theirs" of the backup "nightly" into "nowhere"
    Then the restore "theirs" fails for good with "non-existing service instance nowhere"

  @negative @needs-backup-objects
  Scenario Outline: <what> changes nothing
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "solo"
    When <change>
    And I create a restore "back" of the backup "nightly" into "solo"
    Then the command fails with exit code 1
    And the restore "back" fails for good with "<why>"
    And "solo" answers "SELECT value FROM kept" with "after"

    Examples:
      | what                                           | change                                                                          | why                                                              |
      | A backup that was tampered with                | a byte of the backup "nightly" is changed in the store                          | is not authentic                                                 |
      | A backup whose manifest was changed            | somebody writes another time into the manifest of the backup "nightly"          | is not authentic                                                 |
      | The manifest of an earlier attempt at a backup | the manifest of the backup "nightly" in the store is that of an earlier attempt | another attempt                                                  |
      | A backup of another major                      | the backup "nightly" in the store is one of PostgreSQL 13                       | the backup is of PostgreSQL 13, and the instance runs PostgreSQL |

  @negative @needs-backup-objects
  Scenario: A backup with an object missing
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When an object of the backup "nightly" is removed from the store
    And I create a restore "back" of the backup "nightly" into "solo"
    Then the command fails with exit code 1
    And the restore "back" fails for good with "objects of the backup are missing"

  @negative @embedded-only
  Scenario: The agent dies while it restores
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    And 200 MB of random data in "solo"
    And a backup "nightly" of "solo"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "solo"
    When somebody orders a restore "back" of the backup "nightly" into "solo"
    And the restore "back" has begun
    And the agent of "solo" is killed
    Then the restore "back" is not complete yet
    And the restore "back" is soon complete
    And "solo" answers "SELECT value FROM kept" with "before"

  @chaos @embedded-only
  Scenario: The agent of the primary dies at any moment of a restore
    Given an instance "trio" of 3 members
    And the table "kept" of "trio" holds "before"
    And 50 MB of random data in "trio"
    And a backup "nightly" of "trio"
    When the agent of the primary of "trio" is killed within 3 restores of the backup "nightly", which bring back that the table "kept" holds "before"
    Then the instance "trio" is ready

  @full @builtin
  Scenario: Another member leads while a restore runs
    Given an instance "trio" of 3 members
    And the table "kept" of "trio" holds "before"
    And 50 MB of random data in "trio"
    And a backup "nightly" of "trio"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "trio"
    When somebody orders a restore "back" of the backup "nightly" into "trio"
    And the restore "back" has begun
    And the primary of "trio" is deleted
    Then the restore "back" is not complete yet
    And the restore "back" is soon complete
    And "trio" has one primary and 2 standbys
    And every member of "trio" soon answers "SELECT value FROM kept" with "before"

  @full @needs-failover @builtin
  Scenario: A failover on purpose while a restore runs leaves nothing that stands in the way of the next
    Given an instance "trio" of 3 members
    And the table "kept" of "trio" holds "before"
    And 50 MB of random data in "trio"
    And a backup "nightly" of "trio"
    When somebody orders a restore "back" of the backup "nightly" into "trio"
    And the restore "back" has begun
    And I run `a9s pg failover trio --yes`
    Then the command succeeds
    And the restore "back" is soon complete
    When I apply the statement "UPDATE kept SET value = 'after'" to "trio"
    And I run `a9s pg failover trio --to trio-0 --yes`
    Then the command succeeds
    When I create a restore "again" of the backup "nightly" into "trio"
    Then the command succeeds
    And every member of "trio" soon answers "SELECT value FROM kept" with "before"

  @needs-restore-into
  Scenario: Into another instance
    Given an instance "solo"
    And an instance "copy"
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    When I create a restore "across" of the backup "nightly" into "copy"
    Then the command succeeds
    And "copy" answers "SELECT value FROM kept" with "before"
    And "copy" refuses a wrong password
    And the instance "copy" is ready

  Scenario: A restore twice, and a backup after it
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "solo"
    When I create a restore "first" of the backup "nightly" into "solo"
    Then the command succeeds
    When I create a restore "second" of the backup "nightly" into "solo"
    Then the command succeeds
    When I create a backup "again" of "solo"
    Then the command succeeds
    When I apply the statement "UPDATE kept SET value = 'later'" to "solo"
    And I create a restore "third" of the backup "again" into "solo"
    Then the command succeeds
    And "solo" answers "SELECT value FROM kept" with "before"

  @embedded-only
  Scenario: A restored instance survives the death of its server
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    When I create a restore "back" of the backup "nightly" into "solo"
    Then the command succeeds
    When the postmaster of "solo" is killed
    Then "solo" soon answers "SELECT value FROM kept" with "before"

  Scenario: Every member has the restored content
    Given an instance "trio" with `--replicas 3`
    And the table "kept" of "trio" holds "before"
    And a backup "nightly" of "trio"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "trio"
    When I create a restore "back" of the backup "nightly" into "trio"
    Then the command succeeds
    And every member of "trio" soon answers "SELECT value FROM kept" with "before"

  # Nobody has the new content but the primary: a row that it acknowledged alone would be lost with its volume.
  @chaos @builtin @embedded-only
  Scenario: What is written after a restore waits until another member has the content
    Given an instance "trio" of 3 members
    And the table "kept" of "trio" holds "before"
    And a backup "nightly" of "trio"
    When the agents of the standbys of "trio" are frozen
    And the servers of the standbys of "trio" are killed
    And somebody orders a restore "back" of the backup "nightly" into "trio"
    Then the restore "back" runs and says "does not serve the restored content yet"
    When I run `a9s pg apply -i trio --sql "CREATE TABLE late (n int)" --timeout 5s --yes`
    Then the command fails with exit code 4
    When what was frozen goes on
    Then the restore "back" is soon complete
    When I run `a9s pg apply -i trio --sql "INSERT INTO kept VALUES ('written')" --yes`
    Then the command succeeds

  @binding
  Scenario: Service bindings are the instance's, whatever the backup knew
    Given an instance "solo"
    And service bindings "kept", "gone" to "solo"
    When as "kept" the statement "CREATE TABLE ours (n int); INSERT INTO ours VALUES (1)" is run
    And I create a backup "nightly" of "solo"
    And I run `a9s delete pg servicebinding --name gone --yes`
    And I create a service binding "new" to "solo"
    And I create a restore "back" of the backup "nightly" into "solo"
    Then the command succeeds
    And the login of "gone" is refused
    And as "kept" the statement "SELECT n FROM ours" answers "1"
    And as "new" the statement "SELECT n FROM ours" answers "1"
    And "solo" answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "2"

  @binding @needs-restore-into
  Scenario: Service bindings stay behind when a backup goes into another instance
    Given an instance "solo"
    And service bindings "app" to "solo"
    When as "app" the statement "CREATE TABLE ours (n int); INSERT INTO ours VALUES (1)" is run
    And I create a backup "nightly" of "solo"
    And I run `a9s create pg restore --name across --backup nightly --to copy --yes`
    Then the command succeeds
    And "copy" answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "0"
    When I create a service binding "its" to "copy"
    Then the command succeeds
    And as "its" the statement "SELECT n FROM ours" answers "1"

  @full @negative @needs-restore-into
  Scenario: A new instance takes nobody's place
    Given an instance "solo"
    And a backup "nightly" of "solo"
    And an instance "copy"
    And the table "kept" of "copy" holds "its own"
    When I run `a9s create pg restore --name across --backup nightly --to copy --yes`
    Then the command fails with exit code 5
    And the reason is one clear sentence
    And standard error says "To replace its content: a9s create pg restore -b nightly -i copy"
    And standard error says "Or choose a name that is free."
    And there is no restore "across"
    And "copy" answers "SELECT value FROM kept" with "its own"
    When I run `a9s create pg restore --name twice --backup nightly --to fresh --yes`
    And I run it again
    Then the command succeeds
    And "fresh" soon answers "SELECT 1" with "1"
    When I apply the statement "CREATE TABLE kept AS SELECT 'its own' AS value" to "fresh"
    And I run `a9s create pg restore --name twice --backup nightly --to fresh --yes`
    Then the command succeeds
    And standard output says "and is not done again"
    And "fresh" answers "SELECT value FROM kept" with "its own"
    When I run `a9s create pg restore --name thrice --backup nightly --to fresh --yes`
    Then the command fails with exit code 5
    And standard error says "there is an instance fresh already, which was not made for this: the restore thrice would replace its content"
    When I run `a9s delete pg restore --name twice --yes`
    And I run `a9s create pg restore --name twice --backup nightly --to fresh --yes`
    Then the command fails with exit code 5
    And standard error says "there is an instance fresh already, which has been restored before"
    And "fresh" answers "SELECT value FROM kept" with "its own"

  @full @negative @needs-restore-into
  Scenario: A restore into a new instance that is gone is not believed
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When I run `a9s create pg restore --name twice --backup nightly --to fresh --yes`
    And I delete the instance "fresh"
    And I run `a9s create pg restore --name twice --backup nightly --to fresh --yes`
    Then the command fails with exit code 5
    And standard error says "there is a restore twice already, and no instance fresh"
    And standard error says "Choose another --name."
    And there is no instance "fresh"

  @full
  Scenario: A restore is deleted, and what it brought stays
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "solo"
    When I create a restore "back" of the backup "nightly" into "solo"
    And I run `a9s delete pg restore --name back --dry-run`
    Then the command succeeds
    And the restore "back" is complete
    When I run `a9s delete pg restore --name back --yes`
    Then the command succeeds
    And there is no restore "back"
    And "solo" answers "SELECT value FROM kept" with "before"
    When I create a restore "back" of the backup "nightly" into "solo"
    And I delete the instance "solo"
    And I run `a9s delete pg restore --name back --yes`
    Then the command succeeds
    And there is no restore "back"

  @full @builtin
  Scenario: A restore that is deleted while it runs leaves the content as it was
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    And 200 MB of random data in "solo"
    And a backup "nightly" of "solo"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "solo"
    When somebody orders a restore "back" of the backup "nightly" into "solo"
    And the restore "back" has begun
    And I delete the restore "back"
    Then the command succeeds
    And there is no restore "back"
    And "solo" answers "SELECT value FROM kept" with "after"
    And nobody has access to the store any more
    When I create a restore "back" of the backup "nightly" into "solo"
    Then the command succeeds
    And "solo" answers "SELECT value FROM kept" with "before"

  @full @builtin
  Scenario: Deleting an instance while a backup is restored into it
    Given an instance "solo"
    And 200 MB of random data in "solo"
    And a backup "nightly" of "solo"
    When somebody orders a restore "back" of the backup "nightly" into "solo"
    And the restore "back" has begun
    And I delete the instance "solo"
    Then the command succeeds
    And the restore "back" fails for good with "non-existing service instance solo"
    And nothing of the instance "solo" is left

  @full @negative @builtin @embedded-only @cut-off
  Scenario: Deleting an instance before every member serves what was restored
    Given an instance "duo" of 2 members
    And a backup "nightly" of "duo"
    When a standby of "duo" is cut off from the API server
    And somebody orders a restore "back" of the backup "nightly" into "duo"
    Then the restore "back" runs and says "does not serve the restored content yet"
    When I delete the instance "duo"
    Then the command succeeds
    And the restore "back" fails for good with "non-existing service instance duo"
    When I create an instance "duo"
    And I create a backup "after" of "duo"
    Then the command succeeds

  # As the controller finds it that was away meanwhile.
  @full @negative @builtin
  Scenario: What was restored into an instance that is gone is not looked for in another of its name
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When I create a restore "back" of the backup "nightly" into "solo"
    And I delete the instance "solo"
    And I create an instance "solo"
    Then the command succeeds
    When I PATCH this to `/apis/backups.anynines.com/v1beta3/namespaces/{namespace}/restores/back/status` as `application/merge-patch+json`:
      """
      {"status": {"conditions": [
       {"type": "InProgress", "status": "True", "reason": "Ordered", "message": "it runs", "lastTransitionTime": "2026-01-01T00:00:00Z"},
       {"type": "Restored", "status": "True", "reason": "Restored", "message": "it is there", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}
      """
    Then the command succeeds
    And the restore "back" fails for good with "another one has its name"
    When I create a backup "after" of "solo"
    Then the command succeeds

  @negative @needs-backup-objects
  Scenario: A restore while a backup runs is refused, and one that is ordered nevertheless waits for it
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "solo"
    And 200 MB of random data in "solo"
    When somebody orders a backup "long" of "solo"
    And the backup "long" has begun to upload
    And I create a restore "back" of the backup "nightly" into "solo"
    Then the command fails with exit code 5
    And standard error says "the instance {namespace}/solo is busy with the backup long"
    And standard error says "Wait until it is complete, or delete it: a9s delete pg backup --name long -n {namespace}"
    And there is no restore "back"
    When somebody orders a restore "theirs" of the backup "nightly" into "solo"
    Then the restore "theirs" is soon complete
    And "solo" answers "SELECT value FROM kept" with "before"
    And the backup "long" is soon complete
    And the backup "long" has these values:
      | field           | value |
      | /status/retries | null  |
    And the store has one attempt of the backup "long"

  @negative @builtin
  Scenario: Two restores at once: the second is refused, and those that are ordered nevertheless wait for each other
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    And 200 MB of random data in "solo"
    And a backup "nightly" of "solo"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "solo"
    When somebody orders a restore "one" of the backup "nightly" into "solo"
    And the restore "one" has begun
    And somebody orders a restore "two" of the backup "nightly" into "solo"
    Then the restore "two" waits and says "it waits for the restore one"
    When I create a restore "three" of the backup "nightly" into "solo"
    Then the command fails with exit code 5
    And standard error says "the instance {namespace}/solo is busy with the restore"
    And there is no restore "three"
    And the restore "one" is soon complete
    And the restore "two" is soon complete
    And "solo" answers "SELECT value FROM kept" with "before"
    And the instance "solo" is ready
