@core
Feature: The program itself
  What needs no cluster works without one, at once.

  @smoke
  Scenario: Help
    Given an empty home and no cluster
    When I run `a9s --help`
    Then the command succeeds
    And standard output says "A tool to make the use of a9s Platform modules more enjoyable."
    And it took less than 1 seconds
    And there is no file ".a9s"

  @smoke
  Scenario: The version of the program alone
    Given an empty home and no cluster
    When I run `a9s version --client`
    Then the command succeeds
    And standard output says "a9s cli version: "
    And it took less than 1 seconds

  Scenario: The version of what is installed
    Given a cluster with the a8s stack
    When I run `a9s version`
    Then the command succeeds
    And standard output says "a9s cli version: "
    And it took less than 3 seconds

  Scenario: The version when the cluster can't be reached
    Given an empty home and no cluster
    And the file ".kube/config" with:
      """
      {apiVersion: v1, kind: Config, current-context: away, contexts: [{name: away, context: {cluster: away, user: away}}],
       clusters: [{name: away, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: away, user: {}}]}
      """
    When I run `a9s version`
    Then the command succeeds
    And standard output says "a9s cli version: "
    And it took less than 4 seconds

  Scenario Outline: Completion for <shell>
    Given an empty home and no cluster
    When I run `a9s completion <shell>`
    Then the command succeeds
    And standard output says "<word>"

    Examples:
      | shell      | word                   |
      | bash       | embedded kind minikube |
      | zsh        | embedded kind minikube |
      | fish       | a9s                    |
      | powershell | a9s                    |

  Scenario Outline: A reader that goes away is no error: <command>
    Given an empty home and no cluster
    When I run `a9s <command>` for a reader that <goes>
    Then the command succeeds
    And standard error does not say "panicked"

    Examples:
      | command          | goes                    |
      | completion bash  | goes away after a line  |
      | conformance list | goes away after a line  |
      | --help           | is gone                 |

  Scenario: A flag of the Go tool that has nothing to do here is taken, and that is said
    Given an empty home and no cluster
    When I run `a9s create stack a8s --stack builtin --no-precheck --no-apply --yes`
    Then the command succeeds
    And standard error says "--no-precheck has no effect: this command does not check this machine"

  Scenario: The working directory, for scripts
    Given an empty home and no cluster
    And the file ".a9s" with:
      """
      WorkingDir: {home}/elsewhere
      DemoSpace: a8s-demo
      """
    When I run `a9s cluster pwd`
    Then the command succeeds
    And standard output is "{home}/elsewhere"
    And standard output ends without a newline

  Scenario Outline: Who was given a cluster has made none, and needs no configuration before: create pg <command>
    Given an empty home and no cluster
    When I run `a9s create pg <command> --no-apply --dry-run --yes`
    Then the command succeeds
    And there is no file ".a9s"
    When I run `a9s create pg <command> --no-apply --yes`
    Then the command succeeds
    And standard output says "The working directory is {home}/a9s"
    And the file ".a9s" says "WorkingDir: {home}/a9s"

    Examples:
      | command                    |
      | instance                   |
      | backup -i solo             |
      | restore -b nightly -i solo |
      | servicebinding -i solo     |

  @negative
  Scenario Outline: A configuration that <is>
    Given an empty home and no cluster
    And the file ".a9s" with:
      """
      <text>
      """
    When I run `a9s <line>`
    Then it ends with the finding "config-damaged"
    And nothing is on standard output
    And standard error says "<words>"

    Examples:
      | is                       | text             | line           | words                                                             |
      | is not YAML              | {WorkingDir: [   | cluster pwd    | Couldn't parse config file {home}/.a9s:                           |
      | is another document      | just a word      | cluster pwd    | Couldn't parse config file {home}/.a9s:                           |
      | leads to nowhere certain | WorkingDir: a9s  | cluster pwd    | WorkingDir is not an absolute path:                               |
      | names no provider        | Provider: nimbus | cluster status | {home}/.a9s: The selected Kubernetes provider nimbus is not valid |

  @negative
  Scenario: A configuration that can't be read
    Given an empty home and no cluster
    And the file ".a9s" can't be read
    When I run `a9s cluster pwd`
    Then the command fails with exit code 3
    And nothing is on standard output
    And standard error says "Couldn't open config file {home}/.a9s: "
    And standard error says "Make {home}/.a9s a file that you can read."
    And the reason is one clear sentence

  Scenario Outline: The provider comes from the flag, the environment, the configuration, in this order: <where>
    Given an empty home and no cluster
    And the file ".a9s" with:
      """
      WorkingDir: {home}/a9s
      DemoSpace: a8s-demo
      Provider: <configured>
      """
    And the variable "A9S_PROVIDER" is "<variable>"
    When I run `a9s create cluster a8s <flag> --dry-run`
    Then the command <ends>
    And standard <stream> says "<word>"
    And there is no file "{state}"

    Examples:
      | where             | configured | variable | flag        | ends                      | stream | word                  |
      | the flag          | kind       | minikube | -p embedded | succeeds                  | output | Using embedded        |
      | the environment   | kind       | embedded |             | succeeds                  | output | Using embedded        |
      | the configuration | embedded   |          |             | succeeds                  | output | Using embedded (by    |
