Feature: Again, and cut off
  Every command may be run again, and may be killed or interrupted anywhere: another run reaches the same end.

  @core @needs-audit
  Scenario Outline: A second run of <what> sends no changing request
    Given a cluster with the a8s stack
    And an instance "solo"
    When I run `a9s <command>`
    And that has worked
    And I run it again
    Then the command succeeds
    And the program has sent no changing request
    And "solo" answers "SELECT 1" with "1"

    Examples:
      | what                  | command                                                  |
      | creating an instance  | create pg instance --name solo --yes                     |

    @full
    Examples:
      | what                  | command                                                  |
      | deleting an instance  | delete pg instance --name other --yes                    |
      | reading with SQL      | pg apply -i solo --sql 'SELECT 1' --yes                  |
      | listing clusters      | cluster list                                             |
      | the cluster's status  | cluster status                                           |
      | the version           | version                                                  |

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
    And I apply the statement "UPDATE kept SET value = 'after'" to "solo"
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

  @full
  Scenario Outline: <what>, interrupted anywhere
    Given a cluster with the a8s stack
    And an instance "solo"
    And a backup "nightly" of "solo"
    When I run `a9s <command> --yes`, interrupted <times> times
    Then the command succeeds
    And <end>

    Examples:
      | what                 | times | command                                     | end                                    |
      | Creating an instance | 3     | create pg instance --name other             | "other" answers "SELECT 1" with "1"    |
      | Deleting an instance | 2     | delete pg instance --name solo              | nothing of the instance "solo" is left |
      | Backing up           | 3     | create pg backup --name later -i solo       | the backup "later" is complete         |
      | Applying SQL         | 3     | pg apply -i solo --sql 'SELECT pg_sleep(2)' | "solo" answers "SELECT 1" with "1"     |
      | Verifying a backup   | 3     | pg verify nightly                           | nothing of a verification is left      |

  @full @cluster @embedded-only
  Scenario Outline: <what> a cluster, interrupted anywhere
    Given <before>
    When I run `a9s <command> --yes`, interrupted <times> times
    Then the command succeeds
    And <end>

    Examples:
      | what     | times | before                       | command                   | end                               |
      | Creating | 3     | an empty home and no cluster | create cluster a8s        | the pods of the stack are running |
      | Deleting | 2     | a cluster of its own         | delete cluster a8s -c a8s | nothing of the cluster is left    |

  @cluster @embedded-only
  Scenario: Deleting a cluster, cut off anywhere
    Given a cluster of its own
    And an instance "solo"
    When I run `a9s delete cluster a8s -c a8s --yes`, cut off 2 times
    Then the command succeeds
    And nothing of the cluster is left
