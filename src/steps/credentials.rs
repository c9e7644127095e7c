//! Name and password of a login, from the Secret that the stack keeps them in.

use a8s_operators::instance::names;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::finding::{Finding, Id};
use crate::kubernetes::Error;
use crate::manifest::names::{Namespace, ObjectName};

/// Name and password.
pub struct Credentials {
    /// The name of the role.
    pub username: String,
    /// Its password.
    pub password: String,
}

/// The Secret of an instance's administrator.
pub fn administrator(instance: &ObjectName) -> String {
    names::credentials("postgres", instance.as_str())
}

/// What a Secret says.
///
/// # Errors
/// It is not there, or a word is missing in it.
pub async fn of_secret(client: &Client, namespace: &Namespace, name: &str) -> Result<Credentials, Finding> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace.as_str());
    let found = secrets.get(name).await;
    let found = found.map_err(|error| Error::request(format!("get the Secret {namespace}/{name}"), error))?;
    let word = |key: &str| {
        let bytes = found.data.as_ref().and_then(|data| data.get(key));
        bytes
            .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
            .ok_or_else(|| Finding::new(Id::NoCredentials, format!("the Secret {namespace}/{name} has no {key}")))
    };
    Ok(Credentials { username: word("username")?, password: word("password")? })
}
