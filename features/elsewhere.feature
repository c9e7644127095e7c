@full @namespace
Feature: Another cluster and another namespace
  Every command goes to the kubeconfig, the context and the namespace that it is given, and to no other.

  Background:
    Given a cluster with the a8s stack
    And a namespace "other"

  @negative
  Scenario: The kubeconfig of the caller leads nowhere
    Given the variable "KUBECONFIG" is "{home}/nowhere"
    When I run `a9s list pg instances`
    Then it ends with the finding "no-cluster"

  @needs-failover @needs-restore-into
  Scenario Outline: The life of an instance, all of it elsewhere
    Given the variable "KUBECONFIG" is "{home}/nowhere"
    When I run `a9s create pg instance --name solo <there> --timeout 5m --yes`
    Then the command succeeds
    When I run `a9s pg apply -i solo --sql 'CREATE DATABASE shop' <there> --timeout 1m --yes`
    And I run `a9s pg apply -i solo --database shop --sql 'CREATE TABLE t AS SELECT 42 AS a' <there> --yes`
    And I run `a9s pg check -i solo --database shop --sql 'SELECT a FROM t' --is 42 <there>`
    Then the command succeeds
    When I run `a9s pg psql -i solo --database shop <there> -- -Atc 'SELECT a FROM t'`
    Then standard output is "42"
    When I start `a9s pg connect solo --database shop <there>`
    Then its URL answers "SELECT a FROM t" with "42"
    When I interrupt it
    And I run `a9s pg status -i solo <there>`
    Then standard output says "1 of 1 ready"
    When I run `a9s pg logs solo <there>`
    Then standard output says "solo-0 | "
    When I run `a9s list pg instances <there>`
    Then standard output says "solo"
    When I run `a9s describe pg instance solo <there>`
    Then standard output says "{namespace}-other"
    When I run `a9s create pg backup --name nightly -i solo --max-retries 2 --api-version v1beta3 <there> --timeout 5m`
    Then the command succeeds
    When I run `a9s describe pg backup nightly <there> -o json`
    Then the value at `/object/spec/maxRetries` of the document is `2`
    When I run `a9s pg verify nightly <there> --timeout 5m`
    Then the command succeeds
    When I run `a9s create pg restore --name back -b nightly -i solo --api-version v1beta3 <there> --timeout 5m`
    Then the command succeeds
    When I run `a9s create pg servicebinding --name app -i solo --api-version v1beta3 <there> --timeout 1m`
    Then the command succeeds
    When I run `a9s pg failover solo <there> --timeout 10s --yes`
    Then it ends with the finding "no-other-member"
    When I remember the pod of "solo" in the namespace "other"
    And I run `a9s pg kill -i solo --member 0 <there> --timeout 5m --yes`
    Then the command succeeds
    And the pod of "solo" in the namespace "other" is another than before
    When I run `a9s delete pg servicebinding --name app <there> --timeout 1m --yes`
    Then the command succeeds
    And standard output says "The service binding has been deleted successfully."
    When I run `a9s delete pg restore --name back <there> --timeout 1m --yes`
    Then the command succeeds
    And standard output says "Restore back successfully deleted from namespace {namespace}-other."
    When I run `a9s delete pg backup --name nightly <there> --timeout 1m --yes`
    Then the command succeeds
    And standard output says "Backup nightly successfully deleted from namespace {namespace}-other."
    When I run `a9s delete pg instance --name solo <there> --timeout 5m --yes`
    Then the command succeeds
    And the API server answers "/apis/postgresql.anynines.com/v1beta3/namespaces/{namespace}-other/postgresqls/solo" with 404 and the reason "NotFound"

    Examples:
      | there                                                                    |
      | --kubeconfig {kubeconfig} --context {context} --namespace {namespace}-other |

  Scenario: What has no namespace
    Given the variable "KUBECONFIG" is "{home}/nowhere"
    When I run `a9s version --kubeconfig {kubeconfig} --context {context}`
    Then standard output says "a8s stack"
    When I run `a9s create stack a8s --kubeconfig {kubeconfig} --context {context} --dry-run`
    Then standard output says "What create stack a8s would do"
    When I run `a9s delete stack a8s --kubeconfig {kubeconfig} --context {context} --timeout 1m --dry-run`
    Then the command succeeds
    And standard output says "remove the a8s stack (to do"
