//! Who makes a request ([`Authenticator`]) and what they may do ([`rbac::Authorizer`]).
//!
//! Keys and certificates are [`pki`]'s, the bearer tokens of ServiceAccounts [`tokens`]'. Nothing here knows HTTP: the
//! API server hands over the certificate of the connection and the token of the header.

mod authenticator;
pub(crate) mod files;
pub mod pki;
pub mod rbac;
pub mod tokens;

pub use authenticator::Authenticator;

#[cfg(test)]
mod fixture;
