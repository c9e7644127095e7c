//! What a request asks for, read from its method, path and query (as kube-apiserver's `endpoints/request`).

use std::borrow::Cow;

use http::Method;

use crate::status::Status;

/// A request about objects of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceRequest {
    /// The verb that RBAC knows: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// API group; `""` is the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name of the resource.
    pub resource: String,
    /// Subresource, or `""`.
    pub subresource: String,
    /// Namespace, or `""`.
    pub namespace: String,
    /// Name, or `""`.
    pub name: String,
    /// Whether the path leads through the namespace to the resource; a path to a namespace itself does not.
    pub in_namespace: bool,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Objects.
    Resource(ResourceRequest),
    /// Anything else: discovery, health, version.
    Path,
}

impl Target {
    /// Reads a request's method and path.
    pub fn of<B>(request: &http::Request<B>, query: &Query) -> Result<Self, Status> {
        target(request.method(), request.uri().path(), query)
    }
}

/// Reads method and path.
fn target(method: &Method, path: &str, query: &Query) -> Result<Target, Status> {
    let decoded: Vec<Cow<'_, str>> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(percent_decode)
        .collect::<Option<_>>()
        .ok_or_else(|| Status::bad_request("the path is not valid percent-encoded UTF-8"))?;
    let parts: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Ok(Target::Path),
    };
    let mut request =
        ResourceRequest { group: group.to_owned(), version: version.to_owned(), ..ResourceRequest::default() };
    match rest {
        ["namespaces", namespace] | ["namespaces", namespace, "status" | "finalize"] => {
            request.resource = "namespaces".to_owned();
            request.namespace = (*namespace).to_owned();
            name_object(&mut request, &rest[1..])?;
        }
        ["namespaces", namespace, resource, object @ ..] => {
            request.namespace = (*namespace).to_owned();
            request.in_namespace = true;
            request.resource = (*resource).to_owned();
            name_object(&mut request, object)?;
        }
        [resource, object @ ..] => {
            request.resource = (*resource).to_owned();
            name_object(&mut request, object)?;
        }
        [] => return Ok(Target::Path),
    }
    request.verb = verb(method, &request, query)?;
    Ok(Target::Resource(request))
}

/// The one name that a list or watch is about, if its field selector says so: rights on an object by its name cover it
/// (Kubernetes documentation, "Referring to resources"; `endpoints/request/requestinfo.go`).
pub fn selected_name<'a>(request: &ResourceRequest, query: &'a Query) -> Option<&'a str> {
    if !matches!(request.verb, "list" | "watch") {
        return None;
    }
    let exact = |term: &'a str| {
        let value = term.strip_prefix("metadata.name=")?;
        Some(value.strip_prefix('=').unwrap_or(value))
    };
    // A backslash may hide a comma: such a selector says something else than its parts seem to say.
    let selector = query.get("fieldSelector").filter(|selector| !selector.contains('\\'))?;
    selector.split(',').find_map(exact).filter(|name| !name.contains(['/', '%']))
}

fn name_object(request: &mut ResourceRequest, parts: &[&str]) -> Result<(), Status> {
    match parts {
        [] => {}
        [name] => request.name = (*name).to_owned(),
        [name, subresource] => {
            request.name = (*name).to_owned();
            request.subresource = (*subresource).to_owned();
        }
        _ => return Err(Status::no_such_resource()),
    }
    Ok(())
}

fn verb(method: &Method, request: &ResourceRequest, query: &Query) -> Result<&'static str, Status> {
    let named = !request.name.is_empty();
    Ok(match *method {
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD if query.flag("watch")? => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => return Err(Status::no_such_method()),
    })
}

/// The parameters of a request's query.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the part of the URI after `?`.
    pub fn parse(query: Option<&str>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean parameter, read as Go's conversion of query parameters reads it: anything but `false` and `0` is true.
    pub fn flag(&self, name: &str) -> Result<bool, Status> {
        Ok(match self.0.iter().find(|(key, _)| key == name) {
            None => false,
            Some((_, value)) => !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"),
        })
    }

    /// A parameter that is a whole number.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        self.get(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Status::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax ({name})"))
                })
            })
            .transpose()
    }
}

fn percent_decode(part: &str) -> Option<Cow<'_, str>> {
    if !part.contains('%') {
        return Some(Cow::Borrowed(part));
    }
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let text = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(text, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &Method, uri: &str) -> ResourceRequest {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        match target(method, path, &Query::parse(Some(query))).unwrap() {
            Target::Resource(request) => request,
            Target::Path => panic!("{uri} is no resource"),
        }
    }

    #[test]
    fn paths_name_group_resource_namespace_name_and_subresource() {
        let request = read(&Method::GET, "/apis/apps/v1/namespaces/n/statefulsets/s/scale");
        assert_eq!((request.group.as_str(), request.resource.as_str()), ("apps", "statefulsets"));
        assert_eq!((request.namespace.as_str(), request.name.as_str()), ("n", "s"));
        assert_eq!((request.subresource.as_str(), request.verb), ("scale", "get"));
        let request = read(&Method::PUT, "/api/v1/namespaces/n/finalize");
        assert_eq!((request.resource.as_str(), request.subresource.as_str()), ("namespaces", "finalize"));
        assert_eq!((request.name.as_str(), request.in_namespace), ("n", false));
        assert!(read(&Method::GET, "/api/v1/namespaces/n/namespaces/n").in_namespace);
        assert!(!read(&Method::GET, "/api/v1/namespaces/n").in_namespace);
    }

    #[test]
    fn verbs_follow_from_method_name_and_watch() {
        assert_eq!(read(&Method::GET, "/api/v1/pods").verb, "list");
        assert_eq!(read(&Method::GET, "/api/v1/pods?watch=1").verb, "watch");
        assert_eq!(read(&Method::GET, "/api/v1/pods?watch=false").verb, "list");
        assert_eq!(read(&Method::DELETE, "/api/v1/namespaces/n/pods").verb, "deletecollection");
        assert_eq!(read(&Method::DELETE, "/api/v1/namespaces/n").verb, "delete");
    }

    #[test]
    fn a_selector_for_one_name_names_what_is_listed_or_watched() {
        let name = |method: &Method, query: &str| {
            let request = read(method, &format!("/api/v1/namespaces/n/secrets?{query}"));
            selected_name(&request, &Query::parse(Some(query))).map(str::to_owned)
        };
        assert_eq!(name(&Method::GET, "fieldSelector=metadata.name%3Da").as_deref(), Some("a"));
        assert_eq!(
            name(&Method::GET, "watch=1&fieldSelector=type%3DOpaque,metadata.name%3D%3Da").as_deref(),
            Some("a")
        );
        assert_eq!(name(&Method::GET, "fieldSelector=metadata.name!%3Da"), None);
        assert_eq!(name(&Method::GET, "fieldSelector=metadata.namespace%3Da"), None);
        assert_eq!(name(&Method::GET, "fieldSelector=metadata.name!%3Dx%5C,metadata.name%3Da"), None);
        assert_eq!(name(&Method::DELETE, "fieldSelector=metadata.name%3Da"), None);
    }

    #[test]
    fn encoded_names_are_decoded_and_nonsense_is_refused() {
        assert_eq!(
            read(&Method::GET, "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode").name,
            "system:node"
        );
        assert_eq!(target(&Method::GET, "/api/v1/pods/%zz", &Query::default()).unwrap_err().code(), 400);
    }

    #[test]
    fn discovery_is_not_about_objects() {
        for path in ["/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version", "/healthz/ping"] {
            assert_eq!(target(&Method::GET, path, &Query::default()).unwrap(), Target::Path, "{path}");
        }
    }
}
