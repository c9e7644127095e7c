//! From a client certificate or a bearer token to a user.

use std::sync::Arc;

use x509_parser::prelude::{FromDer, X509Certificate};

use super::tokens::{AUDIENCE, ServiceAccountTokens};
use crate::objects::{GroupResource, Objects};
use crate::status::Status;
use crate::user::UserInfo;

/// Tells who makes a request.
pub struct Authenticator {
    tokens: Arc<ServiceAccountTokens>,
    objects: Arc<dyn Objects>,
}

impl Authenticator {
    /// An authenticator that accepts tokens of `tokens` as long as what they are bound to is among `objects`.
    pub fn new(tokens: Arc<ServiceAccountTokens>, objects: Arc<dyn Objects>) -> Self {
        Self { tokens, objects }
    }

    /// The user behind a connection's certificate (DER, already verified against the cluster's CA by TLS) or behind a
    /// bearer token. As with kube-apiserver, the certificate goes first.
    ///
    /// # Errors
    /// 401 without credentials, and where those given are expired, forged, revoked, or of another audience.
    pub fn authenticate(&self, client_certificate: Option<&[u8]>, bearer: Option<&str>) -> Result<UserInfo, Status> {
        if let Some(user) = client_certificate.and_then(user_of_certificate) {
            return Ok(user);
        }
        if sabotage::sabotaged!("anonymous-is-admin") && bearer.is_none() {
            return Ok(UserInfo::master("nobody"));
        }
        let user = bearer.and_then(|token| self.user_of_token(token, &[AUDIENCE]));
        user.map(|(user, _)| user).ok_or_else(Status::unauthorized)
    }

    /// The user behind a token for one of these audiences (none: for the API server), and which of them it is for.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub fn review(&self, token: &str, audiences: &[&str]) -> Result<(UserInfo, Vec<String>), Status> {
        let audiences: &[&str] = if audiences.is_empty() { &[AUDIENCE] } else { audiences };
        self.user_of_token(token, audiences).ok_or_else(Status::unauthorized)
    }

    fn user_of_token(&self, token: &str, audiences: &[&str]) -> Option<(UserInfo, Vec<String>)> {
        let (claims, audiences) = self.tokens.verify_for(token, audiences).ok()?;
        let lives = |resource: &str, name: &str, uid: &str| {
            let object = self.objects.get(&GroupResource::new("", resource), Some(&claims.namespace), name);
            object.is_some_and(|object| object["metadata"]["uid"] == uid)
        };
        let account = lives("serviceaccounts", &claims.account.name, &claims.account.uid);
        let pod = claims.pod.as_ref().is_none_or(|pod| lives("pods", &pod.name, &pod.uid));
        let user = || UserInfo::service_account(&claims.namespace, &claims.account.name);
        (account && pod).then(|| (user(), audiences))
    }
}

/// Common name = user, organizations = groups (Kubernetes documentation, "Authenticating": X.509 client certificates).
/// A connection may outlive its certificate, so the validity is looked at once more.
fn user_of_certificate(der: &[u8]) -> Option<UserInfo> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    if !certificate.validity().is_valid() {
        return None;
    }
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    (!name.is_empty()).then(|| UserInfo::new(name, groups))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use serde_json::json;

    use super::super::fixture::{Fixture, token_request};
    use super::super::pki::Pki;
    use super::super::tokens::{Subject, TokenRequest};
    use super::*;

    fn account(uid: &str) -> Fixture {
        let object = json!({"metadata": {"namespace": "ns", "name": "app", "uid": uid}});
        Fixture::default().with("", "serviceaccounts", object)
    }

    fn tokens() -> Arc<ServiceAccountTokens> {
        Arc::new(ServiceAccountTokens::new([7; 32]))
    }

    #[test]
    fn a_certificate_names_user_and_groups() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open_or_create(dir.path(), &["127.0.0.1".to_owned()]).unwrap();
        let (certificate, _) = pki.issue_client("alice", &["dev", "ops"]).unwrap();
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let user = Authenticator::new(tokens(), Arc::new(Fixture::default())).authenticate(Some(&der), None).unwrap();
        assert_eq!(user, UserInfo::new("alice", ["dev", "ops"]));
    }

    #[test]
    fn nobody_and_nonsense_are_unauthorized() {
        let authenticator = Authenticator::new(tokens(), Arc::new(account("u1")));
        for (certificate, bearer) in [(None, None), (Some(&b"junk"[..]), None), (None, Some("a.b.c")), (None, Some(""))]
        {
            assert_eq!(authenticator.authenticate(certificate, bearer).unwrap_err().code(), 401);
        }
    }

    #[test]
    fn a_token_lives_as_long_as_its_account() {
        let token = tokens().issue_for(&token_request(Duration::from_secs(600))).unwrap().token;
        let user_with =
            |objects: Fixture| Authenticator::new(tokens(), Arc::new(objects)).authenticate(None, Some(&token));
        assert_eq!(user_with(account("u1")).unwrap(), UserInfo::service_account("ns", "app"));
        assert!(user_with(account("u2")).is_err(), "an account of the same name is another account");
        assert!(user_with(Fixture::default()).is_err());
    }

    #[test]
    fn a_token_of_a_pod_ends_with_the_pod() {
        let pod = Some(Subject { name: "p".to_owned(), uid: "p1".to_owned() });
        let request = TokenRequest { pod, ..token_request(Duration::from_secs(600)) };
        let token = tokens().issue_for(&request).unwrap().token;
        let with_pod = |uid: &str| {
            account("u1").with("", "pods", json!({"metadata": {"namespace": "ns", "name": "p", "uid": uid}}))
        };
        let user_with =
            |objects: Fixture| Authenticator::new(tokens(), Arc::new(objects)).authenticate(None, Some(&token));
        assert!(user_with(with_pod("p1")).is_ok());
        assert!(user_with(with_pod("p2")).is_err());
        assert!(user_with(account("u1")).is_err());
    }
}
