//! What to do about a binding, given what is there.

use super::{FINALIZER, secret};
use crate::agent::logins::Logins;
use crate::agent::report;
use a8s_api::{Postgresql, SecretReference, ServiceBinding, ServiceBindingStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use serde_json::{Value, json};

/// How long the end of a login is waited for before its binding goes nevertheless: the server may be away, and drops
/// the login when it is back.
const PATIENCE: i64 = 30;

/// What there is of a binding.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The binding.
    pub binding: ServiceBinding,
    /// The Secret of its name.
    pub secret: Option<Secret>,
    /// The instance it names.
    pub instance: Option<PartialObjectMeta<Postgresql>>,
    /// Content of the instance's list of logins; empty if there is none.
    pub logins: Vec<u8>,
    /// Why that list is not written.
    pub refused: Option<String>,
    /// What the agent of the primary has applied of it, as [`report::hash`].
    pub applied: Option<String>,
    /// Now.
    pub now: Timestamp,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Put the finalizer on the binding, and look again.
    Adopt,
    /// Make this Secret, and look again.
    Make(Box<Secret>),
    /// Write this status; look again if it has a trouble that nobody may tell of.
    Tell(ServiceBindingStatus),
    /// Delete the binding: its instance is gone.
    DeleteBinding,
    /// Wait for the login to be dropped.
    Wait,
    /// Delete the Secret, and look again.
    DeleteSecret,
    /// Take the finalizer off the Secret, and look again.
    ReleaseSecret,
    /// Take the finalizer off the binding.
    Release,
}

/// The next thing to do about a binding.
pub fn plan(seen: &Seen) -> Next {
    let has_finalizer = seen.binding.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    match (seen.binding.metadata.deletion_timestamp.is_some(), has_finalizer) {
        (true, true) => end(seen),
        (true, false) => Next::Nothing,
        (false, false) => Next::Adopt,
        (false, true) => keep(seen),
    }
}

fn keep(seen: &Seen) -> Next {
    let own = match own_secret(seen) {
        Ok(own) => own,
        Err(text) => return trouble(seen, text),
    };
    let instance_uid = seen.instance.as_ref().and_then(|instance| instance.metadata.uid.as_deref());
    if let Some(own) = own {
        if secret::instance_service(own) != Some(secret::service_of(&seen.binding).as_str()) {
            let text = "a service binding cannot move to another service instance; make another service binding";
            return trouble(seen, text.to_owned());
        }
        return match (secret::instance_uid(own), instance_uid) {
            (Some(made_for), Some(there)) if made_for == there => tell(seen, own),
            // Who takes an annotation away does not mean to delete the binding.
            (None, Some(_)) => {
                let annotation = secret::INSTANCE;
                trouble(seen, format!("the Secret does not say which instance it is for: {annotation} is missing"))
            }
            _ => Next::DeleteBinding,
        };
    }
    match wrong_reference(seen) {
        Some(text) => trouble(seen, text),
        // It was taken away, and its login is to go: applications learn it here, and the list of logins is made again.
        None if tells_of_secret(seen) => {
            Next::Tell(ServiceBindingStatus { error: None, implemented: Some(false), secret: None })
        }
        None => Next::Make(Box::new(secret::new(&seen.binding, instance_uid.unwrap_or_default()))),
    }
}

/// Whether the status tells of a Secret.
fn tells_of_secret(seen: &Seen) -> bool {
    seen.binding.status.as_ref().is_some_and(|status| status.secret.is_some())
}

/// The binding's Secret, if it is made.
fn own_secret(seen: &Seen) -> Result<Option<&Secret>, String> {
    match &seen.secret {
        Some(secret) if !secret::is_of(secret, &seen.binding) => {
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            Err(format!("there is a Secret {name:?} that does not belong to this service binding"))
        }
        other => Ok(other.as_ref()),
    }
}

/// Why the instance cannot be bound to, in a sentence.
fn wrong_reference(seen: &Seen) -> Option<String> {
    let reference = &seen.binding.spec.instance;
    let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
    // The released tools and examples write the kind in more than one way.
    if group != Postgresql::GROUP || !reference.kind.eq_ignore_ascii_case(Postgresql::KIND) {
        let (version, kind) = (&reference.api_version, &reference.kind);
        return Some(format!("service instances of the kind {kind:?} in {version:?} cannot be bound to"));
    }
    let namespace = reference.namespace.as_ref().or(seen.binding.metadata.namespace.as_ref());
    let named = format!("the service instance {} in the namespace {}", reference.name, namespace?);
    match &seen.instance {
        None => Some(format!("{named} does not exist")),
        Some(instance) if instance.metadata.deletion_timestamp.is_some() => Some(format!("{named} is being deleted")),
        Some(_) => None,
    }
}

/// Says that there is no login for this reason, if that is new.
pub fn trouble(seen: &Seen, text: String) -> Next {
    let status = ServiceBindingStatus { error: Some(text), implemented: Some(false), secret: None };
    if seen.binding.status.as_ref() == Some(&status) { Next::Nothing } else { Next::Tell(status) }
}

fn tell(seen: &Seen, own: &Secret) -> Next {
    let reference = SecretReference {
        name: own.metadata.name.clone().unwrap_or_default(),
        namespace: own.metadata.namespace.clone(),
    };
    let before = seen.binding.status.as_ref();
    // Other bindings come and go; a login that was made stays made.
    let was_implemented = before.is_some_and(|status| status.implemented == Some(true));
    let implemented = was_implemented || is_applied(seen, own) || sabotage::sabotaged!("binding-implemented-too-early");
    let error = seen.refused.clone().filter(|_| !implemented);
    let status = ServiceBindingStatus { error, implemented: Some(implemented), secret: Some(reference) };
    if before == Some(&status) { Next::Nothing } else { Next::Tell(status) }
}

fn logins(seen: &Seen) -> Logins {
    serde_json::from_slice(&seen.logins).unwrap_or_default()
}

fn is_current(seen: &Seen) -> bool {
    seen.applied.as_ref() == Some(&report::hash(&seen.logins))
}

/// Whether the primary has the login.
fn is_applied(seen: &Seen, own: &Secret) -> bool {
    let uid = seen.binding.metadata.uid.as_deref().unwrap_or_default();
    let listed = logins(seen).remove(uid);
    listed.is_some_and(|login| Some(login.role.as_str()) == secret::username(own)) && is_current(seen)
}

fn end(seen: &Seen) -> Next {
    let Ok(Some(own)) = own_secret(seen) else { return Next::Release };
    if may_still_be_used(seen, own) {
        return Next::Wait;
    }
    let has_finalizer = own.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    match (own.metadata.deletion_timestamp.is_some(), has_finalizer) {
        // Deleting answers first, the finalizer goes after it; both are safe to repeat.
        (false, _) => Next::DeleteSecret,
        (true, true) => Next::ReleaseSecret,
        (true, false) => Next::Release,
    }
}

/// Whether a server may still have the login. One that is being deleted takes it along.
fn may_still_be_used(seen: &Seen, own: &Secret) -> bool {
    let is_there = seen.instance.as_ref().is_some_and(|instance| {
        instance.metadata.deletion_timestamp.is_none() && instance.metadata.uid.as_deref() == secret::instance_uid(own)
    });
    let since = seen.binding.metadata.deletion_timestamp.as_ref().map_or(0, |time| time.0.as_second());
    let uid = seen.binding.metadata.uid.as_deref().unwrap_or_default();
    let is_listed = logins(seen).contains_key(uid);
    is_there && (is_listed || (!is_current(seen) && seen.now.as_second() - since < PATIENCE))
}

/// The merge patch of a status.
pub fn patch(status: &ServiceBindingStatus) -> Value {
    // Null removes what was there before.
    json!({"status": {"implemented": status.implemented, "error": status.error, "secret": status.secret}})
}

#[cfg(test)]
mod tests {
    use super::super::secret::tests::binding;
    use super::*;
    use crate::agent::logins::Login;

    fn seen() -> Seen {
        let instance = json!({
            "apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql",
            "metadata": {"name": "solo", "namespace": "data", "uid": "i-1"},
        });
        Seen {
            binding: binding(),
            secret: None,
            instance: Some(serde_json::from_value(instance).expect("an instance")),
            logins: vec![],
            refused: None,
            applied: None,
            now: "2026-01-02T03:04:05Z".parse().expect("a time"),
        }
    }

    fn made() -> Seen {
        let mut seen = seen();
        seen.secret = Some(secret::new(&seen.binding, "i-1"));
        seen
    }

    fn listed(mut seen: Seen) -> Seen {
        let role = seen.secret.as_ref().and_then(secret::username).expect("a role").to_owned();
        let logins = Logins::from([("b-1".into(), Login { role, verifier: "v".into() })]);
        seen.logins = serde_json::to_vec(&logins).expect("plain data");
        seen
    }

    fn applied(mut seen: Seen) -> Seen {
        seen.applied = Some(report::hash(&seen.logins));
        seen
    }

    fn deleted(mut seen: Seen, seconds_ago: i64) -> Seen {
        let time = seen.now - jiff::SignedDuration::from_secs(seconds_ago);
        seen.binding.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
        seen
    }

    fn told(seen: &Seen) -> (Option<bool>, Option<String>) {
        match plan(seen) {
            Next::Tell(status) => (status.implemented, status.error),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_binding_is_implemented_when_the_primary_has_its_login_and_not_before() {
        let mut new = seen();
        new.binding.metadata.finalizers = None;
        assert_eq!(plan(&new), Next::Adopt);
        assert!(matches!(plan(&seen()), Next::Make(_)));
        assert_eq!(told(&made()), (Some(false), None));
        assert_eq!(told(&listed(made())), (Some(false), None));
        assert_eq!(told(&applied(made())), (Some(false), None));
        let mut done = applied(listed(made()));
        assert_eq!(told(&done), (Some(true), None));
        let Next::Tell(status) = plan(&done) else { panic!("told") };
        assert_eq!(status.secret.as_ref().map(|secret| secret.name.as_str()), Some("app-service-binding"));
        done.binding.status = Some(status);
        assert_eq!(plan(&done), Next::Nothing);
        done.applied = Some("of another list".into());
        assert_eq!(plan(&done), Next::Nothing, "other bindings come and go");
    }

    #[test]
    fn a_binding_says_why_its_login_is_not_listed() {
        let mut refused = made();
        refused.refused = Some("exceeded quota".into());
        assert_eq!(told(&refused), (Some(false), Some("exceeded quota".into())));
        assert_eq!(told(&applied(listed(refused))), (Some(true), None), "that of another is not");
    }

    #[test]
    fn a_binding_whose_secret_was_taken_away_is_not_implemented_until_the_next_login_is_there() {
        let mut seen = applied(listed(made()));
        let Next::Tell(status) = plan(&seen) else { panic!("told") };
        (seen.binding.status, seen.secret) = (Some(status), None);
        let Next::Tell(status) = plan(&seen) else { panic!("told") };
        assert_eq!((status.implemented, status.error.clone(), status.secret.clone()), (Some(false), None, None));
        seen.binding.status = Some(status);
        let Next::Make(secret) = plan(&seen) else { panic!("made") };
        seen.secret = Some(*secret);
        let Next::Tell(status) = plan(&seen) else { panic!("told, for the list of logins") };
        assert!(status.implemented == Some(false) && status.secret.is_some());
        seen.binding.status = Some(status);
        assert_eq!(plan(&seen), Next::Nothing, "the list has the login of the Secret before");
        assert_eq!(told(&applied(listed(seen))), (Some(true), None));
    }

    #[test]
    fn bad_references_are_told_in_a_sentence_and_make_nothing() {
        let mut missing = seen();
        missing.instance = None;
        let text = "the service instance solo in the namespace data does not exist";
        assert_eq!(told(&missing), (Some(false), Some(text.into())));
        let Next::Tell(status) = plan(&missing) else { panic!("told") };
        missing.binding.status = Some(status);
        assert_eq!(plan(&missing), Next::Nothing, "told once");

        let mut other = seen();
        other.binding.spec.instance.kind = "MySQL".into();
        let text = "service instances of the kind \"MySQL\" in \"postgresql.anynines.com/v1beta3\" cannot be bound to";
        assert_eq!(told(&other), (Some(false), Some(text.into())));
        other.binding.spec.instance.kind = "PostgreSQL".into();
        assert!(matches!(plan(&other), Next::Make(_)), "as the released examples write it");
    }

    #[test]
    fn a_secret_of_somebody_else_is_neither_taken_nor_deleted() {
        let mut foreign = made();
        foreign.secret.as_mut().expect("there").metadata.owner_references = None;
        let text = "there is a Secret \"app-service-binding\" that does not belong to this service binding";
        assert_eq!(told(&foreign), (Some(false), Some(text.into())));
        assert_eq!(plan(&deleted(foreign, 1)), Next::Release);
    }

    #[test]
    fn a_binding_goes_with_its_instance_and_not_with_one_that_is_only_going() {
        let mut going = applied(listed(made()));
        let instance = going.instance.as_mut().expect("there");
        instance.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(going.now));
        assert!(matches!(plan(&going), Next::Tell(_)));
        let mut gone = going.clone();
        gone.instance = None;
        assert_eq!(plan(&gone), Next::DeleteBinding);
        let mut another = made();
        another.instance.as_mut().expect("there").metadata.uid = Some("i-2".into());
        assert_eq!(plan(&another), Next::DeleteBinding);
    }

    #[test]
    fn a_secret_that_has_lost_its_annotation_is_no_reason_to_delete_its_binding() {
        let mut bare = applied(listed(made()));
        bare.secret.as_mut().expect("there").metadata.annotations = None;
        let text = "the Secret does not say which instance it is for: a8s.a9s/instance-uid is missing";
        assert_eq!(told(&bare), (Some(false), Some(text.into())));
        bare.instance = None;
        assert_eq!(plan(&bare), Next::DeleteBinding);
    }

    #[test]
    fn a_binding_does_not_move_to_another_instance() {
        let mut moved = made();
        moved.binding.spec.instance.name = "other".into();
        let text = "a service binding cannot move to another service instance; make another service binding";
        assert_eq!(told(&moved), (Some(false), Some(text.into())));
    }

    #[test]
    fn a_deleted_binding_waits_for_the_end_of_its_login_and_never_for_ever() {
        assert_eq!(plan(&deleted(applied(listed(made())), 1)), Next::Wait);
        assert_eq!(plan(&deleted(listed(made()), 3600)), Next::Wait, "the list itself can always be written");
        assert_eq!(plan(&deleted(made(), 1)), Next::Wait, "the primary may still have it");
        assert_eq!(plan(&deleted(made(), 31)), Next::DeleteSecret);
        let mut seen = deleted(applied(made()), 1);
        assert_eq!(plan(&seen), Next::DeleteSecret);
        let secret = seen.secret.as_mut().expect("there");
        secret.metadata.deletion_timestamp = seen.binding.metadata.deletion_timestamp.clone();
        assert_eq!(plan(&seen), Next::ReleaseSecret);
        seen.secret.as_mut().expect("there").metadata.finalizers = None;
        assert_eq!(plan(&seen), Next::Release);
        seen.secret = None;
        assert_eq!(plan(&seen), Next::Release);
        seen.binding.metadata.finalizers = None;
        assert_eq!(plan(&seen), Next::Nothing);
    }

    #[test]
    fn a_binding_deleted_after_its_instance_does_not_wait() {
        let mut seen = deleted(listed(made()), 1);
        seen.instance.as_mut().expect("there").metadata.deletion_timestamp =
            seen.binding.metadata.deletion_timestamp.clone();
        assert_eq!(plan(&seen), Next::DeleteSecret);
        seen.instance = None;
        assert_eq!(plan(&seen), Next::DeleteSecret);
    }
}
