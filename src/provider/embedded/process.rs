//! What runs in the background process of a cluster: the cluster itself, and the builtin stack plugged into it.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use a8s_operators::in_cluster::WEBHOOK;
use a8s_operators::{Clients, admission, manifests, postgresql, threads};
use base64::Engine as _;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::DynamicObject;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use kube_embedded::cluster::{Cluster, ClusterOptions};
use kube_embedded::node::isolation::Isolation;
use kube_embedded::user::UserInfo;
use nix::unistd::{dup2_stderr, dup2_stdout};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::daemon;
use super::images::Images;
use super::places::{Place, Places};
use super::record::{self, Admission, Found, Record};
use crate::config::write_private;
use crate::finding::{Finding, Id, chain};
use crate::kubernetes::apply::{self, Kind};
use crate::yaml;

/// The variable that, set to `all`, has the audit log tell of every request.
const AUDIT: &str = "A9S_AUDIT";
/// The port of admission, on the address of the API server. Another is taken if it is busy.
const ADMISSION_PORT: u16 = 9443;
/// Longest time that pods get to end when the cluster stops.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// Threads for blocking work: it ends processes, and removes the files of pods and volumes.
const BLOCKING_THREADS: usize = 32;
/// How often the size of the log is looked at.
const LOOK_AT_LOG: Duration = Duration::from_secs(60);
/// Between two attempts of what should have worked at once.
const AGAIN: Duration = Duration::from_millis(200);

/// Runs the process; `arguments` are those after the word: the cluster's directory.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    detach();
    let filter = std::env::var("A9S_LOG").unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let result = match arguments.into_iter().next() {
        Some(directory) => start(Path::new(&directory)),
        None => Err(no_cluster()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(finding) => {
            // The command that started us looks for this line.
            eprint(&format!("error: {}", finding.cause));
            ExitCode::from(finding.class().exit_code())
        }
    }
}

fn no_cluster() -> Finding {
    Finding::new(Id::Usage, "the directory of a cluster is expected")
}

fn eprint(text: &str) {
    use std::io::Write;
    // There is nobody to tell if the log can't be written.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Leaves the terminal and lets go of whatever the caller had open: locks and pipes of others must not live on in here.
fn detach() {
    // Fails only for the leader of a process group, who is detached enough.
    let _ = nix::unistd::setsid();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // One of them was the directory itself, closed by now.
        let _ = nix::unistd::close(descriptor);
    }
    if let Ok((_, most)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most);
    }
}

fn start(directory: &Path) -> Result<(), Finding> {
    let failed = |error: std::io::Error| Finding::new(Id::NoResources, format!("cannot start: {error}"));
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers);
    let runtime = threads::runtime(builder, BLOCKING_THREADS).map_err(failed)?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        run(directory, &mut terminate, &mut interrupt).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn run(directory: &Path, terminate: &mut Signal, interrupt: &mut Signal) -> Result<(), Finding> {
    let name = directory.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    let name = name.ok_or_else(no_cluster)?;
    let mut places = Places::of_user()?;
    places.state = directory.parent().unwrap_or(Path::new("/")).to_owned();
    let place = places.of(&name);
    let Found::Cluster(record) = record::look(&place)? else {
        return Err(no_cluster());
    };
    tokio::spawn(bound_log(place.clone()));
    let run_as = record.run_as.as_deref().map(super::user).transpose()?;
    let images = Arc::new(Images::new(postgresql::installations(), templates(&place, record.run_as.as_deref())));
    let starting = Cluster::start(ClusterOptions {
        name: record.name.clone(),
        directory: place.directory.clone(),
        run_directory: place.run.clone(),
        images: images.clone(),
        run_as,
        audits_reads: std::env::var_os(AUDIT).is_some_and(|what| what == "all"),
        stop_grace: STOP_GRACE,
    });
    let cluster = tokio::select! {
        started = starting => started.map_err(|error| Finding::new(Id::ClusterNotStarted, chain(&error)))?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let shutdown = cluster.shutdown();
    match plug_in(&cluster, &place, *record, &images, &shutdown).await {
        Ok(()) => tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        },
        Err(finding) => {
            cluster.stop().await;
            return Err(finding);
        }
    }
    tracing::info!("stopping");
    cluster.stop().await;
    Ok(())
}

/// Goes on with a new log whenever the old one is full.
async fn bound_log(place: Place) {
    let turn = || -> std::io::Result<()> {
        let (log, _) = daemon::open_log(&place)?.into_parts();
        dup2_stdout(&log)?;
        Ok(dup2_stderr(&log)?)
    };
    let mut look = tokio::time::interval(LOOK_AT_LOG);
    loop {
        look.tick().await;
        if daemon::log_is_full(&place)
            && let Err(error) = turn()
        {
            tracing::warn!(%error, "the log is full, and was not moved aside");
        }
    }
}

/// Plugs the builtin stack into the cluster, and tells on record how to reach it. The record comes last: whoever reads
/// it can use everything.
async fn plug_in(
    cluster: &Cluster,
    place: &Place,
    record: Record,
    images: &Arc<Images>,
    shutdown: &CancellationToken,
) -> Result<(), Finding> {
    let url = cluster.url();
    write_kubeconfig(cluster, place)?;
    let admission = serve_admission(&url, shutdown).await?;
    let options = manifests::Options {
        images: images.by_major(),
        webhook: manifests::Webhook::Url { url: admission.url.clone(), ca_pem: admission.ca_pem.clone() },
        operators: None,
    };
    let administrator = cluster.client(UserInfo::master("a9s"));
    refresh(&administrator, &options).await?;
    let pid = i32::try_from(std::process::id()).ok();
    let written = Record {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: Some(url),
        pid,
        started: pid.and_then(daemon::started),
        admission: Some(admission),
        images: images.by_major(),
        remarks: remarks(cluster.isolation()),
        ..record
    };
    written.write(place)?;
    let operators =
        Clients::new(|account| cluster.client(UserInfo::service_account(a8s_operators::SYSTEM_NAMESPACE, account)));
    tokio::spawn(operate(administrator, operators, shutdown.clone()));
    make_templates(images.clone(), written.run_as);
    Ok(())
}

/// What this machine does not allow, said where `cluster status` shows it.
fn remarks(isolation: &Isolation) -> Vec<String> {
    match isolation {
        Isolation::Root | Isolation::User => Vec::new(),
        Isolation::None { reason } => vec![format!(
            "Containers share the host's files, since this system allows no mount namespaces ({reason}). \
             The images of a9s know how to live with that."
        )],
    }
}

/// Templates of data directories are the same for all clusters of a user. They are a cache: lost, they are made again.
fn templates(place: &Place, run_as: Option<&str>) -> PathBuf {
    let directory = match run_as {
        Some(user) => Some(Path::new("/var/cache/a9s").join(user)),
        None => {
            let variable = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            variable.or_else(|| Some(crate::config::home()?.join(".cache"))).map(|cache| cache.join("a9s"))
        }
    };
    let usable =
        directory.map(|directory| directory.join("templates")).filter(|path| fs_err::create_dir_all(path).is_ok());
    usable.unwrap_or_else(|| place.directory.join("templates"))
}

fn make_templates(images: Arc<Images>, run_as: Option<String>) {
    let failed = |error: &dyn std::error::Error| {
        tracing::warn!(error = chain(error), "no template data directory: instances are initialised one by one");
    };
    // A thread of its own: it blocks for about a second per major.
    let making = std::thread::Builder::new().spawn(move || {
        for installation in images.newest_first() {
            if let Err(error) = postgresql::template::ensure(installation, images.templates(), run_as.as_deref()) {
                failed(&error);
            }
        }
    });
    if let Err(error) = making {
        failed(&error);
    }
}

fn write_kubeconfig(cluster: &Cluster, place: &Place) -> Result<(), Finding> {
    let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let administrator = cluster.administrator();
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "admin",
        "clusters": [{"name": "admin", "cluster": {
            "server": cluster.url(), "certificate-authority-data": encode(cluster.ca_pem()),
        }}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": encode(&administrator.certificate), "client-key-data": encode(&administrator.key),
        }}],
        "contexts": [{"name": "admin", "context": {"cluster": "admin", "user": "admin"}}],
    });
    let failed = |error: String| Finding::new(Id::StateUnwritable, error);
    let text = yaml::write(&document).map_err(|error| failed(error.to_string()))?;
    write_private(&place.kubeconfig(), text.as_bytes()).map_err(|error| failed(error.to_string()))
}

/// Serves admission on the address of the API server, which nobody else uses.
async fn serve_admission(url: &str, shutdown: &CancellationToken) -> Result<Admission, Finding> {
    let failed = |error: String| Finding::new(Id::ClusterNotStarted, format!("cannot serve admission: {error}"));
    let uri: http::Uri = url.parse().map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
    let host = uri.host().unwrap_or("127.0.0.1").to_owned();
    let address: IpAddr = host.parse().map_err(|error: std::net::AddrParseError| failed(error.to_string()))?;
    let listener = match TcpListener::bind((address, ADMISSION_PORT)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind((address, 0)).await.map_err(|error| failed(error.to_string()))?,
    };
    let port = listener.local_addr().map_err(|error| failed(error.to_string()))?.port();
    let certificate =
        admission::server::certificate(std::slice::from_ref(&host)).map_err(|error| failed(chain(&error)))?;
    tokio::spawn(admission::server::serve(listener, certificate.config, shutdown.clone()));
    Ok(Admission { url: format!("https://{host}:{port}"), ca_pem: certificate.ca_pem })
}

/// What of a stack that is installed already is of the program that runs it.
const OF_THE_PROGRAM: [&str; 4] =
    ["ValidatingWebhookConfiguration", "ConfigMap", "ClusterRole", "CustomResourceDefinition"];

/// Where the stack is installed already, tells it what changed with this start: where admission is, which majors this
/// host has by now, what the operators of this program need to be allowed, and which fields their objects have.
async fn refresh(client: &Client, options: &manifests::Options) -> Result<(), Finding> {
    for object in manifests::manifests(options) {
        let Some(types) = object.types.as_ref() else { continue };
        if !OF_THE_PROGRAM.contains(&types.kind.as_str()) {
            continue;
        }
        let api: Api<DynamicObject> = Kind::discover(client, types)
            .await?
            .api(client.clone(), object.namespace().as_deref().unwrap_or("default"));
        if let Some(there) = apply::get(&api, &object).await?
            && apply::holds(&object, &there).is_some()
        {
            apply::apply(&api, &object, true).await?;
        }
    }
    Ok(())
}

/// Runs the operators as soon as the stack is installed: its last object says so.
async fn operate(administrator: Client, operators: Clients, shutdown: CancellationToken) {
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(administrator);
    let installed = async {
        while let Err(error) =
            await_condition(webhooks.clone(), WEBHOOK, |found: Option<&ValidatingWebhookConfiguration>| found.is_some())
                .await
        {
            tracing::warn!(%error, "cannot see whether the stack is installed");
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = installed => {
            tracing::info!("the stack is installed; its operators run");
            a8s_operators::run(operators, shutdown.clone()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn admission_that_cannot_be_served_is_said() {
        let finding = serve_admission("https://nowhere:1", &CancellationToken::new()).await.unwrap_err();
        assert_eq!(finding.id, Id::ClusterNotStarted);
        assert!(finding.cause.starts_with("cannot serve admission: "), "{finding}");
    }
}
