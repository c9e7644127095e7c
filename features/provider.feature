@core @negative
Feature: Clusters in Docker that can't be made
  What is lacking is said in one sentence, with a way out, and nothing of somebody else is touched.

  Background:
    Given an empty home and no cluster
    And a program "docker" that answers:
      | asked  | says                                                                     | exit code |
      | info   | {"MemTotal": 16000000000, "CgroupVersion": "2", "DockerRootDir": "/sys"} | 0         |
      | ps     |                                                                          | 0         |
      | images | a9s/operators:{version}\na9s/postgresql:15                               | 0         |

  Scenario Outline: Docker: <what>
    Given a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
    And a program "docker" that answers:
      | asked | says   | exit code |
      | ps    | <ps>   | <ends>    |
      | info  | <info> | <ends>    |
    When I run `a9s create cluster a8s -p kind --stack builtin --yes`
    Then the command fails with exit code 3
    And the reason is one clear sentence
    And standard error says "<cause>"
    And standard error says "<way out>"

    Examples:
      | what                 | ends | cause                 | way out       | info                                                                                                 | ps                                   |
      | it does not run      | 1    | does not answer       | systemctl     | Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?    | Cannot connect to the Docker daemon. |
      | it refuses this user | 1    | refuses this user     | group docker  | permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock | permission denied                    |
      | too little memory    | 0    | a cluster needs 2 GiB | --no-precheck | {"MemTotal": 1000000000, "CgroupVersion": "2", "DockerRootDir": "/"}                                 |                                      |
      | too little disk      | 0    | nodes need 8 GiB      | --no-precheck | {"MemTotal": 16000000000, "CgroupVersion": "2", "DockerRootDir": "/proc"}                            |                                      |

  Scenario Outline: A kind that <is>
    Given a program "kind" that answers:
      | asked   | says   | exit code |
      | version | <says> | 0         |
    When I run `a9s create cluster a8s -p kind --stack builtin --yes`
    Then it ends with the finding "tool-too-old"
    And standard error says "<cause>"

    Examples:
      | is                         | says                              | cause                                             |
      | is too old                 | kind v0.11.1 go1.16.4 linux/amd64 | kind 0.11.1 is too old: at least 0.20.0 is needed |
      | does not say how old it is | kind of my own                    | kind does not say its version:                    |

  Scenario Outline: kind fails: <what>
    Given a program "kind" that answers:
      | asked          | says                              | exit code |
      | version        | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
      | create cluster | <says>                            | 1         |
    When I run `a9s create cluster a8s -p kind --stack builtin --no-precheck --yes`
    Then the command fails with exit code <code>
    And the reason is one clear sentence
    And standard error says "<cause>"
    And standard error says "<way out>"

    Examples:
      | what                | code | cause                                     | way out              | says                                                                                        |
      | the name is taken   | 5    | the name is taken by another kind cluster | with -c              | ERROR: failed to create cluster: node(s) already exist for a cluster with the name "a8s"    |
      | no image            | 3    | the node image cannot be pulled           | --node-image         | ERROR: failed to create cluster: failed to pull image "kindest/node:v1.99.0": exit status 1 |
      | too many open files | 3    | the nodes ran out of inotify instances    | sysctl               | ERROR: failed to create cluster: could not watch: too many open files                       |
      | a full disk         | 3    | the disk of the Docker engine is full     | docker system prune  | ERROR: failed to create cluster: write /var/lib/docker/x: no space left on device           |
      | anything else       | 1    | kind                                      | could not find a log | ERROR: failed to create cluster: could not find a log line that matches                     |

  Scenario: A cluster of that name that somebody else has made
    Given a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
    And a program "docker" that answers:
      | asked | says                                   | exit code |
      | info  | {"MemTotal": 16000000000}              | 0         |
      | ps    | 0123456789ab a8s-control-plane running | 0         |
    When I run `a9s create cluster a8s -p kind --stack builtin`
    Then the command fails with exit code 5
    And the reason is one clear sentence
    And standard error says "which a9s did not make"

  Scenario: A cluster of kind whose control plane is gone
    Given a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
    And a program "docker" that answers:
      | asked  | says                                       | exit code |
      | info   | {"MemTotal": 16000000000}                  | 0         |
      | ps     | 0123456789ab a8s-worker running            | 0         |
      | images | a9s/operators:{version}\na9s/postgresql:15 | 0         |
    When I run `a9s create cluster a8s -p kind --stack builtin --no-precheck --yes`
    Then the command fails with exit code 5
    And the reason is one clear sentence
    And standard error says "the kind cluster a8s is half deleted: it has lost its control plane"
    And standard error says "a9s delete cluster a8s -p kind -c a8s"

  Scenario: A cluster of kind that has lost a node
    Given the file "{state}/.kind/a8s/made" with:
      """
      0123456789ab
      0123456789cd
      """
    And a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
    And a program "docker" that answers:
      | asked  | says                                       | exit code |
      | ps     | 0123456789ab a8s-control-plane running     | 0         |
      | images | a9s/operators:{version}\na9s/postgresql:15 | 0         |
    When I run `a9s create cluster a8s -p kind --stack builtin --no-precheck --yes`
    Then it ends with the finding "half-deleted"
    And standard error says "it has lost 1 of its 2 containers"
    And standard error says "a9s delete cluster a8s -p kind -c a8s"
    When I run `a9s cluster status -p kind`
    Then the command succeeds
    And standard output says "it has lost 1 of its 2 containers"

  Scenario: A cluster of kind whose making was cut off, and which does not come up
    Given the file "{state}/.kind/a8s/making" with:
      """
      1
      """
    And a program "kind" that answers:
      | asked          | says                                      | exit code |
      | get kubeconfig | ERROR: could not locate any control plane | 1         |
    And a program "docker" that answers:
      | asked | says                                   | exit code |
      | ps    | 0123456789ab a8s-control-plane running | 0         |
    When I run `a9s cluster start -p kind`
    Then it ends with the finding "half-deleted"
    And standard error says "the making of the kind cluster a8s was cut off, and not all of it is there"
    And standard error says "a9s create cluster a8s -p kind -c a8s"

  Scenario: An image that the Docker engine does not have
    Given a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
    And a program "docker" that answers:
      | asked         | says                                       | exit code |
      | images        | a9s/operators:{version}\na9s/postgresql:15 | 0         |
      | image inspect | Error: No such image: a9s/object-store     | 1         |
      | ps            | 0123456789ab a8s-control-plane running     | 0         |
    When I run `a9s images load -p kind --stack builtin`
    Then the command fails with exit code 3
    And the reason is one clear sentence
    And standard error says "does not have the image a9s/"
    And standard error says "docker pull"

  Scenario Outline: No images are loaded where there is no node for them: <what>
    Given a program "minikube" that answers:
      | asked        | says                  | exit code |
      | profile list | {"valid": [<listed>]} | 0         |
      | image        |                       | 0         |
    And a program "docker" that answers:
      | asked         | says                                       | exit code |
      | images        | a9s/operators:{version}\na9s/postgresql:15 | 0         |
      | image inspect | sha256:1                                   | 0         |
      | ps            |                                            | 0         |
    When I run `a9s images load -p <provider> -c typo --stack builtin`
    Then it ends with the finding "<finding>"
    And standard error says "<cause>"
    And standard error says "<way out>"

    Examples:
      | what                           | provider | listed                                | finding         | cause                             | way out                                    |
      | a cluster of kind is not there | kind     |                                       | no-cluster      | there is no kind cluster typo     | a9s create cluster a8s -p kind -c typo     |
      | one of minikube is not there   | minikube | {"Name": "other", "Status": "OK"}     | no-cluster      | there is no minikube cluster typo | a9s create cluster a8s -p minikube -c typo |
      | one of minikube does not run   | minikube | {"Name": "typo", "Status": "Stopped"} | cluster-stopped | the cluster typo does not run     | a9s cluster start -p minikube -c typo      |

  Scenario Outline: What is lacking besides is said before nodes are made: <what>
    Given a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
    And a program "docker" that answers:
      | asked  | says | exit code |
      | info   | {}   | 0         |
      | ps     |      | 0         |
      | images |      | 0         |
    When I run `a9s create cluster a8s -p kind <flags> --no-precheck --yes`
    Then the command fails with exit code 3
    And the reason is one clear sentence
    And standard error says "<cause>"

    Examples:
      | what               | flags                                              | cause                                          |
      | images             | --stack builtin                                    | the images of the builtin stack are not there  |
      | released documents | --stack upstream --deployment-version {home}/none  | {home}/none                                    |

  Scenario: A cluster of somebody else that runs is not taken for stopped
    Given a program "docker" that answers:
      | asked | says                                           | exit code |
      | ps    | 0123456789ab demo-control-plane running        | 0         |
      | stop  | demo-control-plane                             | 0         |
    When I run `a9s cluster stop -p kind -c demo --timeout 1s --yes`
    Then the command fails with exit code 4
    When I run `a9s cluster status -p kind -c demo`
    Then standard output says "is not ready"

  Scenario: A cluster of somebody else is not stopped without asking
    Given a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
    And a program "docker" that answers:
      | asked | says                                   | exit code |
      | ps    | 0123456789ab a8s-control-plane running | 0         |
    When I run `a9s cluster stop -p kind`
    Then it ends with the finding "confirmation-needed"
    And standard error says "which a9s did not make needs a confirmation, and there is no terminal to ask on"

  @embedded-only
  Scenario: A cluster in Docker that could not be made is in nobody's way
    Given a program "kind" that answers:
      | asked          | says                              | exit code |
      | version        | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
      | create cluster | ERROR: no space left on device    | 1         |
    When I run `a9s create cluster a8s -p kind --stack builtin --no-precheck --yes`
    Then the command fails with exit code 3
    When I create a cluster
    Then the command succeeds
    And the cluster answers

  Scenario Outline: A minikube that <does>
    Given a program "minikube" that answers:
      | asked        | says   | exit code |
      | profile list | <says> | <ends>    |
    When I run `a9s cluster status -p minikube`
    Then it ends with the finding "tool-failed"
    And standard error says "<cause>"

    Examples:
      | does                    | says    | ends | cause                                                              |
      | does not answer in JSON | nothing | 0    | minikube profile list does not answer with the JSON it should      |
      | fails and says nothing  |         | 7    | minikube profile list --output json failed (exit status: 7) [tool- |

  Scenario: What is said of nodes reaches minikube
    Given a program "minikube" that answers:
      | asked                                                                                                      | says                                        | exit code |
      | version                                                                                                    | v1.36.0                                     | 0         |
      | config get                                                                                                 | kvm2                                        | 0         |
      | profile list                                                                                               | {"valid": []}                               | 0         |
      | start --profile a8s --nodes 2 --memory 3gb --embed-certs --interactive=false --base-image example.com/node | X Exiting due to GUEST_START: all was said  | 80        |
    When I run `a9s create cluster a8s -p minikube --stack builtin --cluster-nr-of-nodes 2 --cluster-memory 3gb --node-image example.com/node --yes`
    Then the command fails with exit code 1
    And standard error says "all was said"

  Scenario: What was cut off of a cluster of minikube is gone on with
    Given the file "bin/minikube" with:
      """
      #!/bin/sh
      profile() { printf '{"Name": "a8s", "Status": "%s", "Config": {"Nodes": [%s]}}' "$1" "$2" >"$0.profile"; }
      case "$*" in
      version*) echo v1.36.0 ;;
      config*) echo kvm2 ;;
      profile*) printf '{"valid": [%s]}' "$(cat "$0.profile" 2>/dev/null)" ;;
      'start --profile a8s --nodes 2 '*) profile Stopped '{}'; exit 137 ;;
      start*) grep -q OK "$0.profile" || profile OK '{}' ;;
      node*) profile OK '{}, {}' ;;
      *) echo "X $*: no addon" >&2; exit 1 ;;
      esac
      """
    And I may run the file "bin/minikube"
    When I run `a9s create cluster a8s -p minikube --stack builtin --cluster-nr-of-nodes 2 --yes`
    Then the command fails with exit code 1
    When I run `a9s create cluster a8s -p minikube --stack builtin --yes --show-commands`
    Then the command fails with exit code 1
    And standard error says "minikube node add --profile a8s"
    And standard error says "no addon"
    When I run `a9s cluster status -p minikube`
    Then standard output says "it was made half"
    When I run `a9s create cluster a8s -p minikube --stack builtin --yes`
    Then the command fails with exit code 1
    And standard error says "no addon"

  Scenario Outline: A configuration of kind: <what>
    Given the file "kind.yaml" with:
      """
      kind: Cluster
      apiVersion: <group>/v1alpha4
      networking: {podSubnet: 10.8.0.0/16}
      <nodes>
      """
    And the file "bin/kind" with:
      """
      #!/bin/sh
      case "$*" in
      version*) echo "kind v0.27.0 go1.24.0 linux/amd64" ;;
      *) echo "ERROR: read $(tr -s '\n ' '  ')" >&2; exit 1 ;;
      esac
      """
    And I may run the file "bin/kind"
    When I run `a9s create cluster a8s -p kind --stack builtin --kind-config <file> --cluster-nr-of-nodes 2 --no-precheck --yes`
    Then the command fails with exit code <code>
    And the reason is one clear sentence
    And standard error says "<says>"

    Examples:
      | what                         | file      | group          | nodes                          | code | says                                                                                 |
      | the nodes are so many        | kind.yaml | kind.x-k8s.io  |                                | 1    | networking: podSubnet: 10.8.0.0/16 nodes: - role: control-plane - role: worker        |
      | the nodes are as it has them | kind.yaml | kind.x-k8s.io  | nodes: [{role: control-plane}] | 1    | networking: podSubnet: 10.8.0.0/16 nodes: - role: control-plane                       |
      | it is of somebody else       | kind.yaml | cluster.k8s.io |                                | 3    | kind.yaml: this is no Cluster of kind.x-k8s.io                                        |
      | it is not there              | none.yaml | kind.x-k8s.io  |                                | 3    | cannot read the configuration of kind                                                |

  @embedded-only
  Scenario: What is said of nodes has no effect where there are none
    Given the file "map.yaml" with:
      """
      example.com/moved:1: example.com/here:2
      """
    And the file "kind.yaml" with:
      """
      {kind: Cluster, apiVersion: kind.x-k8s.io/v1alpha4}
      """
    When I run `a9s create cluster a8s --cluster-nr-of-nodes 2 --cluster-memory 3gb --node-image example.com/node --kind-config kind.yaml --cert-manager v1.12.0 --image-map map.yaml --dry-run`
    Then the command succeeds
    And standard error says "--cert-manager has no effect"
    And standard error says "--cluster-nr-of-nodes has no effect"
    And standard error says "--cluster-memory has no effect"
    And standard error says "--node-image has no effect"
    And standard error says "--kind-config has no effect"

  Scenario: Images that moved are loaded under their new names
    Given a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
    And a program "docker" that answers:
      | asked                              | says                                                | exit code |
      | ps                                 | 0123456789ab demo-control-plane running             | 0         |
      | image inspect                      | Error: No such image                                | 1         |
    And the file "release/deploy/a8s/manifests/kustomization.yaml" with:
      """
      resources: [pod.yaml]
      """
    And the file "release/deploy/a8s/manifests/pod.yaml" with:
      """
      {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: "example.com/moved:1"}]}}
      """
    And the file "cert-manager.yaml" with:
      """
      {apiVersion: v1, kind: Namespace, metadata: {name: cert-manager}}
      """
    And the file "map.yaml" with:
      """
      example.com/moved:1: example.com/here:2
      """
    When I run `a9s images load -p kind -c demo --deployment-version ./release --cert-manager ./cert-manager.yaml --image-map map.yaml --backup-provider AWS --timeout 1m --dry-run`
    Then standard error says "does not have the image example.com/here:2"

  Scenario Outline: Images are loaded into all nodes at once: <what>
    Given the file "bin/docker" with:
      """
      #!/bin/sh
      case "$*" in
      ps*) printf '%s running\n' '0123456789ab demo-control-plane' '0123456789cd demo-worker' ;;
      info*) echo '{"MemTotal": 16000000000}' ;;
      images*) printf '%s\n' 'a9s/operators:{version}' 'a9s/postgresql:15' ;;
      'image inspect '*) echo sha256:1 ;;
      'image save '*' --platform linux/'*) echo one >"$0.saved" ;;
      'image save '*) echo <saved> >"$0.saved" ;;
      *) exit 64 ;;
      esac
      """
    And the file "bin/kind" with:
      """
      #!/bin/sh
      case "$*" in
      version*) echo "kind v0.27.0 go1.24.0 linux/amd64"; exit ;;
      'load image-archive '*' --name demo --nodes demo-'*) ;;
      *) exit 64 ;;
      esac
      grep -q one "${0%kind}docker.saved" && exit
      echo "ERROR: ctr: content digest sha256:0123: not found" >&2
      exit 1
      """
    And I may run the file "bin/docker"
    And I may run the file "bin/kind"
    When I run `a9s images load -p kind -c demo --stack builtin --backup-provider AWS --timeout 1m --show-commands`
    Then the command succeeds
    And standard error says "docker image save --output"
    And standard error <says> "--platform linux/"
    And standard error says "kind load image-archive"

    Examples:
      | what                               | saved | says         |
      | as they are                        | one   | does not say |
      | those of which there is a platform | all   | says         |

  @full
  Scenario: Images that were on their way when that was cut off do not stay on the disk
    Given a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
    And the file "bin/docker" with:
      """
      #!/bin/sh
      case "$*" in
      ps*) echo '0123456789ab demo-control-plane running' ;;
      info*) echo '{"MemTotal": 16000000000}' ;;
      images*) printf '%s\n' 'a9s/operators:{version}' 'a9s/postgresql:15' ;;
      'image inspect '*) echo sha256:1 ;;
      'image save '*) echo half >"$4" && echo half >"$4.rest" && echo "$4" >"$0.asked"; exec sleep 60 ;;
      *) exit 64 ;;
      esac
      """
    And I may run the file "bin/docker"
    And the file "{state}/.kind/demo/images/0123456789abcdef/images.tar" with:
      """
      what was left by somebody who was killed
      """
    When I run `a9s images load -p kind -c demo --stack builtin --backup-provider AWS --timeout 3s`
    Then it ends with the finding "deadline"
    And the file "bin/docker.asked" says "{state}/.kind/demo/images/"
    And there is no file "{state}/.kind"

  # The one who ends first takes away what is its own.
  @full
  Scenario: Images that two bring to a cluster at once are those of each
    Given the file "bin/docker" with:
      """
      #!/bin/sh
      case "$*" in
      ps*) echo '0123456789ab demo-control-plane running' ;;
      images*) printf '%s\n' 'a9s/operators:{version}' 'a9s/postgresql:15' ;;
      'image inspect '*) echo sha256:1 ;;
      'image save '*)
        echo whole >"$4"
        echo one >>"$0.saved"
        until test "$(grep -c one "$0.saved")" -ge 2; do sleep 0.1; done ;;
      *) exit 64 ;;
      esac
      """
    And the file "bin/kind" with:
      """
      #!/bin/sh
      case "$*" in
      version*) echo "kind v0.27.0 go1.24.0 linux/amd64"; exit ;;
      'load image-archive '*' --name demo --nodes demo-'*) ;;
      *) exit 64 ;;
      esac
      mkdir "$0.first" 2>/dev/null && exit
      sleep 1
      exec grep -q whole "$3"
      """
    And I may run the file "bin/docker"
    And I may run the file "bin/kind"
    When I run `a9s images load -p kind -c demo --stack builtin --backup-provider AWS --timeout 1m` twice at once
    Then the command succeeds
    And there is no file "{state}/.kind"

  Scenario Outline: A disk that is full when images are brought to a cluster: <whose>
    Given a program "kind" that answers:
      | asked              | says                              | exit code |
      | version            | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
      | load image-archive | <loading>                         | 1         |
    And a program "docker" that answers:
      | asked         | says                                       | exit code |
      | ps            | 0123456789ab demo-control-plane running    | 0         |
      | images        | a9s/operators:{version}\na9s/postgresql:15 | 0         |
      | image inspect | sha256:1                                   | 0         |
      | image save    | <saving>                                   | <ends>    |
      | exec          | {}                                         | 0         |
    When I run `a9s images load -p kind -c demo --stack builtin --backup-provider AWS`
    Then it ends with the finding "<finding>"
    And standard error says "<cause>"
    And standard error says "<way out>"

    Examples:
      | whose                  | finding         | cause                                         | way out             | ends | saving                                                                                         | loading                                                                     |
      | this machine's         | disk-full       | the disk of {state}/.kind/demo/images is full | Make room there     | 1    | write {state}/.kind/demo/images/0/.docker_temp_1: no space left on device                      |                                                                             |
      | the engine's           | too-little-disk | the disk of the Docker engine is full         | docker system prune | 1    | Error response from daemon: write /var/lib/docker/tmp/docker-export-1: no space left on device |                                                                             |
      | the engine's, of nodes | too-little-disk | the disk of the Docker engine is full         | docker system prune | 0    |                                                                                                | ERROR: failed to load image: ctr: write /var/lib/x: no space left on device |

  Scenario: Images are loaded where a node lacks one, and not once more
    Given a program "kind" that answers:
      | asked              | says                              | exit code |
      | version            | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
      | load image-archive |                                   | 0         |
    And a program "docker" that answers:
      | asked         | says                                       | exit code |
      | ps            | 0123456789ab demo-control-plane running    | 0         |
      | images        | a9s/operators:{version}\na9s/postgresql:15 | 0         |
      | image inspect | sha256:1                                   | 0         |
      | image save    |                                            | 0         |
      | exec          | {}                                         | 0         |
    When I run `a9s images load -p kind -c demo --stack builtin --backup-provider AWS -o json`
    Then the command succeeds
    And these values are in the document:
      | field            | value |
      | /provider        | kind  |
      | /cluster         | demo  |
      | /changed         | true  |
      | /steps/0/changed | true  |
    Given a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
    And a program "docker" that answers:
      | asked         | says                                       | exit code |
      | ps            | 0123456789ab demo-control-plane running    | 0         |
      | images        | a9s/operators:{version}\na9s/postgresql:15 | 0         |
      | image inspect | sha256:1                                   | 0         |
      | exec          | {"status": {"id": "sha256:1"}}             | 0         |
    When I run it again
    Then the command succeeds
    And these values are in the document:
      | field              | value |
      | /changed           | false |
      | /steps/0/satisfied | true  |

  Scenario: What balances the load of several control planes is no node
    Given a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
    And a program "docker" that answers:
      | asked                   | says                                                                                                                                                                                                      | exit code |
      | ps                      | 01 demo-control-plane running kindest/node:v1 2030-01-31 12:00:00 +0000 UTC control-plane\n02 demo-external-load-balancer running kindest/haproxy:v1 2030-01-31 12:00:00 +0000 UTC external-load-balancer | 0         |
      | images                  | a9s/operators:{version}\na9s/postgresql:15                                                                                                                                                                | 0         |
      | image inspect           | sha256:1                                                                                                                                                                                                  | 0         |
      | exec demo-control-plane | {"status": {"id": "sha256:1"}}                                                                                                                                                                            | 0         |
    When I run `a9s images load -p kind -c demo --stack builtin`
    Then the command succeeds

  Scenario Outline: minikube with the driver docker: <what>
    Given a program "minikube" that answers:
      | asked        | says            | exit code |
      | version      | v1.36.0         | 0         |
      | config get   | docker          | 0         |
      | profile list | {"valid": []}   | 0         |
    And a program "docker" that answers:
      | asked  | says                                       | exit code |
      | info   | <info>                                     | <ends>    |
      | images | a9s/operators:{version}\na9s/postgresql:15 | 0         |
    When I run `a9s create cluster a8s -p minikube --stack builtin --yes`
    Then the command fails with exit code 3
    And the reason is one clear sentence
    And standard error says "<cause>"
    And standard error says "<way out>"

    Examples:
      | what              | ends | cause                 | way out       | info                                                                                              |
      | it does not run   | 1    | does not answer       | systemctl     | Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running? |
      | too little memory | 0    | a cluster needs 2 GiB | --no-precheck | {"MemTotal": 1000000000, "CgroupVersion": "2", "DockerRootDir": "/"}                              |

  Scenario Outline: minikube: <what>
    Given a program "minikube" that answers:
      | asked        | says          | exit code |
      | version      | <version>     | 0         |
      | config get   | <driver>      | <set>     |
      | profile list | {"valid": []} | 0         |
      | start        | X <says>      | 81        |
    And a program "docker" that answers:
      | asked         | says                                       | exit code |
      | info          | Cannot connect to the Docker daemon at     | 1         |
      | images        | a9s/operators:{version}\na9s/postgresql:15 | 0         |
      | image inspect | sha256:1                                   | 0         |
    When I run `a9s create cluster a8s -p minikube --stack builtin --yes`
    Then the command fails with exit code <code>
    And the reason is one clear sentence
    And standard error says "<cause>"

    Examples:
      | what                                       | code | version | driver | set | says                                         | cause                                                |
      | it is too old                              | 3    | v1.9.2  | docker | 0   |                                              | minikube 1.9.2 is too old: at least 1.30.0 is needed |
      | with a driver of its own, Docker is spared | 1    | v1.36.0 | kvm2   | 0   | Exiting due to RSRC_INSUFFICIENT_CORES: none | INSUFFICIENT_CORES                                   |
      | without a driver, Docker is not needed     | 3    | v1.36.0 |        | 14  | Exiting due to DRV_NOT_HEALTHY: no driver    | minikube cannot start: DRV_NOT_HEALTHY: no driver    |
      | its driver has too little memory           | 3    | v1.36.0 | kvm2   | 0   | Exiting due to RSRC_INSUFFICIENT_REQ_MEMORY: | INSUFFICIENT_REQ_MEMORY                              |
      | its driver has too little disk             | 3    | v1.36.0 | kvm2   | 0   | Exiting due to RSRC_DOCKER_STORAGE: full     | minikube cannot start: RSRC_DOCKER_STORAGE: full     |
      | its image is nowhere                       | 3    | v1.36.0 | kvm2   | 0   | Exiting due to INET_CACHE_KUBECTL: away      | minikube cannot start: INET_CACHE_KUBECTL: away      |
