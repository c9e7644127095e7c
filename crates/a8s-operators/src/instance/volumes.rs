//! Growing volumes: the size in a StatefulSet's claim templates is fixed for its life, the claims themselves may ask for more
//! (Kubernetes documentation, "Expanding Persistent Volumes Claims"). Whether a volume can grow is up to its StorageClass.

use super::{deletion, names};
use a8s_api::{Postgresql, Quantity};
use kube::core::DynamicObject;
use serde_json::Value;

/// Whether claims of the instance may ask for less than its spec: it has grown since its StatefulSet was made.
pub fn has_grown(instance: &Postgresql, stateful_set: &DynamicObject) -> bool {
    stateful_set.data.pointer("/spec/volumeClaimTemplates/0").is_some_and(|claim| is_smaller(claim, instance))
}

/// Those of the claims that are too small, with the size that the instance asks for.
pub fn grown(instance: &Postgresql, claims: Vec<DynamicObject>) -> impl Iterator<Item = DynamicObject> {
    let too_small =
        |claim: &DynamicObject| claim.metadata.deletion_timestamp.is_none() && is_smaller(&claim.data, instance);
    claims.into_iter().filter(too_small).map(|mut claim| {
        claim.data["spec"]["resources"]["requests"]["storage"] = instance.spec.volume_size().canonical().into();
        claim
    })
}

/// The major that the data in an instance's claims are of, as was noted when they were made.
pub fn major(instance: &Postgresql, claims: &[DynamicObject]) -> Option<u32> {
    let noted = |claim: &DynamicObject| claim.metadata.annotations.as_ref()?.get(names::VERSION)?.parse().ok();
    claims.iter().filter(|claim| deletion::is_owned(claim, instance)).find_map(noted)
}

fn is_smaller(claim: &Value, instance: &Postgresql) -> bool {
    let requested = claim.pointer("/spec/resources/requests/storage").and_then(Value::as_str);
    requested.is_some_and(|size| Quantity::from(size).nano() < instance.spec.volume_size().nano())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(size: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": "pgdata-solo-0"}, "spec": {"resources": {"requests": {"storage": size}}},
        }))
        .expect("a claim")
    }

    #[test]
    fn only_claims_that_are_too_small_grow() {
        let instance = json!({"metadata": {"name": "solo"}, "spec": {"version": 15, "volumeSize": "2048Mi"}});
        let instance: Postgresql = serde_json::from_value(instance).expect("an instance");
        for (size, grows) in [("1Gi", true), ("2Gi", false), ("3Gi", false), ("2147483647", true)] {
            let claims: Vec<DynamicObject> = grown(&instance, vec![claim(size)]).collect();
            assert_eq!(claims.len(), usize::from(grows), "{size}");
            for claim in claims {
                assert_eq!(claim.data["spec"]["resources"]["requests"]["storage"], "2Gi");
            }
            let set = json!({"metadata": {"name": "solo"}, "spec": {"volumeClaimTemplates": [claim(size)]}});
            assert_eq!(has_grown(&instance, &serde_json::from_value(set).expect("a set")), grows, "{size}");
        }
    }

    #[test]
    fn the_major_of_the_data_is_known_without_their_stateful_set() {
        let instance = json!({"metadata": {"name": "solo", "uid": "mine"}, "spec": {"version": 14}});
        let instance: Postgresql = serde_json::from_value(instance).expect("an instance");
        let claim = |owner: &str, annotations: Value| -> DynamicObject {
            let owner = json!({"apiVersion": "v", "kind": "k", "name": "solo", "uid": owner});
            let metadata = json!({"name": "pgdata-solo-0", "annotations": annotations, "ownerReferences": [owner]});
            serde_json::from_value(json!({"metadata": metadata})).expect("a claim")
        };
        let noted = claim("mine", json!({(names::VERSION): "15"}));
        let (earlier, others) = (claim("mine", json!({})), claim("other", json!({(names::VERSION): "17"})));
        assert_eq!(major(&instance, &[others.clone(), earlier.clone(), noted]), Some(15));
        assert_eq!(major(&instance, &[others, earlier]), None);
    }
}
