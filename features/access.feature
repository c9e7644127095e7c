@core
Feature: Who may do what
  The API server asks everyone for a certificate or a token, and follows the rules it was given.

  Background:
    Given a cluster with the a8s stack

  @smoke @embedded-only
  Scenario: Anonymous requests are refused
    When my kubeconfig has no certificate
    Then the API server answers "/api/v1/namespaces" with 401 and the reason "Unauthorized"

  Scenario: A pod before its ServiceAccount is refused as Kubernetes refuses it
    When I POST this to `/api/v1/namespaces/{namespace}/pods` as `application/json`:
      """
      {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "early"},
       "spec": {"serviceAccountName": "later", "containers": [{"name": "c", "image": "a9s/postgresql:15"}]}}
      """
    Then the answer is 403 Forbidden: 'error looking up service account {namespace}/later: serviceaccount "later" not found'

  Scenario: All violations of an instance are reported together
    When I POST this to `/apis/postgresql.anynines.com/v1beta3/namespaces/{namespace}/postgresqls` as `application/json`:
      """
      {"apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql",
       "metadata": {"name": "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz", "labels": {"a8s.a9s/dsi-name": "x"}},
       "spec": {"version": 14, "volumeSize": "1Mi"}}
      """
    Then the answer is 422 Invalid: 'admission webhook "vpostgresql.kb.io" denied the request'
    And the answer is 422 Invalid: 'metadata.name'
    And the answer is 422 Invalid: '52'
    And the answer is 422 Invalid: 'spec.volumeSize'
    And the answer is 422 Invalid: '1Mi'
    And the answer is 422 Invalid: 'reserved'
    And the answer is 422 Invalid: 'a8s.a9s/dsi-name'

  Scenario Outline: An object that is wrong: <what>
    When I POST this to `/apis/postgresql.anynines.com/v1beta3/namespaces/{namespace}/postgresqls` as `application/json`:
      """
      {"apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql", "metadata": {"name": "wrong"}, "spec": <spec>}
      """
    Then the answer is 422 Invalid: "<word>"
    And there is no instance "wrong"

    Examples:
      | what                  | spec                                                    | word                                        |
      | no version            | {"replicas": 1}                                         | spec.version                                |
      | a version too high    | {"version": 99}                                         | spec.version                                |
      | a version as text     | {"version": "fifteen"}                                  | spec.version                                |
      | negative replicas     | {"version": 14, "replicas": -1}                         | spec.replicas                               |
      | an unknown extension  | {"version": 14, "extensions": ["nix"]}                  | Only the following extensions are supported |
      | an extension twice    | {"version": 14, "extensions": ["ltree", "ltree"]}       | spec.extensions                             |
      | a setting of no range | {"version": 14, "parameters": {"maxConnections": 0}}    | maxConnections                              |
      | a word of no list     | {"version": 14, "parameters": {"logStatement": "some"}} | logStatement                                |

    # No node has room for members of this size: were it admitted, none would run.
    @builtin
    Examples:
      | what              | spec                                                                                                       | word                    |
      | too many replicas | {"version": 14, "replicas": 2147483647, "resources": {"requests": {"cpu": "1k"}, "limits": {"cpu": "1k"}}} | must be no more than 99 |

  @full
  Scenario Outline: An object that is right: <what>
    When I POST this to `/apis/postgresql.anynines.com/v1beta3/namespaces/{namespace}/postgresqls?dryRun=All` as `application/json`:
      """
      {"apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql", "metadata": <metadata>, "spec": <spec>}
      """
    Then the command succeeds

    Examples:
      | what                           | metadata                                                                                      | spec                                   |
      | a name of one character        | {"name": "a"}                                                                                 | {"version": 14}                        |
      | a name of 52 characters        | {"name": "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxy"}                              | {"version": 14}                        |
      | a volume of half a gibibyte    | {"name": "right"}                                                                             | {"version": 14, "volumeSize": "0.5Gi"} |
      | a volume in powers of ten      | {"name": "right"}                                                                             | {"version": 14, "volumeSize": "2000M"} |
      | labels much like reserved ones | {"name": "right", "labels": {"xa8s.a9s/dsi-name": "1", "a8s.a9s/dsi-groupa": "2", "8s.a9s/dsi-kind": "3", "a8s.a9s/replication-rol": "4"}} | {"version": 14} |

  @full
  Scenario: What a spec leaves out has its default, and what nobody knows is dropped
    When I POST this to `/apis/postgresql.anynines.com/v1beta3/namespaces/{namespace}/postgresqls?dryRun=All` as `application/json`:
      """
      {"apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql", "metadata": {"name": "bare"},
       "spec": {"version": 14, "colour": "blue"}}
      """
    Then the command succeeds
    And these values are in the document:
      | field                           | value    |
      | /spec/replicas                  | 1        |
      | /spec/volumeSize                | 1Gi      |
      | /spec/resources/requests/cpu    | 2        |
      | /spec/resources/requests/memory | 2Gi      |
      | /spec/resources/limits/cpu      | 2        |
      | /spec/resources/limits/memory   | 2Gi      |
      | /spec/expose                    | Internal |
      | /spec/enableReadOnlyService     | false    |
      | /spec/readOnlyTargetNodes       | replicas |
    And the document has no value at "/spec/colour"

  Scenario Outline: A body that is none: <what>
    When I <verb> this to `<path>` as `<media>`:
      """
      <body>
      """
    Then the answer is <code> <reason>: "<word>"

    Examples:
      | what             | verb  | path                                     | media                          | body          | code | reason               | word |
      | not JSON         | POST  | /api/v1/namespaces/{namespace}/configmaps | application/json               | {"kind":      | 400  | BadRequest           |      |
      | another kind     | POST  | /api/v1/namespaces/{namespace}/configmaps | application/json               | {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}} | 400 | BadRequest | Secret |
      | an unknown media | POST  | /api/v1/namespaces/{namespace}/configmaps | text/plain                     | hello         | 415  | UnsupportedMediaType |      |
      | a patch of none  | PATCH | /api/v1/namespaces/{namespace}/configmaps/none | application/merge-patch+json | {"data": {}} | 404 | NotFound        | none |
      | a bad name       | POST  | /api/v1/namespaces/{namespace}/configmaps | application/json               | {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "No_Good"}} | 422 | Invalid | No_Good |

  Scenario: Garbage as a body
    When I POST 4096 bytes of garbage to `/api/v1/namespaces/{namespace}/configmaps`
    Then the answer is 400 BadRequest: ""
    And the cluster answers

  @kubectl @builtin
  Scenario: The agent of an instance may do what it needs, and nothing else
    Given an instance "solo"
    When I run `kubectl auth can-i get secret/solo-logins --as system:serviceaccount:{namespace}:solo`
    Then standard output is "yes"
    When I run `kubectl auth can-i list secrets --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When I run `kubectl auth can-i get secret/postgres.credentials.solo --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When I run `kubectl auth can-i create secrets --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When I run `kubectl auth can-i patch lease/solo --as system:serviceaccount:{namespace}:solo`
    Then standard output is "yes"
    When I run `kubectl auth can-i patch lease/other --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When I run `kubectl auth can-i patch pod/solo-1 --as system:serviceaccount:{namespace}:solo`
    Then standard output is "yes"
    When I run `kubectl auth can-i patch pod/other-0 --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When I run `kubectl auth can-i delete pods --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When I run `kubectl auth can-i update postgresqls --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When I run `kubectl auth can-i get namespaces --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"

  @full @builtin @kubectl
  Scenario: The agent of an instance may answer its own orders, and those only while they run
    Given an instance "solo"
    When I run `kubectl auth can-i patch backups --subresource=status --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When I run `kubectl auth can-i patch restores --subresource=status --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When I create a backup "nightly" of "solo"
    Then the command succeeds
    When I run `kubectl auth can-i patch backups/nightly --subresource=status --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When I create a restore "back" of the backup "nightly" into "solo"
    Then the command succeeds
    When I run `kubectl auth can-i patch restores/back --subresource=status --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    And nobody has access to the store any more

  @full @embedded-only @kubectl
  Scenario: While an order runs, the agent of its instance may answer it, and no other one
    Given an instance "solo"
    And 200 MB of random data in "solo"
    When somebody orders a backup "long" of "solo"
    And the backup "long" has begun to upload
    And the backup-agent of the member "solo-0" of "solo" is frozen
    And I run `kubectl auth can-i patch backups/long --subresource=status --as system:serviceaccount:{namespace}:solo`
    Then standard output is "yes"
    When I run `kubectl auth can-i patch backups/other --subresource=status --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When I run `kubectl auth can-i patch restores/long --subresource=status --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    When what was frozen goes on
    Then the backup "long" is soon complete
    When I run `kubectl auth can-i patch backups/long --subresource=status --as system:serviceaccount:{namespace}:solo`
    Then standard output is "no"
    And nobody has access to the store any more

  # Applications make functions and operators that fit better than the server's own, and put their schemas first.
  @full @kubectl @builtin
  Scenario: What an application has made is not run by the agent in the place of the superuser
    Given an instance "solo"
    And service bindings "app" to "solo"
    When as "app" these statements are run:
      """
      CREATE FUNCTION obj_description(oid, text) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN ALTER ROLE a9s_user SUPERUSER; RETURN ''; EXCEPTION WHEN insufficient_privilege THEN RETURN ''; END $$;
      CREATE SCHEMA first;
      CREATE FUNCTION first.obj_description(oid, name) RETURNS text LANGUAGE sql AS
        $$ SELECT public.obj_description($1, $2::text) $$;
      ALTER DATABASE a9s_apps_default_db SET search_path = first, pg_catalog, public;
      ALTER DATABASE a9s_apps_default_db SET role = a9s_user;
      """
    And I run `kubectl patch pg solo --type merge -p '{"spec":{"extensions":["hstore"]}}'`
    Then the command succeeds
    And "solo" soon answers "SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'hstore'" with "public"
    And "solo" answers "SELECT rolsuper FROM pg_roles WHERE rolname = 'a9s_user'" with "f"

  @full
  Scenario: What an application has made is not run by the client of the ledger in the place of the superuser
    Given an instance "solo"
    And service bindings "app" to "solo"
    When as "app" these statements are run:
      """
      CREATE SCHEMA first;
      CREATE FUNCTION first.pg_is_in_recovery() RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN ALTER ROLE a9s_user SUPERUSER; RETURN false; EXCEPTION WHEN insufficient_privilege THEN RETURN false; END $$;
      ALTER DATABASE a9s_apps_default_db SET search_path = first, pg_catalog, public;
      """
    And I run `a9s pg kill -i solo --member primary --ledger --yes`
    Then the command succeeds
    And standard output says "and all of them are there"
    And "solo" answers "SELECT rolsuper FROM pg_roles WHERE rolname = 'a9s_user'" with "f"

  @full @builtin
  Scenario: A Secret that names the administrator makes no login, and keeps nobody from theirs
    Given an instance "solo"
    And service bindings "app" to "solo"
    When somebody puts a Secret with the username "postgres" in the place of that of "app"
    And I create a service binding "other" to "solo"
    Then the command succeeds
    And as "other" the statement "SELECT 1" answers "1"
    And the login of "app" is refused
    And "solo" answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "1"
    When I run `a9s delete pg servicebinding --name other --yes`
    Then the command succeeds
    And "solo" answers "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'a8s-sb-%'" with "0"

  @full @deployments @builtin @kubectl
  Scenario: The account of the operators may do what operators do
    When I run `kubectl auth can-i create statefulsets.apps --all-namespaces --as system:serviceaccount:a8s-system:postgresql-manager-account`
    Then the command succeeds
    And standard output is "yes"

  @full @deployments @builtin @kubectl
  Scenario Outline: The account of the operators may not <verb> <resource>
    When I run `kubectl auth can-i <verb> <resource> <more> --as system:serviceaccount:a8s-system:postgresql-manager-account`
    Then the command fails with exit code 1
    And standard output says "no"

    Examples:
      | verb        | resource                                              | more               |
      | create      | clusterrolebindings.rbac.authorization.k8s.io         |                    |
      | escalate    | roles.rbac.authorization.k8s.io                       | --all-namespaces   |
      | bind        | clusterroles.rbac.authorization.k8s.io                |                    |
      | impersonate | users                                                 |                    |
      | create      | pods                                                  | --subresource=exec |
      | delete      | nodes                                                 |                    |
      | delete      | namespaces                                            |                    |
      | update      | customresourcedefinitions.apiextensions.k8s.io        |                    |
      | create      | validatingwebhookconfigurations.admissionregistration.k8s.io |             |
      | patch       | validatingwebhookconfigurations.admissionregistration.k8s.io/of-somebody-else | |
      | delete      | persistentvolumes                                     |                    |
