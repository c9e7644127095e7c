//! Who makes a request.

/// An authenticated user, as Kubernetes' `authentication.k8s.io/v1` `UserInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct UserInfo {
    /// The name, for example `kubernetes-admin` or `system:serviceaccount:default:default`.
    pub name: String,
    /// The groups, `system:authenticated` among them.
    pub groups: Vec<String>,
}

impl UserInfo {
    /// A user of the given name and groups, who is also in `system:authenticated`.
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|group| group == "system:authenticated") {
            groups.push("system:authenticated".to_owned());
        }
        Self { name: name.into(), groups }
    }

    /// The identity of a ServiceAccount.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
        )
    }

    /// A member of `system:masters`, whom every authorizer lets pass.
    pub fn master(name: &str) -> Self {
        Self::new(name, ["system:masters"])
    }
}
