@backup @cluster @negative
Feature: Trouble with the object store
  What cannot heal fails at once and says why; what can is tried again, and nothing is ever half there.

  Scenario: Wrong credentials, a bucket that is gone, a store that is away, and one that dies in the middle
    Given a cluster of its own
    And an instance "solo"
    When the secret key of the store is wrong
    And I create a backup "refused" of "solo"
    Then the command fails with exit code 1
    And the backup "refused" fails for good with "does not accept the credentials"
    When I run `a9s delete pg backup --name refused --yes`
    Then the command fails with exit code 1
    And it took less than 40 seconds
    And the reason is one clear sentence
    And standard error says "the backup refused can't be deleted: the object store at"
    And standard error says "does not accept the credentials"
    And standard error says "Mend that; what is being deleted goes as soon as it can."
    When the secret key of the store is right again
    And I delete the backup "refused"
    Then the command succeeds
    When the bucket of the store is "no-such-bucket"
    And I create a backup "homeless" of "solo"
    Then the command fails with exit code 1
    And the backup "homeless" fails for good with "has no bucket no-such-bucket"
    When I delete the backup "homeless"
    Then the command succeeds
    When the bucket of the store is right again
    And the store is away
    And somebody orders a backup "patient" of "solo"
    Then the backup "patient" waits because the store "does not answer"
    When the store is back
    Then the backup "patient" is soon complete
    And the backup "patient" was tried again
    When 200 MB of random data are put into "solo"
    And somebody orders a backup "long" of "solo"
    And the backup "long" has begun to upload
    And the process of the store is killed
    Then the backup "long" is not complete yet
    And the backup "long" is soon complete
    When the encryption password is changed
    And I create a restore "locked" of the backup "long" into "solo"
    Then the command fails with exit code 1
    And the restore "locked" fails for good with "the encryption password is not the one with which the backup was made"
    When the encryption password is right again
    And I create a restore "open" of the backup "long" into "solo"
    Then the command succeeds

  @full
  Scenario: A backup that cannot be removed keeps its instance from no other
    Given a cluster of its own
    And an instance "solo"
    And 200 MB of random data in "solo"
    When somebody orders a backup "long" of "solo"
    And the backup "long" has begun to upload
    And the secret key of the store is wrong
    And I run `a9s delete pg backup --name long --timeout 1s --yes`
    Then the command fails with exit code 4
    When somebody orders a backup "after" of "solo"
    Then the backup "after" fails for good with "does not accept the credentials"
    When the secret key of the store is right again
    And I delete the backup "long"
    Then the command succeeds
    And the store has nothing of this namespace
