//! The object store of the builtin stack: the S3 protocol over a directory that survives anything.
//!
//! In reading order: [`files`] (what objects are made of), [`index`] (which objects there are: one small transactional
//! database), [`backend`] (both together: the operations, without any protocol), [`listing`] (pages of keys), [`receive`]
//! (bodies on their way to a file), [`protocol`] (S3's operations over the backend), [`server`] (HTTP) and [`manifests`]
//! (what is installed on a cluster).
//!
//! *Guarantees*: what was acknowledged is on the disk, synced, before the acknowledgement. An object is replaced,
//! completed from parts or deleted by one transaction of the index: whoever reads sees the old one or the new one, whole.
//! What was cut off is not visible, and is removed at the next start. *Caveat*: one process per directory.

mod backend;
#[cfg(test)]
mod crash;
mod error;
mod files;
mod index;
mod listing;
pub mod manifests;
mod protocol;
mod receive;
pub mod server;

#[cfg(test)]
mod tests;

pub use self::backend::Backend;
pub use self::error::Error;

/// A point at which a test may let the process "die". Nothing in the program itself.
#[cfg(not(test))]
mod crash {
    #[expect(clippy::unnecessary_wraps, reason = "the tests' counterpart fails")]
    pub const fn point(_: &'static str) -> std::io::Result<()> {
        Ok(())
    }

    pub const fn died() -> bool {
        false
    }
}
