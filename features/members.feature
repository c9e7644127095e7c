@ha @core
Feature: Instances of several members
  One member is the primary, the others stream from it, and with three a commit is on two disks.

  Background:
    Given a cluster with the a8s stack

  @full
  Scenario: Three members are told by the same seven events as one
    Given an instance "trio" of 3 members
    Then the instance "trio" has exactly these events:
      | reason  | message                                                               |
      | Created | Successfully created roleBinding                                      |
      | Created | Successfully created secret {namespace}/postgres.credentials.trio     |
      | Created | Successfully created secret {namespace}/standby.credentials.trio      |
      | Created | Successfully created service: {namespace}/trio-master                 |
      | Created | Successfully created service: {namespace}/trio-patroni                |
      | Created | Successfully created serviceAccount                                   |
      | Created | Successfully created statefulSet                                      |

  @smoke
  Scenario: Three members: one primary and two standbys
    When I create an instance "trio" of 3 members
    Then the command succeeds
    And the instance "trio" is ready
    And "trio" has one primary and 2 standbys
    When I apply the statement "CREATE TABLE kept (value text); INSERT INTO kept VALUES ('everywhere')" to "trio"
    Then the command succeeds
    And every member of "trio" soon answers "SELECT value FROM kept" with "everywhere"

  @full
  Scenario: Members have one system identifier, and instances have different ones
    Given an instance "duo" of 2 members
    And an instance "solo"
    Then the members of "duo" have the same system identifier, and "solo" has another

  @full @builtin
  Scenario: Who leads is in the Lease, and who confirms commits in the settings of the primary
    Given an instance "grown" of 2 members
    Then the Lease of "grown" names its primary, in term 0
    And "grown" answers "SHOW synchronous_standby_names" with ""
    When I scale "grown" to 3 members
    Then "grown" has one primary and 2 standbys
    And "grown" soon answers "SHOW synchronous_standby_names" with 'ANY 1 ("grown-1", "grown-2")'
    And the Lease of "grown" names its primary, in term 0

  @full
  Scenario: A member is added to an instance that has data
    Given an instance "grown"
    And the table "kept" of "grown" holds "before"
    When I scale "grown" to 3 members
    Then "grown" has one primary and 2 standbys
    And the instance "grown" is ready
    And every member of "grown" soon answers "SELECT value FROM kept" with "before"

  @full
  Scenario: All members go away and come back
    Given an instance "trio" of 3 members
    And the table "kept" of "trio" holds "committed"
    When I scale "trio" to 0 members
    Then "trio" soon has no member
    When I scale "trio" to 3 members
    Then "trio" has one primary and 2 standbys
    And every member of "trio" soon answers "SELECT value FROM kept" with "committed"

  @full @needs-failover
  Scenario: Fewer members come back than there were, and no commit is lost
    Given an instance "trio" of 3 members
    When I fail "trio" over to "trio-2"
    Then the command succeeds
    Given a ledger of "trio"
    When 50 more rows are acknowledged
    And I scale "trio" to 0 members
    Then "trio" soon has no member
    When I scale "trio" to 1 members
    Then the statefulset "trio" soon has these values:
      | field          | value |
      | /spec/replicas | 1     |
    And the pod "trio-0" soon has these values:
      | field         | value   |
      | /status/phase | Running |
    When I scale "trio" to 3 members
    Then "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete
    And the status of "trio" soon has no error

  @full @kubectl
  Scenario: Reading from standbys, and from other ones after a failover
    Given an instance "trio" of 3 members
    And the table "kept" of "trio" holds "committed"
    When I run `kubectl patch pg trio --type merge -p '{"spec":{"enableReadOnlyService":true}}'`
    Then the Service "trio-replicas" soon leads to the standbys of "trio", and to nobody else
    And every member of "trio" soon answers "SELECT value FROM kept" with "committed"
    And every standby of "trio" refuses "INSERT INTO kept VALUES ('more')" with "read-only transaction"
    When the primary of "trio" is deleted
    Then another member of "trio" is the primary
    And "trio" has one primary and 2 standbys
    And the Service "trio-replicas" soon leads to the standbys of "trio", and to nobody else

  @full @kubectl
  Scenario: Reading from all members, the primary too
    Given an instance "duo" of 2 members
    When I run `kubectl patch pg duo --type merge -p '{"spec":{"enableReadOnlyService":true,"readOnlyTargetNodes":"all"}}'`
    Then the Service "duo-replicas" soon leads to every member of "duo"
    When I run `kubectl patch pg duo --type merge -p '{"spec":{"readOnlyTargetNodes":"replicas"}}'`
    Then the Service "duo-replicas" soon leads to the standbys of "duo", and to nobody else

  @full @embedded-only
  Scenario: Volumes grow with their instance, also those of members that come later
    Given an instance "grown" with `--volume-size 1Gi`
    And the table "kept" of "grown" holds "before"
    When I create an instance "grown" with `--volume-size 2Gi`
    Then the command succeeds
    And the persistentvolumeclaim "pgdata-grown-0" has these values:
      | field                    | value |
      | /status/capacity/storage | 2Gi   |
    When I scale "grown" to 2 members
    Then "grown" has one primary and 1 standbys
    And the volumes of "grown" soon have "2Gi"
    And every member of "grown" soon answers "SELECT value FROM kept" with "before"
    And the instance "grown" is ready

  @full @negative @builtin @fixed-volumes @kubectl
  Scenario: Where volumes cannot grow an instance says so and goes on as it is
    Given an instance "grown" with `--volume-size 1Gi`
    When I run `kubectl patch pg grown --type merge -p '{"spec":{"volumeSize":"2Gi"}}'`
    Then the command succeeds
    And the status of "grown" soon says "must support resize"
    And the volumes of "grown" soon have "1Gi"
    And "grown" answers "SELECT 1" with "1"
    When I delete the instance "grown"
    Then the command succeeds
    And nothing of the instance "grown" is left

  @full @builtin
  Scenario: A volume that was lost is copied, and never becomes the primary's
    Given an instance "trio" of 3 members
    And the table "kept" of "trio" holds "committed"
    When the member "trio-1" loses its volume
    Then "trio" has one primary and 2 standbys
    And every member of "trio" soon answers "SELECT value FROM kept" with "committed"
    And the Lease of "trio" names its primary, in term 0

  # The claim stays, as where a member comes back on another node and volumes are directories of nodes.
  @full @builtin @local-volumes
  Scenario Outline: A volume that was emptied while its member was away is copied, and never becomes the primary's: of <whom>
    Given an instance "trio" of 3 members
    And the member "trio-0" is the primary of "trio"
    And a ledger of "trio"
    When 50 more rows are acknowledged
    And I scale "trio" to 0 members
    Then "trio" soon has no member
    When the volume of the member "<member>" is emptied
    And I scale "trio" to 3 members
    Then another member of "trio" is the primary
    And "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete

    Examples:
      | whom                 | member |
      | the one that has led | trio-0 |
      | a standby            | trio-1 |

  # Without a primary no member is ready: what one has said of itself counts all the same. It lacks what the other standby has.
  @chaos @embedded-only @local-volumes @kubectl
  Scenario: Standbys that come back one long after the other find a primary, although the last one never comes back
    Given an instance "trio" of 3 members
    And the member "trio-0" is the primary of "trio"
    And a ledger of "trio"
    When the agent of the member "trio-1" of "trio" is frozen
    And the servers of the standbys of "trio" are killed
    And 50 more rows are acknowledged
    And I scale "trio" to 0 members
    And I run `kubectl delete pod trio-1 --force --grace-period 0`
    Then "trio" soon has no member
    When the volume of the member "trio-0" is emptied
    And I scale "trio" to 2 members
    Then the status of "trio" soon says "1 of 2 members that must be compared"
    And the ledger soon stands still
    When I scale "trio" to 3 members
    Then another member of "trio" is the primary
    And "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete

  @full
  Scenario: Parameters of several members are announced twice, in order
    Given an instance "trio" of 3 members
    When I change the parameters of "trio":
      | parameter      | value |
      | maxConnections | 120   |
    Then the instance "trio" has 2 events with the reason "Updated"
    And the first Updated event of "trio" says "Successfully updated the PostgreSQL configuration"
    And every member of "trio" soon answers "SHOW max_connections" with "120"
    When I change the parameters of "trio":
      | parameter      | value |
      | maxConnections | 101   |
    Then the instance "trio" has 4 events with the reason "Updated"
    And every member of "trio" soon answers "SHOW max_connections" with "101"
    And "trio" has one primary and 2 standbys

  @full @builtin @kubectl
  Scenario: What a member is, it says itself
    Given an instance "trio" of 3 members
    And the member "trio-0" is the primary of "trio"
    When I run `kubectl label pod trio-0 a8s.a9s/replication-role=replica --overwrite`
    Then the pod "trio-0" soon has the label "a8s.a9s/replication-role=master"
    When I run `kubectl label pod trio-1 a8s.a9s/replication-role=master --overwrite`
    Then the pod "trio-1" soon has the label "a8s.a9s/replication-role=replica"

  @full
  Scenario: Deleting an instance of several members
    Given an instance "trio" of 3 members
    When I delete the instance "trio"
    Then the command succeeds
    And nothing of the instance "trio" is left
