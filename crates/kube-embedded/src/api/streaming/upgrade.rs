//! Agreeing on a protocol: the `101 Switching Protocols` of WebSockets (RFC 6455) and of SPDY as Kubernetes uses it
//! (`k8s.io/apimachinery/pkg/util/httpstream`).

use http::header::{
    CONNECTION, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::status::Status;

/// Names the protocol of the streams inside SPDY.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";

/// What carries the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// WebSocket messages.
    WebSocket,
    /// SPDY streams.
    Spdy,
}

/// What both sides agreed on.
#[derive(Debug)]
pub(super) struct Agreement {
    pub(super) carrier: Carrier,
    /// The protocol inside; empty where a WebSocket client asked for none.
    pub(super) protocol: &'static str,
    /// The answer to send.
    pub(super) response: Response<()>,
    /// Resolves to the connection once the answer is sent.
    pub(super) connection: OnUpgrade,
}

/// Agrees on one of the protocols, the client's first choice first.
///
/// # Errors
/// 400 for a request that is no upgrade, or that has no protocol in common with the server.
pub(super) fn agree<B>(
    request: &mut Request<B>,
    websocket: &[&'static str],
    spdy: &[&'static str],
) -> Result<Agreement, Status> {
    let headers = request.headers();
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wanted = tokens(headers, &CONNECTION).iter().any(|token| token.eq_ignore_ascii_case("upgrade"));
    if !wanted || request.version() > Version::HTTP_11 {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let (carrier, protocol, response) = if upgrade.eq_ignore_ascii_case("websocket") {
        let protocol = choose(&tokens(headers, &SEC_WEBSOCKET_PROTOCOL), websocket)?;
        (Carrier::WebSocket, protocol, websocket_response(headers, protocol)?)
    } else if upgrade.eq_ignore_ascii_case(SPDY) {
        let protocol = choose(&tokens(headers, &STREAM_PROTOCOL), spdy)?;
        (Carrier::Spdy, protocol, spdy_response(protocol))
    } else {
        return Err(Status::bad_request(format!("unable to upgrade: {upgrade:?} is neither websocket nor {SPDY}")));
    };
    Ok(Agreement { carrier, protocol, response, connection: hyper::upgrade::on(request) })
}

/// The members of a comma-separated header that may come several times.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty()).collect()
}

fn choose(offered: &[&str], accepted: &[&'static str]) -> Result<&'static str, Status> {
    let common = offered.iter().find_map(|offer| accepted.iter().find(|protocol| *protocol == offer));
    // A client that asks for none speaks the oldest, where there is one.
    let unnamed = accepted.iter().find(|protocol| protocol.is_empty() && offered.is_empty());
    common.or(unnamed).copied().ok_or_else(|| {
        Status::new(
            403,
            "Forbidden",
            format!(
                "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {accepted:?}"
            ),
        )
    })
}

fn websocket_response(headers: &HeaderMap, protocol: &'static str) -> Result<Response<()>, Status> {
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Status::bad_request("unable to upgrade: Sec-WebSocket-Version must be 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| Status::bad_request("unable to upgrade: Sec-WebSocket-Key is missing"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| Status::bad_request("unable to upgrade: Sec-WebSocket-Key is malformed"))?;
    let mut response = switching("websocket");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !protocol.is_empty() {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(response)
}

fn spdy_response(protocol: &'static str) -> Response<()> {
    let mut response = switching(SPDY);
    response.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

fn switching(to: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(to));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request
    }

    const WEBSOCKET: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn a_websocket_client_gets_its_first_choice_and_the_key_of_rfc_6455() {
        let mut headers = WEBSOCKET.to_vec();
        headers.push(("sec-websocket-protocol", "v9.channel.k8s.io, v5.channel.k8s.io, v4.channel.k8s.io"));
        let agreement = agree(&mut request(&headers), &["v4.channel.k8s.io", "v5.channel.k8s.io"], &[]).unwrap();
        assert_eq!((agreement.carrier, agreement.protocol), (Carrier::WebSocket, "v5.channel.k8s.io"));
        let answer = agreement.response;
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    }

    #[test]
    fn a_spdy_client_may_offer_in_one_header_or_in_several() {
        let base = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        let several =
            [&base[..], &[("x-stream-protocol-version", "v5.x"), ("x-stream-protocol-version", "v4.x")]].concat();
        let one = [&base[..], &[("x-stream-protocol-version", "v5.x,v4.x")]].concat();
        for headers in [several, one] {
            let agreement = agree(&mut request(&headers), &[], &["v4.x"]).unwrap();
            assert_eq!((agreement.carrier, agreement.protocol), (Carrier::Spdy, "v4.x"));
            assert_eq!(agreement.response.headers()["x-stream-protocol-version"], "v4.x");
        }
    }

    #[test]
    fn what_is_no_upgrade_or_has_no_common_protocol_is_refused() {
        let refused = |headers: &[(&'static str, &'static str)], websocket: &[&'static str]| {
            agree(&mut request(headers), websocket, &["v4.x"]).unwrap_err()
        };
        assert_eq!(refused(&[], &[""]).to_string(), "Upgrade request required");
        assert_eq!(refused(&[("connection", "Upgrade"), ("upgrade", "h2c")], &[""]).code(), 400);
        assert_eq!(refused(&WEBSOCKET, &["v4.channel.k8s.io"]).code(), 403);
        assert_eq!(refused(&WEBSOCKET[..3], &[""]).code(), 400);
        assert_eq!(refused(&[WEBSOCKET[0], WEBSOCKET[1], WEBSOCKET[3]], &[""]).code(), 400);
        assert_eq!(refused(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")], &[""]).code(), 403);
    }
}
