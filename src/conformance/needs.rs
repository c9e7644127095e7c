//! What scenarios need where they run, as their tags say, and whether it is there.

use std::collections::BTreeSet;

use super::options::Options;
use super::preflight::Existing;
use super::stage::{Door, Stage};
use super::{beside, cut, nodes};
use crate::kubernetes::is_before;

/// How tags begin that name the Kubernetes with which something came.
const SINCE: &str = "k8s-1.";

/// What is lacking here for a scenario with these tags.
pub(super) fn lacking(tags: &BTreeSet<String>, stage: &Stage, options: &Options) -> Option<String> {
    let root = nix::unistd::Uid::effective().is_root();
    let is_without = |has: fn(&Existing) -> bool| !stage.existing.as_ref().is_some_and(has);
    tags.iter().find_map(|tag| match (tag.as_str(), &stage.existing) {
        ("kubectl", _) => stage.kubectl.as_ref().err().map(|why| (*why).to_owned()),
        ("root", _) if !root => Some("only root may do this".to_owned()),
        ("linux", _) if !cfg!(target_os = "linux") => Some("only Linux has what it needs".to_owned()),
        ("cut-off", None) => cut::lacking(),
        ("docker", None) => beside::lacking(),
        ("nodes", existing) => nodes::lacking(existing.as_ref()),
        ("local-volumes", Some(existing)) => nodes::lacking(Some(existing)),
        ("process", _) if stage.door == Door::Plan => Some("it is about the program as a process".to_owned()),
        ("cluster", Some(_)) => Some("it needs a cluster of its own".to_owned()),
        ("disruptive", Some(_)) if !options.disruptive => {
            Some("it disturbs others on the cluster: --disruptive runs it".to_owned())
        }
        ("needs-audit", Some(_)) => Some("only an embedded cluster shows which requests were made".to_owned()),
        ("embedded-only", Some(_)) => Some("it needs the embedded cluster and its host".to_owned()),
        ("builtin", Some(existing)) if existing.stack != "builtin" => {
            Some("it is about what only the builtin stack has".to_owned())
        }
        ("deployments", _) if is_without(|existing| existing.has_deployments) => {
            Some("it needs a cluster that runs Deployments".to_owned())
        }
        ("fixed-volumes", _) if is_without(|existing| existing.has_fixed_volumes) => {
            Some("it needs a cluster whose volumes cannot grow".to_owned())
        }
        ("several-nodes", _) if is_without(|existing| existing.has_several_nodes) => {
            Some("it needs a cluster of which several nodes take pods".to_owned())
        }
        (tag, Some(existing)) if tag.starts_with(SINCE) => {
            let wanted = tag.strip_prefix(SINCE).and_then(|minor| minor.parse::<u32>().ok());
            let is_older = wanted.is_some_and(|wanted| is_before(&existing.version, wanted));
            is_older.then(|| format!("it needs Kubernetes {}", tag.trim_start_matches("k8s-")))
        }
        (tag, Some(existing)) => {
            let capability = tag.strip_prefix("needs-")?;
            let there = existing.capabilities.contains(capability);
            (!there).then(|| format!("the stack of this cluster has no {capability}"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;
    use std::sync::LazyLock;

    use regex::Regex;

    use super::*;
    use crate::conformance::catalogue::{Catalogue, Entry, Sources};

    fn catalogue() -> Catalogue {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("features");
        Catalogue::read(&Sources::from_directory(&directory).unwrap())
    }

    /// What scenarios are about and how important they are, then what they need where they run.
    const TAGS: [&str; 4] = [
        "smoke core full chaos",
        "backup binding disorder extension failover ha maintenance namespace negative restore sql stack store",
        "builtin cluster cut-off deployments disruptive docker embedded-only fixed-volumes kubectl linux needs-audit",
        "local-volumes nodes process root serial several-nodes",
    ];

    /// A misspelt `@needs-…` skips a scenario for good, and any other that is misspelt lets it run where it can't.
    #[test]
    fn every_tag_is_known() {
        use crate::steps::capability::Capability::{BackupObjects, Failover, ReplicationLag, RestoreInto};
        let capabilities =
            [BackupObjects, Failover, ReplicationLag, RestoreInto].map(|it| format!("needs-{}", it.word()));
        for entry in &catalogue().entries {
            for tag in &entry.tags {
                let is_version = tag.strip_prefix(SINCE).is_some_and(|minor| minor.parse::<u32>().is_ok());
                let is_named = TAGS.iter().flat_map(|tags| tags.split(' ')).any(|known| known == tag);
                let is_known = is_named || is_version || capabilities.contains(tag) || tag.starts_with("quarantine-");
                assert!(is_known, "{} is @{tag}", entry.id);
            }
        }
    }

    /// What a step needs where it runs, by the tag that says so: how its sentence begins, and what is in it.
    const NEEDING: [(&str, &str, &str); 37] = [
        ("cluster", "a cluster of its own", ""),
        ("kubectl", "", "`kubectl "),
        // These run it and do not show its line.
        ("kubectl", "the object:", ""),
        ("kubectl", "I apply the object:", ""),
        ("kubectl", "a port-forward to ", ""),
        ("kubectl", "kubectl reads every manifest", ""),
        ("kubectl", "the cluster would take every manifest", ""),
        ("needs-failover", "", "`a9s pg failover "),
        ("needs-failover", "I fail ", " over"),
        ("needs-restore-into", "I run `a9s create pg restore ", " --to "),
        ("needs-restore-into", "I create a restore ", " into a new instance "),
        ("needs-backup-objects", "the store has ", ""),
        ("needs-backup-objects", "the store soon has ", ""),
        ("needs-backup-objects", "no object of the backup ", ""),
        ("needs-backup-objects", "a byte of the backup ", ""),
        ("needs-backup-objects", "an object of the backup ", ""),
        ("needs-backup-objects", "the backup ", " in the store is "),
        ("needs-backup-objects", "the backup ", " has begun to upload"),
        ("needs-backup-objects", "the manifest of the backup ", " in the store is "),
        ("needs-backup-objects", "somebody writes another time into the manifest ", ""),
        ("builtin", "the Lease of ", ""),
        ("builtin", "", "synchronous_standby_names"),
        ("builtin", "", "configmap a8s-stack"),
        ("builtin", "somebody puts a Secret with the username ", ""),
        // The words are the builtin operators' own.
        ("builtin", "the status of ", " soon says "),
        ("builtin", "the instance ", " soon tells the error "),
        ("builtin", "the service binding ", " soon tells the error "),
        ("builtin", "the restore ", " has begun"),
        ("builtin", "the namespace has exactly these objects:", ""),
        ("disruptive", "", "`kubectl drain "),
        ("disruptive", "", "`kubectl taint "),
        ("disruptive", "", "`kubectl scale deployment "),
        ("disruptive", "the nodes that take pods are ", ""),
        ("disruptive", "the node of the primary of ", " is drained"),
        ("disruptive", "the nodes have lost ", ""),
        ("disruptive", "the disks of the nodes are ", ""),
        ("local-volumes", "the volume of the member ", " is emptied"),
    ];

    /// Whether a backup of one instance is restored into another, as far as the steps tell.
    fn restores_into_another(entry: &Entry) -> bool {
        static MADE: LazyLock<Regex> = LazyLock::new(|| {
            let words = r#"^(?:a|I create a|somebody orders a) backup "([^"]+)" of (?:the "[^"]+" )?"([^"]+)""#;
            Regex::new(words).unwrap()
        });
        static RESTORED: LazyLock<Regex> = LazyLock::new(|| {
            let words = r#"^I create a restore "[^"]+" of the backup "([^"]+)" into "([^"]+)""#;
            Regex::new(words).unwrap()
        });
        let mut instances = HashMap::new();
        entry.steps().any(|step| {
            if let Some(made) = MADE.captures(&step.value) {
                instances.insert(made[1].to_owned(), made[2].to_owned());
            }
            let restored = RESTORED.captures(&step.value);
            restored.is_some_and(|it| instances.get(&it[1]).is_some_and(|instance| *instance != it[2]))
        })
    }

    /// What a scenario does, a sentence each: the commands of a table are run like any other.
    fn own(entry: &Entry) -> impl Iterator<Item = String> {
        entry.steps().flat_map(|step| {
            let cells = step.table.iter().flat_map(|table| table.rows.iter().flatten());
            let commands = cells.filter(|cell| cell.starts_with("a9s ") || cell.starts_with("kubectl "));
            commands.map(|cell| format!("I run `{cell}`")).chain([step.value.clone()])
        })
    }

    /// The steps of features that a scenario has in its texts, for a run of the suite that it makes.
    fn in_texts(entry: &Entry) -> impl Iterator<Item = &str> {
        let lines = entry.steps().filter_map(|step| step.docstring.as_deref()).flat_map(str::lines);
        lines.filter_map(|line| {
            let (keyword, step) = line.trim_start().split_once(' ')?;
            ["Given", "When", "Then", "And", "But"].contains(&keyword).then_some(step)
        })
    }

    /// Where a scenario runs only on a cluster of the run's own, which is an embedded one, the stack is the builtin one.
    #[test]
    fn what_a_scenario_needs_is_in_its_tags() {
        for entry in &catalogue().entries {
            let is_embedded = ["cluster", "embedded-only", "needs-audit"].iter().any(|tag| entry.tags.contains(*tag));
            let is_of_stack = |tag: &str| tag == "builtin" || tag.starts_with("needs-");
            let is_said = |tag: &str| entry.tags.contains(tag) || (is_embedded && is_of_stack(tag));
            for (tag, begin, within) in NEEDING {
                // There, who needs a cluster of its own is skipped where it has none.
                let others = in_texts(entry).filter(|_| tag != "cluster").map(str::to_owned);
                let needs = own(entry).chain(others).find(|step| step.starts_with(begin) && step.contains(within));
                assert!(needs.is_none() || is_said(tag), "{} is not @{tag}: {needs:?}", entry.id);
            }
            let tag = "needs-restore-into";
            assert!(!restores_into_another(entry) || is_said(tag), "{} is not @{tag}", entry.id);
        }
    }
}
