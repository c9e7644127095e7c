//! A program in a container that is used as if it ran here: its streams are the caller's, and its terminal too where there is
//! one.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, TerminalSize};
use kube::{Api, Client};
use nix::sys::termios::{self, SetArg, Termios};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};

use super::exec::{Container, Ended, copy, end, ended};
use super::{Error, is_before};
use crate::caller;

/// Puts the terminal back into the state it was in.
struct Raw(Termios);

impl Raw {
    /// Every key goes to the program in the container, Ctrl-C among them.
    fn enter() -> Option<Self> {
        let before = termios::tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell: the terminal is gone.
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Since when API servers carry the end of one stream (`v5.channel.k8s.io`). Before, it would be the end of all.
const CLOSES_SINCE: u32 = 30;

/// Runs a command with the streams of the caller, until it ends; its standard output goes to `answer`. `farewell` is what
/// makes the command end where the end of its input cannot be carried.
///
/// # Errors
/// The command can't be started: no such pod or container, forbidden, unreachable.
pub async fn run(
    client: Client,
    container: &Container,
    command: Vec<String>,
    farewell: &[u8],
    answer: impl FnMut(&[u8]),
) -> Result<Ended, Error> {
    let what = format!("run a command in the pod {}/{}", container.namespace, container.pod);
    let is_terminal = caller::can_answer() && caller::is_read_by_a_person();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &container.namespace);
    // A terminal has one stream for both outputs.
    let parameters = AttachParams::default()
        .container(&container.container)
        .stdin(true)
        .stdout(true)
        .stderr(!is_terminal)
        .tty(is_terminal);
    let mut process =
        pods.exec(&container.pod, command, &parameters).await.map_err(|source| Error::request(what, source))?;
    let raw = if is_terminal { Raw::enter() } else { None };
    let (status, sizes) = (process.take_status(), process.terminal_size());
    let (input, output, errors) = (process.stdin(), process.stdout(), process.stderr());
    // Asked when the input ends, since a program on a terminal seldom sees that.
    let closes = async || client.apiserver_version().await.map_or(true, |version| !is_before(&version, CLOSES_SINCE));
    // The sink lasts as long as this: to drop it would close it.
    let mut sink = input;
    let feed = async {
        if let Some(sink) = &mut sink {
            // The program may end without reading everything; its exit code says what that means.
            if caller::is_system() {
                let _ = tokio::io::copy(&mut tokio::io::stdin(), sink).await;
            }
            if closes().await {
                let _ = sink.shutdown().await;
            } else {
                let _ = sink.write_all(farewell).await;
                let _ = sink.flush().await;
            }
        }
        std::future::pending::<()>().await;
    };
    let resize = async {
        if let Some(mut sizes) = sizes.filter(|_| is_terminal) {
            let changes = signal(SignalKind::window_change()).ok();
            follow_size(changes, &mut sizes).await;
        }
        std::future::pending::<()>().await;
    };
    let streams = async {
        tokio::join!(copy(output, answer), copy(errors, |bytes| caller::write_error(bytes)));
    };
    let status = tokio::select! {
        status = end(streams, status) => status,
        () = feed => None,
        () = resize => None,
    };
    drop(raw);
    Ok(ended(String::new(), status.as_ref()))
}

async fn follow_size(
    mut changes: Option<tokio::signal::unix::Signal>,
    sizes: &mut futures::channel::mpsc::Sender<TerminalSize>,
) {
    use futures::SinkExt as _;
    loop {
        if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdin()) {
            // The program may have ended.
            let _ = sizes.send(TerminalSize { width: size.ws_col, height: size.ws_row }).await;
        }
        match &mut changes {
            Some(changes) => drop(changes.recv().await),
            None => return,
        }
    }
}
