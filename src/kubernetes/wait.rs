//! Waiting for an object to be as wanted.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt, future, stream};
use kube::api::{WatchEvent, WatchParams};
use kube::core::Selector;
use kube::runtime::wait::{Condition, await_condition};
use kube::runtime::watcher::{Event, watch_object};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::Error;

/// Between two watches, where one has ended because the server was away for a moment.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest watch: the library asks the server to end it 5 seconds before. One that does not end has lost its server.
const LONGEST: Duration = Duration::from_secs(295);
/// Answers that don't change by asking again. Of others, such as 410 for a version that is too old, another watch knows more.
const REFUSALS: [u16; 4] = [400, 401, 403, 404];

/// What one watch tells, up to its first error. An empty version is the present: it begins with what is there (Kubernetes
/// documentation, "API concepts", Semantics for watch).
fn events<K>(api: Api<K>, what: WatchParams, version: String) -> impl Stream<Item = WatchEvent<K>> + Send
where
    K: Clone + Debug + Send + DeserializeOwned + 'static,
{
    let begun = async move {
        match api.watch(&what, &version).await {
            Ok(events) => events.left_stream(),
            Err(_) => stream::empty::<kube::Result<WatchEvent<K>>>().right_stream(),
        }
    };
    let told = stream::once(begun)
        .flatten()
        .scan((), |_, event| future::ready(event.ok().filter(|event| !matches!(event, WatchEvent::Error(_)))));
    told.take_until(tokio::time::sleep(LONGEST))
}

/// An object from a state on that is `known` (`None`: it is not there): no list has to tell it again. Where its watch ends,
/// others follow, each after a list.
pub fn changes<K>(
    api: Api<K>,
    name: &str,
    known: Option<K>,
) -> impl Stream<Item = watcher::Result<Option<K>>> + Send + use<K>
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let version = known.as_ref().and_then(ResourceExt::resource_version).unwrap_or_default();
    let later = events(api.clone(), of_name(name), version).filter_map(|event| {
        future::ready(match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(Ok::<_, watcher::Error>(Some(object))),
            WatchEvent::Deleted(_) => Some(Ok(None)),
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => None,
        })
    });
    let anew = watch_object(api, name).default_backoff();
    stream::once(future::ready(Ok::<_, watcher::Error>(known))).chain(later).chain(anew)
}

/// The objects that labels select, as they come and go, without a list before the watch. Where it ends, others follow, each
/// after a list.
pub fn selected<K>(api: Api<K>, labels: &Selector) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + use<K>
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let now = events(api.clone(), WatchParams::default().labels_from(labels), String::new()).filter_map(|event| {
        future::ready(match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(Ok(Event::Apply(object))),
            WatchEvent::Deleted(object) => Some(Ok::<_, watcher::Error>(Event::Delete(object))),
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => None,
        })
    });
    now.chain(watcher(api, watcher::Config::default().labels_from(labels)).default_backoff())
}

fn of_name(name: &str) -> WatchParams {
    WatchParams::default().fields(&format!("metadata.name={name}"))
}

/// As [`until`], for an object that was looked for and not found, or was not as wanted: goes on from the resource version of
/// that look. An empty one is the present.
///
/// # Errors
/// The cluster refuses to be watched, or there are no credentials any more.
pub async fn since<K>(api: Api<K>, name: &str, what: &str, version: &str, is_so: impl Condition<K>) -> Result<(), Error>
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let mut told = pin!(events(api.clone(), of_name(name), version.to_owned()));
    while let Some(event) = told.next().await {
        if let WatchEvent::Added(found) | WatchEvent::Modified(found) = event
            && is_so.matches_object(Some(&found))
        {
            return Ok(());
        }
    }
    // The watch has ended, or the version is too old: from the beginning.
    until(api, name, what, is_so).await
}

/// Waits until an object is as wanted; `what` is an infinitive. It ends no sooner: whoever calls has a deadline.
///
/// # Errors
/// The cluster refuses to be watched, or there are no credentials any more.
pub async fn until<K>(api: Api<K>, name: &str, what: &str, is_so: impl Condition<K>) -> Result<(), Error>
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    loop {
        match await_condition(api.clone(), name, |found: Option<&K>| is_so.matches_object(found)).await {
            Ok(_) => return Ok(()),
            Err(error) => match Error::watch(what, error) {
                error if error.is_without_credentials() => return Err(error),
                error if error.status().is_some_and(|status| REFUSALS.contains(&status.code)) => return Err(error),
                _ => tokio::time::sleep(AGAIN).await,
            },
        }
    }
}
