//! Where the steps of a playbook go that name no cluster.

use std::fmt;

use kube::config::Kubeconfig;
use serde::{Deserialize, Serialize};

use crate::kubernetes::Target;

/// The current context of a kubeconfig, with its API server: there are contexts of one name in many files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Name of the context.
    pub context: String,
    /// URL of the API server.
    pub server: String,
}

impl Place {
    /// The one of now. Where there is none, who needs one says why.
    pub fn now() -> Option<Self> {
        Self::of(&Target::default().read().ok()?)
    }

    fn of(kubeconfig: &Kubeconfig) -> Option<Self> {
        let name = kubeconfig.current_context.as_ref()?;
        let context = kubeconfig.contexts.iter().find(|entry| entry.name == *name)?.context.as_ref()?;
        let cluster = kubeconfig.clusters.iter().find(|entry| entry.name == context.cluster)?.cluster.as_ref()?;
        Some(Self { context: name.clone(), server: cluster.server.clone().unwrap_or_default() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.context, self.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_server_of_the_current_context() {
        let of = |current: &str| {
            let text = format!(
                "{{current-context: '{current}', contexts: [{{name: a, context: {{cluster: one, user: u}}}}, \
                 {{name: b, context: {{cluster: gone, user: u}}}}], \
                 clusters: [{{name: one, cluster: {{server: 'https://one'}}}}], users: []}}"
            );
            Place::of(&Kubeconfig::from_yaml(&text).unwrap())
        };
        assert_eq!(of("a").unwrap().to_string(), "a (https://one)");
        assert_eq!(of("b"), None, "its cluster is not there");
        assert_eq!(of(""), None);
    }
}
