//! Channels in WebSocket messages (`k8s.io/apimachinery/pkg/util/httpstream/wsstream`): the first byte of a message is the
//! channel. And a plain byte stream in WebSocket messages, which is how SPDY is tunnelled.

use std::collections::HashMap;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use tokio_util::sync::CancellationToken;

use super::channels::{self, Gone, HANG_UP, Input, Link, Output, Packet, QUEUE};
use crate::api::panics;

/// The largest message a client may send. Clients send up to 32 KiB; some send a whole file at once.
const MAX_MESSAGE: usize = 16 << 20;
/// From protocol version 5 on: a message `[255, channel]` ends a channel.
const CLOSE: u8 = 255;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// How channels are written into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coding {
    /// Text messages: the channel as a digit, then base64.
    pub(super) base64: bool,
    /// Whether [`CLOSE`] has its meaning.
    pub(super) close: bool,
}

/// What a client's message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Received {
    /// Bytes of a channel.
    Data(u8, Bytes),
    /// The end of a channel.
    Close(u8),
    /// An empty message.
    Nothing,
}

/// The client broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed channel message")]
pub(super) struct Malformed;

impl Coding {
    /// Reads a message.
    pub(super) fn decode(self, mut message: Bytes) -> Result<Received, Malformed> {
        if message.is_empty() {
            return Ok(Received::Nothing);
        }
        let first = message.split_to(1)[0];
        if self.base64 {
            let channel = first.checked_sub(b'0').filter(|digit| *digit < 10).ok_or(Malformed)?;
            let data = STANDARD.decode(&message).map_err(|_| Malformed)?;
            return Ok(Received::Data(channel, data.into()));
        }
        if self.close && first == CLOSE {
            return message.first().copied().map(Received::Close).ok_or(Malformed);
        }
        Ok(Received::Data(first, message))
    }

    /// Writes a message.
    pub(super) fn encode(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            let text = format!("{}{}", char::from(b'0'.saturating_add(channel)), STANDARD.encode(data));
            return Message::Text(Utf8Bytes::from(text));
        }
        let mut message = BytesMut::with_capacity(data.len() + 1);
        message.extend_from_slice(&[channel]);
        message.extend_from_slice(data);
        Message::Binary(message.freeze())
    }
}

/// Starts reading and writing. `inputs` are the channels the client may send on.
pub(super) async fn open(
    connection: Upgraded,
    coding: Coding,
    inputs: &[u8],
) -> (Link, HashMap<u8, Input>, mpsc::Sender<Packet>) {
    let (sink, stream) = socket(connection).await.split();
    let (gone, closing) = (CancellationToken::new(), CancellationToken::new());
    let (queue, packets) = mpsc::channel(QUEUE);
    let (pongs, pong_requests) = mpsc::channel(1);
    let (senders, receivers): (HashMap<_, _>, HashMap<_, _>) = inputs
        .iter()
        .map(|channel| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            ((*channel, sender), (*channel, receiver))
        })
        .unzip();
    let delivered = CancellationToken::new();
    let (sink_back, sink_returned) = oneshot::channel();
    let reader = Reader { stream, coding, channels: senders, pongs, gone: gone.clone() };
    let writer = Writer { sink, coding, packets, pong_requests, gone: gone.clone() };
    let link = Link {
        gone: gone.clone(),
        closing: closing.clone(),
        delivered: delivered.clone(),
        reader: panics::spawn(async move {
            let told = gone.drop_guard();
            let stream = reader.run().await;
            drop(told);
            if let Ok(sink) = sink_returned.await {
                hang_up(sink, stream).await;
            }
        }),
    };
    panics::spawn(async move {
        let told = delivered.drop_guard();
        let sink = writer.run(closing).await;
        drop(told);
        // The reader takes it, unless the runtime is going down.
        let _ = sink_back.send(sink);
    });
    (link, receivers, queue)
}

/// A byte stream of the messages of a connection.
pub(super) async fn tunnel(connection: Upgraded) -> (impl AsyncRead + Send + Unpin, impl AsyncWrite + Send + Unpin) {
    let (sink, stream) = socket(connection).await.split();
    let bytes = stream.filter_map(|message| async {
        match message {
            Ok(Message::Binary(data)) => Some(Ok(data)),
            Ok(Message::Text(text)) => Some(Ok(Bytes::from(text))),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        }
    });
    let sink =
        sink.sink_map_err(io::Error::other).with(|data: Bytes| async { Ok::<_, io::Error>(Message::Binary(data)) });
    (StreamReader::new(Box::pin(bytes)), SinkWriter::new(CopyToBytes::new(Box::pin(sink))))
}

/// Ends the connection as TLS wants it.
async fn hang_up(sink: SplitSink<Socket, Message>, stream: SplitStream<Socket>) {
    if let Ok(socket) = sink.reunite(stream) {
        // The peer may be gone already.
        let _ = timeout(HANG_UP, socket.into_inner().shutdown()).await;
    }
}

async fn socket(connection: Upgraded) -> Socket {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, Some(config)).await
}

struct Reader {
    stream: SplitStream<Socket>,
    coding: Coding,
    channels: HashMap<u8, mpsc::Sender<Bytes>>,
    pongs: mpsc::Sender<()>,
    gone: CancellationToken,
}

impl Reader {
    /// Reads until the connection ends, on either side.
    async fn run(mut self) -> SplitStream<Socket> {
        while let Some(message) = self.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => Bytes::from(text),
                // After a close nothing follows; reading on sends the answer to it.
                _ => continue,
            };
            let goes_on = match self.coding.decode(data) {
                Ok(Received::Data(channel, data)) => self.deliver(channel, data).await.is_ok(),
                Ok(Received::Close(channel)) => {
                    self.channels.remove(&channel);
                    true
                }
                Ok(Received::Nothing) => true,
                Err(error) => {
                    tracing::debug!(%error, "a streaming client broke the protocol");
                    false
                }
            };
            if !goes_on {
                break;
            }
        }
        self.stream
    }

    async fn next(&mut self) -> Option<Message> {
        tokio::select! {
            message = self.stream.next() => message?.ok(),
            () = self.gone.cancelled() => None,
        }
    }

    async fn deliver(&mut self, channel: u8, data: Bytes) -> Result<(), Gone> {
        let Some(input) = self.channels.get(&channel) else { return Ok(()) };
        let is_there = || !matches!(self.pongs.try_send(()), Err(mpsc::error::TrySendError::Closed(())));
        channels::deliver(data, input, &self.gone, is_there).await
    }
}

struct Writer {
    sink: SplitSink<Socket, Message>,
    coding: Coding,
    packets: mpsc::Receiver<Packet>,
    pong_requests: mpsc::Receiver<()>,
    gone: CancellationToken,
}

impl Writer {
    /// Writes until the session or the connection ends.
    async fn run(mut self, closing: CancellationToken) -> SplitSink<Socket, Message> {
        loop {
            let message = tokio::select! {
                biased;
                () = self.gone.cancelled() => break,
                Some(packet) = self.packets.recv() => self.message(packet),
                () = closing.cancelled() => Some(Message::Close(Some(CloseFrame {
                    code: CloseCode::Normal,
                    reason: Utf8Bytes::default(),
                }))),
                Some(()) = self.pong_requests.recv() => Some(Message::Pong(Bytes::new())),
            };
            let Some(message) = message else { continue };
            let last = message.is_close();
            let sent = tokio::select! {
                sent = self.sink.send(message) => sent.is_ok(),
                () = self.gone.cancelled() => false,
            };
            if last || !sent {
                break;
            }
        }
        self.sink
    }

    fn message(&self, packet: Packet) -> Option<Message> {
        match packet {
            Packet::Data(channel, data) => Some(self.coding.encode(u8::try_from(channel).ok()?, &data)),
            // Only clients end single channels.
            Packet::Finish(_) => None,
        }
    }
}

/// The server's side of `channel`.
pub(super) fn output(queue: &mpsc::Sender<Packet>, channel: u8) -> Output {
    Output { channel: u32::from(channel), queue: queue.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BINARY: Coding = Coding { base64: false, close: true };
    const TEXT: Coding = Coding { base64: true, close: false };

    #[test]
    fn version_five_ends_a_channel_and_older_ones_have_no_such_channel() {
        assert_eq!(BINARY.decode(Bytes::from_static(&[255, 0])), Ok(Received::Close(0)));
        assert_eq!(BINARY.decode(Bytes::from_static(&[255])), Err(Malformed));
        let older = Coding { close: false, ..BINARY };
        assert_eq!(older.decode(Bytes::from_static(&[255, 0])), Ok(Received::Data(255, Bytes::from_static(&[0]))));
    }

    #[test]
    fn base64_messages_start_with_a_digit() {
        assert_eq!(TEXT.decode(Bytes::from_static(b"0aGk=")), Ok(Received::Data(0, Bytes::from_static(b"hi"))));
        assert_eq!(TEXT.decode(Bytes::from_static(b"xaGk=")), Err(Malformed));
        assert_eq!(TEXT.decode(Bytes::from_static(b"0!")), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), base64: bool, close: bool) {
            let _ = Coding { base64, close }.decode(bytes.into());
        }

        #[test]
        fn what_is_written_can_be_read(channel in 0u8..10, data in prop::collection::vec(any::<u8>(), 0..64), base64: bool) {
            let coding = Coding { base64, close: false };
            let message = coding.encode(channel, &data).into_data();
            prop_assert_eq!(coding.decode(message), Ok(Received::Data(channel, data.into())));
        }
    }
}
