@negative @core
Feature: Bad input
  Whatever is typed gets one clear sentence and the documented exit code, and damages nothing.

  Scenario Outline: Wrong usage: a9s <line>
    Given an empty home and no cluster
    When I run `a9s <line>`
    Then the command fails with exit code 2
    And nothing is on standard output
    And standard error says "<word>"
    And there is no file ".a9s"

    Examples:
      | line                                                     | word                                                     |
      | --bogus                                                  | --bogus                                                  |
      | create pg instance --bogus                               | --bogus                                                  |
      | create pg instnace                                       | instnace                                                 |
      | nosuch                                                   | nosuch                                                   |
      | delete pg instance                                       | --name                                                   |
      | delete cluster a8s --yes                                 | --cluster-name                                           |
      | create pg instance --name solo --replicas many           | many                                                     |
      | create pg instance --name solo --replicas -1             | -1                                                       |
      | create pg instance --name UPPER --yes                    | a name of lower-case letters, digits and '-' is expected |
      | create pg instance --name ../escape --yes                | escape                                                   |
      | create pg instance --name a/b --yes                      | a/b                                                      |
      | create pg instance --name '' --yes                       | '' for '--name                                           |
      | create pg instance --name solo -n ../escape --yes        | escape                                                   |
      | create pg instance --name solo --volume-size lots --yes  | a quantity is expected, such as 1Gi, 100Mi or 100m       |
      | create pg instance --name solo --limits-memory -5 --yes  | -5                                                       |
      | create pg instance --name solo --service-version x --yes | 'x' for '--service-version                               |
      | create cluster a8s -c UPPER --yes                        | UPPER                                                    |
      | create cluster a8s -c ../escape --yes                    | escape                                                   |
      | create cluster a8s -p nimbus --yes                       | The selected Kubernetes provider nimbus is not valid     |
      | completion tcsh                                          | tcsh                                                     |
      | version -o toml                                          | toml                                                     |
      | create pg instance --name solo --timeout soon            | a duration such as 90s, 10m or 1h is expected            |
      | create pg instance --name solo --timeout 0               | a duration between 1ms and a week is expected            |
      | create pg instance --name solo --api-version beta        | the version of an API is expected, such as v1beta3       |
      | create pg backup -i solo --max-retries often             | a number or Infinite is expected                         |
      | images list --deployment-version ''                      | a git tag, `latest` or a directory is expected           |
      | images list --deployment-version 'v1 2'                  | is neither a git tag nor `latest` nor a directory        |
      | run play.yaml --repeat 0                                 | '0'                                                      |
      | pg verify nightly -i solo                                | the backup tells                                         |
      | pg connect                                               | NAME                                                     |
      | pg apply -i solo --sql ''                                | '--sql                                                   |
      | pg apply -i solo --database '' --sql 'SELECT 1'          | '--database                                              |
      | pg check -i solo --sql '' --is ''                        | '--sql                                                   |

  Scenario Outline: Nothing to work on: a9s <line>
    Given an empty home and no cluster
    When I run `a9s <line>`
    Then the command fails with exit code 3
    And the reason is one clear sentence
    And standard output does not say "uccess"
    And standard output does not say "appears to be ready"
    And there is no file ".a9s"

    Examples:
      | line                                       |
      | create pg instance --name solo --yes       |
      | delete pg instance --name solo --yes       |
      | pg apply -i solo --sql 'SELECT 1' --yes    |
      | cluster start                              |
      | create pg instance --name solo --kubeconfig missing --yes |

  Scenario Outline: Refused by the cluster: <what>
    Given a cluster with the a8s stack
    When I create an instance "<name>" with `<flags>`
    Then the command fails with exit code <code>
    And the reason is one clear sentence
    And standard error says "<word>"
    And there is no instance "<name>"

    Examples:
      | what                       | name | flags                | code | word                           |
      | a namespace that is not    | solo | -n nowhere-at-all    | 3    | nowhere-at-all                 |
      | a volume that is too small | solo | --volume-size 1Mi    | 5    | 1Mi                            |
      | a version that is not      | solo | --service-version 9  | 5    | spec.version: Invalid value: 9 |

  Scenario: A name of 53 characters
    Given a cluster with the a8s stack
    When I create an instance "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz" with `--yes`
    Then the command fails
    And standard error says "it has 53 characters, and at most 52 are allowed"
    And there is no instance "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz"

  Scenario: A name that may be any of several clusters
    Given an empty home and no cluster
    And the file ".kube/config" with:
      """
      apiVersion: v1
      kind: Config
      clusters:
      - {name: a9s-demo, cluster: {server: "https://127.0.0.1:1"}}
      - {name: kind-demo, cluster: {server: "https://127.0.0.1:2"}}
      contexts:
      - {name: a9s-demo, context: {cluster: a9s-demo, user: me}}
      - {name: kind-demo, context: {cluster: kind-demo, user: me}}
      users:
      - {name: me, user: {}}
      """
    When I run `a9s delete stack a8s -c demo --yes`
    Then the command fails with exit code 5
    And standard error says "demo may be any of the contexts a9s-demo, kind-demo"
    And standard error says "Name one of them with -c."
    And the reason is one clear sentence

  Scenario: An unreachable cluster
    Given an empty home and no cluster
    And the file ".kube/config" with:
      """
      {apiVersion: v1, kind: Config, current-context: away, contexts: [{name: away, context: {cluster: away, user: away}}],
       clusters: [{name: away, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: away, user: {}}]}
      """
    When I run `a9s pg apply -i solo --sql 'SELECT 1' --yes`
    Then the command fails with exit code 3
    And standard error says "refused"
    And standard error says "Is the cluster running? a9s cluster status says so; a9s cluster start starts it."
    And it took less than 15 seconds
    When I run `a9s create pg instance --no-apply --yes`
    Then the command succeeds
    And standard error says "; without --service-version, it is PostgreSQL 14"
    And standard output says "version: 14"

  Scenario Outline: A provider whose programs are not installed: <provider>
    Given an empty home and no cluster
    And the variable "PATH" is "{home}"
    When I run `a9s create cluster a8s -p <provider> --yes`
    Then the command fails with exit code 3
    And standard error says "<programs> not installed"
    And standard error says "How to get <provider>: https://"
    And the reason is one clear sentence

    Examples:
      | provider | programs            |
      | kind     | kind and docker are |
      | minikube | minikube is         |

  @process @linux
  Scenario Outline: The process of a cluster, started for <what>
    Given an empty home and no cluster
    When I run `a9s __cluster <directory>`
    Then the command fails with exit code 2
    And standard error says "error: the directory of a cluster is expected"

    Examples:
      | what                                | directory    |
      | nothing                             |              |
      | a name that no cluster has          | {home}/UPPER |
      | a directory that is not a cluster's | {home}/none  |

  @cluster @embedded-only
  Scenario: A directory that is not a cluster's is not touched
    Given an empty home and no cluster
    And the file "{state}/a8s/precious.txt" with:
      """
      mine
      """
    When I create a cluster
    Then the command fails
    And standard error says "{state}/a8s is there and is not a cluster of a9s"
    And the file "{state}/a8s/precious.txt" says "mine"
    And the reason is one clear sentence

  @cluster @embedded-only
  Scenario: Data of another format is refused and not touched
    Given an empty home and no cluster
    And the file "{state}/a8s/cluster.json" with:
      """
      {"format": 999, "name": "a8s"}
      """
    When I create a cluster
    Then the command fails
    And standard error says "{state}/a8s/cluster.json has the format 999 of a newer a9s; this one reads the format 1"
    And the file "{state}/a8s/cluster.json" says "999"

  @cluster @embedded-only @root
  Scenario: A port of the instances that somebody else holds
    Given an empty home and no cluster
    When I create a cluster on a machine where somebody listens on port 5432 of every address
    Then the command fails with exit code 5
    And standard error says "perl (process"
    And standard error says "listens on port 5432 of every address"
    And the reason is one clear sentence
    And there is no file "{state}/a8s/cluster.json"

  @cluster @embedded-only @root
  Scenario: A disk that is full from the start
    Given an empty home and no cluster
    And a disk of 16 MiB for the state of clusters
    When I create a cluster
    Then the command fails with exit code 1
    And standard error says "is full: "
    And standard error says "MiB are free, 200 MiB are needed"
    And the reason is one clear sentence

  @cluster @embedded-only @process
  Scenario Outline: Too few files can be open: for <whom>
    Given an empty home and no cluster
    When I run `a9s create cluster a8s --yes` where at most <files> files can be open
    Then it ends with the finding "no-resources"
    And standard error says "<words>"
    And there is no file "{state}/a8s"

    Examples:
      | whom      | files | words                                                           |
      | a command | 5     | cannot listen for signals: Too many open files                  |
      | a cluster | 128   | a process can have 128 files open here, and a cluster needs 256 |

  @full @cluster @embedded-only @root
  Scenario: A disk that fills up loses nothing that was there
    Given an empty home and no cluster
    And a disk of 600 MiB for the state of clusters
    When I create a cluster
    And I create an instance "solo"
    And I apply the statement "CREATE TABLE kept (value text); INSERT INTO kept VALUES ('before')" to "solo"
    Then the command succeeds
    When the disk is full
    And I apply the statement "CREATE TABLE more AS SELECT generate_series(1, 1000000) AS n" to "solo"
    Then the command fails
    When the disk has room again
    And I stop the cluster
    And I start the cluster
    Then the command succeeds
    And "solo" answers "SELECT value FROM kept" with "before"
    And the instance "solo" is ready

  @full @cluster @embedded-only @root
  Scenario: A cluster can be stopped and deleted when its disk is full, and the kubeconfig is on it
    Given an empty home and no cluster
    And a disk of 600 MiB for the state of clusters
    When I run `a9s create cluster a8s --kubeconfig {state}/kubeconfig --yes`
    Then the command succeeds
    When the disk is full
    And I stop the cluster
    Then the command succeeds
    When the disk is full
    And I start the cluster
    Then it ends with the finding "disk-full"
    When I run `a9s delete cluster a8s -c a8s --kubeconfig {state}/kubeconfig --yes`
    Then it ends with the finding "kubeconfig-io"
    And standard error says "name a file that is not there: --kubeconfig nowhere"
    When I run `a9s delete cluster a8s -c a8s --kubeconfig nowhere --yes`
    Then the command succeeds
    And there is no file "{state}/a8s"
    When I run `a9s delete cluster a8s -c a8s --kubeconfig {state}/kubeconfig --yes`
    Then the command succeeds

  @cluster @embedded-only
  Scenario: A damaged store is refused and not overwritten
    Given a cluster of its own
    And the cluster has been stopped
    And the file "{state}/a8s/store.redb" with:
      """
      this is not a store
      """
    When I start the cluster
    Then it ends with the finding "cluster-not-started"
    And standard error says "the cluster did not start: "
    And standard error says "The whole log is {state}/a8s/cluster.log."
    And the file "{state}/a8s/store.redb" says "this is not a store"
