//! Taking the Lease, and being the primary.

use super::life::{AsWhat, Event, Life, Replacing, replicas};
use super::standby::Preparing;
use super::*;
use crate::agent::bootstrap::Taken;
use crate::agent::datadir::exchange;
use crate::agent::lease::{Details, LASTS, Quorum, RENEW, Record, Refusal, Switchover};
use crate::agent::replication::Role;
use crate::agent::report::Lsn;

/// How often standbys are looked for that should confirm commits and do not yet.
const SOON: Duration = Duration::from_millis(50);
/// How often the Lease is renewed at most for those who do not follow yet.
const SIGN: Duration = Duration::from_millis(400);
/// So long too few standbys may confirm commits before people are told.
const UNCONFIRMED: Duration = Duration::from_secs(2);
/// How long its disk is full before another member becomes the primary.
const FULL_FOR: Duration = Duration::from_secs(3);
/// How long it does not try that again when it has come back nonetheless.
const MADE_WAY: Duration = Duration::from_secs(600);
/// How long a primary waits for its standbys before it is restarted for its parameters.
const OTHERS: Duration = Duration::from_secs(30);
/// A standby may be so far behind when it becomes the primary on request, in bytes.
const NEAR: u64 = 16 << 20;
/// Pause after the Lease could not be had.
const AGAIN: Duration = Duration::from_millis(50);
/// How long another primary is kept waiting for this one's label to go.
const LABELLED: Duration = Duration::from_secs(1);

impl<P: Platform> Agent<P> {
    /// Makes the data directory of a new instance while its Lease is made.
    pub(super) async fn initialise(&self, life: &mut Life, preparing: &Preparing) -> Result<(), Error> {
        let template = initialise::template_of(&self.server);
        let identity = life.identity.clone();
        let identity = match identity {
            Some(identity) => identity,
            None => {
                let number = datadir::identifier::random(std::time::SystemTime::now());
                let identity = Identity::new(&self.server, number);
                identity.write(&self.server.volume)?;
                identity
            }
        };
        life.identity = Some(identity.clone());
        preparing.cancel();
        let (server, number) = (self.server.clone(), identity.system_identifier);
        let making = tokio::task::spawn_blocking(move || initialise::initialise(&server, number));
        let claiming = async {
            let Some(instance) = life.seen.borrow().instance.clone() else { return Ok(false) };
            let noted = life.seen.borrow().sighting().map(|it| it.record.clone());
            let details = Details { timeline: 1, template: template.clone(), ..Details::default() };
            match noted {
                None => {
                    let record = Record { identifier: Some(number.to_string()), details, ..Record::default() };
                    self.make_lease(life, &instance, record).await
                }
                // The template with which the instance began is part of what standbys may have.
                Some(record) if record.details.template == template => Ok(true),
                Some(_) => Err(self.lost(&number.to_string())),
            }
        };
        let (made, claimed) = tokio::join!(making, claiming);
        let stopped = |_| io::Error::other("the thread that made it ended early");
        let write = |source| initialise::Error::Write { path: self.server.data(), source };
        let made = made.map_err(stopped).map_err(write).and_then(|made| made);
        if !claimed? {
            // Somebody was quicker, or it is to stop.
            self.wait(life, AGAIN).await?;
            return Ok(());
        }
        made.map_err(|error| datadir::Error::Initialise(Box::new(error)))?;
        let Some(identity) = life.identity.as_mut() else { return Ok(()) };
        let is_sole = replicas(&life.seen.borrow(), &Quorum::default()) <= 1;
        identity.change(&self.server.volume, |identity| {
            (identity.is_initialised, identity.term, identity.is_sole) = (true, Some(0), is_sole);
        })?;
        Ok(())
    }

    fn lost(&self, identifier: &str) -> Error {
        datadir::Error::Lost { identifier: identifier.to_owned(), pod: self.server.pod.name.clone() }.into()
    }

    /// Makes the Lease of an instance that has data.
    pub(super) async fn claim(&self, life: &mut Life) -> Result<(), Error> {
        let (Some(identity), Some(instance)) = (life.identity.clone(), life.seen.borrow().instance.clone()) else {
            return Ok(());
        };
        // The term and the timeline go on: standbys compare both with what they have.
        let details = Details { timeline: replication::timeline(&self.server).await?, ..Details::default() };
        let generation = exchange::generation(&self.server.data());
        let generation = generation.map_err(|source| Error::Write { path: self.server.data(), source })?;
        let (term, identifier) = (identity.term.unwrap_or(0), Some(identity.system_identifier.to_string()));
        let record = Record { term, identifier, generation, details, ..Record::default() };
        self.make_lease(life, &instance, record).await?;
        if let (Some(identity), Some(record)) = (life.identity.as_mut(), self.keeper.record()) {
            identity.change(&self.server.volume, |identity| identity.term = Some(record.term))?;
        }
        Ok(())
    }

    async fn make_lease(&self, life: &Life, instance: &a8s_api::Postgresql, record: Record) -> Result<bool, Error> {
        let record = Record { is_renewed: self.has_rivals(life), ..record };
        match self.keeper.acquire(instance, record, |_| {}).await {
            Ok(is_had) => Ok(is_had),
            Err(error) => {
                tracing::warn!("{}; it is tried again", chain(&error));
                tokio::time::sleep(AGAIN).await;
                Ok(false)
            }
        }
    }

    fn has_rivals(&self, life: &Life) -> bool {
        let seen = life.seen.borrow();
        let others = seen.members.iter().flatten().any(|(pod, _)| *pod != self.server.pod.name);
        let confirming = self.keeper.record().or_else(|| seen.sighting().map(|it| it.record.clone()));
        others || replicas(&seen, &confirming.map(|record| record.details.quorum).unwrap_or_default()) > 1
    }

    /// Takes the Lease as it was seen, for the same term if this member was the primary of it, else for the next one.
    pub(super) async fn acquire(&self, life: &mut Life) -> Result<(), Error> {
        let is_early = |life: &Life| life.seen.borrow().sighting().is_some_and(|it| it.since.elapsed() < LASTS * 3);
        if sabotage::sabotaged!("failover-takes-its-time") && is_early(life) {
            return self.wait(life, AGAIN).await.map(|_| ());
        }
        let (seen, instance) = {
            let seen = life.seen.borrow();
            (seen.sighting().map(|it| it.record.clone()), seen.instance.clone())
        };
        let (Some(seen), Some(instance), Some(identity)) = (seen, instance, life.identity.clone()) else {
            return Ok(());
        };
        let (own, position) = match &life.running {
            Some(running) => match &running.as_what {
                AsWhat::Standby(standby) => {
                    standby.standing.as_ref().map_or((1, Lsn(0)), |it| (it.timeline, it.position))
                }
                AsWhat::Primary => (1, Lsn(0)),
            },
            None => (1, Lsn(0)),
        };
        let goes_on = identity.term == Some(seen.term);
        let is_renewed = self.has_rivals(life);
        let taken = self
            .keeper
            .acquire(&instance, seen.clone(), |record| {
                record.is_renewed = is_renewed;
                record.switchover = None;
                record.details.successor = None;
                if !goes_on {
                    record.term += 1;
                    record.details.timeline = record.details.timeline.max(own) + 1;
                    (record.details.parent, record.details.begins) = (own, position);
                    record.details.position = position;
                    if !record.details.quorum.members.is_empty() {
                        record.details.quorum = record.details.quorum.led_by(&self.server.pod);
                    }
                }
            })
            .await;
        match taken {
            Ok(true) => {}
            Ok(false) => return self.wait(life, AGAIN).await.map(|_| ()),
            Err(error) => {
                tracing::warn!("{}; it is tried again", chain(&error));
                return self.wait(life, AGAIN).await.map(|_| ());
            }
        }
        let Some(record) = self.keeper.record() else { return Ok(()) };
        self.trouble(None);
        if let Err(error) = self.note_term(life, record.term) {
            self.give_back(life, &seen.details).await;
            return Err(error);
        }
        self.depose(life, &seen);
        Ok(())
    }

    /// Lets the Lease go that this member cannot use, as where its disk is full. Who has to be asked is who had to be
    /// before, and not the last primary in its place, which may be lost. One that has as much and has room comes first.
    async fn give_back(&self, life: &Life, before: &Details) {
        let other = self.other(life, true);
        if let Err(error) = self.keeper.give_back(before, other.as_deref()).await {
            tracing::warn!("the Lease could not be released: {}", chain(&error));
        }
    }

    /// Whoever is frozen may still be labelled as the primary and answer for connections.
    fn depose(&self, life: &Life, seen: &Record) {
        let Some(holder) = seen.holder.clone() else { return };
        if life.gone.as_ref() == Some(&holder) || holder.pod == self.server.pod.name {
            return;
        }
        let keeper = self.keeper.clone();
        tokio::task::spawn_local(async move { keeper.depose(&holder).await });
    }

    fn note_term(&self, life: &mut Life, term: u64) -> Result<(), Error> {
        let is_sole = !self.has_rivals(life);
        let Some(identity) = life.identity.as_mut() else { return Ok(()) };
        Ok(identity.change(&self.server.volume, |identity| {
            (identity.term, identity.is_sole) = (Some(term), is_sole);
        })?)
    }

    /// One round of a member that holds the Lease, or may serve without.
    pub(super) async fn lead(&self, life: &mut Life) -> Result<(), Error> {
        match &life.running {
            Some(running) if matches!(running.as_what, AsWhat::Primary) => match running.kept {
                Some(_) => self.attend(life).await,
                // It gave its agent no session when it should have been opened.
                None => self.open(life, true).await,
            },
            Some(_) => self.promote(life).await,
            None => self.start_primary(life).await,
        }
    }

    async fn start_primary(&self, life: &mut Life) -> Result<(), Error> {
        // A disk that is full, say. Others may be better off, and if they are not, it is tried again.
        if life.attempts > 2
            && self.keeper.held().flatten().is_some()
            && let Some(other) = self.other(life, true).or_else(|| self.other(life, false))
        {
            tracing::error!("the server does not stay alive: another member may be the primary");
            life.attempts = 0;
            return self.hand_over(life, Some(&other)).await;
        }
        self.start(life, &Role::Primary(self.quorum().setting())).await?;
        match &life.running {
            Some(running) if matches!(running.as_what, AsWhat::Primary) => self.open(life, true).await,
            // It was a standby that had not been promoted yet.
            _ => Ok(()),
        }
    }

    /// Another member that answers, and has room if it must.
    fn other(&self, life: &Life, has_room: bool) -> Option<String> {
        let seen = life.seen.borrow();
        let mut others = seen.members.iter().flatten().filter(|(pod, _)| **pod != self.server.pod.name);
        others.find(|(_, member)| member.is_ready && !(has_room && member.is_full)).map(|(pod, _)| pod.clone())
    }

    /// A server whose disk is full lives on and refuses what needs room. If that lasts, a member that has some should be the
    /// primary: a standby that is near, as far as the server still says who follows it (it may refuse every new session,
    /// for which it writes a file). Answers whether it was handed over. What came back nonetheless does not try again soon.
    async fn make_way(&self, life: &mut Life, followed: Option<(Lsn, &[(String, Lsn)])>) -> Result<bool, Error> {
        let Some(pod) = self.roomier(life, followed) else { return Ok(false) };
        tracing::error!("the disk is full: {pod} may be the primary");
        (life.full, life.made_way) = (None, Some(Instant::now()));
        self.hand_over(life, Some(&pod)).await?;
        Ok(true)
    }

    fn roomier(&self, life: &mut Life, followed: Option<(Lsn, &[(String, Lsn)])>) -> Option<String> {
        if !self.look_at_the_disk() {
            life.full = None;
            return None;
        }
        if sabotage::sabotaged!("full-primary-stays") {
            return None;
        }
        let since = *life.full.get_or_insert_with(Instant::now);
        let was_tried = life.made_way.is_some_and(|at| at.elapsed() < MADE_WAY);
        if since.elapsed() < FULL_FOR || was_tried || self.keeper.held().flatten().is_none() {
            return None;
        }
        let Some((position, standbys)) = followed else { return self.other(life, true) };
        let has_room = {
            let seen = life.seen.borrow();
            let has_room = |pod: &String| {
                seen.members.as_ref().and_then(|all| all.get(pod)).is_some_and(|it| it.is_ready && !it.is_full)
            };
            standbys.iter().filter(|(pod, _)| has_room(pod)).cloned().collect::<Vec<_>>()
        };
        let anyone = Switchover { id: String::new(), to: None };
        successor(&self.server.pod.name, &anyone, position, &has_room).ok()
    }

    /// Who confirms commits, as the Lease says that this run holds.
    pub(super) fn quorum(&self) -> Quorum {
        self.keeper.record().map(|record| record.details.quorum).unwrap_or_default()
    }

    /// Makes room for another primary: whoever looks sees at most one.
    async fn hand_over(&self, life: &mut Life, successor: Option<&str>) -> Result<(), Error> {
        let has_run = life.running.is_some();
        self.tell(|report| report.role = Some("replica"));
        let mut said = self.said.clone();
        let (labelled, ()) = tokio::join!(
            timeout(LABELLED, said.wait_for(|report| report.role != Some("master"))),
            self.stop_cleanly(life)
        );
        if labelled.is_err() {
            tracing::warn!("the pod could not be labelled as a standby before another member leads");
        }
        let end = if has_run { replication::clean_end(&self.server).await } else { None };
        if has_run && end.is_none() {
            return self.give_up(life).await;
        }
        // Who is named may have lost its connection since: the Lease says what there is.
        self.release(successor, end).await;
        Ok(())
    }

    /// A server that did not end in order may have more than anybody else. Where standbys confirm commits, one of them has all
    /// that was acknowledged, and shows it; they come first. Else it stays the primary.
    async fn give_up(&self, life: &mut Life) -> Result<(), Error> {
        if self.quorum().members.is_empty() {
            tracing::error!("the server did not end in order: it starts again here");
            return Ok(());
        }
        self.release(None, None).await;
        let is_taken = |seen: &Seen| {
            let holder = seen.sighting().and_then(|it| it.record.holder.as_ref());
            holder.is_some_and(|holder| holder.pod != self.server.pod.name)
        };
        tokio::select! {
            _ = timeout(LASTS, life.seen.wait_for(is_taken)) => {}
            () = self.stop.cancelled() => {}
        }
        Ok(())
    }

    /// Makes the running standby the primary of the term.
    async fn promote(&self, life: &mut Life) -> Result<(), Error> {
        let (Some(client), Some(record)) = (self.probe.client().await, self.keeper.record()) else {
            return self.wait(life, AGAIN).await.map(|_| ());
        };
        self.write_role(&Role::Primary(record.details.quorum.setting()))?;
        let promoting = async {
            // It has said how far it is. One that was started again since then applies what it has before it knows.
            let data = self.server.data();
            let (own, position) = loop {
                // The session that promoted it may have ended before it could say so.
                if replication::is_primary(&client).await? {
                    return Ok(None);
                }
                match replication::position(&client, &data).await? {
                    Some(known) => break known,
                    None => tokio::time::sleep(AGAIN).await,
                }
            };
            let wanted = record.details.timeline;
            let timeline = match replication::skip_timelines(&data, own, wanted, position) {
                Ok(timeline) => timeline,
                Err(error) => {
                    return Ok(Some(format!("the timelines that others may have used cannot be noted: {error}")));
                }
            };
            // Who takes the Lease next takes the timeline after the one that it names. If that was the one that begins
            // here, two members would have it, each with other content.
            if timeline > wanted && !self.say(|record| record.details.timeline = timeline).await {
                return Ok(Some("the Lease does not name its timeline yet".to_owned()));
            }
            if bootstrap::reload(&client).await? == Taken::NotYet {
                return Ok(Some("it does not read its configuration".to_owned()));
            }
            replication::promote(&client).await.map(|()| None)
        };
        let result = tokio::select! {
            result = promoting => result,
            // The server may end, or the Lease be lost.
            event = self.wait_for_the_end(life) => return event,
        };
        let failed = match result {
            Ok(why) => why,
            Err::<_, tokio_postgres::Error>(error) => Some(chain(&error)),
        };
        if let Some(why) = failed {
            tracing::warn!("the standby could not be promoted: {why}");
            return self.wait(life, AGAIN).await.map(|_| ());
        }
        if let Some(running) = &mut life.running {
            running.as_what = AsWhat::Primary;
        }
        self.open(life, false).await?;
        // Brings the control file up to date, by which others see on which timeline this primary is.
        let sockets = self.server.pod.socket_directory.clone();
        tokio::task::spawn_local(async move {
            if let Ok(client) = bootstrap::connect(&sockets, "a9s checkpoint").await {
                let _ = client.batch_execute("CHECKPOINT").await;
            }
        });
        Ok(())
    }

    async fn wait_for_the_end(&self, life: &mut Life) -> Result<(), Error> {
        let Some(running) = life.running.as_mut() else { return Ok(()) };
        let status = tokio::select! {
            status = running.postmaster.ended() => describe(status),
            () = self.stop.cancelled() => return Ok(()),
        };
        self.put_away(life, status).await
    }

    /// Sees to it that the primary has what clients expect, and lets them in.
    pub(super) async fn open(&self, life: &mut Life, has_started: bool) -> Result<(), Error> {
        let (Some(client), Some(identity)) = (self.probe.client().await, life.identity.clone()) else {
            return self.wait(life, AGAIN).await.map(|_| ());
        };
        life.replacing = None;
        let (admin, standby) = self.credentials()?;
        let preparing = bootstrap::prepare(&client, identity.system_identifier, &admin, &standby);
        tokio::select! {
            prepared = preparing => prepared?,
            ended = self.wait_for_the_end(life) => return ended,
        }
        let Ok(timeline) = replication::written_timeline(&client).await else {
            return self.wait(life, AGAIN).await.map(|_| ());
        };
        // Somebody else may have promoted it, or the Lease was made again by a control file from before the promotion.
        // Nobody could follow it before the Lease names its timeline.
        let is_named = self.keeper.record().is_none_or(|record| record.details.timeline >= timeline);
        if !is_named && !self.say(|record| record.details.timeline = timeline).await {
            return self.wait(life, AGAIN).await.map(|_| ());
        }
        self.probe.set(Some(client));
        if let Some(running) = &mut life.running {
            let sockets = &self.server.pod.socket_directory;
            running.kept = Some(crate::agent::primary::keep(&self.platform, sockets, life.seen.clone()));
        }
        self.trouble(None);
        self.tell(|report| {
            report.role = Some("master");
            report.standing = None;
        });
        // A sign of life, after which others may follow.
        self.say(|_| {}).await;
        tracing::info!("the server accepts connections on {}:{}", self.server.pod.address, crate::agent::SQL_PORT);
        if has_started {
            self.report(life, true);
        } else if self.apply_to_primary(life).await? {
            life.restart_by = Some(Instant::now() + OTHERS);
        }
        Ok(())
    }

    /// One look of a primary at everything, and a wait for what comes next.
    async fn attend(&self, life: &mut Life) -> Result<(), Error> {
        self.certify(life)?;
        self.keep_label(life);
        if self.apply_to_primary(life).await? {
            life.restart_by = Some(Instant::now() + OTHERS);
        }
        if self.may_restart(life) {
            tracing::info!("the server is restarted for its new parameters");
            life.restart_by = None;
            self.stop_cleanly(life).await;
            return Ok(());
        }
        let at_most = if self.keeper.held().is_some() { self.keep(life).await? } else { LASTS };
        if life.running.is_none() {
            return Ok(());
        }
        match self.wait(life, at_most).await? {
            Event::Order(order) => self.replace_content(life, order).await,
            Event::Stop | Event::Ended | Event::Look => Ok(()),
        }
    }

    /// Whether a restart is due: standbys that are there come first, as they must not have less than their primary.
    fn may_restart(&self, life: &Life) -> bool {
        let (Some(by), Some(written)) = (life.restart_by, &life.written) else { return false };
        let seen = life.seen.borrow();
        let mut others = seen.members.iter().flatten().filter(|(pod, _)| **pod != self.server.pod.name);
        by <= Instant::now() || others.all(|(_, it)| !it.is_ready || it.parameters.contains(&written.fingerprint))
    }

    /// Keeps what the Lease says of replication right. Answers how soon to look again.
    async fn keep(&self, life: &mut Life) -> Result<Duration, Error> {
        let (Some(client), Some(record)) = (self.probe.client().await, self.keeper.record()) else {
            self.make_way(life, None).await?;
            return Ok(SOON);
        };
        // Somebody has deleted it: whoever does not renew it makes it again, too.
        let is_missing = life.seen.borrow().lease.as_ref().is_some_and(Option::is_none);
        if is_missing {
            self.say(|_| {}).await;
        }
        let expected = life.replacing.as_ref().map_or(&record.details.quorum, |replacing| &replacing.wanted).clone();
        self.keep_quorum(life, &client, &expected).await?;
        let has_rivals = self.has_rivals(life);
        if has_rivals != record.is_renewed {
            if has_rivals {
                self.note_term(life, record.term)?;
            }
            self.say(|record| record.is_renewed = has_rivals).await;
            if !has_rivals {
                self.note_term(life, record.term)?;
            }
        }
        if !has_rivals && record.details.quorum.members.is_empty() {
            self.trouble(None);
            return Ok(LASTS);
        }
        let looked = timeout(QUERY, replication::standbys(&client)).await;
        let Ok(Ok((position, standbys))) = looked else {
            self.make_way(life, None).await?;
            return Ok(SOON);
        };
        self.keeper.note_position(position);
        let asked = life.seen.borrow().sighting().and_then(|it| it.record.switchover.clone());
        if let Some(switchover) = asked {
            return self.switch(life, &client, &switchover, position, &standbys).await;
        }
        if self.make_way(life, Some((position, &standbys))).await? {
            return Ok(SOON);
        }
        self.show_life(life, &record, &standbys).await;
        let names: Vec<&str> = standbys.iter().map(|(name, _)| name.as_str()).collect();
        let active = record.details.quorum;
        let replicas = replicas(&life.seen.borrow(), &active);
        let wanted = Quorum::of(&self.server.pod.instance, replicas, &self.server.pod.name);
        let confirm = |quorum: &Quorum| quorum.members.iter().filter(|name| names.contains(&name.as_str())).count();
        if wanted != active && confirm(&wanted) >= wanted.needed {
            self.replace_quorum(life, &client, &active, &wanted).await?;
            return Ok(SOON);
        }
        life.replacing = None;
        let confirming = confirm(&active);
        if confirming < active.needed {
            let since = *life.unconfirmed.get_or_insert_with(Instant::now);
            let text = format!(
                "writes wait: a commit needs {} of {} standbys, and {confirming} are there",
                active.needed,
                active.members.len()
            );
            self.trouble((since.elapsed() > UNCONFIRMED).then_some(text));
            return Ok(SOON);
        }
        life.unconfirmed = None;
        self.trouble(None);
        Ok(if wanted == active { RENEW } else { SOON })
    }

    /// Who does not follow yet may be waiting for a sign of life.
    async fn show_life(&self, life: &Life, record: &Record, standbys: &[(String, Lsn)]) {
        let is_awaited = {
            let seen = life.seen.borrow();
            let mut others = seen.members.iter().flatten().filter(|(pod, _)| **pod != self.server.pod.name);
            others.any(|(pod, it)| it.address.is_some() && !standbys.iter().any(|(name, _)| name == pod))
        };
        let is_due = self.keeper.held().flatten().is_some_and(|age| age > SIGN);
        if is_awaited && is_due && record.is_renewed {
            self.say(|_| {}).await;
        }
    }

    /// What a successor asks includes, at every moment, what the server waits for. It asks for less only once all that was
    /// acknowledged before is where the new quorum has it, which a commit that it confirms proves.
    async fn replace_quorum(
        &self,
        life: &mut Life,
        client: &Client,
        active: &Quorum,
        wanted: &Quorum,
    ) -> Result<(), Error> {
        let Some(replacing) = life.replacing.as_mut().filter(|it| it.wanted == *wanted) else {
            life.replacing = self.begin_to_replace(client, active, wanted).await?;
            return Ok(());
        };
        if !replacing.proof.is_finished() {
            return Ok(());
        }
        let proven = (&mut replacing.proof).await;
        life.replacing = None;
        match proven {
            Ok(Ok(())) => {
                self.say(|record| record.details.quorum = wanted.clone()).await;
                match wanted.members.is_empty() {
                    true => tracing::info!("commits wait for no standby"),
                    false => tracing::info!("commits wait for {}", wanted.setting()),
                }
            }
            Ok(Err(error)) => tracing::warn!("no commit is confirmed yet by {:?}: {}", wanted.setting(), chain(&error)),
            // It was not left to its end.
            Err(_) => {}
        }
        Ok(())
    }

    /// Lets the server wait for others than the Lease names, and begins to prove that they confirm. `None`: not yet.
    async fn begin_to_replace(
        &self,
        client: &Client,
        active: &Quorum,
        wanted: &Quorum,
    ) -> Result<Option<Replacing>, Error> {
        // While nobody confirms, the Lease must not say that somebody does.
        if !active.members.is_empty() {
            let both = active.and(wanted);
            if !self.say(|record| record.details.quorum = both.clone()).await {
                return Ok(None);
            }
        }
        self.write_role(&Role::Primary(wanted.setting()))?;
        if !self.reloads(client).await {
            return Ok(None);
        }
        let proof = tokio::task::spawn_local(is_confirmed(self.server.pod.socket_directory.clone()));
        Ok(Some(Replacing { wanted: wanted.clone(), proof }))
    }

    /// Whether the server reads its configuration.
    pub(super) async fn reloads(&self, client: &Client) -> bool {
        match bootstrap::reload(client).await {
            Ok(taken) => taken != Taken::NotYet,
            Err(error) => {
                tracing::warn!("the server does not read its configuration: {}", chain(&error));
                false
            }
        }
    }

    /// Sees to it that the server waits for those whom the Lease names. Who confirms commits is no matter of taste: by it a
    /// successor knows that it has them all. What a superuser sets with `ALTER SYSTEM` would go before the agent's files.
    async fn keep_quorum(&self, life: &mut Life, client: &Client, quorum: &Quorum) -> Result<(), Error> {
        let is_due = life.quorum_seen.is_none_or(|at| at.elapsed() >= RENEW);
        if !is_due || sabotage::sabotaged!("quorum-is-anybodys") {
            return Ok(());
        }
        life.quorum_seen = Some(Instant::now());
        let keeping = async {
            let (setting, is_theirs) = replication::confirmation(client).await?;
            if is_theirs {
                client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await?;
            } else if setting == quorum.setting() {
                return Ok(false);
            }
            Ok::<_, tokio_postgres::Error>(true)
        };
        match timeout(QUERY, keeping).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => {
                tracing::warn!("the server did not wait for those who confirm commits: it does again");
                self.write_role(&Role::Primary(quorum.setting()))?;
                self.reloads(client).await;
            }
            Ok(Err(error)) => tracing::warn!("it is not known who confirms commits: {}", chain(&error)),
            Err(_) => tracing::warn!("it is not known who confirms commits: the server does not answer"),
        }
        Ok(())
    }

    /// Writes to the Lease. What fails now is tried again at the next look.
    async fn say(&self, edit: impl Fn(&mut Record)) -> bool {
        match self.keeper.update(edit).await {
            Ok(is_held) => is_held,
            Err(error) => {
                tracing::warn!("{}; it is tried again", chain(&error));
                false
            }
        }
    }

    /// Does a failover that somebody asks for, or says why not.
    async fn switch(
        &self,
        life: &mut Life,
        client: &Client,
        switchover: &Switchover,
        position: Lsn,
        standbys: &[(String, Lsn)],
    ) -> Result<Duration, Error> {
        match successor(&self.server.pod.name, switchover, position, standbys) {
            Ok(pod) => {
                tracing::info!("{pod} is asked to be the primary");
                // So that the shutdown, during which nobody can write, is short.
                let _ = client.batch_execute("CHECKPOINT").await;
                self.hand_over(life, Some(&pod)).await?;
            }
            Err(reason) => {
                let refusal = Refusal { id: switchover.id.clone(), reason };
                let is_said =
                    self.say(|record| (record.switchover, record.refused) = (None, Some(refusal.clone()))).await;
                // Until the watch shows it, it would be refused again.
                if is_said {
                    self.wait(life, RENEW).await?;
                }
            }
        }
        Ok(SOON)
    }
}

/// Resolves when a commit was confirmed as the server's configuration asks. In a session of its own: one that waits for standbys
/// answers nothing else.
async fn is_confirmed(sockets: PathBuf) -> Result<(), tokio_postgres::Error> {
    let client = bootstrap::connect(&sockets, "a9s quorum").await?;
    replication::heeded(&client).await?;
    client.batch_execute("SET synchronous_commit = on").await?;
    client.batch_execute("SELECT pg_logical_emit_message(true, 'a9s', '')").await
}

/// Who becomes the primary on request.
///
/// # Errors
/// Why nobody can, in one sentence.
fn successor(
    primary: &str,
    switchover: &Switchover,
    position: Lsn,
    standbys: &[(String, Lsn)],
) -> Result<String, String> {
    let lag = |at: &Lsn| position.0.saturating_sub(at.0);
    match &switchover.to {
        Some(pod) if pod == primary => Err(format!("{pod} is the primary already")),
        Some(pod) => match standbys.iter().find(|(name, _)| name == pod) {
            None => Err(format!("{pod} does not follow the primary at the moment")),
            Some((_, at)) if lag(at) > NEAR => Err(format!("{pod} is {} MiB behind the primary", lag(at) >> 20)),
            Some(_) => Ok(pod.clone()),
        },
        None => {
            let best = standbys.iter().max_by_key(|(name, at)| (*at, std::cmp::Reverse(name.clone())));
            match best {
                None => Err("no member follows the primary at the moment".to_owned()),
                Some((pod, at)) if lag(at) > NEAR => Err(format!("{pod} is {} MiB behind the primary", lag(at) >> 20)),
                Some((pod, _)) => Ok(pod.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failover_on_request_goes_to_a_standby_that_is_near() {
        let standbys = [("x-1".to_owned(), Lsn(100)), ("x-2".to_owned(), Lsn(200))];
        let ask = |to: Option<&str>, position| {
            let switchover = Switchover { id: "1".into(), to: to.map(str::to_owned) };
            successor("x-0", &switchover, Lsn(position), &standbys)
        };
        assert_eq!(ask(None, 200).as_deref(), Ok("x-2"));
        assert_eq!(ask(Some("x-1"), 200).as_deref(), Ok("x-1"));
        for (to, position, text) in [
            (Some("x-0"), 200, "x-0 is the primary already"),
            (Some("x-3"), 200, "x-3 does not follow the primary at the moment"),
            (Some("x-1"), NEAR + (1 << 20) + 100, "x-1 is 17 MiB behind the primary"),
            (None, 2 * NEAR, "x-2 is 31 MiB behind the primary"),
        ] {
            assert_eq!(ask(to, position).expect_err("refused"), text);
        }
    }
}
