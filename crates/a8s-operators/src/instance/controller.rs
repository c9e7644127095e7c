//! The shell around the pure parts: it watches, reads what is there, and carries out what they say.
//!
//! Everything is read anew in each round, so a round that finds all right writes nothing, and one that was cut off is
//! simply done again.

use super::desired::{self, Passwords};
use super::events::{self, COMPONENT, Clock, Happening};
use super::names::{self, FINALIZER};
use super::plan::{self, Effect, kind};
use super::pod::Version;
use super::{deletion, status, volumes};
use crate::agent::extensions;
use crate::agent::report::Applied;
use crate::controller::{self, Error, TROUBLE_ROUND, failed, gone_is_fine, parameters, unless_absent, unless_refused};
use crate::{SYSTEM_NAMESPACE, manifests, postgresql};
use a8s_api::{LABEL_KIND, LABEL_NAME, Postgresql};
use futures::{StreamExt as _, future};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch};
use kube::core::{PartialObjectMeta, Resource, TypeMeta};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{wait, watcher};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longest wait for an instance to vanish after this controller has let it go.
const GOODBYE: Duration = Duration::from_secs(60);

/// How long nothing happens to an instance before it is looked at. Its objects change in bursts, as when one round
/// makes them all, and every round reads all of them.
const QUIET: Duration = Duration::from_millis(20);

struct Context {
    client: kube::Client,
    clock: Clock,
}

/// Watches all instances and what they own, until `shutdown`.
pub async fn run(client: kube::Client, shutdown: CancellationToken) {
    let of_instances = watcher::Config::default().labels(&format!("{LABEL_KIND}={}", Postgresql::KIND));
    // Only metadata of pods is kept, and no longer than it takes to name their instance.
    let pods: Api<PartialObjectMeta<Pod>> = Api::all(client.clone());
    let claims: Api<PartialObjectMeta<PersistentVolumeClaim>> = Api::all(client.clone());
    let controller = Controller::new(Api::<Postgresql>::all(client.clone()), watcher::Config::default())
        .owns(Api::<StatefulSet>::all(client.clone()), of_instances.clone())
        .owns(Api::<Service>::all(client.clone()), of_instances.clone())
        .owns(Api::<Secret>::all(client.clone()), of_instances.clone())
        .owns(Api::<ConfigMap>::all(client.clone()), of_instances.clone())
        .owns(Api::<ServiceAccount>::all(client.clone()), of_instances.clone())
        .owns(Api::<RoleBinding>::all(client.clone()), of_instances.clone())
        .owns(Api::<Role>::all(client.clone()), of_instances.clone())
        .watches(pods, of_instances.clone(), |pod| instance_of(&pod.metadata))
        .watches(claims, of_instances, |claim| instance_of(&claim.metadata))
        .with_config(Config::default().debounce(QUIET))
        .graceful_shutdown_on(shutdown.cancelled_owned());
    let context = Arc::new(Context { client, clock: Clock::default() });
    controller
        .run(reconcile, retry, context)
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a round of the controller of instances did not end");
            }
            future::ready(())
        })
        .await;
}

fn instance_of(metadata: &kube::core::ObjectMeta) -> Option<ObjectRef<Postgresql>> {
    let name = metadata.labels.as_ref()?.get(LABEL_NAME)?;
    Some(ObjectRef::new(name).within(metadata.namespace.as_deref()?))
}

fn retry(instance: Arc<Postgresql>, error: &Error, _: Arc<Context>) -> Action {
    controller::retry("instances", &instance.name_any(), error)
}

async fn reconcile(seen: Arc<Postgresql>, context: Arc<Context>) -> Result<Action, Error> {
    let (Some(name), Some(namespace)) = (&seen.metadata.name, &seen.metadata.namespace) else {
        return Ok(Action::await_change());
    };
    let round = Round { context: &context, name, namespace };
    // The cache may lag behind this controller's own writes.
    let api: Api<Postgresql> = Api::namespaced(context.client.clone(), namespace);
    let Some(instance) = unless_absent(api.get(name).await).map_err(failed("read the instance"))? else {
        return Ok(Action::await_change());
    };
    let has_finalizer = instance.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    match (instance.metadata.deletion_timestamp.is_some(), has_finalizer) {
        (true, true) => round.delete(&api, instance).await,
        (true, false) => Ok(Action::await_change()),
        (false, true) => round.keep(&api, instance).await,
        (false, false) => {
            let instance = round.adopt(&api, &instance).await?;
            round.keep(&api, instance).await
        }
    }
}

/// One look at one instance.
struct Round<'a> {
    context: &'a Context,
    name: &'a str,
    namespace: &'a str,
}

impl Round<'_> {
    fn api<K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.context.client.clone(), self.namespace)
    }

    /// Puts the finalizer on the instance, and an empty `parameters` where there is none: the API server fills in
    /// their defaults.
    async fn adopt(&self, api: &Api<Postgresql>, instance: &Postgresql) -> Result<Postgresql, Error> {
        let mut finalizers = instance.metadata.finalizers.clone().unwrap_or_default();
        finalizers.push(FINALIZER.to_owned());
        let mut patch = controller::finalizers_patch(&instance.metadata, &finalizers);
        if instance.spec.version != 0 && instance.spec.parameters.is_none() {
            patch["spec"] = json!({"parameters": {}});
        }
        let patched = api.patch(self.name, &parameters(COMPONENT), &Patch::Merge(patch)).await;
        patched.map_err(failed("put the finalizer on the instance"))
    }

    async fn keep(&self, api: &Api<Postgresql>, instance: Postgresql) -> Result<Action, Error> {
        let (observed, pods) = future::try_join(self.observe(), self.pods()).await?;
        // What one of somebody else has says nothing of the instance, and least of all that it has had data.
        let is_own = |object: &&DynamicObject| kind(object) == "StatefulSet" && deletion::is_owned(object, &instance);
        let stateful_set = observed.iter().find(is_own);
        let error = match self.version(&instance, stateful_set).await? {
            Err(reason) => Some(reason),
            Ok(version) => {
                let mut desired = desired::desired(&instance, &version, &Passwords::random());
                desired.extend(desired::connection(&instance, &observed));
                let mut effects = plan::plan(desired, &observed);
                if stateful_set.is_some_and(|set| volumes::has_grown(&instance, set)) {
                    let claims = self.list::<PersistentVolumeClaim>().await?;
                    effects.extend(volumes::grown(&instance, claims).map(Effect::Replace));
                }
                // Others may never be done, such as that of a volume that cannot grow.
                if let Some(set) = stateful_set
                    && !effects.iter().any(Effect::is_of_stateful_set)
                {
                    let applied: Vec<Option<Applied>> = pods.iter().map(Applied::of_pod).collect();
                    effects.extend(plan::announcement(&instance, set, &applied));
                }
                let trouble = self.carry_out(&instance, effects).await?;
                trouble.or_else(|| pods.iter().find_map(extensions::trouble_of_pod))
            }
        };
        let without_pods = stateful_set.filter(|set| status::lacks_pods(set, pods.len()));
        // Nothing that is watched changes when a pod is refused.
        let is_looked_at_again = error.is_some() || without_pods.is_some();
        let action = if is_looked_at_again { Action::requeue(TROUBLE_ROUND) } else { Action::await_change() };
        let refused = match without_pods {
            Some(set) if error.is_none() => self.refused(set).await?,
            _ => None,
        };
        // What members wait for passes with them.
        let error = error.or(refused).or_else(|| status::trouble(&pods));
        self.tell(api, &instance, &status::status(&instance, stateful_set, error)).await?;
        Ok(action)
    }

    async fn tell(
        &self,
        api: &Api<Postgresql>,
        instance: &Postgresql,
        status: &a8s_api::PostgresqlStatus,
    ) -> Result<(), Error> {
        let Some(patch) = status::patch(instance, status) else { return Ok(()) };
        let patched = api.patch_status(self.name, &parameters(COMPONENT), &Patch::Merge(patch)).await;
        patched.map(|_| ()).map_err(failed("write the instance's status"))
    }

    /// Everything of the instance that is there, apart from pods.
    async fn observe(&self) -> Result<Vec<DynamicObject>, Error> {
        let name = self.name;
        let (admin, standby) = (names::credentials("postgres", name), names::credentials("standby", name));
        let services = [names::primary_service(name), names::agent_service(name), names::read_only_service(name)];
        let [primary, agent, read_only] = &services;
        let (agent_role, connection) = (names::agent_role(name), names::connection(name));
        let (account, binding, role, agent_binding, admin, standby, primary, agent, read_only, set, connection) = futures::try_join!(
            self.get::<ServiceAccount>(name),
            self.get::<RoleBinding>(name),
            self.get::<Role>(&agent_role),
            self.get::<RoleBinding>(&agent_role),
            self.get::<Secret>(&admin),
            self.get::<Secret>(&standby),
            self.get::<Service>(primary),
            self.get::<Service>(agent),
            self.get::<Service>(read_only),
            self.get::<StatefulSet>(name),
            self.get::<ConfigMap>(&connection),
        )?;
        let found = [account, binding, role, agent_binding, admin, standby, primary, agent, read_only, set, connection];
        Ok(found.into_iter().flatten().collect())
    }

    async fn get<K: Resource<DynamicType = ()>>(&self, name: &str) -> Result<Option<DynamicObject>, Error> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.context.client.clone(), self.namespace, &ApiResource::erase::<K>(&()));
        api.get_opt(name).await.map_err(failed(format!("read the {} {name:?}", K::kind(&()))))
    }

    /// Objects of a kind that carry the instance's labels.
    async fn list<K: Resource<DynamicType = ()>>(&self) -> Result<Vec<DynamicObject>, Error> {
        let resource = ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.context.client.clone(), self.namespace, &resource);
        let parameters = ListParams::default().labels(&names::selector(self.name));
        let list = api.list(&parameters).await.map_err(failed(format!("list objects of kind {}", resource.kind)))?;
        let types = TypeMeta { api_version: resource.api_version, kind: resource.kind };
        let typed = |mut object: DynamicObject| {
            // Items of a list do not say what they are.
            object.types = Some(types.clone());
            object
        };
        Ok(list.items.into_iter().map(typed).collect())
    }

    async fn pods(&self) -> Result<Vec<PartialObjectMeta<Pod>>, Error> {
        let parameters = ListParams::default().labels(&names::selector(self.name));
        let list = self.api::<Pod>().list_metadata(&parameters).await.map_err(failed("list the instance's pods"))?;
        Ok(list.items)
    }

    /// Why the pods of a StatefulSet are not made.
    async fn refused(&self, stateful_set: &DynamicObject) -> Result<Option<String>, Error> {
        let uid = stateful_set.metadata.uid.as_deref().unwrap_or_default();
        let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        // A stack that is older than this program lets nobody look at events.
        let events = unless_refused(self.api::<Event>().list(&about).await).map_err(failed("list events"))?;
        Ok(events.ok().and_then(|events| status::refusal(&events.items)))
    }

    /// Which PostgreSQL the instance runs: the one it already runs, else the one its spec asks for, or the nearest.
    async fn version(
        &self,
        instance: &Postgresql,
        stateful_set: Option<&DynamicObject>,
    ) -> Result<Result<Version, String>, Error> {
        let Ok(requested) = u32::try_from(instance.spec.version) else {
            return Ok(Err("spec.version is no PostgreSQL major".to_owned()));
        };
        if requested == 0 {
            return Ok(Err("the instance has no spec".to_owned()));
        }
        let images = self.images().await?;
        let pointer = format!("/spec/template/metadata/annotations/{}", names::VERSION.replace('/', "~1"));
        let mut running = stateful_set.and_then(|set| set.data.pointer(&pointer)?.as_str()?.parse::<u32>().ok());
        // Whoever deletes the StatefulSet leaves the data, and they are of one major.
        if running.is_none() {
            running = volumes::major(instance, &self.list::<PersistentVolumeClaim>().await?);
        }
        let strict = instance.metadata.annotations.as_ref().and_then(|a| a.get(names::STRICT_VERSION));
        let is_strict = strict.is_some_and(|value| value == "true");
        let chosen = match running {
            Some(major) if images.contains_key(&major) => Ok(major),
            Some(major) => Err(format!("PostgreSQL {major}, which this instance runs, is no longer available")),
            None => postgresql::choose(requested, images.keys().copied(), is_strict).map_err(|e| e.to_string()),
        };
        Ok(chosen.map(|major| Version { major, image: images[&major].clone() }))
    }

    async fn images(&self) -> Result<BTreeMap<u32, String>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), SYSTEM_NAMESPACE);
        let map = api.get_opt(manifests::IMAGES).await.map_err(failed("read the list of images"))?;
        let data = map.and_then(|map| map.data).unwrap_or_default();
        Ok(data.into_iter().filter_map(|(major, image)| Some((major.parse().ok()?, image))).collect())
    }

    /// Carries effects out: what pods need first, and of that the roles before what binds them, then the StatefulSet. Answers
    /// with the trouble that stays until somebody changes something.
    async fn carry_out(&self, instance: &Postgresql, effects: Vec<Effect>) -> Result<Option<String>, Error> {
        let turn_of = |effect: &Effect| match effect {
            Effect::Create(object, _) | Effect::Replace(object) => match kind(object) {
                "StatefulSet" => 2,
                "RoleBinding" => 1,
                _ => 0,
            },
            _ => 0,
        };
        let mut turns: [Vec<Effect>; 3] = Default::default();
        for effect in effects {
            turns[turn_of(&effect)].push(effect);
        }
        let mut texts = Vec::new();
        for turn in turns {
            let done = future::join_all(turn.into_iter().map(|effect| self.act(instance, effect))).await;
            texts.extend(done.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten());
        }
        Ok((!texts.is_empty()).then(|| texts.join("; ")))
    }

    async fn act(&self, instance: &Postgresql, effect: Effect) -> Result<Option<String>, Error> {
        let (object, verb, happening) = match effect {
            Effect::Blocked(text) => return Ok(Some(text)),
            Effect::Report(happening) => return self.report(instance, &happening).await.map(|()| None),
            Effect::Create(object, happening) => (object, "create", happening),
            Effect::Replace(object) => (object, "update", None),
            Effect::Delete(object) => (object, "delete", None),
        };
        let name = object.metadata.name.clone().unwrap_or_default();
        let api = self.dynamic(&object);
        let post = controller::post_parameters(COMPONENT);
        let result = match verb {
            "create" => api.create(&post, &object).await.map(|_| ()),
            "update" => api.replace(&name, &post, &object).await.map(|_| ()),
            _ => delete(&api, &object, &name).await,
        };
        // What is refused is the user's to know.
        let done = unless_refused(result).map_err(failed(format!("{verb} the {} {name:?}", kind(&object))))?;
        if done.is_ok()
            && let Some(happening) = happening
        {
            self.report(instance, &happening).await?;
        }
        Ok(done.err())
    }

    fn dynamic(&self, object: &DynamicObject) -> Api<DynamicObject> {
        let types = object.types.clone().unwrap_or_default();
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: types.api_version.clone(),
            plural: format!("{}s", types.kind.to_lowercase()),
            kind: types.kind,
        };
        Api::namespaced_with(self.context.client.clone(), self.namespace, &resource)
    }

    async fn report(&self, instance: &Postgresql, happening: &Happening) -> Result<(), Error> {
        let event = events::event(instance, happening, self.context.clock.now());
        controller::report(&self.api::<Event>(), &event).await
    }

    async fn delete(&self, api: &Api<Postgresql>, instance: Postgresql) -> Result<Action, Error> {
        let logins = names::logins(self.name);
        let (mut objects, pods, claims, lease, logins) = futures::try_join!(
            self.observe(),
            self.pods(),
            self.list::<PersistentVolumeClaim>(),
            self.get::<Lease>(self.name),
            self.get::<Secret>(&logins),
        )?;
        objects.extend(lease.into_iter().chain(logins));
        let is_first = |claim: &DynamicObject| claim.metadata.name.as_deref().is_some_and(|name| name.ends_with("-0"));
        let claims = claims.into_iter().filter(|claim| is_first(claim) || !desired::leaves_claims()).collect();
        let pods = pods.iter().map(|pod| pod.name_any()).collect();
        let remains = deletion::Remains::of(&instance, pods, claims, objects);
        if remains.is_empty() {
            self.let_go(api, &instance).await?;
            return Ok(Action::await_change());
        }
        let age = controller::deleted_for(&instance.metadata).unwrap_or_default();
        let refused = self.carry_out(&instance, deletion::plan(&remains)).await?;
        let error = refused.or_else(|| remains.trouble(age));
        self.tell(api, &instance, &status::status(&instance, remains.stateful_set.as_ref(), error)).await?;
        Ok(Action::requeue(deletion::pause(age)))
    }

    /// Removes the finalizer, waits until the instance is gone, and reports it.
    async fn let_go(&self, api: &Api<Postgresql>, instance: &Postgresql) -> Result<(), Error> {
        let mut finalizers = instance.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        let patched = controller::set_finalizers(api, instance, &finalizers, COMPONENT).await;
        gone_is_fine(patched).map_err(failed("take the finalizer off the instance"))?;
        let uid = instance.metadata.uid.clone().unwrap_or_default();
        let gone = wait::await_condition(api.clone(), self.name, wait::conditions::is_deleted(&uid));
        // Another controller's finalizer may hold it for long; then nobody can say that it has gone.
        if let Ok(Ok(_)) = tokio::time::timeout(GOODBYE, gone).await {
            self.report(instance, &Happening::deleted()).await?;
        }
        Ok(())
    }
}

/// Deletes an object as it was read, not one that has taken its name. A StatefulSet stays until its pods have ended.
async fn delete(api: &Api<DynamicObject>, object: &DynamicObject, name: &str) -> Result<(), kube::Error> {
    let parameters =
        if kind(object) == "StatefulSet" { DeleteParams::foreground() } else { DeleteParams::background() };
    let parameters = parameters.preconditions(controller::only_this(&object.metadata));
    gone_is_fine(api.delete(name, &parameters).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::starting;

    #[tokio::test]
    async fn an_instance_that_the_api_server_cannot_find_yet_is_looked_at_again() {
        let instance = json!({"metadata": {"name": "solo", "namespace": "shop"}, "spec": {"version": 15}});
        let instance: Postgresql = serde_json::from_value(instance).expect("an instance");
        let context = Context { client: starting(), clock: Clock::default() };
        let looked = reconcile(Arc::new(instance), Arc::new(context)).await;
        assert!(looked.is_err(), "{looked:?}");
    }
}
