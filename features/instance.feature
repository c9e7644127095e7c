@core
Feature: Instances
  An instance is a PostgreSQL server of its own, reached as any Kubernetes client would reach it.

  Background:
    Given a cluster with the a8s stack

  @smoke
  Scenario: An instance is there when the command says so
    When I create an instance "solo"
    Then the command succeeds
    And standard output says "The solo system appears to be ready. All expected pods are running."
    And the instance "solo" is ready
    And "solo" has exactly one primary
    And "solo" answers "SELECT 1" with "1"
    And "solo" refuses a wrong password

  @smoke @embedded-only
  Scenario: Nobody gets in without TLS
    Given an instance "solo"
    Then "solo" refuses a connection without TLS

  @full @kubectl
  Scenario: A client that knows no TLS gets in through a port-forward
    Given an instance "solo"
    And a port-forward to "solo"
    Then through the port-forward a client gets in without TLS

  @smoke @namespace
  Scenario: An instance in a namespace of its own
    Given a namespace "shop"
    When I create an instance "solo" in the namespace "shop"
    Then the command succeeds
    And the instance "solo" in the namespace "shop" is ready
    And there is no instance "solo"
    When I apply the statement "CREATE TABLE carts (n int); INSERT INTO carts VALUES (3)" to "solo" in the namespace "shop"
    Then the command succeeds
    And "solo" in the namespace "shop" answers "SELECT n FROM carts" with "3"
    When I delete the instance "solo" in the namespace "shop"
    Then the command succeeds
    And standard output says "Service instance solo successfully deleted from namespace {namespace}-shop."

  @full @namespace
  Scenario: One name in two namespaces is two instances with two manifests
    Given a namespace "shop"
    And an instance "solo"
    And an instance "solo" in the namespace "shop"
    And the table "here" of "solo" holds "mine"
    When I apply the statement "SELECT * FROM here" to "solo" in the namespace "shop"
    Then the command fails with exit code 1
    And standard error says "here"
    And there are 2 manifests

  @smoke
  Scenario: Deleting an instance, and deleting it again
    Given an instance "solo"
    When I delete the instance "solo"
    Then the command succeeds
    And standard output says "Service instance solo successfully deleted from namespace {namespace}."
    And there is no instance "solo"
    And nothing of the instance "solo" is left
    When I delete the instance "solo"
    Then the command succeeds
    And standard error says "Can't delete service instance. Service instance solo doesn't exist in namespace {namespace}!"

  @full @needs-audit
  Scenario: Deleting an instance that was deleted sends no changing request
    Given an instance "solo"
    When I delete the instance "solo"
    And that has worked
    And I delete the instance "solo"
    Then the command succeeds
    And the program has sent no changing request

  @kubectl
  Scenario: Deleting waits for what belongs to the instance
    Given an instance "solo"
    When I run `kubectl patch service solo-master --type merge -p '{"metadata":{"finalizers":["example.com/hold"]}}'`
    And I run `a9s delete pg instance --name solo --yes --timeout 2s`
    Then the command fails with exit code 4
    And standard error says "solo-master"
    When I run `a9s create pg backup --name late -i solo --yes`
    Then it ends with the finding "no-instance"
    And standard error says "Can't create backup for non-existing service instance solo in namespace {namespace}: it is being deleted"
    When I run `kubectl patch service solo-master --type merge -p '{"metadata":{"finalizers":null}}'`
    And I delete the instance "solo"
    Then the command succeeds
    And nothing of the instance "solo" is left

  @full @builtin @kubectl
  Scenario: A deletion that is held up says what it waits for
    Given an instance "idle" with `--replicas 0`
    When I run `kubectl patch service idle-master --type merge -p '{"metadata":{"finalizers":["example.com/hold"]}}'`
    And I run `kubectl delete pg idle --wait=false`
    Then the status of "idle" soon says "the deletion waits for the end of Service idle-master"
    When I run `kubectl patch service idle-master --type merge -p '{"metadata":{"finalizers":null}}'`
    Then nothing of the instance "idle" is left

  @full @kubectl
  Scenario: A Lease of somebody else stays when an instance of its name goes
    Given the object:
      """
      apiVersion: coordination.k8s.io/v1
      kind: Lease
      metadata: {name: idle}
      spec: {holderIdentity: somebody}
      """
    And an instance "idle" with `--replicas 0`
    When I delete the instance "idle"
    Then the command succeeds
    And there is no instance "idle"
    And the lease "idle" has these values:
      | field                | value    |
      | /spec/holderIdentity | somebody |

  @full @builtin @kubectl
  Scenario: An instance that is deleted without what it owns leaves its server and its data
    Given an instance "solo"
    When I run `kubectl delete pg solo --cascade=orphan --timeout=60s`
    Then the command succeeds
    And there is no instance "solo"
    And the statefulset "solo" has these values:
      | field                 | value |
      | /status/readyReplicas | 1     |
    # Nobody else would take the finalizer off these.
    When I run `kubectl delete secret postgres.credentials.solo standby.credentials.solo --timeout=60s`
    Then the command succeeds
    When I run `kubectl delete sts solo --cascade=foreground --timeout=150s`
    Then the command succeeds
    And the persistentvolumeclaim "pgdata-solo-0" has these values:
      | field         | value |
      | /status/phase | Bound |

  @full
  Scenario: A name is not a prefix
    Given an instance "a-1"
    And an instance "a-10"
    And the table "mine" of "a-1" holds "of a-1"
    When I delete the instance "a-1"
    Then the command succeeds
    And the instance "a-10" is ready
    And there is no instance "a-1"
    When I apply the statement "SELECT 1" to "a-1"
    Then the command fails with exit code 3
    And standard error does not say "a-10"

  @full
  Scenario: What the program says about one instance never mentions another's pods
    Given an instance "solo-2"
    When I create an instance "solo"
    Then the command succeeds
    And standard output does not say "solo-2"
    And standard error does not say "solo-2"

  @needs-audit
  Scenario: What would be done
    When I create an instance "solo" with `--dry-run`
    Then the command succeeds
    And there is no instance "solo"
    And the program has sent no changing request

  Scenario: A server that cannot run ends the wait within seconds
    When I create an instance "tiny" with `--limits-memory 1Mi`
    Then the command fails with exit code 1
    And it took less than 30 seconds
    And standard error says "tiny-0"
    And the reason is one clear sentence

  @full @negative
  Scenario Outline: More <what> than any node has
    When I create an instance "huge" with `<flags> --timeout 5s`
    Then the command fails with exit code 4
    And standard error says "the pod huge-0 has no node"
    And standard error says "<reason>"
    And the reason is one clear sentence
    When I delete the instance "huge"
    Then the command succeeds
    And nothing of the instance "huge" is left

    Examples:
      | what       | flags                                            | reason              |
      | processors | --requests-cpu 99999999999                       | Insufficient cpu    |
      | memory     | --limits-memory 4Ei                              | Insufficient memory |

  @full @embedded-only
  Scenario: A limit that no machine reaches is no reason to take all of it
    When I POST this to `/apis/postgresql.anynines.com/v1beta3/namespaces/{namespace}/postgresqls` as `application/json`:
      """
      {"apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql", "metadata": {"name": "free"},
       "spec": {"version": 15, "volumeSize": "1Gi",
        "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"memory": "8Ei"}}}}
      """
    Then the command succeeds
    And "free" soon answers "SELECT 1" with "1"
    And the instance "free" is ready

  @full
  Scenario: Sizes and settings of the spec are the server's
    Given an instance "sized" with `--limits-memory 0.3125Gi --volume-size 2048Mi`
    Then the server of "sized" shows these settings:
      | setting                   | value   |
      | shared_buffers            | 64MB    |
      | max_connections           | 100     |
      | max_locks_per_transaction | 100     |
      | max_wal_senders           | 10      |
      | max_replication_slots     | 10      |
      | wal_writer_delay          | 200ms   |
      | ssl                       | on      |
      | ssl_min_protocol_version  | TLSv1.2 |
      | password_encryption       | scram-sha-256 |
      | fsync                     | on      |
      | synchronous_commit        | on      |
      | statement_timeout         | 0       |
      | log_statement             | none    |
    And the persistentvolumeclaim "pgdata-sized-0" has these values:
      | field                            | value |
      | /spec/resources/requests/storage | 2Gi   |
      | /status/phase                    | Bound |

  @full
  Scenario: The roles and the database that applications expect are there
    Given an instance "solo"
    Then "solo" answers "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'a9s_user'" with "f"
    And "solo" answers "SELECT rolreplication FROM pg_roles WHERE rolname = 'standby'" with "t"
    And "solo" answers "SELECT current_database()" with "a9s_apps_default_db"
    And "solo" answers "SELECT count(*) FROM pg_database WHERE datname = 'postgres'" with "1"

  @embedded-only
  Scenario Outline: The <process> of an instance is killed
    Given an instance "solo"
    And the table "kept" of "solo" holds "committed"
    When the <process> of "solo" is killed
    Then <sign>
    And "solo" answers "SELECT value FROM kept" with "committed"
    And the instance "solo" is ready
    And the server of "solo" does not run as root

    Examples:
      | process    | sign                                                             |
      | postmaster | "solo" soon answers "SELECT 1" with "1"                          |
      | agent      | a container of "solo" has been restarted within 30 seconds       |

  @full
  Scenario: The pod of an instance is deleted
    Given an instance "solo"
    And the table "kept" of "solo" holds "committed"
    When the pod of "solo" is deleted
    Then "solo" answers "SELECT value FROM kept" with "committed"
    And the instance "solo" is ready
    And "solo" has exactly one primary

  @full @kubectl @builtin
  Scenario: The StatefulSet of an instance is deleted, and its rows stay
    Given an instance "solo"
    And the table "kept" of "solo" holds "committed"
    When I run `kubectl delete sts solo --cascade=foreground`
    Then the command succeeds
    And "solo" soon answers "SELECT value FROM kept" with "committed"
    When I delete the instance "solo"
    Then the command succeeds
    And nothing of the instance "solo" is left

  @full @negative @kubectl @builtin
  Scenario: What a StatefulSet of somebody else has is not said of an instance
    Given an instance "solo"
    And the table "kept" of "solo" holds "committed"
    When I run `kubectl patch sts solo --type json -p '[{"op":"remove","path":"/metadata/ownerReferences"}]'`
    And I run `kubectl annotate pg solo look=again`
    Then the status of "solo" soon says "that does not belong to this instance"
    And the postgresql "solo" has these values:
      | field                 | value      |
      | /status/clusterStatus | NotRunning |
      | /status/readyReplicas | 0          |
    When I run `kubectl delete sts solo --cascade=foreground`
    Then the command succeeds
    And the instance "solo" is ready
    And "solo" answers "SELECT value FROM kept" with "committed"

  @full @kubectl
  Scenario: Other resources reach the server, and its rows stay
    Given an instance "solo"
    And the table "kept" of "solo" holds "committed"
    When I run `kubectl patch pg solo --type merge -p '{"spec":{"resources":{"requests":{"cpu":"50m"},"limits":{"memory":"240Mi"}}}}'`
    Then the command succeeds
    And the statefulset "solo" soon has these values:
      | field                                                     | value |
      | /spec/template/spec/containers/0/resources/requests/cpu   | 50m   |
      | /spec/template/spec/containers/0/resources/limits/memory  | 240Mi |
    And the pod "solo-0" soon has these values:
      | field                                       | value |
      | /spec/containers/0/resources/requests/cpu   | 50m   |
      | /spec/containers/0/resources/limits/memory  | 240Mi |
    And the server of "solo" shows these settings:
      | setting        | value |
      | shared_buffers | 48MB  |
    And "solo" soon answers "SELECT value FROM kept" with "committed"
    And the instance "solo" is ready

  @full
  Scenario Outline: An instance is ready when its members have what was asked for: <what>
    Given an instance "solo"
    When I create an instance "solo" with `<flag>`
    Then the command succeeds
    And the pod "solo-0" has these values:
      | field                           | value   |
      | /spec/containers/0/<where>      | <value> |
    And the instance "solo" is ready
    When I run it again
    Then the command succeeds
    And standard output says "Nothing had to be changed."

    Examples:
      | what   | flag                  | where                   | value |
      | CPU    | --requests-cpu 60m    | resources/requests/cpu  | 60m   |
      | memory | --limits-memory 160Mi | resources/limits/memory | 160Mi |

  @full
  Scenario: What is not said of an instance that is there stays as it is
    Given an instance "solo" with `--limits-memory 150Mi --requests-cpu 50m`
    When I run `a9s create pg instance --name solo --yes`
    Then the command succeeds
    And standard output says "Nothing had to be changed."
    When I run `a9s create pg instance --name solo --replicas 2 --yes`
    Then the command succeeds
    And the postgresql "solo" has these values:
      | field                           | value |
      | /spec/replicas                  | 2     |
      | /spec/resources/limits/memory   | 150Mi |
      | /spec/resources/requests/cpu    | 50m   |
      | /spec/volumeSize                | 1Gi   |

  @full
  Scenario: An instance of no members does not run, and has its rows when it has one again
    Given an instance "solo"
    And the table "kept" of "solo" holds "committed"
    When I scale "solo" to 0 members
    Then "solo" soon has no member
    And the postgresql "solo" soon has these values:
      | field                 | value      |
      | /spec/replicas        | 0          |
      | /status/clusterStatus | NotRunning |
      | /status/readyReplicas | 0          |
    When I scale "solo" to 1 members
    Then the instance "solo" is ready
    And "solo" answers "SELECT value FROM kept" with "committed"

  @kubectl @builtin
  Scenario: A strict version is not replaced by another
    When I create an instance "old" with `--service-version 13 --strict-version`
    Then the command fails with exit code 3
    And there is no instance "old"
    And the reason is one clear sentence
    When I run `a9s create pg instance --name old --service-version 13 --strict-version --no-apply --yes`
    Then the command succeeds
    And there is no instance "old"
    When I run `kubectl apply -f {home}/a9s/usermanifests/{namespace}/a8s-pg-instance-old.yaml`
    Then the command succeeds
    And the status of "old" soon says "PostgreSQL 13"

  @negative
  Scenario: A deadline that passes is said, with what was awaited
    When I create an instance "late" with `--timeout 50ms`
    Then the command fails with exit code 4
    And standard error says "late"
    And the reason is one clear sentence

  @negative
  Scenario: An interrupted command says so, and another run finishes its work
    When I run `a9s create pg instance --name solo --yes` and interrupt it while it waits
    Then the command fails with exit code 130
    And standard error says "interrupted while trying to wait for the instance solo to become ready [interrupted]"
    And standard error says "Run the same command again to go on."
    When I create an instance "solo"
    Then the command succeeds
    And "solo" answers "SELECT 1" with "1"

  @full @embedded-only
  Scenario: A command that nohup has started outlives its terminal
    When I run `a9s create pg instance --name solo --yes` with nohup, and its terminal is closed while it waits
    Then the command succeeds
    And "solo" answers "SELECT 1" with "1"

  @full @builtin
  Scenario: An instance that cannot start does not say that it runs
    When I POST this to `/apis/postgresql.anynines.com/v1beta3/namespaces/{namespace}/postgresqls` as `application/json`:
      """
      {"apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql", "metadata": {"name": "tiny"},
       "spec": {"version": 15, "volumeSize": "1Gi", "resources": {"limits": {"memory": "2Mi"}}}}
      """
    Then the command succeeds
    And the pod "tiny-0" waits with the reason "CrashLoopBackOff"
    And the postgresql "tiny" has these values:
      | field                 | value      |
      | /status/clusterStatus | NotRunning |
      | /status/readyReplicas | 0          |

  @full @negative @builtin
  Scenario Outline: Parameters with which the server could not start: <what>
    Given an instance "solo"
    When I change the parameters of "solo":
      | parameter   | value   |
      | <parameter> | <value> |
    And the pod of "solo" is deleted
    Then the status of "solo" soon says "<why>"
    And "solo" answers "SHOW max_connections" with "100"
    When I change the parameters of "solo":
      | parameter   | value  |
      | <parameter> | <good> |
    Then the status of "solo" soon has no error
    And "solo" answers "SELECT 1" with "1"

    Examples:
      | what                    | parameter      | value      | good                         | why                                   |
      | more than there is room | maxConnections | 262143     | 100                          | the memory limit of                   |
      | ciphers that are none   | sslCiphers     | "nonsense" | "HIGH:MEDIUM:+3DES:!aNULL"   | does not start with its parameters    |

  @full @negative @kubectl
  Scenario: What an instance cannot become
    Given an instance "grown" with `--replicas 2 --volume-size 2Gi --service-version 13`
    When I run `kubectl patch pg grown --type merge -p '{"spec":{"volumeSize":"1Gi"}}'`
    Then the command fails
    And standard error says "cannot be decreased from 2Gi to 1Gi"
    When I run `kubectl patch pg grown --type merge -p '{"spec":{"replicas":1}}'`
    Then the command fails
    And standard error says "cannot be decreased from 2 to 1"
    When I run `kubectl scale pg grown --replicas 1`
    Then the command fails
    And standard error says "cannot be decreased from 2 to 1"
    When I run `kubectl patch pg grown --type merge -p '{"spec":{"version":14}}'`
    Then the command fails
    And standard error says "cannot be changed from 13 to 14"
    When I run `kubectl patch pg grown --type merge -p '{"spec":{"replicas":-3}}'`
    Then the command fails
    And standard error says "spec.replicas"
    When I run `kubectl patch pg grown --type json -p '[{"op":"remove","path":"/spec"}]'`
    Then the command fails
    And standard error says "cannot be removed"
    When I run `kubectl label pg grown a8s.a9s/dsi-name=other`
    Then the command fails
    And standard error says "reserved label keys"
    # All that is wrong with a change is said at once.
    When I run `kubectl patch pg grown --type merge -p '{"metadata":{"labels":{"a8s.a9s/dsi-name":"x"}},"spec":{"volumeSize":"1Gi","replicas":1,"version":14}}'`
    Then the command fails
    And standard error says "cannot be decreased from 2Gi to 1Gi"
    And standard error says "cannot be decreased from 2 to 1"
    And standard error says "cannot be changed from 13 to 14"
    And standard error says "reserved label keys"
    And the instance "grown" is ready
    When I run `kubectl get pg grown -o jsonpath={.spec.replicas},{.spec.volumeSize},{.spec.version}`
    Then standard output is "2,2Gi,13"

  @full @negative @kubectl @builtin
  Scenario: An instance whose name no Service can bear says so, and can be deleted
    When I apply the object:
      """
      apiVersion: postgresql.anynines.com/v1beta3
      kind: Postgresql
      metadata: {name: half.way}
      spec: {version: 15, replicas: 0}
      """
    Then the status of "half.way" soon says "half.way-master"
    When I run `kubectl delete pg half.way --timeout=60s`
    Then the command succeeds
    And nothing of the instance "half.way" is left

  @full @kubectl
  Scenario Outline: A Secret whose owner went before it could hold it goes, too: of a <kind>
    When I apply the object:
      """
      apiVersion: v1
      kind: Secret
      metadata:
        name: left-behind
        labels: <labels>
        finalizers: [<finalizer>]
        ownerReferences:
          - {apiVersion: <group>/v1beta3, kind: <kind>, name: gone, uid: 6a8e1f0c-0000-4000-8000-000000000000, controller: true}
      """
    Then there is no secret "left-behind" soon

    Examples:
      | kind           | group                        | labels                         | finalizer                                  |
      | Postgresql     | postgresql.anynines.com      | {a8s.a9s/dsi-kind: Postgresql} | a8s.anynines.com/postgresql.operator       |
      | ServiceBinding | servicebindings.anynines.com | {service-binding: "true"}      | a8s.anynines.com/servicebinding.controller |
