//! The controller of `Postgresql`.
//!
//! The middle is pure: [`desired`] says which objects an instance has (its pods in [`pod`]), [`plan`] compares them
//! with what is there and says what to do, [`volumes`] lets them grow and knows of which major their data are,
//! [`deletion`] takes an instance apart in order, [`status`] says how it is. [`controller`] only watches, reads and
//! carries out.

pub mod controller;
pub mod deletion;
pub mod desired;
pub mod events;
pub mod names;
pub mod plan;
pub mod pod;
pub mod status;
pub mod volumes;

pub use controller::run;
pub use names::STRICT_VERSION;
