@core
Feature: Playbooks
  A person writes down commands in a file, and runs them as often as they like.

  @full
  Scenario: A playbook does what its commands do, and can be looked at before
    Given a cluster with the a8s stack
    And an SQL file "sql/rows.sql":
      """
      CREATE TABLE IF NOT EXISTS rows (n int); INSERT INTO rows VALUES (1);
      """
    And the file "play.yaml" with:
      """
      name: rows
      defaults: {service-instance: solo}
      before:
        - create pg instance: {name: solo}
      steps:
        - pg apply: {file: sql/rows.sql}
        - pg kill: {member: primary}
        - pg check: {sql: "SELECT count(*) > 0 FROM rows", is: t, timeout: 60s}
      """
    When I run `a9s run play.yaml --dry-run`
    Then the command succeeds
    And standard output says "1. a9s create pg instance --name=solo --yes"
    And there is no instance "solo"
    When I run `a9s run play.yaml --repeat 2`
    Then the command succeeds
    And standard output says "rows is done: 7 steps, 2 rounds."
    And "solo" answers "SELECT count(*) FROM rows" with "2"
    When I remember the pod of "solo"
    And I run `a9s run play.yaml`
    Then the command succeeds
    And the pod of "solo" is another than before

  Scenario: What a playbook may hold is told, for editors
    When I run `a9s run --schema`
    Then the command succeeds
    And standard output is one JSON document

  @full
  Scenario: A playbook knows from its rounds what has to be there, and finds what is lost
    Given a cluster with the a8s stack
    And the file "play.yaml" with:
      """
      name: counted
      defaults: {service-instance: solo}
      before:
        - create pg instance: {name: solo}
        - pg apply: {sql: CREATE TABLE IF NOT EXISTS rows (n int)}
      steps:
        - pg apply: {sql: "INSERT INTO rows SELECT generate_series(1, 10)"}
        - pg check: {sql: SELECT count(*) FROM rows, is: "{round}0", timeout: 1s}
      """
    When I run `a9s run play.yaml --repeat 3`
    Then the command succeeds
    And "solo" answers "SELECT count(*) FROM rows" with "30"
    Given the file "lossy.yaml" with:
      """
      name: lossy
      defaults: {service-instance: solo}
      before:
        - pg apply: {sql: DELETE FROM rows}
      steps:
        - pg apply: {sql: "INSERT INTO rows SELECT generate_series(1, 10)"}
        - pg apply: {sql: DELETE FROM rows WHERE n = 1}
        - pg check: {sql: SELECT count(*) FROM rows, is: "{round}0", timeout: 1s}
      """
    When I run `a9s run lossy.yaml`
    Then the command fails with exit code 4
    And standard error says "lossy: line 8: "
    And standard error says "it answers "
    When I apply the statement "INSERT INTO rows VALUES (1)" to "solo"
    And I run `a9s run lossy.yaml --resume`
    Then the command succeeds

  @full
  Scenario: A playbook that failed goes on where it was
    Given a cluster with the a8s stack
    And an instance "solo"
    And the file "play.yaml" with:
      """
      name: mended
      steps:
        - pg apply: {service-instance: solo, sql: CREATE TABLE once (n int)}
        - pg check: {service-instance: solo, sql: SELECT count(*) FROM once, is: 1, timeout: 1s}
        - pg apply: {service-instance: solo, sql: INSERT INTO once VALUES (2)}
      """
    When I run `a9s run play.yaml`
    Then the command fails with exit code 4
    And standard error says "mended: line 4: "
    And standard error says "it answers "
    Given the file "play.yaml" with:
      """
      name: mended
      steps:
        - pg check: {service-instance: solo, sql: SELECT count(*) FROM once, is: 0}
      """
    When I run `a9s run play.yaml --resume`
    Then the command fails with exit code 5
    And standard error says "mended was changed since its last run, so that run can't be resumed"
    And standard error says "Run it from its beginning: leave --resume out."
    Given the file "play.yaml" with:
      """
      name: mended
      steps:
        - pg apply: {service-instance: solo, sql: CREATE TABLE once (n int)}
        - pg check: {service-instance: solo, sql: SELECT count(*) FROM once, is: 1, timeout: 1s}
        - pg apply: {service-instance: solo, sql: INSERT INTO once VALUES (2)}
      """
    When I apply the statement "INSERT INTO once VALUES (1)" to "solo"
    And I run `a9s run play.yaml --resume`
    Then the command succeeds
    And standard output says "1 steps were done in the last run"
    And "solo" answers "SELECT count(*) FROM once" with "2"

  @full @embedded-only @kubectl
  Scenario: A playbook that failed on one cluster does not go on on another
    Given a cluster with the a8s stack
    And an instance "solo"
    And the file "play.yaml" with:
      """
      name: faithful
      defaults: {service-instance: solo}
      steps:
        - pg apply: {sql: CREATE TABLE once (n int)}
        - pg check: {sql: SELECT count(*) FROM once, is: 1, timeout: 1s}
      """
    When I run `a9s run play.yaml`
    Then the command fails with exit code 4
    When I run `kubectl config rename-context a9s-a8s elsewhere`
    And I run `a9s run play.yaml --resume`
    Then it ends with the finding "playbook-elsewhere"
    And standard error says "faithful: line 5: earlier steps went to the current context a9s-a8s (https://"
    And standard error says "and now it is elsewhere (https://"
    And standard error says "Go back: kubectl config use-context a9s-a8s"
    And standard error says "Or run it from its beginning where you are now: leave --resume out."
    When I run `kubectl config unset current-context`
    And I run `a9s run play.yaml --resume`
    Then it ends with the finding "playbook-elsewhere"
    And standard error says "and now there is none"
    When I run `kubectl config rename-context elsewhere a9s-a8s`
    And I run `kubectl config use-context a9s-a8s`
    And I apply the statement "INSERT INTO once VALUES (1)" to "solo"
    And I run `a9s run play.yaml --resume`
    Then the command succeeds
    And standard output says "1 steps were done in the last run"

  @negative
  Scenario: A playbook whose journal is damaged is not resumed, and is not called changed
    Given an empty home and no cluster
    And the file "play.yaml" with:
      """
      name: torn
      steps:
        - pg apply: {service-instance: solo, sql: SELECT 1}
      """
    When I run `a9s run play.yaml`
    Then the command fails
    When half of every file below the folder "{state}/.playbooks" is lost
    And I run `a9s run play.yaml --resume`
    Then it ends with the finding "playbook-journal"
    And standard error says "the journal of torn's last run is damaged, so that run can't be resumed: {state}/.playbooks/"
    And standard error says "Run it from its beginning: leave --resume out."
    When I run `a9s run play.yaml --resume`
    Then it ends with the finding "playbook-journal"
    When I run `a9s run play.yaml`
    Then the command fails
    And standard output says "The journal of the last run is damaged, and is begun anew: {state}/.playbooks/"
    When I run `a9s run play.yaml --resume`
    Then the command fails
    And standard output says "0 steps were done in the last run"

  @full
  Scenario: A playbook that was killed goes on where it was, as often as it takes
    Given a cluster with the a8s stack
    And an instance "solo"
    And the file "play.yaml" with:
      """
      name: stubborn
      steps:
        - pg apply: {service-instance: solo, sql: CREATE TABLE IF NOT EXISTS steps (n int PRIMARY KEY)}
        - pg apply: {service-instance: solo, sql: INSERT INTO steps VALUES (1) ON CONFLICT DO NOTHING}
        - pg apply: {service-instance: solo, sql: INSERT INTO steps VALUES (2) ON CONFLICT DO NOTHING}
        - pg apply: {service-instance: solo, sql: INSERT INTO steps VALUES (3) ON CONFLICT DO NOTHING}
      """
    When I run `a9s run play.yaml --resume`, cut off 4 times
    Then the command succeeds
    And "solo" answers "SELECT sum(n) FROM steps" with "6"
    When I run `a9s run play.yaml --resume`
    Then the command succeeds
    And "solo" answers "SELECT sum(n) FROM steps" with "6"

  @full
  Scenario: A playbook that failed in one of its rounds does those that are left
    Given a cluster with the a8s stack
    And an instance "solo"
    And the file "play.yaml" with:
      """
      name: counted
      defaults: {service-instance: solo}
      before:
        - pg apply: {sql: CREATE TABLE rounds (n int PRIMARY KEY)}
      steps:
        - pg apply: {sql: "INSERT INTO rounds VALUES ({round})"}
        - pg check: {sql: "SELECT {round} <> 2 OR to_regclass('mended') IS NOT NULL", is: t, timeout: 1s}
      after:
        - pg apply: {sql: INSERT INTO rounds VALUES (0)}
      """
    When I run `a9s run play.yaml --repeat 4`
    Then the command fails with exit code 4
    And standard error says "counted: line 7: "
    When I apply the statement "CREATE TABLE mended ()" to "solo"
    And I run `a9s run play.yaml --resume`
    Then the command succeeds
    And standard output says "counted is done: 6 steps, 4 rounds."
    And "solo" answers "SELECT string_agg(n::text, ' ' ORDER BY n) FROM rounds" with "0 1 2 3 4"

  @full
  Scenario: A playbook that goes on for a time
    Given a cluster with the a8s stack
    And an instance "solo"
    And the file "soak.yaml" with:
      """
      name: soak
      before:
        - pg apply: {service-instance: solo, sql: CREATE TABLE rounds (n int PRIMARY KEY)}
      steps:
        - pg apply: {service-instance: solo, sql: "INSERT INTO rounds VALUES ({round})"}
      after:
        - pg apply: {service-instance: solo, sql: INSERT INTO rounds VALUES (0)}
      """
    When I run `a9s run soak.yaml --for 3s`
    Then the command succeeds
    And standard output says "Round 2 begins."
    And "solo" answers "SELECT count(*) > 2 AND min(n) = 0 AND count(*) = max(n) + 1 FROM rounds" with "t"

  @negative
  Scenario Outline: A playbook that is none: <what>
    Given an empty home and no cluster
    And the file "play.yaml" with:
      """
      name: wrong
      steps:
        - <step>
      """
    When I run `a9s run play.yaml`
    Then the command fails with exit code 2
    And nothing is on standard output
    And standard error says "play.yaml: line 3"
    And standard error says "<word>"
    And there is no file "{state}"

    Examples:
      | what                | step                                         | word       |
      | no such step        | create pg instnace: {name: a}                | instnace   |
      | no such flag        | create pg instance: {name: a, replica: 3}    | replica    |
      | a value that is none | create pg instance: {name: UPPER}           | UPPER      |
      | nothing to delete   | delete pg instance:                          | --name     |
      | a number that is written otherwise | pg check: {service-instance: a, sql: b, is: 12.50} | put it in quotes |

  @negative
  Scenario: A playbook that is not there
    Given an empty home and no cluster
    When I run `a9s run nowhere.yaml`
    Then the command fails with exit code 3
    And the reason is one clear sentence
    And standard error says "can't read the playbook: "
    And standard error says "nowhere.yaml"
