//! The API server as its clients see it: `kube` inside the process, `kubectl` and raw requests over TLS.

#[path = "api/builtin.rs"]
mod builtin;
#[path = "api/custom.rs"]
mod custom;
#[path = "api/errors.rs"]
mod errors;
#[path = "api/harness.rs"]
mod harness;
#[path = "api/kubectl.rs"]
mod kubectl;
#[path = "api/objects.rs"]
mod objects;
#[path = "api/webhooks.rs"]
mod webhooks;
