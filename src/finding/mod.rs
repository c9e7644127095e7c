//! Findings: one diagnosed cause each, with what was seen and what to do about it.
//!
//! Modules have error enums of their own; where an error reaches a person it becomes a [`Finding`]. Its [`Id`] is
//! stable, so that scripts and documentation can rely on it, and belongs to a [`Class`], which decides the exit code.

mod id;

use std::fmt;

use serde::Serialize;

pub use a8s_operators::chain;
pub use id::Id;

/// What kind of failure a finding is. It decides the exit code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The operation was tried and failed.
    Failed,
    /// The command line or a value in it is wrong.
    Usage,
    /// Something needed is not there: a tool, a cluster, an instance, a configuration.
    Missing,
    /// The deadline passed.
    Deadline,
    /// Refused, by a person, a rule or a conflict with what is there.
    Refused,
    /// Interrupted by the user.
    Interrupted,
}

impl Class {
    /// The exit code of the program for this class.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Missing => 3,
            Self::Deadline => 4,
            Self::Refused => 5,
            Self::Interrupted => 130,
        }
    }
}

/// Something that was seen and bears on a finding: a condition, events, the last lines of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Where it was seen, for example `events of pod solo-0`.
    pub about: String,
    /// What was seen, line by line.
    pub lines: Vec<String>,
}

/// One diagnosed cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which cause it is. As a document: the fields `id` and `class`.
    #[serde(flatten)]
    pub id: Id,
    /// The cause in one line.
    pub cause: String,
    /// What was seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// What to do, one suggestion each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
}

impl Finding {
    /// A finding without evidence and advice. A cause of several lines is joined into one.
    pub fn new(id: Id, cause: impl fmt::Display) -> Self {
        let said = without_numbers(&cause.to_string());
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Self { id, cause: lines.join(" "), evidence: Vec::new(), advice: Vec::new() }
    }

    /// Its class, hence the exit code.
    pub const fn class(&self) -> Class {
        self.id.class()
    }

    /// The finding with one more suggestion.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }

    /// The finding with more evidence; empty evidence is dropped.
    #[must_use]
    pub fn with(mut self, about: impl Into<String>, lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let lines: Vec<String> = lines.into_iter().map(Into::into).collect();
        if !lines.is_empty() {
            self.evidence.push(Evidence { about: about.into(), lines });
        }
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Finding {}

/// A text without the numbers that Rust puts behind the words of the operating system, ` (os error 2)`: the words say it.
fn without_numbers(text: &str) -> String {
    const NUMBER: &str = " (os error ";
    let mut parts = text.split(NUMBER);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.chars().all(|c| c.is_ascii_digit()) => plain.push_str(rest),
            _ => plain.push_str(&format!("{NUMBER}{part}")),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_errors_of_the_system_are_left_out() {
        let cause = Finding::new(Id::Internal, "cannot read a: No such file (os error 2): b (os error 13)").cause;
        assert_eq!(cause, "cannot read a: No such file: b");
        assert_eq!(Finding::new(Id::Internal, "a (os error x) b").cause, "a (os error x) b");
    }

    #[test]
    fn every_class_has_its_own_documented_exit_code() {
        let classes =
            [Class::Failed, Class::Usage, Class::Missing, Class::Deadline, Class::Refused, Class::Interrupted];
        assert_eq!(classes.map(Class::exit_code), [1, 2, 3, 4, 5, 130]);
    }

    #[test]
    fn a_cause_is_one_line() {
        assert_eq!(Finding::new(Id::Internal, "first\n  second\n").cause, "first second");
    }
}
