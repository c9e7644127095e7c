//! Bearer tokens of ServiceAccounts: JWTs (RFC 7519) signed with HMAC-SHA256 (RFC 7515, `HS256`), with the claims that
//! Kubernetes gives a bound token ("Managing Service Accounts": bound service account tokens).
//!
//! Whether the account still exists is the [`super::Authenticator`]'s question.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::files;

/// The audience of tokens for the API server itself, and their issuer.
pub const AUDIENCE: &str = "https://kubernetes.default.svc";

/// The shortest life of a token that can be asked for, in seconds.
pub const SHORTEST: i64 = 600;
/// The longest one.
pub const LONGEST: i64 = 1 << 32;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Why there is no token, or why one is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key file can't be read or written.
    #[error("the key of the service account tokens, {path}, can't be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The key file is there but is not a key.
    #[error("{path} is not a key for service account tokens (64 hexadecimal digits)")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The claims can't be written as JSON.
    #[error("token can't be encoded")]
    Encode(#[source] serde_json::Error),
    /// The text is not a token of ours, or it was changed.
    #[error("invalid bearer token")]
    Invalid,
    /// The token is past its time.
    #[error("service account token has expired")]
    Expired,
    /// The token is for somebody else than who asks.
    #[error("token audiences do not include any of those that are wanted")]
    Audience,
}

/// A named object of one life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Its `metadata.uid`.
    pub uid: String,
}

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// The namespace of account and pod.
    pub namespace: String,
    /// The ServiceAccount.
    pub account: Subject,
    /// The pod with whose end the token ends.
    pub pod: Option<Subject>,
    /// Who shall accept it; empty: the API server.
    pub audiences: Vec<String>,
    /// How long it is valid.
    pub ttl: Duration,
}

/// A signed token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The compact form, as it stands behind `Bearer`.
    pub token: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The namespace of account and pod.
    pub namespace: String,
    /// The ServiceAccount.
    pub account: Subject,
    /// The pod it is bound to.
    pub pod: Option<Subject>,
}

/// Issues and verifies tokens with one secret key.
pub struct ServiceAccountTokens {
    key: Hmac<Sha256>,
}

impl ServiceAccountTokens {
    /// Uses the key in `<dir>/service-account.key`, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Damaged`] for a file that is not such a key; it is left as it is.
    pub fn open_or_create(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("service-account.key");
        let io = |source| Error::Io { path: path.clone(), source };
        files::private_directory(dir).map_err(io)?;
        if let Some(text) = files::read_private(&path).map_err(io)? {
            let key = from_hexadecimal(text.trim()).ok_or_else(|| Error::Damaged { path: path.clone() })?;
            return Ok(Self::new(key));
        }
        let key: [u8; 32] = rand::random();
        let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        files::write_private(&path, &(text + "\n")).map_err(io)?;
        Ok(Self::new(key))
    }

    /// Uses the given key.
    pub fn new(key: [u8; 32]) -> Self {
        // RFC 2104: a key shorter than the hash's block is filled up with zeros.
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(&key);
        Self { key: Hmac::new(&block.into()) }
    }

    /// A token as asked for.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn issue_for(&self, request: &TokenRequest) -> Result<Token, Error> {
        let now = Timestamp::now().as_second();
        let expires = now.saturating_add(i64::try_from(request.ttl.as_secs()).unwrap_or(i64::MAX));
        let audiences =
            if request.audiences.is_empty() { vec![AUDIENCE.to_owned()] } else { request.audiences.clone() };
        let payload = Payload {
            aud: audiences,
            exp: expires,
            iat: now,
            iss: AUDIENCE.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            bound: Bound {
                namespace: request.namespace.clone(),
                pod: request.pod.clone(),
                serviceaccount: request.account.clone(),
            },
            nbf: now,
            sub: format!("system:serviceaccount:{}:{}", request.namespace, request.account.name),
        };
        let payload = serde_json::to_vec(&payload).map_err(Error::Encode)?;
        let signed = format!("{}.{}", BASE64URL.encode(HEADER), BASE64URL.encode(payload));
        let signature = self.key.clone().chain_update(&signed).finalize().into_bytes();
        Ok(Token {
            token: format!("{signed}.{}", BASE64URL.encode(signature)),
            expires: Timestamp::from_second(expires).unwrap_or(Timestamp::MAX),
        })
    }

    /// What a token says, if it is ours, for the API server, and within its time.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Expired`], [`Error::Audience`].
    pub fn verify(&self, token: &str) -> Result<Claims, Error> {
        self.verify_for(token, &[AUDIENCE]).map(|(claims, _)| claims)
    }

    /// As [`Self::verify`], for others than the API server. Answers also which of them the token is for.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_for(&self, token: &str, audiences: &[&str]) -> Result<(Claims, Vec<String>), Error> {
        let payload = self.signed_payload(token).ok_or(Error::Invalid)?;
        let now = Timestamp::now().as_second();
        // Clocks are the same machine's; only a step backwards could make a fresh token look like one of the future.
        if now >= payload.exp {
            return Err(Error::Expired);
        }
        let meant: Vec<String> =
            payload.aud.into_iter().filter(|audience| audiences.contains(&audience.as_str())).collect();
        if meant.is_empty() {
            return Err(Error::Audience);
        }
        let Bound { namespace, pod, serviceaccount } = payload.bound;
        Ok((Claims { namespace, account: serviceaccount, pod }, meant))
    }

    fn signed_payload(&self, token: &str) -> Option<Payload> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let signature = BASE64URL.decode(signature).ok()?;
        // `verify_slice` compares in constant time. The header is one constant text, so no other algorithm can be named.
        self.key.clone().chain_update(signed).verify_slice(&signature).ok()?;
        (BASE64URL.decode(header).ok()? == HEADER.as_bytes()).then_some(())?;
        serde_json::from_slice(&BASE64URL.decode(payload).ok()?).ok()
    }
}

#[derive(Serialize, Deserialize)]
struct Payload {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    bound: Bound,
    nbf: i64,
    sub: String,
}

#[derive(Serialize, Deserialize)]
struct Bound {
    namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Subject>,
    serviceaccount: Subject,
}

fn from_hexadecimal(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut key = [0; 32];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::fixture::token_request;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_token_says_what_was_asked() {
        let tokens = ServiceAccountTokens::new([1; 32]);
        let token = tokens.issue_for(&token_request(HOUR)).unwrap();
        let claims = tokens.verify(&token.token).unwrap();
        let account = Subject { name: "app".to_owned(), uid: "u1".to_owned() };
        assert_eq!(claims, Claims { namespace: "ns".to_owned(), account, pod: None });
        assert!(token.expires > Timestamp::now());
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let tokens = ServiceAccountTokens::new([1; 32]);
        let token = tokens.issue_for(&token_request(HOUR)).unwrap().token;
        for position in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[position] = if forged[position] == b'A' { b'Q' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(tokens.verify(&forged).is_err(), "position {position}");
        }
        assert!(ServiceAccountTokens::new([2; 32]).verify(&token).is_err());
    }

    #[test]
    fn a_token_ends() {
        let tokens = ServiceAccountTokens::new([1; 32]);
        let token = tokens.issue_for(&token_request(Duration::ZERO)).unwrap().token;
        assert!(matches!(tokens.verify(&token), Err(Error::Expired)));
    }

    #[test]
    fn a_token_for_others_is_not_for_the_api_server() {
        let tokens = ServiceAccountTokens::new([1; 32]);
        let audiences = vec!["vault".to_owned(), "store".to_owned()];
        let request = TokenRequest { audiences, ..token_request(HOUR) };
        let token = tokens.issue_for(&request).unwrap().token;
        assert!(matches!(tokens.verify(&token), Err(Error::Audience)));
        let (claims, meant) = tokens.verify_for(&token, &["other", "store", AUDIENCE]).unwrap();
        assert_eq!((claims.account, meant), (request.account, vec!["store".to_owned()]));
    }

    #[test]
    fn the_key_is_kept_private_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = ServiceAccountTokens::open_or_create(dir.path()).unwrap();
        let token = first.issue_for(&token_request(HOUR)).unwrap().token;
        assert!(ServiceAccountTokens::open_or_create(dir.path()).unwrap().verify(&token).is_ok());

        let path = dir.path().join("service-account.key");
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs_err::write(&path, "not a key").unwrap();
        let error = ServiceAccountTokens::open_or_create(dir.path()).err().unwrap();
        assert!(error.to_string().contains("service-account.key"), "{error}");
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "not a key");
    }
}
