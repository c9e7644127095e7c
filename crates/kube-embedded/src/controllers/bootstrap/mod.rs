//! What a cluster has from its first start: namespaces, default roles and bindings, a StorageClass.

mod roles;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::Error;
use super::volumes::{PROVISIONER, WAIT_FOR_FIRST_CONSUMER};
use crate::api::names::DEFAULT_CLASS;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Requests at the same time; the store commits them together.
const AT_ONCE: usize = 64;

/// Creates what is missing. What is there stays as it is, changed by its users or not.
///
/// # Errors
/// The first request that failed.
pub async fn bootstrap(client: &kube::Client) -> Result<(), Error> {
    let namespaces = NAMESPACES.map(|name| (ApiResource::erase::<Namespace>(&()), namespace(name)));
    create_missing(client, namespaces.into()).await?;
    let mut objects = roles::cluster_roles();
    objects.extend(roles::bindings());
    objects.push((ApiResource::erase::<StorageClass>(&()), storage_class()));
    create_missing(client, objects).await
}

async fn create_missing(client: &kube::Client, objects: Vec<(ApiResource, Value)>) -> Result<(), Error> {
    let results = futures::stream::iter(objects)
        .map(|(resource, object)| create(client, resource, object))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>();
    results.await.into_iter().collect()
}

async fn create(client: &kube::Client, resource: ApiResource, object: Value) -> Result<(), Error> {
    let object: DynamicObject =
        serde_json::from_value(object).map_err(|source| Error::Unreadable { what: resource.kind.clone(), source })?;
    let name = object.metadata.name.clone().unwrap_or_default();
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let post = PostParams { field_manager: Some("kube-apiserver".to_owned()), ..PostParams::default() };
    match api.create(&post, &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(source) => Err(Error::Request { verb: "create", kind: resource.kind, name, source: Box::new(source) }),
    }
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// As a kind cluster's: the default, made when a pod needs it, growing when asked.
fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "standard",
            "annotations": {DEFAULT_CLASS: "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": WAIT_FOR_FIRST_CONSUMER,
        "allowVolumeExpansion": true,
    })
}
