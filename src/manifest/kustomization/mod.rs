//! Kustomizations, as far as the released documents use them: resources, namespace, images, config map and secret
//! generators, patches. Every other field is refused by its name, with file and line: what is silently passed over would
//! be missing on the cluster.
//!
//! [`render`] is a pure function of the files below a directory. [`document`] is what a `kustomization.yaml` may say,
//! [`generate`] makes config maps and secrets, [`transform`] sets namespaces and images, [`patches`] applies patches.

mod document;
mod generate;
mod patches;
mod transform;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use self::document::Kustomization;
use crate::finding::{Finding, Id};
use crate::yaml;

/// Names a kustomization may have (sigs.k8s.io/kustomize `api/konfig`).
const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// Deeper than this, directories that name each other are an error, not a design.
const DEEPEST: usize = 16;

/// Why a kustomization can't be rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A directory has no kustomization.
    #[error("{} has no {}", path.display(), NAMES[0])]
    NotThere {
        /// The directory.
        path: PathBuf,
    },
    /// A document is not what it should be.
    #[error("{}: {why}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// Something that kustomize can and this program does not.
    #[error("{}: {what} is not supported", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What, by its name.
        what: String,
    },
}

impl From<Error> for Finding {
    fn from(error: Error) -> Self {
        let cause = crate::finding::chain(&error);
        match error {
            Error::Read { .. } | Error::NotThere { .. } => Self::new(Id::ManifestsMissing, cause),
            Error::Document { .. } => Self::new(Id::ManifestsDamaged, cause),
            Error::Unsupported { .. } => Self::new(Id::KustomizationUnsupported, cause)
                .advise("Render it with kubectl kustomize, and name a directory in which a kustomization has the result as its resource."),
        }
    }
}

/// Where files come from: a directory, and contents that stand in for files of it. A release does not have the files
/// with credentials that its kustomizations name, and nothing should be written next to what somebody else maintains.
#[derive(Debug, Clone, Default)]
pub struct Files {
    overlay: BTreeMap<PathBuf, Vec<u8>>,
}

impl Files {
    /// The files with one more, or another one. The path is the one by which it will be read.
    #[must_use]
    pub fn with(mut self, path: &Path, content: Vec<u8>) -> Self {
        self.overlay.insert(normal(path), content);
        self
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        match self.overlay.get(path) {
            Some(content) => Ok(content.clone()),
            None => fs_err::read(path).map_err(|source| Error::Read { path: path.to_owned(), source }),
        }
    }

    fn text(&self, path: &Path) -> Result<String, Error> {
        String::from_utf8(self.read(path)?)
            .map_err(|_| Error::Document { path: path.to_owned(), why: "it is not UTF-8 text".to_owned() })
    }

    fn has(&self, path: &Path) -> bool {
        self.overlay.contains_key(path) || path.is_file()
    }
}

/// Renders the kustomization of a directory: its objects in the order in which they are named.
///
/// # Errors
/// A file is missing or damaged, or says something that is not supported.
pub fn render(directory: &Path, files: &Files) -> Result<Vec<Value>, Error> {
    render_at(&normal(directory), files, 0)
}

fn render_at(directory: &Path, files: &Files, depth: usize) -> Result<Vec<Value>, Error> {
    let path = NAMES
        .iter()
        .map(|name| directory.join(name))
        .find(|path| files.has(path))
        .ok_or_else(|| Error::NotThere { path: directory.to_owned() })?;
    if depth > DEEPEST {
        return Err(Error::Document { path, why: "the directories of its resources name each other".to_owned() });
    }
    let kustomization = Kustomization::read(&path, &files.text(&path)?)?;
    let mut objects = Vec::new();
    for resource in &kustomization.resources {
        objects.extend(resource_of(directory, &path, resource, files, depth)?);
    }
    let inside = Inside { directory, path: &path, files };
    objects.extend(generate::config_maps(&kustomization, &inside)?);
    objects.extend(generate::secrets(&kustomization, &inside)?);
    unique(&path, &objects)?;
    patches::apply(&kustomization, &inside, &mut objects)?;
    if let Some(namespace) = &kustomization.namespace {
        transform::namespace(namespace, &mut objects);
    }
    transform::images(&kustomization.images, &mut objects);
    Ok(objects)
}

fn resource_of(
    directory: &Path,
    path: &Path,
    resource: &str,
    files: &Files,
    depth: usize,
) -> Result<Vec<Value>, Error> {
    if resource.contains("://") || resource.contains("?ref=") || resource.starts_with("git@") {
        return Err(Error::Unsupported { path: path.to_owned(), what: format!("the remote resource {resource}") });
    }
    let target = normal(&directory.join(resource));
    if target.is_dir() {
        return render_at(&target, files, depth + 1);
    }
    Inside { directory, path, files }.check(&target)?;
    objects_of(&target, &files.text(&target)?)
}

/// The objects of a file, the items of lists one by one.
///
/// # Errors
/// It is not YAML, or not of objects with a kind and a name.
pub fn objects_of(path: &Path, text: &str) -> Result<Vec<Value>, Error> {
    let damaged = |why: String| Error::Document { path: path.to_owned(), why };
    let documents: Vec<Value> = yaml::read_all(text).map_err(|error| damaged(error.to_string()))?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        match (document["kind"].as_str(), document["items"].as_array()) {
            (Some(kind), Some(items)) if kind.ends_with("List") => objects.extend(items.clone()),
            _ => objects.push(document),
        }
    }
    for object in &objects {
        let has = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if let Some(missing) = ["/apiVersion", "/kind", "/metadata/name"].into_iter().find(|pointer| !has(pointer)) {
            return Err(damaged(format!("a document has no {}", missing.trim_start_matches('/').replace('/', "."))));
        }
    }
    Ok(objects)
}

/// What names an object: group, kind, namespace and name.
fn identity(object: &Value) -> (String, String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    (group(object).to_owned(), text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
}

fn group(object: &Value) -> &str {
    object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}

fn unique(path: &Path, objects: &[Value]) -> Result<(), Error> {
    let mut seen = std::collections::BTreeSet::new();
    for object in objects {
        let identity = identity(object);
        if seen.contains(&identity) {
            let (_, kind, _, name) = identity;
            return Err(Error::Document { path: path.to_owned(), why: format!("{kind} {name} is named twice") });
        }
        seen.insert(identity);
    }
    Ok(())
}

/// The directory of a kustomization, out of which its files may not be.
struct Inside<'a> {
    directory: &'a Path,
    path: &'a Path,
    files: &'a Files,
}

impl Inside<'_> {
    /// As kustomize, only directories may lie elsewhere: a document that is fetched must not read what is around it.
    fn check(&self, target: &Path) -> Result<(), Error> {
        let leads_out = match (fs_err::canonicalize(target), fs_err::canonicalize(self.directory)) {
            (Ok(target), Ok(directory)) => !target.starts_with(directory),
            // What is not there leads nowhere: another content stands in for it, or it can't be read.
            _ => false,
        };
        if target.starts_with(self.directory) && !leads_out {
            return Ok(());
        }
        let why = format!("{} is not below the directory of the kustomization", target.display());
        Err(Error::Document { path: self.path.to_owned(), why })
    }

    /// The file that the kustomization calls so.
    fn target(&self, file: &str) -> Result<PathBuf, Error> {
        let target = normal(&self.directory.join(file));
        self.check(&target)?;
        Ok(target)
    }

    fn read(&self, file: &str) -> Result<Vec<u8>, Error> {
        self.files.read(&self.target(file)?)
    }

    fn text(&self, file: &str) -> Result<String, Error> {
        self.files.text(&self.target(file)?)
    }

    fn damaged(&self, why: impl Into<String>) -> Error {
        Error::Document { path: self.path.to_owned(), why: why.into() }
    }

    fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::Unsupported { path: self.path.to_owned(), what: what.into() }
    }
}

/// A path without `.` and `..`, without asking the file system.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, component| {
        match component {
            Component::CurDir => {}
            Component::ParentDir if normal.file_name().is_some() => {
                normal.pop();
            }
            other => normal.push(other),
        }
        normal
    })
}

#[cfg(test)]
mod tests;
