//! Differences between two runs that are accepted: lists that people keep, with a reason for each entry.

use std::path::PathBuf;

use regex::Regex;
use serde::Deserialize;

use super::compare::Difference;
use crate::caller;
use crate::finding::{Finding, Id};
use crate::yaml::{self, Located};

/// An entry as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    scenario: Located<String>,
    what: Located<String>,
    one: Option<Located<String>>,
    other: Option<Located<String>>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    sometimes: bool,
}

/// What is wrong with an entry, and at which line.
type Wrong = (u64, String);

/// An entry: some differences that are accepted.
#[derive(Debug)]
pub struct Entry {
    /// File and line.
    pub place: String,
    /// Why they are accepted.
    pub reason: String,
    /// Whether they come and go.
    pub sometimes: bool,
    scenario: Regex,
    what: Regex,
    one: Option<Regex>,
    other: Option<Regex>,
}

impl Entry {
    /// Whether it says something about a scenario.
    pub fn is_about(&self, id: &str) -> bool {
        self.scenario.is_match(id)
    }

    /// Whether it accepts a difference of a scenario.
    pub fn accepts(&self, id: &str, difference: &Difference) -> bool {
        let is = |pattern: Option<&Regex>, text: &str| pattern.is_none_or(|pattern| pattern.is_match(text));
        self.is_about(id)
            && self.what.is_match(&difference.what)
            && is(self.one.as_ref(), &difference.one)
            && is(self.other.as_ref(), &difference.other)
    }
}

/// Reads lists.
///
/// # Errors
/// One can't be read, or has entries that are none; all of those are named with their lines.
pub fn read(files: &[PathBuf]) -> Result<Vec<Entry>, Finding> {
    let (mut entries, mut wrong) = (Vec::new(), Vec::new());
    for file in files {
        let text = fs_err::read_to_string(caller::path(file)).map_err(|error| {
            Finding::new(Id::NoFile, format!("cannot read the list of accepted differences: {error}"))
        })?;
        let name = file.display().to_string();
        match parse(&text, &name) {
            Ok(found) => entries.extend(found),
            Err(found) => wrong.extend(found.into_iter().map(|why| format!("{name}: {why}"))),
        }
    }
    match wrong.split_first() {
        None => Ok(entries),
        Some((first, rest)) => Err(Finding::new(Id::AcceptedWrong, first)
            .with("and", rest)
            .advise("docs/conformance-report.md describes such lists.")),
    }
}

fn parse(text: &str, file: &str) -> Result<Vec<Entry>, Vec<String>> {
    let list: Vec<Located<Written>> = yaml::read(text).map_err(|error| vec![error.to_string()])?;
    let (mut entries, mut wrong) = (Vec::new(), Vec::new());
    for written in &list {
        match entry(written, file) {
            Ok(entry) => entries.push(entry),
            Err((line, why)) => wrong.push(format!("line {line}: {why}")),
        }
    }
    if wrong.is_empty() { Ok(entries) } else { Err(wrong) }
}

fn entry(written: &Located<Written>, file: &str) -> Result<Entry, Wrong> {
    let Written { scenario, what, one, other, reason, sometimes } = &written.value;
    if reason.trim().is_empty() {
        return Err((written.line, "what is accepted has a reason, and this has none".to_owned()));
    }
    Ok(Entry {
        place: format!("{file}:{}", written.line),
        reason: reason.trim().to_owned(),
        sometimes: *sometimes,
        scenario: pattern(scenario, &scenario.value)?,
        what: whole(what)?,
        one: one.as_ref().map(whole).transpose()?,
        other: other.as_ref().map(whole).transpose()?,
    })
}

/// A pattern that has to match all of a text: `message` is no path that ends so, and what is new in a text is not accepted
/// with the rest of it.
fn whole(written: &Located<String>) -> Result<Regex, Wrong> {
    pattern(written, &format!("^(?s:{})$", written.value))
}

fn pattern(written: &Located<String>, text: &str) -> Result<Regex, Wrong> {
    Regex::new(text).map_err(|error| {
        // The lines before draw the pattern.
        let error = error.to_string();
        let why = error.lines().next_back().unwrap_or_default().trim_start_matches("error: ");
        (written.line, format!("{:?} is no regular expression: {why}", written.value))
    })
}

#[cfg(test)]
#[expect(missing_docs, reason = "a list for the tests of comparisons")]
pub mod tests {
    use rstest::rstest;

    use super::*;

    /// A list that has no mistake.
    pub fn entries(text: &str) -> Vec<Entry> {
        parse(text, "accepted.yaml").unwrap()
    }

    #[rstest]
    #[case("Rows: good", "/objects/pod/solo-0/image", "a9s", "docker.io/a9s", true)]
    #[case("Rows: good (2)", "/objects/pod/solo-0/image", "a9s", "docker.io/a9s", true)]
    #[case("More rows: good", "/objects/pod/solo-0/image", "a9s", "docker.io/a9s", false)]
    #[case("Rows: good", "/objects/pod/solo-0/image/name", "a9s", "docker.io/a9s", false)]
    #[case("Rows: good", "/status/objects/pod/solo-0/image", "a9s", "docker.io/a9s", false)]
    #[case("Rows: good", "/objects/pod/solo-0/image", "nothing", "docker.io/a9s", false)]
    #[case("Rows: good", "/objects/pod/solo-0/image", "a9s", "docker.io/a9s\nand more", true)]
    #[case("Rows: good", "/objects/pod/solo-0/image", "a9s and more", "docker.io/a9s", false)]
    fn all_that_an_entry_says_has_to_hold(
        #[case] id: &str,
        #[case] what: &str,
        #[case] one: &str,
        #[case] other: &str,
        #[case] accepts: bool,
    ) {
        let list = entries(
            "- scenario: '^Rows: good'\n  what: /objects/.*/image\n  one: a9s|b\n  other: docker.io/.*\n  reason: names\n",
        );
        let difference = Difference { what: what.to_owned(), one: one.to_owned(), other: other.to_owned() };
        assert_eq!(list[0].accepts(id, &difference), accepts);
    }

    #[test]
    fn entries_know_their_places_and_what_they_do_not_say_is_anything() {
        let list = entries(
            "# why\n- {scenario: a, what: verdict, reason: ' b '}\n\n- scenario: c\n  what: message\n  reason: d\n  sometimes: true\n",
        );
        let told: Vec<_> =
            list.iter().map(|entry| (entry.place.as_str(), entry.reason.as_str(), entry.sometimes)).collect();
        assert_eq!(told, [("accepted.yaml:2", "b", false), ("accepted.yaml:4", "d", true)]);
        let difference = Difference { what: "verdict".to_owned(), one: "passed".to_owned(), other: String::new() };
        assert!(list[0].accepts("x: a", &difference) && !list[1].accepts("x: c", &difference));
        assert!(entries("[]").is_empty());
    }

    #[rstest]
    #[case("- scenario: a\n  what: verdict\n", "line 1: what is accepted has a reason")]
    #[case("- {scenario: a, what: b, reason: c}\n- {scenario: a, what: b, reason: ' '}\n", "line 2: what is accepted")]
    #[case("- scenario: a\n  what: b\n  reason: c\n  owner: d\n", "line 4")]
    #[case("- scenario: a\n  what: b\n  reason: c\n  reason: d\n", "line 4")]
    #[case("- scenario: a\n  what: b\n  reason: c\n  sometimes: maybe\n", "line 4")]
    #[case("- scenario: a\n  reason: c\n", "missing field `what`")]
    #[case("- scenario: a\n  what: '('\n  reason: c\n", "line 2: \"(\" is no regular expression: unclosed group")]
    #[case("- scenario: a\n  what: b\n  one: c\n  other: '['\n  reason: d\n", "line 4: \"[\" is no regular expression")]
    #[case("scenario: a\n", "line 1")]
    #[case("just words", "line 1")]
    fn what_is_wrong_is_said_with_its_line(#[case] text: &str, #[case] wanted: &str) {
        let wrong = parse(text, "accepted.yaml").unwrap_err();
        assert!(wrong[0].contains(wanted), "{wrong:?}");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["one.yaml", "other.yaml"].map(|name| directory.path().join(name));
        fs_err::write(&files[0], "- {scenario: a, what: b, reason: c}\n- {scenario: (, what: b, reason: c}\n").unwrap();
        fs_err::write(&files[1], "- {scenario: a, what: b}\n- {scenario: a, what: b, reason: c}\n").unwrap();
        let finding = read(&files).unwrap_err();
        assert_eq!(finding.id, Id::AcceptedWrong);
        assert!(finding.cause.contains("one.yaml: line 2: "), "{finding:?}");
        assert!(finding.evidence[0].lines[0].contains("other.yaml: line 1: "), "{finding:?}");
        assert_eq!(read(&[directory.path().join("nowhere")]).unwrap_err().id, Id::NoFile);
    }

    #[test]
    fn the_lists_of_the_repository_are_lists() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/differences");
        let files: Vec<PathBuf> = fs_err::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!read(&files).unwrap().is_empty());
    }
}
