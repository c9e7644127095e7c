//! The pod's own access to the API: a token, the certificate authority and the namespace, as the ServiceAccount admission
//! of Kubernetes adds them to every pod (`plugin/pkg/admission/serviceaccount`). Where admission has done it already,
//! nothing is added here.

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use serde_json::json;

use super::volumes::ROOT_CA;

/// Where programs look for it.
pub const DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access";

/// The pod with the volume and its mounts, unless it has them or does not want them.
pub fn with_access(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    let Some(spec) = pod.spec.as_mut() else { return pod };
    let lacks_it = |container: &Container| {
        !container.volume_mounts.iter().flatten().any(|mount| mount.mount_path.trim_end_matches('/') == DIRECTORY)
    };
    if spec.automount_service_account_token == Some(false)
        || !spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(lacks_it)
    {
        return pod;
    }
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if lacks_it(container) {
            container.volume_mounts.get_or_insert_default().push(VolumeMount {
                name: VOLUME.into(),
                mount_path: DIRECTORY.into(),
                read_only: Some(true),
                ..VolumeMount::default()
            });
        }
    }
    spec.volumes.get_or_insert_default().push(volume());
    pod
}

fn volume() -> Volume {
    let volume = json!({"name": VOLUME, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}});
    // A literal of the right shape; a pod without the volume would only say that it is missing.
    serde_json::from_value(volume).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_added_once_and_only_where_it_is_wanted() {
        let pod = |spec| -> Pod { serde_json::from_value(json!({"spec": spec})).unwrap() };
        let added = with_access(&pod(json!({"containers": [{"name": "a"}, {"name": "b"}]})));
        let spec = added.spec.clone().unwrap();
        assert_eq!(spec.volumes.as_ref().unwrap().len(), 1);
        assert!(spec.volumes.unwrap()[0].projected.is_some());
        assert_eq!(spec.containers[1].volume_mounts.as_ref().unwrap()[0].mount_path, DIRECTORY);
        assert_eq!(with_access(&added), added);
        let unwanted = pod(json!({"automountServiceAccountToken": false, "containers": [{"name": "a"}]}));
        assert_eq!(with_access(&unwanted), unwanted);
    }
}
