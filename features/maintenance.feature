@maintenance @serial @full @kubectl
Feature: Maintenance
  What is done on purpose to nodes and operators costs no row that was acknowledged, and everything goes on afterwards.

  Background:
    Given a cluster with the a8s stack

  @disruptive
  Scenario: All nodes are drained, and taken back
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    And the nodes that take pods are labelled "conformance.a9s/drained={namespace}", and taken back afterwards
    When I run `kubectl drain --selector conformance.a9s/drained={namespace} --ignore-daemonsets --delete-emptydir-data --timeout 180s`
    Then the command succeeds
    And the ledger soon stands still
    And the pod "trio-0" soon has these values:
      | field                      | value         |
      | /spec/nodeName             | null          |
      | /status/conditions/0/type   | PodScheduled  |
      | /status/conditions/0/reason | Unschedulable |
    When I run `kubectl uncordon --selector conformance.a9s/drained={namespace}`
    Then the command succeeds
    And "trio" has one primary and 2 standbys
    When 50 more rows are acknowledged
    Then the ledger of "trio" is complete
    When I create a backup "after" of "trio"
    Then the command succeeds

  @ha @several-nodes @disruptive
  Scenario: The node of the primary is drained, and taken back
    Given an instance "trio" of 3 members
    And the primary of "trio" is alone on its node
    And a ledger of "trio"
    When the node of the primary of "trio" is drained
    Then another member of "trio" is the primary
    When 50 more rows are acknowledged
    Then the ledger of "trio" is complete
    When what was done to the cluster is undone
    Then "trio" has one primary and 2 standbys

  # The embedded cluster has its pods on its one node nevertheless, and says what they would not tolerate.
  @deployments @disruptive
  Scenario: Nodes that are kept for others take who tolerates it
    Given `kubectl taint nodes --all conformance.a9s/dedicated-` is run afterwards
    When I run `kubectl taint nodes --all conformance.a9s/dedicated=databases:NoSchedule`
    Then the command succeeds
    When I create an instance "plain" with `--timeout 15s`
    Then the command fails with exit code 4
    And the reason is one clear sentence
    And standard error says "dedicated: databases"
    When I apply the object:
      """
      apiVersion: postgresql.anynines.com/v1beta3
      kind: Postgresql
      metadata: {name: tolerant}
      spec:
        version: 14
        replicas: 1
        volumeSize: 1Gi
        resources: {requests: {cpu: 10m}}
        schedulingConstraints:
          tolerations:
            - {key: conformance.a9s/dedicated, operator: Equal, value: databases, effect: NoSchedule}
      """
    Then the instance "tolerant" is ready
    When I run `kubectl taint nodes --all conformance.a9s/dedicated-`
    Then the command succeeds
    And the instance "plain" is ready

  @ha @several-nodes
  Scenario: Members keep away from each other's nodes where the spec wants it
    When I apply the object:
      """
      apiVersion: postgresql.anynines.com/v1beta3
      kind: Postgresql
      metadata: {name: apart}
      spec:
        version: 14
        replicas: 2
        volumeSize: 1Gi
        resources: {requests: {cpu: 10m}}
        schedulingConstraints:
          affinity:
            podAntiAffinity:
              requiredDuringSchedulingIgnoredDuringExecution:
                - topologyKey: kubernetes.io/hostname
                  labelSelector: {matchLabels: {a8s.a9s/dsi-name: apart}}
      """
    Then the instance "apart" is ready
    And the members of "apart" are on 2 nodes

  @builtin @deployments @disruptive
  Scenario: The operators are away when the primary goes
    Given an instance "trio" of 3 members
    And a ledger of "trio"
    And the Deployments of "a8s-system" are scaled back afterwards
    When I run `kubectl scale deployment --all --replicas 0 --namespace a8s-system`
    Then the command succeeds
    When I run `kubectl wait pod --all --for delete --namespace a8s-system --timeout 90s`
    And I run `kubectl get pods --namespace a8s-system`
    Then nothing is on standard output
    When the primary of "trio" is deleted
    Then another member of "trio" is the primary
    And "trio" has one primary and 2 standbys
    And the ledger of "trio" is complete
    When what was done to the cluster is undone
    And I run `a9s create stack a8s --stack builtin --yes`
    Then the command succeeds
    When I create an instance "later"
    Then the command succeeds

  @builtin @deployments @disruptive
  Scenario: The configuration of admission is deleted, and applied again
    When I run `kubectl delete validatingwebhookconfiguration postgresql-validating-webhook-configuration`
    Then the command succeeds
    When I run `a9s create stack a8s --stack builtin --yes`
    Then the command succeeds
    And it took less than 60 seconds
    When I create an instance "later"
    Then the command succeeds
