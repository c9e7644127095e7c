@full
Feature: Answers for programs
  With -o json or -o yaml standard output is one document and nothing else, also of a command that fails or has nothing to
  do. What else there is to say is on standard error.

  @core
  Scenario Outline: There is no <kind> to delete, as <format>
    Given a cluster with the a8s stack
    When I run `a9s delete pg <kind> --name nobody --yes -o <format>`
    Then the command succeeds
    And standard error says "doesn't exist in namespace {namespace}!"
    And standard output says '<text>'
    And these values are in the document:
      | field              | value           |
      | /<kind>            | nobody          |
      | /namespace         | {namespace}     |
      | /deleted           | false           |
      | /steps/0/satisfied | true            |
      | /steps/0/changed   | false           |
      | /steps/0/observed  | it is not there |
    And the document has no value at "/error"

    Examples:
      | kind           | format | text             |
      | instance       | json   | "deleted": false |
      | servicebinding | yaml   | deleted: false   |

  Scenario Outline: What was deleted: the <kind> <name>
    Given a cluster with the a8s stack
    And an instance "solo"
    And a backup "nightly" of "solo"
    When I run `a9s delete pg <kind> --name <name> --dry-run -o json`
    Then the command succeeds
    And these values are in the document:
      | field              | value            |
      | /dryRun            | true             |
      | /plan              | delete pg <kind> |
      | /steps/0/satisfied | false            |
      | /steps/0/changed   | false            |
      | /steps/0/observed  | it is there      |
    When I run `a9s delete pg <kind> --name <name> --yes -o json`
    Then the command succeeds
    And these values are in the document:
      | field              | value       |
      | /<kind>            | <name>      |
      | /namespace         | {namespace} |
      | /deleted           | true        |
      | /steps/0/satisfied | true        |
      | /steps/0/changed   | true        |
    And the document has no value at "/steps/1"
    When I run it again
    Then the command succeeds
    And the value at `/deleted` of the document is `false`

    Examples:
      | kind     | name    |
      | instance | solo    |
      | backup   | nightly |

  Scenario: What was made, asked and killed
    Given a cluster with the a8s stack
    When I create an instance "solo" with `-o json`
    Then the command succeeds
    And these values are in the document:
      | field      | value                                                          |
      | /instance  | solo                                                           |
      | /namespace | {namespace}                                                    |
      | /manifest  | {home}/a9s/usermanifests/{namespace}/a8s-pg-instance-solo.yaml |
      | /applied   | true                                                           |
      | /ready     | true                                                           |
      | /changed   | true                                                           |
    When I create an instance "solo" with `-o json`
    Then the value at `/changed` of the document is `false`
    When I run `a9s create pg servicebinding --name app -i solo -o yaml`
    Then the command succeeds
    And these values are in the document:
      | field              | value               |
      | /servicebinding    | app                 |
      | /namespace         | {namespace}         |
      | /instance          | solo                |
      | /instanceNamespace | {namespace}         |
      | /secret            | app-service-binding |
      | /implemented       | true                |
      | /changed           | true                |
    When I run `a9s create pg backup --name nightly -i solo --no-apply -o json`
    Then the command succeeds
    And these values are in the document:
      | field     | value   |
      | /backup   | nightly |
      | /instance | solo    |
      | /applied  | false   |
      | /complete | false   |
    And the document has no value at "/uid"
    And there is no backup "nightly"
    When I run `a9s pg apply -i solo --sql 'CREATE TABLE kept (n int)' -o json`
    Then the command succeeds
    And standard output says "CREATE TABLE"
    And these values are in the document:
      | field              | value               |
      | /pod               | solo-0              |
      | /database          | a9s_apps_default_db |
      | /steps/0/step      | sql                 |
      | /steps/0/satisfied | true                |
    When I run `a9s pg check -i solo --sql 'SELECT count(*) FROM kept' --is 0 -o yaml`
    Then the command succeeds
    And these values are in the document:
      | field      | value       |
      | /instance  | solo        |
      | /namespace | {namespace} |
      | /answer    | 0           |
    When I run `a9s pg check -i solo --sql 'SELECT count(*) FROM kept' --is 1 --timeout 1s -o json`
    Then it ends with the finding "deadline"
    And these values are in the document:
      | field        | value    |
      | /error/id    | deadline |
      | /error/class | deadline |
    And the document has a text at "/error/cause"
    When I run `a9s pg kill -i solo --member primary --yes -o json`
    Then the command succeeds
    And these values are in the document:
      | field            | value  |
      | /pod             | solo-0 |
      | /ledger          | null   |
      | /steps/0/changed | true   |

  Scenario: How an instance is reached is told before it is reached
    Given a cluster with the a8s stack
    And an instance "solo"
    When I start `a9s pg connect solo -o json` and interrupt it once it says `"user"`
    Then it ends with the finding "interrupted"
    And these values are in the document:
      | field      | value               |
      | /instance  | solo                |
      | /namespace | {namespace}         |
      | /host      | 127.0.0.1           |
      | /database  | a9s_apps_default_db |
    And the document has a number at "/port"
    And the document has a text at "/passfile"

  @restore @needs-restore-into @negative
  Scenario: A backup that is not verified has its content in the document, and why
    Given a cluster with the a8s stack
    And an instance "solo"
    When I apply the statement "CREATE TABLE open (n int)" to "solo"
    And I run `a9s pg apply -i solo --database postgres --sql 'CREATE DATABASE closed ALLOW_CONNECTIONS false' --yes`
    Then the command succeeds
    When I create a backup "nightly" of "solo"
    And I run `a9s pg verify nightly -o json`
    Then it ends with the finding "backup-unread"
    And these values are in the document:
      | field                    | value               |
      | /backup                  | nightly             |
      | /instance                | solo                |
      | /verified                | false               |
      | /content/tables/0/table  | public.open         |
      | /content/unread/0/unread | the database closed |
      | /error/id                | backup-unread       |
      | /error/class             | failed              |

  Scenario: A playbook tells of each of its steps, also of the one that failed
    Given a cluster with the a8s stack
    And an instance "solo"
    And the file "play.yaml" with:
      """
      name: told
      defaults: {service-instance: solo}
      steps:
        - pg apply: {sql: CREATE TABLE IF NOT EXISTS told (n int)}
        - pg check: {sql: SELECT count(*) FROM told, is: 1, timeout: 1s}
        - pg apply: {sql: DELETE FROM told}
      """
    When I run `a9s run play.yaml --dry-run -o json`
    Then the command succeeds
    And these values are in the document:
      | field         | value |
      | /playbook     | told  |
      | /dryRun       | true  |
      | /steps/0/line | 4     |
      | /steps/2/line | 6     |
    When I run `a9s run play.yaml -o json`
    Then the command fails with exit code 4
    And these values are in the document:
      | field          | value    |
      | /playbook      | told     |
      | /rounds        | 1        |
      | /steps/0/line  | 4        |
      | /steps/0/error | null     |
      | /steps/1/line  | 5        |
      | /error/id      | deadline |
    And the document has a text at "/steps/1/error"
    And the document has no value at "/steps/2"
    When I apply the statement "INSERT INTO told VALUES (1)" to "solo"
    And I run `a9s run play.yaml --resume -o yaml`
    Then the command succeeds
    And these values are in the document:
      | field          | value |
      | /playbook      | told  |
      | /steps/0/line  | 5     |
      | /steps/1/line  | 6     |
      | /steps/1/error | null  |
    And the document has no value at "/error"

  @cluster @embedded-only
  Scenario: The life of a cluster
    Given an empty home and no cluster
    When I run `a9s create cluster a8s --yes -o json`
    Then the command succeeds
    And these values are in the document:
      | field       | value        |
      | /provider   | embedded     |
      | /cluster    | a8s          |
      | /context    | a9s-a8s      |
      | /kubeconfig | {kubeconfig} |
      | /stack      | builtin      |
      | /workingDir | {home}/a9s   |
      | /changed    | true         |
    When I run it again
    Then the value at `/changed` of the document is `false`
    When I run `a9s cluster pwd -o yaml`
    Then the value at `/workingDir` of the document is `{home}/a9s`
    When I run `a9s cluster stop --yes -o json`
    Then the command succeeds
    And these values are in the document:
      | field     | value    |
      | /provider | embedded |
      | /cluster  | a8s      |
      | /state    | stopped  |
      | /changed  | true     |
    When I run it again
    Then the command succeeds
    And these values are in the document:
      | field    | value   |
      | /state   | stopped |
      | /changed | false   |
    When I run `a9s cluster start --yes -o json`
    Then the command succeeds
    And these values are in the document:
      | field     | value    |
      | /provider | embedded |
      | /cluster  | a8s      |
      | /state    | running  |
      | /changed  | true     |
    When I run it again
    Then the command succeeds
    And these values are in the document:
      | field    | value   |
      | /state   | running |
      | /changed | false   |
    When I create an instance "solo"
    And I run `a9s delete stack a8s --yes -o json`
    Then the command succeeds
    And these values are in the document:
      | field       | value            |
      | /context    | a9s-a8s          |
      | /deleted    | true             |
      | /instances  | ["default/solo"] |
      | /backups    | []               |
      | /dependants | []               |
    When I run it again
    Then the command succeeds
    And these values are in the document:
      | field      | value |
      | /deleted   | false |
      | /instances | []    |
    When I run `a9s create stack a8s --yes -o yaml`
    Then the command succeeds
    And these values are in the document:
      | field       | value      |
      | /stack      | builtin    |
      | /context    | a9s-a8s    |
      | /workingDir | {home}/a9s |
      | /changed    | true       |
    And the document has a text at "/server"
    When I run it again
    Then the value at `/changed` of the document is `false`
    When I run `a9s delete cluster a8s -c a8s --yes -o json`
    Then the command succeeds
    And these values are in the document:
      | field     | value    |
      | /provider | embedded |
      | /cluster  | a8s      |
      | /deleted  | true     |
      | /all      | false    |
    When I run it again
    Then the command succeeds
    And the value at `/deleted` of the document is `false`

  @core
  Scenario: What is installed where
    Given a cluster with the a8s stack
    When I run `a9s version -o json`
    Then the command succeeds
    And these values are in the document:
      | field            | value     |
      | /version         | {version} |
      | /cluster/context | {context} |
    And the document has a text at "/cluster/kubernetes"
    And the document has a number at "/cluster/postgresql/0"
    And the document has no value at "/cluster/trouble"

  @core @process
  Scenario: What the program has in itself
    When I run `a9s completion bash -o yaml`
    Then the command succeeds
    And the document has a text at "/script"
    When I run `a9s conformance show 'What the program has in itself' -o json`
    Then the command succeeds
    And the value at `/scenarios/0/id` of the document is `Answers for programs: What the program has in itself`
    And the document has a text at "/scenarios/0/steps/0"

  @core
  Scenario: Images are listed, and those that can't be pulled are told with the reason
    Given an empty home and no cluster
    And the file "release/deploy/a8s/manifests/kustomization.yaml" with:
      """
      resources: [pod.yaml]
      """
    And the file "release/deploy/a8s/manifests/pod.yaml" with:
      """
      {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: "example.com/moved:1"}]}}
      """
    And the file "cert-manager.yaml" with:
      """
      {apiVersion: v1, kind: Namespace, metadata: {name: cert-manager}}
      """
    And the file "map.yaml" with:
      """
      example.com/moved:1: 127.0.0.1:1/here:2
      """
    When I run `a9s images list --deployment-version ./release --cert-manager ./cert-manager.yaml --image-map map.yaml --backup-provider AWS -o yaml`
    Then the command succeeds
    And these values are in the document:
      | field               | value               |
      | /images/0/image     | 127.0.0.1:1/here:2  |
      | /images/0/insteadOf | example.com/moved:1 |
    And the document has no value at "/images/1"
    When I run `a9s images verify --stack upstream --timeout 1m --deployment-version ./release --cert-manager ./cert-manager.yaml --image-map map.yaml --backup-provider AWS -o json`
    Then it ends with the finding "image-pull"
    And standard error says "of 1 images cannot be pulled"
    And standard error says "127.0.0.1:1/here:2"
    And standard error says "--image-map"
    And these values are in the document:
      | field           | value              |
      | /images/0/image | 127.0.0.1:1/here:2 |
      | /images/0/there | false              |
      | /error/id       | image-pull         |
      | /error/class    | missing            |
    And the document has a text at "/images/0/why"

  @core @negative
  Scenario Outline: A failure is a document, too: <command>, as <format>
    Given an empty home and no cluster
    When I run `a9s <command> -o <format>`
    Then it ends with the finding "<finding>"
    And these values are in the document:
      | field        | value     |
      | /error/id    | <finding> |
      | /error/class | <class>   |
    And the document has a text at "/error/cause"

    Examples:
      | command                         | format | finding             | class   |
      | cluster status                  | yaml   | no-cluster          | missing |
      | delete cluster a8s -c a8s --all | json   | confirmation-needed | refused |
      | create pg instance --name solo  | yaml   | no-cluster          | missing |
      | cluster pwd                     | yaml   | config-missing      | missing |
      | pg apply --sql 'SELECT 1'       | yaml   | no-instance-named   | usage   |
      | images load -p embedded         | json   | images-unsupported  | refused |
      | run nowhere.yaml                | json   | no-playbook         | missing |
