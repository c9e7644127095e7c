@core @kubectl
Feature: Manifests
  What the program writes down can be reviewed, committed and applied by others: every reader of YAML understands it alike,
  and Kubernetes takes it.

  Scenario Outline: What <command> writes is taken by Kubernetes
    Given a cluster with the a8s stack
    When I run `a9s create pg <command> --no-apply --yes`
    Then the command succeeds
    And there are 1 manifests
    And kubectl reads every manifest as it was meant
    And the cluster would take every manifest

    Examples: Instances
      | command                                                                             |
      | instance                                                                            |
      | instance --name trio --replicas 3                                                   |
      | instance --name large --volume-size 2Ti --requests-cpu 1500m --limits-memory 1.5Gi  |
      | instance --name whole --volume-size 10G --requests-cpu 2 --limits-memory 1073741824 |
      | instance --name chosen --service-version 14                                         |

    Examples: Orders
      | command                               |
      | backup --name monday -i solo          |
      | restore --name back -b monday -i solo |
      | servicebinding --name app -i solo     |

  @full @needs-restore-into
  Scenario: A restore into a new instance is written with the instance
    Given a cluster with the a8s stack
    And an instance "solo"
    And a backup "monday" of "solo"
    When I run `a9s create pg restore --name back -b monday --to copy --no-apply --yes`
    Then the command succeeds
    And there are 4 manifests
    And standard output says "name: copy"
    And standard output says "backupName: monday"
    And there is no instance "copy"
    And there is no restore "back"
    And kubectl reads every manifest as it was meant
    And the cluster would take every manifest

  Scenario Outline: The name <name> in the namespace <namespace> stays what it is
    Given an empty home and no cluster
    And the file ".a9s" with:
      """
      WorkingDir: {home}/a9s
      """
    When I run `a9s create pg instance --name <name> -n <namespace> --service-version 15 --no-apply --yes`
    Then the command succeeds
    And there are 1 manifests
    And kubectl reads every manifest as it was meant

    Examples: Words and numbers of one YAML or another
      | name | namespace                                |
      | y    | n                                        |
      | on   | off                                      |
      | yes  | no                                       |
      | true | false                                    |
      | null | 0644                                     |
      | nan  | 1e3                                      |
      | inf  | 0x1f                                     |
      | e5   | 0o17                                     |
      | x-1  | 2024-01-01                               |
      | a    | 1234567890123456789012345678901234567890 |

  Scenario Outline: The builtin stack with its backups in <store>, for other means of installing it
    Given an empty home and no cluster
    When I run `a9s create stack a8s --stack builtin <flags> --no-apply --yes`
    Then the command succeeds
    And there are <count> manifests
    And only its owner may read the file "a9s/stackmanifests/3-stack.yaml"
    And kubectl reads every manifest as it was meant
    When I run `a9s create stack a8s --stack builtin <flags> --no-apply --yes`
    Then the command succeeds
    And standard output says "Nothing had to be changed."

    Examples:
      | store     | count | flags                                                                                      |
      | its store | 2     |                                                                                            |
      | AWS       | 1     | --backup-provider AWS --backup-store-accesskey key --backup-store-secretkey "0644: on # 1" |

  Scenario: Commands to copy name the manifests as a shell takes it
    Given an empty home and no cluster
    And the file ".a9s" with:
      """
      WorkingDir: {home}/my work
      DemoSpace: a8s-demo
      """
    When I run `a9s create stack a8s --stack builtin --no-apply --yes`
    Then the command succeeds
    And standard output says "kubectl apply --server-side -f '{home}/my work/stackmanifests/3-stack.yaml'"

  @deployments @k8s-1.25
  Scenario: What is written of the builtin stack is taken by Kubernetes
    Given a cluster with the a8s stack
    When I run `a9s create stack a8s --stack builtin --no-apply --yes`
    Then the command succeeds
    And the cluster would take every manifest

  Scenario: The released stack, for other means of installing it
    Given an empty home and no cluster
    And the file "release/deploy/a8s/manifests/kustomization.yaml" with:
      """
      resources:
      - namespace.yaml
      - ../backup-config
      """
    And the file "release/deploy/a8s/manifests/namespace.yaml" with:
      """
      apiVersion: v1
      kind: Namespace
      metadata:
        name: a8s-system
      """
    And the file "release/deploy/a8s/backup-config/kustomization.yaml" with:
      """
      namespace: a8s-system
      generatorOptions:
        disableNameSuffixHash: true
      secretGenerator:
      - name: a8s-backup-storage-credentials
        files:
        - access-key-id
        - secret-access-key
        - encryption-password
      """
    And the file "cert-manager.yaml" with:
      """
      apiVersion: v1
      kind: Namespace
      metadata:
        name: cert-manager
      """
    When I run `a9s create stack a8s --stack builtin --no-apply --yes`
    Then there are 2 manifests
    When I run `a9s create stack a8s --deployment-version {home}/release --cert-manager {home}/cert-manager.yaml --no-apply --yes`
    Then the command succeeds
    And there are 3 manifests
    And the file "a9s/stackmanifests/1-cert-manager.yaml" says "name: cert-manager"
    And the file "a9s/stackmanifests/2-object-store.yaml" says "name: minio-dev"
    And the file "a9s/stackmanifests/3-stack.yaml" says "name: a8s-backup-storage-credentials"
    And kubectl reads every manifest as it was meant
    When I run `a9s create stack a8s --stack builtin --no-apply --yes`
    Then the command succeeds
    And there is no file "a9s/stackmanifests/1-cert-manager.yaml"

  @negative
  Scenario: Manifests are written for any cluster, not for one
    Given an empty home and no cluster
    When I run `a9s create stack a8s --no-apply -c somewhere`
    Then the command fails with exit code 2
