//! How long an API server may keep silent. Whoever takes a connection may be nobody who ever answers, so a server that has
//! answered nothing at all yet gets little time; one that has answered gets as long as it gives itself, and where a log is
//! followed as long as that takes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Sleep, timeout};
use tower::buffer::BufferLayer;
use tower::retry::{Policy, RetryLayer};
use tower::{BoxError, Layer, Service};

/// How many requests may wait to be sent: as many as the library lets wait.
const WAITING: usize = 1024;
/// The first pause, and the longest, before a request is sent again that the server can't take now.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(5));
/// How often it is sent again: all pauses together take 15 to 25 seconds.
const AGAIN: u32 = 12;

tokio::task_local! {
    /// Until when somebody waits for the requests of this task.
    static UNTIL: Instant;
}

/// Waits for what asks a cluster, for so long. What the server can't take now is not sent again after that: its refusal is
/// the answer then.
///
/// # Errors
/// It has not ended in time.
pub async fn within<F: Future>(limit: Duration, asking: F) -> Result<F::Output, Elapsed> {
    let until = Instant::now() + limit;
    let until = UNTIL.try_with(|others| until.min(*others)).unwrap_or(until);
    timeout(limit, UNTIL.scope(until, asking)).await
}

/// When a request is sent again.
#[derive(Clone)]
struct Again(RetryPolicy);

impl<T> Policy<Request<Body>, Response<T>, BoxError> for Again {
    type Future = Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut Result<Response<T>, BoxError>,
    ) -> Option<Self::Future> {
        let pause = self.0.retry(request, result)?;
        let is_waited_for = UNTIL.try_with(|until| pause.deadline() < *until).unwrap_or(true);
        is_waited_for.then_some(pause)
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        <RetryPolicy as Policy<Request<Body>, Response<T>, BoxError>>::clone_request(&mut self.0, request)
    }
}

/// A request was not answered in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
struct Silent(Duration);

/// Ends the requests of a client that are not answered in time.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    first: Duration,
    every: Duration,
    has_answered: Arc<AtomicBool>,
}

impl Limit {
    /// Gives the server `first` to begin its first answer, to whichever request that is, and `every` for any other; once it has
    /// answered, whoever follows a log waits without end.
    pub(super) fn new(first: Duration, every: Duration) -> Self {
        Self { first, every, has_answered: Arc::default() }
    }

    /// A client whose requests end. What the server can't take now (429, 503, 504) is sent again: that it says so is an answer,
    /// too, and each attempt has its own time. The library would wait for longer than its server may keep silent.
    ///
    /// # Errors
    /// The configuration can't be used.
    pub(super) fn client(&self, mut config: Config) -> kube::Result<Client> {
        config.default_retry = false;
        let policy = RetryPolicy::new(PAUSES.0, PAUSES.1, AGAIN, true).unwrap_or_default();
        let builder = ClientBuilder::try_from(config)?.with_layer(self);
        // Only what can be cloned can be sent again.
        let builder = builder.with_layer(&BufferLayer::<Request<Body>>::new(WAITING));
        Ok(builder.with_layer(&RetryLayer::new(Again(policy))).build())
    }

    /// Waits for an answer as long as it may take.
    async fn keep<T, E>(self, is_endless: bool, answer: impl Future<Output = Result<T, E>>) -> Result<T, BoxError>
    where
        E: Into<BoxError>,
    {
        let mut answer = pin!(answer);
        if let Ok(answer) = timeout(self.first, answer.as_mut()).await {
            let answer = answer.map_err(Into::<BoxError>::into)?;
            self.has_answered.store(true, Ordering::Relaxed);
            return Ok(answer);
        }
        // Another request may have been answered meanwhile: then this one takes its time.
        if !self.has_answered.load(Ordering::Relaxed) {
            return Err(Silent(self.first).into());
        }
        if is_endless {
            return answer.await.map_err(Into::into);
        }
        let rest = self.every.saturating_sub(self.first);
        timeout(rest, answer).await.map_err(|_| Silent(self.every))?.map_err(Into::into)
    }
}

/// Whether a log is followed. A kubelet begins its answer with the first line, and a container may say nothing for days.
fn follows_a_log(uri: &Uri) -> bool {
    uri.path().ends_with("/log") && uri.query().is_some_and(|query| query.split('&').any(|it| it == "follow=true"))
}

impl<S> Layer<S> for Limit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, limit: self.clone() }
    }
}

/// A client whose requests end.
pub(super) struct Limited<S> {
    inner: S,
    limit: Limit,
}

impl<S, B> Service<Request<B>> for Limited<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_endless = follows_a_log(request.uri());
        Box::pin(self.limit.clone().keep(is_endless, self.inner.call(request)))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::manifest::fetch::tests::{answer, server};

    const FIRST: Duration = Duration::from_millis(300);

    fn limit() -> Limit {
        Limit::new(FIRST, FIRST * 4)
    }

    /// Asks a server that answers after so long, or never.
    async fn ask(limit: &Limit, after: Option<Duration>) -> Result<(), String> {
        ask_for("/readyz", limit, after).await
    }

    async fn ask_for(path: &str, limit: &Limit, after: Option<Duration>) -> Result<(), String> {
        let server = service_fn(move |_: Request<()>| async move {
            match after {
                Some(after) => sleep(after).await,
                None => pending().await,
            }
            Ok::<_, BoxError>(())
        });
        let request = Request::get(path).body(()).unwrap();
        limit.layer(server).oneshot(request).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_server_that_has_answered_nothing_yet_gets_little_time() {
        let limit = limit();
        let silent = Err(Silent(FIRST).to_string());
        assert_eq!(ask(&limit, None).await, silent);
        assert_eq!(ask(&limit, Some(FIRST * 2)).await, silent, "its silence was no answer");
    }

    #[tokio::test]
    async fn a_server_that_has_answered_may_take_its_time() {
        let limit = limit();
        assert_eq!(ask(&limit, Some(Duration::ZERO)).await, Ok(()));
        assert_eq!(ask(&limit, Some(FIRST * 2)).await, Ok(()));
        assert_eq!(ask(&limit, None).await, Err(Silent(FIRST * 4).to_string()));
    }

    #[tokio::test]
    async fn whoever_follows_a_log_waits_for_its_first_line_once_the_server_has_answered() {
        let limit = limit();
        let log = "/api/v1/namespaces/default/pods/solo-0/log?&container=postgres";
        let followed = format!("{log}&follow=true&tailLines=0");
        assert_eq!(ask_for(&followed, &limit, None).await, Err(Silent(FIRST).to_string()));
        assert_eq!(ask(&limit, Some(Duration::ZERO)).await, Ok(()));
        assert_eq!(ask_for(&followed, &limit, Some(FIRST * 5)).await, Ok(()));
        assert_eq!(ask_for(log, &limit, Some(FIRST * 5)).await, Err(Silent(FIRST * 4).to_string()));
    }

    #[tokio::test]
    async fn an_answer_to_one_request_gives_time_to_those_that_were_sent_before() {
        let limit = limit();
        let (slow, quick) = tokio::join!(ask(&limit, Some(FIRST * 2)), ask(&limit, Some(Duration::ZERO)));
        assert_eq!((slow, quick), (Ok(()), Ok(())));
    }

    #[tokio::test]
    async fn a_server_that_can_take_nothing_now_has_answered_and_is_asked_again() {
        let later = answer("503 Service Unavailable", "retry-after: 1\r\n", b"");
        let (url, asked) = server(vec![later, answer("200 OK", "content-type: text/plain\r\n", b"ok")]).await;
        let client = limit().client(Config::new(url.parse().unwrap())).unwrap();
        let request = Request::get("/readyz").body(Vec::new()).unwrap();
        assert_eq!(client.request_text(request).await.unwrap(), "ok");
        assert_eq!(asked.await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_server_that_can_take_nothing_for_longer_than_it_is_waited_for_has_answered_so() {
        let later = answer("503 Service Unavailable", "retry-after: 60\r\n", b"");
        let (url, _asked) = server(vec![later]).await;
        let client = limit().client(Config::new(url.parse().unwrap())).unwrap();
        let request = Request::get("/readyz").body(Vec::new()).unwrap();
        let refusal = within(Duration::from_secs(20), client.request_text(request)).await.unwrap();
        assert!(matches!(refusal, Err(kube::Error::Api(status)) if status.code == 503));
    }

    #[test]
    fn the_time_it_had_is_told() {
        assert_eq!(Silent(Duration::from_secs(10)).to_string(), "no answer within 10 s");
    }
}
