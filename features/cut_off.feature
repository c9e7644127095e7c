@ha @failover @cluster @embedded-only
Feature: Cut off from the Kubernetes API
  Who cannot renew its Lease does not know whether it still leads; who has no rival does.

  @chaos
  Scenario: One of three stops before another may lead, and a member alone serves on
    Given a cluster of its own
    And an instance "solo"
    And an instance "trio" of 3 members
    And a ledger of "trio" at the address of its primary
    When the cluster's process is frozen
    Then the ledger soon stands still
    When what was frozen goes on
    Then "trio" has one primary and 2 standbys
    When the ledger goes to the address of the primary of "trio"
    Then the ledger of "trio" is complete
    Given a ledger of "solo" at the address of its primary
    When the cluster's process is frozen
    Then rows of the ledger are acknowledged for 12 seconds more
    When what was frozen goes on
    Then the ledger of "solo" is complete
