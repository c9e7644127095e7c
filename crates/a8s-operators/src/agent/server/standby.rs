//! Following a primary, becoming able to, and saying how far one is when there is none.

use super::life::{self, AsWhat, Event, Life, Running};
use super::*;
use crate::agent::SQL_PORT;
use crate::agent::datadir::exchange;
use crate::agent::replication::Role;
use crate::agent::report::{Lsn, Standing};
use std::cell::Cell;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// How often a standby is looked at that should be receiving and is not yet.
const SOON: Duration = Duration::from_millis(20);
/// How often one that is receiving.
const LATER: Duration = Duration::from_secs(2);
/// A standby that receives nothing for so long, although its primary is there, is rewound, and copied the next time.
const STALLED: Duration = Duration::from_secs(5);
/// What is not consistent yet and gets no further for so long, although its primary is there, is copied.
const STUCK: Duration = Duration::from_secs(300);
/// What a member waits for that was rewound to a primary which is not there.
const UNFINISHED: &str = "there is no primary, and the data of this member, which was rewound, needs what one has";
/// A template may be followed from its beginning by so many seconds after the instance began.
const YOUNG: i64 = 60;
/// Pause after a copy that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// A copy of the template that is made while it is not known yet which instance it will be.
pub(super) struct Preparing {
    server: Server,
    work: RefCell<Option<JoinHandle<io::Result<()>>>>,
    is_cancelled: Cell<bool>,
}

impl Preparing {
    /// Begins, unless it has begun, or there is no template.
    pub fn begin(&self) {
        let is_possible = initialise::template_of(&self.server).is_some() && !self.is_cancelled.get();
        if !is_possible || self.work.borrow().is_some() {
            return;
        }
        let server = self.server.clone();
        *self.work.borrow_mut() = Some(tokio::task::spawn_blocking(move || {
            initialise::copy_template(&server, &replication::copy_directory(&server))
        }));
    }

    /// It will not be needed.
    pub fn cancel(&self) {
        self.is_cancelled.set(true);
    }

    /// Waits for it. Answers whether there is a copy.
    async fn finish(&self) -> bool {
        self.begin();
        let work = self.work.borrow_mut().take();
        self.cancel();
        match work {
            Some(work) => matches!(work.await, Ok(Ok(()))),
            None => false,
        }
    }
}

/// How far a server is that should get further ([`postmaster::applied`]), and since when.
#[derive(Default)]
struct Standstill(Option<((String, u64), Instant)>);

impl Standstill {
    /// For how long it has been there, now that it is `at` this; `None`: it need not get further.
    fn lasts(&mut self, at: Option<(String, u64)>, now: Instant) -> Duration {
        let before = self.0.take().filter(|(before, _)| at.as_ref() == Some(before));
        let since = before.map_or(now, |(_, since)| since);
        self.0 = at.map(|at| (at, since));
        now - since
    }
}

/// Whether a member serves as the primary.
fn serves(seen: &Seen, pod: &str) -> bool {
    seen.members.as_ref().and_then(|members| members.get(pod)).is_some_and(|it| it.is_ready && it.is_primary)
}

/// Whether the data needs WAL of the primary to which it was rewound.
pub(super) fn is_rewound(life: &Life) -> bool {
    life.identity.as_ref().is_some_and(|identity| identity.is_rewound)
}

/// A standby of the server at this address, or of none, that knows who confirms commits.
pub(super) fn role(life: &Life, upstream: Option<String>) -> Role {
    Role::Standby { upstream, confirmed_by: confirmed_by(life) }
}

fn confirmed_by(life: &Life) -> String {
    life.seen.borrow().sighting().map(|it| it.record.details.quorum.setting()).unwrap_or_default()
}

impl<P: Platform> Agent<P> {
    /// For a member with an empty volume that is not the first one.
    pub(super) fn prepare_copy(&self, life: &Life) -> Preparing {
        let is_used = life.identity.is_some() || self.server.pod.ordinal() == Some(0);
        let preparing =
            Preparing { server: self.server.clone(), work: RefCell::default(), is_cancelled: Cell::new(is_used) };
        // Nothing is known yet. If the instance is an old one, this was in vain.
        preparing.begin();
        preparing
    }

    /// Follows a member, whatever this one has been.
    pub(super) async fn follow(&self, life: &mut Life, pod: &str) -> Result<(), Error> {
        let Some(address) = self.address_of(life, pod) else { return self.wait(life, LATER).await.map(|_| ()) };
        if life.identity.as_ref().is_some_and(|identity| identity.term.is_some()) {
            return self.rejoin(life, &address).await.map(|_| ());
        }
        self.trouble(life.unanswered.clone());
        if life.running.is_none() {
            if is_rewound(life) {
                match self.may_be_consistent(life, &address).await? {
                    Some(true) => {}
                    Some(false) => {
                        tracing::error!("the primary lacks WAL that the rewound data needs: it is copied");
                        life.is_spoilt = true;
                        return Ok(());
                    }
                    None => return self.wait(life, SOON).await.map(|_| ()),
                }
            }
            // It receives nothing before it is known that what it has fits. What was rewound does, and needs the rest.
            let upstream = is_rewound(life).then(|| address.clone());
            self.start(life, &role(life, upstream)).await?;
        }
        let upstream = match &life.running {
            Some(Running { as_what: AsWhat::Standby(standby), .. }) => standby.upstream.clone(),
            _ => return Ok(()),
        };
        if upstream.as_ref() != Some(&address) {
            if upstream.is_some() && !self.detach(life).await? {
                return self.wait(life, SOON).await.map(|_| ());
            }
            match self.fits(life, &address).await? {
                Some(true) => {}
                Some(false) => {
                    // It has received what does not fit, and has not applied it yet.
                    let is_as_it_was = !self.rejoin(life, &address).await?;
                    life.is_spoilt |= is_as_it_was;
                    return Ok(());
                }
                None => return self.wait(life, SOON).await.map(|_| ()),
            }
            let Some(Running { as_what: AsWhat::Standby(standby), .. }) = &mut life.running else { return Ok(()) };
            standby.upstream = Some(address.clone());
            (standby.standing, standby.stood, standby.stalled) = (None, None, Some(Instant::now()));
            self.tell(|report| report.standing = None);
            // If it has not read that, the next look tries it again.
            return self.redirect(life, Some(address)).await.map(|_| ());
        }
        self.attend_standby(life, pod).await
    }

    /// Stops receiving. Answers whether that is done.
    async fn detach(&self, life: &mut Life) -> Result<bool, Error> {
        let receives = |it: &Running| matches!(&it.as_what, AsWhat::Standby(standby) if standby.upstream.is_some());
        if life.running.as_ref().is_some_and(receives) && !self.redirect(life, None).await? {
            // No receiver at the moment proves nothing: the server would begin again where it did before.
            return Ok(false);
        }
        if let Some(Running { as_what: AsWhat::Standby(standby), .. }) = &mut life.running {
            standby.upstream = None;
        }
        let Some(client) = self.probe.client().await else { return Ok(false) };
        Ok(matches!(replication::detached(&client).await, Ok(true)))
    }

    /// Whether what this standby has is part of what the primary at `address` has; `None`: one of them does not say
    /// yet.
    async fn fits(&self, life: &mut Life, address: &str) -> Result<Option<bool>, Error> {
        let Some(client) = self.probe.client().await else { return Ok(None) };
        let position = replication::position(&client, &self.server.data()).await;
        let Ok(Some((timeline, position))) = position else { return Ok(None) };
        let fits = self.primary_has(life, address, timeline, position).await?;
        if fits == Some(false) {
            tracing::warn!("this member has {position} of timeline {timeline}, which the primary has not");
        }
        Ok(fits)
    }

    /// Whether the primary at `address` has a timeline until `position`; `None`: it does not say yet.
    async fn primary_has(
        &self,
        life: &mut Life,
        address: &str,
        timeline: u32,
        position: Lsn,
    ) -> Result<Option<bool>, Error> {
        let details = life.seen.borrow().sighting().map(|it| it.record.details.clone());
        let Some(details) = details else { return Ok(None) };
        life.unanswered = None;
        if details.fits(timeline, position) {
            return Ok(Some(true));
        }
        // Others may have led in turn while it was away: where older timelines ended only the primary knows.
        let (admin, _) = self.credentials()?;
        let answered = tokio::select! {
            answered = tools::leads(&self.server, address, details.timeline, &admin) => answered,
            () = self.stop.cancelled() => return Ok(None),
        };
        match answered {
            Ok(history) => Ok(Some(replication::is_part_of(&history, timeline, position))),
            Err(error) => {
                let text = format!("the primary does not say yet what it has: {}", chain(&error));
                tracing::info!("{text}");
                // It may refuse for good, as where somebody has changed the password of its superuser.
                life.unanswered = matches!(error, tools::Error::Failed { .. }).then_some(text);
                self.wait(life, PAUSE).await?;
                Ok(None)
            }
        }
    }

    /// Whether the primary at `address` has all without which what was rewound is not consistent; `None`: it does not
    /// say yet. It may be another one than that to which it was rewound.
    async fn may_be_consistent(&self, life: &mut Life, address: &str) -> Result<Option<bool>, Error> {
        // The passwords with which the primary is asked may have changed since the server ran.
        self.write_role(&role(life, None))?;
        let (timeline, position) = replication::needs(&self.server).await?;
        self.primary_has(life, address, timeline, position).await
    }

    /// Resolves when a server that accepts no connections yet receives nothing and gets no further, although there is a
    /// primary. That one may have removed WAL that is needed: only the server's log says so.
    pub(super) async fn gets_stuck(&self, seen: watch::Receiver<Seen>) {
        let (data, mut standstill) = (self.server.data(), Standstill::default());
        let has_primary = || {
            let seen = seen.borrow();
            let holder = seen.sighting().and_then(|it| it.record.holder.as_ref());
            holder.is_some_and(|holder| serves(&seen, &holder.pod))
        };
        let at = || (has_primary() && !postmaster::is_receiving(&data)).then(|| postmaster::applied(&data)).flatten();
        while standstill.lasts(at(), Instant::now()) < STUCK {
            tokio::time::sleep(LATER).await;
        }
    }

    pub(super) fn address_of(&self, life: &Life, pod: &str) -> Option<String> {
        life.seen.borrow().members.as_ref()?.get(pod)?.address.clone()
    }

    /// Lets the standby receive from another server, or from none. Answers whether it has read that.
    async fn redirect(&self, life: &mut Life, upstream: Option<String>) -> Result<bool, Error> {
        let confirmed_by = confirmed_by(life);
        self.write_role(&Role::Standby { upstream, confirmed_by: confirmed_by.clone() })?;
        let is_read = match self.probe.client().await {
            Some(client) => self.reloads(&client).await,
            None => false,
        };
        if let Some(Running { as_what: AsWhat::Standby(standby), .. }) = &mut life.running {
            standby.confirmed_by = is_read.then_some(confirmed_by);
        }
        Ok(is_read)
    }

    /// One look of a standby at everything, and a wait for what comes next.
    async fn attend_standby(&self, life: &mut Life, pod: &str) -> Result<(), Error> {
        self.certify(life)?;
        self.keep_label(life);
        self.look_at_the_disk();
        if self.follow_parameters(life, pod).await? {
            tracing::info!("the server is restarted for its new parameters");
            self.stop_cleanly(life).await;
            return Ok(());
        }
        if let Some(Running { as_what: AsWhat::Standby(standby), .. }) = &life.running
            && standby.confirmed_by.as_ref() != Some(&confirmed_by(life))
        {
            let upstream = standby.upstream.clone();
            self.redirect(life, upstream).await?;
        }
        let timeline = life.seen.borrow().sighting().map_or(0, |it| it.record.details.timeline);
        let is_streaming = match self.probe.client().await {
            Some(client) => {
                matches!(timeout(QUERY, replication::is_streaming(&client, timeline)).await, Ok(Ok(true)))
            }
            None => false,
        };
        let at_most = if is_streaming { self.is_received(life).await? } else { self.is_stalled(life, pod).await? };
        match self.wait(life, at_most).await? {
            Event::Order(order) => order.refuse("this member is not the primary"),
            Event::Stop | Event::Ended | Event::Look => {}
        }
        Ok(())
    }

    /// The standby receives: it has followed, and is ready once its primary counts on it.
    async fn is_received(&self, life: &mut Life) -> Result<Duration, Error> {
        life.failures = 0;
        if let Some(Running { as_what: AsWhat::Standby(standby), .. }) = &mut life.running {
            standby.stalled = None;
        }
        if let Some(identity) = life.identity.as_mut() {
            identity.change(&self.server.volume, |identity| {
                (identity.has_followed, identity.is_sole, identity.is_rewound) = (true, false, false);
            })?;
        }
        let is_ready = *self.probe.is_ready.borrow();
        if is_ready {
            return Ok(LATER);
        }
        let is_counted_on = {
            let seen = life.seen.borrow();
            let quorum = seen.sighting().map(|it| it.record.details.quorum.clone()).unwrap_or_default();
            life::replicas(&seen, &quorum) < 3 || quorum.members.contains(&self.server.pod.name)
        };
        if is_counted_on {
            tracing::info!("the standby receives from its primary and answers queries");
            let client = self.probe.client().await;
            self.probe.set(client);
            self.report(life, true);
        }
        Ok(SOON)
    }

    /// The standby does not receive. If that lasts although the primary is there, what it has may not fit.
    async fn is_stalled(&self, life: &mut Life, pod: &str) -> Result<Duration, Error> {
        let is_there = serves(&life.seen.borrow(), pod);
        let Some(Running { as_what: AsWhat::Standby(standby), .. }) = &mut life.running else { return Ok(SOON) };
        let since = *standby.stalled.get_or_insert_with(Instant::now);
        if !is_there {
            standby.stalled = Some(Instant::now());
            return Ok(SOON * 5);
        }
        if since.elapsed() < STALLED {
            return Ok(SOON);
        }
        standby.stalled = Some(Instant::now());
        let Some(address) = self.address_of(life, pod) else { return Ok(SOON) };
        // It is well where it runs, by what its node says.
        if !self.reaches(&address).await {
            tracing::warn!("{pod}, the primary, cannot be reached from here");
            return Ok(SOON);
        }
        life.failures += 1;
        if life.failures > 1 {
            tracing::error!("the standby still receives nothing: its data is copied from the primary again");
            life.is_spoilt = true;
        } else {
            tracing::warn!("the standby receives nothing from its primary: it is rewound");
            self.rejoin(life, &address).await?;
        }
        Ok(Duration::ZERO)
    }

    /// Whether somebody answers where a primary should. A way that is closed says nothing of the data at either end.
    async fn reaches(&self, address: &str) -> bool {
        tokio::select! {
            connected = timeout(QUERY, TcpStream::connect((address, SQL_PORT))) => matches!(connected, Ok(Ok(_))),
            () = self.stop.cancelled() => false,
        }
    }

    /// Makes the data of an old primary, or of a standby that went too far, such that it can follow. Answers `false` if
    /// there was nothing to take back.
    async fn rejoin(&self, life: &mut Life, address: &str) -> Result<bool, Error> {
        self.stop_cleanly(life).await;
        let (admin, _) = self.credentials()?;
        // The recovery of a crashed server needs its configuration.
        self.write_role(&role(life, None))?;
        let timeline = life.seen.borrow().sighting().map_or(0, |it| it.record.details.timeline);
        let rewinding = async {
            tools::leads(&self.server, address, timeline, &admin).await?;
            // Until it has ended the data is of two servers, and nothing on the volume but this shows it.
            if let Some(identity) = life.identity.as_mut() {
                let marked = identity.change(&self.server.volume, |identity| identity.is_initialised = false);
                marked.map_err(|error| tools::Error::File(io::Error::other(error)))?;
            }
            tools::rewind(&self.server, address, &admin).await
        };
        let rewound = tokio::select! {
            rewound = rewinding => rewound,
            () = self.stop.cancelled() => return Ok(true),
        };
        if rewound.as_ref().is_err_and(|error| !matches!(error, tools::Error::HalfRewound(_)))
            && let Some(identity) = life.identity.as_mut()
        {
            identity.change(&self.server.volume, |identity| identity.is_initialised = true)?;
        }
        let is_reached = rewound.is_ok() || self.reaches(address).await;
        match rewound {
            Ok(is_rewound) => {
                replication::signal(&self.server.data(), true)
                    .map_err(|source| Error::Write { path: self.server.data(), source })?;
                if let Some(identity) = life.identity.as_mut() {
                    identity.change(&self.server.volume, |identity| identity.rejoin(is_rewound))?;
                }
                return Ok(is_rewound);
            }
            Err(error @ tools::Error::NotYet { .. }) => {
                tracing::info!("{error}");
                self.wait(life, SOON * 5).await?;
            }
            Err(error @ tools::Error::HalfRewound(_)) => {
                tracing::error!("the data is of no use, and is copied: {}", chain(&error));
                life.is_spoilt = true;
            }
            // The primary may have gone away, or not be ready yet: only if it is there, the data is of no use.
            Err(error) if life.failures < 3 || !is_reached => {
                tracing::warn!("the data could not be rewound: {}", chain(&error));
                life.failures += u32::from(is_reached);
                self.wait(life, PAUSE).await?;
            }
            Err(error) => {
                tracing::error!("the data could not be rewound, and is copied again: {}", chain(&error));
                life.is_spoilt = true;
            }
        }
        Ok(true)
    }

    /// Applies new parameters. Says whether the server has to be restarted for them.
    async fn follow_parameters(&self, life: &mut Life, pod: &str) -> Result<bool, Error> {
        let (is_new, is_raised) = {
            let seen = life.seen.borrow();
            let spec = seen.instance.as_ref().and_then(|instance| instance.spec.parameters.clone()).unwrap_or_default();
            let wanted = report::fingerprint(&spec);
            let written = life.written.as_ref();
            let primary = seen.members.as_ref().and_then(|members| members.get(pod));
            // What it has more than it should is taken back after its primary has.
            let is_due = written.is_some_and(|it| it.is_raised)
                && primary.is_some_and(|primary| primary.parameters.contains(&wanted));
            (written.is_none_or(|it| it.fingerprint != wanted), is_due)
        };
        // It would confirm commits without end, and keep all that it receives: its primary was started with more than
        // it has. If it has as much, somebody wants it so.
        let is_paused = match self.probe.client().await {
            Some(client) => matches!(timeout(QUERY, replication::is_paused(&client)).await, Ok(Ok(true))),
            None => false,
        };
        if !is_new && !is_raised && !is_paused {
            self.complain(None);
            return Ok(false);
        }
        let demands = replication::demands(&self.server, &self.server.data()).await?;
        // Parameters that do not apply do not hold up what is demanded: it is started with the last ones and that.
        Ok(self.apply(life, &demands).await? || (is_paused && self.has_less(&demands)))
    }

    /// Whether the server is configured to have less than its primary demands.
    fn has_less(&self, demands: &[(String, i64)]) -> bool {
        let text = fs_err::read_to_string(self.server.data().join("postgresql.conf"));
        text.is_ok_and(|text| configuration::with_at_least(&text, demands) != text)
    }

    /// Stops receiving and says how far this member is, once it has applied all that it has: before, it does not know.
    pub(super) async fn stand(&self, life: &mut Life) -> Result<(), Error> {
        if life.running.is_none() {
            if is_rewound(life) {
                // Without the primary to which it was rewound it has nothing to say.
                self.trouble(Some(UNFINISHED.to_owned()));
                return self.wait(life, LATER).await.map(|_| ());
            }
            if life.rests_until.is_some_and(|until| Instant::now() < until) {
                return self.wait(life, LATER).await.map(|_| ());
            }
            self.start(life, &role(life, None)).await?;
        }
        let version = life.seen.borrow().sighting().and_then(|it| it.record.version.clone());
        let (Some(vacancy), Some(client)) = (version, self.probe.client().await) else {
            return self.wait(life, SOON).await.map(|_| ());
        };
        if !self.detach(life).await? {
            return self.wait(life, SOON).await.map(|_| ());
        }
        let data = self.server.data();
        match replication::position(&client, &data).await {
            Ok(Some((timeline, position))) => {
                let generation = exchange::generation(&data).ok().flatten();
                self.take_a_stand(life, Standing { vacancy, timeline, position, generation });
                Ok(())
            }
            Ok(None) => self.wait(life, SOON).await.map(|_| ()),
            Err(error) => {
                tracing::warn!("the standby does not say how far it is: {}", chain(&error));
                self.wait(life, SOON).await.map(|_| ())
            }
        }
    }

    fn take_a_stand(&self, life: &mut Life, standing: Standing) {
        tracing::info!("this member has timeline {} until {}", standing.timeline, standing.position);
        if let Some(Running { as_what: AsWhat::Standby(standby), .. }) = &mut life.running {
            (standby.upstream, standby.stalled) = (None, None);
            standby.standing = Some(standing.clone());
            standby.stood.get_or_insert_with(Instant::now);
        }
        // With what it has it may lead, or follow another primary.
        (life.is_spoilt, life.failures) = (false, 0);
        self.tell(|report| report.standing = Some(standing));
    }

    /// Copies a primary's data to this volume.
    pub(super) async fn copy(&self, life: &mut Life, pod: &str, preparing: &Preparing) -> Result<(), Error> {
        let Some(address) = self.address_of(life, pod) else { return self.wait(life, LATER).await.map(|_| ()) };
        let Some(record) = life.seen.borrow().sighting().map(|it| it.record.clone()) else { return Ok(()) };
        self.stop_at_once(life).await;
        if life.copy_due.is_some_and(|due| Instant::now() < due) {
            return self.wait(life, LATER).await.map(|_| ());
        }
        let expected = record.identifier.as_ref().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        let is_young = record.generation.is_none()
            && record.term == 0
            && record.acquired.is_some_and(|at| jiff::Timestamp::now().duration_since(at).as_secs().abs() < YOUNG);
        let has_same =
            record.details.template.is_some() && record.details.template == initialise::template_of(&self.server);
        let work = async {
            // A member of an instance that has just begun starts as the first one did, and follows it from there.
            if is_young && has_same && !life.is_spoilt && preparing.finish().await {
                let directory = replication::copy_directory(&self.server);
                let done = tokio::task::spawn_blocking(move || datadir::identifier::change(&directory, expected)).await;
                return done
                    .map_err(|error| tools::Error::File(io::Error::other(error)))?
                    .map_err(|error| tools::Error::File(io::Error::other(error)))
                    .map(|()| false);
            }
            preparing.finish().await;
            // What a change has left half done, such as a rewinding that was cut off, is of no use to anybody: it need
            // not fit beside the copy. Other data stays until then: if the primary is lost, it may be what there is.
            if life.identity.as_ref().is_some_and(|identity| !identity.is_initialised) {
                tools::remove(self.server.data()).await.map_err(tools::Error::File)?;
            }
            let (_, standby) = self.credentials().map_err(|error| tools::Error::File(io::Error::other(error)))?;
            self.passwords().map_err(tools::Error::File)?;
            tools::copy(&self.server, &address, &standby).await.map(|()| true)
        };
        let mut seen = life.seen.clone();
        let holder = record.holder.clone();
        let copied = tokio::select! {
            copied = work => copied,
            () = self.stop.cancelled() => return Ok(()),
            // Another primary: the copy would be of the wrong one.
            _ = seen.wait_for(|seen| seen.sighting().is_none_or(|it| it.record.holder != holder)) => return Ok(()),
        };
        match copied {
            Ok(is_of_primary) => self.take_copy(life, expected, is_of_primary),
            Err(error) => {
                tracing::warn!("{}", chain(&error));
                self.trouble(Some(chain(&error)));
                // Each begins with a checkpoint of the primary, and writes until the disk is full.
                let has_no_room = matches!(error, tools::Error::NoRoom { .. });
                life.copy_due = has_no_room.then(|| Instant::now() + life::REST);
                self.wait(life, PAUSE).await.map(|_| ())
            }
        }
    }

    fn passwords(&self) -> io::Result<()> {
        let (admin, standby) = self.credentials().map_err(io::Error::other)?;
        replication::write_passwords(&self.server, &admin, &standby)
    }

    /// The copy becomes the data directory. One of the primary has all that was confirmed while it was made, and its
    /// server answers nobody before it has applied that: it may lead as if it had followed. One of the template has
    /// nothing yet.
    fn take_copy(&self, life: &mut Life, expected: u64, is_of_primary: bool) -> Result<(), Error> {
        let (copy, data) = (replication::copy_directory(&self.server), self.server.data());
        let failed = |source| Error::Write { path: data.clone(), source };
        let found =
            datadir::identifier::read(&copy).map_err(|error| datadir::Error::Initialise(Box::new(error.into())))?;
        if found != expected {
            return Err(datadir::Error::OtherIdentifier { found, expected: expected.to_string() }.into());
        }
        replication::signal(&copy, true).map_err(failed)?;
        // Until the new data is in its place there is none.
        let mut identity = Identity::new(&self.server, expected);
        identity.write(&self.server.volume)?;
        if data.exists() {
            fs_err::remove_dir_all(&data).map_err(failed)?;
        }
        fs_err::rename(&copy, &data).map_err(failed)?;
        durable::flush_directory(&self.server.volume).map_err(failed)?;
        identity.change(&self.server.volume, |identity| {
            (identity.is_initialised, identity.has_followed) = (true, is_of_primary);
        })?;
        life.identity = Some(identity);
        (life.is_spoilt, life.failures, life.attempts) = (false, 0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_stands_still_while_it_is_at_the_same_wal_and_should_get_further() {
        let (began, mut standstill) = (Instant::now(), Standstill::default());
        let at = |second: u64| began + Duration::from_secs(second);
        let mut lasts = |wal: Option<(&str, u64)>, second| {
            standstill.lasts(wal.map(|(segment, moved)| (segment.to_owned(), moved)), at(second)).as_secs()
        };
        assert_eq!(lasts(Some(("1", 0)), 0), 0);
        assert_eq!(lasts(Some(("1", 0)), 9), 9);
        assert_eq!(lasts(Some(("2", 0)), 10), 0, "it got further");
        assert_eq!(lasts(Some(("2", 0)), 12), 2);
        assert_eq!(lasts(Some(("2", 1)), 300), 0, "it works on one record");
        assert_eq!(lasts(None, 313), 0, "its primary is not there");
        assert_eq!(lasts(None, 700), 0);
        assert_eq!(lasts(Some(("2", 1)), 701), 0);
        assert_eq!(lasts(Some(("2", 1)), 702), 1);
    }
}
