//! Kustomizations are rendered as kustomize renders them, or refused.

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::finding::Class;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stack/deploy")
}

/// What is made on the machine that installs the stack.
fn with_credentials(deploy: &Path) -> Files {
    let directory = deploy.join("a8s/backup-config");
    [
        ("backup-store-config.yaml", "config:\n  cloud_configuration:\n    container: a8s-backups\n"),
        ("access-key-id", "a8s-user"),
        ("secret-access-key", "a8s-password"),
        ("encryption-password", "0123"),
    ]
    .into_iter()
    .fold(Files::default(), |files, (name, text)| files.with(&directory.join(name), text.as_bytes().to_vec()))
}

fn text(objects: &[Value]) -> String {
    objects.iter().map(|object| yaml::write(object).unwrap()).collect::<Vec<_>>().join("---\n")
}

#[test]
fn the_structure_of_the_released_documents_is_rendered() {
    let objects = render(&fixture().join("a8s/manifests"), &with_credentials(&fixture())).unwrap();
    insta::with_settings!({snapshot_path => "../../../snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("upstream_rendered", text(&objects));
    });
}

#[test]
fn files_with_credentials_that_nobody_made_are_missing_by_name() {
    let finding = Finding::from(render(&fixture().join("a8s/manifests"), &Files::default()).unwrap_err());
    assert_eq!(finding.class(), Class::Missing);
    assert!(finding.cause.contains("backup-config/backup-store-config.yaml"), "{}", finding.cause);
}

struct Directory(tempfile::TempDir);

impl Directory {
    fn of(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        Self(directory)
    }

    fn render(&self) -> Result<Vec<Value>, String> {
        render(self.0.path(), &Files::default()).map_err(|error| Finding::from(error).cause)
    }
}

const ACCOUNT: &str = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: manager, namespace: before}}\n";
const BINDING: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\n\
    roleRef: {kind: ClusterRole, name: r}\nsubjects:\n- {kind: ServiceAccount, name: manager, namespace: before}\n\
    - {kind: ServiceAccount, name: foreign, namespace: elsewhere}\n";

#[test]
fn a_namespace_moves_objects_and_what_refers_to_them_and_nothing_else() {
    let kustomization = "namespace: after\nresources: [all.yaml]\n";
    let all = format!("{ACCOUNT}---\n{BINDING}---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: before}}}}\n");
    let objects = Directory::of(&[("kustomization.yaml", kustomization), ("all.yaml", &all)]).render().unwrap();
    assert_eq!(objects[0]["metadata"]["namespace"], "after");
    assert_eq!(objects[1]["metadata"], json!({"name": "b"}));
    assert_eq!(objects[1]["subjects"][0]["namespace"], "after");
    assert_eq!(objects[1]["subjects"][1]["namespace"], "elsewhere");
    assert_eq!(objects[2]["metadata"]["name"], "after");
}

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, labels: {a: b}}\n\
    spec:\n  template:\n    spec:\n      containers:\n      - {name: one, image: 'repo/one:1'}\n      - {name: two, image: 'repo/two:1'}\n";

#[test]
fn images_get_other_names_tags_and_digests() {
    let kustomization = "resources: [d.yaml]\nimages:\n- {name: repo/one, newName: mirror/one, newTag: '2'}\n\
        - {name: repo/two, digest: 'sha256:00'}\n";
    let objects = Directory::of(&[("kustomization.yaml", kustomization), ("d.yaml", DEPLOYMENT)]).render().unwrap();
    let image = |index: usize| &objects[0]["spec"]["template"]["spec"]["containers"][index]["image"];
    assert_eq!((image(0), image(1)), (&json!("mirror/one:2"), &json!("repo/two@sha256:00")));
}

#[test]
fn patches_merge_containers_by_name_or_are_lists_of_operations() {
    let kustomization = "resources: [d.yaml]\npatches:\n- path: p.yaml\n- target: {kind: Deployment, name: d}\n  \
        patch: |\n    - {op: remove, path: /metadata/labels/a}\n";
    let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  template:\n    spec:\n      \
        containers:\n      - {name: two, args: [--x]}\n";
    let files = [("kustomization.yaml", kustomization), ("d.yaml", DEPLOYMENT), ("p.yaml", patch)];
    let objects = Directory::of(&files).render().unwrap();
    let containers = objects[0]["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let two = containers.iter().find(|container| container["name"] == "two").unwrap();
    assert_eq!((containers.len(), &two["image"], &two["args"]), (2, &json!("repo/two:1"), &json!(["--x"])));
    assert_eq!(objects[0]["metadata"]["labels"], json!({}));
}

#[test]
fn literals_lose_their_quotes_and_bytes_become_binary_data() {
    let kustomization = "generatorOptions: {disableNameSuffixHash: true, labels: {x: y}}\n\
        configMapGenerator:\n- {name: c, literals: ['a=\"b\"', 'c=d=e'], files: ['k=f.txt']}\n";
    let objects = Directory::of(&[("kustomization.yaml", kustomization), ("f.txt", "text")]).render().unwrap();
    assert_eq!(objects[0]["data"], json!({"a": "b", "c": "d=e", "k": "text"}));
    assert_eq!(objects[0]["metadata"]["labels"], json!({"x": "y"}));
}

#[rstest]
#[case("resources: []\n\nhelmCharts: []\n", "line 3", "helmCharts")]
#[case("images:\n- name: a\n  tagSuffix: b\n", "line 3", "tagSuffix")]
#[case("resources: [https://example.test/a.yaml]\n", "", "the remote resource https://example.test/a.yaml")]
#[case("resources: [../other.yaml]\n", "", "is not below the directory")]
#[case("kind: Component\n", "", "the kind  Component")]
#[case("resources: [deep]\n", "", "deep has no kustomization.yaml")]
#[case("configMapGenerator: [{name: c}]\n", "", "a hash in the name of c")]
#[case("configMapGenerator: [{name: c, type: Opaque}]\n", "", "the config map c has a type")]
#[case(
    "generatorOptions: {disableNameSuffixHash: true}\nconfigMapGenerator: [{name: c, literals: [a=1, a=2]}]\n",
    "",
    "c has the key a twice"
)]
#[case(
    "generatorOptions: {disableNameSuffixHash: true}\nconfigMapGenerator: [{name: c, literals: [a]}]\n",
    "",
    "a literal of c has no '='"
)]
#[case(
    "generatorOptions: {disableNameSuffixHash: true}\nconfigMapGenerator: [{name: c, files: [..]}]\n",
    "",
    "\"..\" names no file"
)]
#[case("resources: [broken.yaml]\n", "broken.yaml", "line 1")]
#[case("resources: [nameless.yaml]\n", "nameless.yaml", "metadata.name")]
#[case("resources: [account.yaml, account.yaml]\n", "", "ServiceAccount manager is named twice")]
#[case("resources: [account.yaml]\npatches: [{patch: '[]'}]\n", "", "needs a target")]
#[case("resources: [account.yaml]\npatches: [{patch: 'a: {'}]\n", "", "an inline patch: ")]
#[case("resources: [account.yaml]\npatches: [{path: a, patch: b}]\n", "", "a patch has either a path or a patch")]
#[case("resources: [account.yaml]\npatches: [{patch: '{kind: X}'}]\n", "", "no object is what the patch is for")]
#[case("resources: [.]\n", "", "name each other")]
fn what_is_not_understood_is_refused_by_name(#[case] kustomization: &str, #[case] place: &str, #[case] what: &str) {
    let files = [
        ("kustomization.yaml", kustomization),
        ("broken.yaml", "a: {\n"),
        ("nameless.yaml", "{apiVersion: v1, kind: Secret}\n"),
        ("account.yaml", ACCOUNT),
        ("deep/account.yaml", ACCOUNT),
    ];
    let cause = Directory::of(&files).render().unwrap_err();
    assert!(cause.contains(place) && cause.contains(what), "{cause}");
}

#[rstest]
#[case("resources: [bytes.yaml]\n")]
#[case("resources: []\npatches: [{path: bytes.yaml}]\n")]
fn a_document_that_is_no_text_is_refused(#[case] kustomization: &str) {
    let directory = Directory::of(&[("kustomization.yaml", kustomization)]);
    fs_err::write(directory.0.path().join("bytes.yaml"), [0xff]).unwrap();
    let cause = directory.render().unwrap_err();
    assert!(cause.ends_with("bytes.yaml: it is not UTF-8 text"), "{cause}");
}

#[test]
fn a_link_out_of_the_directory_is_not_followed() {
    let directory = Directory::of(&[("kustomization.yaml", "resources: [link.yaml]\n")]);
    std::os::unix::fs::symlink("/etc/hosts", directory.0.path().join("link.yaml")).unwrap();
    assert!(directory.render().unwrap_err().contains("is not below the directory"));
}

#[test]
fn a_release_behind_a_link_has_what_stands_in_for_its_files() {
    let home = tempfile::tempdir().unwrap();
    let deploy = home.path().join("deploy");
    std::os::unix::fs::symlink(fixture(), &deploy).unwrap();
    let rendered = |deploy: &Path| render(&deploy.join("a8s/manifests"), &with_credentials(deploy)).unwrap();
    assert_eq!(rendered(&deploy), rendered(&fixture()));
}
