//! What the protocols have in common: one connection that carries numbered channels in both directions.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::CancellationToken;

/// Largest piece of output that is sent at once.
pub(super) const CHUNK: usize = 32 * 1024;
/// Pieces that wait on their way out of a connection, and into one of its channels.
pub(super) const QUEUE: usize = 8;
/// How often a peer whose input nobody takes is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a peer may take to read the last bytes.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long a peer may take to hang up after that. A SPDY client throws away what it has not yet processed as soon as
/// it sees the end of the connection, so the end is left to the client, however slowly it reads.
const LINGER: Duration = Duration::from_secs(30);
/// How long the end of a connection may take.
pub(super) const HANG_UP: Duration = Duration::from_secs(2);

/// What a client sends on one channel; it ends when the client closes the channel or goes away.
pub(super) type Input = mpsc::Receiver<Bytes>;

/// The client went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client went away")]
pub(super) struct Gone;

/// Something on its way to the client.
#[derive(Debug)]
pub(super) enum Packet {
    /// Bytes of a channel.
    Data(u32, Bytes),
    /// The end of a channel.
    Finish(u32),
}

/// The server's side of one channel.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) channel: u32,
    pub(super) queue: mpsc::Sender<Packet>,
}

impl Output {
    /// Sends bytes; waits while the client reads slowly.
    pub(super) async fn send(&self, data: impl Into<Bytes>) -> Result<(), Gone> {
        self.queue.send(Packet::Data(self.channel, data.into())).await.map_err(|_| Gone)
    }

    /// Says that nothing more follows.
    pub(super) async fn finish(&self) -> Result<(), Gone> {
        self.queue.send(Packet::Finish(self.channel)).await.map_err(|_| Gone)
    }
}

/// Hands on what a client sends; waits while nobody takes it. Meanwhile the client is asked every few seconds, which
/// keeps it from giving up on a server that does not read, and finds out whether it `is_there`.
pub(super) async fn deliver(
    data: Bytes,
    input: &mpsc::Sender<Bytes>,
    gone: &CancellationToken,
    mut is_there: impl FnMut() -> bool,
) -> Result<(), Gone> {
    let mut waiting = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    let room = input.reserve();
    tokio::pin!(room);
    loop {
        tokio::select! {
            biased;
            room = &mut room => {
                // Nobody listens on this channel any more: what comes is dropped.
                if let Ok(room) = room {
                    room.send(data);
                }
                return Ok(());
            }
            () = gone.cancelled() => return Err(Gone),
            _ = waiting.tick() => {
                if !is_there() {
                    return Err(Gone);
                }
            }
        }
    }
}

/// The tasks that read and write a connection. Dropping it hangs up.
#[derive(Debug)]
pub(super) struct Link {
    /// Cancelled when the client went away or broke the protocol, and to hang up.
    pub(super) gone: CancellationToken,
    /// Tells the writer to end once its queue is empty.
    pub(super) closing: CancellationToken,
    /// Cancelled when the writer has written everything.
    pub(super) delivered: CancellationToken,
    pub(super) reader: JoinHandle<()>,
}

impl Link {
    /// Delivers what is queued, says goodbye and waits for the client to hang up: closing a socket with unread input
    /// would take the last output away from the client.
    pub(super) async fn close(mut self) {
        self.closing.cancel();
        if timeout(LAST_WORDS, self.delivered.cancelled()).await.is_ok() {
            // Whether the client hangs up or not, the connection ends here.
            let _ = timeout(LINGER, &mut self.reader).await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}
