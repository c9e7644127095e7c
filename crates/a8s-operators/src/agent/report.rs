//! What an agent tells the operator of the configuration it has applied: an annotation of its pod.

use crate::instance::names::CONFIGURATION;
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
    fn the_hash_is_the_published_one() {
        assert_eq!(hash(b""), "cbf29ce484222325");
        assert_eq!(hash(b"a"), "af63dc4c8601ec8c");
    }
}
