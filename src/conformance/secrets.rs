//! Keeps secrets out of what the suite writes: every value that a Secret of the scenario's namespaces holds is replaced
//! wherever it occurs, in whatever form the program, a server or a log may have said it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

/// What stands in a secret's place.
pub const HIDDEN: &str = "[secret]";

/// Shorter values are words such as `postgres`, which would be everywhere.
const SHORTEST: usize = 8;

/// The key of what lets somebody into an instance: its values are made at random.
const PASSWORD: &str = "password";

/// A shorter password may be a word that somebody has put there.
const SHORTEST_PASSWORD: usize = 16;

/// Keys of Secrets whose values anybody may know, such as the name of a user or a certificate.
const PUBLIC: [&str; 10] =
    ["username", "database", "host", "port", "uri", "service", "instance_service", "ca.crt", "tls.crt", "namespace"];

/// How a text stands in a document of JSON: as this program writes it, and as those of Kubernetes do, which also escape
/// what HTML would take for its own (Go, `encoding/json`, `HTMLEscape`).
fn in_json(text: &str) -> [String; 2] {
    let quoted = Value::from(text).to_string();
    let plain = quoted[1..quoted.len() - 1].to_owned();
    let of_go = plain.replace('<', r"\u003c").replace('>', r"\u003e").replace('&', r"\u0026");
    [plain, of_go]
}

/// Values that must not be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    values: BTreeSet<String>,
    /// Those of them that are passwords of instances.
    passwords: BTreeSet<String>,
}

impl Secrets {
    /// The values of these Secrets, as they are, as JSON has them, and as base64.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let (mut values, mut passwords) = (BTreeSet::new(), BTreeSet::new());
        for (key, value) in secrets.into_iter().flat_map(|secret| secret.data.iter().flatten()) {
            if PUBLIC.contains(&key.as_str()) || value.0.len() < SHORTEST {
                continue;
            }
            values.insert(STANDARD.encode(&value.0));
            if let Ok(text) = std::str::from_utf8(&value.0) {
                values.insert(text.trim().to_owned());
                values.extend(in_json(text.trim()));
                if key == PASSWORD && text.trim().len() >= SHORTEST_PASSWORD {
                    passwords.extend([text.trim().to_owned(), STANDARD.encode(&value.0)]);
                    passwords.extend(in_json(text.trim()));
                }
                // A key or a document of several lines is quoted line by line.
                let lines = text.lines().map(str::trim).filter(|line| line.len() >= 24);
                values.extend(lines.flat_map(|line| [line.to_owned()].into_iter().chain(in_json(line))));
            }
        }
        values.retain(|value| value.len() >= SHORTEST);
        Self { values, passwords }
    }

    /// Both together.
    pub fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
        self.passwords.extend(other.passwords);
    }

    /// Whether a text tells the password of an instance.
    pub fn has_password(&self, text: &str) -> bool {
        self.passwords.iter().any(|password| text.contains(password.as_str()))
    }

    /// The text without them. Longer ones go first: one may contain another.
    pub fn hide(&self, text: &str) -> String {
        let mut values: Vec<&String> = self.values.iter().filter(|value| text.contains(value.as_str())).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), HIDDEN))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn values_are_hidden_as_text_and_as_base64_and_names_are_not() {
        let data =
            [("username", "postgres-admin"), ("namespace", "e2e-shop"), ("password", "s3cr3t-enough"), ("pin", "1234")]
                .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())));
        let secret = Secret { data: Some(BTreeMap::from(data)), ..Secret::default() };
        let secrets = Secrets::of([&secret]);
        let text = "postgres-admin:s3cr3t-enough@e2e-shop 1234 czNjcjN0LWVub3VnaA== s3cr3t-enough";
        assert_eq!(secrets.hide(text), "postgres-admin:[secret]@e2e-shop 1234 [secret] [secret]");
    }

    #[test]
    fn values_with_symbols_are_hidden_as_json_has_them_too() {
        let text = "a\"b\\c<d>e&f, and more of it";
        let secret = |value: &str| {
            let data = [("password".to_owned(), ByteString(value.as_bytes().to_vec()))];
            Secret { data: Some(BTreeMap::from(data)), ..Secret::default() }
        };
        let secrets = Secrets::of([&secret(text), &secret("-----BEGIN KEY-----\n{\"of\": \"several long lines\"}\n")]);
        let forms = [text, r#"a\"b\\c<d>e&f, and more of it"#, r#"a\"b\\c\u003cd\u003ee\u0026f, and more of it"#];
        for form in forms {
            assert_eq!(secrets.hide(&format!("{{{form}}}")), "{[secret]}");
            assert!(secrets.has_password(form), "{form}");
        }
        assert_eq!(secrets.hide(r#"{\"of\": \"several long lines\"}"#), HIDDEN);
    }

    #[test]
    fn a_password_is_known_as_text_and_as_base64_and_a_word_is_none() {
        let secret = |password: &str| {
            let data = [("password".to_owned(), ByteString(password.as_bytes().to_vec()))];
            Secret { data: Some(BTreeMap::from(data)), ..Secret::default() }
        };
        let secrets = Secrets::of(&[secret("Q8vYx0aLr2TzK5mN"), secret("somebody's")]);
        assert!(secrets.has_password("postgres://a:Q8vYx0aLr2TzK5mN@127.0.0.1"));
        assert!(secrets.has_password(&STANDARD.encode("Q8vYx0aLr2TzK5mN")));
        assert!(!secrets.has_password("it is somebody's"));
    }
}
