//! What a backup says of itself: `manifest.json`, written when everything else is stored. Without it there is no
//! backup.

use super::keys::DataKey;
use super::{FORMAT, Summary};
use crate::backup::access::prefix;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Its name, within the place of its backup.
pub const NAME: &str = "manifest.json";
/// More than this is no manifest.
pub const LARGEST: u64 = 64 << 10;

/// The description of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of the format, [`FORMAT`].
    pub format: u32,
    /// UID of the Backup.
    pub backup_uid: String,
    /// Identifier of the attempt that made it.
    #[serde(rename = "backupID")]
    pub backup_id: String,
    /// Namespace of the instance.
    pub namespace: String,
    /// The instance.
    pub instance: String,
    /// PostgreSQL's major.
    pub postgresql_major: u32,
    /// System identifier of the data, in decimal digits: JavaScript's numbers cannot hold it.
    pub system_identifier: String,
    /// Timeline on which the backup was made.
    pub timeline: u32,
    /// Where recovery starts, as PostgreSQL writes it (`0/2000028`).
    pub start_lsn: String,
    /// Where the data is consistent.
    pub end_lsn: String,
    /// When it was started, as in RFC 3339.
    pub started_at: String,
    /// When everything was stored.
    pub finished_at: String,
    /// Identifies the key, and so the encryption password.
    pub key: String,
    /// The stream.
    #[serde(flatten)]
    pub summary: Summary,
}

/// Why a manifest is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no manifest.
    #[error("the backup's manifest cannot be understood: {0}")]
    Unknown(String),
    /// A later version of this program made it.
    #[error("the backup has format {0}, and this program knows only format {FORMAT}")]
    Format(u64),
    /// Another password.
    #[error("the encryption password is not the one with which the backup was made")]
    Key,
    /// It was changed.
    #[error("the backup's manifest is not authentic: it was changed after the backup was made")]
    Authentication,
    /// It is authentic, and of other objects than those beside it.
    #[error("the manifest is that of another backup, or of another attempt to make this one")]
    Elsewhere,
}

/// The manifest as it was written, and its authentication.
#[derive(Serialize, Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    backup: &'a RawValue,
    #[serde(rename = "hmacSha256")]
    authentication: String,
}

impl Manifest {
    /// As it is stored.
    pub fn write(&self, key: &DataKey) -> Vec<u8> {
        let text = serde_json::to_string(self).expect("plain data");
        let authentication = HEXLOWER.encode(hmac::sign(&key.manifest(), text.as_bytes()).as_ref());
        format!("{{\"backup\":{text},\"hmacSha256\":\"{authentication}\"}}\n").into_bytes()
    }

    /// Where the objects of the backup are: those of an earlier attempt, or of another instance, are somewhere else.
    pub fn place(&self) -> String {
        let Self { namespace, instance, backup_uid, backup_id, .. } = self;
        format!("{}/{backup_id}", prefix(namespace, instance, backup_uid))
    }

    /// What is stored at this place, if it is authentic and was written for it.
    ///
    /// # Errors
    /// If it is not, or the key is another.
    pub fn read(text: &[u8], key: &DataKey, place: &str) -> Result<Self, Error> {
        let unknown = |error: serde_json::Error| Error::Unknown(error.to_string());
        let document: Document<'_> = serde_json::from_slice(text).map_err(unknown)?;
        let text = document.backup.get();
        let value: serde_json::Value = serde_json::from_str(text).map_err(unknown)?;
        match value["format"].as_u64() {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(Error::Format(format)),
            None => return Err(Error::Unknown("it has no format".to_owned())),
        }
        let tag = HEXLOWER_PERMISSIVE.decode(document.authentication.as_bytes()).unwrap_or_default();
        let is_authentic = hmac::verify(&key.manifest(), text.as_bytes(), &tag).is_ok();
        if is_authentic || sabotage::sabotaged!("manifest-is-believed") {
            let manifest: Self = serde_json::from_str(text).map_err(unknown)?;
            return if manifest.place() == place { Ok(manifest) } else { Err(Error::Elsewhere) };
        }
        // Only to say which of the two it is: nothing is taken from a manifest that is not authentic.
        Err(if value["key"] == key.identifier().as_str() { Error::Authentication } else { Error::Key })
    }
}
