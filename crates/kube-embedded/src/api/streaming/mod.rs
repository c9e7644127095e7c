//! `exec`, `attach` and `port-forward`: a request becomes a connection of several byte streams to a process or a port.
//!
//! [`upgrade`] agrees on a protocol, [`websocket`] or [`spdy`] carry the streams, [`exec`] and [`forward`] say what
//! flows through them (k8s.io/kubelet `pkg/cri/streaming`). Every queue in between is bounded: who reads slowly is waited for.

mod channels;
mod exec;
mod forward;
mod spdy;
mod upgrade;
mod websocket;

pub use exec::{exec, no_attach};
pub use forward::port_forward;
