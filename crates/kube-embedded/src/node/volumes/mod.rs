//! Volumes of pods: directories of this host that [`super::launcher`] mounts into containers.
//!
//! ConfigMaps, Secrets, tokens and the downward API are written as files and replaced atomically when they change.
//! A `hostPath` that exists is mounted as it is, if the containers' user could reach it anyway.
//! One that does not exist is only made below the cluster's own volumes, and so is a subPath, unless containers run as
//! this process' user. Files belong to the user containers run as.

mod atomic;
mod beneath;
mod content;
mod material;
mod prepare;

pub use material::{Material, Tokens};
pub use prepare::{Prepared, Shop};

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// Why a volume is not there. Its text is part of a `FailedMount` event.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What it is made from is missing, or not of this kind.
    #[error("{0}")]
    Source(String),
    /// Its files can't be written.
    #[error("{path}: {source}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The API does not answer.
    #[error("{0}")]
    Api(#[from] kube::Error),
}

/// The volumes of a pod, by name.
pub type Volumes = BTreeMap<String, Prepared>;
