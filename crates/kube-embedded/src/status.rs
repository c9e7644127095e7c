//! Errors as the Kubernetes API gives them: `metav1.Status` objects with the wording of k8s.io/apimachinery
//! (`pkg/api/errors`), since clients and people match on it.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status as Body, StatusCause, StatusDetails};

/// An API error. `Display` is its message.
#[derive(Debug, Clone, PartialEq)]
pub struct Status(pub Box<Body>);

/// One violated rule of an invalid object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable reason, such as `FieldValueInvalid` or `FieldValueRequired`.
    pub reason: &'static str,
    /// Path of the field, such as `spec.replicas`.
    pub field: String,
    /// The sentence after the field's path, such as `Required value`.
    pub message: String,
}

impl Status {
    /// A failure with an HTTP code, a reason and a message.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Body {
            code: Some(i32::from(code)),
            message: Some(message.into()),
            reason: Some(reason.to_owned()),
            status: Some("Failure".to_owned()),
            ..Body::default()
        }))
    }

    fn with_details(mut self, group: &str, kind: &str, name: &str, causes: Option<Vec<StatusCause>>) -> Self {
        self.0.details = Some(StatusDetails {
            group: (!group.is_empty()).then(|| group.to_owned()),
            kind: (!kind.is_empty()).then(|| kind.to_owned()),
            name: (!name.is_empty()).then(|| name.to_owned()),
            causes,
            ..StatusDetails::default()
        });
        self
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 of an object: `pods "x" is forbidden: why`.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let what = qualified(group, resource);
        let message = if name.is_empty() {
            format!("{what} is forbidden: {why}")
        } else {
            format!("{what} \"{name}\" is forbidden: {why}")
        };
        Self::new(403, "Forbidden", message).with_details(group, resource, name, None)
    }

    /// 404 of an object: `pods "x" not found`.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", qualified(group, resource)))
            .with_details(group, resource, name, None)
    }

    /// 404 of a path that nothing serves. That its details are there and name nothing tells it from that of an object:
    /// `kubectl debug` looks at them, and breaks down where there are none.
    pub fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with_details("", "", "", None)
    }

    /// 405.
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(405, "MethodNotAllowed", message)
    }

    /// 405 of a path that is served, and not for this method.
    pub fn no_such_method() -> Self {
        Self::method_not_allowed("the server does not allow this method on the requested resource")
    }

    /// 409 of a name that is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", qualified(group, resource)))
            .with_details(group, resource, name, None)
    }

    /// 409 of a concurrent change: `Operation cannot be fulfilled on pods "x": why`.
    pub fn conflict(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, resource));
        Self::new(409, "Conflict", message).with_details(group, resource, name, None)
    }

    /// 410 of a resource version or continue token that is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn request_entity_too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422: `Pod "x" is invalid: [field: message, ...]`, every violation in one answer.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let lines: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let list = match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let details = causes
            .into_iter()
            .map(|cause| StatusCause {
                field: Some(cause.field),
                message: Some(cause.message),
                reason: Some(cause.reason.to_owned()),
            })
            .collect();
        Self::new(422, "Invalid", format!("{qualified} \"{name}\" is invalid: {list}")).with_details(
            group,
            kind,
            name,
            Some(details),
        )
    }

    /// 500.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.0.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500)
    }

    /// The machine-readable reason, such as `NotFound`.
    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.message.as_deref().unwrap_or_default())
    }
}

impl std::error::Error for Status {}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}
