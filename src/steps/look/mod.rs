//! Looking at what is there, for commands that change nothing. Each request has a deadline of its own: what is not
//! answered in time is left out, with the reason, and the rest is told.

pub mod item;
pub mod logs;
pub mod related;
pub mod status;

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};

use crate::finding::Finding;
use crate::kubernetes::{Error, within};
use crate::manifest::names::Namespace;
use crate::manifest::resource::{ApiVersion, Kind, Reference};
use crate::steps::condition;

/// How long one request may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Makes a request with a deadline; `what` is an infinitive.
///
/// # Errors
/// It fails, or is not answered in time.
pub async fn ask<T>(what: &str, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match within(PATIENCE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Error::request(what, error)),
        Err(_) => Err(Error::Unanswered { what: what.to_owned(), seconds: PATIENCE.as_secs() }),
    }
}

/// What was found; why nothing was goes to what is unknown.
fn known<T>(unknown: &mut Vec<String>, found: Result<Vec<T>, impl Into<Finding>>) -> Vec<T> {
    found.unwrap_or_else(|error| {
        unknown.push(error.into().cause);
        Vec::new()
    })
}

/// The custom resources of a kind that are for an instance. Service bindings may be in any namespace; who may look into
/// only this one is told of those in it.
///
/// # Errors
/// The request fails, or the stack is not installed.
pub async fn list_for(client: &Client, kind: Kind, instance: &Reference) -> Result<Vec<DynamicObject>, Finding> {
    let here = Some(&instance.namespace);
    let mut found = match kind {
        Kind::ServiceBinding => match list(client, kind, None).await {
            Ok(found) => found,
            Err(_) => list(client, kind, here).await?,
        },
        _ => list(client, kind, here).await?,
    };
    found.retain(|object| condition::is_for(object, instance));
    Ok(found)
}

/// The custom resources of a kind, in one namespace or in all.
///
/// # Errors
/// The request fails, or the stack is not installed.
pub async fn list(client: &Client, kind: Kind, namespace: Option<&Namespace>) -> Result<Vec<DynamicObject>, Finding> {
    let resource = kind.resource(&ApiVersion::default());
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace.as_str(), &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    match ask(&format!("list the {}s", kind.noun()), api.list(&ListParams::default())).await {
        Ok(list) => Ok(list.items),
        Err(error) => {
            if error.is_not_found() {
                super::stack::require(client).await?;
            }
            Err(error.into())
        }
    }
}

/// The PostgreSQL majors that the cluster's list of images has, in order; none where it has no such list, or shows it to nobody.
///
/// # Errors
/// The request fails.
pub async fn majors(client: &Client) -> Result<Vec<u32>, Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), a8s_operators::SYSTEM_NAMESPACE);
    let images = match ask("look for the list of images", maps.get_opt(a8s_operators::manifests::IMAGES)).await {
        Err(error) if error.status().is_some_and(|status| status.code == 403) => None,
        images => images?,
    };
    let data = images.and_then(|images| images.data).unwrap_or_default();
    let mut majors: Vec<u32> = data.keys().filter_map(|key| key.parse().ok()).collect();
    majors.sort_unstable();
    Ok(majors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Id;
    use crate::kubernetes::tests::target;
    use crate::manifest::fetch::tests::{answer, server};

    #[tokio::test]
    async fn a_server_that_can_take_nothing_now_has_answered() {
        let directory = tempfile::tempdir().unwrap();
        let later = answer("503 Service Unavailable", "retry-after: 60\r\n", b"");
        let (url, _asked) = server(vec![later]).await;
        let connection = target(directory.path(), &url).connect().await.unwrap();
        let finding = Finding::from(ask("ask the cluster", connection.client.apiserver_version()).await.unwrap_err());
        assert_eq!(finding.id, Id::ClusterUnreachable);
        assert_eq!(finding.cause, "cannot ask the cluster: it answers 503 Service Unavailable");
    }
}
