//! The documents we generate.

pub mod binding;
pub mod instance;
pub mod names;
pub mod order;
pub mod resource;
