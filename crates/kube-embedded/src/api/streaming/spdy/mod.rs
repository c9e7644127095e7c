//! SPDY/3.1, the server's side, as far as Kubernetes' clients use it: streams opened by the client, data, half-close,
//! reset, ping (the public specification `draft-mbelshe-httpbis-spdy`; the peer is moby/spdystream).
//!
//! Kubernetes' peers neither send nor obey WINDOW_UPDATE: the connection's own back-pressure is all there is.

mod connection;
mod frame;
mod headers;

pub(super) use connection::{Stream, open};
