//! What the four kinds share: a macro that gives a kind its object type and its `kube::Resource`.
//!
//! kube's derive is not used: it demands a `spec` in every object, and the schemas of three kinds do not, so that one
//! object without a spec would end the watch of a typed client.

/// Defines the object type of a kind: type information, metadata, spec and status.
macro_rules! custom_resource {
    ($(#[$doc:meta])* $kind:ident, $spec:ident, $status:ident, group $group:literal, plural $plural:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $kind {
            /// Group and version of this representation.
            pub api_version: String,
            /// The kind's name.
            pub kind: String,
            /// Standard metadata.
            pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            /// What the user wants. The default if the object has none.
            pub spec: $spec,
            /// What the controller saw.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub status: Option<$status>,
        }

        impl $kind {
            /// The API group of the kind.
            pub const GROUP: &'static str = $group;
            /// The kind's name.
            pub const KIND: &'static str = stringify!($kind);
            /// `<group>/<version>`.
            pub const API_VERSION: &'static str = concat!($group, "/v1beta3");

            /// An object with a name and a spec, and nothing else.
            pub fn new(name: &str, spec: $spec) -> Self {
                let metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    name: Some(name.to_owned()),
                    ..Default::default()
                };
                Self { metadata, spec, ..Self::default() }
            }
        }

        impl Default for $kind {
            fn default() -> Self {
                Self {
                    api_version: Self::API_VERSION.to_owned(),
                    kind: Self::KIND.to_owned(),
                    metadata: Default::default(),
                    spec: Default::default(),
                    status: None,
                }
            }
        }

        impl kube::Resource for $kind {
            type DynamicType = ();
            type Scope = kube::core::NamespaceResourceScope;

            fn kind(_: &()) -> std::borrow::Cow<'_, str> {
                Self::KIND.into()
            }
            fn group(_: &()) -> std::borrow::Cow<'_, str> {
                Self::GROUP.into()
            }
            fn version(_: &()) -> std::borrow::Cow<'_, str> {
                crate::VERSION.into()
            }
            fn api_version(_: &()) -> std::borrow::Cow<'_, str> {
                Self::API_VERSION.into()
            }
            fn plural(_: &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

pub(crate) use custom_resource;
