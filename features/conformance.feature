@process
Feature: The suite itself
  A platform engineer points the suite at a cluster and gets a verdict with evidence; whatever is in its way is said
  clearly, and nothing is left behind.

  @core
  Scenario: Looking at what there is
    Given an empty home and no cluster
    When I run `a9s conformance list --tags @smoke`
    Then the command succeeds
    And standard output says "SQL in an instance"
    And standard output says "The blog data set from a file"
    When I run `a9s conformance list --tags @smoke --name 'blog data set'`
    Then standard output says "The blog data set from a file"
    And standard output does not say "The objects of an instance"
    When I run `a9s conformance show 'blog data set'`
    Then the command succeeds
    And standard output says "Given the blog data set as "
    When I run `a9s conformance show --tags @smoke --name 'blog data set'`
    Then standard output says "Given the blog data set as "
    When I run `a9s conformance list -o json`
    Then the command succeeds
    And standard output is one JSON document
    And there is no file "a9s-conformance"

  @core @negative
  Scenario Outline: What cannot begin: <what>
    Given an empty home and no cluster
    And the file "in-the-way" with:
      """
      not a folder
      """
    And the file "damaged/report.json" with:
      """
      {"schema": "a9s.conformance/v1", "verdict": 
      """
    And the file ".kube/config" with:
      """
      {apiVersion: v1, kind: Config, current-context: away, contexts: [{name: away, context: {cluster: away, user: away}}],
       clusters: [{name: away, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: away, user: {}}]}
      """
    And the file "full/report.json/in-the-way" with:
      """
      in a folder that has a document's name
      """
    And the file "old/report.json" with:
      """
      {"schema": "a9s.conformance/v0"}
      """
    And the file "odd/report.json" with:
      """
      {}
      """
    And the file "runs/empty" with:
      """
      """
    And the variable "TMPDIR" is "{home}/runs"
    When I run `a9s conformance <line>`
    Then the command fails with exit code <code>
    And the reason is one clear sentence
    And standard error says "<word>"
    And there is no file "{state}"
    And there is no file "a9s-conformance"
    And only the files "empty" are below the folder "runs", and no process uses it

    Examples:
      | what                              | line                                             | code | word                                                       |
      | a context that is not there       | run --context nowhere                            | 3    | nowhere                                                    |
      | a kubeconfig that is not there    | run --kubeconfig nowhere                         | 3    | nowhere                                                    |
      | an unreachable cluster            | run --context away                               | 3    | refused                                                    |
      | a folder that can't be written    | run --report in-the-way                          | 3    | the report's folder can't be written:                      |
      | a folder that can't be made       | run --report in-the-way/below                    | 3    | Name another folder with --report.                         |
      | a folder that can't be cleared    | run --report full                                | 3    | full                                                       |
      | an earlier report that is damaged | run --rerun-failed damaged                       | 3    | report.json is damaged: EOF while parsing a value          |
      | an earlier report that is missing | run --rerun-failed nowhere                       | 3    | there is no report to read:                                |
      | a filter that is none             | run --tags '@a and'                              | 2    | expression                                                 |
      | a pattern that is none            | run --name '('                                   | 2    | --name                                                     |
      | no scenario at a time             | run --jobs 0                                     | 2    | --jobs                                                     |
      | a filter that matches nothing     | run --name '^no such name' --report none -o json | 1    | PROBLEM  no scenario matches the filter                    |
      | a list without any of that name   | list --name '^no such name'                      | 1    | no scenario matches the filter                             |
      | showing what is not there         | show 'nobody is so named'                        | 1    | no scenario matches the filter                             |
      | comparing with a damaged report   | compare damaged damaged                          | 3    | Run the suite again with --report to have a new one.       |
      | comparing with a missing report   | compare nowhere damaged                          | 3    | Name the folder that `a9s conformance run --report` wrote. |
      | comparing with a report of old    | compare old old                                  | 3    | and this program reads                                     |
      | comparing with what is no report  | compare odd odd                                  | 3    | it has no field                                            |
      | comparing with a run of nowhere   | compare damaged run:                             | 2    | run:CONTEXT                                                |
      | comparing with a lost cluster     | compare run:nowhere run:embedded                 | 3    | nowhere                                                    |
      | accepting a list that is missing  | compare damaged damaged --accepted nowhere       | 3    | cannot read the list of accepted differences:              |

  @full @negative
  Scenario: What cannot begin: a cluster that takes connections and stays silent
    Given an empty home and no cluster
    And somebody listens and never answers
    And the file ".kube/config" with:
      """
      {apiVersion: v1, kind: Config, current-context: deaf, contexts: [{name: deaf, context: {cluster: deaf, user: deaf}}],
       clusters: [{name: deaf, cluster: {server: "http://{silent}"}}], users: [{name: deaf, user: {}}]}
      """
    When I run `a9s conformance run --context deaf`
    Then it ends with the finding "cluster-unreachable"
    And it took less than 20 seconds
    And standard error says "cannot reach the cluster: no answer within 10 s"
    And standard error says "Is the cluster running?"
    And there is no file "a9s-conformance"

  @core @negative
  Scenario: A tag that no scenario bears is a mistake, wherever it stands in a filter
    Given an empty home and no cluster
    When I run `a9s conformance run --tags '@core or @chaoss' --report one`
    Then the command fails with exit code 1
    And the reason is one clear sentence
    And standard output says "PROBLEM  no scenario bears the tag @chaoss"
    And standard output says "0 passed, 1 failed"
    And there is no file "{state}"
    When I run `a9s conformance list --tags 'not @kubeclt'`
    Then the command fails with exit code 1
    And the reason is one clear sentence
    And standard error says "no scenario bears the tag @kubeclt"
    When I run `a9s conformance show --tags 'not @kubeclt' SQL`
    Then the command fails with exit code 1
    And standard error says "no scenario bears the tag @kubeclt"

  @core
  Scenario: Differences that are accepted are counted with their reasons, and a new one is none of them
    Given an empty home and no cluster
    And the report "one" of a run in which these passed:
      | scenario | observations                                                                    |
      | A: b     | {"objects": {"pod/solo-0": {"image": "a9s/postgresql:15", "phase": "Running"}}} |
      | A: c     | {"events": ["Created", "Started"]}                                              |
    And the report "other" of a run in which these passed:
      | scenario | observations                                                                              |
      | A: b     | {"objects": {"pod/solo-0": {"image": "docker.io/a9s/postgresql:15", "phase": "Running"}}} |
      | A: c     | {"events": ["Started"]}                                                                   |
    And the report "new" of a run in which these passed:
      | scenario | observations                                                                              |
      | A: b     | {"objects": {"pod/solo-0": {"image": "docker.io/a9s/postgresql:15", "phase": "Pending"}}} |
      | A: c     | {"events": ["Started"]}                                                                   |
    And the file "accepted.yaml" with:
      """
      - scenario: '^A: '
        what: /objects/pod/.*/image
        one: a9s/.*
        other: docker.io/a9s/.*
        reason: the runtime names images in full
      - scenario: '^A: c$'
        what: /events
        one: Created
        reason: the event is another one there
      """
    When I run `a9s conformance compare one other`
    Then it ends with the finding "runs-differ"
    And standard output says "2 scenarios ran in both, 2 of them differ"
    When I run `a9s conformance compare one other --accepted accepted.yaml`
    Then the command succeeds
    And standard output says "accepted.yaml:1: accepted, 1 differences in 1 scenarios: the runtime names images in full"
    And standard output says "2 scenarios ran in both, 0 of them differ, 2 differences are accepted"
    When I run `a9s conformance compare one other --accepted accepted.yaml -o json`
    Then the command succeeds
    And standard output is one JSON document
    And the value at `/acceptedDifferences` of the document is `2`
    And the value at `/accepted/1/reason` of the document is `the event is another one there`
    When I run `a9s conformance compare one new --accepted accepted.yaml`
    Then it ends with the finding "runs-differ"
    And standard output says "/objects/pod/solo-0/phase"
    And standard output does not say "- a9s/postgresql:15"
    And standard output says "2 scenarios ran in both, 1 of them differ, 2 differences are accepted"
    Given the report "blind" of a run in which these passed:
      | scenario | observations                       |
      | A: b     | {"objects": null, "events": null}  |
      | A: c     | {"events": ["Created", "Started"]} |
    When I run `a9s conformance compare one blind`
    Then the command succeeds
    And standard output says "A: b: its objects and events could not be seen in both"
    And standard output says "2 scenarios ran in both, 0 of them differ"

  @core @negative
  Scenario: What is accepted and is not there any more fails a comparison where its scenarios ran in both
    Given an empty home and no cluster
    And the report "one" of a run in which these passed:
      | scenario | observations            |
      | A: b     | {"events": ["Created"]} |
    And the file "gone.yaml" with:
      """
      - {scenario: '^A: b$', what: verdict, reason: it was mended}
      """
    And the file "elsewhere.yaml" with:
      """
      - {scenario: '^A: another$', what: verdict, reason: it is not in these runs}
      - {scenario: '^A: b$', what: /events, reason: it comes and goes, sometimes: true}
      """
    When I run `a9s conformance compare one one --accepted elsewhere.yaml`
    Then the command succeeds
    And standard output says "elsewhere.yaml:1: no scenario of it ran in both: it is not in these runs"
    And standard output does not say "elsewhere.yaml:2"
    When I run `a9s conformance compare one one --accepted elsewhere.yaml --accepted gone.yaml`
    Then it ends with the finding "accepted-stale"
    And standard error says "1 entries accept differences that are not there any more"
    And standard error says "Remove them from the list, or say of one that comes and goes `sometimes: true`."
    And standard output says "gone.yaml:1: stale, nothing differs so any more: it was mended"

  @core @negative
  Scenario Outline: A list of accepted differences that is wrong: <what>
    Given an empty home and no cluster
    And the file "accepted.yaml" with:
      """
      - {scenario: a, what: message, reason: this one is right}
      - <entry>
      """
    When I run `a9s conformance compare one other --accepted accepted.yaml`
    Then it ends with the finding "accepted-wrong"
    And standard error says "accepted.yaml"
    And standard error says "line 2"
    And standard error says "docs/conformance-report.md describes such lists."

    Examples:
      | what                    | entry                                              |
      | without a reason        | {scenario: a, what: verdict}                       |
      | a reason without words  | {scenario: a, what: verdict, reason: " "}          |
      | a word that is not one  | {scenario: a, what: verdict, reason: b, owner: c}  |
      | a pattern that is none  | {scenario: "(", what: verdict, reason: b}          |

  @full @embedded-only
  Scenario: An existing cluster, its reports, and the same run compared with itself
    Given a cluster with the a8s stack
    When I run `a9s conformance run --context a9s-a8s --name 'blog data set' --report one`
    Then the command succeeds
    And standard output says "1 passed, 0 failed"
    And standard output says "namespaces of runs that go on, or were killed: "
    And the file "one/report.json" says "a9s.conformance/v1"
    And the file "one/report.json" says '"a9s": "{version}'
    And the file "one/report.json" says '"postgresql": "'
    And the file "one/index.html" says "postgresql</td>"
    And the file "one/junit.xml" says "The blog data set from a file"
    And the file "one/index.html" says "The blog data set from a file"
    And there is a file "one/a9s-conformance.tar.gz"
    When I run `a9s conformance run --context a9s-a8s --report one --rerun-failed one`
    Then the command succeeds
    And standard output says "there is nothing to run again"
    And the file "one/junit.xml" says "The blog data set from a file"
    When I run `a9s conformance compare one one`
    Then the command succeeds
    And standard output says "1 scenarios ran in both, 0 of them differ"
    When I run `a9s conformance compare one run:a9s-a8s --kubeconfig {kubeconfig} --name 'blog data set' --report two`
    # Not whether they differ: on a busy machine two runs see other moments.
    Then standard output says "1 passed, 0 failed"
    And standard output says "1 scenarios ran in both"
    And the file "two/other/report.json" says "a9s.conformance/v1"

  @full
  Scenario: Two runs that are made to be compared, each on clusters of its own
    Given an empty home and no cluster
    When I run `a9s conformance compare run:embedded run:embedded --tags @smoke --name 'blog data set' --jobs 1 --report runs`
    Then standard output says "1 passed, 0 failed"
    And standard output says "1 scenarios ran in both"
    And the file "runs/one/report.json" says '"verdict": "passed"'
    And the file "runs/other/report.json" says '"verdict": "passed"'

  @full
  Scenario: A run that ends with the first failure goes on after one that is quarantined
    Given an empty home and no cluster
    And the file "f/odd.feature" with:
      """
      Feature: Odd
        @quarantine-anna-2099-01-01
        Scenario: Held
          Given an empty home and no cluster
          Then there is a file "nowhere"
        Scenario: Passes
          Given an empty home and no cluster
      """
    When I run `a9s conformance run --features f --jobs 1 --fail-fast`
    Then the command succeeds
    And standard output says "1 passed, 0 failed, 1 quarantined"

  @full @negative
  Scenario: A run of which every scenario is skipped has looked at nothing
    Given an empty home and no cluster
    And the file "f/odd.feature" with:
      """
      Feature: Odd
        @process
        Scenario: Skipped
          Given an empty home and no cluster
      """
    And the variable "A9S_DOOR" is "plan"
    When I run `a9s conformance run --features f --report one`
    Then it ends with the finding "not-conformant"
    And standard output says "Odd: Skipped (it is about the program as a process)"
    And standard output says "PROBLEM  nothing was looked at: every scenario that was asked for is skipped"

  @full @negative
  Scenario: A run that ends with the first failure says what had no turn
    Given an empty home and no cluster
    And the file "f/odd.feature" with:
      """
      Feature: Odd
        Scenario: Fails
          Given an empty home and no cluster
          Then there is a file "nowhere"
        Scenario: Second
          Given an empty home and no cluster
        Scenario: Third
          Given an empty home and no cluster
        @quarantine-anna-2099-01-01
        Scenario: Held
          Given an empty home and no cluster
      """
    When I run `a9s conformance run --features f --jobs 1 --fail-fast --report one`
    Then it ends with the finding "not-conformant"
    And standard output says "0 passed, 1 failed, 3 not run, 1 quarantined"
    And standard error says "1 of the run's checks failed"
    And the file "one/report.json" says '"outcome": "not-run"'
    When I run `a9s conformance run --features f --jobs 1 --report two`
    Then it ends with the finding "not-conformant"
    And standard output says "3 passed, 1 failed, 1 quarantined"

  @full @negative
  Scenario: A command that panics fails its scenario, also where it was to fail
    Given an empty home and no cluster
    And a program "torn" that answers:
      | asked | says                                       | code |
      | pg    | thread 'main' panicked at src/main.rs:1:1: | 101  |
    And the file "f/odd.feature" with:
      """
      Feature: Odd
        Scenario: Fails as it should
          Given an empty home and no cluster
          When I run `a9s pg`
          Then the command fails
      """
    When I run `a9s conformance run --features f --program bin/torn --report one`
    Then it ends with the finding "not-conformant"
    And standard output says "`a9s pg` has panicked"
    And standard output says "0 passed, 1 failed"

  @full @embedded-only @kubectl
  Scenario: An agent that panics fails its scenario, also where nothing else came of it
    Given a cluster with the a8s stack
    And the file "torn.yaml" with:
      """
      apiVersion: v1
      kind: Pod
      metadata: {name: torn}
      spec:
        restartPolicy: Never
        containers:
          - {name: agent, image: "a9s/postgresql:15", command: [sh, -c, "exit 134"]}
      """
    And the file "f/odd.feature" with:
      """
      Feature: Odd
        Scenario: Passes
          Given a cluster with the a8s stack
          And an instance "odd"
          When I run `kubectl apply -f {home}/torn.yaml`
          And I run `kubectl wait --for=jsonpath={.status.phase}=Failed pod/torn --timeout=30s`
          Then the command succeeds
      """
    When I run `a9s conformance run --context a9s-a8s --features f --report one`
    Then it ends with the finding "not-conformant"
    And standard output says "the container agent of the pod torn has panicked: it ended with 134"
    And standard output says "0 passed, 1 failed"
    And below the folder "one/evidence/odd-2-passes" are the files "pod.json"

  @full @negative
  Scenario: Two runs do not report to one folder at a time
    Given an empty home and no cluster
    And the file "other/even.feature" with:
      """
      Feature: Even
        Scenario: Passes
          Given an empty home and no cluster
      """
    And the file "f/odd.feature" with:
      """
      Feature: Odd
        Scenario: Begins another run
          Given an empty home and no cluster
          When I run `a9s conformance run --features {home}/other --report {home}/one`
          Then the command succeeds
      """
    When I run `a9s conformance run --features f --report one`
    Then it ends with the finding "not-conformant"
    And standard output says "another run reports to {home}/one [run-goes-on]"
    And standard output says "[exit 5 "

  @core @negative
  Scenario: A run that cannot begin leaves the report that is there
    Given an empty home and no cluster
    And the file "kept/report.json" with:
      """
      {"kept": true}
      """
    When I run `a9s conformance run --context nowhere --report kept`
    Then the command fails with exit code 3
    And the file "kept/report.json" says "kept"

  @full @negative
  Scenario: What was found is said also where the report cannot be written
    Given an empty home and no cluster
    And the file "f/odd.feature" with:
      """
      Feature: Odd
        Scenario: In words
          Given an empty home and no cluster
          And the file "{home}/words/report.json" can't be read
        Scenario: As a document
          Given an empty home and no cluster
          And the file "{home}/document/report.json" can't be read
      """
    When I run `a9s conformance run --features f --name words --report words`
    Then it ends with the finding "report-unwritable"
    And standard error says "the report can't be written: "
    And standard output says "1 passed, 0 failed"
    When I run `a9s conformance run --features f --name document --report document -o json`
    Then it ends with the finding "report-unwritable"
    And standard error says "1 passed, 0 failed"
    And standard output is one JSON document
    And the value at `/counts/passed` of the document is `1`

  @full @embedded-only @kubectl
  Scenario: A failure on an existing cluster is told with its evidence, and can be run again
    Given a cluster with the a8s stack
    And the file "f/odd.feature" with:
      """
      Feature: Odd
        Scenario: Fails
          Given a cluster with the a8s stack
          And an instance "odd" of 2 members
          And I have applied the statement "ALTER ROLE postgres SET default_transaction_isolation = 'serializable'" to "odd"
          When I run `kubectl get secret postgres.credentials.odd -o yaml`
          Then "odd" answers "SELECT 1" with "2"
        @cluster
        Scenario: Needs more
          Given a cluster of its own
        Scenario: Passes
          Given a cluster with the a8s stack
      """
    When I run `a9s conformance run --context a9s-a8s --features f --report one`
    Then the command fails with exit code 1
    And standard output says "1 passed, 1 failed, 1 skipped"
    And standard output says "expected "
    And there is a file "one/evidence/odd-2-fails/commands.txt"
    And there is a file "one/evidence/odd-2-fails/timeline.txt"
    And the file "one/evidence/odd-2-fails/commands.txt" says "[secret]"
    And below the folder "one/evidence/odd-2-fails" are the files "journal.jsonl, postgresql.json, pod.json, event.json, odd-0.sql.txt, odd-0-postgres.log, store.txt, minio-dev/pod.json"
    And the file "one/index.html" says "SELECT 1"
    And the file "one/index.html" says "default_transaction_isolation=serializable"
    # The standby, too, has said its version, and that it is one.
    And the file "one/index.html" says "-bit|t|"
    When I run `a9s conformance run --context a9s-a8s --features f --report two --rerun-failed one`
    Then the command fails with exit code 1
    And standard output says "0 passed, 1 failed"

  @full @embedded-only @kubectl
  Scenario: What others have in every namespace of an existing cluster is not taken for an instance's
    Given a cluster with the a8s stack
    And the file "f/odd.feature" with:
      """
      Feature: Odd
        Scenario Outline: An instance beside an object <of>
          Given a cluster with the a8s stack
          And an instance "solo"
          When I run `kubectl create configmap root-cert --from-literal=of=<of>`
          Then the command succeeds
          And the namespace has exactly these objects:
            | kind       | name |
            | postgresql | solo |
            | configmap  |      |
          Examples:
            | of     |
            | others |
            | solo   |
      """
    When I run `a9s conformance run --context a9s-a8s --features f --report one`
    Then it ends with the finding "not-conformant"
    And standard output says "1 passed, 1 failed"
    And standard output says 'but found ["root-cert"]'

  @full @embedded-only
  Scenario: A failure in the middle of a connection leaves no file with a password
    Given a cluster with the a8s stack
    And the file "runs/empty" with:
      """
      """
    And the variable "TMPDIR" is "{home}/runs"
    And the variable "XDG_RUNTIME_DIR" is "{home}/nowhere"
    And the file "f/odd.feature" with:
      """
      Feature: Odd
        Scenario: Stays connected
          Given a cluster with the a8s stack
          And an instance "odd"
          When I start `a9s pg connect odd`
          Then its URL answers "SELECT 1" with "1"
          And there is a file "nowhere"
      """
    When I run `a9s conformance run --context a9s-a8s --features f --report one`
    Then it ends with the finding "not-conformant"
    And standard output says "0 passed, 1 failed"
    And only the files "empty" are below the folder "runs", and no process uses it

  @full @embedded-only
  Scenario: What disturbs others on an existing cluster runs only where that is asked for
    Given a cluster with the a8s stack
    And the file "f/two.feature" with:
      """
      Feature: Two
        @disruptive
        Scenario: Disturbs others
          Given an empty home and no cluster
        Scenario: Disturbs nobody
          Given an empty home and no cluster
      """
    When I run `a9s conformance run --context a9s-a8s --features f --report one`
    Then the command succeeds
    And standard output says "Two: Disturbs others (it disturbs others on the cluster: --disruptive runs it)"
    And standard output says "1 passed, 0 failed, 1 skipped"
    When I run `a9s conformance run --context a9s-a8s --features f --disruptive --report one`
    Then the command succeeds
    And standard output says "2 passed, 0 failed"
    When I run `a9s conformance run --features f --report one`
    Then the command succeeds
    And standard output says "2 passed, 0 failed"
    When I run `a9s conformance compare one run:a9s-a8s --features f --report two`
    Then standard output says "1 scenarios ran in both"
    When I run `a9s conformance compare one run:a9s-a8s --features f --disruptive --patience 2 --report two`
    Then standard output says "2 scenarios ran in both"

  @full @embedded-only
  Scenario: A run has as much patience as it is told
    Given a cluster with the a8s stack
    And the file "f/late.feature" with:
      """
      Feature: Late
        Scenario: Waits
          Given a cluster with the a8s stack
          Then the instance "nobody" is ready
        Scenario: Waits for a moment
          Given a cluster with the a8s stack
          Then the service binding "nobody" is implemented within 1 seconds
        Scenario: Is quick
          Given a cluster with the a8s stack
          And an instance "late"
          When I run `a9s pg apply -i late --sql 'SELECT pg_sleep(1)'`
          Then it took less than 1 second
      """
    When I run `a9s conformance run --context a9s-a8s --features f --name moment --patience 3`
    Then the command fails with exit code 1
    And standard output says "waited 3 s for service binding nobody"
    When I run `a9s conformance run --context a9s-a8s --features f --name Waits$ --patience 0.05 --report brief`
    Then the command fails with exit code 1
    And standard output says "waited 3 s for instance nobody"
    And standard output does not say "left over"
    And the file "brief/report.json" says '"patience": "0.05"'
    When I run `a9s conformance run --context a9s-a8s --features f --name quick --patience 30 --report ample`
    Then the command succeeds
    And standard output says "1 passed, 0 failed"

  @core @negative @embedded-only
  Scenario: Without permissions
    Given a cluster with the a8s stack
    When my kubeconfig has the token of the ServiceAccount "default"
    And I run `a9s conformance run --context a9s-a8s`
    Then the command fails with exit code 3
    And standard error says "the user of the context a9s-a8s may not do what the suite does on this cluster"
    And standard error says "Use a context whose user may do this in all namespaces, such as a cluster's administrator."
    And standard error says "create namespaces"
    And standard error says "create pods/exec"
    And standard error says "deletecollection postgresqls.postgresql.anynines.com"
    And standard error says "patch postgresqls.postgresql.anynines.com/scale"
    And standard error says "list endpointslices.discovery.k8s.io"
    And standard error says "create pods/eviction"
    And standard error says "create serviceaccounts/token"
    And standard error says "impersonate serviceaccounts"
    And standard error says "delete customresourcedefinitions.apiextensions.k8s.io"
    And standard error does not say "patch nodes"
    When I run `a9s conformance run --context a9s-a8s --disruptive`
    Then it ends with the finding "no-permission"
    And standard error says "patch nodes"
    And standard error says "patch deployments.apps/scale"
    When my kubeconfig has no certificate
    And I run `a9s conformance run --context a9s-a8s`
    Then the command fails with exit code 3
    And the reason is one clear sentence

  @full @cluster @embedded-only @kubectl
  Scenario Outline: Who may do exactly what the suite asks for can run it: @<tag>
    Given a cluster of its own
    And the ServiceAccount "default" may do exactly what the suite asks for scenarios with the tag "<tag>"
    When my kubeconfig has the token of the ServiceAccount "default"
    And I run `a9s conformance run --context a9s-a8s <selection>`
    Then the command succeeds
    And standard output says " passed, 0 failed"
    And standard output says "NOTE     objects left that may not be listed were not looked for: "

    Examples:
      | tag     | selection                                   |
      | smoke   | --tags @smoke                               |
      | kubectl | --tags @core --name '^kubectl as the judge' |

  @cluster @embedded-only @negative @kubectl
  Scenario: Without the stack, and with a cluster that dies in the middle
    Given a cluster of its own
    And the file "f/long.feature" with:
      """
      Feature: Long
        Scenario Outline: Number <n>
          Given a cluster with the a8s stack
          And an instance "odd"
          Then "odd" answers "SELECT 1" with "1"
          Examples:
            | n |
            | 1 |
            | 2 |
            | 3 |
            | 4 |
      """
    When I start `a9s conformance run --context a9s-a8s --features f --jobs 1 --report one` and the cluster is killed once it says `Number`
    Then the command fails with exit code 3
    And standard output says "the cluster has stopped answering after"
    And standard error says "the cluster stopped answering: the report tells of a part"
    And the file "one/report.json" says "cluster-lost"
    When I start the cluster
    And I run `kubectl delete crd postgresqls.postgresql.anynines.com`
    And I run `a9s conformance run --context a9s-a8s`
    Then the command fails with exit code 3
    And standard error says "the a8s stack is not installed"

  @embedded-only
  Scenario: Interrupted, it cleans up and reports the part that was run
    Given a cluster with the a8s stack
    And the file "f/long.feature" with:
      """
      Feature: Long
        Scenario Outline: Number <n>
          Given a cluster with the a8s stack
          And an instance "odd"
          Then "odd" answers "SELECT 1" with "1"
          Examples:
            | n |
            | 1 |
            | 2 |
            | 3 |
            | 4 |
      """
    When I start `a9s conformance run --context a9s-a8s --features f --jobs 1 --report one` and interrupt it once it says `Number`
    Then the command fails with exit code 130
    And standard output says "interrupted: cleaning up"
    And standard error says "interrupted: the report tells of a part"
    And the file "one/report.json" says "interrupted"
    And the file "one/report.json" says "not-run"
    And standard output says "not run"
    When I run `a9s conformance compare one one`
    Then it ends with the finding "runs-differ"
    And standard error says "a run was cut off: what it did not come to was not compared"

  @full @cluster @embedded-only
  Scenario: Interrupted again while it cleans up, it ends at once and has said what is left
    Given a cluster of its own
    And the file "runs/empty" with:
      """
      """
    And the variable "TMPDIR" is "{home}/runs"
    And the file "f/long.feature" with:
      """
      Feature: Two
        Background:
          Given a cluster with the a8s stack
        Scenario: Brief
          Given an instance "odd"
        Scenario: Waiting
          Then the instance "nobody" is ready
      """
    When I start `a9s conformance run --context a9s-a8s --features f --jobs 2 --report one`, and once it says `Brief` the cluster is frozen and I interrupt it twice
    Then the command fails with exit code 130
    And it took less than 60 seconds
    And standard output says "interrupted: cleaning up. Interrupted again, it ends at once and leaves to the next run what is below {home}/runs/a9s-e2e-"
    And standard output says "the label conformance.a9s/run="
    And standard error says "interrupted again: what was being done or taken back is left as it is [interrupted]"
    And there is no file "one/report.json"

  @full @cluster @embedded-only
  Scenario: A playbook that is interrupted between two of its steps ends there
    Given a cluster of its own
    And an instance "solo"
    And the file "play.yaml" with:
      """
      name: soak
      defaults: {service-instance: solo}
      steps:
        - pg apply: {sql: CREATE TABLE IF NOT EXISTS rows (n int)}
        - pg apply: {sql: INSERT INTO rows VALUES (1)}
      """
    When I start `a9s run play.yaml --for 10m` and interrupt it once it says `[2/2]`
    Then it ends with the finding "interrupted"
    And it took less than 30 seconds
    And standard error says ": interrupted"
    And standard error says "a9s run --resume goes on with this step."

  @embedded-only
  Scenario Outline: Interrupted after <moment> ms, whatever it is doing, it leaves nothing
    Given an empty home and no cluster
    And the file "{state}/runs/empty" with:
      """
      """
    And the variable "TMPDIR" is "{state}/runs"
    And the file "f/long.feature" with:
      """
      Feature: Long
        Background:
          Given a cluster with the a8s stack
          And an instance "odd"
        Scenario: One
          Then every member of "odd" soon answers "SELECT 1" with "2"
        Scenario: Two
          Then every member of "odd" soon answers "SELECT 1" with "2"
        Scenario: Three
          Then every member of "odd" soon answers "SELECT 1" with "2"
      """
    When I run `a9s conformance run --features f --jobs 2 --report one` and interrupt it after <moment> ms as `timeout` does
    Then the command fails with exit code 130
    And it took less than 15 seconds
    And standard output does not say "left over"
    And only the files "empty" are below the folder "{state}/runs", and no process uses it

    Examples:
      | moment |
      | 250    |
      | 500    |
      | 1000   |
      | 1500   |
      | 2500   |

  @full @nodes @serial @disruptive
  Scenario: Interrupted while it does something to nodes, it undoes that before it ends
    Given a cluster with the a8s stack
    And the file "f/full.feature" with:
      """
      Feature: Full
        Scenario: Disks
          Given a cluster with the a8s stack
          And the disks of the nodes are too full
      """
    When I run `a9s conformance run --context {context} --features f --report one` and interrupt it after 5000 ms as `timeout` does
    Then the command fails with exit code 130
    And standard output does not say "left over"
    And nothing is left of what was done to the nodes

  @full @embedded-only
  Scenario: What a run has left that was killed goes with the next one
    Given an empty home and no cluster
    And the file "{state}/runs/empty" with:
      """
      """
    And the variable "TMPDIR" is "{state}/runs"
    And the file "f/one.feature" with:
      """
      Feature: One
        Scenario: A server
          Given a cluster with the a8s stack
          And an instance "odd"
          Then every member of "odd" soon answers "SELECT 1" with "2"
        Scenario: Nothing
          Given an empty home and no cluster
      """
    When I run `a9s conformance run --features f --name 'A server' --report one` and kill it after 2500 ms
    And I run `a9s conformance run --features f --name Nothing --report two`
    Then the command succeeds
    And standard output says "removed what a run that was killed has left: {state}/runs/a9s-e2e-"
    And standard output does not say "but for"
    And only the files "empty" are below the folder "{state}/runs", and no process uses it

  @full @embedded-only @kubectl
  Scenario: What a scenario leaves on a cluster of others fails the run
    Given a cluster with the a8s stack
    And the file "f/messy.feature" with:
      """
      Feature: Messy
        Scenario Outline: Leaves a binding behind
          Given a cluster with the a8s stack
          When I run `kubectl create clusterrolebinding leaky --clusterrole=view --serviceaccount=<open>namespace}:default`
          Then the command succeeds
          Examples:
            | open |
            | {    |
      """
    When I run `a9s conformance run --context a9s-a8s --features f --report one`
    Then the command fails with exit code 1
    And standard output says "left over: clusterrolebinding leaky"
    And standard output says "1 passed, 1 failed"
    When I run `kubectl delete clusterrolebinding leaky`
    Then the command succeeds
    When I run `a9s conformance run --context a9s-a8s --features f --report two --rerun-failed one`
    Then the command fails with exit code 1
    And standard output says "all of them are run again"
    And standard output says "left over: clusterrolebinding leaky"
    And standard output says "1 passed, 1 failed"
    When I run `kubectl delete clusterrolebinding leaky`
    Then the command succeeds

  @full @embedded-only @kubectl
  Scenario: What a scenario leaves in a namespace that others use, too, fails the run, and what others do there does not
    Given a cluster with the a8s stack
    And the file "f/messy.feature" with:
      """
      Feature: Messy
        Scenario Outline: Leaves something here and there
          Given a cluster with the a8s stack
          When I run `kubectl create configmap stray -n default --from-literal=of=<open>namespace}`
          Then the command succeeds
          When I run `kubectl create secret generic stray -n a8s-system --from-literal=a=b`
          And I run `kubectl label secret stray -n a8s-system of=<open>namespace}`
          Then the command succeeds
          When I run `kubectl create serviceaccount of-nobody -n kube-system`
          Then the command succeeds
          Examples:
            | open |
            | {    |
      """
    When I run `a9s conformance run --context a9s-a8s --features f --report one`
    Then it ends with the finding "not-conformant"
    And standard output says "left over: configmap default/stray"
    And standard output says "left over: secret a8s-system/stray"
    And standard output does not say "of-nobody"
    And standard output says "1 passed, 2 failed"
    And the file "one/report.json" says "left over: configmap default/stray"
    When I run `kubectl delete configmap stray -n default`
    Then the command succeeds
    When I run `kubectl delete secret stray -n a8s-system`
    Then the command succeeds
    When I run `kubectl delete serviceaccount of-nobody -n kube-system`
    Then the command succeeds
    # Of a cluster that the run has made, nobody else is.
    When I run `a9s conformance run --features f --report two`
    Then it ends with the finding "not-conformant"
    And standard output says "left over: configmap default/stray"
    And standard output says "left over: secret a8s-system/stray"
    And standard output says "left over: serviceaccount kube-system/of-nobody"
    And standard output says "1 passed, 3 failed"

  @full @embedded-only
  Scenario: What a scenario leaves in the store of the run's own cluster fails the run, wherever it is
    Given an empty home and no cluster
    And the file "f/messy.feature" with:
      """
      Feature: Messy
        Scenario: Leaves an object behind
          Given a cluster with the a8s stack
          And the object "stray/one" with "kept"
        Scenario Outline: Leaves an object in a place of its own
          Given a cluster with the a8s stack
          And the object "<open>namespace}/one" with "kept"
          Examples:
            | open |
            | {    |
      """
    When I run `a9s conformance run --features f --report one`
    Then it ends with the finding "not-conformant"
    And standard output says "left over: stray/one in the store"
    And standard output says "left over: 1 objects of e2e-"
    # What a scenario has told the run does not tell again.
    And standard output says "1 passed, 2 failed"

  @full @cluster @embedded-only @kubectl
  Scenario: That there is no default class of volumes is noted, and so is one that retains them: these are no leak
    Given a cluster of its own
    And the file "f/one.feature" with:
      """
      Feature: One
        Scenario: Nothing
          Given an empty home and no cluster
        Scenario: An instance
          Given a cluster with the a8s stack
          And an instance "odd"
      """
    When I run `kubectl delete storageclass standard`
    Then the command succeeds
    When I run `a9s conformance run --context a9s-a8s --features f --name Nothing --report none`
    Then the command succeeds
    And standard output says "NOTE     the cluster has no default StorageClass: "
    When I apply the object:
      """
      apiVersion: storage.k8s.io/v1
      kind: StorageClass
      metadata: {name: kept, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
      provisioner: kubernetes.io/host-path
      reclaimPolicy: Retain
      volumeBindingMode: WaitForFirstConsumer
      """
    And I run `a9s conformance run --context a9s-a8s --features f --report one`
    Then the command succeeds
    And standard output says "NOTE     volumes stay: the default StorageClass kept retains them"
    And standard output says "2 passed, 0 failed"

  @full @embedded-only @kubectl
  Scenario: What an interrupted run leaves on a cluster of others is named, too
    Given a cluster with the a8s stack
    And the file "f/messy.feature" with:
      """
      Feature: Messy
        Scenario Outline: Leaves a binding behind
          Given a cluster with the a8s stack
          When I run `kubectl create clusterrolebinding adrift --clusterrole=view --serviceaccount=<open>namespace}:default`
          Then the command succeeds
          Examples:
            | open |
            | {    |
        Scenario: Waits
          Given a cluster with the a8s stack
          Then the instance "nobody" is ready
      """
    When I start `a9s conformance run --context a9s-a8s --features f --jobs 1 --report one` and interrupt it once it says `Leaves`
    Then the command fails with exit code 130
    And standard output says "left over: clusterrolebinding adrift"
    When I run `kubectl delete clusterrolebinding adrift`
    Then the command succeeds

  @full @cluster @embedded-only
  Scenario: That nobody could look into the store of an existing cluster is said
    Given a cluster of its own
    And the file "f/brief.feature" with:
      """
      Feature: Brief
        Background:
          Given a cluster with the a8s stack
        Scenario: One
          Then there is no instance "nobody"
        Scenario: Two
          Then there is no instance "nobody"
      """
    When the store is away
    And I run `a9s conformance run --context a9s-a8s --features f --report one`
    Then the command succeeds
    And standard output says "NOTE     keys left in the store were not looked for: "
    And standard output says "2 passed, 0 failed"
    And the file "one/report.json" says "keys left in the store were not looked for: "

  @full @embedded-only @kubectl
  Scenario: What passes only when it is tried again is called flaky, and never passed
    Given a cluster with the a8s stack
    And the file "f/luck.feature" with:
      """
      Feature: Luck
        Scenario: Fails the first time
          Given a cluster with the a8s stack
          When I run `kubectl create clusterrole of-luck --verb=get --resource=pods`
          Then the command fails
      """
    When I run `a9s conformance run --context a9s-a8s --features f --retries 1 --report one`
    Then standard output says "0 passed, 0 failed, 1 flaky"
    And the file "one/report.json" says "flaky"
    And the file "one/junit.xml" says "flakyFailure"
    When I run `kubectl delete clusterrole of-luck`
    Then the command succeeds

  @core
  Scenario: Nothing is run of a suite that has a step which nothing defines
    Given an empty home and no cluster
    And the file "f/open.feature" with:
      """
      Feature: Open
        Scenario: Nobody knows how
          Given a cluster with the a8s stack
          Then everything is as I like it
      """
    When I run `a9s conformance run --features f`
    Then the command fails with exit code 1
    And standard output says "no step definition says: Then everything is as I like it (line 4)"
    And standard output says "0 passed, 1 failed, 1 not run"
    And there is no file "{state}/a8s"
