@core
Feature: Looking at what is there
  Commands that change nothing: they answer quickly, tell what they could not find out, and never show a secret.

  Background:
    Given a cluster with the a8s stack

  @smoke @needs-audit
  Scenario: How an instance is
    Given an instance "solo"
    When I run `a9s pg status solo`
    Then the command succeeds
    And standard output says "running"
    And standard output says "primary"
    And standard output says "1 of 1 ready"
    And standard output does not say "Not known"
    And the program has sent no changing request

  @full
  Scenario: How an instance is, for programs
    Given an instance "solo"
    When I run `a9s pg status solo -o json`
    Then the command succeeds
    And standard output is one JSON document
    And these values are in the document:
      | field                | value   |
      | /instance/name       | solo    |
      | /instance/state      | running |
      | /members/0/name      | solo-0  |
      | /members/0/role      | primary |
      | /members/0/ready     | true    |
      | /members/0/timeline  | 1       |
    And the document has a number at "/members/0/diskUsed"
    And the document has a number at "/members/0/diskFree"
    And the document has no value at "/unknown"
    And no secret of the namespace is on standard output or standard error

  @full @builtin
  Scenario: How an instance is, whatever role its sessions are given
    Given an instance "solo"
    When I run `a9s pg apply -i solo --database postgres --sql 'ALTER DATABASE postgres SET role = pg_signal_backend' --yes`
    Then the command succeeds
    When I run `a9s pg status solo -o json`
    Then the command succeeds
    And the document has a number at "/members/0/diskUsed"
    And the document has a number at "/members/0/diskFree"
    And the document has no value at "/unknown"

  @full @needs-failover
  Scenario: How several members are, for programs
    Given an instance "trio" with `--replicas 3`
    And the member "trio-0" is the primary of "trio"
    When I run `a9s pg status trio -o json`
    Then the command succeeds
    And these values are in the document:
      | field            | value   |
      | /members/0/role  | primary |
      | /members/1/role  | standby |
      | /members/2/role  | standby |
      | /members/2/ready | true    |
    And the document has no value at "/members/0/lagBytes"
    And the document has a number at "/members/1/lagBytes"
    And the document has a number at "/members/2/lagBytes"
    And the document has no value at "/unknown"
    When I run `a9s pg failover -i trio --to 2 --dry-run`
    Then the command succeeds
    And standard output says "make trio-2 the primary of the instance trio"
    And the member "trio-0" is the primary of "trio"

  @full @embedded-only
  Scenario: A member that does not answer hides nothing else and holds up nobody
    Given an instance "solo"
    When the server of "solo" is frozen
    And I run `a9s pg status solo -o json`
    Then the command succeeds
    And it took less than 9 seconds
    And the value at `/instance/name` of the document is `solo`
    And the value at `/members/0/name` of the document is `solo-0`
    And the document has a text at "/unknown/0"
    When the server of "solo" goes on
    Then "solo" answers "SELECT 1" with "1"

  Scenario: A member that is down is told with its reason
    When I create an instance "tiny" with `--limits-memory 1Mi`
    And I run `a9s pg status tiny -o json`
    Then the command succeeds
    And it took less than 9 seconds
    And the value at `/members/0/ready` of the document is `false`
    And the document has a text at "/members/0/reason"

  @full
  Scenario: A look that goes on until it is interrupted
    Given an instance "solo"
    When I run `a9s pg status solo --watch` and interrupt it after two looks
    Then the command fails with exit code 130

  @full
  Scenario: A look that goes on until nobody reads it any more
    Given an instance "solo"
    When I run `a9s pg status solo --watch` for a reader that goes away after a line
    Then the command succeeds

  Scenario Outline: A document has an end: <command>
    When I run `a9s <command> -o json`
    Then the command fails with exit code 2
    And standard output is one JSON document

    Examples:
      | command                  |
      | pg status solo --watch   |
      | pg logs solo --follow    |

  @full @needs-audit
  Scenario: Lists
    Given a namespace "shop"
    And an instance "solo"
    And an instance "carts" in the namespace "shop"
    When I run `a9s list pg instances`
    Then the command succeeds
    And standard output matches `NAME  STATE    READY  VERSION  AGE`
    And standard output says "solo"
    And standard output does not say "carts"
    When I run `a9s list pg pg -n {namespace}-shop -o json`
    Then the command succeeds
    And standard output is one JSON document
    And these values are in the document:
      | field              | value            |
      | /items/0/name      | carts            |
      | /items/0/namespace | {namespace}-shop |
      | /items/0/state     | running          |
      | /items/0/ready     | 1                |
    And the document has no value at "/items/1"
    When I run `a9s list pg instances -A`
    Then the command succeeds
    And standard output says "NAMESPACE"
    And standard output says "{namespace}-shop"
    When I run `a9s list pg instances -o wide`
    Then the command succeeds
    And standard output says "VOLUME"
    And the program has sent no changing request

  Scenario Outline: There is nothing to list: <kind>
    When I run `a9s list pg <kind>`
    Then the command succeeds
    And standard output says "There are no <noun> in the namespace {namespace}."
    When I run `a9s list pg <kind> -o json`
    Then the command succeeds
    And the value at `/items` of the document is `[]`

    Examples:
      | kind            | noun             |
      | instances       | instances        |
      | backups         | backups          |
      | bkp             | backups          |
      | restores        | restores         |
      | rst             | restores         |
      | servicebindings | service bindings |
      | sb              | service bindings |

  @needs-audit
  Scenario: A description has spec, status, events and what belongs to it, and no secret
    Given an instance "solo"
    When I run `a9s describe pg instance solo`
    Then the command succeeds
    And standard output says "volumeSize: 1Gi"
    And standard output says "clusterStatus: Running"
    And standard output says "Normal"
    And standard output says "pod solo-0: ready"
    And standard output says "service solo-master"
    And no secret of the namespace is on standard output or standard error
    When I run `a9s describe pg pg solo -o json`
    Then the command succeeds
    And standard output is one JSON document
    And the value at `/object/metadata/name` of the document is `solo`
    And no secret of the namespace is on standard output or standard error
    And the program has sent no changing request

  @full
  Scenario Outline: Lists and descriptions tell of a <kind> what it belongs to
    Given an instance "solo"
    And a backup "nightly" of "solo"
    And service bindings "app" to "solo"
    When I create a restore "back" of the backup "nightly" into "solo"
    Then the command succeeds
    And the instance "solo" is ready
    When I run `a9s list pg <kind>s -o json`
    Then these values are in the document:
      | field             | value   |
      | /items/0/name     | <name>  |
      | /items/0/state    | <state> |
      | /items/0/instance | solo    |
      | <field>           | <value> |
    And the document has no value at "/items/1"
    When I run `a9s list pg <kind>s -o wide`
    Then standard output says "REASON"
    And standard output says "<value>"
    When I run `a9s list pg <kind>s -o yaml`
    Then the command succeeds
    And standard output says "name: <name>"
    And standard output says "state: <state>"
    When I run `a9s describe pg <kind> <name>`
    Then standard output says "instance solo: running"
    And standard output says "<related>"
    And no secret of the namespace is on standard output or standard error

    Examples:
      | kind           | name    | state       | field            | value               | related                                |
      | backup         | nightly | complete    | /items/0/pod     | {namespace}/solo-0  | restore back: complete                 |
      | restore        | back    | complete    | /items/0/backup  | nightly             | backup nightly: complete               |
      | servicebinding | app     | implemented | /items/0/secret  | app-service-binding | secret app-service-binding: not shown  |

  @full @embedded-only
  Scenario: How clusters are, for programs
    When I run `a9s cluster list -o json`
    Then the command succeeds
    And these values are in the document:
      | field               | value     |
      | /provider           | embedded  |
      | /clusters/0/name    | a8s       |
      | /clusters/0/state   | running   |
      | /clusters/0/context | {context} |
    And the document has a text at "/clusters/0/server"
    When I run `a9s cluster status -o json`
    Then the command succeeds
    And these values are in the document:
      | field         | value     |
      | /provider     | embedded  |
      | /cluster      | a8s       |
      | /context      | {context} |
      | /status/state | running   |
    And the document has a text at "/status/server"

  @full
  Scenario: Logs of all members, and of one
    Given an instance "solo"
    When I run `a9s pg logs solo`
    Then the command succeeds
    And standard output says "solo-0 | "
    When I run `a9s pg logs solo --tail 1 -o json`
    Then the command succeeds
    And the value at `/lines/0/member` of the document is `solo-0`
    And the document has no value at "/lines/1"
    When I run `a9s pg logs -i solo --member 0 --tail 1`
    Then the command succeeds
    And standard output does not say "solo-0 | "
    When I run `a9s pg logs -i solo --member primary --tail 1 -o json`
    Then the value at `/lines/0/member` of the document is `solo-0`
    When I run `a9s pg logs solo --member 7`
    Then the command fails with exit code 3
    And standard error says "It has: solo-0."
    When I run `a9s pg logs solo --container nobody`
    Then the command fails with exit code 3
    And standard error says "the instance solo has no container nobody"
    When I run `a9s pg logs solo --container nobody --follow`
    Then the command fails with exit code 3

  @full
  Scenario: Logs that are followed have what is written later
    Given an instance "solo"
    When I run `a9s pg logs solo --follow --tail 0` and interrupt it after the statement "SELECT 'heard' FROM nowhere_at_all" in "solo"
    Then the command fails with exit code 130
    And standard output says "nowhere_at_all"
    When I run `a9s pg logs solo --member primary --follow --tail 0` and interrupt it after the statement "SELECT 'again' FROM nowhere_of_all" in "solo"
    Then standard output says "solo-0 | "

  @full @negative
  Scenario: What a cluster says does not steer the terminal
    Given an instance "solo"
    When I run `a9s pg logs solo --follow --tail 0` and interrupt it after the statement "SELECT (E'\u001b[31m\u009b')::int AS painted" in "solo"
    Then standard output says "�[31m�"
    And no control character is on standard output or standard error
    When I apply the statement "SELECT (chr(27) || '[31m')::int" to "solo"
    Then the command fails
    And standard error says "�[31m"
    And no control character is on standard output or standard error

  @full
  Scenario: Logs that are followed have those of new members, and end with their instance
    Given an instance "grow"
    When I follow `a9s pg logs grow --follow` until it says `grow-1 | ` while I run `a9s create pg instance --name grow --replicas 2 --yes`
    And I run `a9s pg logs grow --follow --tail 1` to its end, which `a9s delete pg instance --name grow --yes` brings about
    Then the command succeeds
    And standard error says "the instance grow is gone"

  @core
  Scenario Outline: A proxy is not asked for what is on this machine: <variable>
    Given an instance "solo"
    And the variable "<variable>" is "http://127.0.0.1:1"
    When I run `a9s list pg instances`
    Then the command succeeds
    And standard output says "solo"

    Examples:
      | variable    |
      | HTTPS_PROXY |
      | https_proxy |

  @full @negative @needs-audit
  Scenario: A dry run changes nothing
    Given an instance "solo"
    And a backup "nightly" of "solo"
    And service bindings "app" to "solo"
    Then these commands send no changing request:
      | command                                                          |
      | a9s create pg backup --name later -i solo --dry-run              |
      | a9s create pg instance --name solo --replicas 3 --dry-run        |
      | a9s create pg restore --to other -b nightly --dry-run            |
      | a9s delete pg instance --name solo --dry-run                     |
      | a9s delete pg backup --name nightly --dry-run                    |
      | a9s delete pg servicebinding --name app --dry-run                |
      | a9s pg verify nightly --dry-run                                  |
      | a9s pg apply -i solo --sql 'CREATE TABLE made (n int)' --dry-run |
      | a9s pg kill -i solo --member 0 --dry-run                         |
    And the instance "solo" is ready
    And the backup "nightly" is complete
    And "solo" answers "SELECT to_regclass('made') IS NULL" with "t"

  @full
  Scenario: Checking an answer, and killing a member, as commands
    Given an instance "solo"
    When I run `a9s pg check -i solo --sql 'SELECT 1' --is 1`
    Then the command succeeds
    When I run `a9s pg check -i solo --sql 'SELECT 1' --is 2 --timeout 2s`
    Then the command fails with exit code 4
    When I run `a9s pg check -i solo --sql 'SELECT 1' --is 2 --dry-run`
    Then the command succeeds
    And standard output says "to do: it answers"
    When I remember the pod of "solo"
    And I run `a9s pg kill -i solo --member solo-0 --yes --show-commands`
    Then the command succeeds
    And standard error says "kubectl delete pod solo-0 -n {namespace} --grace-period 0 --force"
    And the pod of "solo" is another than before
    And the instance "solo" is ready

  @full @failover
  Scenario: Of several members the primary is killed, and another one leads
    Given an instance "trio" of 3 members
    And the table "kept" of "trio" holds "committed"
    When I kill the primary of "trio"
    Then the command succeeds
    And another member of "trio" is the primary
    And "trio" has one primary and 2 standbys
    And every member of "trio" soon answers "SELECT value FROM kept" with "committed"

  @full
  Scenario: Rows that are written while a member is killed are all there
    Given an instance "solo"
    When I remember the pod of "solo"
    And I run `a9s pg kill -i solo --member primary --ledger --yes`
    Then the command succeeds
    And the pod of "solo" is another than before
    And standard output says "and all of them are there"
    When I run `a9s pg psql solo --database postgres -- -Atc "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'a9s_ledger%'"`
    Then the command succeeds
    And standard output is "0"

  @full @failover @needs-failover
  Scenario: Rows that are written during a failover are all there
    Given an instance "trio" with `--replicas 3`
    When I run `a9s pg failover trio --ledger --yes -o json`
    Then the command succeeds
    And the value at `/ledger/lost` of the document is `0`
    And the document has a number at "/ledger/longestPauseSeconds"

  @full @negative
  Scenario: Rows that were acknowledged and are not there are named
    Given an instance "solo"
    And an SQL file "forgetful.sql":
      """
      CREATE FUNCTION forget() RETURNS event_trigger LANGUAGE plpgsql AS $$
      DECLARE made record;
      BEGIN
        FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table' LOOP
          EXECUTE format('CREATE RULE forget AS ON INSERT TO %s DO INSTEAD NOTHING', made.object_identity);
        END LOOP;
      END $$;
      CREATE EVENT TRIGGER forgetful ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION forget();
      """
    And I have run `a9s pg apply -i solo --database postgres --file forgetful.sql --yes`
    When I run `a9s pg kill -i solo --member 0 --ledger --yes`
    Then it ends with the finding "rows-lost"
    And standard error says "acknowledged rows are lost"
    And standard error says "is in the table a9s_ledger_"
    When I run `a9s pg psql solo --database postgres -- -Atc "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname LIKE 'a9s_ledger%'"`
    Then the command succeeds
    And standard output is "acknowledged rows are lost"

  @full
  Scenario: A ledger that was left long ago goes with the next one, unless it is evidence
    Given an instance "solo"
    And an SQL file "left.sql":
      """
      CREATE SCHEMA a9s_ledger_6592008000000001;
      CREATE TABLE a9s_ledger_6592008000000001.rows (id bigint PRIMARY KEY);
      CREATE SCHEMA a9s_ledger_6592008000000002;
      COMMENT ON SCHEMA a9s_ledger_6592008000000002 IS 'acknowledged rows are lost';
      CREATE SCHEMA a9s_ledger_f000000000000003;
      """
    And I have run `a9s pg apply -i solo --database postgres --file left.sql --yes`
    When I run `a9s pg kill -i solo --member 0 --ledger --yes`
    Then the command succeeds
    When I run `a9s pg psql solo --database postgres -- -Atc "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'a9s_ledger%' ORDER BY nspname"`
    Then the command succeeds
    And standard output says "a9s_ledger_6592008000000002"
    And standard output says "a9s_ledger_f000000000000003"
    And standard output does not say "a9s_ledger_6592008000000001"

  @full @negative
  Scenario: A server that takes no ledger says so, and its member is not killed
    Given an instance "solo"
    And an SQL file "refusing.sql":
      """
      CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not here'; END $$;
      CREATE EVENT TRIGGER refusing ON ddl_command_start WHEN TAG IN ('CREATE SCHEMA') EXECUTE FUNCTION refuse();
      """
    And I have run `a9s pg apply -i solo --database postgres --file refusing.sql --yes`
    When I remember the pod of "solo"
    And I run `a9s pg kill -i solo --member 0 --ledger --yes`
    Then it ends with the finding "sql-failed"
    And standard error says "the ledger of rows can't be used: PostgreSQL: ERROR: not here"
    And the pod of "solo" is the same as before

  @core
  Scenario: An API version that the cluster has not
    When I run `a9s create pg instance --name other --yes --api-version v9`
    Then it ends with the finding "not-found"

  @negative
  Scenario Outline: What is not there: <command>
    When I run `a9s <command>`
    Then the command fails with exit code 3
    And standard error says "<words>"
    And standard error says "-A lists those there are."
    And the reason is one clear sentence
    When I run `a9s <command> -o json`
    Then the command fails with exit code 3
    And standard output is one JSON document

    Examples:
      | command                        | words                                                             |
      | pg status nobody               | there is no instance nobody in the namespace {namespace}          |
      | pg logs nobody                 | there is no instance nobody in the namespace {namespace}          |
      | pg verify nobody               | there is no backup nobody in the namespace {namespace}            |
      | describe pg instance nobody    | there is no instance nobody in the namespace {namespace}          |
      | describe pg backup nobody      | there is no backup nobody in the namespace {namespace}            |
      | describe pg restore nobody     | there is no restore nobody in the namespace {namespace}           |
      | describe pg sb nobody          | there is no service binding nobody in the namespace {namespace}   |

  @negative @needs-audit
  Scenario: An order for what is not there
    Given an instance "solo"
    When I run `a9s create pg backup --name b -i no`
    Then the command fails with exit code 3
    And standard error says "Can't create backup for non-existing service instance no in namespace {namespace}"
    And standard error says "-A lists those there are."
    And the program has sent no changing request
    When I run `a9s create pg restore --name r -b no -i no`
    Then the command fails with exit code 3
    And standard error says "Can't create restore for non-existing service instance no in namespace {namespace}"
    And standard error says "-A lists those there are."
    And the program has sent no changing request
    When I run `a9s create pg restore --name r -b no -i solo`
    Then the command fails with exit code 3
    And standard error says "Can't create restore for non-existing backup no in namespace {namespace}"
    And standard error says "-A lists those there are."
    And the program has sent no changing request
    When I run `a9s create pg restore --name r -b no`
    Then the command fails with exit code 3
    And standard error says "Can't create restore for non-existing backup no in namespace {namespace}"
    And standard error says "-A lists those there are."
    And the program has sent no changing request
    When I run `a9s create pg restore --name r -b no --to new`
    Then the command fails with exit code 3
    And standard error says "Can't create restore for non-existing backup no in namespace {namespace}"
    And standard error says "-A lists those there are."
    And the program has sent no changing request
    And there are 1 manifests

  @needs-audit
  Scenario Outline: Deleting <what> that is not there
    When I delete the <kind> "nobody"
    Then the command succeeds
    And standard error says "Can't delete <kind>. <title> nobody doesn't exist in namespace {namespace}!"
    And the program has sent no changing request

    Examples:
      | what      | kind    | title   |
      | a backup  | backup  | Backup  |
      | a restore | restore | Restore |

  @full @negative @kubectl
  Scenario: An unfinished backup is not restored
    Given an instance "solo"
    And the object:
      """
      apiVersion: backups.anynines.com/v1beta3
      kind: Backup
      metadata:
        name: b
      spec:
        serviceInstance:
          apiGroup: postgresql.anynines.com
          kind: Postgresql
          name: nobody
      """
    When I create a restore "r" of the backup "b" into "solo"
    Then the command fails with exit code 3
    And standard error says "the backup b can't be restored"
    And there is no restore "r"

  @full @negative @kubectl
  Scenario: Another instance's backup of the same name
    Given an instance "solo"
    And the object:
      """
      apiVersion: backups.anynines.com/v1beta3
      kind: Backup
      metadata:
        name: b
      spec:
        serviceInstance:
          apiGroup: postgresql.anynines.com
          kind: Postgresql
          name: nobody
      """
    When I create a backup "b" of "solo"
    Then the command fails with exit code 5
    And standard error says "spec.serviceInstance.name is nobody instead of solo"

  @kubectl @builtin
  Scenario: What a stack can do it says itself
    When I run `kubectl get configmap a8s-stack -n a8s-system -o jsonpath={.data.capabilities}`
    Then the command succeeds
    And standard output says "restore-into"

  @negative
  Scenario Outline: No cluster: <command>
    When my kubeconfig leads nowhere
    And I run `a9s <command>`
    Then the command fails with exit code 3
    And it took less than 9 seconds
    And the reason is one clear sentence

    Examples:
      | command                     |
      | pg status solo              |
      | pg logs solo                |
      | pg verify b                 |
      | list pg instances           |
      | describe pg instance solo   |
      | create pg backup -i solo    |
      | create pg restore -b b      |
      | delete pg backup --name b   |
