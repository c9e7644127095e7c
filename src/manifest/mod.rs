//! The documents we generate.

pub mod binding;
pub mod instance;
pub mod names;
