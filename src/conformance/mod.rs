//! The conformance suite: Gherkin features that drive the real program and look at what it did.
//!
//! Reading order: [`run`] (what happens from the first to the last scenario), [`world`] (what a scenario has to itself),
//! [`definitions`] (the sentences of the features, by domain noun), [`observe`] and [`database`] (how a `Then` looks: the
//! Kubernetes API and PostgreSQL's own protocol, never the program's opinion), [`inventory`] (what must not be left).

pub mod command;
pub mod database;
pub mod definitions;
pub mod evidence;
pub mod failure;
pub mod inventory;
pub mod ledger;
pub mod observe;
pub mod report;
pub mod run;
pub mod stage;
pub mod world;

pub use failure::Failure;
pub use run::run;
pub use world::World;
