//! `a9s`: PostgreSQL on Kubernetes from one program.
//!
//! What a person types goes through [`cli`] into a plan of [`steps`], which the engine in [`step`] runs against a
//! cluster that a [`provider`] made. [`kubernetes`] holds what steps need to talk to a cluster, [`manifest`] the
//! documents they send, [`postgres`] a client of servers, [`config`] the configuration file and the working directory,
//! [`yaml`] how documents are read and written. [`caller`] is whoever runs the program: its variables, its directory,
//! its streams. What goes wrong reaches the person as a [`finding`]. [`conformance`] is the suite, which drives the
//! program as a person would.

pub mod caller;
pub mod cli;
pub mod config;
pub mod conformance;
pub mod finding;
pub mod kubernetes;
pub mod manifest;
pub mod postgres;
pub mod provider;
mod proxy;
pub mod step;
pub mod steps;
pub mod yaml;
