//! Events go an hour after they were last written, as kube-apiserver's `--event-ttl` has it.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::action::Action;
use super::namespace::target;
use super::view::{is, resource_of};
use super::{Context, Error};

const LIFE: SignedDuration = SignedDuration::from_hours(1);
/// Events that end within the same minute go together.
const GRAIN: Duration = Duration::from_secs(60);

/// Deletes old events until shutdown. Sleeps until the oldest is due, and while there is none.
pub async fn run(context: Context, shutdown: CancellationToken) {
    let mut feed = context.objects.subscribe();
    loop {
        let events = context.objects.list(&resource_of::<Event>(), None);
        let (actions, next) = plan(&events, Timestamp::now());
        drop(events);
        for action in actions {
            if let Err(error) = context.apply(action).await {
                report(&error);
            }
        }
        let Some(next) = next else {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = first_event(&mut feed) => continue,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(next.max(GRAIN)) => {}
            // A new event ends later than the oldest. The feed only must not pile up.
            () = drain(&mut feed) => return,
        }
    }
}

type Feed = tokio::sync::mpsc::UnboundedReceiver<crate::objects::Change>;

/// Waits for an event; for ever once the feed has ended, since then nothing can come.
async fn first_event(feed: &mut Feed) {
    while let Some(change) = feed.recv().await {
        if is::<Event>(&change.resource) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

async fn drain(feed: &mut Feed) {
    while feed.recv().await.is_some() {}
}

fn report(error: &Error) {
    // Somebody counted it up or deleted it: the next round looks again.
    tracing::debug!(error = %error.with_causes(), "event was not removed");
}

/// What to delete now, and how long until the next one is due.
fn plan(events: &[Arc<Value>], now: Timestamp) -> (Vec<Action>, Option<Duration>) {
    let mut actions = Vec::new();
    let mut next: Option<SignedDuration> = None;
    for event in events {
        let rest = LIFE - now.duration_since(last_written(event).unwrap_or(Timestamp::UNIX_EPOCH));
        if rest.is_positive() {
            next = Some(next.map_or(rest, |next| next.min(rest)));
            continue;
        }
        if let Some(mut target) = target(&resource_of::<Event>(), event) {
            target.resource_version = event["metadata"]["resourceVersion"].as_str().map(str::to_owned);
            actions.push(Action::delete(target));
        }
    }
    (actions, next.and_then(|next| Duration::try_from(next).ok()))
}

fn last_written(event: &Value) -> Option<Timestamp> {
    let times = [
        &event["lastTimestamp"],
        &event["series"]["lastObservedTime"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    times.iter().filter_map(|time| time.as_str()?.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(name: &str, created: &str, last: Value) -> Arc<Value> {
        Arc::new(json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": "7", "creationTimestamp": created},
            "lastTimestamp": last,
        }))
    }

    #[test]
    fn an_event_goes_an_hour_after_it_was_last_written() {
        let events = [
            event("old", "2026-01-01T10:00:00Z", Value::Null),
            event("counted", "2026-01-01T10:00:00Z", json!("2026-01-01T10:50:00Z")),
            event("new", "2026-01-01T11:00:00Z", Value::Null),
        ];
        let (actions, next) = plan(&events, "2026-01-01T11:00:30Z".parse().unwrap());
        let [Action::Delete { target, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!((target.name.as_str(), target.resource_version.as_deref()), ("old", Some("7")));
        assert_eq!(next, Some(Duration::from_secs(49 * 60 + 30)));
        assert_eq!(plan(&[], Timestamp::now()), (vec![], None));
    }
}
