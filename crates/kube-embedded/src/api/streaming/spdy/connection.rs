//! A SPDY connection: reads frames and hands their data to the streams; writes what the streams send.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::timeout;
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use super::super::channels::{self, Gone, HANG_UP, Input, Link, Output, Packet, QUEUE};
use super::frame::{self, Frame, PROTOCOL_ERROR, REFUSED_STREAM};
use super::headers::Headers;
use crate::api::panics;

/// Streams that may be open at a time: two for each forwarded connection.
const MAX_STREAMS: usize = 4096;
/// Answers to a peer that sends requests and does not read.
const MAX_ANSWERS: usize = 4 * MAX_STREAMS;

/// A stream that the client opened.
#[derive(Debug)]
pub(in super::super) struct Stream {
    /// Its number.
    pub(in super::super) id: u32,
    headers: Headers,
    /// What the client sends on it.
    pub(in super::super) input: Input,
    /// What the server sends on it.
    pub(in super::super) output: Output,
    /// Cancelled when the client resets the stream.
    pub(in super::super) reset: CancellationToken,
}

impl Stream {
    /// A header of the stream, by its lower-case name; empty where there is none.
    pub(in super::super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

/// Starts reading and writing. Streams come as the client opens them.
pub(in super::super) fn open(
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> (Link, mpsc::Receiver<Stream>) {
    let (gone, closing) = (CancellationToken::new(), CancellationToken::new());
    let (queue, packets) = mpsc::channel(QUEUE);
    let (answers, pending_answers) = mpsc::channel(MAX_ANSWERS);
    let (opened, streams) = mpsc::channel(MAX_STREAMS);
    let states = States::default();
    let reading =
        Reading { states: states.clone(), queue, answers, opened, gone: gone.clone(), last_stream: 0, next_ping: 2 };
    let writing = Writing { io: writer, packets, answers: pending_answers, states };
    let delivered = CancellationToken::new();
    let (reader_gone, writer_gone) = (gone.clone(), gone.clone());
    let link = Link {
        gone,
        closing: closing.clone(),
        delivered: delivered.clone(),
        reader: panics::spawn(async move {
            let _gone = reader_gone.drop_guard();
            reading.run(FramedRead::new(reader, frame::Reader::new())).await;
        }),
    };
    panics::spawn(async move {
        let _told = (delivered.clone().drop_guard(), writer_gone.clone().drop_guard());
        writing.run(closing, delivered, writer_gone).await;
    });
    (link, streams)
}

/// The streams that are open in at least one direction.
#[derive(Debug, Clone, Default)]
struct States(Arc<Mutex<HashMap<u32, State>>>);

#[derive(Debug)]
struct State {
    /// Where the client's data goes; `None` once the client has closed its side.
    input: Option<mpsc::Sender<Bytes>>,
    /// Whether the server has closed its side.
    finished: bool,
    reset: CancellationToken,
}

impl States {
    /// No code panics while it holds the lock, so what a poisoned one guards is sound.
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client_finished(&self, stream: u32) {
        let mut states = self.lock();
        if let Some(state) = states.get_mut(&stream) {
            state.input = None;
            if state.finished {
                states.remove(&stream);
            }
        }
    }

    /// Notes that the server closes its side; `false` where the stream is gone.
    fn server_finished(&self, stream: u32) -> bool {
        let mut states = self.lock();
        let Some(state) = states.get_mut(&stream) else { return false };
        let first = !state.finished;
        state.finished = true;
        if state.input.is_none() {
            states.remove(&stream);
        }
        first
    }
}

struct Reading {
    states: States,
    queue: mpsc::Sender<Packet>,
    answers: mpsc::Sender<Frame>,
    opened: mpsc::Sender<Stream>,
    gone: CancellationToken,
    last_stream: u32,
    /// The server's pings have even numbers.
    next_ping: u32,
}

/// The connection can't go on.
struct Broken;

impl Reading {
    async fn run<R: AsyncRead + Unpin>(mut self, mut frames: FramedRead<R, frame::Reader>) {
        loop {
            let frame = tokio::select! {
                frame = frames.next() => frame,
                () = self.gone.cancelled() => return,
            };
            match frame {
                Some(Ok(frame)) => {
                    if self.take(frame).await.is_err() {
                        return;
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a streaming client broke the protocol");
                    return;
                }
                None => return,
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), Broken> {
        match frame {
            Frame::SynStream { stream, headers, fin } => self.open_stream(stream, headers, fin),
            Frame::Data { stream, data, fin } => {
                if !data.is_empty() {
                    self.deliver(stream, data).await?;
                }
                if fin {
                    self.states.client_finished(stream);
                }
                Ok(())
            }
            Frame::Headers { stream, fin: true, .. } => {
                self.states.client_finished(stream);
                Ok(())
            }
            Frame::RstStream { stream, .. } => {
                if let Some(state) = self.states.lock().remove(&stream) {
                    state.reset.cancel();
                }
                Ok(())
            }
            Frame::Ping { id } if id % 2 == 1 => self.answer(Frame::Ping { id }),
            // A client that says goodbye opens no more streams; those that are open end by themselves.
            Frame::GoAway { .. }
            | Frame::Ping { .. }
            | Frame::Headers { .. }
            | Frame::SynReply { .. }
            | Frame::Other => Ok(()),
        }
    }

    /// Queues an answer, never waiting: the peer may itself be waiting for us to read.
    fn answer(&self, frame: Frame) -> Result<(), Broken> {
        self.answers.try_send(frame).map_err(|_| Broken)
    }

    fn open_stream(&mut self, id: u32, headers: Headers, fin: bool) -> Result<(), Broken> {
        if id.is_multiple_of(2) || id <= self.last_stream {
            return self.answer(Frame::RstStream { stream: id, status: PROTOCOL_ERROR });
        }
        self.last_stream = id;
        let room = (self.states.lock().len() < MAX_STREAMS).then(|| self.opened.try_reserve().ok()).flatten();
        let Some(room) = room else {
            return self.answer(Frame::RstStream { stream: id, status: REFUSED_STREAM });
        };
        let (sender, input) = mpsc::channel(QUEUE);
        let reset = CancellationToken::new();
        let state = State { input: Some(sender).filter(|_| !fin), finished: false, reset: reset.clone() };
        self.states.lock().insert(id, state);
        // The reply goes before anything the stream's owner sends.
        let answered = self.answer(Frame::SynReply { stream: id, headers: Headers::new(), fin: false });
        let output = Output { channel: id, queue: self.queue.clone() };
        room.send(Stream { id, headers, input, output, reset });
        answered
    }

    async fn deliver(&mut self, stream: u32, data: Bytes) -> Result<(), Broken> {
        let input = self.states.lock().get(&stream).and_then(|state| state.input.clone());
        let Some(input) = input else { return Ok(()) };
        let is_there = || {
            let ping = Frame::Ping { id: self.next_ping };
            self.next_ping = self.next_ping.wrapping_add(2);
            !matches!(self.answers.try_send(ping), Err(TrySendError::Closed(_)))
        };
        channels::deliver(data, &input, &self.gone, is_there).await.map_err(|Gone| Broken)
    }
}

struct Writing<W> {
    io: W,
    packets: mpsc::Receiver<Packet>,
    answers: mpsc::Receiver<Frame>,
    states: States,
}

impl<W: AsyncWrite + Unpin> Writing<W> {
    /// Writes until the session ends, then waits for the end of the connection and ends it as TLS wants it.
    async fn run(mut self, closing: CancellationToken, delivered: CancellationToken, gone: CancellationToken) {
        tokio::select! {
            result = self.write(closing) => if let Err(error) = result {
                tracing::debug!(%error, "a streaming client takes nothing more");
                gone.cancel();
            },
            () = gone.cancelled() => {}
        }
        delivered.cancel();
        gone.cancelled().await;
        // The peer may be gone already.
        let _ = timeout(HANG_UP, self.io.shutdown()).await;
    }

    async fn write(&mut self, closing: CancellationToken) -> std::io::Result<()> {
        let mut writer = frame::Writer::new().map_err(std::io::Error::other)?;
        let mut buffer = BytesMut::new();
        loop {
            let (frame, last) = tokio::select! {
                biased;
                Some(frame) = self.answers.recv() => (Some(frame), false),
                Some(packet) = self.packets.recv() => (self.frame(packet), false),
                () = closing.cancelled() => (Some(Frame::GoAway { last_stream: 0 }), true),
            };
            let Some(frame) = frame else { continue };
            writer.write(&frame, &mut buffer).map_err(std::io::Error::other)?;
            self.io.write_all_buf(&mut buffer).await?;
            if last || (self.answers.is_empty() && self.packets.is_empty()) {
                self.io.flush().await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    /// The frame of a packet; `None` where its stream is gone.
    fn frame(&self, packet: Packet) -> Option<Frame> {
        match packet {
            Packet::Data(stream, data) => {
                let open = self.states.lock().contains_key(&stream);
                open.then_some(Frame::Data { stream, data, fin: false })
            }
            Packet::Finish(stream) => {
                let open = self.states.server_finished(stream);
                open.then_some(Frame::Data { stream, data: Bytes::new(), fin: true })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, DuplexStream, ReadHalf, WriteHalf};

    /// The client's side of a connection.
    struct Client {
        frames: FramedRead<ReadHalf<DuplexStream>, frame::Reader>,
        io: WriteHalf<DuplexStream>,
        writer: frame::Writer,
    }

    impl Client {
        async fn send(&mut self, frame: Frame) {
            let mut buffer = BytesMut::new();
            self.writer.write(&frame, &mut buffer).unwrap();
            self.io.write_all(&buffer).await.unwrap();
        }

        async fn receive(&mut self) -> Option<Frame> {
            self.frames.next().await.map(Result::unwrap)
        }

        async fn syn(&mut self, stream: u32) {
            self.send(Frame::SynStream { stream, headers: vec![("streamtype".into(), "data".into())], fin: false })
                .await;
        }
    }

    fn connected(buffer: usize) -> (Client, Link, mpsc::Receiver<Stream>) {
        let (client, server) = tokio::io::duplex(buffer);
        let (reader, writer) = tokio::io::split(server);
        let (link, streams) = open(reader, writer);
        let (reader, io) = tokio::io::split(client);
        let frames = FramedRead::new(reader, frame::Reader::new());
        (Client { frames, io, writer: frame::Writer::new().unwrap() }, link, streams)
    }

    #[tokio::test]
    async fn a_stream_is_answered_carries_data_both_ways_and_half_closes() {
        let (mut client, link, mut streams) = connected(1 << 16);
        client.syn(1).await;
        let mut stream = streams.recv().await.unwrap();
        assert_eq!((stream.id, stream.header("streamType")), (1, "data"));
        assert_eq!(client.receive().await, Some(Frame::SynReply { stream: 1, headers: vec![], fin: false }));
        client.send(Frame::Data { stream: 1, data: Bytes::from_static(b"in"), fin: true }).await;
        assert_eq!(stream.input.recv().await, Some(Bytes::from_static(b"in")));
        assert_eq!(stream.input.recv().await, None);
        stream.output.send("out").await.unwrap();
        stream.output.finish().await.unwrap();
        stream.output.send("too late").await.unwrap();
        assert_eq!(
            client.receive().await,
            Some(Frame::Data { stream: 1, data: Bytes::from_static(b"out"), fin: false })
        );
        assert_eq!(client.receive().await, Some(Frame::Data { stream: 1, data: Bytes::new(), fin: true }));
        let closing = tokio::spawn(link.close());
        assert_eq!(client.receive().await, Some(Frame::GoAway { last_stream: 0 }));
        assert!(!closing.is_finished(), "the client hangs up first");
        drop(client);
        closing.await.unwrap();
    }

    #[tokio::test]
    async fn pings_of_the_client_are_answered_and_wrong_streams_reset() {
        let (mut client, _link, mut streams) = connected(1 << 16);
        client.send(Frame::Ping { id: 7 }).await;
        assert_eq!(client.receive().await, Some(Frame::Ping { id: 7 }));
        for wrong in [2, 0] {
            client.syn(wrong).await;
            assert_eq!(client.receive().await, Some(Frame::RstStream { stream: wrong, status: PROTOCOL_ERROR }));
        }
        client.syn(5).await;
        client.receive().await;
        client.syn(5).await;
        assert_eq!(client.receive().await, Some(Frame::RstStream { stream: 5, status: PROTOCOL_ERROR }));
        let stream = streams.recv().await.unwrap();
        client.send(Frame::RstStream { stream: 5, status: 5 }).await;
        stream.reset.cancelled().await;
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_holds_the_client_back() {
        let (mut client, link, mut streams) = connected(1024);
        client.syn(1).await;
        let mut stream = streams.recv().await.unwrap();
        let sender = tokio::spawn(async move {
            for _ in 0..200 {
                client.send(Frame::Data { stream: 1, data: Bytes::from(vec![0; 1024]), fin: false }).await;
            }
            client.send(Frame::Data { stream: 1, data: Bytes::new(), fin: true }).await;
            client
        });
        while stream.input.len() < QUEUE {
            tokio::task::yield_now().await;
        }
        assert!(!sender.is_finished());
        let mut received = 0;
        while let Some(data) = stream.input.recv().await {
            received += data.len();
        }
        assert_eq!(received, 200 * 1024);
        drop(sender.await.unwrap());
        link.gone.cancelled().await;
    }

    #[tokio::test]
    async fn garbage_ends_the_connection() {
        let (mut client, link, mut streams) = connected(1 << 16);
        client.io.write_all(&[0xff; 64]).await.unwrap();
        link.gone.cancelled().await;
        assert!(streams.recv().await.is_none());
        drop(link);
        let mut rest = Vec::new();
        client.frames.into_inner().read_to_end(&mut rest).await.unwrap();
    }
}
