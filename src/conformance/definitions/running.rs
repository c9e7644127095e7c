//! A command to which something happens while it runs.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Lines, empty};
use tokio::process::Child;

use crate::conformance::command::{self, Outcome, Surroundings};
use crate::conformance::stage::Stage;
use crate::conformance::{Failure, World};

/// How long a command may take to say something, and then to end: what it takes back takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long one that does not say it may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts a command in some surroundings.
type Start = fn(&Surroundings, &[&str]) -> Result<Child, Failure>;

/// What is said, line by line.
type Said = Lines<BufReader<Box<dyn AsyncRead + Send + Unpin>>>;

/// The stream to which somebody listens.
pub(super) enum Stream {
    Output,
    Error,
}

/// A command that runs.
pub(super) struct Running {
    line: String,
    /// Its process.
    pub child: Child,
    stream: Stream,
    lines: Said,
    said: String,
    started: Instant,
}

fn listen(stream: impl AsyncRead + Send + Unpin + 'static) -> Said {
    let stream: Box<dyn AsyncRead + Send + Unpin> = Box::new(stream);
    BufReader::new(stream).lines()
}

impl Running {
    /// Starts the program under test, in one of the ways of [`command`].
    pub fn start(world: &World, line: &str, stream: Stream, start: Start) -> Result<Self, Failure> {
        let line = world.expand(line);
        let words = command::words(&line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let started = Instant::now();
        let mut child = start(&world.surroundings, &words)?;
        let lines = match stream {
            Stream::Output => listen(child.stdout.take().ok_or(Failure::Missing("standard output"))?),
            Stream::Error => listen(child.stderr.take().ok_or(Failure::Missing("standard error"))?),
        };
        Ok(Self { line: format!("a9s {line}"), child, stream, lines, said: String::new(), started })
    }

    /// Listens until a line has the text.
    pub async fn until(&mut self, text: &str) -> Result<(), Failure> {
        let end = tokio::time::Instant::now() + Stage::patience(PATIENCE);
        while let Ok(line) = tokio::time::timeout_at(end, self.lines.next_line()).await
            && let Some(line) = line?
        {
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(text) {
                return Ok(());
            }
        }
        let mut why = String::new();
        if let Some(errors) = &mut self.child.stderr {
            let _ = tokio::time::timeout(LAST_WORDS, errors.read_to_string(&mut why)).await;
        }
        Err(Failure::unexpected(format!("a word of {text:?} by `{}`", self.line), format!("{}{why}", self.said)))
    }

    /// Goes away: nobody reads any more what it says there.
    pub fn leave(&mut self) {
        self.lines = listen(empty());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill(command::pid(&self.child)?, signal).map_err(std::io::Error::from)?)
    }

    /// Listens until it has come to its end by itself, and has the world remember what it did.
    pub async fn end(self, world: &mut World) -> Result<(), Failure> {
        let Self { line, child, stream, mut lines, mut said, started } = self;
        let rest = async {
            while let Some(line) = lines.next_line().await? {
                said.push_str(&line);
                said.push('\n');
            }
            Ok::<(), std::io::Error>(())
        };
        let ended = async { tokio::try_join!(child.wait_with_output(), rest) };
        let patience = Stage::patience(PATIENCE);
        let Ok(ended) = tokio::time::timeout(patience, ended).await else {
            return Err(Failure::unexpected(format!("an end of `{line}` within {} s", patience.as_secs()), said));
        };
        let outcome = Outcome::of(line, &ended?.0, started.elapsed());
        world.remember(match stream {
            Stream::Output => Outcome { stdout: said, ..outcome },
            Stream::Error => Outcome { stderr: said, ..outcome },
        });
        Ok(())
    }
}
