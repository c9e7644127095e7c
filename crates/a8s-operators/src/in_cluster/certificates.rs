//! The certificate of admission: made here, kept in a Secret, renewed before it ends.
//!
//! The API server must trust a certificate before it is served, and the one before for as long as it may still be
//! served. So the bundle in the webhook's configuration has the new authority and the one before it, and the server
//! changes its certificate a look after the configuration was patched: API servers hear of that one after the other.

use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::json;

use super::documents::{SERVICE, WEBHOOK};
use crate::SYSTEM_NAMESPACE;
use crate::chain;

/// Secret of the certificate, named as the released stack's.
pub(super) const SECRET: &str = "pg-webhook-server-cert";
const DAY: Duration = Duration::from_secs(24 * 3600);
const LIFETIME: Duration = DAY.saturating_mul(365);
/// How long before its end a certificate is replaced.
const MARGIN: Duration = DAY.saturating_mul(60);
/// Clocks of API servers may be behind.
const SKEW: Duration = DAY;
/// Notes when a certificate ends, in seconds since 1970, so that nobody has to parse one.
const END: &str = "not-after";
const FIELD_MANAGER: &str = "a9s-operators";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot make the certificate of admission")]
    Make(#[source] rcgen::Error),
    #[error("the certificate of admission in the Secret {SECRET} cannot be used")]
    Use,
    #[error("cannot {0} the Secret {SECRET}")]
    Secret(&'static str, #[source] kube::Error),
    #[error("cannot tell the API server whom to trust")]
    Webhook(#[source] kube::Error),
}

/// A certificate with its key and the authorities to trust, all PEM.
#[derive(Clone, PartialEq, Eq)]
struct Material {
    /// The certificate's authority first, then the one before it.
    authorities: String,
    certificate: String,
    key: String,
    end: SystemTime,
}

impl Material {
    fn make(before: Option<&Self>, now: SystemTime) -> Result<Self, rcgen::Error> {
        let (not_before, not_after) = ((now - SKEW).into(), (now + LIFETIME).into());
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "a9s admission");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (authority.not_before, authority.not_after) = (not_before, not_after);
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let service = format!("{SERVICE}.{SYSTEM_NAMESPACE}.svc");
        let mut leaf = CertificateParams::new(vec![service.clone(), format!("{service}.cluster.local")])?;
        leaf.distinguished_name.push(DnType::CommonName, service);
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (leaf.not_before, leaf.not_after) = (not_before, not_after);
        let key = KeyPair::generate()?;
        // The authority's key is not kept: nothing else will ever be signed with it.
        let certificate = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?.pem();
        let first = before.map(|before| first_of(&before.authorities)).unwrap_or_default();
        let authorities = format!("{authority_pem}{first}");
        Ok(Self { authorities, certificate, key: key.serialize_pem(), end: now + LIFETIME })
    }

    fn is_good(&self, now: SystemTime) -> bool {
        now + MARGIN < self.end && self.certified().is_ok()
    }

    fn certified(&self) -> Result<CertifiedKey, Error> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(|_| Error::Use)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| Error::Use)?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(vec![certificate], key, &provider).map_err(|_| Error::Use)
    }

    fn of_secret(secret: &Secret) -> Option<Self> {
        let text = |key: &str| String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok();
        let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(text(END)?.parse().ok()?))?;
        Some(Self { authorities: text("ca.crt")?, certificate: text("tls.crt")?, key: text("tls.key")?, end })
    }

    fn into_secret(self, mut secret: Secret) -> Secret {
        let seconds = self.end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let entries =
            [("ca.crt", self.authorities), ("tls.crt", self.certificate), ("tls.key", self.key), (END, seconds)];
        let data = entries.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
        secret.metadata.name = Some(SECRET.to_owned());
        secret.data = Some(data.into());
        secret
    }
}

/// The first certificate of a bundle.
fn first_of(bundle: &str) -> String {
    const LAST_LINE: &str = "-----END CERTIFICATE-----";
    bundle.find(LAST_LINE).map(|at| format!("{}\n", &bundle[..at + LAST_LINE.len()])).unwrap_or_default()
}

/// The certificate that is served now.
pub(super) struct Current {
    served: Arc<Served>,
    material: Material,
}

#[derive(Debug)]
struct Served(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }
}

impl Current {
    /// The first certificate. Tries until there is one: rights and the API server may come later than the pod.
    pub(super) async fn first(client: &Client, again: Duration) -> Self {
        loop {
            match Box::pin(look(client, None)).await {
                Ok(Look { material, certified, .. }) => {
                    return Self { served: Arc::new(Served(RwLock::new(Arc::new(certified)))), material };
                }
                Err(error) => tracing::warn!("{}", chain(&error)),
            }
            tokio::time::sleep(again).await;
        }
    }

    /// How TLS is served with whatever certificate is the current one.
    pub(super) fn config(&self) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has the ciphers of its own default versions");
        Arc::new(builder.with_no_client_auth().with_cert_resolver(self.served.clone()))
    }

    /// Looks after it for ever: it is renewed in time, and the API server is told again if somebody changed that.
    pub(super) async fn keep(mut self, client: Client, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.renew(&client).await {
                tracing::warn!("{}", chain(&error));
            }
        }
    }

    /// One look. What the API server was told in it is served after the next, as long as what is served now is trusted.
    async fn renew(&mut self, client: &Client) -> Result<(), Error> {
        let Look { material, certified, is_news } = look(client, Some(&self.material)).await?;
        let is_trusted = material.authorities.contains(&first_of(&self.material.authorities));
        if !is_news || !is_trusted {
            *self.served.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(certified);
            self.material = material;
        }
        Ok(())
    }
}

/// What there is after a look.
struct Look {
    material: Material,
    certified: CertifiedKey,
    /// Whether the API server was told just now whom to trust.
    is_news: bool,
}

/// Sees to it that there is a good certificate and that the API server trusts it.
async fn look(client: &Client, served: Option<&Material>) -> Result<Look, Error> {
    let material = ensure(client, served).await?;
    let certified = material.certified()?;
    let is_news = trust(client, &material.authorities).await?;
    Ok(Look { material, certified, is_news })
}

async fn ensure(client: &Client, served: Option<&Material>) -> Result<Material, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let there = api.get_opt(SECRET).await.map_err(|error| Error::Secret("read", error))?;
    let now = SystemTime::now();
    let found = there.as_ref().and_then(Material::of_secret);
    if let Some(good) = found.clone().filter(|material| material.is_good(now)) {
        return Ok(good);
    }
    // Somebody may have emptied the Secret: what is served is still to be trusted.
    let material = Material::make(served.or(found.as_ref()), now).map_err(Error::Make)?;
    let parameters = PostParams::default();
    match there {
        // It comes with the stack; somebody has deleted it.
        None => {
            let secret = material.clone().into_secret(Secret { type_: Some("Opaque".to_owned()), ..Secret::default() });
            api.create(&parameters, &secret).await.map_err(|error| Error::Secret("create", error))?;
        }
        Some(secret) => {
            api.replace(SECRET, &parameters, &material.clone().into_secret(secret))
                .await
                .map_err(|error| Error::Secret("update", error))?;
        }
    }
    tracing::info!("a new certificate of admission");
    Ok(material)
}

/// Tells the API server whom to trust, and whether it had to be told.
async fn trust(client: &Client, authorities: &str) -> Result<bool, Error> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let bundle = ByteString(authorities.as_bytes().to_vec());
    let there = api.get(WEBHOOK).await.map_err(Error::Webhook)?;
    let webhooks = there.webhooks.unwrap_or_default();
    if webhooks.iter().all(|webhook| webhook.client_config.ca_bundle.as_ref() == Some(&bundle)) {
        return Ok(false);
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(authorities);
    let patched: Vec<_> =
        webhooks.iter().map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": encoded}})).collect();
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Strategic(json!({"webhooks": patched}));
    api.patch(WEBHOOK, &parameters, &patch).await.map(|_| true).map_err(Error::Webhook)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    /// What an API server has: the Secret, and the configuration of the webhook.
    type Kept = Arc<Mutex<[Value; 2]>>;

    async fn answer(kept: Kept, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let which = usize::from(!request.uri().path().contains("/secrets"));
        let method = request.method().clone();
        let sent = request.into_body().collect_bytes().await.expect("a body");
        let mut kept = kept.lock().expect("not poisoned");
        match method {
            Method::PUT => kept[which] = serde_json::from_slice(&sent).expect("JSON"),
            Method::PATCH => {
                let patch: Value = serde_json::from_slice(&sent).expect("JSON");
                let bundle = &patch["webhooks"][0]["clientConfig"]["caBundle"];
                kept[which]["webhooks"][0]["clientConfig"]["caBundle"] = bundle.clone();
            }
            _ => {}
        }
        let body = Body::from(kept[which].to_string().into_bytes());
        Ok(Response::builder().body(body).expect("a response"))
    }

    #[tokio::test]
    async fn a_new_certificate_is_served_a_look_after_the_api_server_was_told_of_it() {
        let empty = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}});
        let webhook = json!({"metadata": {"name": WEBHOOK}, "webhooks": [
            {"name": "w", "clientConfig": {}, "admissionReviewVersions": ["v1"], "sideEffects": "None"},
        ]});
        let kept: Kept = Arc::new(Mutex::new([empty.clone(), webhook]));
        let server = kept.clone();
        let service = tower::service_fn(move |request: Request<Body>| answer(server.clone(), request));
        let client = Client::new(service, SYSTEM_NAMESPACE);
        let mut current = Current::first(&client, Duration::ZERO).await;
        let first = current.material.authorities.clone();
        current.renew(&client).await.expect("it is there");
        assert_eq!(current.material.authorities, first);
        let earlier = kept.lock().expect("not poisoned")[0].clone();

        kept.lock().expect("not poisoned")[0] = empty;
        current.renew(&client).await.expect("another is made");
        let bundle = kept.lock().expect("not poisoned")[1]["webhooks"][0]["clientConfig"]["caBundle"].clone();
        let bundle: ByteString = serde_json::from_value(bundle).expect("a bundle");
        let bundle = String::from_utf8(bundle.0).expect("PEM");
        assert!(bundle.len() > first.len() && bundle.ends_with(&first));
        assert_eq!(current.material.authorities, first, "not every API server trusts the new one");

        current.renew(&client).await.expect("it is there");
        assert_eq!(current.material.authorities, bundle);
        let served = current.served.0.read().expect("not poisoned").cert.clone();
        assert_eq!(served, current.material.certified().expect("usable").cert);

        // Whoever puts back what there was before takes the trust from what is served.
        kept.lock().expect("not poisoned")[0] = earlier;
        current.renew(&client).await.expect("it is good");
        assert_eq!(current.material.authorities, first);
    }

    #[test]
    fn a_certificate_is_good_until_it_nears_its_end() {
        let now = SystemTime::now();
        let material = Material::make(None, now).expect("made");
        assert!(material.is_good(now));
        assert!(!material.is_good(now + LIFETIME - MARGIN + DAY));
        let broken = Material { key: "rubbish".to_owned(), ..material };
        assert!(!broken.is_good(now));
    }

    #[test]
    fn the_authority_before_is_still_trusted_and_the_one_before_that_is_not() {
        let now = SystemTime::now();
        let first = Material::make(None, now).expect("made");
        let second = Material::make(Some(&first), now).expect("made");
        let third = Material::make(Some(&second), now).expect("made");
        let count = |text: &str| text.matches("BEGIN CERTIFICATE").count();
        assert_eq!((count(&first.authorities), count(&second.authorities), count(&third.authorities)), (1, 2, 2));
        assert!(second.authorities.ends_with(&first.authorities));
        assert!(!third.authorities.contains(&first.authorities));
    }

    #[test]
    fn what_a_secret_holds_is_what_was_put_into_it() {
        let material = Material::make(None, SystemTime::UNIX_EPOCH + DAY * 20_000).expect("made");
        let mut secret = material.clone().into_secret(Secret::default());
        assert!(Material::of_secret(&secret) == Some(material));
        let data = secret.data.as_mut().expect("what was put into it");
        data.insert(END.to_owned(), ByteString(u64::MAX.to_string().into_bytes()));
        assert!(Material::of_secret(&secret).is_none(), "no clock reaches that end");
        assert!(Material::of_secret(&Secret::default()).is_none());
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_bundle_accepts_the_certificate_for_the_service() {
        let material = Material::make(None, SystemTime::now()).expect("made");
        let served = Arc::new(Served(RwLock::new(Arc::new(material.certified().expect("usable")))));
        let acceptor = tokio_rustls::TlsAcceptor::from(Current { served, material: material.clone() }.config());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(material.authorities.as_bytes()).expect("PEM")).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (here, there) = tokio::io::duplex(16 << 10);
        let name = format!("{SERVICE}.{SYSTEM_NAMESPACE}.svc").try_into().expect("a name");
        let client = tokio_rustls::TlsConnector::from(Arc::new(config));
        let (accepted, connected) = tokio::join!(acceptor.accept(there), client.connect(name, here));
        assert!(accepted.is_ok() && connected.is_ok());
    }
}
