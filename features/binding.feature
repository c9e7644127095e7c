@binding @core
Feature: Service bindings
  An application gets a login of its own to an instance, with its credentials in a Secret.

  Background:
    Given a cluster with the a8s stack
    And an instance "solo"

  @smoke
  Scenario: A service binding is there when the command says so, and its credentials work
    When I create a service binding "app" to "solo"
    Then the command succeeds
    And standard output says "The service binding has been created successfully."
    And there is a file "a9s/usermanifests/{namespace}/a8s-pg-service-binding-app.yaml"
    And the servicebinding "app" has these values:
      | field                    | value               |
      | /status/implemented      | true                |
      | /status/error            | null                |
      | /status/secret/name      | app-service-binding |
      | /status/secret/namespace | {namespace}         |
    And the secret "app-service-binding" has these values:
      | field                                  | value          |
      | /immutable                             | true           |
      | /type                                  | Opaque         |
      | /metadata/labels/service-binding       | true           |
      | /metadata/finalizers/0                 | a8s.anynines.com/servicebinding.controller |
      | /metadata/ownerReferences/0/kind       | ServiceBinding |
      | /metadata/ownerReferences/0/name       | app            |
      | /metadata/ownerReferences/0/controller | true           |
    And the service binding "app" has exactly four words in its Secret
    And as "app" the statement "SELECT session_user LIKE 'a8s-sb-%', current_user, current_database()" answers "t|a9s_user|a9s_apps_default_db"
    And the service binding "app" has the events "Created,SecretCreated"

  @full @needs-audit @kubectl
  Scenario: A service binding is implemented within seconds, and once
    When I apply the object:
      """
      apiVersion: servicebindings.anynines.com/v1beta3
      kind: ServiceBinding
      metadata: {name: quick}
      spec: {instance: {apiVersion: postgresql.anynines.com/v1beta3, kind: PostgreSQL, name: solo}}
      """
    Then the service binding "quick" is implemented within 5 seconds
    When I create a service binding "app" to "solo"
    And I run it again
    Then the command succeeds
    And the program has sent no changing request

  @full
  Scenario: A service binding is not implemented before its login is there
    Given no login can be made in "solo"
    When I run `a9s create pg servicebinding --name app --service-instance solo --yes --timeout 3s`
    Then the command fails with exit code 4
    And the servicebinding "app" has these values:
      | field               | value |
      | /status/implemented | false |
      | /status/error       | null  |
    When logins can be made in "solo" again
    Then the service binding "app" is implemented within 10 seconds
    And as "app" the statement "SELECT 1" answers "1"

  Scenario: The login of a service binding has no right of its own
    When I create a service binding "app" to "solo"
    Then the command succeeds
    And as "app" the statement "RESET ROLE; SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = session_user" answers "f|f|f|f|f"
    And as "app" the statement "SELECT string_agg(r.rolname, ',') FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE m.member = quote_ident(session_user)::regrole" answers "a9s_user"
    And as "app" the statement "SELECT has_table_privilege(session_user, 'pg_authid', 'SELECT'), has_function_privilege(session_user, 'pg_read_file(text)', 'EXECUTE')" answers "f|f"

  @full
  Scenario: Five service bindings share a table, and what one made stays when it is deleted
    Given service bindings "one", "two", "three", "four", "five" to "solo"
    When as "one" the statement "CREATE TABLE a9s_apps_default_db (n int)" is run
    And as each of "one", "two", "three", "four", "five" the statement "INSERT INTO a9s_apps_default_db VALUES (1)" is run
    Then as "five" the statement "SELECT count(*) FROM a9s_apps_default_db" answers "5"
    When I run `a9s delete pg servicebinding --name one --yes`
    Then the command succeeds
    And as "two" the statement "SELECT count(*) FROM a9s_apps_default_db" answers "5"
    And as "two" the statement "ALTER TABLE a9s_apps_default_db ADD m int; SELECT 1" answers "1"

  @full
  Scenario: Service bindings to several instances are each to its own
    Given an instance "other"
    And service bindings "here", "too" to "solo"
    And service bindings "there" to "other"
    When as "here" the statement "CREATE TABLE ours (n int); INSERT INTO ours VALUES (1)" is run
    Then as "too" the statement "SELECT n FROM ours" answers "1"
    And as "there" the statement "SELECT to_regclass('ours') IS NULL" answers "t"
    When I run `a9s delete pg servicebinding --name here --yes`
    Then the command succeeds
    And "solo" answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "1"
    And "other" answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "1"

  @full
  Scenario: What the administrator made is an application's to read once that is granted
    Given the table "private" of "solo" holds "x"
    And service bindings "app" to "solo"
    Then as "app" the statement "SELECT has_table_privilege('private', 'SELECT')" answers "f"
    When I apply the statement "GRANT SELECT ON private TO a9s_user" to "solo"
    Then as "app" the statement "SELECT value FROM private" answers "x"

  @smoke
  Scenario: A deleted service binding ends its login and its sessions
    Given service bindings "app", "other" to "solo"
    And a session of "app" is open
    When I run `a9s delete pg servicebinding --name app --yes`
    Then the command succeeds
    And standard output says "The service binding has been deleted successfully."
    And it took less than 10 seconds
    And the session of "app" has been ended
    And the login of "app" is refused
    And there is no servicebinding "app"
    And there is no secret "app-service-binding"
    And "solo" answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "1"
    When I run it again
    Then the command succeeds
    And standard error says "Service binding app doesn't exist in namespace {namespace}!"

  @full
  Scenario: What a login owns by itself does not keep its service binding from going
    Given service bindings "app", "other" to "solo"
    When as "app" the statement "SET ROLE NONE; CREATE TABLE own (n int); INSERT INTO own VALUES (7)" is run
    And I run `a9s delete pg servicebinding --name app --yes`
    Then the command succeeds
    And it took less than 10 seconds
    And as "other" the statement "SELECT n FROM own" answers "7"

  @full
  Scenario: Who reads what a login owns holds up nobody's login
    Given service bindings "app", "other" to "solo"
    When as "app" the statement "SET ROLE NONE; CREATE TABLE own (n int); INSERT INTO own VALUES (7)" is run
    Given a transaction that has read the table "own" of "solo"
    When I run `a9s delete pg servicebinding --name app --yes`
    Then the command succeeds
    And it took less than 10 seconds
    When I run `a9s create pg servicebinding --name new -i solo --yes`
    Then the command succeeds
    And it took less than 10 seconds
    And as "new" the statement "SELECT 1" answers "1"
    When the transaction in "solo" ends
    Then "solo" soon answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "2"
    And as "other" the statement "SELECT n FROM own" answers "7"

  @full
  Scenario: What an application sets for its database keeps nobody from a login
    Given service bindings "app", "old" to "solo"
    When as "old" the statement "SET ROLE NONE; CREATE TABLE own (n int); INSERT INTO own VALUES (7)" is run
    And as "app" the statement "ALTER DATABASE a9s_apps_default_db SET default_transaction_read_only = on" is run
    And I run `a9s delete pg servicebinding --name old --yes`
    Then the command succeeds
    And it took less than 10 seconds
    When I run `a9s create pg servicebinding --name new -i solo --yes`
    Then the command succeeds
    And it took less than 10 seconds
    And as "new" the statement "SHOW transaction_read_only" answers "on"
    And as "new" the statement "SELECT n FROM own" answers "7"
    And "solo" soon answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "2"

  @full @kubectl
  Scenario: The Secret cannot be changed, and is not changed
    Given service bindings "app" to "solo"
    When I run `kubectl patch secret app-service-binding --type merge -p '{"stringData":{"password":"mine"}}'`
    Then the command fails with exit code 1
    And standard error says "immutable"
    When the pod of "solo" is deleted
    Then as "app" the statement "SELECT 1" answers "1"
    And the Secret of "app" tells the login that it told before

  @full @kubectl @builtin
  Scenario: A Secret that somebody has taken away is made anew, with another login that works
    Given service bindings "app" to "solo"
    When I run `kubectl patch secret app-service-binding --type merge -p '{"metadata":{"finalizers":null}}'`
    And I run `kubectl delete secret app-service-binding`
    Then the command succeeds
    And the secret "app-service-binding" soon has these values:
      | field      | value |
      | /immutable | true  |
    And the service binding "app" is implemented within 10 seconds
    And as "app" the statement "SELECT 1" answers "1"
    And the login of "app" is refused
    And "solo" soon answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "1"

  @full @kubectl @builtin
  Scenario: Logins stay when somebody deletes the list of them
    Given service bindings "app" to "solo"
    When I run `kubectl delete secret solo-logins --wait=false`
    Then the command succeeds
    And the secret "solo-logins" has these values:
      | field                  | value                                |
      | /metadata/finalizers/0 | a8s.anynines.com/postgresql.operator |
    And as "app" the statement "SELECT 1" answers "1"
    When I create a service binding "next" to "solo"
    Then the command succeeds
    And as "next" the statement "SELECT 1" answers "1"
    When I delete the instance "solo"
    Then the command succeeds
    And nothing of the instance "solo" is left

  @full @kubectl @builtin
  Scenario: A login stays when its Secret loses its label
    Given service bindings "app" to "solo"
    When I run `kubectl label secret app-service-binding service-binding-`
    Then the command succeeds
    Given service bindings "next" to "solo"
    Then as "app" the statement "SELECT 1" answers "1"
    And the servicebinding "app" has these values:
      | field               | value |
      | /status/implemented | true  |

  @full @kubectl
  Scenario: Instance first, service binding right after
    Given service bindings "app" to "solo"
    When I run `kubectl delete pg solo --wait=false`
    And I run `a9s delete pg servicebinding --name app --yes`
    Then the command succeeds
    And it took less than 20 seconds
    And nothing of the instance "solo" is left
    And there is no secret "app-service-binding"

  @namespace
  Scenario: Service bindings go with their instance, in every namespace, and not before it
    Given a namespace "apps"
    And service bindings "here" to "solo"
    And I have run `a9s create pg servicebinding --name there -n {namespace}-apps -i solo --instance-namespace {namespace} --yes`
    When that has worked
    Then as "there" of the namespace "apps" the statement "SELECT 1" answers "1"
    When I delete the instance "solo"
    Then the command succeeds
    And there is no servicebinding "here" soon
    And there is no servicebinding "there" in the namespace "apps" soon
    And there is no secret "here-service-binding"

  @full @namespace
  Scenario: Two service bindings of one name in two namespaces
    Given a namespace "shop"
    And an instance "solo" in the namespace "shop"
    And service bindings "app" to "solo"
    When I run `a9s create pg servicebinding --name app -i solo -n {namespace}-shop --yes`
    Then the command succeeds
    And as "app" the statement "SELECT 1" answers "1"
    And as "app" of the namespace "shop" the statement "SELECT 1" answers "1"
    When I run `a9s delete pg servicebinding --name app --yes`
    Then the command succeeds
    And as "app" of the namespace "shop" the statement "SELECT 1" answers "1"

  @full @needs-failover
  Scenario: A login survives its primary, and a deleted one does not come back
    Given an instance "three" with `--replicas 3`
    And service bindings "app", "gone" to "three"
    When as "app" the statement "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)" is run
    And I run `a9s delete pg servicebinding --name gone --yes`
    Then the command succeeds
    When I run `a9s pg failover three --yes`
    Then the command succeeds
    And as "app" the statement "SELECT n FROM kept" answers "1"
    And "three" answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "1"
    When I create a service binding "new" to "three"
    Then the command succeeds
    And as "new" the statement "SELECT n FROM kept" answers "1"
    And the login of "gone" is refused

  @negative
  Scenario: There is no such instance
    When I create a service binding "app" to "nobody"
    Then the command fails with exit code 3
    And standard error says "Can't create service binding for non-existing service instance nobody in namespace {namespace}"
    And the reason is one clear sentence
    And there is no servicebinding "app"

  @full @kubectl @builtin
  Scenario: A service binding that was there before its instance
    When I apply the object:
      """
      apiVersion: servicebindings.anynines.com/v1beta3
      kind: ServiceBinding
      metadata: {name: early}
      spec: {instance: {apiVersion: postgresql.anynines.com/v1beta3, kind: Postgresql, name: late}}
      """
    Then the service binding "early" soon tells the error "the service instance late in the namespace {namespace} does not exist"
    Given an instance "late"
    Then the service binding "early" is implemented within 10 seconds
    And as "early" the statement "SELECT 1" answers "1"

  @full @negative @kubectl @builtin
  Scenario Outline: A service binding to a <kind> of <version> says that there is no such thing
    When I apply the object:
      """
      apiVersion: servicebindings.anynines.com/v1beta3
      kind: ServiceBinding
      metadata: {name: odd}
      spec: {instance: {apiVersion: <version>, kind: <kind>, name: solo}}
      """
    Then the service binding "odd" soon tells the error 'service instances of the kind "<kind>" in "<version>" cannot be bound to'
    And there is no secret "odd-service-binding"
    When I run `a9s pg connect solo --binding odd`
    Then it ends with the finding "no-service-binding"
    And standard error says "has no login yet"
    When I run `a9s delete pg servicebinding --name odd --yes`
    Then the command succeeds
    And there is no servicebinding "odd"

    Examples:
      | kind       | version                         |
      | Redis      | postgresql.anynines.com/v1beta3 |
      | Postgresql | redis.anynines.com/v1beta3      |

  @full @negative @kubectl
  Scenario: A Secret of somebody else is not overwritten
    Given I have run `kubectl create secret generic app-service-binding --from-literal=mine=yes`
    When I create a service binding "app" to "solo"
    Then the command fails with exit code 1
    And standard error says "A problem occurred creating the service binding: "
    And standard error says "does not belong to this service binding"
    And it took less than 30 seconds
    And the secret "app-service-binding" has these values:
      | field      | value    |
      | /data/mine | eWVz     |

  @full @negative
  Scenario: A service binding does not move to another instance
    Given service bindings "app" to "solo"
    And an instance "other"
    When I create a service binding "app" to "other"
    Then the command fails with exit code 5
    And the reason is one clear sentence
    And as "app" the statement "SELECT 1" answers "1"

  @full @negative @kubectl @builtin
  Scenario: A service binding that names what can be no instance any more says so, and can be deleted
    Given service bindings "app" to "solo"
    When I run `kubectl patch sb app --type merge -p '{"spec":{"instance":{"name":"Not a name"}}}'`
    Then the command succeeds
    And the service binding "app" soon tells the error "a service binding cannot move to another service instance; make another service binding"
    When I run `kubectl delete sb app --timeout 20s`
    Then the command succeeds
    And there is no secret "app-service-binding"
    When I apply the object:
      """
      apiVersion: servicebindings.anynines.com/v1beta3
      kind: ServiceBinding
      metadata: {name: odd}
      spec: {instance: {apiVersion: postgresql.anynines.com/v1beta3, kind: Postgresql, name: "Not a name"}}
      """
    Then the service binding "odd" soon tells the error "the service instance Not a name in the namespace {namespace} does not exist"

  @full @negative @kubectl @builtin
  Scenario: A service binding that names another instance has no login any more
    Given service bindings "app" to "solo"
    And an instance "other"
    When I run `kubectl patch sb app --type merge -p '{"spec":{"instance":{"name":"other"}}}'`
    Then the command succeeds
    And the service binding "app" soon tells the error "a service binding cannot move to another service instance; make another service binding"
    And "solo" soon answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "0"
    And the login of "app" is refused
    When I run `a9s delete pg servicebinding --name app --yes`
    Then the command succeeds
    And there is no secret "app-service-binding"

  @full
  Scenario: Many service bindings at once
    When I apply 50 service bindings to "solo" at once
    Then all service bindings are implemented within 20 seconds
    And "solo" answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "50"

 
  Scenario: The password is in the Secret and nowhere else
    Given service bindings "app" to "solo"
    When I run `a9s create pg servicebinding --name app -i solo --yes -v --show-commands -o json`
    Then the command succeeds
    And the password of "app" is nowhere but in its Secret

  @full @needs-audit
  Scenario: What would be done
    When I run `a9s create pg servicebinding --name app -i solo --dry-run`
    Then the command succeeds
    And there is no servicebinding "app"
    And the program has sent no changing request
    When I run `a9s create pg servicebinding --name app -i solo --no-apply`
    Then the command succeeds
    And standard output says "kind: ServiceBinding"
    And there is no servicebinding "app"

  @smoke
  Scenario: An instance at a port of this machine, until interrupted
    Given service bindings "app" to "solo"
    When I start `a9s pg connect solo --binding app`
    Then its URL answers "SELECT current_user" with "a9s_user"
    And its URL has no password, and its passfile is private
    When the pod of "solo" is deleted
    Then its URL answers "SELECT 1" with "1"
    When I interrupt it
    Then the command fails with exit code 130
    And its URL is dead and its passfile is gone

  @full @namespace
  Scenario: By a service binding of another namespace, and not by one to another instance of that name
    Given a namespace "apps"
    And an instance "solo" in the namespace "apps"
    And I have run `a9s create pg servicebinding --name app -n {namespace}-apps -i solo --instance-namespace {namespace} --yes`
    When I start `a9s pg connect solo --binding {namespace}-apps/app`
    Then its URL answers "SELECT current_user" with "a9s_user"
    When I interrupt it
    And I run `a9s pg connect solo -n {namespace}-apps --binding app`
    Then the command fails with exit code 3
    And standard error says "is to another instance than {namespace}-apps/solo"
    When I start `a9s pg connect -n {namespace}-apps --binding app`
    Then its URL answers "SELECT current_user" with "a9s_user"
    When I interrupt it
    Then its URL is dead and its passfile is gone

  @full
  Scenario: The administrator, and a password that was asked for
    When I start `a9s pg connect -i solo --show-password`
    Then its URL answers "SELECT current_user" with "postgres"
    When I interrupt it
    Then its URL is dead and its passfile is gone

  @full @negative
  Scenario: A connection to what is not there
    Then these commands fail:
      | command                                | code | standard error says                                             |
      | a9s pg connect nobody                  | 3    | nobody                                                          |
      | a9s pg connect solo --binding nobody   | 3    | there is no service binding nobody in the namespace {namespace} |
      | a9s pg connect solo --binding away/app | 3    | there is no service binding app in the namespace away           |
      | a9s pg connect --binding nobody        | 3    | there is no service binding nobody in the namespace {namespace} |

  @full @negative @kubectl
  Scenario: A connection by a binding that names what can be no instance
    When I apply the object:
      """
      apiVersion: servicebindings.anynines.com/v1beta3
      kind: ServiceBinding
      metadata: {name: odd}
      spec: {instance: {apiVersion: postgresql.anynines.com/v1beta3, kind: Postgresql, name: "Not a name"}}
      """
    And I run `a9s pg connect --binding odd`
    Then it ends with the finding "no-service-binding"
    And standard error says "names no instance"

  @full @process @linux
  Scenario: A copy that psql makes into a file of a full disk has failed
    When I run `a9s pg psql solo -- -c 'COPY (SELECT 1) TO STDOUT'` where standard output is full
    Then it ends with the finding "output-unwritable"

  @full
  Scenario: psql in an instance, with its exit code
    When I run `a9s pg psql solo -- -Atc 'SELECT 6 * 7'`
    Then the command succeeds
    And standard output is "42"
    When I run `a9s pg psql solo -- -c 'SELECT nothing'`
    Then the command fails with exit code 1
    And standard error says "nothing"
    When I run `a9s pg psql solo -- -v ON_ERROR_STOP=1 -f -` with "SELECT 1/0;" on standard input
    Then the command fails with exit code 3
    And standard error says "division by zero"
    When I run `a9s pg psql solo -- -At` with "SELECT 'piped';" on standard input
    Then the command succeeds
    And standard output is "piped"
    When I run `a9s pg psql nobody`
    Then the command fails with exit code 3
