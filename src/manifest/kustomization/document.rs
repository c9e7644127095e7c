//! What a `kustomization.yaml` may say. Names of fields are kustomize's (sigs.k8s.io/kustomize `api/types`).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::Error;
use crate::yaml;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Kustomization {
    pub api_version: Option<String>,
    pub kind: Option<String>,
    pub resources: Vec<String>,
    pub namespace: Option<String>,
    pub images: Vec<Image>,
    pub config_map_generator: Vec<Generator>,
    pub secret_generator: Vec<Generator>,
    pub generator_options: GeneratorOptions,
    pub patches: Vec<Patch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Image {
    pub name: String,
    pub new_name: Option<String>,
    pub new_tag: Option<String>,
    pub digest: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Generator {
    pub name: String,
    pub namespace: Option<String>,
    /// `path` or `key=path`.
    #[serde(default)]
    pub files: Vec<String>,
    /// `key=value`.
    #[serde(default)]
    pub literals: Vec<String>,
    /// Of secrets only.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub options: Option<GeneratorOptions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct GeneratorOptions {
    pub disable_name_suffix_hash: bool,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Patch {
    pub path: Option<String>,
    pub patch: Option<String>,
    pub target: Option<Target>,
}

/// Which objects a patch is for. Unlike kustomize's, these are plain texts and no patterns.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Target {
    pub group: Option<String>,
    pub version: Option<String>,
    pub kind: Option<String>,
    pub name: Option<String>,
    pub namespace: Option<String>,
}

impl Kustomization {
    pub(super) fn read(path: &Path, text: &str) -> Result<Self, Error> {
        let refused = |error: yaml::Error| {
            let why = error.to_string();
            match unknown_field(&why) {
                Some(what) => Error::Unsupported { path: path.to_owned(), what },
                None => Error::Document { path: path.to_owned(), why },
            }
        };
        let read: Self = yaml::read(text).map_err(refused)?;
        match (read.api_version.as_deref(), read.kind.as_deref()) {
            (
                None | Some("kustomize.config.k8s.io/v1beta1" | "kustomize.config.k8s.io/v1"),
                None | Some("Kustomization"),
            ) => Ok(read),
            (version, kind) => {
                let what = format!("the kind {} {}", version.unwrap_or_default(), kind.unwrap_or_default());
                Err(Error::Unsupported { path: path.to_owned(), what })
            }
        }
    }
}

/// The field for which a document was refused and where it is, if that is why (`serde::de::Error::unknown_field`).
fn unknown_field(why: &str) -> Option<String> {
    let (place, rest) = why.split_once("unknown field `")?;
    let (field, _) = rest.split_once('`')?;
    Some(format!("{}the field {field}", place.trim_start_matches("error: ")))
}
