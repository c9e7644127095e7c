//! The images of the builtin stack, where they are images: what `ci/images` has built into the machine's Docker engine.

use std::collections::BTreeMap;

use a8s_operators::manifests;
use a8s_operators::object_store::manifests::VERSIONED;
use serde_json::Value;

use super::tool::Tool;
use crate::finding::{Finding, Id};

/// The image of the operators of this version of the program.
pub fn operators() -> String {
    format!("a9s/operators:{}", env!("CARGO_PKG_VERSION"))
}

/// What docker is asked for the images there are.
pub const LISTING: [&str; 3] = ["images", "--format", "{{.Repository}}:{{.Tag}}"];

/// What the stack needs to know, from the images that docker has listed.
///
/// # Errors
/// There are none of its own.
pub fn options(listed: &str) -> Result<manifests::Options, Finding> {
    let images = majors(listed);
    let operators = operators();
    if images.is_empty() || !is_listed(listed, &operators) {
        let cause = format!("the images of the builtin stack are not there: {operators} and a9s/postgresql");
        return Err(Finding::new(Id::NoImages, cause)
            .advise("Build them with ci/images.")
            .advise("Or install the released stack: --stack upstream"));
    }
    Ok(manifests::Options { images, webhook: manifests::Webhook::Service, operators: Some(operators) })
}

/// The stack's images among those that docker has listed.
pub fn images(listed: &str) -> Vec<String> {
    let programs = [operators(), VERSIONED.to_owned()].into_iter().filter(|image| is_listed(listed, image));
    programs.chain(majors(listed).into_values()).collect()
}

fn is_listed(listed: &str, image: &str) -> bool {
    listed.lines().any(|line| line.trim() == image)
}

/// PostgreSQL majors with an image.
fn majors(listed: &str) -> BTreeMap<u32, String> {
    let tagged = listed.lines().filter_map(|line| line.trim().strip_prefix("a9s/postgresql:"));
    tagged.filter_map(|tag| Some((tag.parse().ok()?, format!("a9s/postgresql:{tag}")))).collect()
}

/// Whether an image, as a node or minikube describes it (`id`, `repoDigests`), is the one that Docker calls `id`: by the digest
/// of its configuration, or, where Docker keeps images in containerd, of its manifest.
pub fn is_image(described: &Value, id: &str) -> bool {
    let digest = id.trim_start_matches("sha256:");
    let mut manifests = described["repoDigests"].as_array().into_iter().flatten().filter_map(Value::as_str);
    described["id"].as_str().is_some_and(|id| id.trim_start_matches("sha256:") == digest)
        || manifests.any(|manifest| manifest.ends_with(&format!("@sha256:{digest}")))
}

/// The id of an image in the engine.
///
/// # Errors
/// It is not there.
pub async fn id(docker: &Tool, image: &str) -> Result<String, Finding> {
    let arguments = ["image", "inspect", "--format", "{{.Id}}", image];
    let ended = docker.end_of(&arguments, None).await?;
    if ended.success {
        return Ok(ended.stdout.trim().to_owned());
    }
    if ended.stderr.contains("No such image") {
        let cause = format!("the Docker engine does not have the image {image}");
        return Err(Finding::new(Id::NoImages, cause)
            .advise(format!("Pull it: docker pull {image}"))
            .advise("Or build those of the builtin stack with ci/images."));
    }
    Err(docker.failed(&arguments, &ended))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_known_by_its_configuration_or_its_manifest() {
        let status = json!({"id": "sha256:ab", "repoDigests": ["docker.io/a9s/x@sha256:cd"]});
        assert!(is_image(&status, "sha256:ab") && is_image(&status, "sha256:cd"));
        assert!(!is_image(&status, "sha256:ef") && !is_image(&Value::Null, "sha256:ab"));
    }
}
