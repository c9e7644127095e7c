//! YAML as Kubernetes reads it. The only place that names the YAML library.
//!
//! Kubernetes reads YAML 1.1: `0644` is 420, and `on` is a boolean. So octals are read that way, strings that such a
//! reader would take for something else are written quoted, and a key given twice is an error instead of a guess.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value};

/// A document that is not YAML, or not of the expected shape. The message says where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("{0}")]
    Read(String),
    /// It can't be written.
    #[error("{0}")]
    Write(String),
}

/// A value and the line where it begins in the text that it was read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its line; 0 where it was not read.
    pub line: u64,
    /// Line and column of its text, that of an alias where what it stands for is written.
    text: (u64, u64),
}

impl<T> Located<T> {
    /// Whether the document that it was read from has just this word there.
    pub fn is_written(&self, word: &str, document: &str) -> bool {
        let from_zero = |number: u64| usize::try_from(number).ok()?.checked_sub(1);
        let (Some(line), Some(column)) = (from_zero(self.text.0), from_zero(self.text.1)) else { return true };
        let mut written = document.lines().nth(line).unwrap_or_default().chars().skip(column);
        let begins = word.chars().all(|c| written.next() == Some(c));
        begins && !written.next().is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_'))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        let text = (spanned.defined.line(), spanned.defined.column());
        Ok(Self { line: spanned.referenced.line(), value: spanned.value, text })
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
    }
}

/// Reads one document.
///
/// # Errors
/// What is wrong with it and where, in one line.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| Error::Read(one_line(&error)))
}

/// Reads all documents of a stream; empty ones are dropped.
///
/// # Errors
/// As [`read`].
pub fn read_all<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, Error> {
    serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| Error::Read(one_line(&error)))
}

/// Writes one document with sorted keys, an indentation of two, and whole numbers as such.
///
/// # Errors
/// A value YAML can't hold, such as a map whose keys are maps.
pub fn write(value: &impl Serialize) -> Result<String, Error> {
    let value = serde_json::to_value(value).map_err(|error| Error::Write(error.to_string()))?;
    let options = serde_saphyr::ser_options! {
        indent_step: 2,
        // Folding a long line is legal and unreadable.
        folded_wrap_chars: 1_000_000,
    };
    serde_saphyr::to_string_with_options(&plain(value), options).map_err(|error| Error::Write(error.to_string()))
}

/// Sorts keys at every level, whatever order the JSON library keeps, and makes `1.0` a `1`: Kubernetes has bounds of
/// integers as floating point numbers, and writes them like that.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, plain(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        Value::Number(number) => Value::Number(whole(&number).map_or(number, Into::into)),
        other => other,
    }
}

/// The integer that a floating point number is, if it is one.
fn whole(number: &Number) -> Option<i64> {
    let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0)?;
    format!("{float:.0}").parse().ok()
}

/// The library's messages carry an excerpt of the text below the first line; that may hold secrets.
fn one_line(error: &serde_saphyr::Error) -> String {
    let message = error.to_string();
    message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("not YAML").to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// As a reader of YAML 1.2 has it: `0644` is no octal number, and `on` is a word.
    fn read_as_1_2(text: &str) -> Value {
        let options = serde_saphyr::options! { strict_booleans: true };
        serde_saphyr::from_str_with_options(text, options).unwrap()
    }

    #[test]
    fn on_is_a_boolean_in_the_first_version_of_yaml_only() {
        assert_eq!(read::<Value>("answer: on\n").unwrap(), json!({"answer": true}));
        assert_eq!(read_as_1_2("answer: on\n"), json!({"answer": "on"}));
    }

    #[test]
    fn octals_are_read_as_kubernetes_reads_them() {
        let value: Value = read("defaultMode: 0644\n").unwrap();
        assert_eq!(value, json!({"defaultMode": 420}));
    }

    #[test]
    fn what_is_read_may_be_written_otherwise() {
        let document = "a: [1.5, 1.50, 0644, yes, true]\nb: [&n 20, *n, x]\n";
        let read: std::collections::BTreeMap<String, Vec<Located<Value>>> = read(document).unwrap();
        let is_as_read = |key: &str| {
            let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            read[key].iter().map(|it| it.is_written(&word(&it.value), document)).collect::<Vec<_>>()
        };
        assert_eq!(is_as_read("a"), [true, false, false, false, true]);
        assert_eq!(is_as_read("b"), [true, true, true]);
    }

    #[test]
    fn a_key_given_twice_is_an_error_that_says_where() {
        let error = read::<Value>("a: 1\nb: 2\na: 3\n").unwrap_err().to_string();
        assert!(error.contains('3') && !error.contains('\n'), "{error}");
    }

    #[test]
    fn words_that_yaml_1_1_takes_for_booleans_are_written_quoted() {
        let text = write(&json!({"label": "on", "answer": "no", "time": "12:30:45"})).unwrap();
        assert!(text.contains("\"on\"") || text.contains("'on'"), "{text}");
        assert!(!text.contains("answer: no\n") && !text.contains("time: 12:30:45\n"), "{text}");
    }

    #[test]
    fn keys_are_sorted_at_every_level() {
        let text = write(&json!({"b": {"d": 1, "c": 2}, "a": [{"z": 1, "x": 2}]})).unwrap();
        assert_eq!(text, "a:\n- x: 2\n  z: 1\nb:\n  c: 2\n  d: 1\n");
    }

    #[test]
    fn whole_numbers_are_written_without_a_fraction() {
        let text = write(&json!({"a": 1.0, "b": -2.0, "c": 0.5, "d": 1e300, "e": 3})).unwrap();
        assert_eq!(text.lines().take(3).collect::<Vec<_>>(), ["a: 1", "b: -2", "c: 0.5"]);
        assert_eq!(read::<Value>(&text).unwrap(), json!({"a": 1, "b": -2, "c": 0.5, "d": 1e300, "e": 3}));
    }

    /// The files with snapshots below a directory.
    fn snapshots(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
        let entries = fs_err::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| match path.is_dir() {
                true => snapshots(&path),
                false => Vec::from_iter(path.extension().is_some_and(|it| it == "snap").then_some(path)),
            })
            .collect()
    }

    #[test]
    fn every_manifest_that_is_generated_means_the_same_in_both_versions_of_yaml() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut documents = 0;
        for file in [root.join("snapshots"), root.join("crates")].iter().flat_map(|directory| snapshots(directory)) {
            let text = fs_err::read_to_string(&file).unwrap();
            // Its own head comes first.
            let Some((_, text)) = text.trim_start_matches("---\n").split_once("\n---\n") else { continue };
            for document in text.split("---\n").filter(|document| document.starts_with("apiVersion: ")) {
                let kubectl: Value = read(document).unwrap();
                assert_eq!(kubectl, read_as_1_2(document), "{}", file.display());
                let again: Value = read(&write(&kubectl).unwrap()).unwrap();
                assert_eq!(write(&again).unwrap(), write(&kubectl).unwrap(), "{}", file.display());
                documents += 1;
            }
        }
        assert!(documents > 50, "only {documents} documents were found");
    }

    fn values() -> impl Strategy<Value = Value> {
        let scalars = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "(on|off|yes|no|null|~|0644|0x1f|1_000|1e3|2024-01-01| x|x |#x|- x|x: y|\"|'|multi\nline\n)"
                .prop_map(Value::from),
        ];
        scalars.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-zA-Z0-9_.~/-]{1,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_the_same(value in values()) {
            let text = write(&value).unwrap();
            prop_assert_eq!(&read::<Value>(&text).unwrap(), &value, "{}", text);
            // As YAML 1.2 it is the same: octals and booleans are where the two versions part.
            prop_assert_eq!(&read_as_1_2(&text), &value, "{}", text);
        }
    }
}
