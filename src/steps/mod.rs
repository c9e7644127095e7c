//! The steps, and the plans made of them: what the commands and the suite do to the world.

pub mod backup;
pub mod backup_config;
pub mod backup_settings;
pub mod capability;
pub mod cluster;
pub mod condition;
pub mod instance;
pub mod kubeconfig;
pub mod look;
pub mod object_store;
pub mod resource;
pub mod restore;
pub mod sql;
pub mod stack;
pub mod verify;
pub mod working_directory;

#[cfg(test)]
mod properties;
