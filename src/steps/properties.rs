//! Properties of the plans of orders, against an API server in this process and a stack that carries orders out at once:
//! a second run sends no changing request, and a run that is cut off at any changing request and run again ends as if
//! run once.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::TypeMeta;
use kube::{Api, Client, ResourceExt};
use kube_embedded::api::{ApiServer, ApiServerParts};
use kube_embedded::auth::Authenticator;
use kube_embedded::auth::rbac::Authorizer;
use kube_embedded::auth::tokens::ServiceAccountTokens;
use kube_embedded::objects::Objects;
use kube_embedded::store::Store;
use kube_embedded::user::UserInfo;
use serde_json::{Value, json};

use super::answer::Answers;
use super::images::Loaded;
use super::member::{Killed, Member};
use super::resource::Deleted;
use super::restore::Destination;
use super::sql::{Query, Source, Sql};
use super::verify::Subject;
use super::{backup, condition, restore};
use crate::finding::{Class, Id};
use crate::kubernetes::apply::Kind as ServedKind;
use crate::kubernetes::{Access, Connection};
use crate::manifest::names::ObjectName;
use crate::manifest::order;
use crate::manifest::resource::{Kind, Reference, Resource};
use crate::postgres::DATABASE;
use crate::provider::{Name, Options, of_name};
use crate::step::{Cancel, Observation, Outcome, Plan, Runner, Silent, Step};

/// An API server with the a8s custom resources, and an instance `solo` in the namespace `shop`.
struct World {
    api: Arc<ApiServer>,
    directory: tempfile::TempDir,
    changes: Arc<AtomicUsize>,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let tokens = Arc::new(ServiceAccountTokens::new([7; 32]));
        let objects: Arc<dyn Objects> = store.clone();
        let api = ApiServer::new(ApiServerParts {
            authenticator: Arc::new(Authenticator::new(tokens.clone(), objects.clone())),
            authorizer: Arc::new(Authorizer::new(objects)),
            tokens,
            store,
            kubelet: Arc::new(OnceLock::new()),
            service_addresses: (Ipv4Addr::new(127, 100, 8, 0), Ipv4Addr::new(127, 100, 15, 254)),
            audit: None,
        });
        let world = Self { api, directory, changes: Arc::default() };
        let client = world.api.client(UserInfo::master("stack"));
        for name in ["shop", a8s_operators::SYSTEM_NAMESPACE] {
            make(&client, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
        }
        for definition in a8s_api::crds() {
            make(&client, serde_json::to_value(definition).unwrap()).await;
        }
        world.instance("solo").await;
        world.instance("other").await;
        tokio::spawn(carry_out(client));
        world
    }

    async fn instance(&self, name: &str) {
        let instance = json!({"apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql",
            "metadata": {"name": name, "namespace": "shop"}, "spec": {"version": 15}});
        make(&self.api.client(UserInfo::master("stack")), instance).await;
    }

    /// Access of the program, which counts changing requests and cancels at the one of number `cut`.
    fn access(&self, cut: Option<usize>, cancel: &Cancel) -> Arc<Access> {
        let (api, changes, cancel) = (self.api.clone(), self.changes.clone(), cancel.clone());
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (api, changes, cancel) = (api.clone(), changes.clone(), cancel.clone());
            async move {
                let changing = request.method() != http::Method::GET;
                let answer = api.handle(UserInfo::master("a9s"), request).await;
                if changing && Some(changes.fetch_add(1, Ordering::SeqCst) + 1) == cut {
                    cancel.cancel();
                }
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        Arc::new(Access::connected(Connection {
            client: Client::new(service, "shop"),
            context: "test".to_owned(),
            namespace: "shop".to_owned(),
            server: "https://test".to_owned(),
        }))
    }

    /// Runs a plan; how it ended, and how many changing requests it sent.
    async fn run(&self, command: &Command, cut: Option<usize>) -> (Result<Outcome, crate::finding::Finding>, usize) {
        self.changes.store(0, Ordering::SeqCst);
        let cancel = Cancel::new();
        let plan = command.plan(&self.access(cut, &cancel), self.directory.path().join("usermanifests"));
        let runner = Runner::new(Arc::new(Silent), cancel, Duration::from_secs(20));
        let outcome = runner.run(&plan).await;
        (outcome, self.changes.load(Ordering::SeqCst))
    }

    /// What is there: name, spec, and how far it is, of every backup and restore.
    async fn end(&self) -> Vec<String> {
        let client = self.api.client(UserInfo::master("test"));
        let mut end = Vec::new();
        for kind in [Kind::Backup, Kind::Restore] {
            for object in super::look::list(&client, kind, None).await.unwrap() {
                end.push(format!(
                    "{} {} {} {}",
                    kind.noun(),
                    object.name_any(),
                    object.data["spec"],
                    super::look::item::state(kind, &object).0
                ));
            }
        }
        end
    }
}

async fn make(client: &Client, object: Value) {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let types: TypeMeta = object.types.clone().unwrap();
    loop {
        // A definition is served a moment after it was made.
        if let Ok(kind) = ServedKind::discover(client, &types).await {
            let api = kind.api(client.clone(), object.namespace().as_deref().unwrap_or("default"));
            if api.create(&PostParams::default(), &object).await.is_ok() {
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// A stack that carries every order out as soon as it sees it.
async fn carry_out(client: Client) {
    let complete = json!({"status": {"conditions": [{"type": "Complete", "status": "True", "reason": "Done",
        "message": "stored 12 bytes", "lastTransitionTime": "2026-01-01T00:00:05Z"}]}});
    loop {
        for kind in [Kind::Backup, Kind::Restore] {
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), "shop", &kind.resource(&Default::default()));
            for object in api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
                if condition::completed(&object).is_none() {
                    let _ =
                        api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(&complete)).await;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A command and what it is about.
#[derive(Debug, Clone, Copy)]
enum Command {
    Backup(&'static str, &'static str),
    Restore(&'static str, &'static str, &'static str),
    Delete(Kind, &'static str),
}

impl Command {
    fn plan(self, access: &Arc<Access>, manifests: PathBuf) -> Plan {
        let name = |text: &str| -> ObjectName { text.parse().unwrap() };
        let reference = |kind, text: &str| Reference::new(kind, &"shop".parse().unwrap(), &name(text));
        match self {
            Self::Backup(backup, instance) => {
                let wanted = order::backup(reference(Kind::Backup, backup), &name(instance), None);
                backup::create(access, &wanted, &name(instance), wanted.file(&manifests)).0
            }
            Self::Restore(restore, backup, instance) => {
                let wanted = restore::Order {
                    restore: order::restore(reference(Kind::Restore, restore), &name(backup), &name(instance)),
                    backup: reference(Kind::Backup, backup),
                    into: Destination::There(name(instance)),
                };
                restore::create(access, &wanted, &manifests).0
            }
            Self::Delete(kind, gone) => {
                let mut plan = Plan::new("delete");
                plan.add(Deleted::new(access.clone(), reference(kind, gone)));
                plan
            }
        }
    }
}

/// A life of a backup and a restore.
const LIFE: [Command; 4] = [
    Command::Backup("b", "solo"),
    Command::Restore("r", "b", "solo"),
    Command::Delete(Kind::Restore, "r"),
    Command::Delete(Kind::Backup, "b"),
];

#[tokio::test]
async fn a_second_run_of_any_command_sends_no_changing_request() {
    let world = World::new().await;
    for command in &LIFE {
        let (first, sent) = world.run(command, None).await;
        assert!(first.unwrap().changed() && sent > 0, "{command:?}");
        let (second, sent) = world.run(command, None).await;
        assert_eq!((second.unwrap().changed(), sent), (false, 0), "{command:?}");
    }
}

#[tokio::test]
async fn a_command_cut_off_at_any_changing_request_and_run_again_ends_as_if_run_once() {
    let (once, cut) = (World::new().await, World::new().await);
    for command in &LIFE {
        let (outcome, sent) = once.run(command, None).await;
        outcome.unwrap();
        for number in 1..=sent {
            if let (Err(finding), _) = cut.run(command, Some(number)).await {
                assert_eq!(finding.class(), Class::Interrupted, "{command:?}");
            }
        }
        cut.run(command, None).await.0.unwrap();
        assert_eq!(cut.end().await, once.end().await, "{command:?}");
    }
}

#[tokio::test]
async fn what_is_needed_and_not_there_is_said_in_the_go_tools_words_and_order() {
    let world = World::new().await;
    let missing = async |command: Command| {
        let (outcome, sent) = world.run(&command, None).await;
        let finding = outcome.unwrap_err();
        assert_eq!((finding.class(), sent), (Class::Missing, 0), "{command:?}");
        finding.cause
    };
    assert_eq!(
        missing(Command::Backup("b", "no")).await,
        "Can't create backup for non-existing service instance no in namespace shop"
    );
    assert_eq!(
        missing(Command::Restore("r", "no", "no")).await,
        "Can't create restore for non-existing service instance no in namespace shop"
    );
    assert_eq!(
        missing(Command::Restore("r", "no", "solo")).await,
        "Can't create restore for non-existing backup no in namespace shop"
    );
}

#[tokio::test]
async fn a_name_that_is_taken_and_a_restore_the_stack_cannot_do_are_refused() {
    let world = World::new().await;
    world.run(&Command::Backup("b", "solo"), None).await.0.unwrap();
    for (command, id) in
        [(Command::Backup("b", "other"), Id::OtherSpec), (Command::Restore("r", "b", "other"), Id::NoCapability)]
    {
        let (outcome, sent) = world.run(&command, None).await;
        let finding = outcome.unwrap_err();
        assert_eq!((finding.id, sent), (id, 0), "{}", finding.cause);
    }
}

fn killed(access: &Arc<Access>, member: Member) -> Killed {
    Killed {
        access: access.clone(),
        instance: "solo".parse().unwrap(),
        namespace: "shop".parse().unwrap(),
        member,
        done: Mutex::default(),
    }
}

#[tokio::test]
async fn a_member_is_waited_for_that_is_not_there_yet_and_refused_that_will_never_be() {
    let world = World::new().await;
    let access = world.access(None, &Cancel::new());
    for member in [Member::Primary, Member::Number(0)] {
        let found = killed(&access, member).observe().await.unwrap();
        assert!(matches!(found, Observation::Unmet(_)), "{found:?}");
    }
    let refused = killed(&access, Member::Number(1)).observe().await.unwrap_err();
    assert_eq!(refused.cause, "the instance shop/solo has no member 1");
}

#[tokio::test]
async fn an_instance_that_somebody_has_deleted_is_not_waited_for() {
    let world = World::new().await;
    let access = world.access(None, &Cancel::new());
    let observed = async |name: &str| {
        let reference = Reference::new(Kind::Instance, &"shop".parse().unwrap(), &name.parse().unwrap());
        let resource = Resource::new(reference, json!({"replicas": 1}));
        super::instance::Ready { access: access.clone(), resource }.observe().await
    };
    assert_eq!(observed("solo").await.unwrap(), Observation::unmet("the pod solo-0 is not there yet"));
    assert_eq!(observed("gone").await.unwrap_err().id, Id::DeletedMeanwhile);
}

/// A verification of the backup `b`.
fn subject(source: &str, scratch: &str) -> Subject {
    let name = |text: &str| -> ObjectName { text.parse().unwrap() };
    let reference = |kind, text: &str| Reference::new(kind, &"shop".parse().unwrap(), &name(text));
    Subject {
        backup: reference(Kind::Backup, "b"),
        source: name(source),
        scratch: Resource::new(reference(Kind::Instance, scratch), json!({})),
        restore: order::restore(reference(Kind::Restore, scratch), &name("b"), &name(scratch)),
    }
}

#[tokio::test]
async fn a_verification_that_can_read_nothing_looks_whether_its_own_instance_is_gone() {
    let world = World::new().await;
    let (_, scratch, live) = subject("never", "gone").plan(&world.access(None, &Cancel::new()), true);
    let steps: [(Arc<dyn Step>, Id); 2] = [(scratch, Id::DeletedMeanwhile), (live.unwrap(), Id::NoInstance)];
    for (step, id) in steps {
        let runner = Runner::new(Arc::new(Silent), Cancel::new(), Duration::from_secs(20));
        assert_eq!(runner.run(&single("read", step)).await.unwrap_err().id, id);
    }
}

#[tokio::test]
async fn a_verification_that_lives_notices_that_its_instance_is_gone() {
    let world = World::new().await;
    let (subject, access) = (subject("other", "solo"), world.access(None, &Cancel::new()));
    let instances = super::resource::api(world.api.client(UserInfo::master("test")), &subject.scratch.reference);
    let deleted = async {
        while instances.get("solo").await.unwrap().annotations().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        instances.delete("solo", &DeleteParams::default()).await.unwrap();
    };
    let (gone, ()) = tokio::join!(subject.live(&access), deleted);
    assert_eq!(gone.id, Id::DeletedMeanwhile);
}

fn single(name: &str, step: Arc<dyn Step>) -> Plan {
    let mut plan = Plan::new(name);
    plan.push(&[], step);
    plan
}

fn reviewed(plans: impl IntoIterator<Item = (&'static str, Plan)>) {
    insta::with_settings!({snapshot_path => "../../snapshots/plans", prepend_module_to_snapshot => false}, {
        for (name, plan) in plans {
            insta::assert_snapshot!(name, plan.describe());
        }
    });
}

#[tokio::test]
async fn the_plans_are_as_reviewed() {
    let access = Arc::new(Access::default());
    let directory = PathBuf::from("/w/usermanifests");
    let name = |text: &str| -> ObjectName { text.parse().unwrap() };
    let reference = |kind, text: &str| Reference::new(kind, &"shop".parse().unwrap(), &name(text));
    let new = Resource::new(reference(Kind::Instance, "new"), json!({}));
    let wanted = restore::Order {
        restore: order::restore(reference(Kind::Restore, "r"), &name("b"), &name("new")),
        backup: reference(Kind::Backup, "b"),
        into: Destination::Made(new.clone()),
    };
    let subject = Subject {
        backup: reference(Kind::Backup, "b"),
        source: name("solo"),
        scratch: new,
        restore: wanted.restore.clone(),
    };
    let (shop, solo): (crate::manifest::names::Namespace, _) = ("shop".parse().unwrap(), name("solo"));
    let binding = order::binding(reference(Kind::ServiceBinding, "sb"), &reference(Kind::Instance, "solo"));
    let binding_file = binding.file(&directory);
    reviewed([
        (
            "create_servicebinding",
            super::binding::create(&access, &binding, reference(Kind::Instance, "solo"), binding_file),
        ),
        (
            "delete_servicebinding",
            single(
                "delete pg servicebinding",
                Arc::new(super::binding::Deleted::new(access.clone(), &shop, &name("sb"))),
            ),
        ),
        (
            "delete_instance",
            single("delete pg instance", Arc::new(super::instance::Deleted::new(access.clone(), &shop, &solo))),
        ),
        (
            "failover",
            single(
                "pg failover",
                Arc::new(super::failover::Failover::new(
                    access.clone(),
                    solo.clone(),
                    shop.clone(),
                    Some("solo-2".into()),
                )),
            ),
        ),
        (
            "delete_stack",
            single(
                "delete stack a8s",
                Arc::new(super::stack::Removed::new(access.clone(), super::stack::Lost::default())),
            ),
        ),
        ("create_backup", Command::Backup("b", "solo").plan(&access, directory.clone())),
        ("create_restore", Command::Restore("r", "b", "solo").plan(&access, directory.clone())),
        ("create_restore_to", restore::create(&access, &wanted, &directory).0),
        ("delete_backup", Command::Delete(Kind::Backup, "b").plan(&access, directory.clone())),
        ("delete_restore", Command::Delete(Kind::Restore, "r").plan(&access, directory)),
        ("verify", subject.plan(&access, true).0),
        ("verify_removal", super::verify::removal(&access, &subject.scratch.reference)),
    ]);
}

#[tokio::test]
async fn the_plans_of_what_is_done_in_instances_and_clusters_are_as_reviewed() {
    let access = Arc::new(Access::default());
    let query = || Query {
        access: access.clone(),
        instance: "solo".parse().unwrap(),
        namespace: "shop".parse().unwrap(),
        database: DATABASE.to_owned(),
        source: Source::Statement("SELECT 1".to_owned()),
        keep: false,
        under_way: Mutex::default(),
    };
    let loaded = Loaded {
        provider: of_name(Name::Kind, Options::default()).unwrap(),
        cluster: "a8s".parse().unwrap(),
        sources: Vec::new(),
    };
    reviewed([
        ("apply", single("pg apply", Arc::new(Sql::new(query(), Box::new(|_: &[u8]| {}))))),
        ("check", single("pg check", Arc::new(Answers { question: query(), answer: "1".to_owned() }))),
        ("kill_primary", single("pg kill", Arc::new(killed(&access, Member::Primary)))),
        ("kill_member", single("pg kill", Arc::new(killed(&access, Member::Number(2))))),
        ("images_load", single("images load", Arc::new(loaded))),
    ]);
}
