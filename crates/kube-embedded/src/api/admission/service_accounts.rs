//! Pods run as a ServiceAccount that exists, and get its token as a volume (the ServiceAccount admission plugin).

use serde_json::{Value, json};

use crate::api::{metadata, names};
use crate::objects::GroupResource;
use crate::status::Status;
use crate::store::Store;

/// Where processes look for their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Completes a new pod.
///
/// # Errors
/// 403 for an account that is not there.
pub fn admit(store: &Store, namespace: &str, pod: &mut Value) -> Result<(), Status> {
    // Mirrors of a kubelet's own pods have no account.
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Ok(());
    }
    let name = match pod["spec"]["serviceAccountName"].as_str() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "default".to_owned(),
    };
    pod["spec"]["serviceAccountName"] = name.as_str().into();
    pod["spec"]["serviceAccount"] = name.as_str().into();
    let accounts = GroupResource::new("", "serviceaccounts");
    let Some(account) = store.fetch_by(&accounts, namespace, &name) else {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
        return Err(Status::forbidden("", "pods", metadata::name(pod), why));
    };
    let secrets = &account.value["imagePullSecrets"];
    if pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty) && secrets.is_array() {
        pod["spec"]["imagePullSecrets"] = secrets.clone();
    }
    let wanted = pod["spec"]["automountServiceAccountToken"]
        .as_bool()
        .or_else(|| account.value["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if wanted {
        mount(&mut pod["spec"]);
    }
    Ok(())
}

fn mount(spec: &mut Value) {
    let lists = ["containers", "initContainers"];
    let lacks = |container: &Value| {
        let mounts = container["volumeMounts"].as_array();
        mounts.is_none_or(|mounts| mounts.iter().all(|mount| mount["mountPath"] != MOUNT_PATH))
    };
    let any = lists.iter().any(|list| spec[*list].as_array().is_some_and(|containers| containers.iter().any(lacks)));
    if !any {
        return;
    }
    let known = spec["volumes"].as_array().into_iter().flatten().filter_map(|volume| volume["name"].as_str());
    let known = known.filter(|name| name.starts_with("kube-api-access-")).map(str::to_owned).next();
    let name = known.unwrap_or_else(|| {
        let name = format!("kube-api-access-{}", names::random_suffix());
        let volume = json!({"name": name, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]}});
        push(&mut spec["volumes"], volume);
        name
    });
    for list in lists {
        for container in spec[list].as_array_mut().into_iter().flatten().filter(|container| lacks(container)) {
            let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
            push(&mut container["volumeMounts"], mount);
        }
    }
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = json!([item]),
    }
}
