//! What a StatefulSet needs next, from what was observed (`stateful_set_control.go`, `updateStatefulSet`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use kube::ResourceExt;
use serde_json::json;

use super::{claims, pods, revisions, status};
use crate::auth::rbac::selects;
use crate::controllers::Error;
use crate::controllers::action::{Action, Target, to_value};

/// How many pods one plan makes at most: what they become brings us here again.
pub(super) const AT_ONCE: usize = 50;

/// What there is.
pub struct Observed {
    /// The set.
    pub set: StatefulSet,
    /// The pods it controls, and those nobody controls that are named after it.
    pub pods: Vec<Pod>,
    /// The ControllerRevisions whose name begins with the set's.
    pub revisions: Vec<ControllerRevision>,
    /// The claims named after its templates and pods.
    pub claims: Vec<PersistentVolumeClaim>,
    /// The time.
    pub now: Timestamp,
}

/// What is to be done.
pub struct Plan {
    /// In this order; the first failure ends it.
    pub steps: Vec<Step>,
    /// In any case.
    pub status: Option<Action>,
    /// When to look again although nothing changes.
    pub again: Option<Duration>,
}

/// One request, and what is said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The request.
    pub action: Action,
    /// The event about it.
    pub report: Option<Report>,
}

impl Step {
    /// Nothing is said.
    pub fn quiet(action: Action) -> Self {
        Self { action, report: None }
    }
}

/// The event about a pod or claim that was made or deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    verb: &'static str,
    set: String,
    pod: String,
    claim: Option<String>,
}

impl Report {
    /// Reason and message when it went well.
    pub fn success(&self) -> (String, String) {
        let Self { verb, set, pod, claim } = self;
        let message = match claim {
            None => format!("{verb} Pod {pod} in StatefulSet {set} successful"),
            Some(claim) => format!("{verb} Claim {claim} Pod {pod} in StatefulSet {set} success"),
        };
        (format!("Successful{}", capital(verb)), message)
    }

    /// Reason and message when it did not.
    pub fn failure(&self, error: &str) -> (String, String) {
        let Self { verb, set, pod, claim } = self;
        let message = match claim {
            None => format!("{verb} Pod {pod} in StatefulSet {set} failed error: {error}"),
            Some(claim) => format!("{verb} Claim {claim} for Pod {pod} in StatefulSet {set} failed error: {error}"),
        };
        (format!("Failed{}", capital(verb)), message)
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `spec.replicas`.
pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// `spec.minReadySeconds`.
pub fn min_ready_seconds(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

/// Whether pods are replaced when the template changes, or only when somebody deletes them.
pub fn rolls(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

/// Decides what is next.
///
/// # Errors
/// A revision that can't be read.
pub fn plan(observed: &Observed) -> Result<Plan, Error> {
    let set = &observed.set;
    let revisions = revisions::find(set, &observed.revisions)?;
    let mut planner = Planner::new(observed, &revisions)?;
    if set.metadata.deletion_timestamp.is_none() {
        planner.steps.extend(revisions.steps.iter().cloned());
        planner.adopt_and_release()?;
        planner.pods()?;
        planner.forget_revisions();
    }
    let status = status::count(set, &planner.pods, &revisions, observed.now);
    let changed = set.status.as_ref() != Some(&status);
    let status = changed.then(|| {
        let set = StatefulSet { status: Some(status), ..set.clone() };
        Action::replace(&set, Some("status"))
    });
    let again = planner.again();
    Ok(Plan { steps: planner.steps, status: status.transpose()?, again })
}

/// Whether the rest has to wait for the next look.
#[derive(PartialEq)]
enum Next {
    GoOn,
    Wait,
}

struct Planner<'a> {
    observed: &'a Observed,
    set: &'a StatefulSet,
    /// The set's own, those to adopt included, those to release not.
    pods: Vec<&'a Pod>,
    current: (String, PodTemplateSpec),
    update: (String, PodTemplateSpec),
    ordered: bool,
    start: i32,
    end: i32,
    made: usize,
    steps: Vec<Step>,
}

impl<'a> Planner<'a> {
    fn new(observed: &'a Observed, revisions: &revisions::Revisions) -> Result<Self, Error> {
        let set = &observed.set;
        let spec = set.spec.as_ref();
        let start = spec.and_then(|spec| spec.ordinals.as_ref()).and_then(|ordinals| ordinals.start).unwrap_or(0);
        let selector = to_value(&spec.map(|spec| &spec.selector))?;
        let mut own = Vec::new();
        for pod in &observed.pods {
            let selected = selects(&selector, &to_value(pod.labels())?);
            let orphan = controller(pod).is_none();
            let named = pods::ordinal(&pod.name_any(), pods::set_name(set)).is_some();
            // An orphan that is going, or would be adopted by a set that is going, is left alone.
            let adoptable = named && !pods::is_terminating(pod) && set.metadata.deletion_timestamp.is_none();
            if selected && (!orphan || adoptable) {
                own.push(pod);
            }
        }
        Ok(Self {
            observed,
            set,
            pods: own,
            current: (revisions.current.name_any(), revisions::template(&revisions.current)?),
            update: (revisions.update.name_any(), revisions::template(&revisions.update)?),
            ordered: spec.and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel"),
            start,
            end: start.saturating_add(replicas(set)),
            made: 0,
            steps: Vec::new(),
        })
    }

    /// Takes pods that are named and labelled as its own; lets go those that no longer are.
    fn adopt_and_release(&mut self) -> Result<(), Error> {
        for pod in &self.observed.pods {
            let own = self.pods.iter().any(|one| std::ptr::eq(*one, pod));
            let controlled = controller(pod).is_some();
            let mut owners = pod.owner_references().to_vec();
            match (own, controlled) {
                (true, false) => owners.push(pods::controller_reference(self.set)),
                (false, true) => owners.retain(|owner| Some(&owner.uid) != self.set.metadata.uid.as_ref()),
                _ => continue,
            }
            let patch = json!({"metadata": {"ownerReferences": to_value(&owners)?}});
            self.steps.push(Step::quiet(Action::merge(Target::of(pod).unchanged(pod), patch)));
        }
        Ok(())
    }

    fn pods(&mut self) -> Result<(), Error> {
        let mut condemned: Vec<(i32, &Pod)> = self.ordinals().filter(|(ordinal, _)| !self.has(*ordinal)).collect();
        condemned.sort_by_key(|(ordinal, _)| -ordinal);
        for ordinal in self.start..self.end {
            if self.replica(ordinal)? == Next::Wait && (self.ordered || self.made == AT_ONCE) {
                return Ok(());
            }
        }
        for (ordinal, pod) in &condemned {
            self.set_claim_owners(*ordinal, Some(pod))?;
        }
        let first_unhealthy = self.first_unhealthy(&condemned);
        for (_, pod) in &condemned {
            if self.condemned(pod, first_unhealthy.as_deref()) == Next::Wait && self.ordered {
                return Ok(());
            }
        }
        if rolls(self.set) {
            self.roll();
        }
        Ok(())
    }

    /// Brings one wanted pod about.
    fn replica(&mut self, ordinal: i32) -> Result<Next, Error> {
        let Some(pod) = self.pod(ordinal) else {
            return self.create(ordinal);
        };
        if pods::is_finished(pod) {
            if !pods::is_terminating(pod) {
                self.delete_pod(pod);
            }
            return Ok(Next::Wait);
        }
        if pods::is_pending(pod) && !pods::is_terminating(pod) && !self.create_claims(ordinal, Some(pod))? {
            return Ok(Next::Wait);
        }
        let available = pods::is_available(pod, min_ready_seconds(self.set), self.observed.now);
        if self.ordered && (pods::is_terminating(pod) || !available) {
            return Ok(Next::Wait);
        }
        self.set_claim_owners(ordinal, None)?;
        if let Some(fixed) = pods::with_identity(self.set, pod, ordinal) {
            let patch = json!({"metadata": {"labels": to_value(fixed.labels())?}});
            self.steps.push(Step::quiet(Action::merge(Target::of(pod), patch)));
        }
        Ok(Next::GoOn)
    }

    fn create(&mut self, ordinal: i32) -> Result<Next, Error> {
        if !self.create_claims(ordinal, None)? {
            return Ok(Next::Wait);
        }
        let (revision, template) = if self.starts_at_current(ordinal) { &self.current } else { &self.update };
        let pod = pods::new_pod(self.set, template, revision, ordinal);
        let step = Step { action: Action::create(&pod)?, report: Some(self.report("create", &pod.name_any(), None)) };
        self.steps.push(step);
        self.made += 1;
        self.set_claim_owners(ordinal, None)?;
        Ok(Next::Wait)
    }

    /// Below the partition of a rolling update a pod comes back as it was.
    fn starts_at_current(&self, ordinal: i32) -> bool {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
        rolls(self.set) && ordinal < self.start.saturating_add(partition)
    }

    /// Makes the claims that are missing. `false` if one has to be collected first.
    fn create_claims(&mut self, ordinal: i32, pod: Option<&Pod>) -> Result<bool, Error> {
        let pod_name = format!("{}-{ordinal}", pods::set_name(self.set));
        let mut missing = Vec::new();
        for template in claims::templates(self.set) {
            match self.claim(&claims::claim_name(self.set, template, ordinal)) {
                Some(claim) if claims::is_stale(claim, &pod_name, pod) => return Ok(false),
                // A claim that goes can't be used; its end is a change that brings us here again.
                Some(claim) if claim.metadata.deletion_timestamp.is_some() => return Ok(false),
                Some(_) => {}
                None => missing.push(claims::new_claim(self.set, template, ordinal)),
            }
        }
        for claim in missing {
            let report = self.report("create", &pod_name, Some(claim.name_any()));
            self.steps.push(Step { action: Action::create(&claim)?, report: Some(report) });
        }
        Ok(true)
    }

    /// Gives the claims of a pod the owners that the retention policy asks for.
    fn set_claim_owners(&mut self, ordinal: i32, condemned: Option<&Pod>) -> Result<(), Error> {
        for template in claims::templates(self.set) {
            let Some(claim) = self.claim(&claims::claim_name(self.set, template, ordinal)) else { continue };
            if let Some(owners) = claims::owners_to_set(self.set, condemned, claim) {
                let patch = json!({"metadata": {"ownerReferences": to_value(&owners)?}});
                self.steps.push(Step::quiet(Action::merge(Target::of(claim).unchanged(claim), patch)));
            }
        }
        Ok(())
    }

    /// Takes away a pod beyond the replicas.
    fn condemned(&mut self, pod: &Pod, first_unhealthy: Option<&str>) -> Next {
        if pods::is_terminating(pod) {
            return Next::Wait;
        }
        let available = pods::is_available(pod, min_ready_seconds(self.set), self.observed.now);
        if self.ordered && !available && first_unhealthy != Some(&pod.name_any()) {
            return Next::Wait;
        }
        self.delete_pod(pod);
        Next::Wait
    }

    /// The lowest unhealthy wanted pod, or the lowest unhealthy condemned one.
    fn first_unhealthy(&self, condemned: &[(i32, &Pod)]) -> Option<String> {
        for ordinal in self.start..self.end {
            if !self.pod(ordinal).is_some_and(pods::is_healthy) {
                return Some(format!("{}-{ordinal}", pods::set_name(self.set)));
            }
        }
        condemned.iter().rev().find(|(_, pod)| !pods::is_healthy(pod)).map(|(_, pod)| pod.name_any())
    }

    /// Replaces the highest pod that is of another revision, once those above it are healthy.
    fn roll(&mut self) {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
        for ordinal in (self.start.saturating_add(partition)..self.end).rev() {
            let Some(pod) = self.pod(ordinal) else { return };
            if pods::revision(pod) != self.update.0 && !pods::is_terminating(pod) {
                self.delete_pod(pod);
                return;
            }
            if !pods::is_healthy(pod) {
                return;
            }
        }
    }

    fn forget_revisions(&mut self) {
        let mut live: Vec<&str> = self.pods.iter().map(|pod| pods::revision(pod)).collect();
        live.extend([self.current.0.as_str(), self.update.0.as_str()]);
        let steps = revisions::superfluous(self.set, &self.observed.revisions, &live);
        self.steps.extend(steps);
    }

    /// When the first pod that is ready becomes available.
    fn again(&self) -> Option<Duration> {
        let rests = self.pods.iter().filter_map(|pod| {
            pods::until_available(pod, min_ready_seconds(self.set), self.observed.now).filter(|rest| !rest.is_zero())
        });
        rests.min().and_then(|rest| Duration::try_from(rest).ok())
    }

    fn delete_pod(&mut self, pod: &Pod) {
        let report = Some(self.report("delete", &pod.name_any(), None));
        let action = Action::Delete { target: Target::of(pod), propagation: None };
        self.steps.push(Step { action, report });
    }

    fn report(&self, verb: &'static str, pod: &str, claim: Option<String>) -> Report {
        Report { verb, set: pods::set_name(self.set).to_owned(), pod: pod.to_owned(), claim }
    }

    fn ordinals(&self) -> impl Iterator<Item = (i32, &'a Pod)> {
        let name = pods::set_name(self.set);
        self.pods.iter().filter_map(move |pod| Some((pods::ordinal(&pod.name_any(), name)?, *pod)))
    }

    fn pod(&self, ordinal: i32) -> Option<&'a Pod> {
        self.ordinals().find(|(number, _)| *number == ordinal).map(|(_, pod)| pod)
    }

    fn claim(&self, name: &str) -> Option<&'a PersistentVolumeClaim> {
        self.observed.claims.iter().find(|claim| claim.metadata.name.as_deref() == Some(name))
    }

    fn has(&self, ordinal: i32) -> bool {
        (self.start..self.end).contains(&ordinal)
    }
}

fn controller(pod: &Pod) -> Option<&str> {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    owner.map(|owner| owner.uid.as_str())
}
