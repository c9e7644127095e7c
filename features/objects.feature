@core
Feature: The objects of an instance
  Programs written against the released operators find the objects, labels and events they count on.

  Background:
    Given a cluster with the a8s stack
    And an instance "solo"

  @k8s-1.25 @builtin
  Scenario: Exactly the objects of the reference
    Then the namespace has exactly these objects:
      | kind                  | name                      |
      | postgresql            | solo                      |
      | statefulset           | solo                      |
      | pod                   | solo-0                    |
      | service               | solo-master               |
      | service               | solo-patroni              |
      | endpoints             | solo-master               |
      | endpoints             | solo-patroni              |
      | lease                 | solo                      |
      | persistentvolumeclaim | pgdata-solo-0             |
      | secret                | postgres.credentials.solo |
      | secret                | standby.credentials.solo  |
      | serviceaccount        | solo                      |
      | rolebinding           | solo                      |
      | role                  | solo:agent                |
      | rolebinding           | solo:agent                |
      | configmap             |                           |

  Scenario: What the objects of the reference say
    Then the statefulset "solo" has these values:
      | field                            | value      |
      | /metadata/ownerReferences/0/kind | Postgresql |
      | /metadata/ownerReferences/0/name | solo       |
    And the service "solo-master" has these values:
      | field                            | value      |
      | /metadata/ownerReferences/0/kind | Postgresql |
      | /metadata/ownerReferences/0/name | solo       |
    And the secret "postgres.credentials.solo" has these values:
      | field                            | value      |
      | /metadata/ownerReferences/0/kind | Postgresql |
      | /metadata/ownerReferences/0/name | solo       |
    And the service "solo-master" has these values:
      | field                  | value      |
      | /spec/type             | ClusterIP  |
      | /spec/ports/0/name     | postgresql |
      | /spec/ports/0/port     | 5432       |
      | /spec/ports/0/protocol | TCP        |
      | /spec/ports/1          | null       |
    And the service "solo-patroni" has these values:
      | field              | value   |
      | /spec/ports/0/name | patroni |
      | /spec/ports/0/port | 8008    |
      | /spec/ports/1      | null    |
    And the secret "postgres.credentials.solo" has these values:
      | field          | value        |
      | /immutable     | true         |
      | /type          | Opaque       |
      | /data/username | cG9zdGdyZXM= |
    And the secret "standby.credentials.solo" has these values:
      | field          | value        |
      | /immutable     | true         |
      | /type          | Opaque       |
      | /data/username | c3RhbmRieQ== |
    And the rolebinding "solo" has these values:
      | field               | value                     |
      | /roleRef/kind       | ClusterRole               |
      | /roleRef/name       | postgresql-spilo-role     |
      | /subjects/0/kind    | ServiceAccount            |
      | /subjects/0/name    | solo                      |
    And the statefulset "solo" has these values:
      | field                                                             | value         |
      | /spec/replicas                                                    | 1             |
      | /status/readyReplicas                                             | 1             |
      | /spec/template/spec/containers/0/name                             | postgres      |
      | /spec/template/spec/containers/1/name                             | backup-agent  |
      | /spec/template/spec/serviceAccountName                            | solo          |
      | /spec/template/spec/initContainers                                | null          |
      | /spec/template/metadata/annotations/prometheus.io~1port           | 9187          |
      | /spec/template/metadata/annotations/prometheus.io~1scrape         | true          |

  @full
  Scenario: Prometheus finds samples where the annotations of a pod tell it to look
    Then a scrape of the pod "solo-0" soon has these samples:
      | name                      | value |
      | pg_up                     | 1     |
      | pg_replication_is_replica | 0     |

  @full
  Scenario: Labels and selectors
    Then the statefulset "solo" has exactly these labels:
      | label             | value                    |
      | a8s.a9s/dsi-group | postgresql.anynines.com  |
      | a8s.a9s/dsi-kind  | Postgresql               |
      | a8s.a9s/dsi-name  | solo                     |
    And the statefulset "solo" has exactly these selectors:
      | label             | value                    |
      | a8s.a9s/dsi-group | postgresql.anynines.com  |
      | a8s.a9s/dsi-kind  | Postgresql               |
      | a8s.a9s/dsi-name  | solo                     |
    And the service "solo-master" has exactly these labels:
      | label                    | value                   |
      | a8s.a9s/dsi-group        | postgresql.anynines.com |
      | a8s.a9s/dsi-kind         | Postgresql              |
      | a8s.a9s/dsi-name         | solo                    |
      | a8s.a9s/replication-role | master                  |
    And the service "solo-patroni" has exactly these labels:
      | label             | value                    |
      | a8s.a9s/dsi-group | postgresql.anynines.com  |
      | a8s.a9s/dsi-kind  | Postgresql               |
      | a8s.a9s/dsi-name  | solo                     |
    And the service "solo-master" has exactly these selectors:
      | label                    | value                   |
      | a8s.a9s/dsi-group        | postgresql.anynines.com |
      | a8s.a9s/dsi-kind         | Postgresql              |
      | a8s.a9s/dsi-name         | solo                    |
      | a8s.a9s/replication-role | master                  |
    And the service "solo-patroni" has exactly these selectors:
      | label                    | value                   |
      | a8s.a9s/dsi-group        | postgresql.anynines.com |
      | a8s.a9s/dsi-kind         | Postgresql              |
      | a8s.a9s/dsi-name         | solo                    |
      | a8s.a9s/replication-role | master                  |

  Scenario: The seven events of a creation
    Then the instance "solo" has exactly these events:
      | reason  | message                                                               |
      | Created | Successfully created roleBinding                                      |
      | Created | Successfully created secret {namespace}/postgres.credentials.solo     |
      | Created | Successfully created secret {namespace}/standby.credentials.solo      |
      | Created | Successfully created service: {namespace}/solo-master                 |
      | Created | Successfully created service: {namespace}/solo-patroni                |
      | Created | Successfully created serviceAccount                                   |
      | Created | Successfully created statefulSet                                      |

  @full
  Scenario: The end of an instance is told once
    When I delete the instance "solo"
    Then the command succeeds
    And nothing of the instance "solo" is left
    And that the instance "solo" is gone is told once

  Scenario: Parameters change while the server runs, and restart it where they must
    When I change the parameters of "solo":
      | parameter      | value |
      | logStatement   | "all" |
      | maxConnections | 101   |
    Then the server of "solo" shows these settings:
      | setting         | value |
      | log_statement   | all   |
      | max_connections | 101   |
    And the instance "solo" has 2 events with the reason "Updated"
    And the first Updated event of "solo" says "Successfully updated the PostgreSQL configuration"
    And the instance "solo" is ready

  @full @kubectl @builtin
  Scenario: New parameters are told also where something of somebody else is in the way
    When I run `kubectl create service clusterip solo-replicas --tcp=5432`
    And I run `kubectl patch pg solo --type merge -p '{"spec":{"enableReadOnlyService":true}}'`
    Then the status of "solo" soon says "that does not belong to this instance"
    When I change the parameters of "solo":
      | parameter    | value |
      | logStatement | "all" |
    Then the server of "solo" shows these settings:
      | setting       | value |
      | log_statement | all   |
    And the instance "solo" has 1 events with the reason "Updated"

  # The size of the shared buffers follows from the memory limit, as in the released stack.
  @full
  Scenario: The defaults of all parameters are in the spec, and are the server's
    Then the postgresql "solo" has these values:
      | field                                   | value                    |
      | /spec/parameters/archiveTimeoutSeconds  | 0                        |
      | /spec/parameters/clientMinMessages      | notice                   |
      | /spec/parameters/logErrorVerbosity      | DEFAULT                  |
      | /spec/parameters/logMinErrorStatement   | error                    |
      | /spec/parameters/logMinMessages         | warning                  |
      | /spec/parameters/logStatement           | none                     |
      | /spec/parameters/maxConnections         | 100                      |
      | /spec/parameters/maxLocksPerTransaction | 100                      |
      | /spec/parameters/maxReplicationSlots    | 10                       |
      | /spec/parameters/maxWALSenders          | 10                       |
      | /spec/parameters/sharedBuffers          | 1024                     |
      | /spec/parameters/sslCiphers             | HIGH:MEDIUM:+3DES:!aNULL |
      | /spec/parameters/sslMinProtocolVersion  | TLSv1.2                  |
      | /spec/parameters/statementTimeoutMillis | 0                        |
      | /spec/parameters/synchronousCommit      | on                       |
      | /spec/parameters/tempFileLimitKiloBytes | -1                       |
      | /spec/parameters/trackIOTiming          | off                      |
      | /spec/parameters/walWriterDelayMillis   | 200                      |
    And the server of "solo" shows these settings:
      | setting                   | value                    |
      | archive_timeout           | 0                        |
      | client_min_messages       | notice                   |
      | log_error_verbosity       | default                  |
      | log_min_error_statement   | error                    |
      | log_min_messages          | warning                  |
      | log_statement             | none                     |
      | max_connections           | 100                      |
      | max_locks_per_transaction | 100                      |
      | max_replication_slots     | 10                       |
      | max_wal_senders           | 10                       |
      | shared_buffers            | 20MB                     |
      | ssl_ciphers               | HIGH:MEDIUM:+3DES:!aNULL |
      | ssl_min_protocol_version  | TLSv1.2                  |
      | statement_timeout         | 0                        |
      | synchronous_commit        | on                       |
      | temp_file_limit           | -1                       |
      | track_io_timing           | off                      |
      | wal_writer_delay          | 200ms                    |

  @full
  Scenario: All parameters at once reach the server
    When I change the parameters of "solo":
      | parameter              | value         |
      | archiveTimeoutSeconds  | 10            |
      | clientMinMessages      | "warning"     |
      | logErrorVerbosity      | "TERSE"       |
      | logMinErrorStatement   | "warning"     |
      | logMinMessages         | "notice"      |
      | logStatement           | "all"         |
      | maxConnections         | 101           |
      | maxLocksPerTransaction | 120           |
      | maxReplicationSlots    | 11            |
      | maxWALSenders          | 12            |
      | sharedBuffers          | 2048          |
      | sslCiphers             | "HIGH:!aNULL" |
      | sslMinProtocolVersion  | "TLSv1.3"     |
      | statementTimeoutMillis | 2147483647    |
      | synchronousCommit      | "local"       |
      | tempFileLimitKiloBytes | 1000          |
      | trackIOTiming          | "on"          |
      | walWriterDelayMillis   | 201           |
    Then the server of "solo" shows these settings:
      | setting                   | value        |
      | archive_timeout           | 10s          |
      | client_min_messages       | warning      |
      | log_error_verbosity       | terse        |
      | log_min_error_statement   | warning      |
      | log_min_messages          | notice       |
      | log_statement             | all          |
      | max_connections           | 101          |
      | max_locks_per_transaction | 120          |
      | max_replication_slots     | 11           |
      | max_wal_senders           | 12           |
      | shared_buffers            | 20MB         |
      | ssl_ciphers               | HIGH:!aNULL  |
      | ssl_min_protocol_version  | TLSv1.3      |
      | statement_timeout         | 2147483647ms |
      | synchronous_commit        | local        |
      | temp_file_limit           | 1000kB       |
      | track_io_timing           | on           |
      | wal_writer_delay          | 201ms        |
    And the instance "solo" has 2 events with the reason "Updated"
    And the instance "solo" is ready

  @full
  Scenario: A user's labels reach every object
    When I label the instance "solo" with "team=blue"
    Then the service "solo-master" soon has the label "team=blue"
    And the service "solo-patroni" soon has the label "team=blue"
    And the statefulset "solo" soon has the label "team=blue"
    And the secret "postgres.credentials.solo" soon has the label "team=blue"
    And the secret "standby.credentials.solo" soon has the label "team=blue"
    And the serviceaccount "solo" soon has the label "team=blue"
    And the rolebinding "solo" soon has the label "team=blue"
    And the pod "solo-0" soon has the label "team=blue"
    And the instance "solo" is ready
    And "solo" answers "SELECT 1" with "1"

  @full
  Scenario: A label that is changed, and one that is taken away, is so on every object
    When I label the instance "solo" with "team=blue"
    Then the pod "solo-0" soon has the label "team=blue"
    When I label the instance "solo" with "team=red"
    Then the service "solo-master" soon has the label "team=red"
    And the service "solo-patroni" soon has the label "team=red"
    And the statefulset "solo" soon has the label "team=red"
    And the secret "postgres.credentials.solo" soon has the label "team=red"
    And the secret "standby.credentials.solo" soon has the label "team=red"
    And the serviceaccount "solo" soon has the label "team=red"
    And the rolebinding "solo" soon has the label "team=red"
    And the pod "solo-0" soon has the label "team=red"
    And the statefulset "solo" has exactly these selectors:
      | label             | value                   |
      | a8s.a9s/dsi-group | postgresql.anynines.com |
      | a8s.a9s/dsi-kind  | Postgresql              |
      | a8s.a9s/dsi-name  | solo                    |
    When I take the label "team" off the instance "solo"
    Then the service "solo-master" soon has no label "team"
    And the service "solo-patroni" soon has no label "team"
    And the statefulset "solo" soon has no label "team"
    And the secret "postgres.credentials.solo" soon has no label "team"
    And the secret "standby.credentials.solo" soon has no label "team"
    And the serviceaccount "solo" soon has no label "team"
    And the rolebinding "solo" soon has no label "team"
    And the pod "solo-0" soon has no label "team"
    And "solo" soon answers "SELECT 1" with "1"
