//! Conditions of a Backup or Restore, which carry everything between controller, agent and user. Pure.
//!
//! `InProgress` is the controller's: true from the order until everything that follows from it is done. What the agent
//! says of an order is [`UPLOADED`] for a Backup and [`RESTORED`] for a Restore: unknown while it works, then true or
//! false. `Complete` and `PermanentlyFailed` are the end.

use a8s_api::backup::{COMPLETE, PERMANENTLY_FAILED};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// An order runs, or what follows from it.
pub const IN_PROGRESS: &str = "InProgress";
/// The agent has put the backup into the store.
pub const UPLOADED: &str = "UploadedToS3";
/// The agent has put the content into the instance.
pub const RESTORED: &str = "Restored";
/// The object is being deleted, and something holds that up.
pub const TERMINATING: &str = "Terminating";

/// The order is given, and the agent has not taken it yet.
pub const ORDERED: &str = "Ordered";
/// The agent works on it.
pub const RUNNING: &str = "Running";
/// The agent has ended it because it was taken back.
pub const WITHDRAWN: &str = "Withdrawn";

/// Reasons that stay as they are until somebody changes something: trying again would give the same.
const PERMANENT: [&str; 13] = [
    "AccessDenied",
    "BackupDamaged",
    "BackupIncomplete",
    "BackupNotFound",
    "BucketNotFound",
    "CredentialsRefused",
    "EncryptionPasswordChanged",
    "ExchangeNotSupported",
    "InstanceNotFound",
    "NoSpace",
    "OtherMajor",
    "StoreRefused",
    "TablespacesNotSupported",
];

/// Why something did not work, or waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One word for programs.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
}

impl Trouble {
    /// With a reason and a message.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }

    /// None where a server of `major` can run the content of a backup that one of `made` has made.
    ///
    /// # Errors
    /// They are not the same: PostgreSQL's files belong to one major (PostgreSQL manual, "Upgrading a PostgreSQL Cluster").
    pub fn unless_same_major(made: u32, major: u32) -> Result<(), Self> {
        if made == major || sabotage::sabotaged!("restore-takes-other-majors") {
            return Ok(());
        }
        let text = format!("the backup is of PostgreSQL {made}, and the instance runs PostgreSQL {major}");
        Err(Self::new("OtherMajor", text))
    }

    /// Of the store.
    pub fn store(error: &crate::store::Error) -> Self {
        use crate::store::Error;
        let reason = match error {
            Error::NoSuchBucket { .. } => "BucketNotFound",
            Error::NoSuchObject { .. } => "BackupIncomplete",
            Error::Credentials { .. } => "CredentialsRefused",
            Error::Denied { .. } => "AccessDenied",
            Error::Failing { .. } | Error::Unreachable { .. } => "StoreUnreachable",
            Error::Refused { .. } | Error::Key { .. } | Error::Client(_) => "StoreRefused",
            Error::TooLarge { .. } => "BackupDamaged",
        };
        Self::new(reason, error.to_string())
    }

    /// Of a condition.
    pub fn of(condition: &Condition) -> Self {
        Self { reason: condition.reason.clone(), message: condition.message.clone() }
    }

    /// Whether trying again would give the same.
    pub fn is_permanent(&self) -> bool {
        PERMANENT.contains(&self.reason.as_str())
    }
}

/// The condition of a type.
pub fn get<'a>(conditions: Option<&'a Vec<Condition>>, type_: &str) -> Option<&'a Condition> {
    conditions?.iter().find(|condition| condition.type_ == type_)
}

/// Whether a condition is true.
pub fn is_true(conditions: Option<&Vec<Condition>>, type_: &str) -> bool {
    get(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// Whether there is nothing more to come.
pub fn is_finished(conditions: Option<&Vec<Condition>>) -> bool {
    is_true(conditions, COMPLETE) || is_true(conditions, PERMANENTLY_FAILED)
}

/// Sets a condition. Its time changes with its status only, as Kubernetes' conventions have it.
pub fn set(conditions: &mut Vec<Condition>, type_: &str, status: &str, trouble: &Trouble, now: Timestamp) {
    let found = conditions.iter_mut().find(|condition| condition.type_ == type_);
    let last_transition_time = match &found {
        Some(before) if before.status == status => before.last_transition_time.clone(),
        _ => Time(now),
    };
    let condition = Condition {
        last_transition_time,
        message: trouble.message.clone(),
        observed_generation: None,
        reason: trouble.reason.clone(),
        status: status.to_owned(),
        type_: type_.to_owned(),
    };
    match found {
        Some(before) => *before = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn the_time_of_a_condition_is_that_of_its_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, COMPLETE, "False", &Trouble::new("A", "one"), at(1));
        set(&mut conditions, COMPLETE, "False", &Trouble::new("B", "two"), at(2));
        let condition = get(Some(&conditions), COMPLETE).expect("there");
        assert_eq!((condition.reason.as_str(), condition.last_transition_time.0), ("B", at(1)));
        set(&mut conditions, COMPLETE, "True", &Trouble::new("C", ""), at(3));
        assert_eq!(get(Some(&conditions), COMPLETE).expect("there").last_transition_time.0, at(3));
        assert!(conditions.len() == 1 && is_finished(Some(&conditions)) && !is_finished(None));
    }

    #[test]
    fn reasons_are_words_that_the_schema_takes() {
        for reason in PERMANENT.iter().chain(&[ORDERED, RUNNING, WITHDRAWN]) {
            assert!(reason.bytes().all(|byte| byte.is_ascii_alphabetic()), "{reason}");
            assert_eq!(Trouble::new(reason, "").is_permanent(), PERMANENT.contains(reason));
        }
    }
}
