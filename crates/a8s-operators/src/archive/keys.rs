//! Keys. The encryption password stays with the controller; an agent gets the data key of one backup; each attempt
//! derives its own keys from that and a random salt, so that no key seals two streams.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::{hkdf, hmac};

/// Bytes of a key and of a salt.
pub const LENGTH: usize = 32;

/// The key of one backup, derived from the encryption password.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey([u8; LENGTH]);

impl std::fmt::Debug for DataKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DataKey(…)")
    }
}

/// HKDF with SHA-256 (RFC 5869).
fn derive(secret: &[u8], salt: &[u8], purpose: &[&[u8]]) -> [u8; LENGTH] {
    let mut key = [0; LENGTH];
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    pseudorandom
        .expand(purpose, hkdf::HKDF_SHA256)
        .and_then(|material| material.fill(&mut key))
        .expect("32 bytes are one block of HKDF");
    key
}

impl DataKey {
    /// Of the backup with this UID.
    pub fn derive(password: &[u8], backup_uid: &str) -> Self {
        Self(derive(password, b"", &[b"a9s backup data key ", backup_uid.as_bytes()]))
    }

    /// From hexadecimal digits, as [`Self::to_hex`] writes them.
    pub fn from_hex(text: &str) -> Option<Self> {
        Some(Self(HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()?))
    }

    /// In hexadecimal digits, for the Secret that an agent reads.
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Tells apart keys of different passwords, without telling anything of them.
    pub fn identifier(&self) -> String {
        HEXLOWER.encode(&derive(&self.0, b"", &[b"a9s backup key identifier"])[..8])
    }

    /// The key that seals one stream.
    pub(super) fn stream(&self, salt: &[u8; LENGTH]) -> [u8; LENGTH] {
        derive(&self.0, salt, &[b"a9s backup stream"])
    }

    /// The key that authenticates manifests.
    pub(super) fn manifest(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &derive(&self.0, b"", &[b"a9s backup manifest"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_password_and_backup() {
        let key = DataKey::derive(b"secret", "1-2-3");
        for other in [DataKey::derive(b"secret", "1-2-4"), DataKey::derive(b"Secret", "1-2-3")] {
            assert_ne!(other, key);
            assert_ne!(other.identifier(), key.identifier());
        }
        assert_eq!(DataKey::from_hex(&key.to_hex()), Some(key.clone()));
        assert_eq!(DataKey::from_hex("00"), None);
        assert!(!format!("{key:?}").contains(&key.to_hex()[..6]));
    }

    #[test]
    fn keys_of_the_published_format_do_not_change() {
        // As computed by the program in docs/backup-format.md.
        let key = DataKey::derive(b"correct horse", "0f8fad5b-d9cb-469f-a165-70867728950e");
        assert_eq!(key.to_hex(), "8678e39e5630613e5bf0ffefcbb0ecf2f264fc6c04710375c72eed1218dc78bc");
        assert_eq!(key.identifier(), "2da9a10487726cad");
    }
}
