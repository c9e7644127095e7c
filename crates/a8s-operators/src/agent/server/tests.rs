//! The agent with a real server of this host. As root, each test runs itself again as the user `postgres`: a server
//! refuses to run as root.

use super::*;
use crate::agent::datadir::exchange;
use crate::agent::decide::Member;
use crate::agent::environment::Pod;
use crate::agent::lease::{Quorum, Record};
use crate::agent::platform::{self, Written};
use crate::agent::report::Applied;
use crate::postgresql::{self, template};
use nix::sys::signal::Signal;
use serde_json::json;
use std::cell::Cell;
use std::future::Future;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

pub const PASSWORD: &str = "secretsecretsecret";
/// Variable that tells a test run as another user where the templates are.
const TEMPLATES: &str = "A9S_TEST_TEMPLATES";

/// A cluster that is only memory.
#[derive(Clone)]
struct Memory {
    /// Whose agent sees it so.
    pod: &'static str,
    seen: Rc<watch::Sender<Seen>>,
    reports: Rc<RefCell<Vec<Report>>>,
    is_reachable: Rc<Cell<bool>>,
    /// The Lease can be read and not be written.
    is_read_only: Rc<Cell<bool>>,
    /// The next write of a generation is stored, and its answer is lost.
    loses_an_answer: Rc<Cell<bool>>,
    writes: Rc<Cell<u64>>,
    /// How often somebody tried to say of another pod that it is no primary.
    deposed: Rc<Cell<u64>>,
    logins: Rc<watch::Sender<Option<Vec<u8>>>>,
    notes: Rc<RefCell<std::collections::BTreeMap<&'static str, String>>>,
}

impl Memory {
    fn new() -> Self {
        let instance = serde_json::from_value(json!({"metadata": {"name": "solo"}, "spec": {"version": 15}}));
        let seen = Seen {
            instance: Some(instance.expect("an instance")),
            lease: Some(None),
            was_leased: false,
            members: Some([("solo-0".to_owned(), Member::default())].into()),
        };
        Self {
            pod: "solo-0",
            seen: Rc::new(watch::Sender::new(seen)),
            reports: Rc::default(),
            is_reachable: Rc::new(Cell::new(true)),
            is_read_only: Rc::default(),
            loses_an_answer: Rc::default(),
            writes: Rc::default(),
            deposed: Rc::default(),
            logins: Rc::new(watch::Sender::new(Some(vec![]))),
            notes: Rc::default(),
        }
    }

    fn check(&self) -> Result<(), platform::Error> {
        let error = || platform::Error::Configuration("cut off".into());
        if self.is_reachable.get() { Ok(()) } else { Err(error()) }
    }

    fn set_parameters(&self, parameters: serde_json::Value) {
        self.seen.send_modify(|seen| {
            let spec = &mut seen.instance.as_mut().expect("an instance").spec;
            spec.parameters = Some(serde_json::from_value(parameters).expect("parameters"));
        });
    }

    /// Labels the pod.
    fn label(&self, role: &str) {
        self.seen.send_if_modified(|seen| {
            let own = seen.members.as_mut().and_then(|members| members.get_mut(self.pod)).expect("the pod");
            std::mem::replace(&mut own.is_primary, role == "master") != (role == "master")
        });
    }

    fn is_labelled_as_primary(&self) -> bool {
        let seen = self.seen.borrow();
        seen.members.as_ref().and_then(|members| members.get(self.pod)).is_some_and(|own| own.is_primary)
    }

    fn record(&self) -> Option<Record> {
        self.seen.borrow().sighting().map(|it| it.record.clone())
    }

    /// What somebody else has noted.
    fn note(&self, edit: impl FnOnce(&mut Record)) {
        let mut record = self.record().unwrap_or_default();
        edit(&mut record);
        self.store(record);
    }

    fn store(&self, mut record: Record) -> Record {
        self.writes.set(self.writes.get() + 1);
        record.version = Some(self.writes.get().to_string());
        self.seen.send_modify(|seen| seen.see_lease(Some(record.clone())));
        record
    }
}

impl Platform for Memory {
    async fn follow(&self, seen: watch::Sender<Seen>) {
        let mut source = self.seen.subscribe();
        loop {
            if self.check().is_ok() {
                seen.send_replace(source.borrow_and_update().clone());
            }
            source.changed().await.expect("it lives");
        }
    }

    async fn write_lease(&self, _: &a8s_api::Postgresql, record: &Record) -> Result<Written, platform::Error> {
        self.check()?;
        if self.is_read_only.get() {
            return Err(platform::Error::Configuration("read only".into()));
        }
        if self.record().and_then(|it| it.version) == record.version {
            let is_lost = record.generation.is_some() && self.loses_an_answer.take();
            let stored = self.store(record.clone());
            if is_lost {
                Err(platform::Error::Configuration("lost".into()))
            } else {
                Ok(Written::Done(Box::new(stored)))
            }
        } else {
            Ok(Written::Conflict)
        }
    }

    async fn lease(&self) -> Result<Option<Record>, platform::Error> {
        self.check()?;
        Ok(self.record())
    }

    async fn member(&self, pod: &str) -> Result<Option<Member>, platform::Error> {
        self.check()?;
        Ok(self.seen.borrow().members.as_ref().and_then(|members| members.get(pod)).cloned())
    }

    async fn depose(&self, _: &str, _: &str) -> Result<bool, platform::Error> {
        self.deposed.set(self.deposed.get() + 1);
        self.check().map(|()| true)
    }

    async fn publish(&self, mut reports: watch::Receiver<Report>, said: watch::Sender<Report>) {
        while reports.changed().await.is_ok() {
            let report = reports.borrow_and_update().clone();
            self.reports.borrow_mut().push(report.clone());
            if let Some(role) = report.role {
                self.label(role);
            }
            said.send_replace(report);
        }
    }
}

impl platform::Primary for Memory {
    async fn logins(&self) -> Result<Vec<u8>, platform::Error> {
        self.check()?;
        Ok(self.logins.borrow().clone().unwrap_or_default())
    }

    async fn follow_logins(&self, contents: watch::Sender<Option<Vec<u8>>>) {
        let mut source = self.logins.subscribe();
        loop {
            contents.send_replace(source.borrow_and_update().clone());
            if source.changed().await.is_err() {
                return;
            }
        }
    }

    async fn note(&self, annotation: &'static str, value: Option<&str>) -> Result<(), platform::Error> {
        self.check()?;
        match value {
            Some(value) => drop(self.notes.borrow_mut().insert(annotation, value.to_owned())),
            None => drop(self.notes.borrow_mut().remove(annotation)),
        }
        Ok(())
    }
}

/// Runs the body of the calling test, as a user who may run servers.
fn as_server_user(test: &str, body: impl FnOnce()) {
    as_server_user_in(module_path!(), test, body);
}

/// Runs the body of the calling test, which is in this module, as a user who may run servers.
pub fn as_server_user_in(module: &str, test: &str, body: impl FnOnce()) {
    if !nix::unistd::geteuid().is_root() {
        return body();
    }
    let user = nix::unistd::User::from_name("postgres").ok().flatten().expect("the user postgres of the server");
    // The user may not be able to reach the place where cargo has put the test.
    let directory = tempfile::tempdir().expect("a directory");
    open(directory.path());
    let program = directory.path().join("test");
    let current = std::env::current_exe().expect("this test");
    fs_err::hard_link(&current, &program).or_else(|_| fs_err::copy(&current, &program).map(|_| ())).expect("copied");
    let name = format!("{}::{test}", module.split_once("::").expect("within a crate").1);
    let mut command = Command::new(program);
    command.args([name.as_str(), "--exact", "--nocapture"]).uid(user.uid.as_raw()).gid(user.gid.as_raw());
    let templates = current.with_file_name("server-test-templates");
    if template::ensure(&installation(), &templates, Some("postgres")).is_ok() {
        command.env(TEMPLATES, templates);
    }
    let output = command.current_dir("/").env_remove("HOME").output().expect("run");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn open(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs_err::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).expect("ours");
}

fn installation() -> postgresql::Installation {
    postgresql::installations().pop().expect("a PostgreSQL server on this host")
}

/// A template, which stays beside the built tests for the next run; where the user cannot reach it, a fresh one.
fn template(fresh: &Path) -> PathBuf {
    let current = std::env::current_exe().expect("this test").with_file_name("server-test-templates");
    let kept = std::env::var_os(TEMPLATES).map_or(current, PathBuf::from);
    template::ensure(&installation(), &kept, None)
        .or_else(|_| template::ensure(&installation(), fresh, None))
        .expect("a template")
}

pub struct Fixture {
    _directory: tempfile::TempDir,
    pub server: Server,
    memory: Memory,
    orders: Rc<RefCell<Option<Orders>>>,
}

impl Fixture {
    pub fn new(with_template: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let installation = installation();
        let template = with_template.then(|| template(&path.join("templates")));
        for name in ["volume", "s", "admin", "standby"] {
            fs_err::create_dir(path.join(name)).expect("made");
        }
        for (name, user) in [("admin", "postgres"), ("standby", "standby")] {
            fs_err::write(path.join(name).join("username"), user).expect("written");
            fs_err::write(path.join(name).join("password"), PASSWORD).expect("written");
        }
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = [127, 120 + NEXT.fetch_add(1, Ordering::Relaxed) % 100, high, low.max(1)].into();
        let server = Server {
            pod: Pod {
                instance: "solo".into(),
                name: "solo-0".into(),
                namespace: "shop".into(),
                address,
                socket_directory: path.join("s"),
            },
            volume: path.join("volume"),
            admin_credentials: path.join("admin"),
            standby_credentials: path.join("standby"),
            bin_directory: installation.bin_directory,
            major: installation.major,
            template,
            memory_limit: Some(200 << 20),
            uid: "1-2-3".into(),
            termination_log: path.join("termination-log"),
        };
        Self { _directory: directory, server, memory: Memory::new(), orders: Rc::default() }
    }

    /// A second member, with an empty volume and no template, beside the first one.
    fn joined(&self) -> Self {
        let mut other = Self::new(false);
        (other.server.pod.name, other.server.uid) = ("solo-1".into(), "4-5-6".into());
        other.memory = Memory { pod: "solo-1", reports: Rc::default(), ..self.memory.clone() };
        self.memory.seen.send_modify(|seen| {
            let members = seen.members.as_mut().expect("members");
            for server in [&self.server, &other.server] {
                let member = members.entry(server.pod.name.clone()).or_default();
                (member.pod, member.uid) = (server.pod.name.clone(), server.uid.clone());
                member.address = Some(server.pod.address.to_string());
                member.is_ready = server.uid == self.server.uid;
            }
        });
        other
    }

    /// What the volume says of itself, once its data is complete.
    fn identity(&self) -> Option<Identity> {
        match datadir::inspect(&self.server) {
            Ok(Found::Complete(identity)) => Some(identity),
            _ => None,
        }
    }

    /// What the running agent takes new contents by.
    pub fn orders(&self) -> Orders {
        self.orders.borrow().clone().expect("an agent runs")
    }

    fn keep_orders(&self) -> impl FnOnce(Orders) -> std::future::Ready<()> + use<> {
        let kept = self.orders.clone();
        move |orders| {
            kept.replace(Some(orders));
            std::future::ready(())
        }
    }

    /// Runs the agent while `body` runs, then stops it; answers with what the agent said at its end.
    pub async fn during<F: Future<Output = ()>>(&self, body: impl FnOnce() -> F) -> Result<(), Error> {
        let stop = CancellationToken::new();
        let agent =
            tokio::task::spawn_local(serve(self.server.clone(), self.memory.clone(), self.keep_orders(), stop.clone()));
        tokio::select! {
            () = body() => {}
            () = until(|| agent.is_finished()) => {}
        }
        stop.cancel();
        agent.await.expect("no panic")
    }

    /// Runs the agent until it ends, or dies when `body` has ended, as if it were killed.
    async fn killed_after<F: Future<Output = ()>>(&self, body: impl FnOnce() -> F) {
        let agent = serve(self.server.clone(), self.memory.clone(), self.keep_orders(), CancellationToken::new());
        tokio::select! {
            () = body() => {}
            result = agent => panic!("the agent ended by itself: {result:?}"),
        }
    }

    /// The list of logins, which is empty, is only found by asking for it.
    pub fn hide_logins_from_followers(&self) {
        self.memory.logins.send_replace(None);
    }

    /// One question over HTTP, as a kubelet asks.
    async fn is_ready(&self) -> bool {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let Ok(mut stream) = tokio::net::TcpStream::connect((self.server.pod.address, REST_PORT)).await else {
            return false;
        };
        let request = "GET /readiness HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.ends_with("\r\n\r\n"), "a body in {answer}");
        answer.starts_with("HTTP/1.1 200")
    }

    pub async fn ready(&self) {
        while !self.is_ready().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One statement as a user sends it: over TCP, with a password. Answers with the output, or the error.
    pub async fn sql_as(&self, user: &str, password: &str, mode: &str, statement: &str) -> Result<String, String> {
        let (host, psql) = (self.server.pod.address, self.server.bin_directory.join("psql"));
        let target = format!("host={host} user={user} sslmode={mode} connect_timeout=5");
        let output = tokio::process::Command::new(psql)
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, &target])
            .env("PGPASSWORD", password)
            .output()
            .await
            .expect("psql");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    pub async fn sql(&self, statement: &str) -> String {
        self.sql_as("postgres", PASSWORD, "require", statement).await.expect("answered")
    }

    fn postmaster(&self) -> nix::unistd::Pid {
        self.running().expect("a server")
    }

    /// What the agent says that it waits for.
    fn trouble(&self) -> Option<String> {
        self.memory.reports.borrow().last()?.trouble.clone()
    }

    /// The server, if it has written its number yet.
    fn running(&self) -> Option<nix::unistd::Pid> {
        let text = fs_err::read_to_string(self.server.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.parse().ok().map(nix::unistd::Pid::from_raw)
    }
}

impl Drop for Fixture {
    /// A test that failed leaves its server.
    fn drop(&mut self) {
        if let Some(server) = self.running() {
            let _ = nix::sys::signal::kill(server, Signal::SIGQUIT);
        }
    }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs a scenario on a runtime like the agent's.
pub fn scenario<F: Future<Output = ()>>(body: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let within = async {
        timeout(Duration::from_secs(60), body).await.expect("in time");
    };
    tokio::task::LocalSet::new().block_on(&runtime, within);
}

#[test]
fn who_held_the_lease_before_is_deposed_as_soon_as_possible_and_only_while_it_is_held() {
    let memory = Memory::new();
    let holder = |pod: &str| Holder { pod: pod.to_owned(), uid: format!("uid of {pod}"), run: "1".to_owned() };
    let keeper = Keeper::new(Rc::new(memory.clone()), holder("solo-0"), PathBuf::from("/nowhere"));
    let other = holder("solo-1");
    let instance = memory.seen.borrow().instance.clone().expect("an instance");
    let tried = |times: u64| {
        let deposed = memory.deposed.clone();
        async move { until(|| deposed.get() >= times).await }
    };
    scenario(async {
        keeper.depose(&other).await;
        assert_eq!(memory.deposed.get(), 0, "it holds nothing");
        assert!(keeper.acquire(&instance, Record::default(), |_| {}).await.expect("an answer"), "nobody has it");
        memory.is_reachable.set(false);
        let answers_later = async {
            tried(2).await;
            memory.is_reachable.set(true);
        };
        tokio::join!(keeper.depose(&other), answers_later);
        assert_eq!(memory.deposed.get(), 3, "once it answers, it is said");
        memory.is_reachable.set(false);
        let is_lost = async {
            tried(4).await;
            keeper.forget();
        };
        tokio::join!(keeper.depose(&other), is_lost);
        assert_eq!(memory.deposed.get(), 4, "the other may be the primary now");
    });
}

#[test]
fn a_primary_that_goes_on_has_held_the_lease_since_its_term_began() {
    let memory = Memory::new();
    let me = Holder { pod: "solo-0".to_owned(), uid: "1".to_owned(), run: "1".to_owned() };
    let keeper = Keeper::new(Rc::new(memory.clone()), me, PathBuf::from("/nowhere"));
    let instance = memory.seen.borrow().instance.clone().expect("an instance");
    let acquired = || memory.record().and_then(|record| record.acquired).expect("a time");
    scenario(async {
        let take = async |next: u64| {
            let seen = memory.record().unwrap_or_default();
            assert!(keeper.acquire(&instance, seen, |record| record.term += next).await.expect("an answer"));
        };
        take(0).await;
        let began = acquired();
        // Its agent was started again.
        take(0).await;
        assert_eq!(acquired(), began, "an instance that began long ago is no new one");
        take(1).await;
        assert!(acquired() > began);
    });
}

#[test]
fn the_lease_says_that_a_primary_has_ended_in_order_until_somebody_takes_it() {
    let memory = Memory::new();
    let me = Holder { pod: "solo-0".to_owned(), uid: "1".to_owned(), run: "1".to_owned() };
    let keeper = Keeper::new(Rc::new(memory.clone()), me, PathBuf::from("/nowhere"));
    let instance = memory.seen.borrow().instance.clone().expect("an instance");
    let is_end = || memory.record().is_some_and(|record| record.details.is_end);
    scenario(async {
        for end in [Some(report::Lsn(16)), None] {
            let seen = memory.record().unwrap_or_default();
            assert!(keeper.acquire(&instance, seen, |_| {}).await.expect("an answer"));
            assert!(!is_end(), "it may write more");
            keeper.release(None, end).await.expect("an answer");
            assert_eq!(is_end(), end.is_some());
        }
    });
}

#[test]
fn a_primary_that_is_stopped_says_where_it_has_ended_if_its_content_is_that_of_the_lease() {
    as_server_user("a_primary_that_is_stopped_says_where_it_has_ended_if_its_content_is_that_of_the_lease", || {
        let first = Fixture::new(true);
        let _second = first.joined();
        scenario(async {
            for (generation, is_said) in [(None, true), (Some("another"), false)] {
                let led = first.during(|| async {
                    first.ready().await;
                    exchange::mark(&first.server.data(), generation).expect("marked");
                });
                led.await.expect("no error");
                assert_eq!(first.memory.record().expect("a Lease").details.is_end, is_said);
            }
        });
    });
}

#[test]
fn who_cannot_note_its_term_leaves_the_choice_as_it_was() {
    as_server_user("who_cannot_note_its_term_leaves_the_choice_as_it_was", || {
        let first = Fixture::new(true);
        let second = first.joined();
        // Nothing can take its place, as on a disk that is full.
        let obstacle = second.server.volume.join("instance.json.new");
        scenario(async {
            follow_for_a_while(&first, &second).await;
            // The last primary is away for good, and of those who confirmed its commits there is only this one.
            first.memory.seen.send_modify(|seen| {
                let member = seen.members.as_mut().and_then(|members| members.get_mut("solo-0")).expect("the member");
                member.is_ready = false;
            });
            first.memory.note(|record| {
                record.details.quorum = Quorum::of("solo", 3, "solo-0");
                (record.details.position, record.details.is_end) = (report::Lsn(1), true);
            });
            let before = first.memory.record().expect("a Lease");
            fs_err::create_dir(&obstacle).expect("made");
            let error = second.during(std::future::pending).await.expect_err("it cannot be noted");
            assert!(chain(&error).contains("instance.json"), "{}", chain(&error));
            let after = first.memory.record().expect("a Lease");
            assert_eq!((after.holder, after.details), (None, before.details));
            assert!(after.term > before.term, "it may have been noted nonetheless");
            fs_err::remove_dir(&obstacle).expect("removed");
            let led = second.during(|| async {
                until(|| second.identity().is_some_and(|identity| identity.term.is_some())).await;
            });
            led.await.expect("no error");
        });
    });
}

#[test]
fn a_new_instance_serves_users_with_passwords_and_encryption() {
    as_server_user("a_new_instance_serves_users_with_passwords_and_encryption", || {
        let fixture = Fixture::new(true);
        let serving = fixture.during(|| async {
            fixture.ready().await;
            assert_eq!(fixture.sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await, "t");
            let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'a9s_apps_default_db'";
            assert_eq!(fixture.sql(owner).await, "a9s_user");
            let logins = "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolcanlogin";
            assert_eq!(fixture.sql(logins).await, "postgres,standby");
            assert_eq!(fixture.sql("SHOW data_checksums").await, "on");
            assert_eq!(fixture.sql("SHOW shared_buffers").await, "40MB");
            let identifier = fixture.sql("SELECT system_identifier FROM pg_control_system()").await;
            assert_eq!(Some(identifier), fixture.memory.record().and_then(|it| it.identifier));
            let error = fixture.sql_as("postgres", "wrong", "require", "SELECT 1").await.expect_err("refused");
            assert!(error.contains("password authentication failed"), "{error}");
            let error = fixture.sql_as("a9s_user", PASSWORD, "require", "SELECT 1").await.expect_err("refused");
            assert!(error.contains("authentication failed"), "{error}");
        });
        scenario(async { serving.await.expect("no error") });
        assert!(!fixture.server.data().join("postmaster.pid").exists(), "the server ended with its agent");
        assert!(fixture.memory.reports.borrow().iter().any(|report| report.role == Some("master")));
    });
}

#[test]
fn without_a_template_the_result_is_the_same() {
    as_server_user("without_a_template_the_result_is_the_same", || {
        let fixture = Fixture::new(false);
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                let database = "SELECT count(*) FROM pg_database WHERE datname = 'a9s_apps_default_db'";
                assert_eq!(fixture.sql(database).await, "1");
                assert_eq!(fixture.sql("SHOW server_encoding").await, "UTF8");
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn rows_survive_the_death_of_the_server_and_of_its_agent() {
    as_server_user("rows_survive_the_death_of_the_server_and_of_its_agent", || {
        let fixture = Fixture::new(true);
        scenario(async {
            fixture
                .killed_after(|| async {
                    fixture.ready().await;
                    fixture.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await;
                    let first = fixture.postmaster();
                    nix::sys::signal::kill(first, Signal::SIGKILL).expect("ours");
                    until(|| fixture.running().is_some_and(|server| server != first)).await;
                    fixture.ready().await;
                    fixture.sql("INSERT INTO t VALUES (2)").await;
                })
                .await;
        });
        // The agent is gone, its server is not.
        let orphan = fixture.postmaster();
        nix::sys::signal::kill(orphan, None).expect("it lives");
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                assert_ne!(fixture.postmaster(), orphan);
                assert_eq!(fixture.sql("SELECT sum(n) FROM t").await, "3");
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn a_primary_that_somebody_else_labels_labels_itself_again() {
    as_server_user("a_primary_that_somebody_else_labels_labels_itself_again", || {
        let fixture = Fixture::new(true);
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                until(|| fixture.memory.is_labelled_as_primary()).await;
                fixture.memory.label("replica");
                until(|| fixture.memory.is_labelled_as_primary()).await;
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn an_only_member_makes_its_lease_again_at_once() {
    as_server_user("an_only_member_makes_its_lease_again_at_once", || {
        let fixture = Fixture::new(true);
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                until(|| fixture.memory.is_labelled_as_primary()).await;
                let before = fixture.memory.record().expect("a Lease");
                fixture.memory.seen.send_modify(|seen| seen.see_lease(None));
                until(|| fixture.memory.record().is_some()).await;
                let after = fixture.memory.record().expect("a Lease");
                assert_eq!((after.holder, after.identifier), (before.holder, before.identifier));
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn a_former_primary_does_not_say_that_it_is_one_together_with_something_else() {
    as_server_user("a_former_primary_does_not_say_that_it_is_one_together_with_something_else", || {
        let fixture = Fixture::new(true);
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                until(|| fixture.memory.is_labelled_as_primary()).await;
                fixture.memory.seen.send_modify(|seen| {
                    seen.members.as_mut().expect("members").insert("solo-1".to_owned(), Member::default());
                });
                until(|| fixture.memory.record().is_some_and(|record| record.is_renewed)).await;
                // Another one takes its place, and says so of it.
                let other = Holder { pod: "solo-1".to_owned(), uid: "4-5-6".to_owned(), run: "other".to_owned() };
                fixture.memory.note(|record| (record.holder, record.term) = (Some(other), record.term + 1));
                while fixture.is_ready().await {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                fixture.memory.label("replica");
                // Now it is in trouble: its content is not the instance's any more.
                fixture.memory.note(|record| (record.holder, record.generation) = (None, Some("another".to_owned())));
                until(|| fixture.trouble().is_some()).await;
                assert!(!fixture.memory.is_labelled_as_primary(), "{:?}", fixture.memory.reports.borrow().last());
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn parameters_are_applied_to_the_running_server() {
    as_server_user("parameters_are_applied_to_the_running_server", || {
        let fixture = Fixture::new(true);
        let last = || -> Option<Applied> {
            serde_json::from_str(fixture.memory.reports.borrow().last()?.configuration.as_ref()?).ok()
        };
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                let first = fixture.postmaster();
                fixture.memory.set_parameters(json!({"statementTimeoutMillis": 4321}));
                until(|| last().is_some_and(|applied| !applied.restarted)).await;
                assert_eq!(fixture.sql("SHOW statement_timeout").await, "4321ms");
                assert_eq!(fixture.postmaster(), first, "no restart for this");

                fixture.memory.set_parameters(json!({"maxConnections": 101, "logErrorVerbosity": "TERSE"}));
                until(|| last().is_some_and(|applied| applied.restarted)).await;
                fixture.ready().await;
                assert_eq!(fixture.sql("SHOW max_connections").await, "101");
                assert_eq!(fixture.sql("SHOW log_error_verbosity").await, "terse");
                assert_eq!(fixture.sql("SHOW statement_timeout").await, "0");
                assert_ne!(fixture.postmaster(), first);
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn parameters_that_stop_the_server_are_taken_back() {
    as_server_user("parameters_that_stop_the_server_are_taken_back", || {
        let fixture = Fixture::new(true);
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                let first = fixture.postmaster();
                fixture.memory.set_parameters(json!({"sslCiphers": "nonsense", "maxConnections": 102}));
                until(|| fixture.running().is_some_and(|server| server != first)).await;
                fixture.ready().await;
                assert_eq!(fixture.sql("SHOW max_connections").await, "100");
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn a_member_without_its_parameters_does_not_start_with_the_configuration_of_another_one() {
    as_server_user("a_member_without_its_parameters_does_not_start_with_the_configuration_of_another_one", || {
        let fixture = Fixture::new(true);
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                fixture.memory.set_parameters(json!({"sslCiphers": "nonsense", "maxConnections": 102}));
                until(|| fixture.trouble().is_some_and(|text| text.contains("does not start with its parameters")))
                    .await;
                fixture.ready().await;
                // As pg_basebackup and pg_rewind bring it.
                let path = fixture.server.data().join("postgresql.conf");
                let text = fs_err::read_to_string(&path).expect("there");
                let address = fixture.server.pod.address.to_string();
                fs_err::write(&path, text.replace(&address, "127.99.0.1")).expect("written");
                let server = fixture.postmaster();
                nix::sys::signal::kill(server, Signal::SIGKILL).expect("ours");
                until(|| fixture.running().is_some_and(|it| it != server)).await;
                fixture.ready().await;
                assert_eq!(fixture.sql("SHOW max_connections").await, "100");
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn parameters_that_a_reload_takes_and_a_start_does_not_are_taken_back() {
    as_server_user("parameters_that_a_reload_takes_and_a_start_does_not_are_taken_back", || {
        let fixture = Fixture::new(true);
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                let first = fixture.postmaster();
                fixture.memory.set_parameters(json!({"sslCiphers": "nonsense"}));
                while fixture.sql("SHOW ssl_ciphers").await != "nonsense" {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                nix::sys::signal::kill(first, Signal::SIGKILL).expect("ours");
                until(|| fixture.running().is_some_and(|server| server != first)).await;
                fixture.ready().await;
                assert_eq!(fixture.sql("SHOW ssl_ciphers").await, "HIGH:MEDIUM:+3DES:!aNULL");
                until(|| fixture.trouble().is_some_and(|text| text.contains("does not start with its parameters")))
                    .await;
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn parameters_with_which_the_server_was_not_started_yet_are_not_why_it_ends() {
    as_server_user("parameters_with_which_the_server_was_not_started_yet_are_not_why_it_ends", || {
        let fixture = Fixture::new(true);
        scenario(async {
            let killed = async || {
                let server = fixture.postmaster();
                nix::sys::signal::kill(server, Signal::SIGKILL).expect("ours");
                until(|| fixture.running().is_some_and(|it| it != server)).await;
                fixture.ready().await;
            };
            let serving = fixture.during(|| async {
                fixture.ready().await;
                killed().await;
                fixture.memory.set_parameters(json!({"statementTimeoutMillis": 4321}));
                while fixture.sql("SHOW statement_timeout").await != "4321ms" {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                killed().await;
                assert_eq!(fixture.sql("SHOW statement_timeout").await, "4321ms");
                assert_eq!(fixture.trouble(), None);
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn members_that_are_asked_for_what_they_have_complain_of_nothing() {
    as_server_user("members_that_are_asked_for_what_they_have_complain_of_nothing", || {
        let first = Fixture::new(true);
        let second = first.joined();
        scenario(async {
            let following = second.during(|| async {
                second.ready().await;
                first.memory.set_parameters(json!({"maxConnections": 262_143}));
                for member in [&first, &second] {
                    until(|| member.trouble().is_some_and(|text| text.contains("too small"))).await;
                }
                first.memory.set_parameters(json!({}));
                for member in [&first, &second] {
                    until(|| member.trouble().is_none()).await;
                }
            });
            while_it_leads(&first, following).await;
        });
    });
}

#[test]
fn parameters_that_ran_before_impossible_ones_are_applied_again() {
    as_server_user("parameters_that_ran_before_impossible_ones_are_applied_again", || {
        let fixture = Fixture::new(true);
        let impossible = json!({"sslCiphers": "nonsense", "maxConnections": 102});
        let possible = json!({"statementTimeoutMillis": 4321});
        scenario(async {
            let applied = async || {
                while fixture.sql("SHOW statement_timeout").await != "4321ms" {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let serving = fixture.during(|| async {
                fixture.ready().await;
                fixture.memory.set_parameters(impossible.clone());
                until(|| fixture.trouble().is_some_and(|text| text.contains("does not start with its parameters")))
                    .await;
                fixture.ready().await;
                fixture.memory.set_parameters(possible.clone());
                applied().await;
                fixture.memory.set_parameters(impossible);
                // Its end says nothing of its parameters then.
                tokio::time::sleep(LONG_LIFE + Duration::from_secs(1)).await;
                let server = fixture.postmaster();
                nix::sys::signal::kill(server, Signal::SIGKILL).expect("ours");
                until(|| fixture.running().is_some_and(|it| it != server)).await;
                fixture.ready().await;
                assert_eq!(fixture.sql("SHOW statement_timeout").await, "0");
                fixture.memory.set_parameters(possible);
                applied().await;
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn parameters_for_which_there_is_no_memory_stop_no_server_that_ran() {
    as_server_user("parameters_for_which_there_is_no_memory_stop_no_server_that_ran", || {
        let fixture = Fixture::new(true);
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                let first = fixture.postmaster();
                fixture.memory.set_parameters(json!({"maxConnections": 262_143}));
                until(|| fixture.trouble().is_some_and(|text| text.contains("too small"))).await;
                nix::sys::signal::kill(first, Signal::SIGKILL).expect("ours");
                until(|| fixture.running().is_some_and(|server| server != first)).await;
                fixture.ready().await;
                assert_eq!(fixture.sql("SHOW max_connections").await, "100");
                fixture.memory.set_parameters(json!({"maxConnections": 101}));
                until(|| fixture.trouble().is_none()).await;
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn an_initialisation_that_was_cut_off_is_done_again() {
    as_server_user("an_initialisation_that_was_cut_off_is_done_again", || {
        let fixture = Fixture::new(true);
        let identity = Identity::new(&fixture.server, 77);
        identity.write(&fixture.server.volume).expect("written");
        fs_err::create_dir(fixture.server.data()).expect("made");
        fs_err::write(fixture.server.data().join("rest"), "of the first attempt").expect("written");
        fixture.memory.note(|record| {
            record.identifier = Some("77".into());
            record.details.template = initialise::template_of(&fixture.server);
        });
        scenario(async {
            let serving = fixture.during(|| async {
                fixture.ready().await;
                assert_eq!(fixture.sql("SELECT system_identifier FROM pg_control_system()").await, "77");
                assert!(!fixture.server.data().join("rest").exists());
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn an_empty_volume_of_an_instance_with_data_is_never_initialised() {
    let mut fixture = Fixture::new(false);
    // Nothing is run here, so that no other user is needed.
    fixture.server.bin_directory = "/nowhere".into();
    fixture.memory.note(|record| record.identifier = Some("12345".into()));
    scenario(async {
        let error = fixture.during(std::future::pending).await.expect_err("refused").to_string();
        assert!(error.starts_with("this instance was initialised before, with system identifier 12345"), "{error}");
    });
}

#[test]
fn a_server_with_data_starts_although_the_api_does_not_answer() {
    as_server_user("a_server_with_data_starts_although_the_api_does_not_answer", || {
        let fixture = Fixture::new(true);
        scenario(async {
            fixture.during(|| fixture.ready()).await.expect("no error");
            fixture.memory.is_reachable.set(false);
            fixture.during(|| fixture.ready()).await.expect("no error");
        });
    });
}

/// A session of the superuser, once the server gives one.
async fn session(server: &Server) -> Client {
    loop {
        match bootstrap::connect(&server.pod.socket_directory, "client").await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Makes the volume that of a standby with the content of before and the WAL of after, whose commits it applies only
/// after a while.
async fn begin_late(fixture: &Fixture, delay: &str) {
    let (data, earlier) = (fixture.server.data(), fixture.server.volume.join("earlier"));
    fixture.during(|| fixture.ready()).await.expect("no error");
    datadir::copy::copy_tree(&data, &earlier).expect("copied");
    let more = async || {
        fixture.ready().await;
        fixture.sql("CREATE TABLE t AS SELECT 1 AS n").await;
    };
    fixture.during(more).await.expect("no error");
    fs_err::remove_dir_all(earlier.join("pg_wal")).expect("removed");
    fs_err::rename(data.join("pg_wal"), earlier.join("pg_wal")).expect("renamed");
    fs_err::remove_dir_all(&data).expect("removed");
    fs_err::rename(&earlier, &data).expect("renamed");
    let setting = format!("recovery_min_apply_delay = '{delay}'\n");
    fs_err::write(data.join("postgresql.auto.conf"), setting).expect("written");
    replication::signal(&data, true).expect("written");
}

#[test]
fn a_standby_that_is_to_lead_takes_the_timeline_of_its_term_once_it_has_all() {
    as_server_user("a_standby_that_is_to_lead_takes_the_timeline_of_its_term_once_it_has_all", || {
        let fixture = Fixture::new(true);
        scenario(async {
            begin_late(&fixture, "5s").await;
            // Another member has been to lead, and may have begun timeline 2.
            fixture.memory.note(|record| record.details.timeline = 3);
            let serving = fixture.during(|| async {
                fixture.ready().await;
                assert_eq!(fixture.sql("SELECT n FROM t").await, "1");
                let timeline = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
                assert_eq!(fixture.sql(timeline).await, "00000003");
            });
            serving.await.expect("no error");
        });
    });
}

#[test]
fn a_server_that_has_been_promoted_before_its_agent_knew_is_opened() {
    as_server_user("a_server_that_has_been_promoted_before_its_agent_knew_is_opened", || {
        let fixture = Fixture::new(true);
        scenario(async {
            begin_late(&fixture, "1h").await;
            let serving = fixture.during(|| async {
                let client = session(&fixture.server).await;
                // The Lease says timeline 1, and cannot be written until long after the promotion.
                fixture.memory.is_read_only.set(true);
                client.batch_execute("SELECT pg_promote(false)").await.expect("promoted");
                while !replication::is_primary(&client).await.expect("answered") {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                fixture.memory.is_read_only.set(false);
                leads_on(&fixture, "00000002").await;
                assert_eq!(fixture.sql("SELECT n FROM t").await, "1");
            });
            serving.await.expect("no error");
        });
    });
}

/// Waits until the server leads on this timeline, as the Lease says, too.
async fn leads_on(fixture: &Fixture, timeline: &str) {
    fixture.ready().await;
    assert_eq!(fixture.sql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)").await, timeline);
    let noted = || fixture.memory.record().map(|record| format!("{:08X}", record.details.timeline));
    until(|| noted().as_deref() == Some(timeline)).await;
}

#[test]
fn a_promotion_that_was_cut_off_is_done_again_and_the_lease_names_its_timeline() {
    as_server_user("a_promotion_that_was_cut_off_is_done_again_and_the_lease_names_its_timeline", || {
        let fixture = Fixture::new(true);
        let (server, data) = (&fixture.server, fixture.server.data());
        scenario(async {
            fixture.during(|| fixture.ready()).await.expect("no error");
            for (wanted, is_noted, found) in [(2, false, "00000002"), (3, true, "00000004")] {
                // A standby is killed when its signal is gone, the second time also with the history of its timeline.
                replication::signal(&data, true).expect("written");
                let postmaster = postmaster::Postmaster::start(server).expect("started");
                until(|| postmaster.is_ready(&data)).await;
                let client = bootstrap::connect(&server.pod.socket_directory, "client").await.expect("connected");
                let end = bootstrap::first(&client, "SELECT pg_last_wal_replay_lsn()").await.expect("answered");
                postmaster.quit().await;
                replication::signal(&data, false).expect("removed");
                if is_noted {
                    let wal = data.join("pg_wal");
                    let before = fs_err::read_to_string(wal.join("00000002.history")).expect("there");
                    let text = format!("{before}2\t{}\tcut off\n", end.expect("a place"));
                    fs_err::write(wal.join("00000003.history"), text).expect("written");
                }
                fixture.memory.note(|record| record.details.timeline = wanted);
                let before = fixture.memory.writes.get();
                let promoted = fixture.during(|| async {
                    // Once the Lease is had, it cannot be written for long, the second time.
                    until(|| fixture.memory.writes.get() > before).await;
                    if is_noted {
                        fixture.memory.is_read_only.set(true);
                        let client = session(server).await;
                        tokio::time::sleep(Duration::from_secs(2)).await;
                        let is_promoted = replication::is_primary(&client).await.expect("answered");
                        assert!(!is_promoted, "the Lease does not name its timeline");
                        fixture.memory.is_read_only.set(false);
                    }
                    leads_on(&fixture, found).await;
                });
                promoted.await.expect("no error");
            }
        });
    });
}

#[test]
fn a_member_may_lead_with_a_copy_of_the_primary_before_it_has_followed_it() {
    as_server_user("a_member_may_lead_with_a_copy_of_the_primary_before_it_has_followed_it", || {
        let first = Fixture::new(true);
        let second = first.joined();
        scenario(async {
            let copying = second.during(|| async {
                until(|| second.identity().is_some()).await;
                assert!(second.identity().is_some_and(|identity| identity.has_followed));
            });
            while_it_leads(&first, copying).await;
        });
    });
}

#[test]
fn a_standby_says_how_far_it_is_only_once_its_server_has_read_that_it_receives_nothing() {
    as_server_user("a_standby_says_how_far_it_is_only_once_its_server_has_read_that_it_receives_nothing", || {
        let first = Fixture::new(true);
        let second = first.joined();
        let (gone, holder) = (Notify::new(), || first.memory.record().and_then(|record| record.holder));
        scenario(async {
            let following = second.during(|| async {
                second.ready().await;
                // It takes no signal, and starts nothing, until it goes on.
                let postmaster = second.postmaster();
                nix::sys::signal::kill(postmaster, Signal::SIGSTOP).expect("ours");
                gone.notify_one();
                until(|| holder().is_none()).await;
                // Longer than it is waited for its configuration.
                tokio::time::sleep(Duration::from_secs(4)).await;
                let has_stood = second.memory.reports.borrow().iter().any(|report| report.standing.is_some());
                nix::sys::signal::kill(postmaster, Signal::SIGCONT).expect("ours");
                assert!(!has_stood, "it may receive again");
                until(|| holder().is_some_and(|holder| holder.pod == "solo-1")).await;
            });
            let (led, followed) = tokio::join!(first.during(|| gone.notified()), following);
            led.and(followed).expect("no error");
        });
    });
}

#[test]
fn an_old_primary_of_which_nothing_is_taken_back_has_what_it_had() {
    as_server_user("an_old_primary_of_which_nothing_is_taken_back_has_what_it_had", || {
        let first = Fixture::new(true);
        let (second, gone, is_over) = (first.joined(), Notify::new(), Notify::new());
        scenario(async {
            let following = second.during(|| async {
                second.ready().await;
                gone.notify_one();
                is_over.notified().await;
            });
            let returning = async {
                first.during(|| gone.notified()).await?;
                // It has ended in order, so that the other one has everything.
                until(|| second.memory.is_labelled_as_primary()).await;
                let returned = first.during(|| async {
                    until(|| first.identity().is_some_and(|identity| identity.term.is_none())).await;
                    let identity = first.identity().expect("complete");
                    assert_eq!((identity.is_rewound, identity.has_followed), (false, true));
                    first.ready().await;
                });
                returned.await?;
                is_over.notify_one();
                Ok::<_, Error>(())
            };
            let (followed, returned) = tokio::join!(following, returning);
            followed.and(returned).expect("no error");
        });
    });
}

/// Puts the first member where nobody listens, or where it is, as others see it.
fn move_away(first: &Fixture, is_away: bool) {
    let address = if is_away { "127.99.0.1".to_owned() } else { first.server.pod.address.to_string() };
    first.memory.seen.send_modify(|seen| {
        let member = seen.members.as_mut().and_then(|members| members.get_mut("solo-0")).expect("the member");
        member.address = Some(address);
    });
}

#[test]
fn a_standby_that_cannot_reach_its_primary_stays_as_it_is() {
    as_server_user("a_standby_that_cannot_reach_its_primary_stays_as_it_is", || {
        let first = Fixture::new(true);
        let second = first.joined();
        scenario(async {
            let following = second.during(|| async {
                second.ready().await;
                let server = second.postmaster();
                move_away(&first, true);
                // Longer than it may receive nothing while its primary is there.
                tokio::time::sleep(Duration::from_secs(8)).await;
                assert_eq!(second.running(), Some(server), "it was to be rewound");
                move_away(&first, false);
                first.sql("CREATE TABLE t AS SELECT 1 AS n").await;
                while second.sql_as("postgres", PASSWORD, "require", "SELECT n FROM t").await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            while_it_leads(&first, following).await;
        });
    });
}

#[test]
fn a_standby_has_as_much_as_a_superuser_has_set_for_its_primary() {
    as_server_user("a_standby_has_as_much_as_a_superuser_has_set_for_its_primary", || {
        let first = Fixture::new(true);
        let second = first.joined();
        scenario(async {
            let following = second.during(|| async {
                second.ready().await;
                first.sql("ALTER SYSTEM SET max_prepared_transactions = 7").await;
                let server = first.postmaster();
                nix::sys::signal::kill(server, Signal::SIGKILL).expect("ours");
                until(|| first.running().is_some_and(|it| it != server)).await;
                first.ready().await;
                first.sql("CREATE TABLE t AS SELECT 1 AS n").await;
                while second.sql_as("postgres", PASSWORD, "require", "SELECT n FROM t").await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                assert_eq!(second.sql("SHOW max_prepared_transactions").await, "7");
            });
            while_it_leads(&first, following).await;
        });
    });
}

#[test]
fn a_standby_without_its_parameters_has_as_much_as_its_primary_as_well() {
    as_server_user("a_standby_without_its_parameters_has_as_much_as_its_primary_as_well", || {
        let first = Fixture::new(true);
        let second = first.joined();
        scenario(async {
            let following = second.during(|| async {
                second.ready().await;
                first.memory.set_parameters(json!({"sslCiphers": "nonsense"}));
                for member in [&first, &second] {
                    while member.sql("SHOW ssl_ciphers").await != "nonsense" {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                nix::sys::signal::kill(second.postmaster(), Signal::SIGKILL).expect("ours");
                until(|| second.trouble().is_some_and(|text| text.contains("does not start with its parameters")))
                    .await;
                second.ready().await;
                first.sql("ALTER SYSTEM SET max_prepared_transactions = 7").await;
                let server = first.postmaster();
                nix::sys::signal::kill(server, Signal::SIGKILL).expect("ours");
                until(|| first.running().is_some_and(|it| it != server)).await;
                first.ready().await;
                first.sql("CREATE TABLE t AS SELECT 1 AS n").await;
                while second.sql_as("postgres", PASSWORD, "require", "SELECT n FROM t").await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                assert_eq!(second.sql("SHOW max_prepared_transactions").await, "7");
                assert_eq!(second.sql("SHOW ssl_ciphers").await, "HIGH:MEDIUM:+3DES:!aNULL");
            });
            while_it_leads(&first, following).await;
        });
    });
}

#[test]
fn a_standby_does_not_end_of_its_parameters_because_its_primary_has_more() {
    as_server_user("a_standby_does_not_end_of_its_parameters_because_its_primary_has_more", || {
        let first = Fixture::new(true);
        let second = first.joined();
        scenario(async {
            let following = second.during(|| async {
                second.ready().await;
                let (primary, mut standby) = (first.postmaster(), second.postmaster());
                first.sql("ALTER SYSTEM SET max_prepared_transactions = 7").await;
                nix::sys::signal::kill(primary, Signal::SIGKILL).expect("ours");
                // It is started again with as much, and twice it does not get so far that it accepts connections.
                for _ in 0..2 {
                    until(|| second.running().is_some_and(|it| it != standby)).await;
                    standby = second.postmaster();
                    nix::sys::signal::kill(standby, Signal::SIGKILL).expect("ours");
                }
                until(|| second.running().is_some_and(|it| it != standby)).await;
                second.ready().await;
                assert_eq!(second.sql("SHOW max_prepared_transactions").await, "7");
                assert_eq!(second.trouble(), None);
            });
            while_it_leads(&first, following).await;
        });
    });
}

/// Lets the standby, which is ready, begin again in the middle of a transaction that is too large for it to accept
/// connections before it has the end of that. It receives by then.
async fn begin_in_the_middle(first: &Fixture, second: &Fixture) -> Client {
    let redo = "SELECT redo_lsn FROM pg_control_checkpoint()";
    let sender = "SELECT pid FROM pg_stat_replication WHERE application_name = 'solo-1' AND state = 'streaming'";
    first.sql("CREATE TABLE t (n int)").await;
    // A snapshot names 64 of them.
    let client = session(&first.server).await;
    client.batch_execute("BEGIN").await.expect("begun");
    for _ in 0..70 {
        client.batch_execute("SAVEPOINT s; INSERT INTO public.t VALUES (1)").await.expect("inserted");
    }
    first.sql("CHECKPOINT").await;
    let checkpoint = first.sql(redo).await;
    while second.sql(redo).await != checkpoint {
        second.sql("CHECKPOINT").await;
    }
    let (server, before) = (second.postmaster(), first.sql(sender).await);
    nix::sys::signal::kill(server, Signal::SIGKILL).expect("ours");
    until(|| second.running().is_some_and(|it| it != server)).await;
    let receives = |after: &str| !after.is_empty() && after != before;
    while !receives(&first.sql(sender).await) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = second.sql_as("postgres", PASSWORD, "require", "SELECT 1").await;
    assert!(answer.is_err(), "there is nothing to wait for");
    client
}

#[test]
fn a_standby_that_accepts_no_connections_yet_receives_what_it_needs_for_that() {
    as_server_user("a_standby_that_accepts_no_connections_yet_receives_what_it_needs_for_that", || {
        let first = Fixture::new(true);
        let second = first.joined();
        scenario(async {
            let following = second.during(|| async {
                second.ready().await;
                let client = begin_in_the_middle(&first, &second).await;
                let server = second.postmaster();
                // Until the Lease can be renewed, nobody leads.
                first.memory.is_read_only.set(true);
                first.memory.seen.send_modify(|seen| {
                    let sighting = seen.lease.as_mut().and_then(Option::as_mut).expect("a Lease");
                    sighting.record.holder = None;
                });
                until(|| second.trouble().is_some_and(|text| text.contains("accepts no connections yet"))).await;
                assert_eq!(second.running(), Some(server), "it would recover all of it again");
                first.memory.is_read_only.set(false);
                until(|| second.trouble().is_none()).await;
                client.batch_execute("COMMIT").await.expect("committed");
                first.sql("CHECKPOINT").await;
                second.ready().await;
            });
            while_it_leads(&first, following).await;
        });
    });
}

#[test]
fn what_is_to_be_copied_is_not_waited_for_until_it_accepts_connections() {
    as_server_user("what_is_to_be_copied_is_not_waited_for_until_it_accepts_connections", || {
        let first = Fixture::new(true);
        let second = first.joined();
        let data = second.server.data();
        scenario(async {
            let following = second.during(|| async {
                second.ready().await;
                let client = begin_in_the_middle(&first, &second).await;
                // Its content is not the instance's any more.
                exchange::mark(&data, Some("another")).expect("marked");
                until(|| exchange::generation(&data).is_ok_and(|it| it.is_none())).await;
                client.batch_execute("COMMIT").await.expect("committed");
                first.sql("CHECKPOINT").await;
                second.ready().await;
            });
            while_it_leads(&first, following).await;
        });
    });
}

/// Does the work while `first` leads, and stops it then.
async fn while_it_leads(first: &Fixture, work: impl Future<Output = Result<(), Error>>) {
    let is_over = Notify::new();
    let work = async {
        let done = work.await;
        is_over.notify_one();
        done
    };
    let (led, done) = tokio::join!(first.during(|| is_over.notified()), work);
    led.and(done).expect("no error");
}

/// Lets the second member follow the first one, which is away once the second one is.
async fn follow_for_a_while(first: &Fixture, second: &Fixture) {
    let gone = Notify::new();
    let following = async {
        second.during(|| second.ready()).await?;
        gone.notify_one();
        Ok::<_, Error>(())
    };
    let (led, followed) = tokio::join!(first.during(|| gone.notified()), following);
    led.and(followed).expect("no error");
}

/// Lets the server, which does not run, begin timelines up to `last`, as terms would have left them.
async fn lead_in_turn(fixture: &Fixture, last: u32) {
    let (server, data) = (&fixture.server, fixture.server.data());
    for _ in 2..=last {
        replication::signal(&data, true).expect("written");
        let postmaster = postmaster::Postmaster::start(server).expect("started");
        until(|| postmaster.is_ready(&data)).await;
        let client = bootstrap::connect(&server.pod.socket_directory, "client").await.expect("connected");
        replication::promote(&client).await.expect("promoted");
        postmaster.stop().await;
    }
    fixture.memory.note(|record| (record.details.timeline, record.details.parent) = (last, last - 1));
}

fn note_that_it_was_rewound(fixture: &Fixture) {
    let mut identity = fixture.identity().expect("complete");
    let rewound = identity.change(&fixture.server.volume, |identity| {
        (identity.has_followed, identity.is_rewound) = (false, true);
    });
    rewound.expect("written");
}

#[test]
fn a_standby_that_does_not_stay_alive_is_copied_once_there_is_a_primary() {
    as_server_user("a_standby_that_does_not_stay_alive_is_copied_once_there_is_a_primary", || {
        let first = Fixture::new(true);
        let (second, has_failed, is_over) = (first.joined(), Notify::new(), Notify::new());
        scenario(async {
            follow_for_a_while(&first, &second).await;
            let path = second.server.data().join("postgresql.auto.conf");
            fs_err::write(path, "nonsense = 1\n").expect("written");
            let following = second.during(|| async {
                until(|| second.trouble().is_some_and(|text| text.contains("times in a row"))).await;
                has_failed.notify_one();
                second.ready().await;
                is_over.notify_one();
            });
            let leading = async {
                has_failed.notified().await;
                first.during(|| is_over.notified()).await
            };
            let (followed, led) = tokio::join!(following, leading);
            followed.and(led).expect("no error");
        });
    });
}

#[test]
fn data_that_a_change_has_left_half_done_makes_room_for_the_copy() {
    as_server_user("data_that_a_change_has_left_half_done_makes_room_for_the_copy", || {
        let first = Fixture::new(true);
        let second = first.joined();
        let (data, copy) = (second.server.data(), second.server.volume.join(datadir::COPY));
        scenario(async {
            follow_for_a_while(&first, &second).await;
            // As of a rewinding that was cut off.
            let mut identity = second.identity().expect("complete");
            identity.change(&second.server.volume, |identity| identity.is_initialised = false).expect("written");
            let following = second.during(|| async {
                until(|| copy.exists()).await;
                assert!(!data.exists(), "both are on the volume");
                second.ready().await;
            });
            while_it_leads(&first, following).await;
        });
    });
}

#[test]
fn a_copy_for_which_there_was_no_room_is_not_tried_again_at_once() {
    as_server_user("a_copy_for_which_there_was_no_room_is_not_tried_again_at_once", || {
        let first = Fixture::new(true);
        let mut second = first.joined();
        let programs = second.server.volume.with_file_name("programs");
        fs_err::create_dir(&programs).expect("made");
        // It could not be run while another test forks with it open: another process writes it.
        let mut writer = Command::new("sh");
        let script = "echo tried >> \"${0%/*}/tries\"\necho '12/2048 kB (0%), 0/1 tablespace' >&2\n\
                      echo 'pg_basebackup: error: could not write file \"x\": No space left on device' >&2\nexit 1";
        writer.args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$0\" > pg_basebackup && chmod +x pg_basebackup", script]);
        assert!(writer.current_dir(&programs).status().expect("run").success());
        second.server.bin_directory.clone_from(&programs);
        scenario(async {
            let copying = second.during(|| async {
                until(|| second.trouble().is_some_and(|text| text.contains("a copy of the primary needs"))).await;
                tokio::time::sleep(Duration::from_secs(3)).await;
                let tries = fs_err::read_to_string(programs.join("tries")).expect("there");
                assert_eq!(tries.lines().count(), 1, "each is a checkpoint of the primary");
            });
            while_it_leads(&first, copying).await;
        });
    });
}

#[test]
fn a_member_that_was_away_while_others_led_in_turn_follows_with_what_it_has() {
    as_server_user("a_member_that_was_away_while_others_led_in_turn_follows_with_what_it_has", || {
        for is_rewound in [false, true] {
            let first = Fixture::new(true);
            let second = first.joined();
            // What is copied or rewound is without it.
            let kept = second.server.data().join("kept");
            scenario(async {
                follow_for_a_while(&first, &second).await;
                fs_err::write(&kept, "").expect("written");
                if is_rewound {
                    note_that_it_was_rewound(&second);
                }
                lead_in_turn(&first, 3).await;
                let returning = async {
                    leads_on(&first, "00000003").await;
                    second.during(|| second.ready()).await
                };
                while_it_leads(&first, returning).await;
            });
            assert!(kept.exists(), "it was copied");
        }
    });
}

#[test]
fn a_member_that_must_not_ask_its_primary_says_so() {
    as_server_user("a_member_that_must_not_ask_its_primary_says_so", || {
        let first = Fixture::new(true);
        let second = first.joined();
        scenario(async {
            follow_for_a_while(&first, &second).await;
            lead_in_turn(&first, 3).await;
            let asking = async {
                leads_on(&first, "00000003").await;
                first.sql("ALTER ROLE postgres PASSWORD 'another one'").await;
                let asked = second.during(|| async {
                    until(|| second.trouble().is_some_and(|text| text.contains("password authentication failed")))
                        .await;
                });
                asked.await
            };
            while_it_leads(&first, asking).await;
        });
    });
}

#[test]
fn what_was_rewound_says_that_it_waits_for_a_primary() {
    as_server_user("what_was_rewound_says_that_it_waits_for_a_primary", || {
        let first = Fixture::new(true);
        let second = first.joined();
        scenario(async {
            follow_for_a_while(&first, &second).await;
            note_that_it_was_rewound(&second);
            let waiting = second.during(|| async {
                until(|| second.trouble().is_some_and(|text| text.contains("there is no primary"))).await;
            });
            waiting.await.expect("no error");
        });
    });
}

#[test]
fn what_was_rewound_may_lead_once_it_is_consistent() {
    as_server_user("what_was_rewound_may_lead_once_it_is_consistent", || {
        let first = Fixture::new(true);
        let second = first.joined();
        scenario(async {
            follow_for_a_while(&first, &second).await;
            note_that_it_was_rewound(&second);
            // It does not get so far that it receives.
            move_away(&first, true);
            let returning = async {
                let returned = second.during(|| async {
                    until(|| second.identity().is_some_and(|it| it.has_followed && !it.is_rewound)).await;
                });
                returned.await
            };
            while_it_leads(&first, returning).await;
        });
    });
}

#[test]
fn what_was_rewound_to_a_primary_that_had_more_than_the_next_one_is_copied() {
    as_server_user("what_was_rewound_to_a_primary_that_had_more_than_the_next_one_is_copied", || {
        let first = Fixture::new(true);
        let second = first.joined();
        let (data, earlier) = (first.server.data(), first.server.volume.join("earlier"));
        scenario(async {
            first.during(|| first.ready()).await.expect("no error");
            datadir::copy::copy_tree(&data, &earlier).expect("copied");
            follow_for_a_while(&first, &second).await;
            note_that_it_was_rewound(&second);
            // The next one has begun its term with less.
            fs_err::remove_dir_all(&data).expect("removed");
            fs_err::rename(&earlier, &data).expect("renamed");
            lead_in_turn(&first, 2).await;
            let following = async {
                leads_on(&first, "00000002").await;
                let copied = second.during(|| async {
                    until(|| second.identity().is_some_and(|identity| !identity.is_rewound)).await;
                });
                copied.await
            };
            while_it_leads(&first, following).await;
        });
    });
}

mod primary;

#[test]
fn a_new_content_takes_the_place_of_the_old_one_and_only_a_complete_one() {
    as_server_user("a_new_content_takes_the_place_of_the_old_one_and_only_a_complete_one", || {
        let fixture = Fixture::new(true);
        let staged = fixture.server.volume.join(datadir::STAGED);
        scenario(async {
            fixture
                .during(|| async {
                    fixture.ready().await;
                    fixture.sql("CREATE TABLE t AS SELECT 1 AS n").await;
                })
                .await
                .expect("no error");
            // The content of now, with which everything later is replaced.
            datadir::copy::copy_tree(&fixture.server.data(), &staged).expect("copied");
            exchange::mark(&staged, Some("g1")).expect("marked");
            // A crash after the exchange and before it was final.
            exchange::swap(&fixture.server.volume).expect("swapped");
            fixture.during(|| fixture.ready()).await.expect("no error");
            assert!(!staged.exists());
            assert_eq!(exchange::generation(&fixture.server.data()).expect("readable"), None);
        });
    });
}

#[test]
fn a_new_content_is_final_although_the_answer_was_lost() {
    as_server_user("a_new_content_is_final_although_the_answer_was_lost", || {
        let fixture = Fixture::new(true);
        let staged = fixture.server.volume.join(datadir::STAGED);
        scenario(async {
            fixture.during(|| fixture.ready()).await.expect("no error");
            datadir::copy::copy_tree(&fixture.server.data(), &staged).expect("copied");
            exchange::mark(&staged, Some("g1")).expect("marked");
            fs_err::rename(&staged, fixture.server.volume.join("later")).expect("renamed");
            let exchanged = async || {
                fixture.ready().await;
                fs_err::rename(fixture.server.volume.join("later"), &staged).expect("renamed");
                fixture.memory.loses_an_answer.set(true);
                let (done, answer) = tokio::sync::oneshot::channel();
                let sent = fixture.orders().send(Order { generation: "g1".into(), done }).await;
                assert!(sent.is_ok());
                assert_eq!(answer.await, Ok(Ok(())));
            };
            fixture.during(exchanged).await.expect("no error");
            assert!(!fixture.memory.loses_an_answer.get());
            assert_eq!(exchange::generation(&fixture.server.data()).expect("readable").as_deref(), Some("g1"));
            assert_eq!(fixture.memory.record().expect("a Lease").generation.as_deref(), Some("g1"));
        });
    });
}

#[test]
fn nobody_is_let_into_a_content_that_is_not_final() {
    as_server_user("nobody_is_let_into_a_content_that_is_not_final", || {
        let fixture = Fixture::new(true);
        let (data, staged) = (fixture.server.data(), fixture.server.volume.join(datadir::STAGED));
        scenario(async {
            fixture.during(|| fixture.ready()).await.expect("no error");
            let later = fixture.server.volume.join("later");
            datadir::copy::copy_tree(&data, &later).expect("copied");
            exchange::mark(&later, Some("g1")).expect("marked");
            let exchanged = async || {
                fixture.ready().await;
                let has_come_in = async || fixture.sql_as("postgres", PASSWORD, "require", "SELECT 1").await.is_ok();
                assert!(has_come_in().await);
                fs_err::rename(&later, &staged).expect("renamed");
                fixture.memory.is_read_only.set(true);
                let (done, mut answer) = tokio::sync::oneshot::channel();
                let sent = fixture.orders().send(Order { generation: "g1".into(), done }).await;
                assert!(sent.is_ok());
                until(|| exchange::generation(&data).is_ok_and(|it| it.as_deref() == Some("g1"))).await;
                until(|| data.join("postmaster.pid").exists()).await;
                for _ in 0..10 {
                    assert!(!has_come_in().await);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                assert!(answer.try_recv().is_err());
                fixture.memory.is_read_only.set(false);
                assert_eq!(answer.await, Ok(Ok(())));
                fixture.ready().await;
                assert!(has_come_in().await);
            };
            fixture.during(exchanged).await.expect("no error");
        });
    });
}
