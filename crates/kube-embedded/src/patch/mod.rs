//! What a patch does to an object: pure functions over JSON values.
//!
//! Reading order: [`Shape`] says how the lists and maps of a kind merge; [`json`], [`merge`] and [`strategic`] are the
//! three plain patches; [`apply`] is server-side apply, and [`track`] keeps `metadata.managedFields` for every other write.
//! Nothing here validates, defaults or stores.

mod apply;
mod builtin;
mod fields;
mod managers;
mod plain;
mod shape;
mod strategic;
#[cfg(test)]
mod tests;
mod walk;

pub use apply::{ApplyError, ApplyOptions, Conflict, apply, track};
pub use plain::{json, merge};
pub use shape::Shape;
pub use strategic::strategic;
