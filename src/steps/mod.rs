//! The steps, and the plans made of them: what the commands and the suite do to the world.

pub mod backup_config;
pub mod binding;
pub mod cluster;
pub mod instance;
pub mod kubeconfig;
pub mod primary;
pub mod sql;
pub mod stack;
pub mod working_directory;
