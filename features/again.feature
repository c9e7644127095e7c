Feature: Again, and cut off
  Every command may be run again, and may be killed or interrupted anywhere: another run reaches the same end.

  @core @needs-audit
  Scenario: A second run of creating an instance sends no changing request
    Given a cluster with the a8s stack
    And an instance "solo"
    When I run `a9s create pg instance --name solo --yes`
    And that has worked
    And I run it again
    Then the command succeeds
    And the program has sent no changing request
    And "solo" answers "SELECT 1" with "1"

  @full @needs-audit
  Scenario: What only looks sends no changing request
    Given a cluster with the a8s stack
    And an instance "solo"
    Then these commands send no changing request:
      | command                                      |
      | a9s pg apply -i solo --sql 'SELECT 1' --yes  |
      | a9s pg check -i solo --sql 'SELECT 1' --is 1 |
      | a9s pg status solo                           |
      | a9s pg logs solo                             |
      | a9s list pg instance                         |
      | a9s describe pg instance solo                |
      | a9s cluster list                             |
      | a9s cluster status                           |
      | a9s version                                  |
    And "solo" answers "SELECT 1" with "1"

  @cluster @embedded-only
  Scenario: Creating a cluster, cut off anywhere
    Given an empty home and no cluster
    When I run `a9s create cluster a8s --yes`, cut off 4 times
    Then the command succeeds
    And the cluster answers
    And the pods of the stack are running
    When I create an instance "solo"
    Then the command succeeds
    And "solo" answers "SELECT 1" with "1"
    When I create a cluster
    Then the command succeeds
    And the program has sent no changing request

  @needs-audit
  Scenario: Creating an instance, cut off anywhere
    Given a cluster with the a8s stack
    When I run `a9s create pg instance --name solo --yes`, cut off 4 times
    Then the command succeeds
    And the instance "solo" is ready
    And "solo" answers "SELECT 1" with "1"
    When I create an instance "solo"
    Then the command succeeds
    And the program has sent no changing request

  Scenario: Deleting an instance, cut off anywhere
    Given a cluster with the a8s stack
    And an instance "solo"
    When I run `a9s delete pg instance --name solo --yes`, cut off 2 times
    Then the command succeeds
    And nothing of the instance "solo" is left
    When I create an instance "solo"
    Then the command succeeds
    And "solo" answers "SELECT 1" with "1"

  @full @needs-audit
  Scenario Outline: <what>, cut off anywhere
    Given a cluster with the a8s stack
    And an instance "solo" with `--replicas <members>`
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    And I have applied the statement "UPDATE kept SET value = 'after'" to "solo"
    When I run `a9s <command> --yes`, cut off 3 times
    Then the command succeeds
    And "solo" has one primary and <standbys> standbys
    And <end>
    And "solo" answers "SELECT value FROM kept" with "<value>"
    When I run `a9s <command> --yes`
    Then the command succeeds
    And the program has sent no changing request

    Examples:
      | what                          | members | standbys | command                                           | value  | end                                                   |
      | Creating a service binding    | 1       | 0        | create pg servicebinding --name app -i solo       | after  | as "app" the statement "SELECT 1" answers "1"         |
      | Backing up                    | 1       | 0        | create pg backup --name later -i solo             | after  | the store has one attempt of the backup "later"       |
      | Restoring                     | 1       | 0        | create pg restore --name back -b nightly          | before | the restore "back" is complete                        |
      | Restoring into a new instance | 1       | 0        | create pg restore --name over -b nightly --to new | after  | "new" answers "SELECT value FROM kept" with "before"  |
      | Failing over                  | 3       | 2        | pg failover solo --to solo-1                      | after  | the member "solo-1" is the primary of "solo"          |

  @full @needs-audit
  Scenario Outline: Deleting a <kind>, cut off anywhere
    Given a cluster with the a8s stack
    And an instance "solo"
    And the table "kept" of "solo" holds "before"
    And a backup "nightly" of "solo"
    When I run `a9s create pg <kind> --name gone <of> --yes`
    And that has worked
    And I run `a9s delete pg <kind> --name gone --yes`, cut off 3 times
    Then the command succeeds
    And there is no <kind> "gone"
    And <end>
    And "solo" answers "SELECT value FROM kept" with "before"
    When I run it again
    Then the command succeeds
    And the program has sent no changing request

    Examples:
      | kind           | of         | end                                            |
      | backup         | -i solo    | the object store has 1 backups of "solo"       |
      | restore        | -b nightly | the backup "nightly" is complete               |
      | servicebinding | -i solo    | there is no secret "gone-service-binding"      |

  @full
  Scenario: Applying a file with a transaction, cut off anywhere
    Given a cluster with the a8s stack
    And an instance "solo"
    And the table "kept" of "solo" holds "before"
    And an SQL file "more.sql":
      """
      BEGIN;
      INSERT INTO kept SELECT 'one half' FROM generate_series(1, 500);
      INSERT INTO kept SELECT 'the other' FROM generate_series(1, 500);
      COMMIT;
      """
    When I run `a9s pg apply -i solo -f more.sql --yes`, cut off 4 times
    Then the command succeeds
    And "solo" answers "SELECT count(*) > 1000 AND count(*) % 1000 = 1 FROM kept" with "t"

  @full
  Scenario: Killing a member, cut off anywhere
    Given a cluster with the a8s stack
    And an instance "solo"
    And the table "kept" of "solo" holds "before"
    When I remember the pod of "solo"
    And I run `a9s pg kill -i solo --member primary --yes`, cut off 3 times
    Then the command succeeds
    And the pod of "solo" is another than before
    And "solo" has one primary and 0 standbys
    And "solo" answers "SELECT value FROM kept" with "before"

  @full @cluster @embedded-only
  Scenario: Stopping a cluster and starting it again, each cut off anywhere
    Given a cluster of its own
    And an instance "solo"
    And the table "kept" of "solo" holds "before"
    When I run `a9s cluster stop --yes`, cut off 3 times
    Then the command succeeds
    And no process of the cluster is left
    When I run it again
    Then the command succeeds
    And standard output says "The Kubernetes Cluster a8s was stopped already."
    When I run `a9s cluster start --yes`, cut off 3 times
    Then the command succeeds
    And the cluster answers
    And "solo" answers "SELECT value FROM kept" with "before"
    When I run it again
    Then the command succeeds
    And the program has sent no changing request
    And standard output says "The Kubernetes Cluster a8s was started already."

  @full @cluster @embedded-only
  Scenario: Removing the stack and installing it again, each cut off anywhere
    Given a cluster of its own
    And an instance "solo"
    When I run `a9s delete stack a8s -c a8s --yes`, cut off 4 times
    Then the command succeeds
    And the API server has no API at "/apis/postgresql.anynines.com/v1beta3"
    And the API server answers "/api/v1/namespaces/a8s-system" with 404 and the reason "NotFound"
    And there is no object store
    And nothing of the instance "solo" is left
    When I run it again
    Then the command succeeds
    And the program has sent no changing request
    When I run `a9s create stack a8s -c a8s --yes`, cut off 4 times
    Then the command succeeds
    And the pods of the stack are running
    And the object store takes and gives objects
    When I run it again
    Then the command succeeds
    And the program has sent no changing request
    When I create an instance "solo"
    Then the command succeeds
    And "solo" answers "SELECT 1" with "1"

  @full
  Scenario: The life of an instance, each of its commands interrupted anywhere
    Given a cluster with the a8s stack
    When I run `a9s create pg instance --name solo --yes`, interrupted 3 times
    Then the command succeeds
    And "solo" answers "SELECT 1" with "1"
    When I run `a9s pg apply -i solo --sql 'SELECT pg_sleep(2); CREATE TABLE IF NOT EXISTS made AS SELECT 1' --yes`, interrupted 3 times
    Then the command succeeds
    And "solo" answers "SELECT count(*) FROM made" with "1"
    When I run `a9s create pg backup --name nightly -i solo --yes`, interrupted 3 times
    Then the command succeeds
    And the backup "nightly" is complete
    When I run `a9s create pg restore --name back -b nightly --yes`, interrupted 2 times
    Then the command succeeds
    And the restore "back" is complete
    When I run `a9s delete pg backup --name nightly --yes`, interrupted 1 times
    Then the command succeeds
    And there is no backup "nightly"
    When I run `a9s delete pg instance --name solo --yes`, interrupted 2 times
    Then the command succeeds
    And nothing of the instance "solo" is left

  @full
  Scenario Outline: <what>, interrupted anywhere
    Given a cluster with the a8s stack
    And an instance "solo" with `--replicas <members>`
    And a backup "nightly" of "solo"
    When I run `a9s <command> --yes`, interrupted <times> times
    Then the command succeeds
    And <end>

    Examples:
      | what                       | members | times | command                                     | end                                           |
      | Creating a service binding | 1       | 1     | create pg servicebinding --name app -i solo | as "app" the statement "SELECT 1" answers "1" |

    @needs-restore-into
    Examples:
      | what                          | members | times | command                                           | end                                 |
      | Verifying a backup            | 1       | 3     | pg verify nightly                                 | nothing of a verification is left   |
      | Restoring into a new instance | 1       | 3     | create pg restore --name over -b nightly --to new | "new" answers "SELECT 1" with "1"   |

    @needs-failover
    Examples:
      | what         | members | times | command                      | end                                            |
      | Failing over | 3       | 2     | pg failover solo --to solo-1 | the member "solo-1" is the primary of "solo"   |

  @full
  Scenario Outline: Nobody is told to run again what would be done once more: <what>
    Given a cluster with the a8s stack
    And an instance "solo" with `--replicas <members>`
    And the table "kept" of "solo" holds "before"
    When I run `a9s <command> --yes` and interrupt it once standard error says "<moment>"
    Then it ends with the finding "interrupted"
    And standard error says "Look whether it was done before you run the same command again: it would be done once more."
    And standard error does not say "again to go on"
    And "solo" has one primary and <standbys> standbys
    And "solo" answers "SELECT value FROM kept" with "before"

    Examples:
      | what         | members | standbys | command                                      | moment                            |
      | applying SQL | 1       | 0        | pg apply -i solo --sql 'SELECT pg_sleep(60)' | run the SQL in the instance solo: |

    @needs-failover
    Examples:
      | what         | members | standbys | command          | moment                                                |
      | failing over | 3       | 2        | pg failover solo | make another member the primary of the instance solo: |

  @full @kubectl
  Scenario: Nobody is told to run again what would be done once more: killing a member
    Given a cluster with the a8s stack
    And an instance "solo"
    And the table "kept" of "solo" holds "before"
    # A member is killed within the moment that an interrupt takes, unless something holds its pod.
    When I run `kubectl patch pod solo-0 --type merge -p '{"metadata":{"finalizers":["example.com/hold"]}}'`
    And I run `a9s pg kill -i solo --member primary --yes` and interrupt it once standard error says "kill the primary of the instance solo:"
    Then it ends with the finding "interrupted"
    And standard error says "Look whether it was done before you run the same command again: it would be done once more."
    And standard error does not say "again to go on"
    When I run `kubectl patch pod solo-0 --type merge -p '{"metadata":{"finalizers":null}}'`
    Then "solo" has one primary and 0 standbys
    And "solo" answers "SELECT value FROM kept" with "before"

  @full @cluster @embedded-only
  Scenario: Nobody is told to run SQL again whose end was not waited for
    Given a cluster of its own
    And an instance "solo"
    And an SQL file "long.sql":
      """
      \echo begun
      SELECT pg_sleep(300);
      """
    When I start `a9s pg apply -i solo --file long.sql --yes`, and once it says `begun` the cluster is frozen and I interrupt it twice
    Then it ends with the finding "interrupted"
    And standard error says "interrupted again: what was being done or taken back is left as it is"
    And standard error says "Look what was done before you run the same command again."
    And standard error does not say "again to go on"

  @full @cluster @embedded-only
  Scenario: Creating a cluster, taking its stack off and on, and deleting it, each interrupted anywhere
    Given an empty home and no cluster
    When I run `a9s create cluster a8s --yes`, interrupted 3 times
    Then the command succeeds
    And the pods of the stack are running
    When I run `a9s delete stack a8s --yes`, interrupted 2 times
    Then the command succeeds
    And the API server answers "/api/v1/namespaces/a8s-system" with 404 and the reason "NotFound"
    And there is no object store
    When I run `a9s create stack a8s --yes`, interrupted 2 times
    Then the command succeeds
    And the pods of the stack are running
    When I create an instance "solo"
    And I run `a9s delete cluster a8s -c a8s --yes`, interrupted 1 times
    Then the command succeeds
    And nothing of the cluster is left

  @cluster @embedded-only
  Scenario: Deleting a cluster, cut off anywhere
    Given a cluster of its own
    And an instance "solo"
    When I run `a9s delete cluster a8s -c a8s --yes`, cut off 2 times
    Then the command succeeds
    And nothing of the cluster is left
