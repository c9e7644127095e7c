//! The steps, and the plans made of them: what the commands and the suite do to the world.

pub mod answer;
pub mod backup;
pub mod backup_config;
pub mod binding;
pub mod capability;
pub mod cluster;
pub mod condition;
pub mod credentials;
pub mod failover;
pub mod gateway;
pub mod images;
pub mod install;
pub mod instance;
pub mod kubeconfig;
pub mod ledger;
pub mod look;
pub mod member;
pub mod members;
mod pauses;
pub mod primary;
pub mod release;
pub mod resource;
pub mod restore;
pub mod sql;
pub mod stack;
pub mod verify;
pub mod working_directory;
pub mod written;

#[cfg(test)]
mod properties;
