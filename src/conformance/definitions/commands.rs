//! Commands as typed, and what they answered.

use std::time::Duration;

use cucumber::gherkin::Step;
use cucumber::{given, then, when};

use super::clients::document;
use super::instance::{instead, rows};
use crate::conformance::command::{self, Outcome};
use crate::conformance::stage::Stage;
use crate::conformance::{Failure, World};
use crate::finding::Id;

/// What a scenario presupposes has succeeded.
#[given(regex = r"^I have run `(.+)`$")]
async fn have_run_line(world: &mut World, line: String) -> Result<(), Failure> {
    run_line(world, line).await?;
    world.last()?.require_success()
}

#[when(regex = r"^I run `(.+)`$")]
pub(super) async fn run_line(world: &mut World, line: String) -> Result<(), Failure> {
    let words = command::words(&world.expand(&line));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.split_first() {
        Some((&"a9s", rest)) => world.a9s(rest).await.map(drop),
        Some((&"kubectl", rest)) => world.kubectl(rest, None).await.map(drop),
        _ => Err(Failure::unexpected("a line that begins with a9s or kubectl", line)),
    }
}

#[when(regex = r#"^I run `a9s (.+)` with "(.+)" on standard input$"#)]
async fn run_with_text(world: &mut World, line: String, text: String) -> Result<(), Failure> {
    let words = command::words(&world.expand(&line));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = command::a9s_fed(&world.surroundings, &words, text.as_bytes()).await?;
    world.remember(outcome);
    Ok(())
}

#[when(regex = r"^I run `kubectl (.+)` with this on standard input:$")]
async fn run_with_input(world: &mut World, line: String, step: &Step) -> Result<(), Failure> {
    let text = world.expand(step.docstring.as_deref().unwrap_or_default().trim_start());
    let words = command::words(&world.expand(&line));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    world.kubectl(&words, Some(text.as_bytes())).await.map(drop)
}

/// The kernel's full(4): nothing can be written to it.
#[when(regex = r"^I run `a9s (.+)` where standard output is full$")]
async fn run_full(world: &mut World, line: String) -> Result<(), Failure> {
    let words = command::words(&world.expand(&line));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = command::a9s_to_full(&world.surroundings, &words).await?;
    world.remember(outcome);
    Ok(())
}

#[when(regex = r"^I run `a9s (.+)` where at most (\d+) files can be open$")]
async fn run_with_files(world: &mut World, line: String, most: u32) -> Result<(), Failure> {
    let words = command::words(&world.expand(&line));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = command::a9s_with_files(&world.surroundings, most, &words).await?;
    world.remember(outcome);
    Ok(())
}

#[when("that has worked")]
#[then("the command succeeds")]
async fn succeeds(world: &mut World) -> Result<(), Failure> {
    world.last()?.require_success()
}

#[then("every command succeeds")]
async fn all_succeed(world: &mut World) -> Result<(), Failure> {
    world.outcomes().iter().try_for_each(Outcome::require_success)
}

#[then(expr = "the command fails with exit code {int}")]
async fn fails(world: &mut World, code: i32) -> Result<(), Failure> {
    world.last()?.require_code(code)
}

/// Each with nothing on standard output, and for a reason that is one clear sentence.
#[then("these commands fail:")]
async fn these_fail(world: &mut World, step: &Step) -> Result<(), Failure> {
    for row in rows(step) {
        let [line, code, words] = row.as_slice() else {
            return Err(Failure::Missing("command, exit code and what standard error says"));
        };
        let code: i32 = code.parse().map_err(|_| Failure::unexpected("an exit code", code))?;
        run_line(world, line.clone()).await?;
        fails(world, code).await?;
        output_is_empty(world).await?;
        one_clear_sentence(world).await?;
        error_says(world, words.clone()).await?;
    }
    Ok(())
}

#[then("the command fails")]
async fn fails_somehow(world: &mut World) -> Result<(), Failure> {
    let outcome = world.last()?;
    Failure::unless(outcome.code() > 0, "an exit code above 0", outcome.transcript())
}

#[then(expr = "it took less than {int} second(s)")]
async fn took_less(world: &mut World, seconds: u64) -> Result<(), Failure> {
    let (outcome, most) = (world.last()?, Stage::ample_patience(Duration::from_secs(seconds)));
    Failure::unless(outcome.took < most, format!("less than {} s", most.as_secs_f64()), outcome.transcript())
}

#[then(expr = "standard output says {string}")]
async fn output_says(world: &mut World, text: String) -> Result<(), Failure> {
    let text = world.expand(&text);
    let outcome = world.last()?;
    contains(&outcome.stdout, &text, "standard output", outcome)
}

#[then(expr = "standard error says {string}")]
async fn error_says(world: &mut World, text: String) -> Result<(), Failure> {
    let text = world.expand(&text);
    let outcome = world.last()?;
    contains(&outcome.stderr, &text, "standard error", outcome)
}

#[then(expr = "standard error does not say {string}")]
async fn error_does_not_say(world: &mut World, text: String) -> Result<(), Failure> {
    let text = world.expand(&text);
    let outcome = world.last()?;
    Failure::unless(!outcome.stderr.contains(&text), format!("no {text:?} on standard error"), outcome.transcript())
}

#[then(expr = "standard output does not say {string}")]
async fn output_does_not_say(world: &mut World, text: String) -> Result<(), Failure> {
    let text = world.expand(&text);
    let outcome = world.last()?;
    Failure::unless(!outcome.stdout.contains(&text), format!("no {text:?} on standard output"), outcome.transcript())
}

#[then(regex = r"^standard output matches `(.+)`$")]
async fn output_matches(world: &mut World, pattern: String) -> Result<(), Failure> {
    let outcome = world.last()?;
    let pattern = pattern.replace("\\n", "\n");
    let lines: Vec<&str> = pattern.split('\n').collect();
    let found: Vec<&str> = outcome.stdout.lines().map(str::trim).collect();
    let is_match = |window: &[&str]| window.iter().zip(&lines).all(|(found, wanted)| found.ends_with(wanted));
    let is_there = found.windows(lines.len()).any(is_match);
    Failure::unless(is_there, format!("lines that end with {lines:?}"), outcome.transcript())
}

#[then(expr = "standard output is {string}")]
async fn output_is(world: &mut World, text: String) -> Result<(), Failure> {
    let text = world.expand(&text);
    let outcome = world.last()?;
    let is_so = outcome.stdout.trim_end_matches('\n') == text;
    Failure::unless(is_so, format!("{text:?} on standard output"), outcome.transcript())
}

#[then("nothing is on standard output")]
async fn output_is_empty(world: &mut World) -> Result<(), Failure> {
    let outcome = world.last()?;
    Failure::unless(outcome.stdout.is_empty(), "nothing on standard output", outcome.transcript())
}

#[then("standard output ends without a newline")]
async fn output_without_newline(world: &mut World) -> Result<(), Failure> {
    let outcome = world.last()?;
    let is_so = !outcome.stdout.is_empty() && !outcome.stdout.ends_with('\n');
    Failure::unless(is_so, "a last line without newline", outcome.transcript())
}

#[then("standard output is one JSON document")]
async fn output_is_json(world: &mut World) -> Result<(), Failure> {
    document(world).map(drop)
}

#[then(regex = r"^the value at `(.+)` of the document is `(.*)`$")]
async fn document_value(world: &mut World, pointer: String, value: String) -> Result<(), Failure> {
    let value = world.expand(&value);
    let document = document(world)?;
    match instead(&document, &pointer, &value, None) {
        Some(found) => Err(Failure::unexpected(format!("{value} at {pointer}"), format!("{found} in {document}"))),
        None => Ok(()),
    }
}

/// The finding of a failed command: one line that says what it is and ends with its identifier, with no trace of a panic and
/// no number of an error of the system. What was tried before, and what can be done, are lines of their own.
#[then("the reason is one clear sentence")]
async fn one_clear_sentence(world: &mut World) -> Result<(), Failure> {
    const LONGEST: usize = 560;
    let outcome = world.last()?;
    let trace = ["panicked at", "RUST_BACKTRACE", "stack backtrace"].iter().any(|word| outcome.stderr.contains(word));
    let findings: Vec<&str> = outcome.stderr.lines().map(str::trim).filter(|line| line.starts_with('❌')).collect();
    let is_clear = |line: &str| {
        let sentence = line.trim_start_matches('❌').trim();
        let id = sentence.strip_suffix(']').and_then(|rest| rest.rsplit_once(" [")).map(|(_, id)| id);
        let is_id = |id: &str| id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        id.is_some_and(|id| !id.is_empty() && is_id(id))
            && (20..LONGEST).contains(&sentence.chars().count())
            && !sentence.contains("(os error")
    };
    match findings.as_slice() {
        [line] if is_clear(line) && !trace => Ok(()),
        // What the parser of the command line says.
        [] if outcome.stderr.starts_with("error: ") && !trace => Ok(()),
        _ => Err(Failure::unexpected("one clear sentence on standard error", outcome.transcript())),
    }
}

/// Its exit code is the one that the list of findings gives it.
#[then(expr = "it ends with the finding {string}")]
async fn ends_with_finding(world: &mut World, name: String) -> Result<(), Failure> {
    let id = Id::named(&name).ok_or_else(|| Failure::unexpected("a finding of docs/findings.md", &name))?;
    let outcome = world.last()?;
    outcome.require_code(i32::from(id.class().exit_code()))?;
    contains(&outcome.stderr, &format!(" [{id}]"), "standard error", outcome)?;
    one_clear_sentence(world).await
}

fn contains(text: &str, wanted: &str, place: &str, outcome: &command::Outcome) -> Result<(), Failure> {
    Failure::unless(text.contains(wanted), format!("{wanted:?} on {place}"), outcome.transcript())
}
