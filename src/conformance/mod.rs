//! The conformance suite: Gherkin features that drive the real program and look at what it did.
//!
//! Reading order: [`catalogue`] (the scenarios there are), [`mod@run`] (what happens from the first to the last of
//! them), [`world`] (what a scenario has to itself), [`definitions`] (the sentences of the features, by domain noun),
//! [`observe`] and [`crate::postgres`] (how a `Then` looks: the Kubernetes API and PostgreSQL's own protocol, never the
//! program's opinion), [`inventory`] (what must not be left), [`results`] (what was found) and [`reports`] (how it is
//! shown).

pub mod accepted;
mod audit;
pub mod beside;
pub mod catalogue;
pub mod command;
pub mod compare;
pub mod cut;
pub mod definitions;
mod directory;
pub mod environment;
pub mod evidence;
pub mod failure;
pub mod inventory;
mod leftovers;
mod mounts;
mod needs;
pub mod nodes;
pub mod normalise;
pub mod observations;
pub mod observe;
pub mod options;
mod outside;
pub mod preflight;
pub mod recorder;
pub mod reports;
mod requests;
pub mod results;
pub mod run;
pub mod secrets;
pub mod stage;
mod teardown;
pub mod ways;
pub mod world;

pub use failure::Failure;
pub use run::{Ran, run};
pub use world::World;
