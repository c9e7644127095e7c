//! The HTTP proxy that the caller's environment names, and what goes past it: `HTTPS_PROXY` and `NO_PROXY`, as curl(1) and
//! client-go read them.

use std::net::IpAddr;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;

use crate::caller;

/// A proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Its address as it was written: it may name a user.
    pub address: Uri,
    /// The user that it names, for `Proxy-Authorization`.
    pub authorization: Option<HeaderValue>,
}

/// The proxy for an address; none for this machine's own, and for what `NO_PROXY` names.
pub fn of(address: &Uri) -> Option<Proxy> {
    let variable =
        |names: [&str; 2]| names.iter().find_map(|name| caller::given(name)?.into_string().ok()).unwrap_or_default();
    choose(address, &variable(["HTTPS_PROXY", "https_proxy"]), &variable(["NO_PROXY", "no_proxy"]))
}

fn choose(address: &Uri, proxy: &str, past_it: &str) -> Option<Proxy> {
    let host = address.host()?.trim_matches(['[', ']']);
    if host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
        return None;
    }
    let matcher = Matcher::builder().https(proxy).no(past_it).build();
    let authorization = matcher.intercept(address)?.basic_auth().cloned();
    let proxy = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    Some(Proxy { address: proxy.parse().ok()?, authorization })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://127.0.0.1:6443", "http://proxy:3128", "", None)]
    #[case("https://[::1]:6443", "http://proxy:3128", "", None)]
    #[case("https://localhost:6443", "http://proxy:3128", "", None)]
    #[case("https://k8s.example.com", "http://me:secret@proxy:3128", "", Some("http://me:secret@proxy:3128/"))]
    #[case("https://k8s.example.com", "proxy:3128", "", Some("http://proxy:3128/"))]
    #[case("https://k8s.example.com", "http://proxy:3128", "localhost,.example.com", None)]
    #[case("https://10.1.2.3", "http://proxy:3128", "10.0.0.0/8", None)]
    #[case("https://k8s.example.com", "", "", None)]
    fn what_is_near_needs_no_proxy(
        #[case] address: &str,
        #[case] proxy: &str,
        #[case] past_it: &str,
        #[case] chosen: Option<&str>,
    ) {
        let found = choose(&address.parse().unwrap(), proxy, past_it);
        assert_eq!(found.map(|proxy| proxy.address.to_string()).as_deref(), chosen);
    }
}
