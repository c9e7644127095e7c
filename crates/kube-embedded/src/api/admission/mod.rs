//! Admission: what the server itself adds to new objects, and what others say about a change before it is made.

pub mod conditions;
mod connection;
pub mod service_accounts;
pub mod service_addresses;
pub mod webhooks;
