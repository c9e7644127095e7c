//! Which files a volume of ConfigMaps, Secrets, tokens and fields of the pod has.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapProjection, Container, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret,
    SecretProjection, Volume,
};

use super::atomic::File;
use super::material::{Material, Tokens};
use crate::node::downward::{self, Capacity, Place};

/// Permissions of files for which nothing else is said.
const DEFAULT_MODE: i32 = 0o644;

/// Whence the content of a volume comes.
pub(super) struct Origin<'a> {
    pub(super) pod: &'a Pod,
    pub(super) place: &'a Place,
    pub(super) capacity: &'a Capacity,
    pub(super) material: &'a Material,
    pub(super) tokens: &'a Tokens,
}

type Files = Result<Vec<File>, String>;

/// The files of a volume of this kind; `None` for volumes of other kinds.
pub(super) fn files(volume: &Volume, origin: &Origin<'_>) -> Option<Files> {
    if let Some(source) = &volume.config_map {
        let projection =
            ConfigMapProjection { name: source.name.clone(), items: source.items.clone(), optional: source.optional };
        return Some(origin.config_map(&projection, source.default_mode));
    }
    if let Some(source) = &volume.secret {
        let projection = SecretProjection {
            name: source.secret_name.clone().unwrap_or_default(),
            items: source.items.clone(),
            optional: source.optional,
        };
        return Some(origin.secret(&projection, source.default_mode));
    }
    if let Some(source) = &volume.downward_api {
        return Some(origin.fields(source.items.as_deref().unwrap_or_default(), source.default_mode));
    }
    volume.projected.as_ref().map(|source| origin.projected(source))
}

impl Origin<'_> {
    fn config_map(&self, source: &ConfigMapProjection, mode: Option<i32>) -> Files {
        let found = self.material.config_maps.get(&source.name).and_then(Option::as_ref);
        let data = found.map(config_map_data);
        keys(data, ("configmap", &source.name), source.items.as_deref(), source.optional, mode)
    }

    fn secret(&self, source: &SecretProjection, mode: Option<i32>) -> Files {
        let found = self.material.secrets.get(&source.name).and_then(Option::as_ref);
        let data = found.map(secret_data);
        keys(data, ("secret", &source.name), source.items.as_deref(), source.optional, mode)
    }

    fn projected(&self, source: &ProjectedVolumeSource) -> Files {
        let mut files = Vec::new();
        for projection in source.sources.iter().flatten() {
            if let Some(inner) = &projection.config_map {
                files.extend(self.config_map(inner, source.default_mode)?);
            } else if let Some(inner) = &projection.secret {
                files.extend(self.secret(inner, source.default_mode)?);
            } else if let Some(inner) = &projection.downward_api {
                files.extend(self.fields(inner.items.as_deref().unwrap_or_default(), source.default_mode)?);
            } else if let Some(inner) = &projection.service_account_token {
                let token = self.tokens.get(projection).ok_or("the token has not been issued yet")?;
                // Only the pod's user may read a token.
                files.push(file(&inner.path, token.as_bytes().to_vec(), 0o600));
            } else {
                return Err("projected volumes of this kind are not supported by this node".into());
            }
        }
        Ok(files)
    }

    fn fields(&self, items: &[DownwardAPIVolumeFile], mode: Option<i32>) -> Files {
        let nobody = Container::default();
        items
            .iter()
            .map(|item| {
                let text = match (&item.field_ref, &item.resource_field_ref) {
                    (Some(reference), _) => downward::field(self.pod, self.place, &reference.field_path)?,
                    (None, Some(reference)) => downward::resource(self.pod, &nobody, reference, self.capacity)?,
                    (None, None) => String::new(),
                };
                Ok(file(&item.path, text.into_bytes(), item.mode.or(mode).unwrap_or(DEFAULT_MODE)))
            })
            .collect()
    }
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let texts = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binaries = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    texts.chain(binaries).collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

/// The keys of an object as files, with the kubelet's words for what is missing (`pkg/volume/configmap/configmap.go`).
fn keys(
    data: Option<BTreeMap<String, Vec<u8>>>,
    (what, name): (&str, &str),
    items: Option<&[KeyToPath]>,
    is_optional: Option<bool>,
    mode: Option<i32>,
) -> Files {
    let is_optional = is_optional == Some(true);
    let Some(data) = data else {
        return if is_optional { Ok(Vec::new()) } else { Err(format!("{what} \"{name}\" not found")) };
    };
    let mode = mode.unwrap_or(DEFAULT_MODE);
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.into_iter().map(|(key, content)| file(&key, content, mode)).collect());
    };
    let mut files = Vec::new();
    for item in items {
        match data.get(&item.key) {
            Some(content) => files.push(file(&item.path, content.clone(), item.mode.unwrap_or(mode))),
            None if is_optional => {}
            None => return Err(format!("references non-existent {what} key: {}", item.key)),
        }
    }
    Ok(files)
}

fn file(path: &str, content: Vec<u8>, mode: i32) -> File {
    File { path: path.into(), content, mode: u32::try_from(mode).unwrap_or(0o644) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn make(volume: Value) -> Result<Vec<(String, String, u32)>, String> {
        let mut volume = volume;
        volume["name"] = json!("v");
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"a": "b"}}})).unwrap();
        let material = Material {
            config_maps: [(
                "cm".to_owned(),
                Some(serde_json::from_value(json!({"data": {"x": "1"}, "binaryData": {"y": "Mg=="}})).unwrap()),
            )]
            .into(),
            secrets: [("s".to_owned(), Some(serde_json::from_value(json!({"data": {"k": "dg=="}})).unwrap()))].into(),
        };
        let origin = Origin {
            pod: &pod,
            place: &Place::default(),
            capacity: &Capacity { cpus: 1.0, memory: 1.0, storage: 1.0 },
            material: &material,
            tokens: &Tokens::default(),
        };
        let files = files(&volume, &origin).unwrap()?;
        Ok(files
            .into_iter()
            .map(|file| (file.path.display().to_string(), String::from_utf8(file.content).unwrap(), file.mode))
            .collect())
    }

    fn expect(list: &[(&str, &str, u32)]) -> Vec<(String, String, u32)> {
        list.iter().map(|(path, content, mode)| ((*path).to_owned(), (*content).to_owned(), *mode)).collect()
    }

    #[test]
    fn all_keys_or_the_chosen_ones_become_files() {
        let all = make(json!({"configMap": {"name": "cm"}})).unwrap();
        assert_eq!(all, expect(&[("x", "1", 0o644), ("y", "2", 0o644)]));
        let some = make(json!({"secret": {"secretName": "s", "defaultMode": 0o400,
            "items": [{"key": "k", "path": "a/b"}, {"key": "k", "path": "c", "mode": 0o440}]}}));
        assert_eq!(some.unwrap(), expect(&[("a/b", "v", 0o400), ("c", "v", 0o440)]));
    }

    #[test]
    fn sources_are_projected_into_one_directory() {
        let files = make(json!({"projected": {"sources": [
            {"configMap": {"name": "cm", "items": [{"key": "x", "path": "x"}]}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"secret": {"name": "none", "optional": true}},
        ]}}));
        assert_eq!(files.unwrap(), expect(&[("x", "1", 0o644), ("labels", "a=\"b\"", 0o644)]));
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(make(json!({"configMap": {"name": "no"}})).unwrap_err(), "configmap \"no\" not found");
        let item = json!({"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}});
        assert_eq!(make(item).unwrap_err(), "references non-existent secret key: z");
        assert_eq!(make(json!({"secret": {"secretName": "no", "optional": true}})).unwrap(), []);
    }
}
