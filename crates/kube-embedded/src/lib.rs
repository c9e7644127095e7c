//! A Kubernetes-compatible API server, its controllers, and a node that runs pods as processes of this host.
//!
//! Start reading at [`cluster`], which puts the parts together. A request travels from [`api`] (TLS, routing, handlers)
//! through [`auth`] (who is it, may they) and [`patch`] (what does it change) into the [`store`], and from there as a
//! watch event to the [`controllers`] and the [`node`], which are clients of the API like any other.
//!
//! The crate knows nothing of a8s or PostgreSQL: what a pod can run is a catalogue of [`image`]s that the program
//! plugs in.

pub mod addresses;
pub mod api;
pub mod auth;
pub mod cluster;
pub mod controllers;
mod depth;
mod dial;
pub mod events;
pub mod image;
pub mod kubelet;
pub mod node;
pub mod objects;
pub mod patch;
mod quantity;
pub mod removal;
pub mod status;
pub mod store;
pub mod user;
