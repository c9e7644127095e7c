@extension @core
Feature: Extensions, exposure and placement of an instance
  What the spec asks for is there, and what cannot be had is said.

  Background:
    Given a cluster with the a8s stack

  @full @kubectl
  Scenario: Extensions come and go with the spec
    Given an instance "solo"
    When I run `kubectl patch pg solo --type merge -p '{"spec":{"extensions":["hstore","uuid-ossp","pgcrypto"]}}'`
    Then the command succeeds
    And "solo" soon answers "SELECT string_agg(extname, ',' ORDER BY extname) FROM pg_extension" with "hstore,pgcrypto,plpgsql,uuid-ossp"
    And the postgresql "solo" has these values:
      | field                | value   |
      | /status/error        | null    |
      | /status/clusterStatus | Running |
    Given the table "boxes" of "solo" holds "x"
    And service bindings "app" to "solo"
    When as "app" the statement "CREATE TABLE boxed (h hstore); INSERT INTO boxed VALUES ('a=>1')" is run
    And I run `kubectl patch pg solo --type merge -p '{"spec":{"extensions":["pgcrypto"]}}'`
    Then "solo" soon answers "SELECT string_agg(extname, ',' ORDER BY extname) FROM pg_extension" with "hstore,pgcrypto,plpgsql"
    And as "app" the statement "SELECT h->'a' FROM boxed" answers "1"

  @full @kubectl
  Scenario: An instance is made with its extensions and settings
    When I apply the object:
      """
      apiVersion: postgresql.anynines.com/v1beta3
      kind: Postgresql
      metadata: {name: solo}
      spec:
        version: 13
        resources: {requests: {cpu: 100m}, limits: {memory: 100Mi}}
        extensions: [hstore, pgcrypto]
        parameters: {maxConnections: 101, logStatement: all}
      """
    Then "solo" soon answers "SELECT string_agg(extname, ',' ORDER BY extname) FROM pg_extension" with "hstore,pgcrypto,plpgsql"
    And the server of "solo" shows these settings:
      | setting         | value |
      | max_connections | 101   |
      | log_statement   | all   |
    And the instance "solo" is ready
    And the instance "solo" has 7 events with the reason "Created"

  @full @kubectl @builtin
  Scenario: An extension that the host does not have is named, and nothing else breaks
    Given an instance "solo"
    When I run `kubectl patch pg solo --type merge -p '{"spec":{"extensions":["postgis","ltree"]}}'`
    Then the command succeeds
    And the instance "solo" soon tells the error "the extension postgis is not installed on the host"
    And "solo" answers "SELECT count(*) FROM pg_extension WHERE extname = 'ltree'" with "1"
    And the instance "solo" is ready
    When I create an instance "solo"
    Then the command succeeds
    And standard error says "the extension postgis is not installed on the host"
    When I run `kubectl patch pg solo --type merge -p '{"spec":{"extensions":["ltree"]}}'`
    Then the instance "solo" soon tells no error

  # Real clusters have a load balancer, or have not.
  @full @kubectl @embedded-only
  Scenario: An exposed instance is reached at the address it tells
    Given an instance "solo"
    When I run `kubectl patch pg solo --type merge -p '{"spec":{"expose":"LoadBalancer","enableReadOnlyService":true}}'`
    Then the command succeeds
    And the configmap "solo-connection" tells two addresses and the port 5432
    And at the address that "solo-connection" tells as primary, "solo" answers "SELECT 1" with "1"
    When I run `kubectl patch pg solo --type merge -p '{"spec":{"expose":"Internal","enableReadOnlyService":false}}'`
    Then there is no configmap "solo-connection" soon
    And "solo" answers "SELECT 1" with "1"
    And the instance "solo" has 7 events with the reason "Created"

  @full @kubectl @embedded-only
  Scenario: An exposed instance of two members is written to at one address and read at the other
    Given an instance "duo" of 2 members
    And the table "kept" of "duo" holds "before"
    When I run `kubectl patch pg duo --type merge -p '{"spec":{"expose":"LoadBalancer","enableReadOnlyService":true}}'`
    Then the command succeeds
    And the configmap "duo-connection" tells two addresses and the port 5432
    And at the address that "duo-connection" tells as primary, "duo" answers "INSERT INTO kept VALUES ('after') RETURNING pg_is_in_recovery()" with "f"
    And at the address that "duo-connection" tells as readOnly, "duo" answers "SELECT pg_is_in_recovery() FROM kept WHERE value = 'after' LIMIT 1" with "t"

  @full @kubectl
  Scenario: Tolerations and affinity of the spec are those of the pods, as long as they are there
    Given an instance "solo"
    And the table "kept" of "solo" holds "committed"
    When I run `kubectl patch pg solo --type merge -p '{"spec":{"schedulingConstraints":{"tolerations":[{"key":"dedicated","operator":"Equal","value":"pg","effect":"NoSchedule"}],"affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":7,"preference":{"matchExpressions":[{"key":"disk","operator":"In","values":["fast"]}]}}]}}}}}'`
    Then the command succeeds
    And the pod "solo-0" soon has these values:
      | field                        | value      |
      | /spec/tolerations/0/key      | dedicated  |
      | /spec/tolerations/0/operator | Equal      |
      | /spec/tolerations/0/value    | pg         |
      | /spec/tolerations/0/effect   | NoSchedule |
      | /spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight                                | 7    |
      | /spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/preference/matchExpressions/0/key      | disk |
      | /spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/preference/matchExpressions/0/values/0 | fast |
    When I run `kubectl patch pg solo --type merge -p '{"spec":{"schedulingConstraints":null}}'`
    Then the command succeeds
    And the pod "solo-0" soon has these values:
      | field                   | value                        |
      | /spec/tolerations/0/key | node.kubernetes.io/not-ready |
      | /spec/affinity          | null                         |
    And "solo" soon answers "SELECT value FROM kept" with "committed"

  # A real scheduler leaves such a pod waiting.
  @full @kubectl @embedded-only
  Scenario: A constraint that the one node does not meet is said
    When I run `kubectl apply -f -` with this on standard input:
      """
      apiVersion: postgresql.anynines.com/v1beta3
      kind: Postgresql
      metadata: {name: placed}
      spec:
        version: 13
        resources: {requests: {cpu: 100m}, limits: {memory: 100Mi}}
        schedulingConstraints:
          affinity:
            nodeAffinity:
              requiredDuringSchedulingIgnoredDuringExecution:
                nodeSelectorTerms:
                  - matchExpressions: [{key: pg-node, operator: In, values: ["true"]}]
      """
    Then the command succeeds
    When I create an instance "placed" with `--service-version 13`
    Then the command succeeds
    And standard error says "does not meet"
    And the instance "placed" is ready
    And the instance "placed" has 7 events with the reason "Created"
