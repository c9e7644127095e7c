//! What the stack knows of its store: the ConfigMap and the Secret of upstream, and the encryption password in them.
//!
//! The password is made once and kept for ever: whatever was encrypted with it is lost without it. There is a copy in
//! the working directory, so that it outlives the cluster. Whichever of the two is there gives the other; if both are
//! there and differ, nobody but the user can know which one is needed, and nothing is changed.

use std::path::PathBuf;
use std::sync::Arc;

use a8s_operators::SYSTEM_NAMESPACE;
use a8s_operators::store::{ACCESS_KEY, CONFIG, CONFIG_KEY, CREDENTIALS, PASSWORD, SECRET_KEY};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::{Api, DynamicObject};
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Value, json};

use super::backup_config::{Store, is_private, unwritable};
use crate::config::{WorkingDirectory, write_private};
use crate::finding::{Class, Finding};
use crate::kubernetes::{Access, Error, FIELD_MANAGER, apply};
use crate::step::{Context, Observation, Step};

const DIGITS: &[u8] = b"0123456789";
const SYMBOLS: &[u8] = b"~!@#$%^&*()_+`-={}|[]\\:\"<>?,./";
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The stack should know its store, and the working directory the password.
pub struct Known {
    /// The cluster.
    pub access: Arc<Access>,
    /// Where the copy of the password is.
    pub directory: WorkingDirectory,
    /// Where backups go.
    pub store: Store,
}

/// The two passwords.
struct Passwords {
    copy: Option<Vec<u8>>,
    secret: Option<Vec<u8>>,
}

impl Passwords {
    /// The one that is there; `None` if there is none yet.
    fn agreed(&self, path: &std::path::Path) -> Result<Option<&Vec<u8>>, Finding> {
        match (&self.copy, &self.secret) {
            (Some(copy), Some(secret)) if copy != secret => Err(differ(path)),
            (copy, secret) => Ok(secret.as_ref().or(copy.as_ref())),
        }
    }
}

fn differ(path: &std::path::Path) -> Finding {
    let cause = format!(
        "the encryption password in {} is not the one in the Secret {SYSTEM_NAMESPACE}/{CREDENTIALS}; nothing was changed",
        path.display()
    );
    Finding::new("encryption-password-differs", Class::Refused, cause)
        .advise("To keep the cluster's password, move the file away: it is written anew from the Secret.")
        .advise("To keep the file's, delete the Secret: the backups that this cluster made are not readable then.")
}

/// A password in a file or a Secret; line ends at its end are none of it.
fn given(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.trim_ascii_end().to_vec()).filter(|password| !password.is_empty())
}

impl Known {
    fn path(&self) -> PathBuf {
        self.directory.backup_config().join(PASSWORD)
    }

    fn copy(&self) -> Result<Option<Vec<u8>>, Finding> {
        match fs_err::read(self.path()) {
            Ok(bytes) => Ok(given(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            // Making another one because this one can't be read would be the end of all backups.
            Err(error) => Err(Finding::new("encryption-password-unreadable", Class::Failed, error)),
        }
    }

    async fn secret(&self, client: &Client) -> Result<Option<Secret>, Finding> {
        let api = Api::<Secret>::namespaced(client.clone(), SYSTEM_NAMESPACE);
        Ok(api
            .get_opt(CREDENTIALS)
            .await
            .map_err(|error| Error::request(format!("get secret {CREDENTIALS}"), error))?)
    }

    /// The objects as they should be.
    fn objects(&self, password: &[u8]) -> Result<[DynamicObject; 2], Finding> {
        let document = self.store.document().map_err(|error| Finding::new("manifest", Class::Failed, error))?;
        let credentials = &self.store.credentials;
        let metadata = |name: &str| json!({"name": name, "namespace": SYSTEM_NAMESPACE});
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata(CREDENTIALS), "type": "Opaque",
            "data": {
                ACCESS_KEY: STANDARD.encode(&credentials.access_key),
                SECRET_KEY: STANDARD.encode(&credentials.secret_key),
                PASSWORD: STANDARD.encode(password),
            },
        });
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(CONFIG), "data": {CONFIG_KEY: document},
        });
        Ok([object(secret), object(map)])
    }

    /// What of the Secret is not as it should be. Values are never told.
    fn secret_difference(&self, secret: Option<&Secret>) -> Option<String> {
        let Some(secret) = secret else { return Some(format!("the Secret {CREDENTIALS} is not there")) };
        let is = |key: &str, wanted: &str| {
            secret.data.as_ref().and_then(|data| data.get(key)).is_some_and(|value| value.0 == wanted.as_bytes())
        };
        let credentials = &self.store.credentials;
        let same = is(ACCESS_KEY, &credentials.access_key) && is(SECRET_KEY, &credentials.secret_key);
        (!same).then(|| format!("the Secret {CREDENTIALS} has other credentials"))
    }

    async fn map_difference(&self, client: &Client) -> Result<Option<String>, Finding> {
        let api = Api::<ConfigMap>::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let map =
            api.get_opt(CONFIG).await.map_err(|error| Error::request(format!("get configmap {CONFIG}"), error))?;
        let document = self.store.document().map_err(|error| Finding::new("manifest", Class::Failed, error))?;
        let there = map.as_ref().and_then(|map| map.data.as_ref()?.get(CONFIG_KEY));
        Ok((there != Some(&document)).then(|| format!("the ConfigMap {CONFIG} is not there, or another")))
    }
}

fn object(document: Value) -> DynamicObject {
    let Ok(object) = serde_json::from_value(document) else { unreachable!("both documents have a kind and metadata") };
    object
}

#[async_trait]
impl Step for Known {
    fn id(&self) -> String {
        "backup-settings".to_owned()
    }

    fn title(&self) -> String {
        "tell the stack where backups go".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let client = self.access.client().await?;
        let secret = self.secret(&client).await?;
        let in_secret = secret.as_ref().and_then(|secret| given(&secret.data.as_ref()?.get(PASSWORD)?.0));
        let passwords = Passwords { copy: self.copy()?, secret: in_secret };
        if passwords.agreed(&self.path())?.is_none() {
            return Ok(Observation::unmet("there is no encryption password yet"));
        }
        if passwords.copy.is_none() {
            return Ok(Observation::unmet(format!("{} is not there", self.path().display())));
        }
        if !is_private(&self.path()) {
            return Ok(Observation::unmet("others can read the encryption password"));
        }
        if passwords.secret.is_none() {
            return Ok(Observation::unmet(format!("the Secret {CREDENTIALS} has no encryption password")));
        }
        if let Some(difference) = self.secret_difference(secret.as_ref()) {
            return Ok(Observation::unmet(difference));
        }
        Ok(match self.map_difference(&client).await? {
            Some(difference) => Observation::unmet(difference),
            None => Observation::satisfied("it knows"),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let client = self.access.client().await?;
        let secret = self.secret(&client).await?;
        let in_secret = secret.as_ref().and_then(|secret| given(&secret.data.as_ref()?.get(PASSWORD)?.0));
        let passwords = Passwords { copy: self.copy()?, secret: in_secret };
        let password = passwords.agreed(&self.path())?.cloned().unwrap_or_else(password);
        // The copy comes first: a cluster with a password of which there is no copy may be deleted at any time.
        fs_err::create_dir_all(self.directory.backup_config()).map_err(unwritable)?;
        if passwords.copy.as_ref() != Some(&password) || !is_private(&self.path()) {
            write_private(&self.path(), &password).map_err(unwritable)?;
        }
        context.command(format!(
            "kubectl apply --server-side --force-conflicts --field-manager {FIELD_MANAGER} -f SETTINGS"
        ));
        for object in self.objects(&password)? {
            let Some(types) = &object.types else { unreachable!("both documents have a kind") };
            let kind = apply::Kind::discover(&client, types).await?;
            apply::apply(&kind.api(client.clone(), SYSTEM_NAMESPACE), &object, true).await?;
        }
        Ok(())
    }
}

/// 64 characters: the ten digits, ten symbols and 44 letters, none twice, in random order.
fn password() -> Vec<u8> {
    let mut random = rand::rng();
    let mut characters: Vec<u8> = DIGITS.to_vec();
    characters.extend(SYMBOLS.sample(&mut random, 10));
    characters.extend(LETTERS.sample(&mut random, 44));
    characters.shuffle(&mut random);
    characters
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_password_is_made_as_the_go_tool_makes_it() {
        let password = password();
        assert_eq!(password.len(), 64);
        assert_eq!(password.iter().collect::<BTreeSet<_>>().len(), 64);
        assert_eq!(password.iter().filter(|byte| byte.is_ascii_digit()).count(), 10);
        assert_eq!(password.iter().filter(|byte| byte.is_ascii_alphabetic()).count(), 44);
        assert!(password.iter().filter(|byte| !byte.is_ascii_alphanumeric()).all(|byte| SYMBOLS.contains(byte)));
    }

    #[test]
    fn whichever_password_is_there_is_the_one_and_two_are_refused() {
        let agreed = |copy: Option<&str>, secret: Option<&str>| {
            let bytes = |text: &str| text.as_bytes().to_vec();
            let passwords = Passwords { copy: copy.map(bytes), secret: secret.map(bytes) };
            passwords.agreed(Path::new("/w/encryption-password")).map(|found| found.cloned())
        };
        assert_eq!(agreed(None, None), Ok(None));
        for (copy, secret) in [(Some("a"), None), (None, Some("a")), (Some("a"), Some("a"))] {
            assert_eq!(agreed(copy, secret), Ok(Some(b"a".to_vec())));
        }
        let finding = agreed(Some("mine"), Some("theirs")).unwrap_err();
        assert_eq!(finding.class.exit_code(), 5);
        let text = format!("{finding:?}");
        assert!(
            text.contains("/w/encryption-password") && !text.contains("mine") && !text.contains("theirs"),
            "{text}"
        );
    }

    #[test]
    fn the_end_of_a_line_is_no_part_of_a_password() {
        assert_eq!(given(b"secret\n"), given(b"secret"));
        assert_eq!(given(b"\n"), None);
    }
}
