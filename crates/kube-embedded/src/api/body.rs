//! Bodies of requests and responses: reading with a limit, answering with JSON, errors or a stream.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use serde_json::Value;

use crate::status::Status;

/// What goes wrong in the middle of a body.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// The body of every response.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Error>;

/// The largest request body, as in kube-apiserver (`MaxRequestBodyBytes`).
const LIMIT: usize = 3 << 20;

/// A body that is there as a whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes in pieces.
pub fn stream<S, E>(stream: S) -> Body
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<Error> + 'static,
{
    StreamBody::new(stream.map(|piece| piece.map(http_body::Frame::data).map_err(Into::into))).boxed_unsync()
}

/// Reads a whole request body.
pub async fn read<B>(body: B) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
{
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Status::request_entity_too_large(format!("Request entity too large: limit is {LIMIT}")))
        }
        Err(error) => Err(Status::bad_request(format!("unable to read the request's body: {error}"))),
    }
}

/// An answer with a JSON body that is already serialized: a line, as what Go's `json.Encoder` writes.
pub fn json_line(code: StatusCode, line: impl Into<Bytes>) -> Response<Body> {
    typed(code, "application/json", line)
}

/// An answer with a JSON body.
pub fn json(code: StatusCode, value: &Value) -> Response<Body> {
    json_line(code, format!("{value}\n"))
}

/// An answer with a body of some other type.
pub fn typed(code: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The answer where no API is, as Go's `http.NotFound` gives it. Where one is, kube-apiserver answers with a `Status`.
pub fn page_not_found() -> Response<Body> {
    typed(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}

/// An error as the answer.
pub fn error(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, &status_value(status));
    // Go's clients look for it here, not in the body.
    if let Some(seconds) = status.0.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// A `Status` as an object, `apiVersion` and `kind` included.
pub fn status_value(status: &Status) -> Value {
    let mut value = serde_json::to_value(&*status.0).unwrap_or_default();
    if value.get("metadata").is_none_or(Value::is_null) {
        value["metadata"] = serde_json::json!({});
    }
    value
}
