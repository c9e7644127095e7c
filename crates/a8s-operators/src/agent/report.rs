//! What an agent says of its member in annotations of its pod: the configuration that it has applied, for the operator,
//! and how far it is, for the other members.

use crate::instance::names::{CONFIGURATION, STANDING};
use a8s_api::Parameters;
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;
use serde::{Deserialize, Serialize};

/// The configuration an agent has applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Fingerprint of the parameters.
    pub configuration: String,
    /// Whether the server was restarted for them.
    pub restarted: bool,
    /// When, in nanoseconds since 1970.
    pub at: i64,
    /// Fingerprint of parameters which a standby could follow although it does not have them yet: of what a standby
    /// must not have less of than its primary, it has enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enough: Option<String>,
}

/// A place in the WAL, written as PostgreSQL writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl std::str::FromStr for Lsn {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (high, low) = text.split_once('/').unwrap_or(("", text));
        Ok(Self(u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?))
    }
}

impl Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How far a member is that receives nothing any more, told to those who look for the next primary.
///
/// It is a promise: as long as the Lease has this version, this member confirms nothing to a primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// The version of the Lease that was found without a living holder.
    pub vacancy: String,
    /// The timeline of what it has.
    pub timeline: u32,
    /// The end of what it has, on its disk.
    pub position: Lsn,
    /// Generation of its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
}

impl Standing {
    /// What a pod's agent has said last.
    pub fn of_annotations(annotations: &std::collections::BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(annotations.get(STANDING)?).ok()
    }
}

impl Applied {
    /// What a pod's agent has said last.
    pub fn of_pod(pod: &PartialObjectMeta<Pod>) -> Option<Self> {
        serde_json::from_str(pod.metadata.annotations.as_ref()?.get(CONFIGURATION)?).ok()
    }
}

/// Identifies the effective values of parameters: absent ones count as their defaults.
pub fn fingerprint(parameters: &Parameters) -> String {
    let effective: Vec<_> =
        parameters.effective().into_iter().map(|(parameter, value)| (parameter.field, value)).collect();
    hash(&serde_json::to_vec(&effective).unwrap_or_default())
}

/// FNV-1a with 64 bits: the same in every build, for noticing change and not for security.
pub fn hash(bytes: &[u8]) -> String {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_that_is_written_out_changes_nothing() {
        let written = Parameters { max_connections: Some(100), ..Parameters::default() };
        assert_eq!(fingerprint(&written), fingerprint(&Parameters::default()));
        let changed = Parameters { max_connections: Some(101), ..Parameters::default() };
        assert_ne!(fingerprint(&changed), fingerprint(&Parameters::default()));
    }

    #[test]
    fn places_in_the_wal_are_written_as_postgresql_writes_them() {
        let place: Lsn = "1/A0".parse().expect("a place");
        assert_eq!((place, place.to_string()), (Lsn(0x1_0000_00a0), "1/A0".to_owned()));
        assert!("1".parse::<Lsn>().is_err() && "x/y".parse::<Lsn>().is_err());
        assert_eq!(serde_json::to_string(&place).expect("plain"), "\"1/A0\"");
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(hash(b""), "cbf29ce484222325");
        assert_eq!(hash(b"a"), "af63dc4c8601ec8c");
    }
}
