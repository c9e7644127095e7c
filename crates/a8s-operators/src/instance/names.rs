//! Names and keys of an instance's objects, in one place: the operator makes them and the agents read them.

use a8s_api::{LABEL_GROUP, LABEL_KIND, LABEL_NAME, Postgresql};
use std::collections::BTreeMap;

/// Finalizer of the instance and of its Secrets.
pub const FINALIZER: &str = "a8s.anynines.com/postgresql.operator";
/// Annotation: hash of what the operator last wrote.
pub const APPLIED: &str = "a8s.a9s/applied";
/// Annotation of the StatefulSet: fingerprint of the parameters that were last announced as applied. Annotation of a
/// pod: what its agent has applied, as a [`crate::agent::report::Applied`].
pub const CONFIGURATION: &str = "a8s.a9s/configuration";
/// Annotation of the pods, and of the claims of the data: the PostgreSQL major that runs.
pub const VERSION: &str = "a8s.a9s/version";
/// Annotation of the pods: the major that was asked for, if another one runs.
pub const REQUESTED_VERSION: &str = "a8s.a9s/requested-version";
/// Annotation of an instance: `true` refuses a newer major in place of the one asked for.
pub const STRICT_VERSION: &str = "a8s.a9s/strict-version";
/// Annotation of the Lease: the system identifier with which the instance was initialised. Where it is, an empty data
/// directory is never initialised.
pub const SYSTEM_IDENTIFIER: &str = "a8s.a9s/system-identifier";
/// Annotation of the Lease: identifier of the content, which is the restore that was committed last; absent before the
/// first. A volume of another generation never becomes primary: its member clones.
pub const GENERATION: &str = "a8s.a9s/generation";
/// Annotation of the Lease: what replication needs to know beside the Lease's own fields, as
/// [`crate::agent::lease::Details`] in JSON.
pub const REPLICATION: &str = "a8s.a9s/replication";
/// Annotation of the Lease: a failover that somebody asks for, as [`crate::agent::lease::Switchover`] in JSON. The
/// primary obeys and removes it.
pub const SWITCHOVER: &str = "a8s.a9s/switchover";
/// Annotation of the Lease: why the last failover that was asked for was refused, as
/// [`crate::agent::lease::Refusal`] in JSON.
pub const SWITCHOVER_REFUSED: &str = "a8s.a9s/switchover-refused";
/// Annotation of a pod: how far its member is, as [`crate::agent::report::Standing`] in JSON.
pub const STANDING: &str = "a8s.a9s/standing";
/// Annotation of a pod: what its member waits for, in one sentence. The operator puts it into the instance's status.
pub const TROUBLE: &str = "a8s.a9s/trouble";
/// Annotation of a pod: `true` where the disk of its member is full.
pub const FULL: &str = "a8s.a9s/full";
/// Annotation of a pod: differs with everything that an agent says of it in labels and annotations, so that each is a change
/// of the pod, also where it says what is said there already.
pub const NOTED: &str = "a8s.a9s/noted";
/// Volume claim template of the data.
pub const DATA_VOLUME: &str = "pgdata";

/// The claim of the data of a member, by its pod, as the controller of StatefulSets names it.
pub fn data_claim(pod: &str) -> String {
    format!("{DATA_VOLUME}-{pod}")
}

/// The Service of the primary.
pub fn primary_service(instance: &str) -> String {
    format!("{instance}-master")
}

/// The Service of the agent of the primary.
pub fn agent_service(instance: &str) -> String {
    format!("{instance}-patroni")
}

/// The Service for reading.
pub fn read_only_service(instance: &str) -> String {
    format!("{instance}-replicas")
}

/// The Secret of a role of PostgreSQL: `postgres` or `standby`.
pub fn credentials(role: &str, instance: &str) -> String {
    format!("{role}.credentials.{instance}")
}

/// The Secret with the logins of an instance's service bindings, which its agents read: see [`crate::binding::logins`].
pub fn logins(instance: &str) -> String {
    format!("{instance}-logins")
}

/// The Secret through which agents reach the object store, while an order for them runs.
pub fn backup_store(instance: &str) -> String {
    format!("{instance}-backup-store")
}

/// The Role, and its RoleBinding, by which the agents of an instance read these two Secrets and write its Lease and its
/// pods, and no others. With a colon, which names of Roles may have and names of instances may not: the RoleBinding of an
/// instance has its name.
pub fn agent_role(instance: &str) -> String {
    format!("{instance}:agent")
}

/// The Role, and its RoleBinding, by which the agents of an instance answer an order, while it runs. With a colon, as
/// [`agent_role`].
pub fn order_role(instance: &str) -> String {
    format!("{instance}:order")
}

/// The ConfigMap that says where an exposed instance is reached.
pub fn connection(instance: &str) -> String {
    format!("{instance}-connection")
}

/// Whether a text can be the name of an object. It becomes part of a path, and where users refer to an object they may
/// write anything.
pub fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().all(|byte| is_plain(byte) || matches!(byte, b'-' | b'.'))
        && text.bytes().next().is_some_and(is_plain)
        && text.bytes().next_back().is_some_and(is_plain)
}

/// Whether it can be that of an instance or of its namespace, which are also values of labels.
pub fn is_instance_name(text: &str) -> bool {
    is_name(text) && text.len() <= 63
}

/// The labels that every object of an instance has.
pub fn reserved_labels(instance: &str) -> BTreeMap<String, String> {
    [(LABEL_GROUP, Postgresql::GROUP), (LABEL_KIND, Postgresql::KIND), (LABEL_NAME, instance)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Selects every object of an instance.
pub fn selector(instance: &str) -> String {
    let labels: Vec<String> =
        reserved_labels(instance).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_would_lead_elsewhere_in_a_path_is_no_name() {
        for text in ["solo", "0.5gi", "a-b.c"] {
            assert!(is_name(text) && is_instance_name(text), "{text}");
        }
        for text in ["", "Not a name", "Solo", "solo/status", "solo?watch=true", "..", "-solo", "solo.", "söl"] {
            assert!(!is_name(text) && !is_instance_name(text), "{text}");
        }
        let [longest, longer] = [63, 64].map(|length| "x".repeat(length));
        assert!(is_instance_name(&longest) && !is_instance_name(&longer) && is_name(&longer));
    }

    #[test]
    fn no_two_instances_have_roles_of_one_name() {
        let instances = ["solo", "solo-agent", "solo-order", "agent.solo", "order.solo"];
        // The first is the RoleBinding that every agent's is.
        let names = instances.map(|instance| [instance.to_owned(), agent_role(instance), order_role(instance)]);
        let all: BTreeSet<&String> = names.iter().flatten().collect();
        assert_eq!(all.len(), 3 * instances.len(), "{names:?}");
    }
}
