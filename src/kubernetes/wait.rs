//! Waiting for an object to be as wanted.

use std::fmt::Debug;
use std::time::Duration;

use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::Error;

/// Between two watches, where one has ended because the server was away for a moment.
const AGAIN: Duration = Duration::from_secs(1);

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
                error if error.is_unreachable() => tokio::time::sleep(AGAIN).await,
                error => return Err(error),
            },
        }
    }
}
