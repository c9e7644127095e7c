//! What the volumes and environments of a pod are made from: ConfigMaps, Secrets and tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount, VolumeProjection};
use kube::Api;

use super::Error;
use crate::auth::tokens::{self, ServiceAccountTokens, Subject, TokenRequest};
use crate::node::environment::{self, Data, Sources};

/// The ConfigMap with the cluster's certificate authority that every namespace has.
const ROOT_CA: &str = "kube-root-ca.crt";

/// The objects a pod names; `None` for those that do not exist.
#[derive(Debug, Default)]
pub struct Material {
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, Option<ConfigMap>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Option<Secret>>,
}

impl Material {
    /// Names of the ConfigMaps and Secrets a pod needs.
    pub fn names(pod: &Pod) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
        let Some(spec) = &pod.spec else { return (config_maps, secrets) };
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            let (maps, others) = environment::references(container);
            config_maps.extend(maps);
            secrets.extend(others);
        }
        for volume in spec.volumes.iter().flatten() {
            config_maps.extend(volume.config_map.as_ref().map(|source| source.name.clone()));
            secrets.extend(volume.secret.as_ref().and_then(|source| source.secret_name.clone()));
            let projected = volume.projected.as_ref().and_then(|source| source.sources.as_ref());
            for source in projected.into_iter().flatten() {
                config_maps.extend(source.config_map.as_ref().map(|source| source.name.clone()));
                secrets.extend(source.secret.as_ref().map(|source| source.name.clone()));
            }
        }
        (config_maps, secrets)
    }

    /// Fetches what a pod needs.
    ///
    /// # Errors
    /// When the API does not answer; a missing object is no error here.
    pub async fn fetch(client: &kube::Client, pod: &Pod, ca_pem: &str) -> Result<Self, Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let (config_maps, secrets) = Self::names(pod);
        let mut material = Self::default();
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        for name in config_maps {
            let mut found = maps.get_opt(&name).await?;
            if name == ROOT_CA && found.is_none() {
                // A new namespace gets it a moment later; its content is known.
                let data = [("ca.crt".to_owned(), ca_pem.to_owned())].into();
                found = Some(ConfigMap { data: Some(data), ..ConfigMap::default() });
            }
            material.config_maps.insert(name, found);
        }
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        for name in secrets {
            let found = api.get_opt(&name).await?;
            material.secrets.insert(name, found);
        }
        Ok(material)
    }

    /// The same, as environments can have it: texts only.
    pub fn sources(&self, services: Data) -> Sources {
        let config_maps = self
            .config_maps
            .iter()
            .map(|(name, map)| (name.clone(), map.as_ref().map(|map| map.data.clone().unwrap_or_default())));
        let secrets = self.secrets.iter().map(|(name, secret)| (name.clone(), secret.as_ref().map(texts)));
        Sources { config_maps: config_maps.collect(), secrets: secrets.collect(), services }
    }
}

fn texts(secret: &Secret) -> Data {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned())).collect()
}

/// For whom a token is (empty: the API server), and how long.
type Wanted = (String, Duration);

/// Tokens of a pod's ServiceAccount. Each is renewed when four fifths of its life are over, by the clock that it ends
/// by: that goes on while the machine sleeps.
#[derive(Default)]
pub struct Tokens {
    held: BTreeMap<Wanted, (String, Timestamp)>,
    account: Option<String>,
}

impl Tokens {
    /// Makes sure that the pod's projected tokens are fresh. Answers when they have to be looked at again.
    ///
    /// # Errors
    /// A missing ServiceAccount, or a refusal of the issuer.
    pub async fn refresh(
        &mut self,
        client: &kube::Client,
        issuer: &ServiceAccountTokens,
        pod: &Pod,
    ) -> Result<Option<Timestamp>, Error> {
        let all: BTreeSet<Wanted> = projections(pod).filter_map(wanted).collect();
        if all.is_empty() {
            return Ok(None);
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let name = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let now = Timestamp::now();
        let mut renewed = false;
        for wanted in all {
            if self.held.get(&wanted).is_some_and(|(_, renew)| *renew > now) {
                continue;
            }
            if self.account.is_none() {
                let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
                let found = accounts.get_opt(name).await?;
                let account = found.ok_or_else(|| Error::Source(format!("serviceaccount \"{name}\" not found")))?;
                self.account = account.metadata.uid;
            }
            let uid = self.account.as_deref().unwrap_or_default();
            let request = TokenRequest {
                namespace: namespace.to_owned(),
                account: Subject { name: name.to_owned(), uid: uid.to_owned() },
                pod: pod.metadata.name.clone().zip(pod.metadata.uid.clone()).map(|(name, uid)| Subject { name, uid }),
                audiences: Some(wanted.0.clone()).filter(|audience| !audience.is_empty()).into_iter().collect(),
                ttl: wanted.1,
            };
            let issued = issuer.issue_for(&request).map_err(|error| Error::Source(error.to_string()))?;
            let renew = now + wanted.1 / 5 * 4;
            self.held.insert(wanted, (issued.token, renew));
            // The account may be made anew before the next time.
            renewed = true;
        }
        if renewed {
            self.account = None;
        }
        Ok(self.held.values().map(|(_, renew)| *renew).min())
    }

    /// The token for a projection.
    pub(super) fn get(&self, projection: &VolumeProjection) -> Option<&str> {
        self.held.get(&wanted(projection)?).map(|(token, _)| token.as_str())
    }
}

fn projections(pod: &Pod) -> impl Iterator<Item = &VolumeProjection> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| volume.projected.as_ref()?.sources.as_ref()).flatten()
}

/// The token of a projection: valid for an hour unless it says otherwise. A pod may be older than the rule for that.
fn wanted(projection: &VolumeProjection) -> Option<Wanted> {
    let token = projection.service_account_token.as_ref()?;
    let seconds = token.expiration_seconds.unwrap_or(3600).clamp(tokens::SHORTEST, tokens::LONGEST);
    Some((token.audience.clone().unwrap_or_default(), Duration::from_secs(seconds.unsigned_abs())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A client of an API that has one account.
    fn client() -> kube::Client {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            let account = json!({"metadata": {"name": "default", "uid": "2"}}).to_string();
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::from(account.into_bytes())))
        });
        kube::Client::new(service, "default")
    }

    fn pod(expiration: Option<i64>) -> Pod {
        let source = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": expiration}});
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "1"},
            "spec": {"containers": [], "volumes": [{"name": "v", "projected": {"sources": [source]}}]},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_token_of_any_length_is_issued_and_renewed_in_time() {
        let issuer = ServiceAccountTokens::new([7; 32]);
        for (asked, given) in [(None, 3600), (Some(i64::MAX), 1 << 32), (Some(i64::MIN), 600), (Some(700), 700)] {
            let before = Timestamp::now();
            let renew = Tokens::default().refresh(&client(), &issuer, &pod(asked)).await.unwrap().unwrap();
            let life = Duration::from_secs(given);
            assert!(renew >= before + life / 2 && renew < Timestamp::now() + life, "{asked:?}");
        }
    }

    #[tokio::test]
    async fn a_token_that_grew_old_while_the_machine_slept_is_renewed() {
        let (issuer, pod, mut tokens) = (ServiceAccountTokens::new([7; 32]), pod(None), Tokens::default());
        let renewed = async |tokens: &mut Tokens| {
            let before = tokens.held.values().next().map(|(token, _)| token.clone());
            tokens.refresh(&client(), &issuer, &pod).await.unwrap();
            tokens.held.values().next().map(|(token, _)| token.clone()) != before
        };
        assert!(renewed(&mut tokens).await && !renewed(&mut tokens).await);
        // The clock has moved on, and no timer with it.
        for (_, renew) in tokens.held.values_mut() {
            *renew = Timestamp::now() - Duration::from_secs(1);
        }
        assert!(renewed(&mut tokens).await);
    }
}
