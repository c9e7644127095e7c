@nodes @serial @full @negative @disruptive
Feature: Nodes in trouble
  What happens to real nodes is said with its cause and the way out.

  Background:
    Given a cluster with the a8s stack

  @builtin
  Scenario: An image that no node has and none can pull
    Given an instance "first"
    And the nodes have lost the image of "first"
    When I create an instance "solo"
    Then the command fails with exit code 3
    And the reason is one clear sentence
    And standard error says "solo-0 cannot run"
    And standard error says "a9s images load"
    And it took less than 60 seconds
    When the nodes are as they were
    Then the instance "solo" is ready

  @builtin
  Scenario: Loading images that the nodes have lost, cut off anywhere
    Given an instance "first"
    And the nodes have lost the image of "first"
    When I run `a9s images load -p kind -c {cluster} --stack builtin --backup-provider AWS`, cut off 2 times
    Then the command succeeds
    When I run `a9s images load -p kind -c {cluster} --stack builtin --backup-provider AWS -o json`
    Then the command succeeds
    And these values are in the document:
      | field    | value     |
      | /cluster | {cluster} |
      | /changed | false     |
    When I create an instance "solo"
    Then the command succeeds
    And the instance "first" is ready

  Scenario: A node whose disk is too full
    Given the disks of the nodes are too full
    When I create an instance "solo" with `--timeout 15s`
    Then the command fails with exit code 4
    And the reason is one clear sentence
    And standard error says "node.kubernetes.io/disk-pressure"
    And standard error says "free space"
    When the nodes are as they were
    And I create an instance "solo"
    Then the command succeeds

  @builtin @deployments
  Scenario: An operator that crashes again and again ends the wait, with its log, until it is the right one again
    Given an instance "solo"
    And the file "map.yaml" with:
      """
      a9s/operators:{version}: a9s/postgresql:15
      """
    And the file "none.yaml" with:
      """
      {}
      """
    And `a9s create stack a8s --stack builtin --image-map {home}/none.yaml --yes` is run afterwards
    When I run `a9s create stack a8s --stack builtin --image-map {home}/map.yaml --yes`
    Then the command fails with exit code 1
    And it took less than 60 seconds
    And the reason is one clear sentence
    And standard error says "CrashLoopBackOff"
    And standard error says "log of the container manager"
    When I run `a9s create stack a8s --stack builtin --image-map {home}/none.yaml --yes`
    Then the command succeeds
    When I create an instance "later"
    Then the command succeeds
    And the instance "solo" is ready
