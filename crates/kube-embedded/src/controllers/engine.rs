//! What turns changes into reconciliations: one loop per controller, each key at most once at a time, failures tried
//! again later and later.
//!
//! Controllers read what the store has committed, so there are no caches that could be behind; a key that changes while
//! it is reconciled is reconciled once more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::objects::{Change, ChangeKind, Objects};

/// How many keys of one controller are reconciled at the same time.
const CONCURRENCY: usize = 16;
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A controller: which keys does a change concern, and what is to be done for a key.
pub trait Controller: Send + Sync + 'static {
    /// What is reconciled at once, usually the name of an object.
    type Key: Clone + Ord + Debug + Send + Sync + 'static;

    /// For logs.
    const NAME: &'static str;

    /// The keys that a change concerns. At the start every object there is is shown as added.
    fn keys(&self, change: &Change) -> Vec<Self::Key>;

    /// Looks at what is, and moves it towards what should be. May be cut off after any write, and run again.
    ///
    /// Answers when to look again although nothing changes.
    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;
}

/// Hands the keys that a change concerns to a controller's loop.
type Listener = Box<dyn Fn(&Change) + Send + Sync>;

/// The running controllers.
pub struct Engine {
    listeners: Vec<Listener>,
    loops: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Engine {
    /// No controllers yet.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { listeners: Vec::new(), loops: JoinSet::new(), shutdown }
    }

    /// Adds a controller.
    pub fn add<C: Controller>(&mut self, controller: C) {
        let controller = Arc::new(controller);
        let (sender, receiver) = mpsc::unbounded_channel();
        let queue = Queue::new(Arc::clone(&controller));
        self.loops.spawn(queue.run(receiver, self.shutdown.clone()));
        self.listeners.push(Box::new(move |change| {
            for key in controller.keys(change) {
                // Fails only when the loop has ended, at shutdown.
                let _ = sender.send(key);
            }
        }));
    }

    /// Shows the controllers everything there is and then every change, until shutdown.
    pub async fn run(mut self, objects: &dyn Objects) {
        let mut feed = objects.subscribe();
        for (resource, object) in objects.all(None) {
            self.show(&Change { kind: ChangeKind::Added, resource, object });
        }
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                change = feed.recv() => match change {
                    Some(change) => self.show(&change),
                    None => break,
                },
            }
        }
        self.shutdown.cancel();
        while self.loops.join_next().await.is_some() {}
    }

    fn show(&self, change: &Change) {
        for listener in &self.listeners {
            listener(change);
        }
    }
}

enum Done<K> {
    Reconciled(K, Result<Option<Duration>, Error>),
    Due(K),
}

struct Queue<C: Controller> {
    controller: Arc<C>,
    ready: VecDeque<C::Key>,
    queued: BTreeSet<C::Key>,
    running: BTreeSet<C::Key>,
    /// Changed while running.
    again: BTreeSet<C::Key>,
    /// When a key is looked at although nothing changes; at most one timer per key counts.
    timers: BTreeMap<C::Key, Instant>,
    failures: BTreeMap<C::Key, u32>,
    tasks: JoinSet<Done<C::Key>>,
}

impl<C: Controller> Queue<C> {
    fn new(controller: Arc<C>) -> Self {
        Self {
            controller,
            ready: VecDeque::new(),
            queued: BTreeSet::new(),
            running: BTreeSet::new(),
            again: BTreeSet::new(),
            timers: BTreeMap::new(),
            failures: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    fn run(mut self, mut keys: mpsc::UnboundedReceiver<C::Key>, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            loop {
                self.start();
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    key = keys.recv() => match key {
                        Some(key) => self.add(key),
                        None => break,
                    },
                    Some(done) = self.tasks.join_next() => match done {
                        Ok(Done::Due(key)) => self.due(key),
                        Ok(Done::Reconciled(key, result)) => self.reconciled(key, result),
                        Err(error) => tracing::error!(controller = C::NAME, %error, "reconciliation ended abnormally"),
                    },
                }
            }
            // A write that was begun is answered or not; either way the next start looks at what is there.
            self.tasks.shutdown().await;
        }
        .boxed()
    }

    fn add(&mut self, key: C::Key) {
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn start(&mut self) {
        while self.running.len() < CONCURRENCY {
            let Some(key) = self.ready.pop_front() else { break };
            self.queued.remove(&key);
            self.running.insert(key.clone());
            let controller = Arc::clone(&self.controller);
            self.tasks.spawn(async move {
                let result = controller.reconcile(&key).await;
                Done::Reconciled(key, result)
            });
        }
    }

    fn reconciled(&mut self, key: C::Key, result: Result<Option<Duration>, Error>) {
        self.running.remove(&key);
        let later = match result {
            Ok(later) => {
                self.failures.remove(&key);
                later
            }
            Err(error) => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures += 1;
                tracing::debug!(controller = C::NAME, ?key, failures, error = %error.with_causes(), "will be tried again");
                Some(FIRST_RETRY.saturating_mul(1 << (*failures - 1).min(16)).min(LAST_RETRY))
            }
        };
        if self.again.remove(&key) {
            self.add(key.clone());
        }
        if let Some(later) = later {
            self.wake(key, later);
        }
    }

    fn wake(&mut self, key: C::Key, later: Duration) {
        let at = Instant::now() + later;
        if self.timers.get(&key).is_some_and(|timer| *timer <= at) {
            return;
        }
        self.timers.insert(key.clone(), at);
        self.tasks.spawn(async move {
            tokio::time::sleep_until(at).await;
            Done::Due(key)
        });
    }

    fn due(&mut self, key: C::Key) {
        // An earlier timer may have replaced this one; then the key was looked at, and asked again if it had to.
        if self.timers.get(&key).is_some_and(|timer| *timer <= Instant::now()) {
            self.timers.remove(&key);
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::{Value, json};

    use super::*;
    use crate::objects::GroupResource;

    struct Feed(Mutex<Option<mpsc::UnboundedReceiver<Change>>>, Vec<Arc<Value>>);

    impl Objects for Feed {
        fn get(&self, _: &GroupResource, _: Option<&str>, _: &str) -> Option<Arc<Value>> {
            None
        }
        fn list(&self, _: &GroupResource, _: Option<&str>) -> Vec<Arc<Value>> {
            self.1.clone()
        }
        fn all(&self, _: Option<&str>) -> Vec<(GroupResource, Arc<Value>)> {
            self.1.iter().map(|object| (GroupResource::new("", "things"), Arc::clone(object))).collect()
        }
        fn subscribe(&self) -> mpsc::UnboundedReceiver<Change> {
            self.0.lock().unwrap().take().unwrap()
        }
    }

    type Script = dyn Fn(&str, usize) -> Result<Option<Duration>, Error> + Send + Sync;

    #[derive(Debug, PartialEq)]
    enum Seen {
        Begun(String),
        Ended(String),
    }

    struct Recorder {
        seen: mpsc::UnboundedSender<Seen>,
        gate: tokio::sync::Semaphore,
        count: Mutex<usize>,
        script: Box<Script>,
    }

    impl Controller for Arc<Recorder> {
        type Key = String;
        const NAME: &'static str = "recorder";

        fn keys(&self, change: &Change) -> Vec<String> {
            vec![change.object["name"].as_str().unwrap().to_owned()]
        }

        async fn reconcile(&self, key: &String) -> Result<Option<Duration>, Error> {
            self.seen.send(Seen::Begun(key.clone())).unwrap();
            self.gate.acquire().await.unwrap().forget();
            let count = {
                let mut count = self.count.lock().unwrap();
                *count += 1;
                *count
            };
            self.seen.send(Seen::Ended(key.clone())).unwrap();
            (self.script)(key, count)
        }
    }

    fn change(name: &str) -> Change {
        let object = Arc::new(json!({"name": name}));
        Change { kind: ChangeKind::Modified, resource: GroupResource::new("", "things"), object }
    }

    struct Rig {
        controller: Arc<Recorder>,
        seen: mpsc::UnboundedReceiver<Seen>,
        changes: mpsc::UnboundedSender<Change>,
        shutdown: CancellationToken,
        engine: tokio::task::JoinHandle<()>,
    }

    impl Rig {
        async fn until(&mut self, what: Seen) {
            while self.seen.recv().await.unwrap() != what {}
        }

        async fn stop(self) {
            self.shutdown.cancel();
            self.engine.await.unwrap();
        }
    }

    fn rig(existing: &[&str], script: Box<Script>) -> Rig {
        let (changes, feed) = mpsc::unbounded_channel();
        let (seen_sender, seen) = mpsc::unbounded_channel();
        let gate = tokio::sync::Semaphore::new(0);
        let controller = Arc::new(Recorder { seen: seen_sender, gate, count: Mutex::new(0), script });
        let shutdown = CancellationToken::new();
        let mut engine = Engine::new(shutdown.clone());
        engine.add(Arc::clone(&controller));
        let existing = existing.iter().map(|name| Arc::new(json!({"name": name}))).collect();
        let objects = Feed(Mutex::new(Some(feed)), existing);
        let engine = tokio::spawn(async move { engine.run(&objects).await });
        Rig { controller, seen, changes, shutdown, engine }
    }

    #[tokio::test]
    async fn what_is_there_at_the_start_is_reconciled_too() {
        let mut rig = rig(&["a"], Box::new(|_, _| Ok(None)));
        rig.controller.gate.add_permits(2);
        rig.until(Seen::Ended("a".to_owned())).await;
        rig.changes.send(change("b")).unwrap();
        rig.until(Seen::Ended("b".to_owned())).await;
        rig.stop().await;
    }

    #[tokio::test]
    async fn many_changes_of_one_key_are_two_reconciliations() {
        let mut rig = rig(&["a"], Box::new(|_, _| Ok(None)));
        rig.until(Seen::Begun("a".to_owned())).await;
        for _ in 0..100 {
            rig.changes.send(change("a")).unwrap();
        }
        // Changes come in order: when this one begins, all the others were seen.
        rig.changes.send(change("end")).unwrap();
        rig.until(Seen::Begun("end".to_owned())).await;
        rig.controller.gate.add_permits(3);
        let mut ended = Vec::new();
        while ended.len() < 3 {
            if let Seen::Ended(key) = rig.seen.recv().await.unwrap() {
                ended.push(key);
            }
        }
        ended.sort();
        assert_eq!(ended, ["a", "a", "end"]);
        rig.changes.send(change("last")).unwrap();
        rig.controller.gate.add_permits(1);
        assert_eq!(rig.seen.recv().await.unwrap(), Seen::Begun("last".to_owned()), "and no third one");
        rig.stop().await;
    }

    #[tokio::test]
    async fn a_failure_is_tried_again_and_a_wish_to_look_again_is_kept() {
        const WISH: Duration = Duration::from_millis(20);
        let script = |_: &str, count: usize| match count {
            1 | 2 => {
                Err(Error::Unreadable { what: "a".to_owned(), source: serde_json::from_str::<u8>("").unwrap_err() })
            }
            3 => Ok(Some(WISH)),
            _ => Ok(None),
        };
        let mut rig = rig(&["a"], Box::new(script));
        rig.controller.gate.add_permits(100);
        let begin = Instant::now();
        for _ in 0..4 {
            rig.until(Seen::Ended("a".to_owned())).await;
        }
        assert!(begin.elapsed() >= FIRST_RETRY * 3 + WISH, "{:?}", begin.elapsed());
        rig.stop().await;
    }
}
