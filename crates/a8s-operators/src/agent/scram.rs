//! SCRAM-SHA-256 verifiers as PostgreSQL stores them (RFC 5803; src/common/scram-common.c): the agent makes them, so
//! that no statement ever carries a password.
//!
//! Passwords are not prepared by SASLprep: those of Secrets are ASCII, which it leaves as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

/// `SCRAM_SHA_256_DEFAULT_ITERATIONS`.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");
const SALT: usize = 16;

/// The verifier of a password, with a salt of its own.
pub fn verifier(password: &str) -> String {
    derive(password, &rand::random::<[u8; SALT]>(), ITERATIONS)
}

/// Whether a stored verifier is one of this password.
pub fn matches(stored: &str, password: &str) -> bool {
    let parsed = || {
        let rest = stored.strip_prefix("SCRAM-SHA-256$")?;
        let (iterations, rest) = rest.split_once(':')?;
        let (salt, _) = rest.split_once('$')?;
        Some((iterations.parse().ok()?, STANDARD.decode(salt).ok()?))
    };
    parsed().is_some_and(|(iterations, salt): (NonZeroU32, Vec<u8>)| derive(password, &salt, iterations) == stored)
}

fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> String {
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client = hmac::sign(&key, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let [salt, stored, server] = [salt, stored.as_ref(), server.as_ref()].map(|bytes| STANDARD.encode(bytes));
    format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{server}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3: user "user", password "pencil". The keys follow from its salt.
    #[test]
    fn the_verifier_is_the_one_of_the_published_example() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let verifier = derive("pencil", &salt, ITERATIONS);
        assert_eq!(
            verifier,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
        assert!(matches(&verifier, "pencil"));
        assert!(!matches(&verifier, "pencils"));
    }

    #[test]
    fn verifiers_of_one_password_differ_and_rubbish_matches_nothing() {
        assert_ne!(verifier("a"), verifier("a"));
        for stored in ["", "md5abc", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:x$y:z", "SCRAM-SHA-256$4096:%$y:z"] {
            assert!(!matches(stored, "a"), "{stored}");
        }
    }
}
