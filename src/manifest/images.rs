//! Image references, and the table of images that have moved.
//!
//! Released manifests name images in registries that come and go: `gcr.io/kubebuilder/kube-rbac-proxy` is gone
//! since March 2026. A table rewrites references before anything is applied; a file of the user goes before the table of
//! the program, which also serves mirrors and installations without a network.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::finding::{Finding, Id};
use crate::yaml;

/// Images that moved, with what replaces them. Tags stay.
const MOVED: [(&str, &str); 1] = [("gcr.io/kubebuilder/kube-rbac-proxy", "quay.io/brancz/kube-rbac-proxy")];

/// ConfigMap of the released stack whose values are image references.
const IMAGES_OF_INSTANCES: &str = "postgresql-images";
/// Arguments of containers that are image references (cert-manager's).
const ARGUMENTS: [&str; 1] = ["--acme-http01-solver-image="];

/// A reference: repository with its registry, tag, digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Such as `quay.io/brancz/kube-rbac-proxy`.
    pub repository: String,
    /// Such as `v0.15.0`.
    pub tag: Option<String>,
    /// Such as `sha256:…`.
    pub digest: Option<String>,
}

impl Reference {
    /// Takes a reference apart. A colon before the last slash is a port's.
    pub fn parse(text: &str) -> Self {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.to_owned())),
            None => (text, None),
        };
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.to_owned())),
            _ => (name, None),
        };
        Self { repository: repository.to_owned(), tag, digest }
    }

    /// The registry that serves it, and the repository's name there (as Docker understands short names).
    pub fn registry(&self) -> (String, String) {
        match self.repository.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
                let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
                let library = host == "registry-1.docker.io" && !rest.contains('/');
                (host.to_owned(), if library { format!("library/{rest}") } else { rest.to_owned() })
            }
            Some(_) => ("registry-1.docker.io".to_owned(), self.repository.clone()),
            None => ("registry-1.docker.io".to_owned(), format!("library/{}", self.repository)),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Old name to new name. Old names are whole references, repositories (whose tag then stays), or prefixes that end with `/`.
pub type Rows = BTreeMap<String, String>;

/// The rows of a file, which is a YAML mapping.
///
/// # Errors
/// The file can't be read, or is no mapping of texts.
pub fn rows(path: &Path) -> Result<Rows, Finding> {
    let unreadable = |why: String| Finding::new(Id::ImageMap, format!("{}: {why}", path.display()));
    let text = fs_err::read_to_string(path)
        .map_err(|error| Finding::new(Id::ImageMap, format!("cannot read the image map: {error}")))?;
    let rows: Rows = yaml::read(&text).map_err(|error| unreadable(error.to_string()))?;
    if let Some((from, to)) = rows.iter().find(|(from, to)| from.ends_with('/') != to.ends_with('/')) {
        return Err(unreadable(format!("either both or none of {from:?} and {to:?} end with '/'")));
    }
    Ok(rows)
}

/// What replaces what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageMap {
    rows: Rows,
}

impl Default for ImageMap {
    fn default() -> Self {
        Self { rows: MOVED.map(|(from, to)| (from.to_owned(), to.to_owned())).into() }
    }
}

impl ImageMap {
    /// The program's table, with rows that go before it.
    pub fn with(rows: Rows) -> Self {
        let mut map = Self::default();
        map.rows.extend(rows);
        map
    }

    /// What a reference becomes; `None` if it stays. The most specific row wins, and a row's result may have moved, too:
    /// a mirror's row for a prefix also serves what the program's table has moved below it.
    pub fn replacement(&self, text: &str) -> Option<String> {
        let first = self.once(text)?;
        Some(self.once(&first).unwrap_or(first))
    }

    fn once(&self, text: &str) -> Option<String> {
        if let Some(to) = self.rows.get(text) {
            return Some(to.clone());
        }
        let reference = Reference::parse(text);
        if let Some(to) = self.rows.get(&reference.repository) {
            let wanted = Reference::parse(to);
            let named = wanted.tag.is_some() || wanted.digest.is_some();
            let (tag, digest) = if named { (wanted.tag, wanted.digest) } else { (reference.tag, reference.digest) };
            return Some(Reference { repository: wanted.repository, tag, digest }.to_string());
        }
        let prefixes = self.rows.iter().filter(|(from, _)| from.ends_with('/') && text.starts_with(from.as_str()));
        let (from, to) = prefixes.max_by_key(|(from, _)| from.len())?;
        // A prefix that is mapped into itself must not grow at every look.
        (!to.starts_with(from.as_str()) || !text.starts_with(to.as_str()))
            .then(|| format!("{to}{}", &text[from.len()..]))
    }

    /// Rewrites every image that an object names.
    pub fn rewrite(&self, object: &mut Value) {
        each(object, &mut |text, _| self.replacement(text));
    }
}

/// What a text of an object stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    ForAnImage,
    /// For the beginning of many, whose ends are put together elsewhere.
    ForARepository,
}

/// The images that objects name, each once.
pub fn of_objects(objects: &[Value]) -> Vec<String> {
    let mut found = std::collections::BTreeSet::new();
    for object in objects {
        each(&mut object.clone(), &mut |text, stands| {
            if stands == Stands::ForAnImage {
                found.insert(text.to_owned());
            }
            None
        });
    }
    found.into_iter().collect()
}

/// Every image of an object: those of containers, and those that operators use for what they make.
fn each(object: &mut Value, change: &mut dyn FnMut(&str, Stands) -> Option<String>) {
    let is_list = object["kind"] == "ConfigMap" && object["metadata"]["name"] == IMAGES_OF_INSTANCES;
    if let Some(data) = object.get_mut("data").and_then(Value::as_object_mut).filter(|_| is_list) {
        for (key, value) in data {
            let stands = if key.ends_with("Registry") { Stands::ForARepository } else { Stands::ForAnImage };
            if let Some(changed) = value.as_str().and_then(|text| change(text, stands)) {
                *value = Value::String(changed);
            }
        }
    }
    each_container(object, &mut |text| change(text, Stands::ForAnImage));
}

/// The images of containers, wherever in an object there are containers.
pub fn each_container(object: &mut Value, change: &mut dyn FnMut(&str) -> Option<String>) {
    match object {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                if let ("containers" | "initContainers", Value::Array(containers)) = (key.as_str(), &mut *value) {
                    containers.iter_mut().for_each(|container| of_container(container, change));
                }
                each_container(value, change);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_container(item, change)),
        _ => {}
    }
}

fn of_container(container: &mut Value, change: &mut dyn FnMut(&str) -> Option<String>) {
    if let Some(changed) = container["image"].as_str().and_then(&mut *change) {
        container["image"] = Value::String(changed);
        // It is somewhere to be pulled from now.
        if container["imagePullPolicy"] == "Never" {
            container["imagePullPolicy"] = "IfNotPresent".into();
        }
    }
    for argument in container.get_mut("args").and_then(Value::as_array_mut).into_iter().flatten() {
        let named = argument.as_str().and_then(|text| {
            let flag = ARGUMENTS.iter().find(|flag| text.starts_with(**flag))?;
            Some(format!("{flag}{}", change(&text[flag.len()..])?))
        });
        if let Some(named) = named {
            *argument = Value::String(named);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("nginx", "registry-1.docker.io", "library/nginx")]
    #[case("minio/mc:latest", "registry-1.docker.io", "minio/mc")]
    #[case("localhost:5000/a/b:1", "localhost:5000", "a/b")]
    #[case("mirror:5000/a", "mirror:5000", "a")]
    #[case("quay.io/x/y@sha256:00", "quay.io", "x/y")]
    #[case("docker.io/alpine:3", "registry-1.docker.io", "library/alpine")]
    fn a_reference_names_its_registry(#[case] text: &str, #[case] registry: &str, #[case] name: &str) {
        assert_eq!(Reference::parse(text).registry(), (registry.to_owned(), name.to_owned()));
        assert_eq!(Reference::parse(text).to_string(), text);
    }

    fn map(text: &str) -> ImageMap {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), text).unwrap();
        ImageMap::with(rows(file.path()).unwrap())
    }

    #[rstest]
    #[case("{}", "gcr.io/kubebuilder/kube-rbac-proxy:v0.15.0", Some("quay.io/brancz/kube-rbac-proxy:v0.15.0"))]
    #[case("{}", "alpine:3.16.0", None)]
    #[case(
        "{quay.io/: mirror:5000/q/}",
        "gcr.io/kubebuilder/kube-rbac-proxy:v1",
        Some("mirror:5000/q/brancz/kube-rbac-proxy:v1")
    )]
    #[case("{a/: m/a/, a/b/: n/}", "a/b/c:1", Some("n/c:1"))]
    #[case("{a/b: 'c/d:2'}", "a/b:1", Some("c/d:2"))]
    #[case("{'a/b:1': 'c/d:2'}", "a/b:3", None)]
    #[case("{m/: m/m/}", "m/m/x:1", None)]
    fn the_most_specific_row_wins(#[case] rows: &str, #[case] image: &str, #[case] becomes: Option<&str>) {
        assert_eq!(map(rows).replacement(image).as_deref(), becomes);
    }

    #[test]
    fn images_are_found_in_containers_arguments_and_the_list_for_instances() {
        let objects = [
            json!({"kind": "Deployment", "spec": {"template": {"spec": {
                "initContainers": [{"image": "a:1"}],
                "containers": [{"image": "b:1", "args": ["--x", "--acme-http01-solver-image=c:1"]}],
            }}}}),
            json!({"kind": "ConfigMap", "metadata": {"name": "postgresql-images"}, "data": {
                "spiloImage": "d:1", "extensionImageRegistry": "registry.test/extensions",
            }}),
            json!({"kind": "ConfigMap", "metadata": {"name": "other"}, "data": {"spiloImage": "e:1"}}),
        ];
        assert_eq!(of_objects(&objects), ["a:1", "b:1", "c:1", "d:1"]);
    }

    #[test]
    fn a_registry_of_many_images_moves_with_them() {
        let map = ImageMap::with([("registry.test/".to_owned(), "mirror.test/".to_owned())].into());
        let mut object = json!({"kind": "ConfigMap", "metadata": {"name": "postgresql-images"}, "data": {
            "extensionImageRegistry": "registry.test/extensions",
        }});
        map.rewrite(&mut object);
        assert_eq!(object["data"]["extensionImageRegistry"], "mirror.test/extensions");
    }

    #[test]
    fn a_prefix_becomes_a_prefix() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), "a/: b\n").unwrap();
        let finding = rows(file.path()).unwrap_err();
        assert_eq!(finding.id, Id::ImageMap);
        assert!(finding.cause.ends_with(": either both or none of \"a/\" and \"b\" end with '/'"), "{finding}");
    }

    #[test]
    fn a_map_that_is_none_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), "- a\n").unwrap();
        assert!(rows(file.path()).unwrap_err().cause.contains(&*file.path().to_string_lossy()));
    }
}
