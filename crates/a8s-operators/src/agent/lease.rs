//! The instance's Lease: who is the primary, in which term, and what a successor has to know. Pure: values out of the
//! object and back.
//!
//! Kubernetes' own fields say what client-go's leader election says with them: `holderIdentity` is the primary's pod,
//! `leaseTransitions` the term, `renewTime` only shows observers that something has changed (its time is never
//! compared with another machine's clock). A Lease without `leaseDurationSeconds` is one of an only member: it is not
//! renewed and never expires.

use super::environment::Pod;
use super::report::Lsn;
use crate::instance::names::{self, GENERATION, REPLICATION, SWITCHOVER, SWITCHOVER_REFUSED, SYSTEM_IDENTIFIER};
use a8s_api::Postgresql;
use k8s_openapi::api::coordination::v1::Lease;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// How long a Lease lasts that is not renewed.
pub const LASTS: Duration = Duration::from_secs(10);
/// How often it is renewed.
pub const RENEW: Duration = Duration::from_secs(2);
/// So long after the last renewal was sent, a primary ends its server. What is left until [`LASTS`] is for the end itself
/// and for clocks that run at different speeds.
pub const FENCE: Duration = Duration::from_secs(7);

/// How long after its last renewal the holder of a Lease leads: [`FENCE`].
pub fn leads_for() -> Duration {
    if sabotage::sabotaged!("lost-server-keeps-leading") { Duration::from_hours(1) } else { FENCE }
}

/// The run of an agent that holds the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Name of its pod.
    pub pod: String,
    /// UID of its pod.
    pub uid: String,
    /// The run within the pod, which its container's termination message repeats.
    pub run: String,
}

/// Which members confirm commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// Names of their pods. None: commits wait for nobody.
    pub members: Vec<String>,
    /// How many of them a commit waits for.
    pub needed: usize,
}

impl Quorum {
    /// The one of an instance with so many members, seen from one of them: a commit is on most of the members. Without a
    /// third member there is none: one that is away would stop the other.
    pub fn of(instance: &str, replicas: u32, primary: &str) -> Self {
        if replicas < 3 || sabotage::sabotaged!("commits-wait-for-nobody") {
            return Self::default();
        }
        let names = (0..replicas).map(|ordinal| format!("{instance}-{ordinal}")).filter(|name| name != primary);
        Self { members: names.collect(), needed: replicas as usize / 2 }
    }

    /// How many members the instance has whose commits it confirms; 0 if it confirms none.
    pub fn instance_members(&self) -> u32 {
        let standbys = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        if standbys == 0 { 0 } else { standbys.saturating_add(1) }
    }

    /// How many of its members have to be asked so that at least one of them has every confirmed commit.
    pub fn to_be_asked(&self) -> usize {
        if self.members.is_empty() { 0 } else { self.members.len() + 1 - self.needed.min(self.members.len()) }
    }

    /// One whose question is answered only if both are: what is noted while one replaces the other.
    pub fn and(&self, other: &Self) -> Self {
        let mut members = self.members.clone();
        members.extend(other.members.iter().filter(|name| !self.members.contains(name)).cloned());
        let needed = match (self.members.is_empty(), other.members.is_empty()) {
            (true, _) => other.needed,
            (_, true) => self.needed,
            _ => self.needed.min(other.needed),
        };
        Self { members, needed }
    }

    /// The one with which another member begins to lead, who has all that this one has confirmed: the last primary
    /// confirms in its place, and no more may be left out than before. That the instance should have more members by
    /// now changes nothing: that those have what was confirmed is for the new primary to prove.
    pub fn led_by(&self, pod: &Pod) -> Self {
        // One that has come since may lead, too. Whoever is not the primary is among those that are asked.
        let members = self.instance_members().max(pod.ordinal().map_or(0, |ordinal| ordinal.saturating_add(1)));
        let next = Self::of(&pod.instance, members, &pod.name);
        Self { needed: next.needed.min(self.needed), ..next }
    }

    /// The value of `synchronous_standby_names`.
    pub fn setting(&self) -> String {
        if self.members.is_empty() {
            return String::new();
        }
        let names: Vec<String> = self.members.iter().map(|name| format!("\"{name}\"")).collect();
        format!("ANY {} ({})", self.needed, names.join(", "))
    }
}

/// What the annotation [`REPLICATION`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// UID of the holder's pod.
    #[serde(default)]
    pub uid: String,
    /// The holder's run.
    #[serde(default)]
    pub run: String,
    /// The timeline of the term. Every term has one that its content has never used before.
    #[serde(default)]
    pub timeline: u32,
    /// The timeline from which it was forked.
    #[serde(default)]
    pub parent: u32,
    /// What the primary had when it took the Lease: who has more on the parent timeline has something that is not
    /// the instance's any more.
    #[serde(default)]
    pub begins: Lsn,
    /// Where the primary was when it last said so, or where it ended, if it did in order. 0: a new content.
    #[serde(default)]
    pub position: Lsn,
    /// Whether `position` is where the last primary of this term has ended in order. Of one that leads it says nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_end: bool,
    /// Who confirms commits.
    #[serde(default)]
    pub quorum: Quorum,
    /// The member that should be the next primary, if it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<String>,
    /// The template data directory with which the instance began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

impl Details {
    /// Whether a member that has so much can follow the primary of this term. PostgreSQL does not ask: a standby that
    /// has more of the parent timeline than the primary would even confirm commits that it does not have.
    pub fn fits(&self, timeline: u32, position: Lsn) -> bool {
        timeline == self.timeline || (timeline == self.parent && position <= self.begins)
    }

    /// Up to where what a member has is the instance's: of the parent timeline until this term began, and nothing of an
    /// older one, of which it is not known where it ended.
    pub fn shared(&self, timeline: u32, position: Lsn) -> Lsn {
        match timeline {
            _ if timeline >= self.timeline => position,
            _ if timeline == self.parent => position.min(self.begins),
            _ => Lsn(0),
        }
    }

    /// Whether a member that has so much has all that was committed: as much as a primary that has ended in order.
    pub fn is_all(&self, timeline: u32, position: Lsn) -> bool {
        self.is_end && timeline == self.timeline && position >= self.position
    }
}

/// A failover that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switchover {
    /// Tells one request from another.
    pub id: String,
    /// The next primary; `None`: the one that is best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Why a failover was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Of the request.
    pub id: String,
    /// One sentence.
    pub reason: String,
}

/// A Lease as it was read, or as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Resource version it was read with; `None` before it exists.
    pub version: Option<String>,
    /// Who holds it; `None`: it was released.
    pub holder: Option<Holder>,
    /// The term, `leaseTransitions`.
    pub term: u64,
    /// Whether the holder renews it. If not, it is the only member, and nobody takes its place.
    pub is_renewed: bool,
    /// When the holder's term began, and when it last renewed it.
    pub acquired: Option<jiff::Timestamp>,
    /// See `acquired`.
    pub renewed: Option<jiff::Timestamp>,
    /// System identifier of the instance.
    pub identifier: Option<String>,
    /// Generation of its content.
    pub generation: Option<String>,
    /// The rest.
    pub details: Details,
    /// What somebody asks for.
    pub switchover: Option<Switchover>,
    /// What was refused.
    pub refused: Option<Refusal>,
}

impl Record {
    /// What a Lease says.
    pub fn of(lease: &Lease) -> Self {
        let annotation = |key: &str| lease.metadata.annotations.as_ref()?.get(key).cloned();
        let spec = lease.spec.clone().unwrap_or_default();
        let details: Details = parsed(annotation(REPLICATION)).unwrap_or_default();
        let holder = spec.holder_identity.filter(|pod| !pod.is_empty()).map(|pod| Holder {
            pod,
            uid: details.uid.clone(),
            run: details.run.clone(),
        });
        Self {
            version: lease.metadata.resource_version.clone(),
            holder,
            term: spec.lease_transitions.and_then(|term| u64::try_from(term).ok()).unwrap_or(0),
            is_renewed: spec.lease_duration_seconds.is_some(),
            acquired: spec.acquire_time.map(|time| time.0),
            renewed: spec.renew_time.map(|time| time.0),
            identifier: annotation(SYSTEM_IDENTIFIER),
            generation: annotation(GENERATION),
            details,
            switchover: parsed(annotation(SWITCHOVER)),
            refused: parsed(annotation(SWITCHOVER_REFUSED)),
        }
    }

    /// The merge patch that makes the Lease say this, if it still has the version it was read with.
    pub fn patch(&self) -> Value {
        json!({
            "metadata": {
                "resourceVersion": self.version,
                "annotations": {
                    (SYSTEM_IDENTIFIER): self.identifier,
                    (GENERATION): self.generation,
                    (REPLICATION): text(&self.noted()),
                    (SWITCHOVER): self.switchover.as_ref().map(text),
                    (SWITCHOVER_REFUSED): self.refused.as_ref().map(text),
                },
            },
            "spec": {
                // An empty name is refused by the API server; null removes it.
                "holderIdentity": self.holder.as_ref().map(|holder| &holder.pod),
                "leaseTransitions": self.term,
                "leaseDurationSeconds": self.is_renewed.then_some(LASTS.as_secs()),
                "acquireTime": self.acquired.map(micros),
                "renewTime": self.renewed.map(micros),
            },
        })
    }

    /// The whole object, for making it.
    pub fn object(&self, pod: &Pod, instance: &Postgresql) -> Result<Lease, serde_json::Error> {
        let mut document = self.patch();
        document["metadata"]["name"] = json!(pod.instance);
        document["metadata"]["labels"] = json!(names::reserved_labels(&pod.instance));
        document["metadata"]["ownerReferences"] = json!([{
            "apiVersion": Postgresql::API_VERSION, "kind": Postgresql::KIND,
            "name": pod.instance, "uid": instance.metadata.uid,
        }]);
        remove_nulls(&mut document);
        serde_json::from_value(document)
    }

    fn noted(&self) -> Details {
        let (uid, run) =
            self.holder.as_ref().map_or_else(Default::default, |holder| (holder.uid.clone(), holder.run.clone()));
        Details { uid, run, ..self.details.clone() }
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn parsed<T: serde::de::DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?).ok()
}

/// A `MicroTime`.
fn micros(time: jiff::Timestamp) -> String {
    format!("{time:.6}")
}

fn remove_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(remove_nulls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(quorum: &Quorum) -> Vec<&str> {
        quorum.members.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_commit_is_on_most_members_and_so_many_are_asked_that_one_has_it() {
        for (replicas, needed, asked) in [(1, 0, 0), (2, 0, 0), (3, 1, 2), (4, 2, 2), (5, 2, 3)] {
            let quorum = Quorum::of("x", replicas, "x-1");
            assert_eq!((quorum.needed, quorum.to_be_asked()), (needed, asked), "{replicas} members");
            assert_eq!(quorum.instance_members(), if replicas < 3 { 0 } else { replicas }, "{replicas} members");
            let others = if replicas < 3 { 0 } else { replicas as usize - 1 };
            assert_eq!(quorum.members.len(), others);
            assert!(!names(&quorum).contains(&"x-1"));
        }
        assert_eq!(Quorum::of("x", 3, "x-0").setting(), r#"ANY 1 ("x-1", "x-2")"#);
        assert_eq!(Quorum::default().setting(), "");
    }

    proptest::proptest! {
        /// Whichever members confirmed a commit under either quorum, one of those that the joined one asks has it.
        #[test]
        fn a_quorum_that_replaces_another_forgets_no_commit(old in 0_u32..8, new in 0_u32..8) {
            let (old, new) = (Quorum::of("x", old, "x-0"), Quorum::of("x", new, "x-0"));
            let both = old.and(&new);
            for quorum in [old, new] {
                if quorum.members.is_empty() { continue }
                // The worst case: all that may be left out are those that confirmed.
                let left_out = both.members.len() - both.to_be_asked();
                proptest::prop_assert!(left_out < quorum.needed);
            }
        }
    }

    fn pod(ordinal: u32) -> Pod {
        Pod {
            instance: "x".into(),
            name: format!("x-{ordinal}"),
            namespace: "n".into(),
            address: [127, 0, 0, 1].into(),
            socket_directory: "/s".into(),
        }
    }

    #[test]
    fn a_new_primary_of_an_instance_that_grows_is_confirmed_by_those_who_did() {
        let quorum = Quorum::of("x", 3, "x-0").led_by(&pod(1));
        assert_eq!((names(&quorum), quorum.needed, quorum.to_be_asked()), (vec!["x-0", "x-2"], 1, 2));
        let by_a_new_one = Quorum::of("x", 3, "x-0").led_by(&pod(3));
        assert_eq!((names(&by_a_new_one), by_a_new_one.needed), (vec!["x-0", "x-1", "x-2"], 1));
        let next = by_a_new_one.led_by(&pod(0));
        assert_eq!((names(&next), next.needed), (vec!["x-1", "x-2", "x-3"], 1));
    }

    proptest::proptest! {
        /// One primary after another, each of which has all that was confirmed before: whichever others have it, too,
        /// one of those that are asked then is the primary before or has confirmed it. So also in one that was growing.
        #[test]
        fn a_quorum_of_the_next_primary_forgets_no_commit(
            old in 3_u32..8, new in 3_u32..8, primaries in proptest::collection::vec(0_u32..8, 1..4),
        ) {
            let (mut quorum, mut last) = (Quorum::of("x", old, "x-0").and(&Quorum::of("x", old.max(new), "x-0")), 0);
            for next in primaries {
                if next == last { continue }
                let after = quorum.led_by(&pod(next));
                let (last_name, next_name) = (format!("x-{last}"), format!("x-{next}"));
                let has = |name: &str| after.members.iter().any(|member| member == name);
                proptest::prop_assert!(has(&last_name) && !has(&next_name) && after.needed > 0);
                proptest::prop_assert!(quorum.members.iter().all(|name| *name == next_name || has(name)));
                // The worst case: the next one is among those that confirmed, and all that may be left out are the rest
                // of them and the last one.
                let left_out = after.members.len() - after.to_be_asked();
                proptest::prop_assert!(left_out < quorum.needed);
                (quorum, last) = (after, next);
            }
        }
    }

    #[test]
    fn who_has_more_of_the_old_timeline_does_not_fit() {
        let details = Details { timeline: 4, parent: 2, begins: Lsn(100), ..Details::default() };
        for (timeline, position, expected) in
            [(4, 500, true), (2, 100, true), (2, 101, false), (3, 1, false), (1, 1, false), (5, 1, false)]
        {
            assert_eq!(details.fits(timeline, Lsn(position)), expected, "{position} of {timeline}");
        }
    }

    #[test]
    fn who_has_as_much_as_a_primary_that_has_ended_in_order_has_all() {
        let details = Details { timeline: 4, parent: 2, begins: Lsn(100), position: Lsn(200), ..Details::default() };
        let ended = Details { is_end: true, ..details.clone() };
        for (timeline, position, expected) in
            [(4, 200, true), (4, 201, true), (4, 199, false), (2, 300, false), (5, 300, false)]
        {
            assert_eq!(ended.is_all(timeline, Lsn(position)), expected, "{position} of {timeline}");
            assert!(!details.is_all(timeline, Lsn(position)), "where it ended is not known");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let record = Record {
            version: Some("7".into()),
            holder: Some(Holder { pod: "x-1".into(), uid: "u".into(), run: "r".into() }),
            term: 3,
            is_renewed: true,
            acquired: Some("2026-01-02T03:04:05.000006Z".parse().expect("a time")),
            renewed: Some("2026-01-02T03:04:06Z".parse().expect("a time")),
            identifier: Some("42".into()),
            generation: Some("g".into()),
            details: Details {
                uid: "u".into(),
                run: "r".into(),
                timeline: 4,
                parent: 2,
                begins: Lsn(16),
                position: Lsn(0x1_0000_0010),
                is_end: true,
                quorum: Quorum::of("x", 3, "x-1"),
                successor: None,
                template: Some("9".into()),
            },
            switchover: Some(Switchover { id: "1".into(), to: None }),
            refused: None,
        };
        let lease = record.object(&pod(1), &Postgresql::new("x", Default::default())).expect("a Lease");
        assert_eq!(Record::of(&lease), record);
        let released = Record { holder: None, ..record };
        let lease = released.object(&pod(1), &Postgresql::new("x", Default::default())).expect("a Lease");
        assert_eq!(Record::of(&lease).holder, None);
        assert_eq!(released.patch()["spec"]["holderIdentity"], Value::Null);
    }
}
