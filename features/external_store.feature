@backup @restore @cluster @embedded-only @full
Feature: An object store beside the cluster
  Backups go to any store that speaks S3: here to one of which the cluster knows no more than its address.

  @docker
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
    When the store beside the cluster is frozen
    And somebody orders a backup "patient" of "solo"
    Then the backup "patient" waits because the store "answer"
    When the store beside the cluster goes on
    Then the backup "patient" is soon complete
    When I delete the backup "patient"
    And I delete the backup "monday"
    Then the command succeeds
    And the store has nothing of this namespace

  Scenario: The keys of the store come from files, and from nowhere else
    Given an empty home and no cluster
    And an object store beside the cluster, with the bucket "elsewhere"
    When I run `a9s create cluster a8s --backup-provider AWS --backup-store-endpoint {store} --backup-store-pathstyle --backup-bucket elsewhere --yes`
    Then the command fails with exit code 2
    And standard error says "--backup-store-accesskey"
    When I run `a9s create cluster a8s --backup-provider AWS --backup-store-endpoint {store} --backup-store-pathstyle --backup-bucket elsewhere --backup-store-accesskey-file {home}/store-keys/access-key-id --backup-store-secretkey-file {home}/no-such-file --yes`
    Then the command fails with exit code 3
    And standard error says "no-such-file"
    When I run `a9s create cluster a8s --backup-provider AWS --backup-store-endpoint {store} --backup-store-pathstyle --backup-bucket elsewhere --backup-store-accesskey-file {home}/store-keys/access-key-id --backup-store-secretkey-file {home}/store-keys/secret-access-key --yes`
    Then the command succeeds
    And standard error does not say "the-cluster"
    And there is no object store
    And the object store takes and gives objects
    When I create an instance "solo"
    And I create a backup "monday" of "solo"
    Then the command succeeds
    When I run `a9s create cluster a8s --yes`
    Then the command succeeds
    And the program has sent no changing request
    And there is no object store
    When I run `a9s create stack a8s -c a8s --backup-region us-east-2 --yes`
    Then the command succeeds
    And the object store takes and gives objects
    When I run `a9s create stack a8s -c a8s --backup-provider minio --yes`
    Then the command succeeds
    And standard error says "those in the bucket elsewhere of http"

  Scenario: The stack's own store keeps its keys while backups go elsewhere
    Given a cluster of its own
    And the secret key of the store is remembered
    And an object store beside the cluster, with the bucket "elsewhere"
    When I run `a9s create stack a8s -c a8s --backup-provider AWS --backup-store-endpoint {store} --backup-store-pathstyle --backup-bucket elsewhere --backup-store-accesskey-file {home}/store-keys/access-key-id --backup-store-secretkey-file {home}/store-keys/secret-access-key --yes`
    Then the command succeeds
    And the secret key of the store is another than the remembered one
    When I run `a9s create stack a8s -c a8s --backup-provider minio --yes`
    Then the command succeeds
    And standard error says "those in the bucket elsewhere of http"
    And the secret key of the store is the remembered one
    And the object store takes and gives objects

  Scenario: Without a file, a terminal is asked for the keys of the store
    Given an empty home and no cluster
    And an object store beside the cluster, with the bucket "elsewhere"
    When I run `a9s create cluster a8s --backup-provider AWS --backup-store-endpoint {store} --backup-store-pathstyle --backup-bucket elsewhere --yes` in a terminal and type "beside the-cluster"
    Then the command succeeds
    And standard output does not say "the-cluster"
    And the object store takes and gives objects
    When I create an instance "solo"
    And I create a backup "monday" of "solo"
    Then the command succeeds

  Scenario: A bucket that another cluster uses keeps what that one wrote
    Given an empty home and no cluster
    And an object store beside the cluster, with the bucket "shared"
    When I run `a9s create cluster a8s --backup-provider AWS --backup-store-endpoint {store} --backup-store-pathstyle --backup-bucket shared --backup-store-accesskey-file {home}/store-keys/access-key-id --backup-store-secretkey-file {home}/store-keys/secret-access-key --yes`
    And I create an instance "solo"
    And I create a backup "monday" of "solo"
    Then the command succeeds
    And the object store has 1 backups of "solo"
    When I run `a9s delete cluster a8s -c a8s --all --yes`
    Then the command succeeds
    When I run `a9s create cluster a8s --backup-provider AWS --backup-store-endpoint {store} --backup-store-pathstyle --backup-bucket shared --backup-store-accesskey-file {home}/store-keys/access-key-id --backup-store-secretkey-file {home}/store-keys/secret-access-key --yes`
    And I create an instance "solo"
    And I create a backup "monday" of "solo"
    Then the command succeeds
    And the object store has 2 backups of "solo"
    When I create a restore "own" of the backup "monday" into "solo"
    Then the command succeeds
    When I delete the backup "monday"
    Then the command succeeds
    And the object store has 1 backups of "solo"
