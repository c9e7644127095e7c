@kubectl @core
Feature: kubectl as the judge
  An unmodified kubectl works against the cluster as against any other.

  Background:
    Given a cluster with the a8s stack

  Scenario: Rows through kubectl exec
    Given an instance "solo"
    And the table "kept" of "solo" holds "seen by kubectl"
    When I run `kubectl exec solo-0 -c postgres -- psql -U postgres -d a9s_apps_default_db -At -c 'SELECT value FROM kept'`
    Then the command succeeds
    And standard output is "seen by kubectl"

  @full
  Scenario: Looking at an instance
    Given an instance "solo"
    When I run `kubectl get pg`
    Then the command succeeds
    And standard output says "NAME"
    And standard output says "solo"
    When I run `kubectl get pods -o wide`
    Then the command succeeds
    And standard output says "3/3"
    And standard output says "Running"
    When I run `kubectl get pods -A -l a8s.a9s/dsi-name=solo --field-selector status.phase=Running`
    Then the command succeeds
    And standard output says "solo-0"
    When I run `kubectl get postgresql solo -o jsonpath={.status.clusterStatus}`
    Then the command succeeds
    And standard output is "Running"
    When I run `kubectl get pg solo -o yaml`
    Then the command succeeds
    And standard output says "kind: Postgresql"
    When I run `kubectl describe pg solo`
    Then the command succeeds
    And standard output says "Successfully created statefulSet"
    When I run `kubectl describe pod solo-0`
    Then the command succeeds
    And standard output says "Ready"
    When I run `kubectl events`
    Then the command succeeds
    And standard output says "Successfully created statefulSet"
    When I run `kubectl logs solo-0 -c postgres`
    Then the command succeeds
    And standard output says "ready to accept connections"
    When I run `kubectl get all`
    Then the command succeeds
    And standard output says "statefulset.apps/solo"
    When I run `kubectl get nodes,sc,pv,pvc,sts,svc,ep,sa,rolebindings,secrets`
    Then the command succeeds
    When I run `kubectl api-resources`
    Then the command succeeds
    And standard output says "postgresqls"
    When I run `kubectl explain pg.spec.volumeSize`
    Then the command succeeds

  Scenario: A pod that has a place on no node has no log, and nothing can be run in it
    Given an instance "solo"
    When I apply the object:
      """
      apiVersion: v1
      kind: Pod
      metadata: {name: nowhere}
      spec:
        containers:
        - {name: main, image: "a9s/postgresql:15", command: [sleep, "60"], resources: {requests: {cpu: "100000"}}}
      """
    And I run `kubectl logs nowhere`
    Then the command succeeds
    And nothing is on standard output
    When I run `kubectl exec nowhere -- true`
    Then the command fails
    And standard error says "pod nowhere does not have a host assigned"

  Scenario: Applying, changing and deleting
    When I run `kubectl apply -f -` with this on standard input:
      """
      apiVersion: postgresql.anynines.com/v1beta3
      kind: Postgresql
      metadata: {name: applied}
      spec:
        version: 13
        volumeSize: 1Gi
        resources: {requests: {cpu: 100m}, limits: {memory: 100Mi}}
      """
    Then the command succeeds
    And standard output says "postgresql.postgresql.anynines.com/applied created"
    When I run `kubectl wait --for=jsonpath={.status.clusterStatus}=Running pg/applied --timeout=60s`
    Then the command succeeds
    And the instance "applied" is ready
    When I run `kubectl wait --for=condition=Ready pod/applied-0 --timeout=60s`
    Then the command succeeds
    And standard output says "condition met"
    When I run `kubectl label pg applied team=blue`
    Then the command succeeds
    When I run `kubectl patch pg applied --type merge -p '{"spec":{"parameters":{"logStatement":"all"}}}'`
    Then the command succeeds
    When I run `kubectl delete pg applied --timeout=60s`
    Then the command succeeds
    And nothing of the instance "applied" is left

  @full
  Scenario: Orders are given, waited for and found
    Given an instance "solo"
    And the table "kept" of "solo" holds "before"
    When I apply the object:
      """
      apiVersion: backups.anynines.com/v1beta3
      kind: Backup
      metadata: {name: nightly}
      spec: {serviceInstance: {apiGroup: postgresql.anynines.com, kind: Postgresql, name: solo}}
      """
    And I run `kubectl wait bkp nightly --for=condition=complete --timeout=60s`
    Then the command succeeds
    And standard output says "condition met"
    When I run `kubectl get bkp nightly -o json`
    Then these values are in the document:
      | field            | value    |
      | /spec/maxRetries | Infinite |
    And the document has a text at "/status/lastObservationTime"
    When I apply the statement "UPDATE kept SET value = 'after'" to "solo"
    And I apply the object:
      """
      apiVersion: backups.anynines.com/v1beta3
      kind: Restore
      metadata: {name: back}
      spec: {backupName: nightly, serviceInstance: {apiGroup: postgresql.anynines.com, kind: Postgresql, name: solo}}
      """
    And I run `kubectl wait rst back --for=condition=complete --timeout=60s`
    Then the command succeeds
    And "solo" answers "SELECT value FROM kept" with "before"
    When I apply the object:
      """
      apiVersion: servicebindings.anynines.com/v1beta3
      kind: ServiceBinding
      metadata: {name: app}
      spec: {instance: {apiVersion: postgresql.anynines.com/v1beta3, kind: Postgresql, name: solo}}
      """
    And I run `kubectl wait sb app --for=jsonpath={.status.implemented}=true --timeout=60s`
    Then the command succeeds
    When I run `kubectl get all`
    Then the command succeeds
    And standard output says "servicebinding.servicebindings.anynines.com/app"

  @full @needs-backup-objects
  Scenario: An instance and what was ordered for it are deleted at once
    Given an instance "solo"
    And service bindings "app" to "solo"
    And a backup "nightly" of "solo"
    When I create a restore "back" of the backup "nightly" into "solo"
    Then the command succeeds
    When I run `kubectl delete pg/solo sb/app bkp/nightly rst/back --timeout=120s`
    Then the command succeeds
    And nothing of the instance "solo" is left
    And there is no secret "app-service-binding"
    And there is no backup "nightly"
    And there is no restore "back"
    And the store has nothing of this namespace

  @full
  Scenario: A token lives for no longer than clocks reach
    When I run `kubectl apply -f -` with this on standard input:
      """
      apiVersion: v1
      kind: Pod
      metadata: {name: eternal}
      spec:
        containers: [{name: main, image: "a9s/postgresql:15"}]
        volumes:
        - {name: token, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 5000000000}}]}}
      """
    Then the command fails with exit code 1
    And standard error says "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5000000000: may not specify a duration larger than 2^32 seconds"
    When I run `kubectl create token default --duration 5000000000s`
    Then the command fails with exit code 1
    And standard error says "spec.expirationSeconds: Invalid value: 5000000000: may not specify a duration larger than 2^32 seconds"

  Scenario: Client side, server side, dry
    When I run `kubectl create configmap notes --from-literal=a=1`
    Then the command succeeds
    When I run `kubectl apply --server-side -f -` with this on standard input:
      """
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: server-side}
      data: {a: "1"}
      """
    Then the command succeeds
    And standard output says "serverside-applied"
    When I run `kubectl apply --server-side --field-manager other -f -` with this on standard input:
      """
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: server-side}
      data: {a: "2"}
      """
    Then the command fails
    And standard error says "conflict"
    When I run `kubectl apply --dry-run=server -f -` with this on standard input:
      """
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: dry}
      data: {a: "1"}
      """
    Then the command succeeds
    And standard output says "created (server dry run)"
    When I run `kubectl get configmap dry`
    Then the command fails with exit code 1
    And standard error says 'Error from server (NotFound): configmaps "dry" not found'

  @full
  Scenario: Exec with standard input, an exit code, and a terminal
    Given an instance "solo"
    When I run `kubectl exec -i solo-0 -c postgres -- cat` with this on standard input:
      """
      through a pipe
      """
    Then the command succeeds
    And standard output says "through a pipe"
    When I run `kubectl exec solo-0 -c postgres -- sh -c 'echo out; echo err >&2; exit 7'`
    Then the command fails with exit code 7
    And standard output says "out"
    And standard error says "err"
    When I run `kubectl exec -it solo-0 -c postgres -- tty` in a terminal
    Then the command succeeds
    And standard output says "/dev/pts/"

  @full
  Scenario: Copying there and back
    Given an instance "solo"
    And the file "there.txt" with:
      """
      a line to copy
      """
    When I run `kubectl cp there.txt solo-0:/tmp/there.txt -c postgres`
    Then the command succeeds
    When I run `kubectl cp solo-0:/tmp/there.txt back.txt -c postgres`
    Then the command succeeds
    And the file "back.txt" says "a line to copy"

  @full
  Scenario: A port forwarded to the server
    Given an instance "solo"
    And the table "kept" of "solo" holds "through the tunnel"
    And a port-forward to "solo"
    Then the port-forward answers "SELECT value FROM kept" with "through the tunnel" at the first attempt

  @full
  Scenario: Following changes and logs
    When I follow `kubectl get pods -w` until it says `3/3` while I run `a9s create pg instance --name solo --yes`
    Then the command succeeds
    When I follow `kubectl logs -f solo-0 -c postgres` until it says `nowhere` while I run `a9s pg apply -i solo --sql "DO $$ BEGIN RAISE WARNING 'nowhere'; END $$" --yes`
    Then the command succeeds

  Scenario: What one may do
    When I run `kubectl auth can-i create postgresqls`
    Then the command succeeds
    And standard output is "yes"
    When I run `kubectl auth can-i create secrets --as system:serviceaccount:{namespace}:default`
    Then the command fails with exit code 1
    And standard output is "no"
    When I run `kubectl get secrets --as system:serviceaccount:{namespace}:default`
    Then the command fails with exit code 1
    And standard error says 'secrets is forbidden: User "system:serviceaccount:{namespace}:default" cannot list resource "secrets" in API group "" in the namespace "{namespace}"'

  @full @k8s-1.30
  Scenario: A definition does not change what its objects are stored by
    When I run `kubectl create -f -` with this on standard input:
      """
      apiVersion: apiextensions.k8s.io/v1
      kind: CustomResourceDefinition
      metadata: {name: "things.{namespace}.example.com"}
      spec:
        group: "{namespace}.example.com"
        scope: Namespaced
        names: {kind: Thing, plural: things, singular: thing, listKind: ThingList}
        versions:
        - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
      """
    And I run `kubectl wait --for=condition=Established crd/things.{namespace}.example.com --timeout=60s`
    Then the command succeeds
    When I run `kubectl patch crd things.{namespace}.example.com --type merge -p '{"spec":{"scope":"Cluster"}}'`
    Then the command fails with exit code 1
    And standard error says 'spec.scope: Invalid value: "Cluster": field is immutable'
    When I run `kubectl patch crd things.{namespace}.example.com --type json -p '[{"op":"replace","path":"/spec/versions/0/name","value":"v2"}]'`
    Then the command fails with exit code 1
    And standard error says "missing from spec.versions; v1 was previously a storage version"
    When I run `kubectl delete crd things.{namespace}.example.com --timeout=60s`
    Then the command succeeds

  @full @embedded-only
  Scenario: An object that is older than its schema can still be changed
    When I run `kubectl create -f -` with this on standard input:
      """
      apiVersion: apiextensions.k8s.io/v1
      kind: CustomResourceDefinition
      metadata: {name: "relics.{namespace}.example.com"}
      spec:
        group: "{namespace}.example.com"
        scope: Namespaced
        names: {kind: Relic, plural: relics, singular: relic, listKind: RelicList}
        versions:
        - name: v1
          served: true
          storage: true
          schema: {openAPIV3Schema: {type: object, properties: {age: {type: integer}, word: {type: string}}}}
      """
    And I run `kubectl create -f -` with this on standard input:
      """
      apiVersion: "{namespace}.example.com/v1"
      kind: Relic
      metadata: {name: old}
      age: 900
      """
    And I run `kubectl patch crd relics.{namespace}.example.com --type json -p '[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/age/maximum","value":100}]'`
    And I run `kubectl patch relics.{namespace}.example.com old --type merge -p '{"word":"still here"}'`
    Then every command succeeds
    When I run `kubectl patch relics.{namespace}.example.com old --type merge -p '{"age":901}'`
    Then the command fails with exit code 1
    And standard error says "age in body should be less than or equal to 100"
    When I run `kubectl delete crd relics.{namespace}.example.com --timeout=60s`
    Then the command succeeds

  @full @embedded-only
  Scenario: A definition whose objects a webhook would have to convert is refused
    When I run `kubectl create -f -` with this on standard input:
      """
      apiVersion: apiextensions.k8s.io/v1
      kind: CustomResourceDefinition
      metadata: {name: "turncoats.{namespace}.example.com"}
      spec:
        group: "{namespace}.example.com"
        scope: Namespaced
        names: {kind: Turncoat, plural: turncoats, singular: turncoat, listKind: TurncoatList}
        conversion:
          strategy: Webhook
          webhook:
            conversionReviewVersions: [v1]
            clientConfig: {service: {name: converter, namespace: "{namespace}", path: /convert}}
        versions:
        - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
        - {name: v2, served: true, storage: false, schema: {openAPIV3Schema: {type: object}}}
      """
    Then the command fails with exit code 1
    And standard error says 'spec.conversion.strategy: Unsupported value: "Webhook": no conversion webhooks are called here'
    When I run `kubectl get crd turncoats.{namespace}.example.com`
    Then the command fails with exit code 1
