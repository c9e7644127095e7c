//! Commands run twice, and commands cut off.

use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::time::{Duration, Instant};

use cucumber::gherkin::Step;
use cucumber::{then, when};
use nix::sys::signal::{Signal, kill};

use super::commands::run_line;
use super::instance::rows;
use super::running::{Running, Stream};
use crate::cli::interrupt;
use crate::conformance::command::{self, Outcome, start_a9s, start_a9s_with_nohup};
use crate::conformance::observe::within;
use crate::conformance::requests::{self, Count};
use crate::conformance::{Failure, World};
use crate::finding::Class;

#[when("I run it again")]
async fn again(world: &mut World) -> Result<(), Failure> {
    let line = world.last()?.line.clone();
    let words = command::words(&line);
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    world.a9s(&words).await.map(drop)
}

#[when(regex = r"^I run `a9s (.+)` twice at once$")]
async fn twice_at_once(world: &mut World, line: String) -> Result<(), Failure> {
    let words = command::words(&world.expand(&line));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let surroundings = world.surroundings.clone();
    let (one, other) = tokio::try_join!(command::a9s(&surroundings, &words), command::a9s(&surroundings, &words))?;
    one.require_success()?;
    world.remember(one);
    world.remember(other);
    Ok(())
}

#[then("the program has sent no changing request")]
async fn no_change(world: &mut World) -> Result<(), Failure> {
    let changes = world.changes_by_last_command().await?;
    let expected = format!("no changing request of `{}`", world.last()?.line);
    Failure::unless(changes.is_empty(), expected, changes.join("\n"))
}

/// Each of them succeeds.
#[then("these commands send no changing request:")]
async fn no_changes(world: &mut World, step: &Step) -> Result<(), Failure> {
    for row in rows(step) {
        let [line] = row.as_slice() else { return Err(Failure::Missing("a command")) };
        run_line(world, line.clone()).await?;
        world.last()?.require_success()?;
        no_change(world).await?;
    }
    Ok(())
}

#[then("the program has sent no request beside those for its objects and its watches")]
async fn few_requests(world: &mut World) -> Result<(), Failure> {
    let is_released = world.last()?.line.contains("--stack upstream");
    let requests = world.requests_of_last_command().await?;
    let Count { objects, watches, surplus } = requests::count(&requests, is_released);
    if objects == 0 || watches == 0 {
        return Err(Failure::Missing("objects and watches in the audit log"));
    }
    if surplus.is_empty() {
        return Ok(());
    }
    let wanted =
        format!("{objects} objects, {watches} watches, and each of these once:\n{}", requests::describe(is_released));
    Err(Failure::unexpected(wanted, format!("{} requests more:\n{}", surplus.len(), surplus.join("\n"))))
}

/// Before this a command is cut off for the first time: also one that has its effect in a tenth of a second is hit. It may have
/// none the next time, as when it deletes something.
const EARLIEST: Duration = Duration::from_millis(50);

/// The latest moment at which a command is cut off.
const LATEST: Duration = Duration::from_secs(10);

/// How long a command may take to end that is interrupted: what it takes back takes its time.
const PROMPTLY: Duration = Duration::from_secs(60);

/// Starts a command, kills or interrupts it at a random moment, and repeats that until it has hit a running command so
/// often. Then the command runs to its end. A hit shows that a run takes longer than that, so the next one may come later;
/// how long a run takes that has come to its end is known.
#[when(regex = r"^I run `a9s (.+)`, (cut off|interrupted) (\d+) times$")]
async fn cut_off(world: &mut World, line: String, how: String, times: usize) -> Result<(), Failure> {
    world.adopt_default_namespace();
    let words = command::words(&world.expand(&line));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut longest = EARLIEST;
    let mut interrupts = interrupt::heard().into_iter().cycle();
    let (mut hits, mut missed) = (0, 0);
    while hits < times && missed < times * 3 {
        let delay = longest.mul_f64(rand::random::<f64>());
        let started = Instant::now();
        let cut = match how.as_str() {
            "cut off" => killed_after(world, &words, delay).await?,
            _ => {
                let signal = interrupts.next().ok_or(Failure::Missing("signal that is heard"))?;
                interrupted_after(world, &words, delay, signal).await?
            }
        };
        match cut {
            Cut::Early => longest *= 2,
            Cut::Hit => {
                hits += 1;
                longest = (longest * 4).min(LATEST);
            }
            Cut::Missed(outcome) if outcome.status.success() => {
                missed += 1;
                longest = started.elapsed().min(longest);
            }
            Cut::Missed(outcome) => {
                let wanted = format!("a command that succeeds or is {how}");
                return Err(Failure::unexpected(wanted, outcome.transcript()));
            }
        }
    }
    if hits < times {
        return Err(Failure::unexpected(format!("a command that is {how} {times} times"), format!("{hits}")));
    }
    world.a9s(&words).await.map(drop)
}

enum Cut {
    Hit,
    /// It had not begun.
    Early,
    Missed(Outcome),
}

async fn killed_after(world: &World, words: &[&str], delay: Duration) -> Result<Cut, Failure> {
    let (outcome, _) = ended_after(world, words, delay, Signal::SIGKILL).await?;
    Ok(if outcome.status.code().is_none() { Cut::Hit } else { Cut::Missed(outcome) })
}

/// It has to end by itself, and to say why.
async fn interrupted_after(world: &World, words: &[&str], delay: Duration, signal: Signal) -> Result<Cut, Failure> {
    let (outcome, is_sent) = ended_after(world, words, delay, signal).await?;
    match outcome.status {
        _ if !is_sent => Ok(Cut::Missed(outcome)),
        status if status.signal() == Some(signal as i32) => Ok(Cut::Early),
        status if status.code() == Some(Class::Interrupted.exit_code().into()) => {
            match outcome.stderr.contains("[interrupted]") {
                true => Ok(Cut::Hit),
                false => Err(Failure::unexpected("a word about the interrupt", outcome.transcript())),
            }
        }
        status if status.success() => Ok(Cut::Missed(outcome)),
        _ => Err(Failure::unexpected("an interrupted command", outcome.transcript())),
    }
}

/// Runs a command, which gets a signal if it has not ended after so long; what it did, and whether it got it.
async fn ended_after(
    world: &World,
    words: &[&str],
    delay: Duration,
    signal: Signal,
) -> Result<(Outcome, bool), Failure> {
    let started = Instant::now();
    let child = command::start_a9s(&world.surroundings, words)?;
    let pid = command::pid(&child)?;
    let mut ended = pin!(child.wait_with_output());
    let line = words.join(" ");
    if let Ok(output) = tokio::time::timeout(delay, &mut ended).await {
        return Ok((Outcome::of(format!("a9s {line}"), &output?, started.elapsed()), false));
    }
    kill(pid, signal).map_err(std::io::Error::from)?;
    let line = format!("a9s {line} ({signal} after {delay:?})");
    let output = within(format!("the end of `{line}`"), PROMPTLY, ended).await?;
    Ok((Outcome::of(line, &output, started.elapsed()), true))
}

/// What a command says that waits.
const WAITS: &str = "wait for";

/// Ctrl-C, once the command has said that it waits, or something else.
#[when(regex = r#"^I run `a9s (.+)` and interrupt it (?:while it waits|once standard error says "(.+)")$"#)]
async fn interrupt(world: &mut World, line: String, text: String) -> Result<(), Failure> {
    let text = if text.is_empty() { WAITS } else { text.as_str() };
    let mut running = Running::start(world, &line, Stream::Error, start_a9s)?;
    running.until(text).await?;
    command::interrupt(&running.child)?;
    running.end(world).await
}

/// It has to come to its end as if nothing had been.
#[when(regex = r"^I run `a9s (.+)` with nohup, and its terminal is closed while it waits$")]
async fn hang_up(world: &mut World, line: String) -> Result<(), Failure> {
    let mut running = Running::start(world, &line, Stream::Error, start_a9s_with_nohup)?;
    running.until(WAITS).await?;
    running.signal(Signal::SIGHUP)?;
    running.end(world).await
}

/// As by Ctrl-Z, or on a laptop that sleeps, for as long as the other one runs.
#[when(regex = r"^I run `a9s (.+)`, suspended while it waits until `a9s (.+)` has succeeded$")]
async fn suspended(world: &mut World, line: String, other: String) -> Result<(), Failure> {
    let mut running = Running::start(world, &line, Stream::Error, start_a9s)?;
    running.until(WAITS).await?;
    running.signal(Signal::SIGSTOP)?;
    let words = command::words(&world.expand(&other));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = command::a9s(&world.surroundings, &words).await;
    running.signal(Signal::SIGCONT)?;
    ended?.require_success()?;
    running.end(world).await
}

/// The first command has to come to its end by itself.
#[when(regex = r"^I run `a9s (.+)`, and once it (waits|says `.+`) `(a9s|kubectl) (.+)` is run$")]
async fn meanwhile(
    world: &mut World,
    line: String,
    moment: String,
    program: String,
    other: String,
) -> Result<(), Failure> {
    let text = moment.strip_prefix("says `").map_or(WAITS, |text| text.trim_end_matches('`'));
    let mut running = Running::start(world, &line, Stream::Error, start_a9s)?;
    running.until(text).await?;
    let words = command::words(&world.expand(&other));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = match program.as_str() {
        "kubectl" => command::kubectl(&world.surroundings, &words, None).await?,
        _ => command::a9s(&world.surroundings, &words).await?,
    };
    ended.require_success()?;
    running.end(world).await
}
