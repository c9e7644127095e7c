@backup @restore @docker @cluster @embedded-only @full
Feature: An object store beside the cluster
  Backups go to any store that speaks S3: here to one in a container, of which the cluster knows no more than its address.

  Scenario: Backups, restores and their removal
    Given an empty home and no cluster
    And an object store in a container, with the bucket "elsewhere"
    When I run `a9s create cluster a8s --backup-provider AWS --backup-store-endpoint {store} --backup-store-pathstyle --backup-bucket elsewhere --yes`
    Then the command succeeds
    And there is no object store
    And the object store takes and gives objects
    When I create an instance "solo"
    Then the command succeeds
    Given the table "kept" of "solo" holds "committed"
    When I create a backup "monday" of "solo"
    Then the command succeeds
    When I apply the statement "UPDATE kept SET value = 'later'" to "solo"
    And I create a restore "back" of the backup "monday" into "solo"
    Then the command succeeds
    And "solo" answers "SELECT value FROM kept" with "committed"
    When the store in the container is frozen
    And somebody orders a backup "patient" of "solo"
    Then the backup "patient" waits because the store "answer"
    When the store in the container goes on
    Then the backup "patient" is soon complete
    When I delete the backup "patient"
    And I delete the backup "monday"
    Then the command succeeds
    And the object store has nothing of this namespace
