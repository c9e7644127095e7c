@ha @failover
Feature: Failover
  Whatever happens to the primary, another member takes its place, and no acknowledged commit is lost.

  Background:
    Given a cluster with the a8s stack

  @full @embedded-only
  Scenario: The agent of the primary is killed
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When the agent of the primary of "trio" is killed
    And 50 more rows are acknowledged
    Then "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete
    And no row of the ledger waited longer than 10 seconds

  @core @embedded-only
  Scenario: The server of the primary is killed
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When the server of the primary of "trio" is killed
    And 50 more rows are acknowledged
    Then "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete
    And no row of the ledger waited longer than 10 seconds

  @chaos @embedded-only
  Scenario: The server of the primary is killed again and again
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When the server of the primary of "trio" is killed 5 times, each time it acknowledges rows again
    Then "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete
    And no row of the ledger waited longer than 10 seconds

  @full @builtin
  Scenario Outline: The pod of the primary is <gone>, and comes back as a standby
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When the primary of "trio" is <gone>
    Then another member of "trio" is the primary
    And "trio" has one primary and 2 standbys
    And the Lease of "trio" names its primary, in term 1
    And the ledger of "trio" is complete
    And no row of the ledger waited longer than 15 seconds

    Examples:
      | gone    |
      | deleted |
      | evicted |

  @chaos @embedded-only
  Scenario Outline: The <part> of the primary is frozen, and wakes up when another member leads
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When the <part> of the primary of "trio" is frozen
    Then another member of "trio" is the primary
    When 50 more rows are acknowledged
    And what was frozen goes on
    Then "trio" has one primary and 2 standbys
    And the former primary of "trio" has been rewound
    And the ledger of "trio" is complete
    And no row of the ledger waited longer than 30 seconds

    Examples:
      | part  |
      | agent |
      | whole |

  @chaos @embedded-only
  Scenario Outline: A server of <members> members that does not answer is ended, though its agent is well
    Given an instance "it" of <members> members
    And a ledger of "it"
    When the <part> of the primary of "it" is frozen
    Then what was frozen is ended within 45 seconds
    And "it" has one primary and <standbys> standbys
    And the ledger of "it" is complete
    And no row of the ledger waited longer than 60 seconds

    Examples:
      | members | standbys | part                |
      | 1       | 0        | server              |
      | 3       | 2        | server-and-sessions |

  @chaos @embedded-only @cut-off
  Scenario: The primary alone is cut off from the API server
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When the primary of "trio" is cut off from the API server
    Then another member of "trio" is the primary
    And the former primary of "trio" does not serve as one
    When 50 more rows are acknowledged
    And the network is whole again
    Then "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete
    And no row of the ledger waited longer than 30 seconds

  @chaos @embedded-only @cut-off
  Scenario: A standby alone is cut off from the API server
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When a standby of "trio" is cut off from the API server
    Then the primary of "trio" stays the same for 12 seconds
    When 50 more rows are acknowledged
    And the network is whole again
    Then "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete

  @chaos @embedded-only @root
  Scenario: The disk of the primary is full
    Given an instance "trio" of 3 members
    And the member "trio-0" of "trio" has a disk of its own, of 200 MiB
    When I fail "trio" over to "trio-0"
    Then the command succeeds
    Given a ledger of "trio"
    And the member "trio-0" is the primary of "trio"
    When the disk of the member "trio-0" is full
    And the WAL of "trio" goes on by 20 segments
    Then another member of "trio" is the primary
    When 50 more rows are acknowledged
    And the disk of the member "trio-0" has room again
    Then "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete
    And no row of the ledger waited longer than 30 seconds

  @chaos @embedded-only @root
  Scenario: The disk of the primary is full, and its server lives on and takes nothing more
    Given an instance "trio" of 3 members
    And the member "trio-0" of "trio" has a disk of its own, of 200 MiB
    When I fail "trio" over to "trio-0"
    Then the command succeeds
    Given a ledger of "trio"
    And the member "trio-0" is the primary of "trio"
    When the disk of the member "trio-0" is full
    Then another member of "trio" is the primary
    When 50 more rows are acknowledged
    When the disk of the member "trio-0" has room again
    Then "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete

  @chaos @builtin
  Scenario: A clock that is an hour ahead or behind makes nobody the primary
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When the Lease of "trio" is written by a clock that is 3600 seconds ahead
    Then the primary of "trio" stays the same for 12 seconds
    When the Lease of "trio" is written by a clock that is 3600 seconds behind
    Then the primary of "trio" stays the same for 12 seconds
    And the Lease of "trio" names its primary, in term 0
    When 50 more rows are acknowledged
    Then the ledger of "trio" is complete

  # A holder that lives writes the Lease again at once; of one that does not, the wrong time stays.
  @chaos @embedded-only
  Scenario: A clock that is an hour ahead keeps nobody from the place of a primary that is frozen for good
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When the whole of the primary of "trio" is frozen
    And the Lease of "trio" is written by a clock that is 3600 seconds ahead
    Then another member of "trio" is the primary
    When 50 more rows are acknowledged
    Then the ledger of "trio" is complete
    And no row of the ledger waited longer than 30 seconds

  @chaos @builtin
  Scenario: The volume of the primary is lost
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When the primary of "trio" loses its volume
    Then another member of "trio" is the primary
    And "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete
    And no row of the ledger waited longer than 30 seconds

  @chaos @builtin
  Scenario: Who confirms commits is not a superuser's to change
    Given an instance "trio" of 3 members
    When I apply the statement "ALTER SYSTEM SET synchronous_standby_names = ''" to "trio"
    Then the command succeeds
    When I apply the statement "SELECT pg_reload_conf()" to "trio"
    Then the command succeeds
    And every member of "trio" soon answers "SELECT count(*) FROM pg_file_settings WHERE name = 'synchronous_standby_names' AND sourcefile LIKE '%auto.conf'" with "0"
    And every member of "trio" soon answers "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting LIKE 'ANY 1 (%'" with "1"

  # Without it a member with an empty volume would begin the instance anew, and whoever comes back with the data would
  # belong to another one.
  @chaos @kubectl @builtin
  Scenario: An instance that has lost its Lease and its volume is not begun anew
    Given an instance "solo"
    When I scale "solo" to 0 members
    Then "solo" soon has no member
    When I run `kubectl delete lease/solo pvc/pgdata-solo-0`
    And I scale "solo" to 1 members
    Then the status of "solo" soon says "the Lease of the instance is gone"

  # The claim stays: whoever looks at the objects alone sees nothing of the loss.
  @chaos @builtin @local-volumes
  Scenario: An instance whose only volume was emptied is not begun anew
    Given an instance "solo"
    When I scale "solo" to 0 members
    Then "solo" soon has no member
    When the volume of the member "solo-0" is emptied
    And I scale "solo" to 1 members
    And I create an instance "solo"
    Then it ends with the finding "crash-loop"
    And standard error says "solo-0 cannot run: CrashLoopBackOff"
    And standard error says "the volume of solo-0 is empty"
    And standard error says "because that would hide the loss of its data"

  # A server that starts answers before it has applied all that it has, and asks its primary for the rest only then.
  @chaos @embedded-only
  Scenario: Of two standbys that start, the one that has more leads, however much of it is still to be applied
    Given an instance "trio" of 3 members
    And the member "trio-0" is the primary of "trio"
    When the standby "trio-1" of "trio" applies nothing that it receives
    And I apply the statement "CREATE TABLE big AS SELECT n, repeat('x', 100) AS x FROM generate_series(1, 1000000) n" to "trio"
    Then the command succeeds
    When the receiver of the member "trio-2" of "trio" is frozen
    Given a ledger of "trio"
    When 50 more rows are acknowledged
    And the agents of the standbys of "trio" are frozen
    And the servers of the standbys of "trio" are killed
    And the primary of "trio" loses its volume
    And what was frozen goes on
    Then another member of "trio" is the primary
    And the member "trio-1" is the primary of "trio"
    And the ledger of "trio" is complete

  # The operator leaves the pods of a StatefulSet alone that is not the instance's: they see the order and stay.
  @chaos @embedded-only @kubectl
  Scenario: That an instance is to stop is no reason to confirm a commit alone
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When I run `kubectl patch sts trio --type json -p '[{"op":"remove","path":"/metadata/ownerReferences"}]'`
    Then the command succeeds
    When I scale "trio" to 0 members
    And the agents of the standbys of "trio" are frozen
    And the servers of the standbys of "trio" are killed
    Then the ledger soon stands still

  @chaos @embedded-only @needs-failover @kubectl
  Scenario: Of two members the one that ended in order has everything, and is waited for
    Given an instance "duo" of 2 members
    When I fail "duo" over to "duo-1"
    Then the command succeeds
    Given a ledger of "duo"
    When the agents of the standbys of "duo" are frozen
    And the servers of the standbys of "duo" are killed
    And 50 more rows are acknowledged
    And I scale "duo" to 0 members
    And I run `kubectl delete pod duo-0 --force --grace-period 0`
    Then "duo" soon has no member
    When I scale "duo" to 1 members
    Then the status of "duo" soon says "the last primary has ended in order"
    When I scale "duo" to 2 members
    Then "duo" has one primary and 1 standbys
    And the ledger of "duo" is complete

  @full @embedded-only @negative @needs-failover
  Scenario: A failover whose member does not come is undone, and that is said
    Given an instance "trio" of 3 members
    And the table "kept" of "trio" holds "committed"
    When the agents of the standbys of "trio" are frozen
    And I fail "trio" over to "trio-1"
    Then the command fails with exit code 1
    And standard error says "trio-0 leads again: trio-1 did not take its place in time"
    When what was frozen goes on
    Then "trio" has one primary and 2 standbys
    And "trio" answers "SELECT value FROM kept" with "committed"

  @chaos @embedded-only
  Scenario: Without standbys writes wait, and the status says so
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When the agents of the standbys of "trio" are frozen
    And the servers of the standbys of "trio" are killed
    Then the ledger soon stands still
    And the status of "trio" soon says "writes wait: a commit needs 1 of 2 standbys, and 0 are there"
    When what was frozen goes on
    Then the status of "trio" soon has no error
    When 50 more rows are acknowledged
    Then "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete

  @chaos @embedded-only
  Scenario: What no standby has confirmed is not acknowledged
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When the receivers of the standbys of "trio" are frozen
    Then the ledger soon stands still
    When the primary of "trio" loses its volume
    And what was frozen goes on
    Then another member of "trio" is the primary
    And the ledger of "trio" is complete

  @chaos @embedded-only
  Scenario: The ledger sees a loss where commits wait for nobody
    Given an instance "trio" of 3 members
    When I change the parameters of "trio":
      | parameter         | value   |
      | synchronousCommit | "local" |
    Then every member of "trio" soon answers "SHOW synchronous_commit" with "local"
    Given a ledger of "trio"
    # Not the receivers: they write what their sockets hold when they go on.
    When the sender of the primary of "trio" is frozen
    And 50 more rows are acknowledged
    And the primary of "trio" loses its volume
    Then another member of "trio" is the primary
    And the ledger of "trio" reports lost rows

  @core @needs-failover @needs-audit
  Scenario: A failover on purpose loses nothing
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    When I fail "trio" over to "trio-2"
    Then the command succeeds
    And the member "trio-2" is the primary of "trio"
    And "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete
    And no row of the ledger waited longer than 10 seconds
    When I fail "trio" over to "trio-2"
    Then the command succeeds
    And the program has sent no changing request

  # Of a primary that has not ended in order both standbys would have to say what they have.
  @full @embedded-only @needs-failover
  Scenario: While a standby is away, the other one takes the place of a primary that makes way or is deleted
    Given an instance "trio" of 3 members
    And the member "trio-0" is the primary of "trio"
    And a ledger of "trio"
    When the agent of the member "trio-2" of "trio" is frozen
    And the servers of the standbys of "trio" are killed
    # Each of them is on "trio-1".
    And 50 more rows are acknowledged
    And I fail "trio" over to "trio-1"
    Then the command succeeds
    And the member "trio-1" is the primary of "trio"
    When 50 more rows are acknowledged
    And the primary of "trio" is deleted
    Then another member of "trio" is the primary
    And the member "trio-0" is the primary of "trio"
    When 50 more rows are acknowledged
    And what was frozen goes on
    Then "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete
    And no row of the ledger waited longer than 30 seconds

  @full
  Scenario: Two members: the other one takes over
    Given an instance "duo" of 2 members
    And the table "kept" of "duo" holds "committed"
    When the primary of "duo" is deleted
    Then another member of "duo" is the primary
    And "duo" has one primary and 1 standbys
    And every member of "duo" soon answers "SELECT value FROM kept" with "committed"

  @full @needs-failover
  Scenario: What a superuser sets for their sessions keeps no member from taking over
    Given an instance "duo" of 2 members
    And I have applied the statement "ALTER ROLE postgres SET default_transaction_isolation = 'serializable'" to "duo"
    And I have applied the statement "ALTER ROLE postgres SET idle_session_timeout = '100ms'" to "duo"
    # The sessions of this one begin anew.
    When I fail "duo" over to "duo-1"
    Then the command succeeds
    And "duo" has one primary and 1 standbys
    And "duo" soon answers "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'" with "duo-0"
    When I fail "duo" over to "duo-0"
    Then the command succeeds
    And "duo" has one primary and 1 standbys

  @full @embedded-only @negative @needs-failover
  Scenario: A failover that took too long is not done later
    Given an instance "trio" of 3 members
    When the agent of the primary of "trio" is frozen
    And I run `a9s pg failover trio --to trio-1 --timeout 2s`
    Then the command fails with exit code 4
    And standard error says "The primary is not asked any more to make way."
    And standard error says "Run the same command again to go on waiting, or give it more time than --timeout 2s."
    When what was frozen goes on
    And I run `a9s pg failover trio --to trio-0`
    Then the command succeeds
    And standard output says "Nothing to do"

  @full @negative @needs-failover
  Scenario: Failovers that cannot be done
    Given an instance "solo"
    When I fail "solo" over
    Then the command fails with exit code 5
    And the reason is one clear sentence
    And standard error says "the instance solo has 1 members: there is nobody to fail over to"
    And standard error says "Give it more: a9s create pg instance --name solo --replicas 3"
    Given an instance "duo" of 2 members
    When I fail "duo" over to "duo-7"
    Then the command fails with exit code 3
    And standard error says "duo-7 is no member of the instance duo"
    And standard error says "Its members are duo-0, duo-1."
    When I run `a9s pg failover duo --to primary`
    Then the command fails with exit code 2
    And standard error says "--to primary: the primary is the member that is to make way"
    When I fail "none" over to "none-1"
    Then the command fails with exit code 3
