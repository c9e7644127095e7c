//! Waiting for an object to be as wanted.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{WatchEvent, WatchParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::Error;

/// Between two watches, where one has ended because the server was away for a moment.
const AGAIN: Duration = Duration::from_secs(1);
/// Answers that don't change by asking again. Of others, such as 410 for a version that is too old, another watch knows more.
const REFUSALS: [u16; 4] = [400, 401, 403, 404];

/// As [`until`], for an object that was looked for and not found: goes on from the resource version of that look.
///
/// # Errors
/// The cluster refuses to be watched.
pub async fn since<K>(api: Api<K>, name: &str, what: &str, version: &str, is_so: impl Condition<K>) -> Result<(), Error>
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let of_it = WatchParams::default().fields(&format!("metadata.name={name}"));
    if let Ok(events) = api.watch(&of_it, version).await {
        let mut events = std::pin::pin!(events);
        while let Some(Ok(event)) = events.next().await {
            if let WatchEvent::Added(found) | WatchEvent::Modified(found) = event
                && is_so.matches_object(Some(&found))
            {
                return Ok(());
            }
        }
    }
    // The watch has ended, or the version is too old: from the beginning.
    until(api, name, what, is_so).await
}

/// Waits until an object is as wanted; `what` is an infinitive. It ends no sooner: whoever calls has a deadline.
///
/// # Errors
/// The cluster refuses to be watched.
pub async fn until<K>(api: Api<K>, name: &str, what: &str, is_so: impl Condition<K>) -> Result<(), Error>
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    loop {
        match await_condition(api.clone(), name, |found: Option<&K>| is_so.matches_object(found)).await {
            Ok(_) => return Ok(()),
            Err(error) => match Error::watch(what, error) {
                error if error.status().is_some_and(|status| REFUSALS.contains(&status.code)) => return Err(error),
                _ => tokio::time::sleep(AGAIN).await,
            },
        }
    }
}
