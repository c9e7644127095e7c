//! What a member does next, decided from what it sees. Pure: everything that matters is in the [`View`].
//!
//! The rules, in the order in which they are asked:
//!
//! 1. Who holds the Lease leads, until its last renewal is [`FENCE`](super::lease::FENCE) old. Then it ends its server.
//! 2. Who is the primary of the Lease's term, by what its volume says, has everything: it may take the Lease again as
//!    long as nobody else has, and lets those go first who should be next or are quicker, for a moment.
//! 3. As long as another holder may live, a member follows it, once it has renewed the Lease before this member's eyes.
//!    A container that has ended and a Lease that was released prove that it does not live. So does a pod that is gone,
//!    but only where a quorum confirms commits: its containers may outlive it, and alone they would go on confirming.
//!    Everything else waits until the Lease has not been renewed for [`LASTS`], on this member's own clock. A Lease
//!    that is not renewed is an only member's, whose place nobody takes.
//! 4. Without a living holder, members stop receiving and say how far they are ([`Standing`]), as soon as they know it.
//!    Who has asked so many of those that confirm commits that one of them must have each, and is not behind any of
//!    them, takes the Lease by a compare-and-swap. So also a primary that is frozen and wakes up cannot have a commit
//!    confirmed. Who has as much as a primary that has ended in order has everything, and need not ask so many.
//! 5. Where nobody confirms commits, a member is compared with where the last primary was, too: what it has of the
//!    timeline before counts up to where the term began. One that is behind by more than [`LAG`] never leads; one that
//!    lacks anything of a primary that has ended in order waits for that one for [`RETURN`].
//! 6. Without a Lease, an instance is new only if nobody has noted that it had data, this run has seen no Lease, no other
//!    member has served, and this one's volume has no data: then the first member initialises it. An only member that was
//!    the primary makes the Lease again; everybody else waits.
//!
//! A member never leads with a volume of another identifier or generation, and never with one that has neither followed
//! nor copied a primary yet. One that could not follow copies the primary as long as that one lives. Without it, its
//! data is what it is: it may have what nobody else has.

use super::lease::{LASTS, Record, leads_for};
use super::report::{Lsn, Standing};
use std::fmt;
use std::time::Duration;

/// How long members that do not answer are waited for where nobody has confirmed commits, and how long the one that
/// should be next may take.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How long a primary that came back lets its standbys go first.
pub const HESITATION: Duration = Duration::from_millis(700);
/// How long a member that lacks something waits for the primary that has ended in order, where nobody confirms commits:
/// that one has everything, and its volume is where it was.
pub const RETURN: Duration = Duration::from_secs(60);
/// How long an only member waits for the API before it serves without.
pub const API: Duration = Duration::from_secs(5);
/// Where nobody confirms commits, a member that is further behind than this never leads, in bytes of WAL (as the
/// released stack).
pub const LAG: u64 = 32 << 20;

/// What is on this member's volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// Nothing.
    Empty,
    /// An initialisation that was cut off, with this identifier.
    Unfinished(u64),
    /// A data directory.
    Data {
        /// Its system identifier.
        identifier: u64,
        /// Generation of its content.
        generation: Option<String>,
        /// The term in which it was the primary, unless it has followed another one since.
        term: Option<u64>,
        /// Whether it has followed or copied a primary, or was one.
        has_followed: bool,
        /// Whether its instance had no other members when it was last used.
        is_sole: bool,
    },
}

/// What this member's server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// It does not run.
    Stopped,
    /// It is a standby; what has been said of it, if it receives nothing.
    Standby(Option<Standing>),
    /// It is the primary.
    Primary,
}

/// Another member, as its pod shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Name of its pod.
    pub pod: String,
    /// UID of its pod.
    pub uid: String,
    /// Its address, once it has one.
    pub address: Option<String>,
    /// Whether it answers.
    pub is_ready: bool,
    /// Whether it says that it is the primary.
    pub is_primary: bool,
    /// Runs of its agent that are known to have ended.
    pub ended: Vec<String>,
    /// How far it says it is.
    pub standing: Option<Standing>,
    /// The parameters it has, or has enough of.
    pub parameters: Vec<String>,
    /// Whether it says that its disk is full.
    pub is_full: bool,
}

/// Everything that decides.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Name of this member's pod.
    pub pod: &'a str,
    /// The UID of that.
    pub uid: &'a str,
    /// Its number.
    pub ordinal: Option<u32>,
    /// How many members the instance should have.
    pub replicas: u32,
    /// Its volume.
    pub volume: &'a Volume,
    /// Its server.
    pub server: &'a Server,
    /// How long ago the Lease was last renewed, if this run holds it; `None` in it if it is not renewed.
    pub held: Option<Option<Duration>>,
    /// Whether the cluster has been seen at all, and how long this run has been waiting for that.
    pub is_known: bool,
    /// See `is_known`.
    pub blind: Duration,
    /// The Lease.
    pub lease: Option<&'a Record>,
    /// For how long it has not changed.
    pub unchanged: Duration,
    /// Whether this run has seen it change.
    pub has_changed: bool,
    /// Whether its holder is known to have ended, or can confirm nothing any more.
    pub is_gone: bool,
    /// How long ago this member first said how far it is, since it last followed.
    pub stood: Duration,
    /// Whether it is known that the instance has had data: the operator noted it, or this run has seen a Lease.
    pub was_there: bool,
    /// Whether this member could not follow with its data, so that it is to be copied from the primary.
    pub is_spoilt: bool,
    /// The other members.
    pub members: &'a [Member],
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wait until something changes.
    Wait(Reason),
    /// Make the data directory of a new instance, and its Lease.
    Initialise,
    /// Make the Lease of an instance that has data and no Lease.
    Claim,
    /// Take the Lease as it was seen.
    Acquire,
    /// Be the primary.
    Lead,
    /// End the server at once.
    Stop,
    /// Run as a standby that receives nothing, and say how far it is.
    Stand,
    /// Run as a standby of this member.
    Follow(String),
    /// Copy the data of this member.
    Clone(String),
    /// End the agent: the volume must not be used.
    Refuse(Refusal),
}

/// Why a volume must not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is empty, and nobody else has the data.
    Lost,
    /// It belongs to another instance.
    Foreign,
}

/// What a member waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The Kubernetes API.
    Api,
    /// The first member, which initialises the instance.
    First,
    /// The primary, which is starting.
    Primary(String),
    /// A sign of life of the Lease's holder.
    Renewal(String),
    /// Others have to say how far they are: so many did of so many that must.
    Quorum {
        /// Who did, this member among them.
        asked: usize,
        /// How many must.
        needed: usize,
    },
    /// Another member is further and will lead.
    Better(String),
    /// It is too far behind.
    Lag(u64),
    /// It lacks so much of what the primary has that ended in order.
    Former(u64),
    /// It has not followed a primary yet.
    NeverFollowed,
    /// The holder was the only member.
    Sole(String),
    /// Nobody has the data.
    NoSource,
    /// The Lease is gone.
    NoLease,
}

impl Reason {
    /// Whether people should know: it does not pass by itself soon.
    pub fn is_trouble(&self) -> bool {
        !matches!(self, Self::Api | Self::First | Self::Primary(_) | Self::Renewal(_) | Self::Better(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api => write!(f, "the Kubernetes API does not answer"),
            Self::First => write!(f, "the first member has not initialised the instance yet"),
            Self::Primary(pod) => write!(f, "{pod}, the primary, is not ready yet"),
            Self::Renewal(pod) => write!(f, "{pod} has not renewed the Lease yet"),
            Self::Quorum { asked, needed } => write!(
                f,
                "there is no primary: {asked} of {needed} members that must be compared have said how far they are, \
                 and without the others a committed row could be lost"
            ),
            Self::Better(pod) => write!(f, "{pod} has more and will be the primary"),
            Self::Lag(bytes) => {
                write!(f, "there is no primary: this member is {} MiB behind the last one", bytes >> 20)
            }
            Self::Former(bytes) => {
                write!(f, "the last primary has ended in order and has {bytes} bytes of WAL more: it is waited for")
            }
            Self::NeverFollowed => write!(f, "there is no primary: this member has never followed one"),
            Self::Sole(pod) => write!(f, "{pod}, which alone has the data, does not run"),
            Self::NoSource => write!(f, "there is no primary, and the volume of this member is empty or outdated"),
            Self::NoLease => write!(
                f,
                "the Lease of the instance is gone, and nobody knows who was the primary: restore a backup into another \
                 instance"
            ),
        }
    }
}

impl View<'_> {
    fn is_mine(&self, lease: &Record) -> bool {
        lease.holder.as_ref().is_none_or(|holder| holder.pod == self.pod)
    }

    /// Who should lead rather than the primary of the last term, which has everything as well.
    fn preferred<'a>(&'a self, lease: &'a Record) -> Option<&'a str> {
        let successor = lease.details.successor.as_deref().filter(|pod| *pod != self.pod);
        if successor.is_some() && self.unchanged < PATIENCE {
            return successor;
        }
        // A standby that runs is quicker than a server that has to recover; only where commits are confirmed it has
        // them all.
        let is_quicker = lease.holder.is_some() && !lease.details.quorum.members.is_empty();
        let standby = self.members.iter().find(|member| member.is_ready && !member.is_primary);
        standby.filter(|_| is_quicker && self.unchanged < HESITATION).map(|member| member.pod.as_str())
    }

    /// Whether the Lease has no living holder.
    fn is_vacant(&self, lease: &Record) -> bool {
        // An earlier run of this pod has ended: this run has its volume.
        self.is_mine(lease) || (lease.is_renewed && (self.is_gone || self.unchanged > LASTS))
    }
}

/// What a member does next.
pub fn decide(view: &View<'_>) -> Action {
    match view.held {
        Some(Some(age)) if age >= leads_for() => return Action::Stop,
        Some(_) => return Action::Lead,
        None => {}
    }
    if !view.is_known {
        return blind(view);
    }
    let Some(lease) = view.lease else { return without_lease(view) };
    let (identifier, generation, term, has_followed) = match view.volume {
        Volume::Empty => return with_nothing(view, lease),
        Volume::Unfinished(identifier) => {
            let is_begun = lease.identifier.as_ref() == Some(&identifier.to_string());
            let may = view.is_mine(lease) && lease.term == 0 && view.ordinal == Some(0);
            return if is_begun && may { Action::Initialise } else { with_nothing(view, lease) };
        }
        Volume::Data { identifier, generation, term, has_followed, .. } => (identifier, generation, term, has_followed),
    };
    if lease.identifier.as_ref().is_some_and(|noted| *noted != identifier.to_string()) {
        return Action::Refuse(Refusal::Foreign);
    }
    let is_current = *generation == lease.generation;
    let goes_on = view.is_mine(lease) && is_current && *term == Some(lease.term);
    // Without a hold of the Lease only an only member's server may run: nobody takes its place. Whether another one has
    // taken this one's is not known as long as the API does not answer.
    if *view.server == Server::Primary && (lease.is_renewed || !goes_on) {
        return Action::Stop;
    }
    if goes_on {
        return match view.preferred(lease) {
            Some(pod) => Action::Wait(Reason::Better(pod.to_owned())),
            None => Action::Acquire,
        };
    }
    if !is_current {
        return with_nothing(view, lease);
    }
    match view.is_vacant(lease) {
        true => election(view, lease, *has_followed),
        false if view.is_spoilt => with_nothing(view, lease),
        false => follow(view, lease),
    }
}

/// Without any answer of the API.
fn blind(view: &View<'_>) -> Action {
    let is_sole = matches!(view.volume, Volume::Data { is_sole: true, term: Some(_), .. });
    let runs = *view.server == Server::Primary;
    if is_sole && (runs || view.blind >= API) { Action::Lead } else { Action::Wait(Reason::Api) }
}

/// Somebody may have deleted it: only an instance of which nobody has seen anything is a new one.
fn without_lease(view: &View<'_>) -> Action {
    let has_served = |it: &Member| it.is_ready || it.is_primary || it.standing.is_some() || !it.parameters.is_empty();
    let is_new = !view.was_there && !view.members.iter().any(has_served);
    match view.volume {
        Volume::Empty | Volume::Unfinished(_) if !is_new => Action::Wait(Reason::NoLease),
        Volume::Empty | Volume::Unfinished(_) if view.ordinal == Some(0) => Action::Initialise,
        Volume::Empty | Volume::Unfinished(_) => Action::Wait(Reason::First),
        // Of one that had rivals nobody knows whether another member has led since.
        Volume::Data { term: Some(_), is_sole: true, .. } if view.replicas <= 1 => Action::Claim,
        Volume::Data { .. } => Action::Wait(Reason::NoLease),
    }
}

/// With an empty volume, or one whose content is not the instance's any more or does not fit.
fn with_nothing(view: &View<'_>, lease: &Record) -> Action {
    if view.is_mine(lease) && view.replicas <= 1 && view.members.is_empty() && *view.volume == Volume::Empty {
        return Action::Refuse(Refusal::Lost);
    }
    let holder = lease.holder.as_ref().filter(|holder| holder.pod != view.pod);
    let Some(holder) = holder.filter(|_| !view.is_vacant(lease)) else { return Action::Wait(Reason::NoSource) };
    let primary = view.members.iter().find(|member| member.pod == holder.pod && member.uid == holder.uid);
    match primary {
        Some(primary) if primary.is_ready && primary.is_primary => Action::Clone(holder.pod.clone()),
        _ => Action::Wait(Reason::Primary(holder.pod.clone())),
    }
}

fn follow(view: &View<'_>, lease: &Record) -> Action {
    let Some(holder) = &lease.holder else { return Action::Wait(Reason::NoLease) };
    if view.is_gone {
        return Action::Wait(Reason::Sole(holder.pod.clone()));
    }
    // An earlier run may have promised to confirm nothing under this version of the Lease.
    if lease.is_renewed && !view.has_changed {
        return Action::Wait(Reason::Renewal(holder.pod.clone()));
    }
    Action::Follow(holder.pod.clone())
}

/// Who may be chosen, and how far it is.
struct Voter<'a> {
    pod: &'a str,
    standing: &'a Standing,
    /// Whether it answers, or may soon.
    is_there: bool,
}

impl Voter<'_> {
    fn has(&self) -> (u32, Lsn) {
        (self.standing.timeline, self.standing.position)
    }

    /// The greatest is the best: most data, then the one that was asked for, then the lowest number.
    fn rank(&self, successor: Option<&str>) -> ((u32, Lsn), bool, std::cmp::Reverse<(usize, &str)>) {
        let is_wanted = successor == Some(self.pod);
        (self.has(), is_wanted, std::cmp::Reverse((self.pod.len(), self.pod)))
    }
}

fn election(view: &View<'_>, lease: &Record, has_followed: bool) -> Action {
    let Some(version) = &lease.version else { return Action::Wait(Reason::NoLease) };
    let is_valid = |standing: &&Standing| standing.vacancy == *version && standing.generation == lease.generation;
    let Server::Standby(Some(own)) = view.server else { return Action::Stand };
    if !is_valid(&own) {
        return Action::Stand;
    }
    if !has_followed {
        return Action::Wait(Reason::NeverFollowed);
    }
    let own = Voter { pod: view.pod, standing: own, is_there: true };
    let is_early = view.stood < PATIENCE;
    let has_voted = |member: &Member| member.standing.as_ref().is_some_and(|standing| is_valid(&standing));
    let voters: Vec<Voter<'_>> = view
        .members
        .iter()
        .filter_map(|member| {
            let standing = member.standing.as_ref().filter(is_valid)?;
            Some(Voter { pod: &member.pod, standing, is_there: member.is_ready || is_early })
        })
        .collect();
    let (asked, needed) = {
        let confirms = |pod: &str| lease.details.quorum.members.iter().any(|name| name == pod);
        // One that said how far it is and does not answer is not waited for for ever if it has more. Where it has no
        // more, what it said is enough: one that has started without a primary is not ready before there is one.
        let others = voters.iter().filter(|it| confirms(it.pod) && (it.is_there || it.has() <= own.has()));
        (others.count() + usize::from(confirms(own.pod)), lease.details.quorum.to_be_asked())
    };
    // All of a primary that has ended: nobody can have more, and there is no server that commits could be confirmed to.
    let has_all = lease.holder.is_none() && lease.details.is_all(own.standing.timeline, own.standing.position);
    // It was chosen before and does not know it: the answer was lost, or its agent ended before it noted the term. Its
    // server has not been the primary since, and has all that was committed.
    let was_chosen = lease.holder.as_ref().is_some_and(|it| it.pod == view.pod && it.uid == view.uid);
    if asked < needed && !has_all && !was_chosen {
        return Action::Wait(Reason::Quorum { asked, needed });
    }
    if needed == 0 {
        let has = lease.details.shared(own.standing.timeline, own.standing.position);
        let missing = lease.details.position.0.saturating_sub(has.0);
        if missing > LAG {
            return Action::Wait(Reason::Lag(missing));
        }
        let ended_in_order = lease.holder.is_none() && !sabotage::sabotaged!("former-primary-forgotten");
        if ended_in_order && missing > 0 && view.stood < RETURN {
            return Action::Wait(Reason::Former(missing));
        }
    }
    // Who need not be asked should be, for a while, if it is there; and who should be next may come. That one waits for
    // nobody: it was named because it has everything.
    let holder = lease.holder.as_ref().map(|holder| holder.pod.as_str());
    let successor = lease.details.successor.as_deref();
    let is_awaited = |member: &&Member| {
        let is_there = needed == 0 && member.is_ready && Some(member.pod.as_str()) != holder;
        (is_there || successor == Some(member.pod.as_str())) && !has_voted(member)
    };
    let may_wait = is_early && successor != Some(view.pod);
    if let Some(awaited) = view.members.iter().find(is_awaited).filter(|_| may_wait) {
        return Action::Wait(Reason::Better(awaited.pod.clone()));
    }
    let best = voters.iter().filter(|it| it.is_there).max_by(|a, b| a.rank(successor).cmp(&b.rank(successor)));
    match best {
        Some(best) if best.rank(successor) > own.rank(successor) => Action::Wait(Reason::Better(best.pod.to_owned())),
        _ => Action::Acquire,
    }
}

#[cfg(test)]
mod tests;
