//! The pod of an instance's primary, by its labels: a name is never guessed, and another instance's pod never taken.

use std::time::{Duration, Instant};

use kube::{Client, ResourceExt};

use super::{members, resource};
use crate::finding::{Finding, Id};
use crate::kubernetes::{Error, diagnosis};
use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::resource::{Kind, Reference};

/// How long a primary that is starting again is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks for it.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// The pod of the primary.
pub enum Primary {
    /// It is ready.
    Ready(String),
    /// It may come back; why it is not there.
    Awaited(String),
}

/// Looks for the primary.
///
/// # Errors
/// There is no such instance, it has no members, or its pod cannot become ready by waiting.
pub async fn find(client: &Client, namespace: &Namespace, instance: &ObjectName) -> Result<Primary, Finding> {
    let missing = || format!("Can't find primary pod of service instance: {namespace}/{instance}");
    let reference = Reference::new(Kind::Instance, namespace, instance);
    let there = resource::get(client, &reference).await?;
    let there = there.ok_or_else(|| Kind::Instance.missing(format!("{}: the instance does not exist", missing())))?;
    if there.data["spec"]["replicas"] == 0 {
        return Err(Finding::new(Id::NoPrimary, format!("{}: the instance has no members", missing())));
    }
    let failed = |error| Error::request(format!("list the pods of the instance {namespace}/{instance}"), error);
    let mut pods = members::list(client, namespace, instance).await.map_err(failed)?;
    pods.retain(members::is_primary);
    // A dead primary keeps its label until it is back.
    if let Some(pod) = pods.iter().find(|pod| diagnosis::is_ready(pod)) {
        return Ok(Primary::Ready(pod.name_any()));
    }
    for pod in &pods {
        if let Some(finding) = diagnosis::terminal(client, pod).await {
            return Err(finding);
        }
    }
    Ok(Primary::Awaited(pods.first().map_or_else(missing, diagnosis::difference)))
}

/// The pod of the primary, for whose return it waits a while, but not longer than `most`: it may just be starting
/// again. `progress` is told what is waited for.
///
/// # Errors
/// As [`find`], and when it does not come back.
pub async fn wait_for(
    client: &Client,
    namespace: &Namespace,
    instance: &ObjectName,
    most: Duration,
    progress: impl Fn(String),
) -> Result<String, Finding> {
    let patience = Instant::now() + PATIENCE.min(most);
    loop {
        match find(client, namespace, instance).await? {
            Primary::Ready(pod) => return Ok(pod),
            Primary::Awaited(why) if Instant::now() > patience => {
                return Err(Finding::new(Id::NoPrimary, why)
                    .advise(format!("How is it? kubectl get postgresql,pods -n {namespace}")));
            }
            Primary::Awaited(why) => progress(why),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
