//! The Secret `X-logins` of an instance: the logins of its bindings, for its agents. It appears with the first one and
//! goes with the instance, whose finalizer it has: without it there is no login, and every session of one ends.

use super::secret::{self, LABEL};
use crate::agent::logins::{KEY, Logins, is_ours};
use crate::controller::{CONFLICT_ROUND, TROUBLE_ROUND, is_conflict, unless_absent, unless_refused};
use crate::instance::names;
use a8s_api::{LABEL_KIND, Postgresql, ServiceBinding};
use futures::{StreamExt as _, future};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Why the list of logins of an instance is not written, by the uid of the instance: its bindings tell of it.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Mutex<HashMap<String, String>>>);

impl Refusals {
    fn note(&self, instance_uid: &str, text: Option<String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(text) => known.insert(instance_uid.to_owned(), text),
            None => known.remove(instance_uid),
        };
    }

    /// Why that of this instance is not.
    pub fn of(&self, instance_uid: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(instance_uid).cloned()
    }
}

struct Context {
    client: kube::Client,
    refusals: Refusals,
}

/// Watches instances, bindings, and the Secrets it makes, until `shutdown`.
pub async fn run(client: kube::Client, refusals: Refusals, shutdown: CancellationToken) {
    let of_instances = watcher::Config::default().labels(&format!("{LABEL_KIND}={}", Postgresql::KIND));
    let secrets: Api<PartialObjectMeta<Secret>> = Api::all(client.clone());
    let named = Named::default();
    let controller =
        Controller::new(Api::<PartialObjectMeta<Postgresql>>::all(client.clone()), watcher::Config::default())
            .owns(secrets, of_instances)
            .watches(Api::<ServiceBinding>::all(client.clone()), watcher::Config::default(), move |binding| {
                named.concerned(&binding)
            })
            .graceful_shutdown_on(shutdown.cancelled_owned());
    let rounds = controller.run(reconcile, retry, Arc::new(Context { client, refusals }));
    rounds.for_each(|_| future::ready(())).await;
}

/// Namespace and name of the instance that a binding names.
pub fn reference(binding: &ServiceBinding) -> Option<(String, String)> {
    let instance = &binding.spec.instance;
    let namespace = instance.namespace.as_ref().or(binding.metadata.namespace.as_ref())?;
    Some((namespace.clone(), instance.name.clone()))
}

/// The instance that each binding named when it was last seen, by the uid of the binding.
#[derive(Default)]
struct Named(Mutex<HashMap<String, (String, String)>>);

impl Named {
    /// The instances whose logins may change with a binding: the one that it names, and the one that it named before,
    /// where its login must not stay.
    fn concerned(&self, binding: &ServiceBinding) -> Vec<ObjectRef<PartialObjectMeta<Postgresql>>> {
        let (now, uid) = (reference(binding), binding.metadata.uid.clone().unwrap_or_default());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &now {
            Some(now) if binding.metadata.deletion_timestamp.is_none() => known.insert(uid, now.clone()),
            _ => known.remove(&uid),
        };
        let left = before.filter(|before| now.as_ref() != Some(before));
        left.into_iter().chain(now).map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)).collect()
    }
}

fn retry(instance: Arc<PartialObjectMeta<Postgresql>>, error: &kube::Error, _: Arc<Context>) -> Action {
    if is_conflict(error) {
        return Action::requeue(CONFLICT_ROUND);
    }
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    tracing::warn!(instance = name, %error, "the list of logins could not be kept");
    Action::requeue(TROUBLE_ROUND)
}

async fn reconcile(instance: Arc<PartialObjectMeta<Postgresql>>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let (Some(name), Some(namespace)) = (&instance.metadata.name, &instance.metadata.namespace) else {
        return Ok(Action::await_change());
    };
    let uid = instance.metadata.uid.as_deref().unwrap_or_default();
    if instance.metadata.deletion_timestamp.is_some() {
        context.refusals.note(uid, None);
        return Ok(Action::await_change());
    }
    let client = context.client.clone();
    let bindings = Api::<ServiceBinding>::all(client.clone()).list(&ListParams::default()).await?.items;
    let bindings: Vec<ServiceBinding> = bindings
        .into_iter()
        .filter(|binding| reference(binding).is_some_and(|found| found == (namespace.clone(), name.clone())))
        .collect();
    let secrets = secrets(&client, &bindings).await?;
    let instances: Api<Postgresql> = Api::namespaced(client.clone(), namespace);
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let existing = api.get_opt(&names::logins(name)).await?;
    let before = existing.as_ref().map(content).unwrap_or_default();
    let wanted = wanted(uid, &bindings, &secrets, &before);
    let written = match existing {
        None if wanted.is_empty() => Ok(()),
        None => {
            // The cache may lag, and nobody takes the finalizer off what is made for an instance that is gone.
            let there = unless_absent(instances.get_metadata(name).await)?;
            let is_there = |it: PartialObjectMeta<Postgresql>| {
                it.metadata.uid == instance.metadata.uid && it.metadata.deletion_timestamp.is_none()
            };
            if there.is_some_and(is_there) {
                unless_refused(api.create(&PostParams::default(), &list(&instance, &wanted)).await)?.map(drop)
            } else {
                Ok(())
            }
        }
        Some(existing) if is_right(&existing, uid, &wanted, &before) => Ok(()),
        Some(mut existing) if is_owned(&existing, uid) => {
            existing.data = list(&instance, &wanted).data;
            unless_refused(api.replace(&names::logins(name), &PostParams::default(), &existing).await)?.map(drop)
        }
        Some(_) => Err(format!("there is a Secret {:?} that does not belong to the instance", names::logins(name))),
    };
    let action = if written.is_ok() { Action::await_change() } else { Action::requeue(TROUBLE_ROUND) };
    context.refusals.note(uid, written.err());
    Ok(action)
}

fn is_owned(list: &Secret, uid: &str) -> bool {
    list.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

fn is_right(existing: &Secret, uid: &str, wanted: &Logins, before: &Logins) -> bool {
    is_owned(existing, uid) && wanted == before && existing.data.as_ref().is_some_and(|data| data.contains_key(KEY))
}

/// The Secrets of bindings, by namespace and name.
async fn secrets(
    client: &kube::Client,
    bindings: &[ServiceBinding],
) -> Result<BTreeMap<(String, String), Secret>, kube::Error> {
    let namespaces: BTreeSet<&String> = bindings.iter().filter_map(|b| b.metadata.namespace.as_ref()).collect();
    let mut found = BTreeMap::new();
    for namespace in namespaces {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let list = api.list(&ListParams::default().labels(&format!("{}={}", LABEL.0, LABEL.1))).await?;
        let named = |secret: Secret| Some(((namespace.clone(), secret.metadata.name.clone()?), secret));
        found.extend(list.items.into_iter().filter_map(named));
    }
    // A Secret from which somebody has taken the label is its binding's all the same.
    for binding in bindings {
        let (Some(namespace), Some(name)) = (&binding.metadata.namespace, &binding.metadata.name) else { continue };
        let key = (namespace.clone(), secret::name(name));
        if !found.contains_key(&key)
            && let Some(secret) = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(&key.1).await?
        {
            found.insert(key, secret);
        }
    }
    Ok(found)
}

fn content(list: &Secret) -> Logins {
    let bytes = list.data.as_ref().and_then(|data| data.get(KEY));
    bytes.and_then(|bytes| serde_json::from_slice(&bytes.0).ok()).unwrap_or_default()
}

/// The logins that an instance should have: those of its bindings that are not being deleted and have their Secret. A
/// verifier that is there stays: each one is computed with a salt of its own.
///
/// Whoever may write Secrets may put another in the place of a binding's. One that names a role of the server's own, or that of
/// another binding, makes no login, and keeps nobody else from theirs.
fn wanted(
    instance_uid: &str,
    bindings: &[ServiceBinding],
    secrets: &BTreeMap<(String, String), Secret>,
    before: &Logins,
) -> Logins {
    let claim = |binding: &ServiceBinding| {
        let (namespace, name) = (binding.metadata.namespace.as_ref()?, binding.metadata.name.as_ref()?);
        let secret = secrets.get(&(namespace.clone(), secret::name(name)))?;
        let is_current = secret::is_of(secret, binding) && secret::instance_uid(secret) == Some(instance_uid);
        if binding.metadata.deletion_timestamp.is_some() || !is_current {
            return None;
        }
        let role = secret::username(secret).filter(|role| is_ours(role))?;
        let uid = binding.metadata.uid.clone()?;
        let known = before.get(&uid).filter(|login| login.role == role);
        Some((uid, role, secret, known))
    };
    let mut claims: Vec<_> = bindings.iter().filter_map(claim).collect();
    // A role is that of the binding for which it was made.
    claims.sort_by_key(|(_, _, _, known)| known.is_none());
    let mut roles = BTreeSet::new();
    claims.retain(|(_, role, _, _)| roles.insert(*role));
    claims
        .into_iter()
        .filter_map(|(uid, _, secret, known)| Some((uid, known.cloned().or_else(|| secret::login(secret))?)))
        .collect()
}

fn list(instance: &PartialObjectMeta<Postgresql>, logins: &Logins) -> Secret {
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    let document = json!({
        "metadata": {
            "name": names::logins(name), "namespace": instance.metadata.namespace,
            "labels": names::reserved_labels(name),
            "finalizers": [names::FINALIZER],
            "ownerReferences": [{
                "apiVersion": Postgresql::API_VERSION, "kind": Postgresql::KIND, "name": name,
                "uid": instance.metadata.uid, "controller": true, "blockOwnerDeletion": false,
            }],
        },
        "type": "Opaque",
    });
    let mut secret: Secret = serde_json::from_value(document).expect("it is a Secret");
    let bytes = serde_json::to_vec(logins).expect("a map of texts");
    secret.data = Some([(KEY.to_owned(), ByteString(bytes))].into());
    secret
}

#[cfg(test)]
mod tests {
    use super::super::secret::tests::binding;
    use super::*;
    use crate::controller::tests::{answered_by, refusal};
    use serde_json::Value;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn an_instance_has_the_logins_of_its_living_bindings_and_verifiers_stay() {
        let alive = binding();
        let mut going = binding();
        going.metadata.name = Some("going".into());
        going.metadata.uid = Some("b-2".into());
        let mut secrets = BTreeMap::new();
        for binding in [&alive, &going] {
            let secret = secret::new(binding, "i-1");
            secrets.insert(("shop".to_owned(), secret.metadata.name.clone().expect("named")), secret);
        }
        let both = wanted("i-1", &[alive.clone(), going.clone()], &secrets, &Logins::new());
        assert_eq!(both.keys().collect::<Vec<_>>(), ["b-1", "b-2"]);
        assert_eq!(wanted("i-1", &[alive.clone(), going.clone()], &secrets, &both), both);
        assert_eq!(
            wanted("i-2", std::slice::from_ref(&alive), &secrets, &both),
            Logins::new(),
            "made for another instance"
        );

        going.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-01-02T03:04:05Z".parse().expect("a time")));
        let one = wanted("i-1", &[alive.clone(), going], &secrets, &both);
        assert_eq!(one.keys().collect::<Vec<_>>(), ["b-1"]);
        let list = list(&instance(), &one);
        assert_eq!(list.metadata.finalizers.expect("held"), [names::FINALIZER]);
        let text = String::from_utf8(list.data.expect("data")[KEY].0.clone()).expect("JSON");
        assert!(text.starts_with(r#"{"b-1":{"role":"a8s-sb-"#) && text.contains("SCRAM-SHA-256$4096:"), "{text}");
        let password = secrets.values().next().and_then(|s| s.data.as_ref()?.get("password").cloned()).expect("there");
        assert!(!text.contains(&String::from_utf8(password.0).expect("text")));
    }

    /// What an API server answers that has a binding and its Secret, and perhaps its instance.
    fn answer(has_instance: bool, head: &http::request::Parts) -> (u16, Value) {
        let binding = binding();
        let list = |item: Value| json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [item]});
        let name = head.uri.path().rsplit('/').next().unwrap_or_default();
        match (head.method.as_str(), name) {
            ("POST", _) => (201, json!({"metadata": {}})),
            (_, "servicebindings") => (200, list(json!(binding))),
            (_, "secrets") => (200, list(json!(secret::new(&binding, "i-1")))),
            (_, "solo") if has_instance => (200, json!(instance())),
            _ => (404, json!({"status": "Failure", "reason": "NotFound", "code": 404, "details": {"name": name}})),
        }
    }

    #[tokio::test]
    async fn nothing_is_made_for_an_instance_that_is_gone() {
        for has_instance in [true, false] {
            let is_made = Arc::new(AtomicBool::new(false));
            let noted = is_made.clone();
            let client = answered_by(move |head, _| {
                noted.fetch_or(head.method == "POST", Ordering::Relaxed);
                answer(has_instance, head)
            });
            let context = Context { client, refusals: Refusals::default() };
            reconcile(cached(), Arc::new(context)).await.expect("answered");
            assert_eq!(is_made.load(Ordering::Relaxed), has_instance);
        }
    }

    #[tokio::test]
    async fn why_the_list_of_logins_is_refused_is_known_until_it_is_written() {
        let is_full = Arc::new(AtomicBool::new(true));
        let seen = is_full.clone();
        let client = answered_by(move |head, _| match head.method.as_str() {
            "POST" if seen.load(Ordering::Relaxed) => refusal("exceeded quota"),
            _ => answer(true, head),
        });
        let context = Arc::new(Context { client, refusals: Refusals::default() });
        let action = reconcile(cached(), context.clone()).await.expect("answered");
        assert_eq!(action, Action::requeue(TROUBLE_ROUND));
        assert_eq!(context.refusals.of("i-1").as_deref(), Some("exceeded quota"));
        is_full.store(false, Ordering::Relaxed);
        let action = reconcile(cached(), context.clone()).await.expect("answered");
        assert_eq!(action, Action::await_change());
        assert_eq!(context.refusals.of("i-1"), None);
    }

    #[test]
    fn an_instance_that_a_binding_has_left_is_looked_at_once() {
        let named = Named::default();
        let concerned = |binding: &ServiceBinding| -> Vec<String> {
            named.concerned(binding).into_iter().map(|instance| instance.name).collect()
        };
        let mut moved = binding();
        assert_eq!(concerned(&moved), ["solo"]);
        assert_eq!(concerned(&moved), ["solo"]);
        moved.spec.instance.name = "other".into();
        assert_eq!(concerned(&moved), ["solo", "other"]);
        assert_eq!(concerned(&moved), ["other"]);
        moved.spec.instance.name = "third".into();
        moved.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-01-02T03:04:05Z".parse().expect("a time")));
        assert_eq!(concerned(&moved), ["other", "third"]);
        assert_eq!(concerned(&moved), ["third"]);
        assert!(named.0.lock().expect("no panic").is_empty(), "of bindings that are gone nothing is kept");
    }

    #[test]
    fn a_secret_that_names_a_role_of_somebody_else_makes_no_login_and_leaves_the_others_theirs() {
        let honest = binding();
        let mut forger = binding();
        // It is listed first.
        (forger.metadata.name, forger.metadata.uid) = (Some("aaa".into()), Some("a-1".into()));
        let key = |secret: &Secret| ("shop".to_owned(), secret.metadata.name.clone().expect("named"));
        let (own, mut forged) = (secret::new(&honest, "i-1"), secret::new(&forger, "i-1"));
        let mut secrets = BTreeMap::from([(key(&own), own.clone())]);
        let bindings = [forger, honest];
        let before = wanted("i-1", &bindings, &secrets, &Logins::new());
        assert_eq!(before.keys().collect::<Vec<_>>(), ["b-1"]);
        for name in ["postgres", "standby", "a9s_user", "", secret::username(&own).expect("a name")] {
            forged.data.as_mut().expect("data").insert("username".into(), ByteString(name.into()));
            secrets.insert(key(&forged), forged.clone());
            assert_eq!(wanted("i-1", &bindings, &secrets, &before), before, "{name:?}");
        }
        let first = wanted("i-1", &bindings, &secrets, &Logins::new());
        assert_eq!(first.len(), 1, "one role, one login: {:?}", first.keys());
    }

    fn cached() -> Arc<PartialObjectMeta<Postgresql>> {
        let mut cached = instance();
        cached.metadata.namespace = Some("data".into());
        Arc::new(cached)
    }

    fn instance() -> PartialObjectMeta<Postgresql> {
        serde_json::from_value(json!({
            "apiVersion": "postgresql.anynines.com/v1beta3", "kind": "Postgresql", "metadata": {"name": "solo", "uid": "i-1"},
        }))
        .expect("an instance")
    }
}
