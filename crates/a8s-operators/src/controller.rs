//! What the controllers share: why a round does not end, when the next one comes, and the requests that several make.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ObjectMeta;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt::Debug;
use std::time::Duration;

/// Pause after a conflict: somebody wrote in between, and it is looked again at once.
pub const CONFLICT_ROUND: Duration = Duration::from_millis(20);
/// Pause after a request that failed, and after trouble that the user or another controller has to end.
pub const TROUBLE_ROUND: Duration = Duration::from_secs(2);

/// Why a round did not end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request to the API failed.
    #[error("cannot {action}")]
    Request {
        /// What was tried.
        action: Cow<'static, str>,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
}

/// For `map_err`: what was tried.
pub fn failed(action: impl Into<Cow<'static, str>>) -> impl FnOnce(kube::Error) -> Error {
    let action = action.into();
    move |source| Error::Request { action, source: Box::new(source) }
}

/// Whether somebody else has written an object since it was read.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// When to look again at an object whose round failed, and a line in the log about it; `what` are the objects of the
/// controller. A conflict is nobody's trouble.
pub fn retry(what: &str, name: &str, error: &Error) -> Action {
    let Error::Request { action, source } = error;
    if is_conflict(source) {
        return Action::requeue(CONFLICT_ROUND);
    }
    let action: &str = action;
    tracing::warn!(object = name, action, error = %source, "the controller of {what} could not go on");
    Action::requeue(TROUBLE_ROUND)
}

/// For patches; the API server notes under the manager's name who owns a field.
pub fn parameters(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() }
}

/// The same for whole objects.
pub fn post_parameters(manager: &str) -> PostParams {
    PostParams { dry_run: false, field_manager: Some(manager.to_owned()) }
}

/// Only the object that was read, not one that has taken its name.
pub fn only_this(metadata: &ObjectMeta) -> Preconditions {
    Preconditions { uid: metadata.uid.clone(), resource_version: None }
}

/// For requests after which an object may as well be gone.
pub fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(|_| ()),
    }
}

/// An object that was read, or `None` where it is known not to be there. An API server that starts, or that does not
/// serve the kind at the moment, may answer 404, too (kubernetes/kubernetes, issue 115241): that of an object names it.
pub fn unless_absent<T>(read: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match read {
        Err(kube::Error::Api(status))
            if status.code == 404 && status.details.as_ref().is_some_and(|details| !details.name.is_empty()) =>
        {
            Ok(None)
        }
        read => read.map(Some),
    }
}

/// What a request has made, or why the API refuses it until somebody changes something: for its content, a quota, or a
/// policy of others, whose webhooks answer 400 where they give no code.
pub fn unless_refused<T>(made: Result<T, kube::Error>) -> Result<Result<T, String>, kube::Error> {
    match made {
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => Ok(Err(status.message)),
        made => made.map(Ok),
    }
}

/// For how long an object has been deleted and kept by finalizers; `None` also where a clock was set back meanwhile.
pub fn deleted_for(metadata: &ObjectMeta) -> Option<Duration> {
    let asked = metadata.deletion_timestamp.as_ref()?.0;
    Duration::try_from(Timestamp::now().duration_since(asked)).ok()
}

/// The merge patch that gives an object these finalizers, unless somebody has written it since it was read.
pub fn finalizers_patch(metadata: &ObjectMeta, finalizers: &[String]) -> Value {
    json!({"metadata": {"resourceVersion": metadata.resource_version, "finalizers": finalizers}})
}

/// Gives an object these finalizers, unless somebody has written it since it was read.
pub async fn set_finalizers<K>(api: &Api<K>, object: &K, finalizers: &[String], manager: &str) -> Result<K, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let patch = Patch::Merge(finalizers_patch(object.meta(), finalizers));
    api.patch(&object.name_any(), &parameters(manager), &patch).await
}

/// Reports an event. It may have been reported before, and a namespace that is going away takes none: its objects still
/// have to go.
pub async fn report(api: &Api<Event>, event: &Event) -> Result<(), Error> {
    match api.create(&PostParams::default(), event).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => Ok(()),
        result => result.map(|_| ()).map_err(failed("report an event")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use std::convert::Infallible;

    /// A client of an API server that answers so.
    pub(crate) fn answered_by(
        answer: impl Fn(&http::request::Parts, &[u8]) -> (u16, Value) + Clone + Send + 'static,
    ) -> kube::Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = answer.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.expect("a whole body");
                let (code, object) = answer(&head, &body);
                let body = Body::from(object.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).expect("a response"))
            }
        });
        kube::Client::new(service, "shop")
    }

    /// What an API server answers that has no such object.
    pub(crate) fn absence() -> (u16, Value) {
        (404, json!({"status": "Failure", "code": 404, "reason": "NotFound", "message": "there is none"}))
    }

    /// What one answers that refuses a request.
    pub(crate) fn refusal(message: &str) -> (u16, Value) {
        (403, json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": message}))
    }

    /// A client of an API server that has only just started: what it serves is not there yet.
    pub(crate) fn starting() -> kube::Client {
        let service = tower::service_fn(|_: Request<Body>| async {
            let answer = Response::builder().status(404).body(Body::from(b"404 page not found\n".to_vec()));
            Ok::<_, Infallible>(answer.expect("a response"))
        });
        kube::Client::new(service, "shop")
    }

    #[test]
    fn a_refusal_is_what_somebody_has_to_change_something_about() {
        let answer = |code: u16| {
            let status = serde_json::from_value(json!({"code": code, "message": "no"})).expect("a status");
            unless_refused::<()>(Err(kube::Error::Api(Box::new(status))))
        };
        for (code, is_refusal) in [(400, true), (403, true), (422, true), (404, false), (409, false), (500, false)] {
            assert_eq!(answer(code).ok(), is_refusal.then(|| Err("no".to_owned())), "{code}");
        }
        assert!(matches!(unless_refused(Ok(1)), Ok(Ok(1))));
    }

    #[test]
    fn only_who_names_an_object_says_that_it_is_absent() {
        let answer = |code: u16, details: Value| {
            let status = serde_json::from_value(json!({"code": code, "details": details})).expect("a status");
            unless_absent::<()>(Err(kube::Error::Api(Box::new(status))))
        };
        assert!(matches!(answer(404, json!({"name": "solo", "kind": "postgresqls"})), Ok(None)));
        assert!(answer(404, json!({})).is_err(), "the kind is not served");
        assert!(answer(404, Value::Null).is_err(), "the paths are not there yet");
        assert!(answer(403, json!({"name": "solo"})).is_err());
        assert!(matches!(unless_absent(Ok(1)), Ok(Some(1))));
    }
}
