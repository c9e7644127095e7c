//! The client of the object store: any S3 endpoint, the builtin stack's own or another.
//!
//! [`settings`] says where the store is and who we are there, [`names`] finds Services that DNS does not know, [`http`]
//! carries the requests, and [`error`] says in one sentence what went wrong and whether trying again can help. Requests
//! are tried again by themselves where that can help.

mod download;
mod error;
mod http;
mod names;
mod objects;
mod settings;

#[cfg(test)]
pub(crate) mod tests;

pub use self::download::Download;
pub use self::error::Error;
pub use self::names::Names;
pub use self::objects::{Entry, Limits, Store};
pub use self::settings::{Config, Credentials, Settings, SettingsError};

/// The HTTP stack, for tests that use the library without our client around it.
#[cfg(test)]
pub(crate) fn connector_for_tests() -> impl object_store::client::HttpConnector {
    http::Connector { names: Names::system(), silence: std::time::Duration::from_secs(10), tls: false }
}

/// ConfigMap in the stack's namespace that says where the store is.
pub const CONFIG: &str = "a8s-backup-store-config";
/// Its key.
pub const CONFIG_KEY: &str = "backup-store-config.yaml";
/// Secret in the stack's namespace with the credentials of the store and the encryption password.
pub const CREDENTIALS: &str = "a8s-backup-storage-credentials";
/// Key of the access key id in that Secret.
pub const ACCESS_KEY: &str = "access-key-id";
/// Key of the secret key in that Secret.
pub const SECRET_KEY: &str = "secret-access-key";
/// Key of the encryption password in that Secret.
pub const PASSWORD: &str = "encryption-password";
