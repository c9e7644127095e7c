//! `exec`, `cp` and `port-forward` as real clients use them, against a pod whose processes are those of this host.

#[path = "streaming/exec.rs"]
mod exec;
#[path = "streaming/forward.rs"]
mod forward;
#[path = "streaming/host.rs"]
mod host;
#[path = "streaming/server.rs"]
mod server;
