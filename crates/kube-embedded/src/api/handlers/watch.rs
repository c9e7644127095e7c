//! `watch`: a stream of changes, one JSON document per line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::read::{check_options, too_old};
use super::{in_version, made};
use crate::api::ApiServer;
use crate::api::body::{self, Body};
use crate::api::call::{Call, Form};
use crate::api::registry::Registry;
use crate::api::selector::Selector;
use crate::api::{metadata, table};
use crate::objects::ChangeKind;
use crate::status::Status;
use crate::store::{Error, Event, Object, Subscription};

/// How often a client that asks for bookmarks gets one.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// The annotation of the bookmark after what was there when the watch began (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// The longest watch, in seconds: a year. Clocks do not reach as far as numbers.
const LONGEST: u64 = 365 * 24 * 3600;

/// A running watch.
struct Watch {
    call: Call,
    selector: Selector,
    subscription: Subscription,
    registry: Receiver<Arc<Registry>>,
    waiting: VecDeque<Bytes>,
    end: Instant,
    bookmarks: Option<Interval>,
    ended: bool,
}

impl ApiServer {
    pub(super) fn watch(&self, call: Call) -> Result<Response<Body>, Status> {
        check_options(&call)?;
        let selector = call.selector()?;
        let wanted = self.wanted_version(&call)?.filter(|version| *version > 0);
        // Who says neither is told what is there first (`SetListOptionsDefaults` of apimachinery).
        let is_said = call.query.all("sendInitialEvents").next().is_some();
        let initial = if is_said { call.query.flag("sendInitialEvents")? } else { wanted.is_none() };
        let bookmarks = call.query.flag("allowWatchBookmarks")?;
        let resource = call.group_resource();
        let mut waiting = VecDeque::new();
        let version = if initial {
            let (version, objects) = self.store.snapshot(&resource, namespace(&call));
            let chosen = objects.iter().filter(|object| selector.matches(&object.value));
            waiting.extend(chosen.map(|object| line(&call, "ADDED", object)));
            if bookmarks {
                waiting.push_back(bookmark(&call, version, Some(json!({INITIAL_EVENTS_END: "true"}))));
            }
            version
        } else {
            wanted.unwrap_or_else(|| self.store.version())
        };
        let seconds = call.query.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        // kube-apiserver spreads the ends of watches between 30 and 60 minutes.
        let seconds = seconds.filter(|seconds| *seconds > 0).unwrap_or_else(|| rand::rng().random_range(1800..3600));
        let bookmarks = bookmarks.then(|| {
            let mut interval = tokio::time::interval_at(Instant::now() + BOOKMARKS, BOOKMARKS);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        let subscription = match call.resource.since() {
            Some(oldest) if version < oldest => Err(Error::Expired { asked: version, oldest }),
            _ => self.store.watch(&resource, version),
        };
        let body = match subscription {
            Ok(subscription) => {
                let mut registry = self.registry.subscribe();
                // It may have changed since the resource was looked up.
                registry.mark_changed();
                let end = Instant::now() + Duration::from_secs(seconds.min(LONGEST));
                let watch = Watch { call, selector, subscription, registry, waiting, end, bookmarks, ended: false };
                body::stream(stream::unfold(watch, |mut watch| async move {
                    let bytes = watch.next().await?;
                    Some((Ok::<_, std::convert::Infallible>(bytes), watch))
                }))
            }
            Err(error) => body::full(expired(&error)),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

impl Watch {
    /// The next bytes for the client: everything there is at once.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.waiting.is_empty() {
                return Some(self.take());
            }
            if self.ended {
                return None;
            }
            let bookmark = async {
                match &mut self.bookmarks {
                    Some(interval) => drop(interval.tick().await),
                    None => std::future::pending().await,
                }
            };
            // As `customresource_handler.go` of `apiextensions-apiserver`, which serves a changed definition anew.
            let redefined = async {
                while self.registry.changed().await.is_ok() && self.registry.borrow().still_has(&self.call.resource) {}
            };
            tokio::select! {
                biased;
                // Before the changes: who has seen one that came later would not have to list again.
                () = redefined => self.close(),
                events = self.subscription.next() => match events {
                    Ok(events) => self.tell(&events),
                    Err(error) => {
                        self.waiting.push_back(expired(&error));
                        self.ended = true;
                    }
                },
                () = tokio::time::sleep_until(self.end) => {
                    self.ended = true;
                    if self.bookmarks.is_some() {
                        self.mark();
                    }
                }
                () = bookmark => self.mark(),
            }
        }
    }

    fn take(&mut self) -> Bytes {
        if self.waiting.len() == 1 {
            return self.waiting.pop_front().unwrap_or_default();
        }
        self.waiting.drain(..).collect::<Vec<_>>().concat().into()
    }

    fn tell(&mut self, events: &[Event]) {
        for event in events {
            if namespace(&self.call).is_some_and(|namespace| namespace != event.object.key.namespace) {
                continue;
            }
            // A change can move an object into or out of what the selectors mean.
            let before = event.previous.as_ref().is_some_and(|object| self.selector.matches(&object.value));
            let after = event.kind != ChangeKind::Deleted && self.selector.matches(&event.object.value);
            let line = match (before, after) {
                (false, true) => line(&self.call, "ADDED", &event.object),
                (true, true) => line(&self.call, "MODIFIED", &event.object),
                (true, false) => line(&self.call, "DELETED", &last_meant(event)),
                (false, false) => continue,
            };
            self.waiting.push_back(line);
        }
    }

    /// Ends the watch of what is no longer served as it was. Where nothing is, the client cannot list what is left: it is
    /// told the last changes.
    fn close(&mut self) {
        self.ended = true;
        let resource = &self.call.resource;
        let is_gone = self.registry.borrow().get(&resource.group, &resource.version, &resource.plural).is_none();
        if is_gone && let Ok(events) = self.subscription.poll() {
            self.tell(&events);
        }
    }

    fn mark(&mut self) {
        self.waiting.push_back(bookmark(&self.call, self.subscription.version(), None));
    }
}

/// Clients that asked for another form than the whole object know no other kind than that of the form.
fn bookmark(call: &Call, version: u64, annotations: Option<Value>) -> Bytes {
    let resource = &call.resource;
    let mut value = json!({
        "kind": resource.kind, "apiVersion": resource.api_version(),
        "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
    });
    metadata::set(&mut value, "annotations", annotations);
    line(call, "BOOKMARK", &made(call.key_of(""), version, value))
}

/// What an object was when the selectors last meant it, at the version of the change: informers find by its labels whom
/// it concerned (`convertToWatchEvent` in `k8s.io/apiserver/pkg/storage/cacher`).
fn last_meant(event: &Event) -> Arc<Object> {
    let Some(previous) = event.previous.as_ref().filter(|_| event.kind != ChangeKind::Deleted) else {
        return Arc::clone(&event.object);
    };
    let mut value = Value::clone(&previous.value);
    metadata::set(&mut value, "resourceVersion", Some(event.version.to_string().into()));
    made(previous.key.clone(), event.version, value)
}

fn namespace(call: &Call) -> Option<&str> {
    Some(call.namespace()).filter(|namespace| !namespace.is_empty())
}

fn line(call: &Call, word: &str, object: &Arc<Object>) -> Bytes {
    let object = in_version(&call.resource, Arc::clone(object));
    let other = match call.form {
        Form::Whole => None,
        Form::Metadata => Some(table::partial(&object.value)),
        Form::Table => {
            let metadata = json!({"resourceVersion": object.value["metadata"]["resourceVersion"]});
            Some(table::table(&call.resource, metadata, [&*object.value], call.include()))
        }
    };
    if let Some(other) = other {
        return format!("{}\n", json!({"type": word, "object": other})).into();
    }
    let mut bytes = Vec::with_capacity(object.bytes.len() + 40);
    bytes.extend_from_slice(b"{\"type\":\"");
    bytes.extend_from_slice(word.as_bytes());
    bytes.extend_from_slice(b"\",\"object\":");
    bytes.extend_from_slice(&object.bytes);
    bytes.extend_from_slice(b"}\n");
    bytes.into()
}

/// The event that ends a watch which asks for what is no longer known.
fn expired(error: &Error) -> Bytes {
    let status = match error {
        Error::Expired { asked, oldest } => too_old(*asked, *oldest),
        other => Status::internal(other),
    };
    format!("{}\n", json!({"type": "ERROR", "object": body::status_value(&status)})).into()
}
