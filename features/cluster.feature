@cluster @embedded-only
Feature: Clusters
  A developer gets a Kubernetes cluster with the a8s stack from one command, and gets rid of it with another.

  @smoke
  Scenario: From an empty home to rows, and back to nothing
    Given an empty home and no cluster
    When I create a cluster
    Then the command succeeds
    And standard output says "You are now ready to create a8s Postgres service instances."
    And the cluster answers
    And the current context is "a9s-a8s"
    And standard error says "write the context a9s-a8s to {kubeconfig}: it is there, and the current one"
    And only its owner may read the file "{kubeconfig}"
    And there is a file ".a9s"
    When I create an instance "solo"
    Then the command succeeds
    And standard output says "The solo system appears to be ready. All expected pods are running."
    And the instance "solo" is ready
    When I apply the statement "CREATE TABLE t (n int); INSERT INTO t VALUES (42)" to "solo"
    Then the command succeeds
    And "solo" answers "SELECT n FROM t" with "42"
    When I delete the cluster
    Then the command succeeds
    And nothing of the cluster is left

  @core
  Scenario: Without any flag, without a terminal, in an empty home
    Given an empty home and no cluster
    When I run `a9s create cluster a8s`
    Then the command succeeds
    And the cluster answers
    And the pods of the stack are running

  @core
  Scenario: Creating what is there changes nothing, and a question that nobody can answer is answered with no
    Given a cluster of its own
    When I create a cluster
    Then the command succeeds
    And the program has sent no changing request
    And the cluster answers
    When I run `a9s create stack a8s --yes`
    Then the command succeeds
    And the program has sent no changing request
    When I run `a9s delete cluster a8s -c a8s`
    Then the command fails
    And the cluster answers

  @full
  Scenario: A cluster of another name, with its context in another file
    Given an empty home and no cluster
    When I run `a9s create cluster -p embedded -c own a8s --kubeconfig own.yaml --timeout 5m --yes`
    Then the command succeeds
    And the file "own.yaml" says "a9s-own"
    And there is no file ".kube/config"
    When I run `a9s cluster list -p embedded`
    Then standard output says "own"
    When I run `a9s cluster stop -c own --dry-run`
    Then standard output says "(to do"
    When I run `a9s cluster stop -c own --timeout 1m --yes`
    Then the command succeeds
    And standard output says "The Kubernetes Cluster own has been stopped."
    When I run `a9s cluster start -p embedded -c own --kubeconfig other.yaml --timeout 5m --dry-run`
    Then standard output says "(to do"
    And there is no file "other.yaml"
    When I run `a9s cluster start -p embedded -c own --kubeconfig other.yaml --timeout 5m --yes`
    Then the command succeeds
    And standard output says "The Kubernetes Cluster own has been started."
    And the file "other.yaml" says "a9s-own"
    When I run `a9s delete cluster -p embedded a8s -c own --kubeconfig other.yaml --timeout 1m --dry-run`
    Then the file "other.yaml" says "a9s-own"
    When I run `a9s delete cluster -p embedded a8s -c own --kubeconfig other.yaml --timeout 1m --yes`
    Then the command succeeds
    And there is no file "{state}/own"
    And the file "own.yaml" says "a9s-own"

  @core
  Scenario: Deleting a cluster that does not exist
    Given an empty home and no cluster
    When I delete the cluster
    Then the command succeeds
    And standard output says "There's nothing to be done."

  @core
  Scenario: Stopped and started, a cluster has everything it had
    Given a cluster of its own
    And an instance "solo"
    And the table "kept" of "solo" holds "before the stop"
    When I stop the cluster
    Then the command succeeds
    When I run `a9s cluster status`
    Then standard output says "stopped"
    When I start the cluster
    Then the command succeeds
    And "solo" answers "SELECT value FROM kept" with "before the stop"
    And the instance "solo" is ready

  @core
  Scenario: The cluster's process is killed between a write and a read
    Given a cluster of its own
    And an instance "solo"
    And the table "kept" of "solo" holds "before the kill"
    When the cluster's process is killed
    And I start the cluster
    Then the command succeeds
    And "solo" answers "SELECT value FROM kept" with "before the kill"
    And the instance "solo" is ready

  @full
  Scenario: A cluster that is still on its way to its end is started again
    Given a cluster of its own
    And an instance "solo"
    And the table "kept" of "solo" holds "before"
    When the cluster's process is asked to end
    And I start the cluster
    Then the command succeeds
    And the cluster answers
    And "solo" answers "SELECT value FROM kept" with "before"

  @full @kubectl
  Scenario: The cluster's process is killed while a pod is being deleted
    Given a cluster of its own
    And the object:
      """
      apiVersion: v1
      kind: Pod
      metadata: {name: slow}
      spec:
        terminationGracePeriodSeconds: 60
        containers:
          - {name: slow, image: "a9s/postgresql:15", command: [sh, -c, "trap '' TERM; sleep 8"]}
      """
    When I run `kubectl wait --for=condition=Ready pod/slow --timeout=30s`
    Then the command succeeds
    When I run `kubectl delete pod slow --wait=false`
    And the cluster's process is killed
    And I start the cluster
    Then the command succeeds
    When I run `kubectl wait --for=delete pod/slow --timeout=30s`
    Then the command succeeds

  Scenario: Creating a cluster whose process was killed starts it again
    Given a cluster of its own
    And an instance "solo"
    And the table "kept" of "solo" holds "before the kill"
    And the cluster's process has been killed
    When I create a cluster
    Then the command succeeds
    And "solo" answers "SELECT value FROM kept" with "before the kill"

  @core
  Scenario: A killed cluster can be deleted, and nothing is left
    Given a cluster of its own
    And an instance "solo"
    And the cluster's process has been killed
    When I delete the cluster
    Then the command succeeds
    And nothing of the cluster is left
    And there is a file ".a9s"
    And there is a file "a9s/usermanifests"
    And there is a file "a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password"
    And only its owner may read the file "a9s/a8s-deployment/deploy/a8s/backup-config/encryption-password"

  @core @kubectl
  Scenario Outline: Where no context is selected, the one that is written is: <command>
    Given a cluster of its own
    And the variable "KUBECONFIG" is "{home}/empty.yaml:{home}/<other>"
    And the file "nothing.yaml" with:
      """
      {apiVersion: v1, kind: Config}
      """
    And the file "theirs.yaml" with:
      """
      {apiVersion: v1, kind: Config, current-context: theirs, contexts: [{name: theirs, context: {cluster: c, user: u}}]}
      """
    When I run `a9s <command> --yes`
    Then the command succeeds
    And the file "empty.yaml" says "name: a9s-a8s"
    When I run `kubectl config current-context`
    Then standard output says "<current>"

    Examples:
      | command            | other        | current |
      | create cluster a8s | nothing.yaml | a9s-a8s |
      | cluster start      | nothing.yaml | a9s-a8s |
      | create cluster a8s | theirs.yaml  | theirs  |

  @full
  Scenario: Two clusters side by side
    Given a cluster named "one"
    And a cluster named "two"
    Then the kubeconfig has the context "a9s-one"
    And the kubeconfig has the context "a9s-two"
    And the current context is "a9s-two"
    When I run `a9s create pg instance --name solo --context a9s-one --yes`
    Then the command succeeds
    And there is no instance "solo"
    When I run `a9s cluster list`
    Then standard output says "one"
    And standard output says "two"
    When I delete the cluster named "two"
    Then the command succeeds
    And the kubeconfig says nothing of "a9s-two"
    When I run `a9s pg apply -i solo --context a9s-one --sql 'SELECT 7*6' --yes`
    Then the command succeeds
    And standard output says "42"

  @full @kubectl @process
  Scenario: Another context becomes the current one while commands run
    Given a cluster named "one"
    And a cluster named "two"
    When I run `kubectl config use-context a9s-one`
    And I run `a9s create pg instance --name solo --yes`, and once it waits `kubectl config use-context a9s-two` is run
    Then the command succeeds
    And there is no instance "solo"
    When I run `a9s list pg instances`
    Then standard output says "There are no instances in the namespace default."
    When I run `a9s list pg instances --context a9s-one`
    Then standard output says "solo"
    When I run `a9s delete stack a8s` in a terminal and type "n"
    Then the command fails with exit code 5
    And standard output says "from the cluster of the context a9s-two (https://"
    When I run `a9s pg kill -i solo --member primary --context a9s-one` in a terminal and type "n"
    Then the command fails with exit code 5
    And standard output says "killing a member of default/solo on the cluster of the context a9s-one (https://"
    Given the file "play.yaml" with:
      """
      name: faithful
      defaults: {service-instance: solo}
      steps:
        - pg apply: {sql: 'SELECT pg_sleep(3); CREATE TABLE once (n int)'}
        - pg apply: {sql: INSERT INTO once VALUES (1)}
      """
    When I run `kubectl config use-context a9s-one`
    And I run `a9s run play.yaml`, and once it says `run the SQL in the instance solo` `kubectl config use-context a9s-two` is run
    Then it ends with the finding "playbook-elsewhere"
    And standard error says "faithful: line 5: earlier steps went to the current context a9s-one (https://"
    When I run `kubectl config use-context a9s-one`
    And I run `a9s run play.yaml --resume`
    Then the command succeeds
    And "solo" answers "SELECT count(*) FROM once" with "1"

  @full @kubectl @process
  Scenario: Another context becomes the current one while a question is to be answered
    Given a cluster named "one"
    And a cluster named "two"
    When I run `kubectl config use-context a9s-one`
    And I run `a9s create pg instance --name solo --yes`
    And I run `a9s pg kill -i solo --member primary` in a terminal, have `kubectl config use-context a9s-two` run once it asks, and type "y"
    Then the command succeeds
    And standard output says "killing a member of default/solo on the cluster of the context a9s-one (https://"
    And standard output says "Killed the pod solo-0"
    And the current context is "a9s-two"
    When I run `kubectl config use-context a9s-one`
    And I run `a9s delete stack a8s` in a terminal, have `kubectl config use-context a9s-two` run once it asks, and type "y y"
    Then the command succeeds
    And standard output says "from the cluster of the context a9s-one (https://"
    And standard output says "The a8s stack has been removed from a9s-one."
    And the current context is "a9s-two"
    When I run `kubectl config use-context a9s-one`
    And I run `a9s create stack a8s --backup-provider AWS --backup-store-accesskey id` in a terminal, have `kubectl config use-context a9s-two` run once it asks, and type "key"
    Then the command succeeds
    And standard output says "Found the Kubernetes Cluster of the context a9s-one."
    And the current context is "a9s-two"

  @core
  Scenario: Clusters created at once
    Given an empty home and no cluster
    When I create the clusters "one", "two" and "three" at once
    Then every command succeeds
    And the kubeconfig has the context "a9s-one"
    And the kubeconfig has the context "a9s-two"
    And the kubeconfig has the context "a9s-three"

  @full
  Scenario: With --all, generated files and the configuration go too
    Given a cluster of its own
    And an instance "solo"
    When I delete the cluster and everything that was generated for it
    Then the command succeeds
    And nothing of the cluster is left
    And there is no file ".a9s"
    And there is no file "a9s/usermanifests"

  Scenario: Other entries of the kubeconfig stay as they are
    Given an empty home and no cluster
    And the file ".kube/config" with:
      """
      apiVersion: v1
      kind: Config
      current-context: work
      clusters:
      - name: work
        cluster: {server: "https://192.0.2.1:6443", proxy-url: "http://192.0.2.2:3128"}
      contexts:
      - name: work
        context: {cluster: work, user: work}
      users:
      - name: work
        user: {token: not-a-real-token}
      x-somebody-elses-field: {keep: me}
      """
    When I create a cluster
    Then the command succeeds
    And the current context is "a9s-a8s"
    And the file ".kube/config" says "x-somebody-elses-field"
    And the file ".kube/config" says "http://192.0.2.2:3128"
    When I delete the cluster
    Then the command succeeds
    And the kubeconfig has the context "work"
    And the kubeconfig says nothing of "a9s-a8s"

  # The limit outlasts what the liveness probe of the pod bears.
  @full @kubectl
  Scenario: A cluster that may open no more files for a while ends nobody, and is there again
    Given a cluster of its own
    And an instance "solo"
    And the table "kept" of "solo" holds "before"
    And the object:
      """
      apiVersion: v1
      kind: Pod
      metadata: {name: probed-0}
      spec:
        containers:
          - name: probed
            image: "a9s/postgresql:15"
            command: [perl, -MIO::Socket::INET, -e]
            args: ["my $here = IO::Socket::INET->new(Listen => 5, LocalAddr => $ENV{POD_IP}, LocalPort => 8008) or die $!; 1 while $here->accept"]
            env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
            readinessProbe: {tcpSocket: {port: 8008}, periodSeconds: 1}
            livenessProbe: {tcpSocket: {port: 8008}, periodSeconds: 1, failureThreshold: 3}
      """
    When I run `kubectl wait --for=condition=Ready pod/probed-0 --timeout=30s`
    Then the command succeeds
    When the cluster's process may open no more files
    And I run `a9s pg status solo`
    Then it ends with the finding "cluster-unreachable"
    When 10 seconds have passed
    And the cluster's process may open files again
    Then "solo" answers "SELECT value FROM kept" with "before"
    And the instance "solo" is ready
    And no container of "solo" has been restarted
    And no container of "probed" has been restarted
    And the file "{state}/a8s/cluster.log" says "api::server: cannot accept a connection" once

  @full @root
  Scenario: The user of the servers may have no more processes for a while
    Given a cluster of its own
    When the user of the servers may have no more processes
    And I create an instance "solo"
    Then it ends with the finding "crash-loop"
    And standard error says "has as many processes as its limit (ulimit -u) allows"
    When the user of the servers may have more processes again
    Then the instance "solo" is ready
