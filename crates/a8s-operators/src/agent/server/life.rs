//! The loop: decide, do it, wait for a change.

use super::*;
use crate::agent::bootstrap::Taken;
use crate::agent::datadir::exchange;
use crate::agent::decide::{Action, Reason, Refusal, View, Volume};
use crate::agent::lease::Quorum;
use crate::agent::postmaster::Postmaster;
use crate::agent::primary::Kept;
use crate::agent::replication::Role;
use crate::agent::report::{Applied, Lsn, Standing};
use crate::agent::room;
use nix::sys::signal::Signal;
use std::time::SystemTime;
use tokio::task::JoinHandle;

/// The longest that anything goes unnoticed that no change tells.
const LOOK: Duration = Duration::from_secs(1);
/// How long the label of the pod may be seen to be another than was said: what is seen may be older.
const MISLABELLED: Duration = Duration::from_secs(1);
/// Pause between the starts of a standby that does not stay alive, and between copies for which there is no room.
pub(super) const REST: Duration = Duration::from_secs(10);
/// How long after its start a server that accepts no connections keeps its member from standing before that is said.
const SILENT: Duration = Duration::from_secs(2);
/// What is said then.
const MUTE: &str = "there is no primary, and the server of this member accepts no connections yet: \
                    it does not know how far it is";

/// The server that runs.
pub(super) struct Running {
    pub postmaster: Postmaster,
    pub as_what: AsWhat,
    pub since: Instant,
    /// What a primary keeps beside the data, once clients are let in.
    pub kept: Option<Kept>,
}

/// What it runs as.
pub(super) enum AsWhat {
    Primary,
    Standby(Standby),
}

/// A standby.
#[derive(Default)]
pub(super) struct Standby {
    /// The address from which it receives, or may: it is not known to have read that it should not any more.
    pub upstream: Option<String>,
    /// What it knows of who confirms commits; `None`: it has not read its last configuration yet.
    pub confirmed_by: Option<String>,
    /// What it has said of itself.
    pub standing: Option<Standing>,
    /// When it first said so, since it last followed.
    pub stood: Option<Instant>,
    /// Since when it should be receiving and is not.
    pub stalled: Option<Instant>,
}

/// A quorum that takes the place of another one.
pub(super) struct Replacing {
    pub wanted: Quorum,
    /// Ends when a commit was confirmed by it.
    pub proof: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Drop for Replacing {
    fn drop(&mut self) {
        self.proof.abort();
    }
}

/// What the agent knows of its own member.
pub(super) struct Life {
    pub seen: watch::Receiver<Seen>,
    pub orders: mpsc::Receiver<Order>,
    pub identity: Option<Identity>,
    pub running: Option<Running>,
    pub written: Option<Written>,
    /// What the server keeps when it is a primary (see [`configuration::unasked`]).
    pub unasked: Vec<(String, i64)>,
    /// Fingerprint of parameters with which the server does not start.
    rejected: Option<String>,
    /// Starts in a row that ended soon, and how the last one did.
    pub attempts: u32,
    pub status: String,
    /// A standby that does not stay alive, and has no primary to be copied from, is not started again before.
    pub rests_until: Option<Instant>,
    /// A copy for which there was no room is not tried again before.
    pub copy_due: Option<Instant>,
    /// The holder that is known to be gone, or to confirm nothing any more.
    pub gone: Option<Holder>,
    /// A primary waits so long for the others before it is restarted for its parameters.
    pub restart_by: Option<Instant>,
    /// Why the primary does not say what it has, without which it is not followed.
    pub unanswered: Option<String>,
    /// How often a standby has tried in vain to follow.
    pub failures: u32,
    /// The data is of no use for following: it has to be copied, as long as there is a primary.
    pub is_spoilt: bool,
    /// Its content is not final: no client may come in.
    pub is_closed: bool,
    /// A quorum that the server waits for, and the Lease does not name yet.
    pub replacing: Option<Replacing>,
    /// When it was last looked whether the server waits for those who confirm commits.
    pub quorum_seen: Option<Instant>,
    /// Since when too few standbys confirm commits.
    pub unconfirmed: Option<Instant>,
    /// Since when the disk is full.
    pub full: Option<Instant>,
    /// When it last made way for a member whose disk is not.
    pub made_way: Option<Instant>,
    /// Since when its pod is seen with the label of another role than it has.
    mislabelled: Option<Instant>,
    pub certificate_due: Instant,
    began: Instant,
    last: Option<Action>,
}

/// Why waiting ended.
pub(super) enum Event {
    Stop,
    /// The server ended.
    Ended,
    /// Something was seen, or it is time to look.
    Look,
    Order(Order),
}

impl<P: Platform> Agent<P> {
    /// From the first look at the volume to the order to end.
    pub(super) async fn live(&self, seen: watch::Receiver<Seen>, orders: mpsc::Receiver<Order>) -> Result<(), Error> {
        let _lock = self.lock().await?;
        self.prepare_sockets()?;
        let mut life = Life {
            seen,
            orders,
            identity: None,
            running: None,
            written: None,
            unasked: vec![],
            rejected: None,
            attempts: 0,
            status: String::new(),
            rests_until: None,
            copy_due: None,
            gone: None,
            restart_by: None,
            unanswered: None,
            failures: 0,
            is_spoilt: false,
            is_closed: false,
            replacing: None,
            quorum_seen: None,
            unconfirmed: None,
            full: None,
            made_way: None,
            mislabelled: None,
            certificate_due: Instant::now() + CERTIFICATE_ROUND,
            began: Instant::now(),
            last: None,
        };
        exchange::clear(&self.server.volume);
        let found = datadir::inspect(&self.server)?;
        life.identity = match found {
            Found::Empty => None,
            Found::Unfinished(identity) | Found::Complete(identity) => Some(identity),
        };
        postmaster::end_left_over(&self.server.data(), &self.server.pod.socket_directory).await?;
        certificate::ensure(&self.tls(), &self.server.pod, SystemTime::now())?;
        let result = self.rounds(&mut life).await;
        self.end(&mut life).await;
        result
    }

    async fn rounds(&self, life: &mut Life) -> Result<(), Error> {
        if !self.settle(life).await? {
            return Ok(());
        }
        let preparing = self.prepare_copy(life);
        loop {
            if self.stop.is_cancelled() {
                return Ok(());
            }
            self.look_for_the_holder(life).await;
            let action = self.decide(life);
            if action != Action::Lead {
                self.lead_no_more();
            }
            if life.last.as_ref() != Some(&action) {
                tracing::info!("{}", described(&action));
                life.last = Some(action.clone());
            }
            match action {
                Action::Refuse(refusal) => return Err(self.refused(life, &refusal)),
                Action::Initialise => self.initialise(life, &preparing).await?,
                Action::Claim => self.claim(life).await?,
                Action::Acquire => self.acquire(life).await?,
                Action::Lead => self.lead(life).await?,
                Action::Stop => self.stop_at_once(life).await,
                Action::Stand => self.stand(life).await?,
                Action::Follow(pod) => self.follow(life, &pod).await?,
                Action::Clone(pod) => self.copy(life, &pod, &preparing).await?,
                Action::Wait(reason) => self.idle(life, &reason, &preparing).await?,
            }
        }
    }

    /// Whatever else is to be said of a member that does not lead, it does not say that it is the primary: another one may
    /// be, and may have said of this one that it is none. That this one is a standby it says once it is.
    fn lead_no_more(&self) {
        self.reports.send_if_modified(|report| {
            report.role = report.role.filter(|role| *role != "master");
            false
        });
    }

    /// Whoever else labels the pod does not have the last word: a former primary, whose word comes late, or somebody by hand.
    pub(super) fn keep_label(&self, life: &mut Life) {
        let report = self.reports.borrow().clone();
        let is_said = *self.said.borrow() == report;
        let is_other = report.role.filter(|_| is_said).is_some_and(|role| {
            let seen = life.seen.borrow();
            let own = seen.members.as_ref().and_then(|members| members.get(&self.server.pod.name));
            own.is_some_and(|own| own.is_primary != (role == "master"))
        });
        if !is_other {
            life.mislabelled = None;
        } else if life.mislabelled.get_or_insert_with(Instant::now).elapsed() >= MISLABELLED {
            tracing::warn!("the pod is labelled as what this member is not: it is labelled again");
            life.mislabelled = None;
            self.reports.send_modify(|_| {});
        }
    }

    /// Which of two contents on the volume is valid, if an exchange was cut off. Answers `false` if it is to stop.
    async fn settle(&self, life: &mut Life) -> Result<bool, Error> {
        if !self.server.volume.join(datadir::STAGED).exists() || life.identity.is_none() {
            return Ok(true);
        }
        tracing::warn!("the exchange of the content was cut off: the Lease says which one is valid");
        let generation = tokio::select! {
            () = self.stop.cancelled() => return Ok(false),
            seen = life.seen.wait_for(Seen::is_known) => {
                seen.ok().and_then(|seen| seen.sighting()?.record.generation.clone())
            }
        };
        self.settle_as(life, generation.as_deref())?;
        Ok(true)
    }

    pub(super) fn settle_as(&self, life: &mut Life, generation: Option<&str>) -> Result<(), Error> {
        let volume = &self.server.volume;
        let failed = |source| Error::Write { path: volume.clone(), source };
        exchange::settle(volume, generation).map_err(failed)?;
        self.recognise(life)
    }

    /// Notes the identifier that the data directory really has.
    pub(super) fn recognise(&self, life: &mut Life) -> Result<(), Error> {
        let Some(identity) = life.identity.as_mut() else { return Ok(()) };
        let number = datadir::identifier::read(&self.server.data());
        let number = number.map_err(|error| datadir::Error::Initialise(Box::new(error.into())))?;
        Ok(identity.change(&self.server.volume, |identity| identity.system_identifier = number)?)
    }

    fn volume(&self, life: &Life) -> Volume {
        match &life.identity {
            None => Volume::Empty,
            Some(identity) if !identity.is_initialised => Volume::Unfinished(identity.system_identifier),
            Some(identity) => Volume::Data {
                identifier: identity.system_identifier,
                // What cannot be read is of no known generation.
                generation: exchange::generation(&self.server.data()).unwrap_or_else(|_| Some("unreadable".to_owned())),
                term: identity.term,
                has_followed: identity.has_followed || identity.term.is_some(),
                is_sole: identity.is_sole,
            },
        }
    }

    fn decide(&self, life: &Life) -> Action {
        let seen = life.seen.borrow();
        let sighting = seen.sighting();
        let standby = life.running.as_ref().map(|running| &running.as_what);
        let server = match standby {
            None => decide::Server::Stopped,
            Some(AsWhat::Primary) => decide::Server::Primary,
            Some(AsWhat::Standby(standby)) => decide::Server::Standby(standby.standing.clone()),
        };
        let stood = match standby {
            Some(AsWhat::Standby(standby)) => standby.stood.map(|stood| stood.elapsed()).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let me = &self.server.pod.name;
        let members: Vec<_> =
            seen.members.iter().flatten().filter(|(pod, _)| *pod != me).map(|(_, member)| member.clone()).collect();
        decide(&View {
            pod: me,
            uid: &self.server.uid,
            ordinal: self.server.pod.ordinal(),
            replicas: replicas(&seen, &sighting.map(|it| it.record.details.quorum.clone()).unwrap_or_default()),
            volume: &self.volume(life),
            server: &server,
            held: self.keeper.held(),
            is_known: seen.is_known(),
            blind: life.began.elapsed(),
            lease: sighting.map(|sighting| &sighting.record),
            unchanged: sighting.map(|sighting| sighting.since.elapsed()).unwrap_or_default(),
            has_changed: sighting.is_some_and(|sighting| sighting.has_changed),
            is_gone: sighting.is_some_and(|it| it.record.holder.is_some() && it.record.holder == life.gone),
            stood,
            was_there: seen.was_leased || seen.was_initialized(),
            is_spoilt: life.is_spoilt,
            members: &members,
        })
    }

    /// Whether the holder of the Lease is known to have ended: its container says so, or its pod is no more and what
    /// may have outlived it does no harm.
    async fn look_for_the_holder(&self, life: &mut Life) {
        let (holder, ended, may_ask) = {
            let seen = life.seen.borrow();
            let Some(record) = seen.sighting().map(|it| &it.record) else { return };
            let Some(holder) = record.holder.clone() else { return };
            if holder.pod == self.server.pod.name || Some(&holder) == life.gone.as_ref() {
                return;
            }
            let Some(members) = &seen.members else { return };
            let member = members.get(&holder.pod).filter(|member| member.uid == holder.uid);
            let ended = member.is_some_and(|member| member.ended.contains(&holder.run));
            // A pod that was deleted by force is gone before its containers are. Their server can confirm nothing alone
            // where others have to confirm it; else it is waited until the Lease has expired.
            let is_harmless = !record.details.quorum.members.is_empty() || !record.is_renewed;
            (holder, ended, is_harmless && member.is_none())
        };
        // What has been seen of pods may be older than the Lease: only a fresh answer proves that a pod is gone.
        let is_gone = ended || (may_ask && self.is_gone(&holder).await);
        if is_gone {
            tracing::warn!("{}, the primary, has ended", holder.pod);
            life.gone = Some(holder);
        }
    }

    async fn is_gone(&self, holder: &Holder) -> bool {
        match timeout(QUERY, self.platform.member(&holder.pod)).await {
            Ok(Ok(member)) => member.is_none_or(|member| member.uid != holder.uid),
            _ => false,
        }
    }

    fn refused(&self, life: &Life, refusal: &Refusal) -> Error {
        let seen = life.seen.borrow();
        let expected = seen.sighting().and_then(|it| it.record.identifier.clone()).unwrap_or_default();
        match (refusal, &life.identity) {
            (Refusal::Foreign, Some(identity)) => {
                datadir::Error::OtherIdentifier { found: identity.system_identifier, expected }.into()
            }
            _ => datadir::Error::Lost { identifier: expected, pod: self.server.pod.name.clone() }.into(),
        }
    }

    /// Nothing to do: a standby that can serve for reading does so meanwhile.
    async fn idle(&self, life: &mut Life, reason: &Reason, preparing: &standby::Preparing) -> Result<(), Error> {
        self.trouble(reason.is_trouble().then(|| reason.to_string()));
        if *reason == Reason::First || matches!(reason, Reason::Primary(_)) {
            preparing.begin();
        }
        let is_standby =
            life.identity.as_ref().is_some_and(|identity| identity.is_initialised && identity.term.is_none());
        let may_start = is_standby && !life.is_spoilt && !standby::is_rewound(life);
        if may_start && life.running.is_none() && life.seen.borrow().is_known() {
            return self.start(life, &standby::role(life, None)).await;
        }
        self.wait(life, LOOK).await.map(|_| ())
    }

    /// Waits for the next event, at most so long. A server that ended is put away.
    pub(super) async fn wait(&self, life: &mut Life, at_most: Duration) -> Result<Event, Error> {
        let due = self.next_moment(life).map_or(Instant::now() + at_most, |due| due.min(Instant::now() + at_most));
        let ended = async {
            match life.running.as_mut() {
                Some(running) => describe(running.postmaster.ended().await),
                None => std::future::pending().await,
            }
        };
        let status = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Event::Stop),
            status = ended => status,
            Some(order) = life.orders.recv() => return Ok(Event::Order(order)),
            Ok(()) = life.seen.changed() => return Ok(Event::Look),
            () = self.keeper.changed() => return Ok(Event::Look),
            () = tokio::time::sleep_until(due) => return Ok(Event::Look),
        };
        self.put_away(life, status).await?;
        Ok(Event::Ended)
    }

    /// When the passing of time alone changes what is to be done.
    fn next_moment(&self, life: &Life) -> Option<Instant> {
        let since = life.seen.borrow().sighting().map(|it| it.since);
        let moments = [decide::HESITATION, decide::PATIENCE, crate::agent::lease::LASTS];
        let moments = moments.map(|moment| since.map(|since| since + moment + Duration::from_millis(1)));
        let label = life.mislabelled.map(|since| since + MISLABELLED);
        moments.into_iter().chain([label]).flatten().filter(|it| *it > Instant::now()).min()
    }

    /// After the server has ended by itself.
    pub(super) async fn put_away(&self, life: &mut Life, status: String) -> Result<(), Error> {
        self.probe.set(None);
        let Some(running) = life.running.take() else { return Ok(()) };
        tracing::warn!("the server ended with {status}; it is started again");
        life.attempts = if running.since.elapsed() > LONG_LIFE { 1 } else { life.attempts + 1 };
        life.status = status;
        postmaster::end_left_over(&self.server.data(), &self.server.pod.socket_directory).await?;
        let is_standby = matches!(running.as_what, AsWhat::Standby(_));
        if life.attempts >= ATTEMPTS {
            let error = Error::Unstable { attempts: life.attempts, status: life.status.clone() };
            // What waits for a primary to be copied from is copied as soon as there is one. Whoever starts containers
            // again may take minutes.
            if !(is_standby && life.is_spoilt) || self.keeper.held().is_some() {
                return Err(error);
            }
            self.trouble(Some(error.to_string()));
            life.rests_until = Some(Instant::now() + REST);
        }
        if is_standby && life.attempts + 1 == ATTEMPTS {
            tracing::error!("the standby does not stay alive: its data is copied from the primary again");
            life.is_spoilt = true;
        }
        Ok(())
    }

    /// Takes the configuration with which the server last started, if another one is asked for by now. What its primary
    /// demands of a standby it has to have in any case.
    fn fall_back(&self, life: &mut Life) -> Result<(), Error> {
        let Some(proven) = self.proven() else { return Ok(()) };
        if life.written.as_ref().is_some_and(|written| written.asked != proven) {
            self.write_configuration("postgresql.conf", &proven)?;
            // What applies now is not what the instance asks for, so nothing is reported for it.
            life.rejected = life.written.take().map(|written| written.fingerprint);
        }
        Ok(())
    }

    /// What [`PROVEN`] says, for the pod of now.
    fn proven(&self) -> Option<String> {
        let text = fs_err::read_to_string(self.server.volume.join(PROVEN)).ok()?;
        Some(configuration::moved(&text, self.server.pod.address, &self.server.pod.socket_directory))
    }

    /// Starts the server and waits until it accepts connections. It may end meanwhile: then nothing runs.
    pub(super) async fn start(&self, life: &mut Life, role: &Role) -> Result<(), Error> {
        let data = self.server.data();
        let spec = life.seen.borrow().instance.as_ref().map(|instance| instance.spec.clone());
        let is_standby = matches!(role, Role::Standby { .. }) || replication::is_standby(&self.server).await?;
        if let Some(spec) = spec {
            let demands = replication::demands(&self.server, &data).await?;
            life.unasked = configuration::unasked(&demands);
            let demands = if is_standby { demands } else { life.unasked.clone() };
            let proven = self.proven().map(|text| configuration::with_at_least(&text, &demands));
            match (self.render(&spec, &demands), proven) {
                // What was copied or rewound has the configuration of its primary, with the address of that.
                (Ok(written), Some(proven)) if life.rejected.as_ref() == Some(&written.fingerprint) => {
                    self.write_configuration("postgresql.conf", &proven)?;
                    life.written = None;
                }
                (Ok(written), _) => {
                    self.write_configuration("postgresql.conf", &written.text)?;
                    life.written = Some(written);
                }
                // It ran before: what is asked of it now is no reason to stop it.
                (Err(error), Some(proven)) => {
                    self.write_configuration("postgresql.conf", &proven)?;
                    life.written = None;
                    self.complain(Some(format!("the parameters are not applied: {}", chain(&error))));
                }
                (Err(error), None) => return Err(error),
            }
        }
        match life.is_closed {
            true => self.write_configuration("pg_hba.conf", configuration::CLOSED_PG_HBA_CONF)?,
            false => self.open_doors()?,
        }
        self.write_role(role)?;
        replication::signal(&data, is_standby).map_err(|source| Error::Write { path: data.clone(), source })?;
        let postmaster = Postmaster::start(&self.server)?;
        let as_what = if is_standby {
            let (upstream, confirmed_by) = match role.clone() {
                Role::Standby { upstream, confirmed_by } => (upstream, confirmed_by),
                Role::Primary(confirmed_by) => (None, confirmed_by),
            };
            let (confirmed_by, stalled) = (Some(confirmed_by), Some(Instant::now()));
            AsWhat::Standby(Standby { upstream, confirmed_by, stalled, ..Standby::default() })
        } else {
            AsWhat::Primary
        };
        if is_standby {
            self.tell(|report| report.role = Some("replica"));
        }
        life.running = Some(Running { postmaster, as_what, since: Instant::now(), kept: None });
        if self.wait_until_it_accepts(life).await?
            && let Some(running) = life.running.as_mut()
        {
            running.postmaster.guard(data.clone(), self.server.pod.socket_directory.clone());
            if let Some(written) = &life.written {
                // Best effort: without it, parameters that turn out to be impossible stop the instance.
                let _ = durable::swap(&self.server.volume.join(PROVEN), written.asked.as_bytes(), 0o600);
            }
        }
        let generation = exchange::generation(&data).ok().flatten().filter(|_| life.running.is_some());
        self.tell(|report| report.generation = generation);
        Ok(())
    }

    /// Lets clients in, once the server has read it.
    pub(super) fn open_doors(&self) -> Result<(), Error> {
        self.write_configuration("pg_hba.conf", &configuration::pg_hba_conf(self.server.pod.address))
    }

    /// Waits for the first connection, the server's end, or the order to stop. A standby that needs WAL which the
    /// primary has removed would wait for ever, as would what was rewound to one that does not lead any more: it is
    /// ended, as is what is to be copied from a primary that is there by now. Answers whether it accepts connections.
    async fn wait_until_it_accepts(&self, life: &mut Life) -> Result<bool, Error> {
        let holder_of = |seen: &Seen| seen.sighting().and_then(|it| it.record.holder.clone());
        let (mut seen, is_rewound) = (life.seen.clone(), standby::is_rewound(life));
        let holder = holder_of(&seen.borrow_and_update());
        let stuck = self.gets_stuck(life.seen.clone());
        tokio::pin!(stuck);
        let began = Instant::now();
        let mut due = began + LOOK;
        loop {
            if Instant::now() > due {
                due = Instant::now() + LOOK;
                match self.decide(life) {
                    Action::Clone(_) => {
                        self.stop_at_once(life).await;
                        return Ok(false);
                    }
                    Action::Follow(pod) => {
                        self.trouble(life.unanswered.clone());
                        self.receive_early(life, &pod)?;
                    }
                    // What it has, only its server tells: its files end where nobody knows before they are applied.
                    Action::Stand if began.elapsed() > SILENT => self.trouble(Some(MUTE.to_owned())),
                    _ => {}
                }
            }
            let Some(running) = life.running.as_mut() else { return Ok(false) };
            let is_standby = matches!(running.as_what, AsWhat::Standby(_));
            // Asking a server that is not ready would only fill its log.
            if running.postmaster.is_ready(&self.server.data())
                && let Ok(client) = bootstrap::connect(&self.server.pod.socket_directory, "a9s agent").await
            {
                *self.probe.client.borrow_mut() = Some(Rc::new(client));
                // What was rewound answers once it is consistent: it has all that its primary had then.
                if let Some(identity) = life.identity.as_mut().filter(|identity| identity.is_rewound) {
                    identity.change(&self.server.volume, |identity| {
                        (identity.has_followed, identity.is_rewound) = (true, false);
                    })?;
                }
                return Ok(true);
            }
            let status = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(false),
                status = running.postmaster.ended() => describe(status),
                _ = seen.wait_for(|seen| holder_of(seen) != holder), if is_rewound => {
                    self.stop_at_once(life).await;
                    return Ok(false);
                }
                () = &mut stuck, if is_standby => {
                    tracing::error!("the standby gets no further: it is copied from the primary again");
                    life.is_spoilt = true;
                    self.stop_at_once(life).await;
                    return Ok(false);
                }
                () = tokio::time::sleep(CONNECT_ROUND) => continue,
            };
            self.put_away(life, status).await?;
            // One that accepted connections did not end of the parameters with which it was started.
            if life.attempts > 1 {
                self.fall_back(life)?;
            }
            return Ok(false);
        }
    }

    /// Lets a standby receive that accepts no connections yet, if it is known to fit without them: it has the timeline
    /// of the term. One that begins in the middle of a transaction with very many savepoints accepts none before it has
    /// received the end of that (PostgreSQL manual, "Hot Standby: Caveats"). One that has much to recover is not ended
    /// when its primary makes way: it receives from the next one, or stops receiving once it can be asked.
    fn receive_early(&self, life: &mut Life, pod: &str) -> Result<(), Error> {
        let data = self.server.data();
        // What was rewound receives from the beginning.
        let is_other = life.identity.as_ref().is_none_or(|identity| identity.term.is_some() || identity.is_rewound);
        let timeline = life.seen.borrow().sighting().map(|it| it.record.details.timeline);
        let fits = timeline.is_some() && replication::timeline_on_disk(&data).ok() == timeline;
        let Some(address) = self.address_of(life, pod).filter(|_| fits && !is_other) else { return Ok(()) };
        let role = standby::role(life, Some(address.clone()));
        let Some(Running { postmaster, as_what: AsWhat::Standby(standby), .. }) = &mut life.running else {
            return Ok(());
        };
        if standby.upstream.as_ref() == Some(&address) || !postmaster.takes_signals(&data) {
            return Ok(());
        }
        self.write_role(&role)?;
        postmaster.signal(Signal::SIGHUP);
        (standby.upstream, standby.confirmed_by) = (Some(address), None);
        Ok(())
    }

    /// Ends the server as a crash would.
    pub(super) async fn stop_at_once(&self, life: &mut Life) {
        self.probe.set(None);
        self.keeper.forget();
        if let Some(running) = life.running.take() {
            running.postmaster.quit().await;
        }
    }

    /// Ends the server cleanly.
    pub(super) async fn stop_cleanly(&self, life: &mut Life) {
        self.probe.set(None);
        if let Some(running) = life.running.take() {
            running.postmaster.stop().await;
        }
    }

    /// The end of the agent: the server ends, then somebody else may take the Lease.
    async fn end(&self, life: &mut Life) {
        self.stop_cleanly(life).await;
        if self.keeper.held().flatten().is_none() {
            return;
        }
        // What an exchange of the content has left that was cut off says nothing of what others have.
        let generation = self.keeper.record().and_then(|record| record.generation);
        let is_of_the_lease = exchange::generation(&self.server.data()).is_ok_and(|found| found == generation);
        let end = if is_of_the_lease { replication::clean_end(&self.server).await } else { None };
        self.release(None, end).await;
    }

    /// Lets the Lease go. Where that fails, it expires.
    pub(super) async fn release(&self, successor: Option<&str>, end: Option<Lsn>) {
        if let Err(error) = self.keeper.release(successor, end).await {
            tracing::warn!("the Lease could not be released: {}", chain(&error));
        }
    }

    /// What this member waits for; without anything, why its parameters do not apply.
    pub(super) fn trouble(&self, text: Option<String>) {
        let text = text.or_else(|| self.complaint.borrow().clone());
        self.tell(|report| report.trouble = text);
    }

    /// Says why the parameters of the instance do not apply, until they do.
    pub(super) fn complain(&self, text: Option<String>) {
        if *self.complaint.borrow() == text {
            return;
        }
        if let Some(text) = &text {
            tracing::error!("{text}");
        }
        let before = self.complaint.replace(text);
        if self.reports.borrow().trouble == before {
            self.trouble(None);
        }
    }

    /// Says which parameters apply.
    pub(super) fn report(&self, life: &Life, restarted: bool) {
        let Some(written) = &life.written else { return };
        let at = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        self.tell(|report| {
            let last: Option<Applied> = report.configuration.as_ref().and_then(|text| serde_json::from_str(text).ok());
            let fingerprint = Some(written.fingerprint.clone());
            let applied = match (written.is_raised, last) {
                (true, Some(last)) => Applied { enough: fingerprint, ..last },
                _ => Applied { configuration: written.fingerprint.clone(), restarted, at, enough: None },
            };
            report.configuration = serde_json::to_string(&applied).ok();
        });
    }

    /// Looks whether the disk is full, and says so to the others.
    pub(super) fn look_at_the_disk(&self) -> bool {
        let was_full = self.reports.borrow().is_full;
        let is_full = room::is_full(&self.server.volume, was_full);
        self.tell(|report| report.is_full = is_full);
        is_full
    }

    /// Looks after the certificate now and then.
    pub(super) fn certify(&self, life: &mut Life) -> Result<(), Error> {
        if life.certificate_due > Instant::now() {
            return Ok(());
        }
        life.certificate_due = Instant::now() + CERTIFICATE_ROUND;
        if certificate::ensure(&self.tls(), &self.server.pod, SystemTime::now())?
            && let Some(running) = &life.running
        {
            running.postmaster.signal(Signal::SIGHUP);
        }
        Ok(())
    }

    /// Applies the instance's spec to the running primary, as [`Self::apply`].
    pub(super) async fn apply_to_primary(&self, life: &mut Life) -> Result<bool, Error> {
        let kept = life.unasked.clone();
        self.apply(life, &kept).await
    }

    /// Applies the instance's spec to the running server, by reloading where that is enough. Says whether it has to be
    /// restarted.
    pub(super) async fn apply(&self, life: &mut Life, demands: &[(String, i64)]) -> Result<bool, Error> {
        let spec = life.seen.borrow().instance.as_ref().map(|instance| instance.spec.clone());
        let Some(spec) = spec else { return Ok(false) };
        let wanted = match self.render(&spec, demands) {
            Ok(wanted) => wanted,
            Err(error) => {
                self.complain(Some(format!("the parameters are not applied: {}", chain(&error))));
                return Ok(false);
            }
        };
        let is_written = life.written.as_ref() == Some(&wanted);
        if !is_written && life.rejected.as_ref() == Some(&wanted.fingerprint) {
            self.complain(Some("the server does not start with its parameters: it runs with the last ones".to_owned()));
            return Ok(false);
        }
        // Also where it has what it is asked for again, after something else that did not apply.
        self.complain(None);
        if is_written {
            return Ok(false);
        }
        let is_text_new = life.written.as_ref().is_none_or(|written| written.text != wanted.text);
        life.written = Some(wanted.clone());
        if !is_text_new {
            self.report(life, false);
            return Ok(false);
        }
        self.write_configuration("postgresql.conf", &wanted.text)?;
        let has_to_restart = match self.probe.client().await {
            Some(client) => !matches!(bootstrap::reload(&client).await, Ok(Taken::Whole)),
            None => true,
        };
        if !has_to_restart {
            tracing::info!("the new parameters are applied");
            self.report(life, false);
        }
        Ok(has_to_restart)
    }
}

/// How many members the instance has: as many as it should have, and never fewer than confirm its commits. One that is told
/// to have none stops for a while, and each of its members may hold what the others do not.
pub(super) fn replicas(seen: &Seen, confirming: &Quorum) -> u32 {
    let wanted = seen.instance.as_ref().map_or(1, |instance| instance.spec.replicas());
    let wanted = u32::try_from(wanted).unwrap_or(0);
    if sabotage::sabotaged!("quorum-ends-with-the-spec") { wanted } else { wanted.max(confirming.instance_members()) }
}

fn described(action: &Action) -> String {
    match action {
        Action::Wait(reason) => format!("waiting: {reason}"),
        Action::Initialise => "the data directory of the new instance is made".into(),
        Action::Claim => "the Lease is made".into(),
        Action::Acquire => "taking the Lease".into(),
        Action::Lead => "holding the Lease: this member is the primary".into(),
        Action::Stop => "this member does not hold the Lease any more: its server ends at once".into(),
        Action::Stand => "there is no primary: this member says how far it is".into(),
        Action::Follow(pod) => format!("following {pod}"),
        Action::Clone(pod) => format!("copying the data of {pod}"),
        Action::Refuse(_) => "the volume must not be used".into(),
    }
}
