@backup
Feature: Backups
  A backup is the instance's data as it was, in the object store, encrypted, whole or not there at all.

  Background:
    Given a cluster with the a8s stack

  @smoke @needs-backup-objects
  Scenario: A backup is in the store when the command says so
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    When I create a backup "nightly" of "solo"
    Then the command succeeds
    And standard output says "The backup with the name nightly in namespace {namespace} has been successful."
    And the backup "nightly" is complete
    And the store has the manifest of the backup "nightly"
    And no object of the backup "nightly" contains "before"
    And nobody has access to the store any more

  @full
  Scenario: A backup and a restore name the pod that made them
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When I create a restore "back" of the backup "nightly" into "solo"
    Then the command succeeds
    And the backup "nightly" names the pod "solo-0"
    And the restore "back" names the pod "solo-0"

  @negative
  Scenario: A Backup that somebody else made for an instance that is not there
    When somebody orders a backup "nightly" of "nowhere"
    Then the backup "nightly" fails for good with "non-existing service instance nowhere"
    When I create an instance "nowhere"
    And I create a backup "nightly" of "nowhere"
    Then the command fails with exit code 5
    And standard error says "the backup nightly exists already in the namespace {namespace}, and has failed"
    And standard error says "Choose another --name, or delete it first."
    When I create a restore "back" of the backup "nightly" into "nowhere"
    Then the command fails with exit code 3
    And standard error says "the backup nightly can't be restored: it has failed: "
    And there is no restore "back"

  @full @negative @builtin
  Scenario: A Backup that names what can be no instance
    When somebody orders a backup "nightly" of "Not a name"
    Then the backup "nightly" fails for good with "non-existing service instance Not a name"

  Scenario: Both ways to write the kind of an instance are in use
    Given an instance "solo"
    When somebody orders a backup "nightly" of the "PostgreSQL" "solo"
    Then the backup "nightly" is soon complete
    When I run `a9s describe pg bkp nightly`
    Then standard output says "Backup (backups.anynines.com)"
    And standard output says "instance solo: running"
    When I run `a9s list pg bkp -o json`
    Then the value at `/items/0/instance` of the document is `solo`

  Scenario: A backup while others write
    Given an instance "solo"
    And the table "counted" of "solo" holds "0"
    When I create a backup "busy" of "solo" while a client writes to "counted"
    Then the command succeeds
    And the backup "busy" is complete
    When I create a restore "back" of the backup "busy" into "solo"
    Then the command succeeds
    And "solo" answers "SELECT count(*) > 1, count(*) = max(value::int) + 1, min(value) = '0' FROM counted" with "t|t|t"

  Scenario: Two backups of one instance at the same time
    Given an instance "solo"
    When somebody orders a backup "one" of "solo"
    And somebody orders a backup "two" of "solo"
    Then the backup "one" is soon complete
    And the backup "two" is soon complete

  @full @negative @builtin @kubectl
  Scenario: A Secret of somebody else is not overwritten, and not deleted
    Given an instance "solo"
    And a backup "former" of "solo"
    And I have run `kubectl create secret generic solo-backup-store --from-literal=mine=yes`
    When I delete the backup "former"
    Then the command succeeds
    When somebody orders a backup "nightly" of "solo"
    Then the backup "nightly" waits and says "that does not belong to an order"
    And the secret "solo-backup-store" has these values:
      | field      | value    |
      | /data/mine | eWVz     |
    When I run `kubectl delete secret solo-backup-store`
    Then the backup "nightly" is soon complete
    And nobody has access to the store any more

  @full @negative @builtin @kubectl
  Scenario: A backup that waits for a Role of somebody else gives nobody the keys of the store
    Given an instance "solo"
    And I have run `kubectl create role solo:order --verb=get --resource=pods`
    When somebody orders a backup "nightly" of "solo"
    Then the backup "nightly" waits and says "that does not belong to an order"
    And there is no secret "solo-backup-store"
    When I run `kubectl delete role solo:order`
    Then the backup "nightly" is soon complete
    And nobody has access to the store any more

  @needs-backup-objects
  Scenario: Deleting a backup removes its objects, and its name can be used again
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When I delete the backup "nightly"
    Then the command succeeds
    And there is no backup "nightly"
    And the store has nothing of this namespace
    When I create a backup "nightly" of "solo"
    Then the command succeeds
    And the store has the manifest of the backup "nightly"

  @negative
  Scenario: A backup of a former instance is none of this one
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When I delete the instance "solo"
    And a second has passed
    And I create an instance "solo"
    And I run `a9s create pg backup --name nightly -i solo --yes`
    Then the command fails with exit code 5
    And standard error says "the backup nightly exists already in the namespace {namespace}, and is of a former instance solo: the present one was made later"
    And standard error says "Choose another --name."
    When I run `a9s pg status solo`
    Then the command succeeds
    And standard output does not say "nightly"
    When I create a restore "back" of the backup "nightly" into "solo"
    Then the command succeeds
    When I delete the instance "solo"
    And a second has passed
    And I create an instance "solo"
    And I create a restore "back" of the backup "nightly" into "solo"
    Then the command fails with exit code 5
    And standard error says "is of a former instance solo"

  @needs-backup-objects
  Scenario: Deleting a backup whose instance is gone
    Given an instance "solo"
    And a backup "nightly" of "solo"
    When I delete the instance "solo"
    And I delete the backup "nightly"
    Then the command succeeds
    And the store has nothing of this namespace

  @full @needs-backup-objects
  Scenario: Deleting an instance while it is backed up
    Given an instance "solo"
    And 200 MB of random data in "solo"
    When somebody orders a backup "long" of "solo"
    And the backup "long" has begun to upload
    And I delete the instance "solo"
    Then the command succeeds
    And the backup "long" fails for good with "non-existing service instance solo"
    And nothing of the instance "solo" is left
    When I delete the backup "long"
    Then the command succeeds
    And the store has nothing of this namespace

  @full @needs-backup-objects
  Scenario: The pod of an instance is deleted while it is backed up
    Given an instance "solo"
    And 200 MB of random data in "solo"
    When somebody orders a backup "long" of "solo"
    And the backup "long" has begun to upload
    And the pod of "solo" is deleted
    Then the backup "long" is soon complete
    And the backup "long" was tried again
    And the store has one attempt of the backup "long"

  @needs-backup-objects
  Scenario: Deleting a backup while it runs
    Given an instance "solo"
    And 200 MB of random data in "solo"
    When somebody orders a backup "long" of "solo"
    And the backup "long" has begun to upload
    And I delete the backup "long"
    Then the command succeeds
    And the store has nothing of this namespace
    When I create a backup "after" of "solo"
    Then the command succeeds

  @negative @kubectl @needs-backup-objects
  Scenario: The namespace goes while a backup is made
    Given an instance "solo"
    And 200 MB of random data in "solo"
    When somebody orders a backup "long" of "solo"
    And the backup "long" has begun to upload
    And I run `kubectl delete namespace {namespace}`
    Then the command succeeds
    And the store has nothing of this namespace

  @negative @embedded-only
  Scenario: The agent dies while it makes a backup
    Given an instance "solo"
    And 200 MB of random data in "solo"
    When somebody orders a backup "long" of "solo"
    And the backup "long" has begun to upload
    And the backup agent of "solo" is killed
    Then the backup "long" is soon complete
    And the backup "long" was tried again
    And the store has one attempt of the backup "long"

  @negative @embedded-only
  Scenario: A backup that must not be tried again fails when its agent dies, and leaves nothing
    Given an instance "solo"
    And 200 MB of random data in "solo"
    When somebody orders a backup "once" of "solo" with at most 0 retries
    And the backup "once" has begun to upload
    And the backup agent of "solo" is killed
    Then the backup "once" fails for good with "ended before it was complete"
    And the store soon has nothing of the backup "once"
