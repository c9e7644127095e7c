//! The documents we generate.

pub mod instance;
pub mod names;
