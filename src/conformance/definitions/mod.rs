//! The sentences of the features, grouped by the noun they are about. A definition does one thing or looks at one
//! thing; how that is done lies in the modules above.

pub(super) mod backup;
mod backup_commands;
mod binding;
mod clients;
mod cluster;
mod commands;
mod conformance;
mod content;
mod disk;
mod disorder;
mod failover;
mod files;
mod instance;
mod kubernetes;
mod limits;
mod manifests;
mod members;
mod nodes;
mod repetition;
mod running;
mod sql;
mod store;
