//! kind's configuration of a cluster (sigs.k8s.io/kind `pkg/apis/config/v1alpha4`): which nodes, and whatever else a file
//! of the user's says.

use std::path::Path;

use serde_json::{Value, json};

use crate::finding::{Finding, Id};
use crate::yaml;

/// Has kubelets tell at once that their node is ready, and not with their next look ten seconds later; what has not changed they
/// tell as seldom as ever (kubernetes.io "Nodes", heartbeats).
const KUBELET: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
     nodeStatusUpdateFrequency: 1s\nnodeStatusReportFrequency: 5m\n";

/// A document for `kind create cluster --config`. Its fields are kind's to understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration(Value);

impl Configuration {
    /// One of a user's file.
    ///
    /// # Errors
    /// It can't be read, or is no configuration of kind.
    pub fn of_file(path: &Path) -> Result<Self, Finding> {
        let text = fs_err::read_to_string(path)
            .map_err(|error| Finding::new(Id::KindConfig, format!("cannot read the configuration of kind: {error}")))?;
        Self::of_text(&text).map_err(|why| Finding::new(Id::KindConfig, format!("{}: {why}", path.display())))
    }

    fn of_text(text: &str) -> Result<Self, String> {
        let document: Value = yaml::read(text).map_err(|error| error.to_string())?;
        let group = document["apiVersion"].as_str().and_then(|version| version.split_once('/')).map(|(group, _)| group);
        if document["kind"] != "Cluster" || group != Some("kind.x-k8s.io") {
            return Err("this is no Cluster of kind.x-k8s.io".to_owned());
        }
        if !(document["nodes"].is_null() || document["nodes"].is_array()) {
            return Err("its nodes are no list".to_owned());
        }
        Ok(Self(document))
    }

    /// With so many nodes, one control plane and workers, unless it names its nodes itself; with our settings of kubelets, which
    /// its own go before.
    pub fn of_cluster(file: Option<&Self>, nodes: u16) -> Self {
        let plain = || Self(json!({"apiVersion": "kind.x-k8s.io/v1alpha4", "kind": "Cluster"}));
        let mut it = file.cloned().unwrap_or_else(plain);
        if it.nodes() == 0 {
            let roles = std::iter::once("control-plane").chain((1..nodes.max(1)).map(|_| "worker"));
            it.0["nodes"] = roles.map(|role| json!({"role": role})).collect();
        }
        // Later patches win.
        match &mut it.0["kubeadmConfigPatches"] {
            Value::Array(patches) => patches.insert(0, KUBELET.into()),
            Value::Null => it.0["kubeadmConfigPatches"] = json!([KUBELET]),
            // What is no list is kind's to refuse.
            _ => {}
        }
        it
    }

    /// How many nodes it names.
    pub fn nodes(&self) -> u16 {
        self.0["nodes"].as_array().map_or(0, |nodes| u16::try_from(nodes.len()).unwrap_or(u16::MAX))
    }

    /// As kind reads it.
    pub fn text(&self) -> String {
        // A document that was read, or has texts only, can always be written.
        yaml::write(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn one_node_is_the_control_plane_and_the_others_are_workers() {
        insta::assert_snapshot!(Configuration::of_cluster(None, 3).text());
        assert!(Configuration::of_cluster(None, 0).text().ends_with("nodes:\n- role: control-plane\n"));
    }

    #[test]
    fn what_a_file_says_stays_and_its_nodes_go_before_a_number() {
        let head = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking: {podSubnet: 10.8.0.0/16}\n";
        let file = Configuration::of_text(head).unwrap();
        let text = Configuration::of_cluster(Some(&file), 2).text();
        assert!(text.contains("podSubnet: 10.8.0.0/16") && text.contains("role: worker"), "{text}");
        let file = Configuration::of_text(&format!("{head}nodes: [{{role: control-plane, image: x}}]\n")).unwrap();
        let it = Configuration::of_cluster(Some(&file), 2);
        assert_eq!((it.nodes(), &it.0["nodes"]), (1, &file.0["nodes"]));
        let own = format!("{head}kubeadmConfigPatches: [\"kind: KubeletConfiguration\"]\n");
        let it = Configuration::of_cluster(Some(&Configuration::of_text(&own).unwrap()), 2);
        assert_eq!(it.0["kubeadmConfigPatches"], json!([KUBELET, "kind: KubeletConfiguration"]));
    }

    #[rstest]
    #[case("", "no Cluster")]
    #[case("[]", "no Cluster")]
    #[case("kind: Cluster\napiVersion: cluster.x-k8s.io/v1beta1", "no Cluster of kind.x-k8s.io")]
    #[case("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes: 3", "no list")]
    #[case("kind: Cluster\nkind: Cluster", "kind")]
    fn what_is_no_configuration_of_kind_is_said(#[case] text: &str, #[case] why: &str) {
        let refused = Configuration::of_text(text).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}
