//! What objects of the stack have made in turn and do not take with them when they go. Where it lies in a namespace that was
//! there before, it would stay.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::api::{DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};

use super::inventory::Entry;
use crate::kubernetes::Error;

/// Which certificate a Secret is of (cert-manager documentation, "Certificate resource").
const CERTIFICATE: &str = "cert-manager.io/certificate-name";

/// What an object has made.
///
/// # Errors
/// The cluster can't be asked.
pub async fn of(client: &Client, object: &DynamicObject) -> Result<Vec<Entry>, Error> {
    let (kind, names) = match object.types.as_ref().map(|types| types.kind.as_str()) {
        Some("StatefulSet") => ("PersistentVolumeClaim", claims(client, object).await?),
        Some("Certificate") => ("Secret", secret(client, object).await?),
        _ => return Ok(Vec::new()),
    };
    let namespace = object.namespace().unwrap_or_default();
    let entry =
        |name| Entry { api_version: "v1".to_owned(), kind: kind.to_owned(), namespace: namespace.clone(), name };
    Ok(names.into_iter().map(entry).collect())
}

/// The volume claims of a StatefulSet: they are called after their template, the set and the number of the pod (Kubernetes
/// documentation, "StatefulSets", section "Stable Storage").
async fn claims(client: &Client, set: &DynamicObject) -> Result<Vec<String>, Error> {
    let (namespace, name) = (set.namespace().unwrap_or_default(), set.name_any());
    let templates = set.data["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
    let prefixes: Vec<String> =
        templates.filter_map(|template| Some(format!("{}-{name}-", template["metadata"]["name"].as_str()?))).collect();
    if prefixes.is_empty() || sabotage::sabotaged!("volume-claims-stay") {
        return Ok(Vec::new());
    }
    let all: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let all = all.list_metadata(&ListParams::default()).await;
    let all = all.map_err(|error| Error::request(format!("list volume claims in {namespace}"), error))?;
    // One that is older than the set was there before it.
    let is_younger = |claim: &&PartialObjectMeta<PersistentVolumeClaim>| {
        let made = [&claim.metadata, &set.metadata].map(|it| it.creation_timestamp.as_ref().map(|time| time.0));
        let [Some(claim), Some(set)] = made else { return true };
        claim >= set
    };
    Ok(all.iter().filter(is_younger).map(ResourceExt::name_any).filter(|claim| is_of(claim, &prefixes)).collect())
}

fn is_of(claim: &str, prefixes: &[String]) -> bool {
    let mut numbers = prefixes.iter().filter_map(|prefix| claim.strip_prefix(prefix.as_str()));
    numbers.any(|number| number.parse::<u32>().is_ok())
}

/// The Secret that cert-manager keeps a certificate in.
async fn secret(client: &Client, certificate: &DynamicObject) -> Result<Vec<String>, Error> {
    let namespace = certificate.namespace().unwrap_or_default();
    let Some(name) = certificate.data["spec"]["secretName"].as_str() else { return Ok(Vec::new()) };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let there = secrets.get_metadata_opt(name).await;
    let there = there.map_err(|error| Error::request(format!("look for the Secret {namespace}/{name}"), error))?;
    let is_its = |secret: &kube::core::PartialObjectMeta<Secret>| {
        secret.annotations().get(CERTIFICATE).is_some_and(|of| *of == certificate.name_any())
    };
    Ok(there.filter(is_its).map(|_| name.to_owned()).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_known_by_its_template_its_set_and_a_number() {
        let prefixes = ["data-minio-".to_owned(), "logs-minio-".to_owned()];
        for (claim, is_its) in
            [("data-minio-0", true), ("logs-minio-12", true), ("data-minio-x-0", false), ("data-other-0", false)]
        {
            assert_eq!(is_of(claim, &prefixes), is_its, "{claim}");
        }
    }
}
