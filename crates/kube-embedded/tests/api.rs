//! The API server as its clients see it: `kube` inside the process, `kubectl` and raw requests over TLS.

#[path = "api/custom.rs"]
mod custom;
#[path = "api/harness.rs"]
mod harness;
#[path = "api/kubectl.rs"]
mod kubectl;
#[path = "api/objects.rs"]
mod objects;
