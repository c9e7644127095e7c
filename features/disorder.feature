@chaos @disorder @needs-backup-objects
Feature: Disorder
  Orders come at once, in any order, and for what is not there any more. In the end what is there works or says why not,
  and what is gone has left nothing.

  Scenario Outline: Orders at random, of the seed <seed>
    Given a cluster with the a8s stack
    When 60 orders are given at random, 6 at a time, from the seed <seed>
    Then everything comes to rest
    When I create an instance "last"
    Then every instance that is there answers
    And everything that was ordered can be deleted, at once
    And the store soon has nothing of this namespace

    Examples:
      | seed |
      | 1    |
      | 2    |
      | 3    |

  @cluster @embedded-only
  Scenario Outline: Orders at random to a cluster that is killed and started, of the seed <seed>
    Given a cluster of its own
    When 60 orders are given at random, 6 at a time, from the seed <seed>, and the cluster is killed and started 3 times
    Then everything comes to rest
    When I create an instance "last"
    Then every instance that is there answers
    And everything that was ordered can be deleted, at once
    And the store soon has nothing of this namespace

    Examples:
      | seed |
      | 1    |
      | 2    |
