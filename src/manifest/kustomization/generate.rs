//! Config maps and secrets made of files and literals.
//!
//! Names get no hash of the content appended: the released documents switch it off, and where it is not switched off, it
//! is refused, since every reference to the name would have to be found and changed.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use serde_json::{Value, json};

use super::document::{Generator, GeneratorOptions, Kustomization};
use super::{Error, Inside};

pub(super) fn config_maps(kustomization: &Kustomization, inside: &Inside<'_>) -> Result<Vec<Value>, Error> {
    kustomization.config_map_generator.iter().map(|generator| config_map(kustomization, generator, inside)).collect()
}

pub(super) fn secrets(kustomization: &Kustomization, inside: &Inside<'_>) -> Result<Vec<Value>, Error> {
    kustomization.secret_generator.iter().map(|generator| secret(kustomization, generator, inside)).collect()
}

fn config_map(kustomization: &Kustomization, generator: &Generator, inside: &Inside<'_>) -> Result<Value, Error> {
    if generator.kind.is_some() {
        return Err(inside.damaged(format!("the config map {} has a type", generator.name)));
    }
    let mut object = head("ConfigMap", kustomization, generator, inside)?;
    for (key, content) in content(generator, inside)? {
        match String::from_utf8(content) {
            Ok(text) => object["data"][key] = json!(text),
            Err(error) => object["binaryData"][key] = json!(encoded(error.as_bytes())),
        }
    }
    Ok(object)
}

fn secret(kustomization: &Kustomization, generator: &Generator, inside: &Inside<'_>) -> Result<Value, Error> {
    let mut object = head("Secret", kustomization, generator, inside)?;
    object["type"] = json!(generator.kind.as_deref().unwrap_or("Opaque"));
    for (key, content) in content(generator, inside)? {
        object["data"][key] = json!(encoded(&content));
    }
    Ok(object)
}

fn encoded(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn head(kind: &str, kustomization: &Kustomization, generator: &Generator, inside: &Inside<'_>) -> Result<Value, Error> {
    let options = merged(&kustomization.generator_options, generator.options.as_ref());
    if !options.disable_name_suffix_hash {
        return Err(inside.unsupported(format!(
            "a hash in the name of {} (generatorOptions.disableNameSuffixHash is not true)",
            generator.name
        )));
    }
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": generator.name}});
    if let Some(namespace) = &generator.namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    for (key, value) in [("labels", &options.labels), ("annotations", &options.annotations)] {
        if !value.is_empty() {
            object["metadata"][key] = json!(value);
        }
    }
    Ok(object)
}

fn merged(general: &GeneratorOptions, own: Option<&GeneratorOptions>) -> GeneratorOptions {
    let mut options = general.clone();
    if let Some(own) = own {
        options.disable_name_suffix_hash |= own.disable_name_suffix_hash;
        options.labels.extend(own.labels.clone());
        options.annotations.extend(own.annotations.clone());
    }
    options
}

fn content(generator: &Generator, inside: &Inside<'_>) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut content = BTreeMap::new();
    let mut add = |key: &str, bytes: Vec<u8>| match content.insert(key.to_owned(), bytes) {
        None => Ok(()),
        Some(_) => Err(inside.damaged(format!("{} has the key {key} twice", generator.name))),
    };
    for entry in &generator.files {
        let (key, file) = match entry.split_once('=') {
            Some((key, file)) => (key.to_owned(), file),
            None => {
                let name = Path::new(entry).file_name().map(|name| name.to_string_lossy().into_owned());
                (name.ok_or_else(|| inside.damaged(format!("{entry:?} names no file")))?, entry.as_str())
            }
        };
        add(&key, inside.read(file)?)?;
    }
    for literal in &generator.literals {
        let (key, value) = literal
            .split_once('=')
            .ok_or_else(|| inside.damaged(format!("a literal of {} has no '='", generator.name)))?;
        add(key, unquoted(value).as_bytes().to_vec())?;
    }
    Ok(content)
}

/// As kustomize, one pair of quotes around a literal does not belong to it.
fn unquoted(value: &str) -> &str {
    let within = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    within('"').or_else(|| within('\'')).unwrap_or(value)
}
