//! What can go wrong at the store, each in one sentence.

/// Why something could not be done at the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bucket is not there.
    #[error("the object store at {endpoint} has no bucket {bucket}")]
    NoSuchBucket {
        /// The store.
        endpoint: String,
        /// The bucket.
        bucket: String,
    },
    /// The object is not there.
    #[error("the object store at {endpoint} has no object {key}")]
    NoSuchObject {
        /// The store.
        endpoint: String,
        /// The key.
        key: String,
    },
    /// The access key id is unknown there, or the secret key is not the one that belongs to it.
    #[error("the object store at {endpoint} does not accept the credentials ({code})")]
    Credentials {
        /// The store.
        endpoint: String,
        /// The store's code.
        code: String,
    },
    /// The credentials are good, and not enough for this.
    #[error("the object store at {endpoint} refuses to {what} ({code})")]
    Denied {
        /// The store.
        endpoint: String,
        /// What was to be done.
        what: String,
        /// The store's code.
        code: String,
    },
    /// The store answers otherwise than it should, and would again.
    #[error("the object store at {endpoint} cannot {what}: {why}")]
    Refused {
        /// The store.
        endpoint: String,
        /// What was to be done.
        what: String,
        /// The store's words.
        why: String,
    },
    /// The store has trouble of its own, and had it as long as was waited for it.
    #[error("the object store at {endpoint} could not {what} now: {why}")]
    Failing {
        /// The store.
        endpoint: String,
        /// What was to be done.
        what: String,
        /// The store's words.
        why: String,
    },
    /// No answer.
    #[error("the object store at {endpoint} does not answer: {why}")]
    Unreachable {
        /// The store.
        endpoint: String,
        /// What happened.
        why: String,
    },
    /// The key can't be one of an object of ours.
    #[error("{key:?} is no key of an object: {why}")]
    Key {
        /// The key.
        key: String,
        /// Why.
        why: String,
    },
    /// The client can't be made.
    #[error("there is no way to the object store: {0}")]
    Client(String),
    /// The object is larger than what was put there can be.
    #[error("the object store at {endpoint} has {size} bytes in the object {key}, where {limit} at most are expected")]
    TooLarge {
        /// The store.
        endpoint: String,
        /// The key.
        key: String,
        /// In bytes.
        size: u64,
        /// In bytes.
        limit: u64,
    },
}

impl Error {
    /// Whether trying again later gives the same: somebody has to change something first.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Failing { .. } | Self::Unreachable { .. } => false,
            Self::NoSuchBucket { .. }
            | Self::NoSuchObject { .. }
            | Self::Credentials { .. }
            | Self::Denied { .. }
            | Self::Refused { .. }
            | Self::Key { .. }
            | Self::Client(_)
            | Self::TooLarge { .. } => true,
        }
    }
}

/// What an error is about.
pub(super) struct About<'a> {
    pub endpoint: &'a str,
    pub bucket: &'a str,
    pub key: &'a str,
    /// Infinitive, as in "cannot …".
    pub what: &'a str,
}

impl About<'_> {
    /// The library's error as one of ours. The store's own code decides where there is one: the library knows only
    /// statuses, and a bucket that is not there is 404 as much as an object.
    pub fn error(&self, error: &object_store::Error) -> Error {
        let text = crate::chain(error);
        let code = element(&text, "Code");
        let (endpoint, what) = (self.endpoint.to_owned(), self.what.to_owned());
        if let Some(code) = code {
            return self.by_code(code, element(&text, "Message").unwrap_or(code), status(&text));
        }
        if let Some((message, code)) = of_one(&text) {
            return self.by_code(code, message, None);
        }
        match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Error::Denied { endpoint, what, code: "AccessDenied".to_owned() }
            }
            // A store that has no such object says so. This is a proxy that has no such store, or no store at all.
            object_store::Error::NotFound { .. } | object_store::Error::Generic { .. } => {
                self.without_code(error, &text)
            }
            _ => Error::Refused { endpoint, what, why: text },
        }
    }

    /// By the code of the store, which is part of the protocol, or by the status where the code is the store's own.
    fn by_code(&self, code: &str, message: &str, status: Option<u16>) -> Error {
        let (endpoint, what) = (self.endpoint.to_owned(), self.what.to_owned());
        match code {
            "NoSuchBucket" => Error::NoSuchBucket { endpoint, bucket: self.bucket.to_owned() },
            "NoSuchKey" => Error::NoSuchObject { endpoint, key: self.key.to_owned() },
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" => {
                Error::Credentials { endpoint, code: code.to_owned() }
            }
            "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => {
                Error::Denied { endpoint, what, code: code.to_owned() }
            }
            // A clock that is wrong is set right again, and what has arrived otherwise than it was sent is sent again.
            "InternalError"
            | "ServiceUnavailable"
            | "SlowDown"
            | "RequestTimeout"
            | "RequestTimeTooSkewed"
            | "OperationAborted"
            | "BadDigest"
            | "IncompleteBody"
            | "XAmzContentSHA256Mismatch"
            | "XMinioStorageFull" => Error::Failing { endpoint, what, why: message.to_owned() },
            // Each store has codes of its own for that, such as a MinIO that starts or is too busy.
            _ if may_pass(status) => Error::Failing { endpoint, what, why: format!("{message} ({code})") },
            _ => Error::Refused { endpoint, what, why: format!("{message} ({code})") },
        }
    }

    fn without_code(&self, error: &object_store::Error, text: &str) -> Error {
        let endpoint = self.endpoint.to_owned();
        if let Some(cause) = http_error(error) {
            return Error::Unreachable { endpoint, why: innermost(cause) };
        }
        let (what, why) = (self.what.to_owned(), text.to_owned());
        if may_pass(status(text)) {
            Error::Failing { endpoint, what, why }
        } else {
            Error::Refused { endpoint, what, why }
        }
    }
}

/// The text of an element that has only text.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner)
}

/// Message and code of an object that was not deleted together with others, in the library's words (object_store
/// `src/aws/client.rs`, `Error::DeleteFailed`). The answer as a whole has succeeded then.
fn of_one(text: &str) -> Option<(&str, &str)> {
    let (_, rest) = text.split_once("DeleteObjects request failed for key ")?;
    let (said, code) = rest.rsplit_once(" (code: ")?;
    Some((said.split_once(": ")?.1, code.strip_suffix(')')?))
}

/// The status in the library's words, which has no other way to ask for it where it is not one of its own kinds.
fn status(text: &str) -> Option<u16> {
    text.split_once("status code: ")?.1.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// Whether it may be otherwise later, as far as the status says. What is not implemented (501) stays so.
fn may_pass(status: Option<u16>) -> bool {
    matches!(status, Some(408 | 429 | 500 | 502..))
}

/// The error of the connection, if that is what it was.
fn http_error(error: &object_store::Error) -> Option<&object_store::client::HttpError> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
