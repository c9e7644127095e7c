//! The ServiceAccount of the controllers of backups and restores, and what it may do.

use super::OPERATOR_ACCOUNT;
use super::rights::{RBAC, binding, role, rule, rule_for};
use crate::{SYSTEM_NAMESPACE, store};
use a8s_api::{Backup, Postgresql};
use serde_json::{Value, json};

/// Its name, as upstream has it.
pub const ACCOUNT: &str = "a8s-backup-manager-account";
const ROLE: &str = "a8s-backup-manager-role";
const CONFIG_ROLE: &str = "a8s-backup-config-role";

/// All of them, in the order in which they can be applied. In a pod there is one account for all controllers, which then
/// has these rights too.
pub(super) fn documents(in_pod: bool) -> [Value; 5] {
    let accounts: &[&str] = if in_pod { &[ACCOUNT, OPERATOR_ACCOUNT] } else { &[ACCOUNT] };
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": ACCOUNT, "namespace": SYSTEM_NAMESPACE},
    });
    let everywhere = [
        rule(Backup::GROUP, &["backups", "restores"], &["get", "list", "patch", "watch"]),
        rule(Backup::GROUP, &["backups/status", "restores/status"], &["patch"]),
        rule(Postgresql::GROUP, &["postgresqls"], &["get"]),
        // Which content an instance has.
        rule("coordination.k8s.io", &["leases"], &["get"]),
        rule("", &["pods"], &["list", "watch"]),
        // Secrets of orders are in the namespaces of instances; that of the store is read.
        rule("", &["secrets"], &["create", "delete", "get", "update"]),
        // It gives agents the right to answer an order, which it therefore has to have itself.
        rule(RBAC, &["rolebindings", "roles"], &["create", "delete", "get", "update"]),
        // Where the store is, if it is a Service.
        rule("", &["services"], &["get"]),
        rule("discovery.k8s.io", &["endpointslices"], &["list"]),
        rule("", &["events"], &["create"]),
    ];
    [
        account,
        role("ClusterRole", ROLE, &everywhere),
        binding("ClusterRole", ROLE, accounts),
        role("Role", CONFIG_ROLE, &[rule_for("", "configmaps", store::CONFIG, &["get"])]),
        binding("Role", CONFIG_ROLE, accounts),
    ]
}
