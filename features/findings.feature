@negative
Feature: Findings
  Whatever ends a command is one of the findings in the list: its identifier, its exit code, and one clear sentence. A whole
  run of the features brings about all of them; here are those that no other feature needs.

  @core
  Scenario Outline: In an empty home: <finding>, because <why>
    Given an empty home and no cluster
    And the file "in-the-way" with:
      """
      neither a directory nor a document
      """
    And the variable "<variable>" is "<value>"
    When I run `a9s <line>`
    Then it ends with the finding "<finding>"
    And standard error says "<words>"

    Examples:
      | finding            | why                                       | variable      | value             | line                               | words                                                                  |
      | state-unreadable   | a file is where the clusters should be    | A9S_STATE_DIR | {home}/in-the-way | cluster list                       | {home}/in-the-way                                                      |
      | state-directory    | the directory of the clusters is relative | A9S_STATE_DIR | here              | cluster status                     | A9S_STATE_DIR is not an absolute path: here                            |
      | usage              | the variable names no provider            | A9S_PROVIDER  | nimbus            | cluster list                       | A9S_PROVIDER: The selected Kubernetes provider nimbus is not valid     |
      | no-cluster         | there is none                             |               |                   | cluster status                     | there is no embedded cluster a8s                                       |
      | no-cluster         | there is no kubeconfig                    | KUBECONFIG    | {home}/nowhere    | list pg instances                  | there is no kubeconfig: none of {home}/nowhere exists                  |
      | config-missing     | there is no configuration                 |               |                   | cluster pwd                        | There is no config, yet: {home}/.a9s does not name a working directory |
      | image-map          | there is no such file                     |               |                   | images list --image-map nowhere    | cannot read the image map:                                             |
      | no-features        | there is no such folder                   |               |                   | conformance run --features nowhere | nowhere                                                                |
      | images-unsupported | the embedded cluster runs no images       |               |                   | images load -p embedded            | the embedded cluster runs programs of this machine                     |
      | no-instance-named  | the command needs one                     |               |                   | pg apply --sql 'SELECT 1'          | no instance is named: use --service-instance (-i)                      |
      | no-document        | a group of commands only shows its help   |               |                   | create -o json                     | help is no document: name one of the commands, or leave out --output   |

  @core @process
  Scenario Outline: In surroundings that are not right: <finding>, because <why>
    Given an empty home and no cluster
    And the variable "<variable>" is "<value>"
    When I run `a9s <line>`
    Then it ends with the finding "<finding>"
    And standard error says "<words>"

    Examples:
      | finding           | why                               | variable      | value          | line                                    | words                              |
      | no-certificates   | the system trusts nobody          | SSL_CERT_FILE | {home}/nowhere | images list --deployment-version v0.0.0 | this system trusts no certificates |
      | no-such-door      | there is no such door             | A9S_DOOR      | window         | conformance run --tags @smoke           | A9S_DOOR is cli or plan, not       |
      | suite-not-started | nobody can make a directory there | TMPDIR        | /proc          | conformance run --tags @smoke           | /proc/a9s-e2e-                     |

  @core @cluster @embedded-only
  Scenario Outline: A cluster that cannot be made: <finding>, because <why>
    Given an empty home and no cluster
    And the variable "<variable>" is "<value>"
    When I run `a9s create cluster a8s <flags> --yes`
    Then it ends with the finding "<finding>"
    And standard error says "<words>"
    And nothing of the cluster is left

    Examples:
      | finding           | why                                 | variable      | value     | flags         | words                                   |
      | config-unwritable | nobody can make a file in that home | HOME          | /proc     |               | cannot write the config file /proc/.a9s |
      | directory-blocked | nobody can make a directory there   | A9S_STATE_DIR | /proc/a9s | --no-precheck | cannot make /proc/a9s/a8s:              |

  @core @cluster @embedded-only @root
  Scenario Outline: A user who cannot run PostgreSQL: <finding>
    Given an empty home and no cluster
    When I run `a9s create cluster a8s --yes --run-as <user>`
    Then it ends with the finding "<finding>"
    And standard error says "<words>"

    Examples:
      | finding        | user                | words                                                     |
      | no-server-user | nobody-of-that-name | there is no user nobody-of-that-name to run PostgreSQL as |
      | run-as         | root                | PostgreSQL does not run as root                           |

  @core @cluster @embedded-only @root
  Scenario: PostgreSQL's user cannot get to the directory of the clusters
    Given an empty home and no cluster
    And the variable "A9S_STATE_DIR" is "{home}/clusters"
    When I run `a9s create cluster a8s --yes`
    Then it ends with the finding "directory-blocked"
    And standard error says "that runs PostgreSQL may not pass through {home} (mode "
    And standard error says "chmod o+x {home}"

  @core @cluster @embedded-only
  Scenario Outline: A kubeconfig that is not what it should be: <finding>
    Given an empty home and no cluster
    And the file "<file>" with:
      """
      {{{
      """
    When I run `a9s create cluster a8s --yes`
    Then it ends with the finding "<finding>"
    And standard error says "<words>"

    Examples:
      | finding            | file                | words                                    |
      | kubeconfig-damaged | .kube/config        | the kubeconfig {kubeconfig} is damaged:  |
      | kubeconfig-io      | .kube/config/a-file | cannot read the kubeconfig {kubeconfig}: |

  @core @cluster @embedded-only
  Scenario: A record of a cluster that is damaged
    Given an empty home and no cluster
    And the file "{state}/a8s/cluster.json" with:
      """
      {
      """
    When I run `a9s cluster status`
    Then it ends with the finding "state-damaged"
    And standard error says "{state}/a8s/cluster.json is damaged: "

  @full @cluster @embedded-only
  Scenario: The kubeconfig is locked for longer than a command waits
    Given an empty home and no cluster
    And another program holds the lock of the kubeconfig
    When I run `a9s create cluster a8s --yes`
    Then it ends with the finding "kubeconfig-locked"
    And standard error says "the kubeconfig {kubeconfig} is locked by another program"
    And standard error says "If no other program runs, remove {kubeconfig}.lock."

  @core @process @linux
  Scenario: Nobody can write to standard output
    Given an empty home and no cluster
    When I run `a9s version` where standard output is full
    Then it ends with the finding "output-unwritable"
    And standard error says "cannot write to standard output: "
    And standard error says "The command itself was carried out."
    When I run `a9s --help` where standard output is full
    Then it ends with the finding "output-unwritable"

  @core
  Scenario Outline: A store for backups that cannot be one: <finding>, because <why>
    Given an empty home and no cluster
    And the file "empty" with:
      """
      """
    When I run `a9s create cluster a8s --yes --backup-provider AWS --backup-bucket shop <flags>`
    Then it ends with the finding "<finding>"
    And standard error says "<words>"

    Examples:
      | finding        | why                     | words                                          | flags |
      | no-key         | the keys are not given  | the backup provider AWS needs a --backup-store | |
      | key-unreadable | there is no such file   | nowhere                                        | --backup-store-accesskey a --backup-store-secretkey-file nowhere |
      | backup-store   | the address is none     | is no http or https URL of a host              | --backup-store-accesskey a --backup-store-secretkey b --backup-store-endpoint nowhere |
      | empty-key      | the file is empty       | The backup-store-secretkey can't be empty!     | --backup-store-accesskey a --backup-store-secretkey-file empty |

  @full
  Scenario Outline: An instance that serves: <finding>, because <why>
    Given a cluster with the a8s stack
    And an instance "solo"
    And the variable "<variable>" is "<value>"
    When I run `a9s <line>`
    Then it ends with the finding "<finding>"
    And standard error says "<words>"

    Examples:
      | finding     | why                          | variable        | value | line                 | words                                            |
      | no-document | psql writes what it likes    |                 |       | pg psql solo -o json | psql's output is no document: leave out --output |
      | passfile    | nobody can make a file there | XDG_RUNTIME_DIR | /proc | pg connect solo      | cannot write the file with the password:         |

  @full @kubectl @needs-failover
  Scenario: An instance that was ordered just now has nobody yet to fail over from
    Given a cluster with the a8s stack
    When I apply the object:
      """
      apiVersion: postgresql.anynines.com/v1beta3
      kind: Postgresql
      metadata: {name: soon}
      spec: {replicas: 2, volumeSize: 1Gi, version: 15, resources: {requests: {cpu: "100000"}}}
      """
    And I run `a9s pg failover soon --yes`
    Then it ends with the finding "no-lease"
    And standard error says "the instance soon has no Lease yet: it has no primary, or its stack has other means"

  @full @kubectl @builtin
  Scenario: An instance that has a place on no node
    Given a cluster with the a8s stack
    When I apply the object:
      """
      apiVersion: postgresql.anynines.com/v1beta3
      kind: Postgresql
      metadata: {name: never}
      spec: {replicas: 1, volumeSize: 1Gi, version: 15, resources: {requests: {cpu: "100000"}}}
      """
    And I run `a9s pg apply -i never --sql 'SELECT 1' --yes`
    Then it ends with the finding "no-primary"
    And standard error says "Can't find primary pod of service instance: {namespace}/never"
    And standard error says "How is it? kubectl get postgresql,pods -n {namespace}"

  @full
  Scenario: An instance without members takes no SQL
    Given a cluster with the a8s stack
    And an instance "solo"
    When I scale "solo" to 0 members
    Then "solo" soon has no member
    When I run `a9s pg apply -i solo --sql 'SELECT 1' --yes`
    Then it ends with the finding "no-primary"
    And standard error says "Can't find primary pod of service instance: {namespace}/solo: the instance has no members"

  Scenario: No context is the current one
    Given an empty home and no cluster
    And the file ".kube/config" with:
      """
      {apiVersion: v1, kind: Config, contexts: [{name: away, context: {cluster: away, user: away}}],
       clusters: [{name: away, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: away, user: {}}]}
      """
    When I run `a9s list pg instances`
    Then it ends with the finding "no-cluster"
    And standard error says "no Kubernetes context is selected"

  @full
  Scenario: Somebody deletes what a command waits for
    Given a cluster with the a8s stack
    And an instance "solo"
    When I scale "solo" to 0 members
    And I run `a9s create pg backup -i solo --name gone`, and once it waits `a9s delete pg backup --name gone --yes` is run
    Then it ends with the finding "deleted-meanwhile"
    And standard error says "the backup gone is not there any more: somebody has deleted it"
    When I run `a9s create pg instance --name huge --requests-cpu 99999999999 --yes`, and once it waits `a9s delete pg instance --name huge --yes` is run
    Then it ends with the finding "deleted-meanwhile"
    And standard error says "the instance huge is not there any more: somebody has deleted it"
    When somebody orders a backup "early" of "solo"
    And I run `a9s create pg restore --name back -b early -i solo --yes`
    Then it ends with the finding "backup-unusable"
    And standard error says "the backup early can't be restored: it is not complete yet: "

  @full @kubectl
  Scenario: Somebody else owns a field
    Given a cluster with the a8s stack
    And an instance "solo"
    When I run `kubectl patch postgresql solo --type merge --field-manager somebody -p '{"spec": {"replicas": 2}}'`
    And I run `a9s create pg instance --name solo --replicas 3 --yes`
    Then it ends with the finding "conflict"
    And standard error says "Take these fields over with --force-conflicts."
    When I run `a9s create pg instance --name solo --replicas 3 --force-conflicts --yes`
    Then the command succeeds
    And "solo" has one primary and 2 standbys

  @full @kubectl @needs-restore-into
  Scenario: The backup is of an instance with no name, or of one that is not there and of no known size
    Given a cluster with the a8s stack
    When I apply the object:
      """
      apiVersion: backups.anynines.com/v1beta3
      kind: Backup
      metadata: {name: odd}
      spec: {serviceInstance: {apiGroup: postgresql.anynines.com, kind: Postgresql, name: "Not a name"}}
      """
    And I run `a9s create pg restore --to new -b odd --yes`
    Then it ends with the finding "no-source"
    And standard error says "the backup odd does not say which instance it is of"
    When I apply the object:
      """
      apiVersion: backups.anynines.com/v1beta3
      kind: Backup
      metadata: {name: lone}
      spec: {serviceInstance: {apiGroup: postgresql.anynines.com, kind: Postgresql, name: nobody}}
      """
    And I run `a9s create pg restore --to new -b lone --yes`
    Then it ends with the finding "no-instance"
    And standard error says "neither the instance new nor the instance nobody is there to copy"
    And standard error says "Make an instance, a9s create pg instance --name NAME, and restore into it: a9s create pg restore -i NAME."

  @full @kubectl
  Scenario: Credentials that the cluster does not know
    Given a cluster with the a8s stack
    When I run `kubectl config set-credentials nobody --token nonsense`
    And I run `kubectl config set-context --current --user nobody`
    And I run `a9s list pg instances`
    Then it ends with the finding "unauthorized"
    And standard error says "The credentials of the context are not accepted by the cluster."

  @full
  Scenario Outline: Credentials that come from a program which <what>
    Given the file "own.yaml" with:
      """
      apiVersion: v1
      kind: Config
      current-context: cloud
      clusters: [{name: cloud, cluster: {server: "https://127.0.0.1:9"}}]
      contexts: [{name: cloud, context: {cluster: cloud, user: me}}]
      users:
      - name: me
        user:
          exec:
            apiVersion: client.authentication.k8s.io/v1
            interactiveMode: Never
            command: <program>
            args: [-c, "echo the session is over >&2; exit 7"]
      """
    When I run `a9s list pg instances --kubeconfig own.yaml`
    Then it ends with the finding "<finding>"
    And standard error says "<cause>"
    And standard error says "<words>"
    # What it gives may be credentials.
    And standard error does not say "exit 7"

    Examples:
      | what              | program        | finding      | cause                                                                                 | words                                |
      | is not there      | no-such-helper | no-tool      | the context gets its credentials from the program no-such-helper, which can't be run: | Install it, or name another context. |
      | gives none        | sh             | unauthorized | the program sh gives no credentials for the context: exit status: 7                   | the session is over                  |
      | gives no document | echo           | unauthorized | the program echo gives no credentials:                                                | auth exec output                     |

  @full
  Scenario: Nothing of a kubeconfig that can't be read is shown
    Given the file "own.yaml" with:
      """
      apiVersion: v1
      kind: Config
      users:
      - name: me
        user:
          token: s3cr3t-of-mine: x
      """
    When I run `a9s list pg instances --kubeconfig own.yaml`
    Then it ends with the finding "kubeconfig-unusable"
    And standard error does not say "s3cr3t-of-mine"

  @full @kubectl
  Scenario: A context whose namespace cannot be one
    Given a cluster with the a8s stack
    And an instance "solo"
    When I run `kubectl config set-context --current --namespace UPPER`
    And I run `a9s pg apply -i solo --sql 'SELECT 1' --yes`
    Then it ends with the finding "bad-namespace"
    And standard error says "can't be used: a name of lower-case letters"

  @full @ha @needs-failover
  Scenario: A standby that does not follow cannot be the next primary
    Given a cluster with the a8s stack
    And an instance "trio" of 3 members
    And the member "trio-0" is the primary of "trio"
    And I have applied the statement "ALTER ROLE standby NOLOGIN" to "trio"
    And I have applied the statement "SELECT pg_terminate_backend(pid) FROM pg_stat_replication" to "trio"
    When I run `a9s pg failover trio --to trio-1 --yes`
    Then it ends with the finding "failover-refused"
    And standard error says "the primary refused the failover: trio-1 does not follow the primary at the moment"

  @core @cluster @embedded-only
  Scenario Outline: Something is where the record of a cluster on kind would be: <what>
    Given an empty home and no cluster
    And a program "docker" that answers:
      | asked  | says                                       | exit code |
      | info   | {"MemTotal": 16000000000}                  | 0         |
      | images | a9s/operators:{version}\na9s/postgresql:15 | 0         |
      | ps     |                                            | 0         |
    And a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
      | delete  |                                   | 0         |
    And the file "{state}/<file>" with:
      """
      in the way
      """
    When I run `a9s create cluster a8s -p kind --stack builtin --no-precheck --yes`
    Then it ends with the finding "state-unwritable"
    And standard error says "<words>"

    Examples:
      | what        | file                             | words                                       |
      | a file      | .kind                            | cannot make {state}/.kind/a8s:              |
      | a directory | .kind/a8s/config.yaml/in-the-way | cannot write {state}/.kind/a8s/config.yaml: |

  @core @cluster @embedded-only
  Scenario: The record of a cluster on kind cannot be removed
    Given an empty home and no cluster
    And a program "docker" that answers:
      | asked  | says                                   | exit code |
      | info   | {"MemTotal": 16000000000}              | 0         |
      | ps     | 0123456789ab a8s-control-plane running | 0         |
    And a program "kind" that answers:
      | asked   | says                              | exit code |
      | version | kind v0.27.0 go1.24.0 linux/amd64 | 0         |
      | delete  |                                   | 0         |
    And the file "{state}/.kind/a8s" with:
      """
      in the way
      """
    When I run `a9s delete cluster a8s -c a8s -p kind --yes`
    Then it ends with the finding "state-unremovable"
    And standard error says "{state}/.kind/a8s"

  @core
  Scenario: A program that is none
    Given an empty home and no cluster
    And a program "kind" that answers:
      | asked | says | exit code |
    And the file "bin/docker" with:
      """
      #!/nowhere
      """
    And I may run the file "bin/docker"
    When I run `a9s create cluster a8s -p kind --yes`
    Then it ends with the finding "tool-unusable"
    And standard error says "cannot run {home}/bin/docker: "

  @core
  Scenario: A kustomization that asks for more than is known
    Given an empty home and no cluster
    And the file "release/deploy/a8s/manifests/kustomization.yaml" with:
      """
      resources:
      - https://example.test/more.yaml
      """
    And the file "cert-manager.yaml" with:
      """
      {apiVersion: v1, kind: Namespace, metadata: {name: cert-manager}}
      """
    When I run `a9s images list --deployment-version ./release --cert-manager ./cert-manager.yaml`
    Then it ends with the finding "kustomization-unsupported"

  @core
  Scenario Outline: A document that cannot be had: <finding>, because <why>
    Given an empty home and no cluster
    And the file "release/deploy/a8s/manifests/kustomization.yaml" with:
      """
      resources: []
      """
    When I run `a9s images list --deployment-version ./release --cert-manager <address>`
    Then it ends with the finding "<finding>"
    And standard error says "Name a file with the document: --cert-manager ./FILE"
    And standard error says "<words>"

    Examples:
      | finding        | why                      | address               | words                                                 |
      | fetch-insecure | the address is not https | http://example.test/x | http://example.test/x is not fetched: it is not https |
      | fetch-failed   | nobody listens there     | http://127.0.0.1:1/x  | cannot fetch http://127.0.0.1:1/x:                    |

  @full @cluster @embedded-only @kubectl
  Scenario: The configuration of the store is damaged
    Given a cluster of its own
    When I run `kubectl patch configmap a8s-backup-store-config -n a8s-system --type merge -p '{"data": {"backup-store-config.yaml": "}"}}'`
    And I run `a9s create stack a8s -c a8s --yes`
    Then it ends with the finding "backup-config-damaged"
    And standard error says "Correct it, or say with --backup-provider and its flags where backups go."

  @core
  Scenario: A file is where the manifests would be
    Given a cluster with the a8s stack
    And the file "a9s/usermanifests" with:
      """
      in the way
      """
    When I run `a9s create pg instance --name solo --yes`
    Then it ends with the finding "working-directory"
    And standard error says "cannot write the manifest: "

  @core
  Scenario: A file is where the configuration of backups would be
    Given an empty home and no cluster
    And the file "a9s/a8s-deployment" with:
      """
      in the way
      """
    When I run `a9s create stack a8s --stack builtin --no-apply --yes`
    Then it ends with the finding "working-directory"
    And standard error says "cannot write the working directory: "
    And standard error says "Make it writable and leave some space on its disk."

  @full @cluster @embedded-only @kubectl
  Scenario: A stack that does not say that it can do it
    Given a cluster of its own
    And an instance "trio" of 2 members
    And an instance "copy"
    And a backup "b" of "trio"
    When I run `kubectl delete configmap a8s-stack -n a8s-system`
    And I run `a9s pg failover trio --yes`
    Then it ends with the finding "no-capability"
    And standard error says "the upstream stack of this cluster has not the capability failover"
    And standard error says "A cluster with the builtin stack has it: a9s create cluster a8s"
    When I run `a9s create pg restore --name across -b b -i copy --yes`
    Then it ends with the finding "no-capability"
    And standard error says "The backup b is of the instance trio, not of copy."
    When I run `a9s delete pg backup --name b --yes`
    Then the command succeeds
    And standard error says "What the backup store has of it stays there"
    When I run `a9s create stack a8s -c a8s --yes`
    Then the command succeeds

  @full @cluster @embedded-only
  Scenario Outline: The cluster goes away while a statement runs: <finding>
    Given a cluster of its own
    And an instance "solo"
    When I run `a9s <line>`, and the cluster's process is killed while "solo" runs it
    Then it ends with the finding "<finding>"
    And standard error says "<words>"

    Examples:
      | finding      | line                                               | words                              |
      | sql-cut-off  | pg apply -i solo --sql 'SELECT pg_sleep(60)' --yes | It may go on in the pod solo-0, as |
      | psql-cut-off | pg psql solo -- -c 'SELECT pg_sleep(60)'           | psql was cut off:                  |

  @core
  Scenario: The journal of a playbook cannot be written
    Given an empty home and no cluster
    And the file "play.yaml" with:
      """
      name: play
      steps:
      - create cluster a8s:
      """
    And the file "{state}/.playbooks" with:
      """
      in the way
      """
    When I run `a9s run play.yaml`
    Then it ends with the finding "playbook-journal"
    And standard error says "the journal of the playbook can't be used: "

  @core
  Scenario: Two runs that do not agree
    Given an empty home and no cluster
    And the file "one/report.json" with:
      """
      {"schema": "a9s.conformance/v1", "verdict": "passed", "started": "2030-01-01T00:00:00Z", "seconds": 1, "environment": {},
       "selection": {"available": 1, "jobs": 1, "retries": 0, "door": "cli"}, "problems": [],
       "counts": {"passed": 1, "flaky": 0, "failed": 0, "skipped": 0, "notRun": 0, "quarantined": 0},
       "scenarios": [{"id": "A: b", "feature": "A", "name": "b", "place": "features/a.feature:1", "tags": [], "outcome": "passed"}]}
      """
    And the file "two/report.json" with:
      """
      {"schema": "a9s.conformance/v1", "verdict": "failed", "started": "2030-01-01T00:00:00Z", "seconds": 1, "environment": {},
       "selection": {"available": 1, "jobs": 1, "retries": 0, "door": "cli"}, "problems": [],
       "counts": {"passed": 0, "flaky": 0, "failed": 1, "skipped": 0, "notRun": 0, "quarantined": 0},
       "scenarios": [{"id": "A: b", "feature": "A", "name": "b", "place": "features/a.feature:1", "tags": [], "outcome": "failed"}]}
      """
    And the file "left/report.json" with:
      """
      {"schema": "a9s.conformance/v1", "verdict": "failed", "started": "2030-01-01T00:00:00Z", "seconds": 1, "environment": {},
       "selection": {"available": 1, "jobs": 1, "retries": 0, "door": "cli"}, "problems": ["left over: namespace e2e-3"],
       "counts": {"passed": 1, "flaky": 0, "failed": 0, "skipped": 0, "notRun": 0, "quarantined": 0},
       "scenarios": [{"id": "A: b", "feature": "A", "name": "b", "place": "features/a.feature:1", "tags": [], "outcome": "passed"}]}
      """
    And the file "none/report.json" with:
      """
      {"schema": "a9s.conformance/v1", "verdict": "passed", "started": "2030-01-01T00:00:00Z", "seconds": 1, "environment": {},
       "selection": {"available": 0, "jobs": 1, "retries": 0, "door": "cli"}, "problems": [],
       "counts": {"passed": 0, "flaky": 0, "failed": 0, "skipped": 0, "notRun": 0, "quarantined": 0}, "scenarios": []}
      """
    When I run `a9s conformance compare one two`
    Then it ends with the finding "runs-differ"
    And standard output says "the run"
    And standard error says "the two runs differ in 1 scenarios"
    When I run `a9s conformance compare one left`
    Then it ends with the finding "runs-differ"
    And standard error says "the two runs ended otherwise"
    When I run `a9s conformance compare none none`
    Then it ends with the finding "runs-differ"
    And standard error says "there was nothing to compare"
    When I run `a9s conformance compare one one`
    Then the command succeeds
