//! Role-based access control (Kubernetes documentation, "Using RBAC Authorization"): may a user do this ([`Authorizer`]),
//! and may they give others these rights ([`Authorizer::check_write`]).

mod authorizer;
mod escalation;
mod rules;

pub(crate) use authorizer::selects;
pub use authorizer::{Attributes, Authorizer, Decision, ResourceAttributes};
pub use rules::{Rule, covers};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
