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

  # A real scheduler leaves such a pod waiting.
  @full @kubectl @embedded-only
  Scenario: A constraint that the one node does not meet is said
    When I run `kubectl apply -f -` with this on standard input:
      """
      apiVersion: postgresql.anynines.com/v1beta3
      kind: Postgresql
      metadata: {name: placed}
      spec:
        version: 15
        resources: {requests: {cpu: 100m}, limits: {memory: 100Mi}}
        schedulingConstraints:
          affinity:
            nodeAffinity:
              requiredDuringSchedulingIgnoredDuringExecution:
                nodeSelectorTerms:
                  - matchExpressions: [{key: pg-node, operator: In, values: ["true"]}]
      """
    Then the command succeeds
    When I create an instance "placed" with `--service-version 15`
    Then the command succeeds
    And standard error says "does not meet"
    And the instance "placed" is ready
    And the instance "placed" has 7 events with the reason "Created"
