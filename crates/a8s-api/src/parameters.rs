//! The PostgreSQL settings a `Postgresql` may carry: one table that says everything about each of them, from which
//! the schema and the server's configuration are made, and the typed struct.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Values of a parameter, with its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// A whole number.
    Integer {
        /// Used when the field is absent.
        default: i64,
        /// Smallest value the schema accepts.
        minimum: i64,
        /// Largest value the schema accepts.
        maximum: i64,
    },
    /// One of a list of words.
    Choice {
        /// Used when the field is absent.
        default: &'static str,
        /// All words.
        values: &'static [&'static str],
    },
    /// Any text.
    Text {
        /// Used when the field is absent.
        default: &'static str,
    },
}

/// One field of [`Parameters`] and the PostgreSQL setting behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The field's name in `spec.parameters`.
    pub field: &'static str,
    /// The setting's name in PostgreSQL.
    pub setting: &'static str,
    /// What it may be.
    pub range: Range,
    /// Unit of an integer in PostgreSQL's spelling, or empty.
    pub unit: &'static str,
    /// For the schema's description.
    pub description: &'static str,
}

const MESSAGES: &[&str] = &["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"];
const SERVER_MESSAGES: &[&str] =
    &["debug5", "debug4", "debug3", "debug2", "debug1", "info", "notice", "warning", "error", "log", "fatal", "panic"];
const ON_OFF: &[&str] = &["on", "off"];

const fn integer(
    field: &'static str,
    setting: &'static str,
    default: i64,
    [minimum, maximum]: [i64; 2],
    unit: &'static str,
    description: &'static str,
) -> Parameter {
    Parameter { field, setting, range: Range::Integer { default, minimum, maximum }, unit, description }
}

const fn choice(
    field: &'static str,
    setting: &'static str,
    default: &'static str,
    values: &'static [&'static str],
    description: &'static str,
) -> Parameter {
    Parameter { field, setting, range: Range::Choice { default, values }, unit: "", description }
}

const INT: i64 = i32::MAX as i64;

/// Every parameter, in the order of their names.
pub const ALL: [Parameter; 18] = [
    integer(
        "archiveTimeoutSeconds",
        "archive_timeout",
        0,
        [0, INT / 2],
        "s",
        "Switch to a new WAL segment after this many seconds. 0 disables it.",
    ),
    choice(
        "clientMinMessages",
        "client_min_messages",
        "notice",
        MESSAGES,
        "Least severity of messages sent to clients.",
    ),
    choice(
        "logErrorVerbosity",
        "log_error_verbosity",
        "DEFAULT",
        &["DEFAULT", "VERBOSE", "TERSE"],
        "Amount of detail per logged message.",
    ),
    choice(
        "logMinErrorStatement",
        "log_min_error_statement",
        "error",
        SERVER_MESSAGES,
        "Least severity at which the failing statement is logged.",
    ),
    choice("logMinMessages", "log_min_messages", "warning", SERVER_MESSAGES, "Least severity of logged messages."),
    choice("logStatement", "log_statement", "none", &["none", "ddl", "mod", "all"], "Which statements are logged."),
    integer(
        "maxConnections",
        "max_connections",
        100,
        [1, 262_143],
        "",
        "Most concurrent connections. A change restarts the server.",
    ),
    integer(
        "maxLocksPerTransaction",
        "max_locks_per_transaction",
        100,
        [10, INT],
        "",
        "Average number of locks per transaction. A change restarts the server.",
    ),
    integer(
        "maxReplicationSlots",
        "max_replication_slots",
        10,
        [0, 262_143],
        "",
        "Most replication slots. A change restarts the server.",
    ),
    integer(
        "maxWALSenders",
        "max_wal_senders",
        10,
        [0, 262_143],
        "",
        "Most concurrent replication connections. A change restarts the server.",
    ),
    integer(
        "sharedBuffers",
        "shared_buffers",
        1024,
        [16, INT / 2],
        "",
        "Shared buffers in blocks of 8 kB. Accepted, but not applied: the server takes a fifth of its memory limit.",
    ),
    Parameter {
        field: "sslCiphers",
        setting: "ssl_ciphers",
        range: Range::Text { default: "HIGH:MEDIUM:+3DES:!aNULL" },
        unit: "",
        description: "TLS ciphers clients may use.",
    },
    choice(
        "sslMinProtocolVersion",
        "ssl_min_protocol_version",
        "TLSv1.2",
        &["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"],
        "Oldest version of TLS clients may use.",
    ),
    integer(
        "statementTimeoutMillis",
        "statement_timeout",
        0,
        [0, INT],
        "ms",
        "Stop statements after this many milliseconds. 0 disables it.",
    ),
    choice(
        "synchronousCommit",
        "synchronous_commit",
        "on",
        &["off", "local", "remote_write", "remote_apply", "on"],
        "What a commit waits for.",
    ),
    integer(
        "tempFileLimitKiloBytes",
        "temp_file_limit",
        -1,
        [-1, INT],
        "kB",
        "Most space for a process' temporary files, in kB. -1 means no limit.",
    ),
    choice("trackIOTiming", "track_io_timing", "off", ON_OFF, "Collect timing of input and output."),
    integer(
        "walWriterDelayMillis",
        "wal_writer_delay",
        200,
        [1, 10_000],
        "ms",
        "Pause of the WAL writer between rounds, in milliseconds.",
    ),
];

impl Parameter {
    /// The default as the API stores it.
    pub fn default_value(&self) -> Value {
        match self.range {
            Range::Integer { default, .. } => json!(default),
            Range::Choice { default, .. } | Range::Text { default } => json!(default),
        }
    }
}

/// `spec.parameters`: settings of the server. An absent field means its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the table ALL says everything about each field")]
pub struct Parameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_timeout_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_min_messages: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_error_verbosity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_min_error_statement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_min_messages: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_statement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_locks_per_transaction: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_replication_slots: Option<i64>,
    #[serde(rename = "maxWALSenders", skip_serializing_if = "Option::is_none")]
    pub max_wal_senders: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_buffers: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_ciphers: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_min_protocol_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement_timeout_millis: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronous_commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temp_file_limit_kilo_bytes: Option<i64>,
    #[serde(rename = "trackIOTiming", skip_serializing_if = "Option::is_none")]
    pub track_io_timing: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_writer_delay_millis: Option<i64>,
}

impl Parameters {
    /// Every parameter with its value: the one given, else its default.
    pub fn effective(&self) -> Vec<(Parameter, Value)> {
        let given = serde_json::to_value(self).unwrap_or_default();
        ALL.iter().map(|p| (*p, given.get(p.field).cloned().unwrap_or_else(|| p.default_value()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_struct_has_exactly_the_fields_of_the_table() {
        let all: serde_json::Map<String, Value> = ALL.iter().map(|p| (p.field.to_owned(), p.default_value())).collect();
        let parameters: Parameters = serde_json::from_value(Value::Object(all.clone())).expect("every default");
        assert_eq!(serde_json::to_value(&parameters).expect("plain data"), Value::Object(all));
    }

    #[test]
    fn defaults_are_within_their_range() {
        for parameter in ALL {
            match parameter.range {
                Range::Integer { default, minimum, maximum } => assert!((minimum..=maximum).contains(&default)),
                Range::Choice { default, values } => assert!(values.contains(&default), "{}", parameter.field),
                Range::Text { default } => assert!(!default.is_empty()),
            }
        }
    }

    #[test]
    fn a_given_value_wins_over_the_default() {
        let parameters = Parameters { max_connections: Some(101), ..Parameters::default() };
        let effective = parameters.effective();
        let value = |field| effective.iter().find(|(p, _)| p.field == field).map(|(_, v)| v.clone());
        assert_eq!(value("maxConnections"), Some(json!(101)));
        assert_eq!(value("maxWALSenders"), Some(json!(10)));
    }
}
