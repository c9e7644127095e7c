//! One request about objects, read and understood: what the handlers work with.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use serde_json::Value;

use super::builtin::causes::Causes;
use super::metadata;
use super::registry::Resource;
use super::request::{Query, ResourceRequest};
use super::selector::Selector;
use super::table::Include;
use crate::objects::GroupResource;
use crate::status::Status;
use crate::store::Key;
use crate::user::UserInfo;

/// The longest name of who changes something (`FieldManagerMaxLength` of apimachinery).
const LONGEST_MANAGER: usize = 128;

/// See the module.
pub struct Call {
    /// Who asks.
    pub user: UserInfo,
    /// What for.
    pub request: ResourceRequest,
    /// The resource it is about.
    pub resource: Arc<Resource>,
    /// The parameters.
    pub query: Query,
    /// What the client calls itself.
    pub user_agent: String,
    /// Media type of the body, without parameters.
    pub content_type: String,
    /// In which form the answer is wanted.
    pub form: Form,
    /// The body.
    pub body: Bytes,
}

/// In which form objects are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Whole,
    /// As a table for people.
    Table,
    /// Their metadata only.
    Metadata,
}

/// What unknown and duplicate fields of a body lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// Nothing.
    Ignore,
    /// Warnings.
    Warn,
    /// An error.
    Strict,
}

impl Call {
    /// Reads what the headers say.
    pub fn new(
        user: UserInfo,
        request: ResourceRequest,
        resource: Arc<Resource>,
        query: Query,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Self, Status> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let form = Form::negotiate(text(ACCEPT))?;
        Ok(Self { user, request, resource, query, user_agent: text(USER_AGENT).to_owned(), content_type, form, body })
    }

    /// Group and resource.
    pub fn group_resource(&self) -> GroupResource {
        self.resource.group_resource()
    }

    /// The namespace in which the object is stored, `""` for cluster-scoped resources.
    pub fn namespace(&self) -> &str {
        if self.resource.namespaced { &self.request.namespace } else { "" }
    }

    /// An object that comes is of the path's namespace, where it names any.
    pub fn check_namespace(&self, object: &Value) -> Result<(), Status> {
        let asked = metadata::text(object, "namespace");
        if !self.resource.namespaced || asked.is_empty() || asked == self.namespace() {
            return Ok(());
        }
        Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ))
    }

    /// The key of the object that the path names.
    pub fn key(&self) -> Key {
        self.key_of(&self.request.name)
    }

    /// The key of `name` in the path's namespace.
    pub fn key_of(&self, name: &str) -> Key {
        Key::new(self.group_resource(), self.namespace(), name)
    }

    /// The selectors of the query.
    pub fn selector(&self) -> Result<Selector, Status> {
        Selector::parse(&self.resource, self.query.get("labelSelector"), self.query.get("fieldSelector"))
    }

    /// How much of an object goes along with its row of a table.
    pub fn include(&self) -> Include {
        match self.query.get("includeObject") {
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        }
    }

    /// Whether nothing may be stored.
    pub fn dry_run(&self) -> Result<bool, Status> {
        let mut dry = false;
        for value in self.query.all("dryRun") {
            if value != "All" && !value.is_empty() {
                let message = format!(
                    "Invalid value: \"{value}\": dryRun: Unsupported value: \"{value}\": supported values: \"All\""
                );
                return Err(Status::bad_request(message));
            }
            dry |= value == "All" && !sabotage::sabotaged!("dry-run-is-stored");
        }
        Ok(dry)
    }

    /// What the client wants done about unknown fields.
    pub fn field_validation(&self) -> Result<FieldValidation, Status> {
        match self.query.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => Err(Status::bad_request(format!(
                "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }

    /// Refuses a name of who changes something that is too long (`ValidateFieldManager` of apimachinery).
    pub fn check_manager(&self) -> Result<(), Status> {
        let options = match self.request.verb {
            "create" => "CreateOptions",
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            _ => return Ok(()),
        };
        if self.query.get("fieldManager").is_none_or(|manager| manager.len() <= LONGEST_MANAGER) {
            return Ok(());
        }
        let mut causes = Causes::default();
        causes.too_long("fieldManager", LONGEST_MANAGER);
        Err(Status::invalid("meta.k8s.io", options, "", causes.0))
    }

    /// Who the fields of this change belong to: the parameter, or the program's name, which may be cut.
    pub fn manager(&self) -> String {
        let manager =
            self.query.get("fieldManager").unwrap_or_else(|| self.user_agent.split('/').next().unwrap_or_default());
        if manager.is_empty() { "unknown".to_owned() } else { manager.chars().take(LONGEST_MANAGER).collect() }
    }

    /// `not found` of the object that the path names.
    pub fn not_found(&self) -> Status {
        self.not_found_name(&self.request.name)
    }

    /// `not found` of an object.
    pub fn not_found_name(&self, name: &str) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, name)
    }

    /// What an error of the store is to the client.
    pub fn store_error(&self, name: &str, error: &crate::store::Error) -> Status {
        use crate::store::Error;
        let (group, plural) = (&self.resource.group, &self.resource.plural);
        match error {
            Error::AlreadyExists => Status::already_exists(group, plural, name),
            Error::NotFound => self.not_found_name(name),
            Error::Conflict => modified(group, plural, name),
            Error::TooDeep => Status::bad_request(error.to_string()),
            Error::TooLarge => Status::request_entity_too_large(error.to_string()),
            Error::Expired { .. } => Status::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
            ),
            other => Status::internal(other),
        }
    }
}

/// 409 as etcd3's store words it.
pub fn modified(group: &str, plural: &str, name: &str) -> Status {
    Status::conflict(
        group,
        plural,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )
}

impl Form {
    /// The first acceptable form that this server can give.
    fn negotiate(accept: &str) -> Result<Self, Status> {
        if accept.trim().is_empty() {
            return Ok(Self::Whole);
        }
        for clause in accept.split(',') {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !matches!(media, "application/json" | "*/*" | "application/*") {
                continue;
            }
            match parts.find_map(|part| part.strip_prefix("as=")) {
                None => return Ok(Self::Whole),
                Some("Table") => return Ok(Self::Table),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Ok(Self::Metadata),
                Some(_) => {}
            }
        }
        Err(Status::new(406, "NotAcceptable", "only the following media types are accepted: application/json"))
    }
}
