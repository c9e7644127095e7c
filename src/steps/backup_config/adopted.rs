//! What a cluster knows of its backups already: whoever installs the stack again, also from another machine, must neither
//! make the backups that are there unreadable nor send the next ones elsewhere by saying nothing.

use std::sync::Arc;

use a8s_operators::SYSTEM_NAMESPACE;
use a8s_operators::object_store::manifests as own;
use a8s_operators::store::{CONFIG, CONFIG_KEY, CREDENTIALS, Credentials, PASSWORD};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use tokio::sync::OnceCell;

use super::store::ACCESS_KEY_ID;
use super::{Choice, Owner, Store, Wish, keep, password_file};
use crate::config::WorkingDirectory;
use crate::finding::{Finding, Id};
use crate::kubernetes::Error;
use crate::step::{Context, Observation, Step};
use crate::steps::stack::Site;

/// The configuration of backups of the cluster should be the one that this run goes on with.
pub struct Adopted {
    site: Arc<Site>,
    directory: WorkingDirectory,
    choice: Arc<Choice>,
    found: OnceCell<Found>,
}

/// What a cluster has.
#[derive(Default)]
struct Found {
    password: Option<Vec<u8>>,
    /// The one that backups go to.
    store: Option<Store>,
    /// The stack's own, where backups are to go there again.
    own: Option<Store>,
}

impl Found {
    /// What is there. Where an owner is named, what is damaged is as good as none.
    async fn on(client: &Client, wish: &Wish) -> Result<Self, Finding> {
        let names_an_owner = wish.owner.is_some();
        let secret = secret(client, SYSTEM_NAMESPACE, CREDENTIALS).await?;
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let there = maps.get_opt(CONFIG).await;
        let there = there.map_err(|error| unread("configmap", SYSTEM_NAMESPACE, CONFIG, error))?;
        let document = there.and_then(|map| map.data?.remove(CONFIG_KEY));
        let credentials = secret.as_ref().and_then(|secret| Credentials::of(secret).ok());
        let store = match (document, credentials) {
            (Some(document), Some(credentials)) => store(&document, credentials, names_an_owner)?,
            _ if wish.owner == Some(Owner::Aws) => None,
            // What was made half, or is damaged, is made whole again where it is certain what it was.
            (Some(document), None) if is_minio(&document) => own_store(client, wish).await?,
            (None, Some(keys)) if keys.access_key == ACCESS_KEY_ID => Some(wish.over(Some(&Store::own(keys)))),
            (None, None) => own_store(client, wish).await?,
            _ if names_an_owner => None,
            _ => return Err(damaged("a part of the configuration of backups is not there")),
        };
        let is_own = store.as_ref().is_some_and(Store::is_minio);
        let own = match wish.owner {
            Some(Owner::Minio) if !is_own => own_store(client, wish).await?,
            _ => None,
        };
        Ok(Self { password: secret.and_then(password_of), store, own })
    }

    /// The store that is gone on with.
    fn base(&self) -> Option<&Store> {
        self.own.as_ref().or(self.store.as_ref())
    }
}

/// The store that a cluster is configured for, if it is for one, for backups that go to AWS or the like.
///
/// # Errors
/// The cluster can't be asked.
pub async fn of_cluster(client: &Client) -> Result<Option<Store>, Finding> {
    let wish = Wish { owner: Some(Owner::Aws), ..Wish::default() };
    Ok(Found::on(client, &wish).await?.store)
}

async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<Secret>, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    secrets.get_opt(name).await.map_err(|error| unread("secret", namespace, name, error))
}

/// The stack's own store where it is there, and the stack was not told its keys, has lost them, or has used another store
/// since: it keeps them. On a node it takes a pod a minute to see others.
async fn own_store(client: &Client, wish: &Wish) -> Result<Option<Store>, Error> {
    let secret = secret(client, own::NAMESPACE, own::SECRET).await?;
    let keys = secret.and_then(|secret| Credentials::of(&secret).ok());
    Ok(keys.map(|keys| wish.over(Some(&Store::own(keys)))))
}

fn password_of(secret: Secret) -> Option<Vec<u8>> {
    Some(secret.data?.remove(PASSWORD)?.0)
}

/// The encryption password of a cluster.
pub(super) async fn password(client: &Client) -> Result<Option<Vec<u8>>, Error> {
    Ok(secret(client, SYSTEM_NAMESPACE, CREDENTIALS).await?.and_then(password_of))
}

fn unread(kind: &str, namespace: &str, name: &str, error: kube::Error) -> Error {
    Error::request(format!("get {kind} {namespace}/{name}"), error)
}

fn store(document: &str, credentials: Credentials, names_an_owner: bool) -> Result<Option<Store>, Finding> {
    match Store::of(document, credentials) {
        Ok(store) => Ok(Some(store)),
        Err(_) if names_an_owner => Ok(None),
        Err(error) => Err(damaged(error)),
    }
}

/// Whether a configuration is of the store that the program installs.
fn is_minio(document: &str) -> bool {
    let nobody = Credentials { access_key: String::new(), secret_key: String::new() };
    Store::of(document, nobody).is_ok_and(|store| store.is_minio())
}

fn damaged(why: impl std::fmt::Display) -> Finding {
    Finding::new(Id::BackupConfigDamaged, why)
        .advise("Correct it, or say with --backup-provider and its flags where backups go.")
}

impl Adopted {
    /// The step.
    pub fn new(site: Arc<Site>, directory: WorkingDirectory, choice: Arc<Choice>) -> Self {
        Self { site, directory, choice, found: OnceCell::new() }
    }

    /// What was there before this run has changed anything.
    async fn found(&self) -> Result<&Found, Finding> {
        let found = self.found.get_or_try_init(async || match self.site.is_new() {
            true => Ok::<_, Finding>(Found::default()),
            false => Found::on(&self.site.client().await?, self.choice.wish()).await,
        });
        found.await
    }

    /// What is not yet as on the cluster, if anything.
    fn difference(&self, found: &Found) -> Result<Option<&'static str>, Finding> {
        let Some(wanted) = &found.password else { return Ok(None) };
        let path = password_file(&self.directory);
        match std::fs::read(&path) {
            Ok(ours) if ours == *wanted => Ok(None),
            Ok(_) => {
                let cause = format!(
                    "the cluster has another encryption password than {}: its backups could not be read any more",
                    path.display()
                );
                Err(Finding::new(Id::OtherPassword, cause)
                    .advise("Move that file away to go on with the cluster's password."))
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let cause = format!("cannot read the encryption password {}: {error}", path.display());
                Err(Finding::new(Id::WorkingDirectory, cause))
            }
            Err(_) => Ok(Some("this working directory does not have the cluster's encryption password")),
        }
    }
}

#[async_trait]
impl Step for Adopted {
    fn id(&self) -> String {
        "backups-adopted".to_owned()
    }

    fn title(&self) -> String {
        "go on with the cluster's configuration of backups".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let found = self.found().await?;
        let store = self.choice.made(found.base());
        store.check()?;
        if let Some(difference) = self.difference(found)? {
            return Ok(Observation::unmet(difference));
        }
        Ok(match &found.store {
            None => Observation::satisfied("the cluster has none"),
            Some(before) if before.place() != store.place() => {
                Observation::unmet(format!("backups go to {}", before.place()))
            }
            Some(before) => Observation::satisfied(format!("backups go to {}", before.place())),
        })
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let (found, store) = (self.found().await?, self.choice.store());
        if let Some(before) = found.store.as_ref().filter(|before| before.place() != store.place()) {
            context.warn(format!(
                "backups go to {} from now on; those in {} can only be restored, and deleted there, when it is chosen again",
                store.place(),
                before.place()
            ));
        }
        match &found.password {
            Some(password) => keep(&password_file(&self.directory), password),
            None => Ok(()),
        }
    }

    async fn confirm(&self) -> Result<Observation, Finding> {
        Ok(Observation::satisfied(format!("backups go to {}", self.choice.store().place())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use a8s_operators::store::{ACCESS_KEY, SECRET_KEY};
    use data_encoding::BASE64;
    use serde_json::{Value, json};

    use super::*;

    /// A cluster that has these objects, by their paths, and nothing else.
    fn cluster(objects: impl IntoIterator<Item = (String, Value)>) -> Client {
        let objects: BTreeMap<String, Value> = objects.into_iter().collect();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let gone = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "gone",
                "reason": "NotFound", "code": 404});
            let (code, object) = objects.get(request.uri().path()).map_or((404, &gone), |object| (200, object));
            let body = kube::client::Body::from(object.to_string().into_bytes());
            let answer = http::Response::builder().status(code).body(body).unwrap();
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "default")
    }

    fn secret(namespace: &str, name: &str, keys: [&str; 2]) -> (String, Value) {
        let [access_key, secret_key] = keys.map(|key| BASE64.encode(key.as_bytes()));
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
            "data": {ACCESS_KEY: access_key, SECRET_KEY: secret_key}});
        (format!("/api/v1/namespaces/{namespace}/secrets/{name}"), secret)
    }

    /// The stack's own store, as each of the stacks installs it.
    fn own_secrets() -> [(String, Value); 2] {
        let credentials = Credentials { access_key: ACCESS_KEY_ID.to_owned(), secret_key: "own".to_owned() };
        let store = own::Options { bucket: "a8s-backups".to_owned(), credentials };
        let builtin: Vec<Value> =
            own::manifests(&store).iter().map(|object| serde_json::to_value(object).unwrap()).collect();
        [builtin, crate::manifest::minio::documents(&store)].map(|documents| {
            let secret = documents.into_iter().find(|document| document["kind"] == "Secret").unwrap();
            (format!("/api/v1/namespaces/{}/secrets/{}", own::NAMESPACE, own::SECRET), secret)
        })
    }

    fn config(document: &str) -> (String, Value) {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {CONFIG_KEY: document},
            "metadata": {"name": CONFIG, "namespace": SYSTEM_NAMESPACE}});
        (format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{CONFIG}"), map)
    }

    fn wish(owner: Option<Owner>) -> Wish {
        Wish { owner, ..Wish::default() }
    }

    async fn secret_key(client: &Client, owner: Option<Owner>) -> String {
        let found = Found::on(client, &wish(owner)).await.unwrap();
        Choice::new(wish(owner)).made(found.base()).credentials.secret_key
    }

    #[tokio::test]
    async fn the_own_store_keeps_its_keys_when_backups_go_there_again() {
        let aws = secret(SYSTEM_NAMESPACE, CREDENTIALS, ["their-id", "theirs"]);
        let credentials = Credentials { access_key: "their-id".to_owned(), secret_key: "theirs".to_owned() };
        let elsewhere = Store { bucket: "elsewhere".to_owned(), credentials, ..wish(Some(Owner::Aws)).over(None) };
        for own_secret in own_secrets() {
            for document in [elsewhere.document().unwrap(), "damaged".to_owned()] {
                let client = cluster([aws.clone(), config(&document), own_secret.clone()]);
                assert_eq!(secret_key(&client, Some(Owner::Minio)).await, "own", "{document}");
            }
            let client = cluster([aws.clone(), config(&elsewhere.document().unwrap()), own_secret]);
            assert_eq!(secret_key(&client, None).await, "theirs");
            // Where they went is told.
            let found = Found::on(&client, &wish(Some(Owner::Minio))).await.unwrap();
            assert_eq!(found.store.unwrap().place(), "the bucket elsewhere of AWS");
        }
        let client = cluster([aws, config(&elsewhere.document().unwrap())]);
        let made = secret_key(&client, Some(Owner::Minio)).await;
        assert!(made != "own" && made != "theirs");
    }

    #[tokio::test]
    async fn half_of_a_configuration_for_a_store_of_others_is_not_completed() {
        let keys = secret(SYSTEM_NAMESPACE, CREDENTIALS, ["their-id", "theirs"]);
        let credentials = Credentials { access_key: "their-id".to_owned(), secret_key: "theirs".to_owned() };
        let store = Store { bucket: "elsewhere".to_owned(), credentials, ..wish(Some(Owner::Aws)).over(None) };
        for half in [keys, config(&store.document().unwrap())] {
            let finding = Found::on(&cluster([half.clone()]), &wish(None)).await.err().unwrap();
            assert_eq!(finding.id, Id::BackupConfigDamaged);
            assert_eq!(finding.cause, "a part of the configuration of backups is not there");
            // Whoever says where backups go needs none of it.
            assert!(Found::on(&cluster([half]), &wish(Some(Owner::Aws))).await.is_ok());
        }
    }

    #[tokio::test]
    async fn the_own_store_keeps_its_keys_where_the_stack_has_lost_them() {
        for own_secret in own_secrets() {
            for owner in [None, Some(Owner::Minio)] {
                assert_eq!(secret_key(&cluster([own_secret.clone()]), owner).await, "own", "{owner:?}");
            }
        }
    }
}
