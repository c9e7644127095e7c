//! The operators as a pod: the controllers of the stack and its admission, for clusters where pods are containers.
//!
//! They run with the rights of their ServiceAccount. Admission is served with a certificate of their own, which
//! [`certificates`] makes, keeps in a Secret and renews; the API server learns its authority from the webhook's
//! configuration. There is one such pod: its Deployment replaces it by stopping the old one first, so nobody has to be
//! elected.

mod certificates;
mod documents;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use kube::Client;
use tokio_util::sync::CancellationToken;

pub use self::documents::{DEPLOYMENT, SERVICE, WEBHOOK, documents};
use crate::agent::{health, signals};
use crate::{admission, chain};

/// What the program's first argument is for this.
pub const WORD: &str = "operators";
/// Where the Service of the webhook leads.
const ADMISSION_PORT: u16 = 9443;
/// Where the kubelet asks.
const HEALTH_PORT: u16 = 8081;
/// Between two looks at the certificate. Whoever deletes the webhook's configuration and applies the stack again has
/// one that trusts nobody until the next look; clients wait longer than that for a webhook.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(10);
/// Between two attempts of what should have worked at once.
const AGAIN: Duration = Duration::from_secs(1);

/// Why the operators ended. The sentence is the last line of the container's log.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
    #[error("cannot learn how to reach the API server: this program runs in a pod of the stack")]
    Configuration(#[source] kube::config::InClusterError),
    #[error("cannot prepare the connection to the API server")]
    Client(#[source] kube::Error),
    #[error(transparent)]
    Listen(#[from] health::Error),
}

/// Runs the operators until they are told to end. Trouble is one line on standard error.
pub fn main(_arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_max_level(tracing::Level::INFO).init();
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::Runtime)
        .and_then(|runtime| runtime.block_on(tokio::task::LocalSet::new().run_until(run())));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let config = kube::Config::incluster().map_err(Error::Configuration)?;
    let client = Client::try_from(config).map_err(Error::Client)?;
    let ready = Arc::new(AtomicBool::new(false));
    let everywhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let health = health::listen(everywhere, HEALTH_PORT).await?;
    tokio::task::spawn_local(health::serve(health, {
        let ready = ready.clone();
        move |path| std::future::ready(answer(&path, ready.load(Ordering::SeqCst)))
    }));
    let webhook = health::listen(everywhere, ADMISSION_PORT).await?;
    let shutdown = CancellationToken::new();
    let work = async {
        let certificate = certificates::Current::first(&client, AGAIN).await;
        tokio::spawn(admission::server::serve(webhook, certificate.config(), shutdown.clone()));
        tokio::spawn(certificate.keep(client.clone(), CERTIFICATE_CHECK));
        ready.store(true, Ordering::SeqCst);
        tracing::info!("admission is served; the controllers run");
        crate::run(crate::Clients::new(|_| client.clone()), shutdown.clone()).await;
    };
    tokio::select! {
        () = work => {}
        () = signals::told_to_end() => shutdown.cancel(),
    }
    Ok(())
}

/// Alive is whoever answers; ready is who can review.
fn answer(path: &str, ready: bool) -> Response<Full<Bytes>> {
    match path {
        "/healthz" => health::verdict(true),
        "/readyz" => health::verdict(ready),
        _ => health::status(StatusCode::NOT_FOUND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_without_a_certificate_is_alive_and_not_ready() {
        assert_eq!(answer("/healthz", false).status(), StatusCode::OK);
        assert_eq!(answer("/readyz", false).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer("/readyz", true).status(), StatusCode::OK);
        assert_eq!(answer("/x", true).status(), StatusCode::NOT_FOUND);
    }
}
