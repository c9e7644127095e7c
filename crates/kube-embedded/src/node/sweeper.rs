//! A small process beside the node that survives it: when the node is gone without having stopped, it ends what the
//! node left running, so that not even a killed node leaves servers behind.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};

use super::launcher::spec::{Order, Spec, Sweep, encode};
use super::marks::Mark;
use super::spawner::Spawner;

/// The process; its standard input ends with the node.
pub struct Sweeper {
    child: Child,
    input: Option<ChildStdin>,
}

impl Sweeper {
    /// Starts it.
    ///
    /// # Errors
    /// When no process can be made.
    pub async fn start(spawner: &Spawner, mark: Mark, grace: Duration) -> io::Result<Self> {
        let mut command = spawner.launcher(&[]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = spawner.spawn(command).await?;
        let mut input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let order = Order::Sweep(Sweep { mark, grace_seconds: grace.as_secs() });
        input.write_all(&encode(&Spec { parent: std::process::id(), order })?).await?;
        Ok(Self { child, input: Some(input) })
    }

    /// Lets it end; it finds nothing to do after a clean stop.
    pub async fn stop(mut self) {
        drop(self.input.take());
        let _ = self.child.wait().await;
    }
}
