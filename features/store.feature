@store @cluster @embedded-only
Feature: Object store
  Backups need a place that keeps what it has taken. A cluster comes with one, unless backups go elsewhere.

  @core
  Scenario: The store is there when the cluster is, for those who have its keys
    Given an empty home and no cluster
    When I create a cluster
    Then the command succeeds
    And standard output says "Installed the MinIO object store."
    And the object store takes and gives objects
    And the object store refuses the secret key "guess" with "SignatureDoesNotMatch"
    And the object store refuses the access key "nobody" with "InvalidAccessKeyId"
    And only its owner may read the file "a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password"
    When I run it again
    Then the command succeeds
    And the program has sent no changing request

  @core
  Scenario: What the store has taken survives a kill of everything
    Given a cluster of its own
    And the object "backups/one" with "kept"
    When the cluster's process is killed
    And I start the cluster
    Then the command succeeds
    And the object "backups/one" is "kept"

  @kubectl
  Scenario: Keys and bucket are the ones that were chosen
    Given an empty home and no cluster
    And the variable "A9S_BACKUP_STORE_SECRETKEY" is "a secret of my own"
    When I run `a9s create cluster a8s --backup-bucket mine --backup-store-accesskey me --yes`
    Then the command succeeds
    When I run `kubectl get secret a8s-backup-storage-credentials -n a8s-system -o jsonpath={.data.access-key-id},{.data.secret-access-key}`
    Then standard output is "bWU=,YSBzZWNyZXQgb2YgbXkgb3du"
    When I run `kubectl get configmap a8s-backup-store-config -n a8s-system -o yaml`
    Then standard output says "container: mine"
    And the object store takes and gives objects
    And the object store refuses the secret key "guess" with "SignatureDoesNotMatch"

  Scenario: Every store has a secret key of its own, which nobody else knows
    Given a cluster named "one"
    And the secret key of the store is remembered
    And a cluster named "two"
    Then the secret key of the store is another than the remembered one
    And the object store refuses the remembered secret key with "SignatureDoesNotMatch"
    And the object store refuses the secret key "a8s-password" with "SignatureDoesNotMatch"
    And the object store takes and gives objects

  @kubectl
  Scenario: A store keeps its secret key, whoever installs the stack again and whatever is lost
    Given a cluster of its own
    And the secret key of the store is remembered
    And the file "a9s/a8s-deployment/deploy/a8s/backup-config/secret-access-key" with:
      """
      of another cluster
      """
    When I run `a9s create stack a8s -c a8s --yes`
    Then the command succeeds
    And the program has sent no changing request
    And the secret key of the store is the remembered one
    When I run `kubectl delete configmap a8s-backup-store-config -n a8s-system`
    And I run `a9s create stack a8s -c a8s --yes`
    Then the command succeeds
    And the secret key of the store is the remembered one
    When I run `kubectl delete secret a8s-backup-storage-credentials -n a8s-system`
    And I run `a9s create stack a8s -c a8s --yes`
    Then the command succeeds
    And standard error does not say "from now on"
    And the secret key of the store is the remembered one
    And the object store takes and gives objects
    When I run `a9s delete stack a8s -c a8s --yes`
    And I run `a9s create stack a8s -c a8s --yes`
    Then the command succeeds
    And the secret key of the store is another than the remembered one
    And the object store takes and gives objects

  Scenario: A secret key on the command line is warned of
    Given an empty home and no cluster
    When I run `a9s create cluster a8s --backup-store-secretkey visible --dry-run`
    Then the command succeeds
    And standard error says "others on this machine can see"

  Scenario: The encryption password outlives the cluster, and two are never mixed
    Given a cluster of its own
    And the encryption password is remembered
    When I delete the cluster
    And I create a cluster
    Then the encryption password of the stack is the remembered one
    When the copy of the encryption password is lost
    And I create a cluster
    Then the command succeeds
    And the copy of the encryption password is the remembered one
    When the copy of the encryption password becomes "another"
    And I create a cluster
    Then the command fails with exit code 5
    And standard error says "the cluster has another encryption password than {home}/a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password: its backups could not be read any more [other-password]"
    And standard error says "Move that file away to go on with the cluster's password."
    And the encryption password of the stack is the remembered one

  Scenario: The encryption password outlives the stack, also where nobody had a copy, and none is overwritten
    Given a cluster of its own
    And the encryption password is remembered
    When the copy of the encryption password is lost
    And I run `a9s delete stack a8s -c a8s --yes`
    Then the command succeeds
    And the copy of the encryption password is the remembered one
    And only its owner may read the file "a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password"
    When I run `a9s create stack a8s -c a8s --yes`
    Then the command succeeds
    And the encryption password of the stack is the remembered one
    When the copy of the encryption password becomes "another"
    And I run `a9s delete stack a8s -c a8s --yes`
    Then the command succeeds
    And standard error says "a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password.a9s-a8s"
    And the file "a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password" says "another"
    And the file "a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password.a9s-a8s" holds the remembered encryption password
    And only its owner may read the file "a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password.a9s-a8s"

  @negative
  Scenario: A stack whose encryption password can't be kept stays
    Given a cluster of its own
    And the file "a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password" can't be read
    When I run `a9s delete stack a8s -c a8s --yes`
    Then it ends with the finding "working-directory"
    And standard error says "Nothing was removed. Make it possible to keep the password there: without it, backups elsewhere can't be read."
    And the pods of the stack are running
    When I run `a9s create stack a8s -c a8s --yes`
    Then it ends with the finding "working-directory"
    And standard error says "cannot read the encryption password {home}/a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password: "

  @negative
  Scenario: AWS needs keys of its own
    Given an empty home and no cluster
    When I run `a9s create cluster a8s --backup-provider AWS --yes`
    Then the command fails with exit code 2
    And standard error says "backup-store-accesskey"
    And there is no file ".a9s"

  @negative
  Scenario: A provider that is none is refused
    Given an empty home and no cluster
    When I run `a9s create cluster a8s --backup-provider azure --yes`
    Then the command fails with exit code 2
    And there is no file ".a9s"

  Scenario: Where backups go elsewhere there is no store
    Given an empty home and no cluster
    And the variable "A9S_BACKUP_STORE_ACCESSKEY" is "me"
    And the variable "A9S_BACKUP_STORE_SECRETKEY" is "mine"
    When I run `a9s create cluster a8s --backup-provider aws --yes`
    Then the command succeeds
    And there is no object store
