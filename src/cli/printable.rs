//! Text on its way to a terminal. Conditions, events and logs are written by others, and must not steer it: no title, no
//! clipboard, no line over another one.

/// What stands for a character that is not shown.
const REPLACEMENT: &str = "\u{fffd}";

/// Whether a terminal would do something else with a character than show it: control characters, also those above U+0080,
/// which terminals heed in UTF-8 (ECMA-48), and those that turn the direction of the text around them (UAX #9).
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text as it may be shown: with its newlines and tabs, and with nothing else that would steer the terminal.
pub fn printable(text: &str) -> String {
    text.replace(|c: char| steers(c) && c != '\n' && c != '\t', REPLACEMENT)
}

/// The same JSON document (which is one of YAML, too), in which strings escape what the library leaves as it is (RFC 8259,
/// section 7, allows that).
pub fn escaped(document: &str) -> String {
    let mut text = String::with_capacity(document.len());
    for c in document.chars() {
        match steers(c) && c != '\n' {
            true => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::caller::{Caller, Said, instead};
    use crate::cli::arguments::Format;
    use crate::cli::console::Console;
    use crate::cli::progress::eprint_line;

    /// Sets the clipboard, begins a sequence in one character, goes back to the begin of the line, turns what follows.
    const HOSTILE: &str = "a\u{1b}]52;c;eA==\u{7}\u{9b}31m\tb\n\rc\u{7f}\u{202e}d é ⚠️";
    const SHOWN: &str = "a\u{fffd}]52;c;eA==\u{fffd}\u{fffd}31m\tb\n\u{fffd}c\u{fffd}\u{fffd}d é ⚠️\n";

    fn said(work: impl FnOnce()) -> Said {
        instead(Caller::default(), work).1
    }

    #[test]
    fn no_line_steers_the_terminal() {
        let said = said(|| {
            Console::new(None).line(HOSTILE);
            eprint_line(HOSTILE);
        });
        assert_eq!(String::from_utf8(said.stdout).unwrap(), SHOWN);
        assert_eq!(String::from_utf8(said.stderr).unwrap(), SHOWN);
    }

    fn document(format: Format, value: &Value) -> String {
        let said = said(|| {
            let console = Console::new(Some(format));
            console.document(value);
            console.hand_out(None);
        });
        String::from_utf8(said.stdout).unwrap()
    }

    #[test]
    fn a_document_is_the_same_and_steers_no_terminal() {
        for hostile in [HOSTILE, "only \u{202e} turned", "two\nlines, \u{2066} turned"] {
            let value = json!({"message": hostile, hostile: 1});
            let (json, yaml) = (document(Format::Json, &value), document(Format::Yaml, &value));
            for text in [&json, &yaml] {
                assert!(text.chars().all(|c| c == '\n' || !steers(c)), "{text:?}");
            }
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value);
            assert_eq!(crate::yaml::read::<Value>(&yaml).unwrap(), value);
        }
    }

    #[test]
    fn what_steers_nothing_is_written_in_the_usual_way() {
        assert_eq!(document(Format::Yaml, &json!({"b": "fine", "a": 1})), "a: 1\nb: fine\n");
        assert!(document(Format::Yaml, &json!({"a": "one\n\ttwo"})).starts_with("a: "));
    }
}
