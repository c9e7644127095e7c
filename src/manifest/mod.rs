//! The documents we generate, and those we fetch.

pub mod fetch;
pub mod images;
pub mod instance;
pub mod kustomization;
pub mod minio;
pub mod names;
pub mod order;
pub mod ports;
pub mod registry;
pub mod release;
pub mod resource;
