//! The built-in resources: their names, scopes and subresources. What is special about each stands in the modules below.

pub mod causes;
mod config;
pub mod events;
mod network;
pub mod pods;
mod quantities;
pub mod rules;
mod statefulsets;
mod storage;

use k8s_openapi::api::{
    admissionregistration, apps, authentication, authorization, coordination, core::v1 as core, discovery,
    events::v1 as events_api, rbac, storage as storage_api,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::registry::{Resource, Scale, Shape, Subresource};
use crate::patch;

/// Every built-in resource.
pub fn resources() -> Vec<Resource> {
    let mut all = core_resources();
    all.extend(other_resources());
    all.extend(reviews());
    all
}

fn core_resources() -> Vec<Resource> {
    vec![
        named::<core::ConfigMap>("configmaps", "ConfigMapList", &["cm"]),
        named::<core::Endpoints>("endpoints", "EndpointsList", &["ep"]),
        named::<core::Event>("events", "EventList", &["ev"]),
        cluster(named::<core::Namespace>("namespaces", "NamespaceList", &["ns"])).with_status().with_subresource(
            "finalize",
            None,
            "Namespace",
            &["update"],
        ),
        cluster(named::<core::Node>("nodes", "NodeList", &["no"])).with_status(),
        named::<core::PersistentVolumeClaim>("persistentvolumeclaims", "PersistentVolumeClaimList", &["pvc"])
            .with_status(),
        cluster(named::<core::PersistentVolume>("persistentvolumes", "PersistentVolumeList", &["pv"])).with_status(),
        named::<core::Pod>("pods", "PodList", &["po"])
            .with_category("all")
            .with_status()
            .with_subresource("attach", None, "PodAttachOptions", &["create", "get"])
            .with_subresource("binding", None, "Binding", &["create"])
            .with_subresource("eviction", Some(("policy", "v1")), "Eviction", &["create"])
            .with_subresource("exec", None, "PodExecOptions", &["create", "get"])
            .with_subresource("log", None, "Pod", &["get"])
            .with_subresource("portforward", None, "PodPortForwardOptions", &["create", "get"]),
        named::<core::Secret>("secrets", "SecretList", &[]),
        named::<core::ServiceAccount>("serviceaccounts", "ServiceAccountList", &["sa"]).with_subresource(
            "token",
            Some(("authentication.k8s.io", "v1")),
            "TokenRequest",
            &["create"],
        ),
        named::<core::Service>("services", "ServiceList", &["svc"]).with_category("all").with_status(),
    ]
}

fn other_resources() -> Vec<Resource> {
    vec![
        named::<apps::v1::ControllerRevision>("controllerrevisions", "ControllerRevisionList", &[]),
        named::<apps::v1::StatefulSet>("statefulsets", "StatefulSetList", &["sts"])
            .with_category("all")
            .with_status()
            .with_scale(&["spec", "replicas"], &["status", "replicas"]),
        named::<coordination::v1::Lease>("leases", "LeaseList", &[]),
        named::<discovery::v1::EndpointSlice>("endpointslices", "EndpointSliceList", &[]),
        named::<events_api::Event>("events", "EventList", &["ev"]),
        named::<rbac::v1::Role>("roles", "RoleList", &[]),
        named::<rbac::v1::RoleBinding>("rolebindings", "RoleBindingList", &[]),
        cluster(named::<rbac::v1::ClusterRole>("clusterroles", "ClusterRoleList", &[])),
        cluster(named::<rbac::v1::ClusterRoleBinding>("clusterrolebindings", "ClusterRoleBindingList", &[])),
        cluster(named::<storage_api::v1::StorageClass>("storageclasses", "StorageClassList", &["sc"])),
        cluster(named::<admissionregistration::v1::ValidatingWebhookConfiguration>(
            "validatingwebhookconfigurations",
            "ValidatingWebhookConfigurationList",
            &[],
        ))
        .with_category("api-extensions"),
        cluster(named::<admissionregistration::v1::MutatingWebhookConfiguration>(
            "mutatingwebhookconfigurations",
            "MutatingWebhookConfigurationList",
            &[],
        ))
        .with_category("api-extensions"),
        cluster(named::<apiextensions::v1::CustomResourceDefinition>(
            "customresourcedefinitions",
            "CustomResourceDefinitionList",
            &["crd", "crds"],
        ))
        .with_category("api-extensions")
        .with_status(),
    ]
}

fn reviews() -> Vec<Resource> {
    vec![
        answered(cluster(named::<authentication::v1::TokenReview>("tokenreviews", "", &[]))),
        answered(cluster(named::<authentication::v1::SelfSubjectReview>("selfsubjectreviews", "", &[]))),
        answered(named::<authorization::v1::LocalSubjectAccessReview>("localsubjectaccessreviews", "", &[])),
        answered(cluster(named::<authorization::v1::SelfSubjectAccessReview>("selfsubjectaccessreviews", "", &[]))),
        answered(cluster(named::<authorization::v1::SelfSubjectRulesReview>("selfsubjectrulesreviews", "", &[]))),
        answered(cluster(named::<authorization::v1::SubjectAccessReview>("subjectaccessreviews", "", &[]))),
    ]
}

fn named<T>(plural: &str, list_kind: &str, short_names: &[&str]) -> Resource
where
    T: k8s_openapi::Resource + DeserializeOwned + Serialize,
{
    Resource {
        group: T::GROUP.to_owned(),
        version: T::VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        list_kind: list_kind.to_owned(),
        plural: plural.to_owned(),
        singular: T::KIND.to_ascii_lowercase(),
        short_names: short_names.iter().map(ToString::to_string).collect(),
        categories: Vec::new(),
        namespaced: true,
        stored: true,
        status: false,
        scale: None,
        subresources: Vec::new(),
        shape: Shape::Builtin(retype::<T>),
        merge: patch::Shape::builtin(T::GROUP, T::KIND),
    }
}

/// Reads a value as `T` and writes it again: errors are type errors, what is missing afterwards is unknown to `T`.
pub fn retype<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(T::deserialize(value)?)
}

fn cluster(resource: Resource) -> Resource {
    Resource { namespaced: false, ..resource }
}

fn answered(resource: Resource) -> Resource {
    Resource { stored: false, ..resource }
}

impl Resource {
    fn with_status(self) -> Self {
        Self { status: true, ..self }
    }

    fn with_category(mut self, category: &str) -> Self {
        self.categories.push(category.to_owned());
        self
    }

    fn with_scale(self, spec: &[&str], status: &[&str]) -> Self {
        let path = |parts: &[&str]| parts.iter().map(ToString::to_string).collect();
        Self { scale: Some(Scale { spec_replicas: path(spec), status_replicas: path(status), selector: None }), ..self }
    }

    fn with_subresource(
        mut self,
        name: &'static str,
        group_version: Option<(&'static str, &'static str)>,
        kind: &'static str,
        verbs: &'static [&'static str],
    ) -> Self {
        self.subresources.push(Subresource { name, group_version, kind, verbs });
        self
    }
}
