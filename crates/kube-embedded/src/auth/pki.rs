//! The cluster's certificate authority, its server certificate and the client certificates it issues.
//!
//! Keys are made once and kept; a certificate is written after its key, and is made again from the same key when it
//! nears its end or (the server's) when names change. So a crash at any point leaves a directory that opens again.
//! Files that are not ours are never overwritten.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::files;

const CA_LIFE: Duration = Duration::days(3650);
const SERVER_LIFE: Duration = Duration::days(730);
/// A server may run for a long time before it is started again, and only then are certificates looked at.
const RENEW_BEFORE: Duration = Duration::days(365);
/// Clocks that are a little behind shall not refuse a fresh certificate.
const BACKDATE: Duration = Duration::hours(1);

/// Why keys or certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("{path} can't be used")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is there but is not what it has to be. It was not touched.
    #[error("{path} {problem}; restore it, or delete the cluster and create it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        problem: &'static str,
    },
    /// A certificate or key can't be made.
    #[error("certificate can't be issued")]
    Issue(#[from] rcgen::Error),
    /// A client certificate can't name so many groups.
    #[error("a client certificate can be in at most {most} groups")]
    Organizations {
        /// How many it can name.
        most: usize,
    },
    /// TLS can't be set up with these certificates.
    #[error("TLS can't be set up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The certificate authority of one cluster.
pub struct Pki {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    server: Arc<rustls::ServerConfig>,
}

impl Pki {
    /// Opens the authority in `dir`, or makes it. `server_names` are the addresses and DNS names of the API server.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the file that is not ours, or that does not fit to the others.
    pub fn open_or_create(dir: &Path, server_names: &[String]) -> Result<Self, Error> {
        files::private_directory(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
        let ca = Authority::open_or_create(dir)?;
        let server = server_config(dir, &ca, server_names)?;
        Ok(Self { ca_pem: ca.pem, issuer: ca.issuer, server })
    }

    /// The authority's certificate, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// TLS of the API server: HTTP/2 and HTTP/1.1; a client certificate is optional, and verified if there is one.
    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.server)
    }

    /// A certificate for the user `common_name` in the groups `organizations` (two at most), and its key, both as PEM.
    /// Valid as long as a new authority would be; nothing is stored.
    ///
    /// # Errors
    /// [`Error::Issue`], [`Error::Organizations`].
    pub fn issue_client(
        &self,
        common_name: &str,
        organizations: &[impl AsRef<str>],
    ) -> Result<(String, String), Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = subject(common_name);
        if organizations.len() > ORGANIZATION.len() {
            return Err(Error::Organizations { most: ORGANIZATION.len() });
        }
        for (spelling, organization) in ORGANIZATION.iter().zip(organizations) {
            params.distinguished_name.push(spelling(), organization.as_ref());
        }
        leaf(&mut params, ExtendedKeyUsagePurpose::ClientAuth, CA_LIFE);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn open_or_create(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("ca.crt");
        let key_path = dir.join("ca.key");
        let existing = read(&path)?;
        if existing.is_some() && read(&key_path)?.is_none() {
            return Err(damaged(&key_path, "is missing, while ca.crt is there"));
        }
        let key = open_or_create_key(&key_path)?;
        if let Some(pem) = existing {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| damaged(&path, NOT_A_CERTIFICATE))?;
            let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| damaged(&path, NOT_A_CERTIFICATE))?;
            if !certificate.is_ca() {
                return Err(damaged(&path, "is not the certificate of an authority"));
            }
            if certificate.public_key().subject_public_key.data != key.public_key_raw() {
                return Err(damaged(&path, "does not belong to ca.key"));
            }
            if lives_long(&certificate) {
                let issuer = Issuer::from_ca_cert_der(&der, key)?;
                return Ok(Self { pem, der: der.clone(), issuer });
            }
        }
        Self::sign(&path, key)
    }

    /// The same key and name again: what the former certificate signed stays valid.
    fn sign(path: &Path, key: KeyPair) -> Result<Self, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = subject("kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, CA_LIFE);
        let certificate = params.self_signed(&key)?;
        write(path, &certificate.pem())?;
        Ok(Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) })
    }
}

fn server_config(dir: &Path, ca: &Authority, names: &[String]) -> Result<Arc<rustls::ServerConfig>, Error> {
    let key = open_or_create_key(&dir.join("server.key"))?;
    let path = dir.join("server.crt");
    let certificate = match read(&path)? {
        Some(pem) => reusable_server_certificate(&path, &pem, ca, &key, names)?,
        None => None,
    };
    let certificate = match certificate {
        Some(certificate) => certificate,
        None => {
            let mut params = CertificateParams::new(names.to_vec())?;
            params.distinguished_name = subject("kube-apiserver");
            leaf(&mut params, ExtendedKeyUsagePurpose::ServerAuth, SERVER_LIFE);
            let certificate = params.signed_by(&key, &ca.issuer)?;
            write(&path, &certificate.pem())?;
            certificate.der().clone()
        }
    };
    let tls = |error: &dyn std::error::Error| Error::Tls(error.to_string().into());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der.clone()).map_err(|error| tls(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| tls(&error))?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| Error::Tls(error.into()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], private)
        .map_err(|error| tls(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The stored server certificate, unless it has to be made again.
fn reusable_server_certificate(
    path: &Path,
    pem: &str,
    ca: &Authority,
    key: &KeyPair,
    names: &[String],
) -> Result<Option<CertificateDer<'static>>, Error> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| damaged(path, NOT_A_CERTIFICATE))?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| damaged(path, NOT_A_CERTIFICATE))?;
    let (_, authority) = X509Certificate::from_der(&ca.der).map_err(|_| damaged(path, NOT_A_CERTIFICATE))?;
    if certificate.public_key().subject_public_key.data != key.public_key_raw() {
        return Err(damaged(path, "does not belong to server.key"));
    }
    if certificate.verify_signature(Some(authority.public_key())).is_err() {
        return Err(damaged(path, "was not issued by ca.crt"));
    }
    let wanted: BTreeSet<String> = names.iter().cloned().collect();
    let reusable = lives_long(&certificate) && subject_names(&certificate) == wanted;
    Ok(reusable.then(|| der.clone()))
}

fn subject_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return BTreeSet::new();
    };
    let address = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}

fn lives_long(certificate: &X509Certificate<'_>) -> bool {
    let end = certificate.validity().not_after.timestamp();
    end > (OffsetDateTime::now_utc() + RENEW_BEFORE).unix_timestamp()
}

fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn leaf(params: &mut CertificateParams, usage: ExtendedKeyUsagePurpose, life: Duration) {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    validity(params, life);
}

fn validity(params: &mut CertificateParams, life: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now + life;
}

/// rcgen's names hold one value per type; an organization has two spellings, by name and by identifier (X.520: 2.5.4.10).
const ORGANIZATION: [fn() -> DnType; 2] = [|| DnType::OrganizationName, || DnType::CustomDnType(vec![2, 5, 4, 10])];

const NOT_A_CERTIFICATE: &str = "is not a certificate";

fn open_or_create_key(path: &Path) -> Result<KeyPair, Error> {
    if let Some(pem) = read(path)? {
        return KeyPair::from_pem(&pem).map_err(|_| damaged(path, "is not a private key"));
    }
    let key = KeyPair::generate()?;
    write(path, &key.serialize_pem())?;
    Ok(key)
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    files::read_private(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn write(path: &Path, content: &str) -> Result<(), Error> {
    files::write_private(path, content).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn damaged(path: &Path, problem: &'static str) -> Error {
    Error::Damaged { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn contents(dir: &Path) -> Vec<(String, String)> {
        let files = ["ca.crt", "ca.key", "server.crt", "server.key"];
        files.iter().map(|name| ((*name).to_owned(), fs_err::read_to_string(dir.join(name)).unwrap())).collect()
    }

    /// A TLS handshake in memory; answers what the server knows of the client.
    fn handshake(
        pki: &Pki,
        client: Option<(&str, &str)>,
        name: &str,
    ) -> Result<Option<CertificateDer<'static>>, String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pki.ca_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        let mut client = rustls::ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut server = rustls::ServerConnection::new(pki.server_config()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().map_err(|error| error.to_string())?;
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets().map_err(|error| error.to_string())?;
        }
        Ok(server.peer_certificates().map(|chain| chain[0].clone().into_owned()))
    }

    #[test]
    fn server_and_client_trust_each_other_and_no_one_else() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pki = Pki::open_or_create(here.path(), &names(&["127.64.0.1", "kubernetes.default.svc"])).unwrap();
        let (certificate, key) = pki.issue_client("admin", &["system:masters"]).unwrap();
        let seen = handshake(&pki, Some((&certificate, &key)), "127.64.0.1").unwrap().unwrap();
        assert_eq!(seen, CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap());
        assert!(handshake(&pki, None, "kubernetes.default.svc").unwrap().is_none());
        assert!(handshake(&pki, None, "127.0.0.1").is_err(), "a name the certificate doesn't have");

        let foreign = Pki::open_or_create(there.path(), &names(&["127.64.0.1"])).unwrap();
        let (certificate, key) = foreign.issue_client("admin", &["system:masters"]).unwrap();
        assert!(handshake(&pki, Some((&certificate, &key)), "127.64.0.1").is_err());
    }

    #[test]
    fn opening_again_changes_nothing_and_everything_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let pki_dir = dir.path().join("pki");
        let first = Pki::open_or_create(&pki_dir, &names(&["127.0.0.1", "::1", "localhost"])).unwrap();
        let before = contents(&pki_dir);
        let (certificate, key) = first.issue_client("a", &["b"]).unwrap();
        let second = Pki::open_or_create(&pki_dir, &names(&["localhost", "127.0.0.1", "::1"])).unwrap();
        assert_eq!(before, contents(&pki_dir));
        assert!(handshake(&second, Some((&certificate, &key)), "localhost").is_ok());

        let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&pki_dir), 0o700);
        for (name, _) in before {
            assert_eq!(mode(&pki_dir.join(name)), 0o600);
        }
    }

    #[test]
    fn new_names_need_a_new_certificate_but_no_new_keys() {
        let dir = tempfile::tempdir().unwrap();
        Pki::open_or_create(dir.path(), &names(&["127.0.0.1"])).unwrap();
        let before = contents(dir.path());
        let pki = Pki::open_or_create(dir.path(), &names(&["127.64.16.1"])).unwrap();
        let changed: Vec<_> =
            before.iter().zip(contents(dir.path())).filter(|(a, b)| **a != *b).map(|(a, _)| a.0.clone()).collect();
        assert_eq!(changed, ["server.crt"]);
        assert!(handshake(&pki, None, "127.64.16.1").is_ok());
    }

    #[test]
    fn a_certificate_that_nears_its_end_is_made_again_from_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open_or_create(dir.path(), &names(&["127.0.0.1"])).unwrap();
        let key = KeyPair::from_pem(&fs_err::read_to_string(dir.path().join("server.key")).unwrap()).unwrap();
        let mut params = CertificateParams::new(names(&["127.0.0.1"])).unwrap();
        leaf(&mut params, ExtendedKeyUsagePurpose::ServerAuth, Duration::days(20));
        let old = params.signed_by(&key, &pki.issuer).unwrap().pem();
        fs_err::write(dir.path().join("server.crt"), &old).unwrap();

        let ca_key = KeyPair::from_pem(&fs_err::read_to_string(dir.path().join("ca.key")).unwrap()).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = subject("kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        validity(&mut params, Duration::days(20));
        fs_err::write(dir.path().join("ca.crt"), params.self_signed(&ca_key).unwrap().pem()).unwrap();

        let (certificate, client_key) = pki.issue_client("a", &["b"]).unwrap();
        let renewed = Pki::open_or_create(dir.path(), &names(&["127.0.0.1"])).unwrap();
        assert_ne!(old, fs_err::read_to_string(dir.path().join("server.crt")).unwrap());
        assert!(
            handshake(&renewed, Some((&certificate, &client_key)), "127.0.0.1").is_ok(),
            "issued before the renewal"
        );
    }

    #[test]
    fn a_crash_between_key_and_certificate_is_made_good() {
        for lost in [&["ca.crt", "server.crt", "server.key"][..], &["server.crt"], &["server.crt", "server.key"]] {
            let dir = tempfile::tempdir().unwrap();
            Pki::open_or_create(dir.path(), &names(&["127.0.0.1"])).unwrap();
            for name in lost {
                fs_err::remove_file(dir.path().join(name)).unwrap();
            }
            let pki = Pki::open_or_create(dir.path(), &names(&["127.0.0.1"])).unwrap();
            assert!(handshake(&pki, None, "127.0.0.1").is_ok());
        }
    }

    #[test]
    fn damaged_and_foreign_files_are_named_and_left_alone() {
        let other = tempfile::tempdir().unwrap();
        Pki::open_or_create(other.path(), &names(&["127.0.0.1"])).unwrap();
        for file in ["ca.crt", "ca.key", "server.crt", "server.key"] {
            let foreign = fs_err::read(other.path().join(file)).unwrap();
            for content in [&b"garbage"[..], b"", &[0xff, 0, 0x80], &foreign] {
                let dir = tempfile::tempdir().unwrap();
                Pki::open_or_create(dir.path(), &names(&["127.0.0.1"])).unwrap();
                fs_err::write(dir.path().join(file), content).unwrap();
                let error = Pki::open_or_create(dir.path(), &names(&["127.0.0.1"])).err().unwrap().to_string();
                let pair = file.replace(".key", ".crt");
                assert!(error.contains(file) || error.contains(&pair), "{file}: {error}");
                assert_eq!(fs_err::read(dir.path().join(file)).unwrap(), content);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        Pki::open_or_create(dir.path(), &names(&["127.0.0.1"])).unwrap();
        fs_err::remove_file(dir.path().join("ca.key")).unwrap();
        let error = Pki::open_or_create(dir.path(), &names(&["127.0.0.1"])).err().unwrap();
        assert!(error.to_string().contains("ca.key"), "{error}");
        assert!(!dir.path().join("ca.key").exists());
    }

    #[test]
    fn two_groups_fit_into_a_certificate_and_a_third_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open_or_create(dir.path(), &names(&["127.0.0.1"])).unwrap();
        assert!(pki.issue_client("a", &["b", "c"]).is_ok());
        assert!(matches!(pki.issue_client("a", &["b", "c", "d"]), Err(Error::Organizations { most: 2 })));
    }
}
