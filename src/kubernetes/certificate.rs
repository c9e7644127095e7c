//! Client certificates of a kubeconfig. An API server says no more of one that has expired than of a wrong one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube::config::AuthInfo;
use x509_parser::pem::Pem;

/// When the client certificate of a user has expired, if it has. One that can't be read is for the client to refuse.
pub fn expired(user: &AuthInfo) -> Option<Timestamp> {
    let pem = match (&user.client_certificate_data, &user.client_certificate) {
        (Some(data), _) => STANDARD.decode(data).ok()?,
        (None, Some(path)) => fs_err::read(path).ok()?,
        (None, None) => return None,
    };
    let pem = Pem::iter_from_buffer(&pem).next()?.ok()?;
    let end = pem.parse_x509().ok()?.validity().not_after.timestamp();
    Timestamp::from_second(end).ok().filter(|end| *end < Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(year: i32) -> AuthInfo {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        AuthInfo { client_certificate_data: Some(STANDARD.encode(certificate.pem())), ..AuthInfo::default() }
    }

    #[test]
    fn only_a_certificate_whose_time_is_over_has_expired() {
        assert_eq!(expired(&user(2020)), Some("2020-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(expired(&user(4000)), None);
        assert_eq!(expired(&AuthInfo::default()), None);
        let garbage = AuthInfo { client_certificate_data: Some("?".to_owned()), ..AuthInfo::default() };
        assert_eq!(expired(&garbage), None);
    }
}
