//! What can be found: every identifier with its class and its meaning, the table behind `docs/findings.md`.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::Class;

/// The table: one row for each identifier, from which the type and all that is said of it are made.
macro_rules! ids {
    ($($variant:ident $name:literal $class:ident $meaning:literal)+) => {
        /// The stable identifier of a finding, which scripts and documentation can rely on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Id {
            $(#[doc = $meaning] $variant,)+
        }

        impl Id {
            /// All of them, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The one that is printed so.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|id| id.name() == name)
            }

            /// As it is printed: kebab-case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Its class, hence the exit code.
            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)+ }
            }

            /// What it says, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

ids! {
    // The command line, this machine, and the program itself.
    Usage "usage" Usage "What was asked for can't be asked together, or makes no sense."
    Interrupted "interrupted" Interrupted "Ctrl-C, SIGTERM or SIGHUP. What was done stays; it is said whether the same command goes on."
    Deadline "deadline" Deadline "What was waited for did not come about in time; its last state is in the cause."
    ConfirmationNeeded "confirmation-needed" Refused "A question has to be answered, and there is no terminal to ask on."
    Declined "declined" Refused "The person who was asked said no."
    OutputUnwritable "output-unwritable" Failed "Standard output can't be written; the command itself was carried out."
    NoResources "no-resources" Failed "The system gives the program no threads or files to run with."
    NoHome "no-home" Missing "There is no home directory to keep things in."
    ConfigMissing "config-missing" Missing "There is no configuration yet: no cluster was created."
    ConfigUnreadable "config-unreadable" Missing "The configuration file can't be read."
    ConfigDamaged "config-damaged" Missing "The configuration file is no YAML of the expected shape."
    ConfigUnwritable "config-unwritable" Failed "The configuration file can't be written."
    WorkingDirectory "working-directory" Failed "The working directory can't be one, or something in it can't be read, written or removed."
    Internal "internal" Failed "Something that can't be happened: a bug of this program."

    // Which cluster.
    NoCluster "no-cluster" Missing "There is no such cluster, or none is named."
    UnknownContext "unknown-context" Missing "The kubeconfig has no such context."
    AmbiguousContext "ambiguous-context" Refused "Several contexts lead to clusters of that name."
    KubeconfigUnusable "kubeconfig-unusable" Missing "The kubeconfig can't be read, or its context can't be used."
    KubeconfigDamaged "kubeconfig-damaged" Failed "The kubeconfig is no kubeconfig; nothing was changed in it."
    KubeconfigIo "kubeconfig-io" Failed "The kubeconfig can't be read or written."
    KubeconfigLocked "kubeconfig-locked" Refused "Another program is changing the kubeconfig."
    CertificateExpired "certificate-expired" Missing "The context's client certificate has expired."
    ServerCertificate "server-certificate" Missing "The API server's certificate is not one that the kubeconfig trusts."
    ClusterUnreachable "cluster-unreachable" Missing "The API server does not answer."
    WebhookUnreachable "webhook-unreachable" Missing "The API server can't reach a webhook that it has to ask."
    Unauthorized "unauthorized" Refused "The cluster does not accept the context's credentials."
    Forbidden "forbidden" Refused "The context's user may not do this; verb and resource are in the cause."
    NotFound "not-found" Missing "The API server has no such object or kind."
    Conflict "conflict" Refused "Somebody else has changed or owns what was to be changed."
    Invalid "invalid" Refused "The API server or its admission refuses the object."
    RequestFailed "request-failed" Failed "The API server answered a request with an error of its own."

    // Making and keeping clusters.
    NoTool "no-tool" Missing "A tool that the provider or the context works with is not installed."
    ToolTooOld "tool-too-old" Missing "A tool that the provider works with is older than what is needed."
    ToolUnusable "tool-unusable" Missing "A tool that the provider works with can't be run."
    ToolFailed "tool-failed" Failed "A tool that the provider works with failed or gave an answer that is none."
    DockerUnreachable "docker-unreachable" Missing "The Docker daemon does not answer."
    DockerRefused "docker-refused" Missing "The Docker daemon refuses this user."
    TooLittleMemory "too-little-memory" Missing "The Docker engine has less memory than the nodes need."
    TooLittleDisk "too-little-disk" Missing "The Docker engine has less disk than the nodes need."
    Inotify "inotify" Missing "The nodes ran out of inotify instances."
    ClusterExists "cluster-exists" Refused "The name is taken by a cluster that a9s did not make."
    HalfDeleted "half-deleted" Refused "Only a part of the cluster is there."
    ClusterStopped "cluster-stopped" Missing "The cluster is there and does not run."
    ClusterNotStarted "cluster-not-started" Failed "The cluster's process ended or did not become ready; its log is shown."
    KindConfig "kind-config" Missing "The configuration of kind can't be read or is none."
    PortTaken "port-taken" Refused "Another program listens on a port that the cluster was told to use."
    ProviderUnsupported "provider-unsupported" Refused "That provider can't make clusters on this system."
    NoPostgresql "no-postgresql" Missing "No PostgreSQL server is installed on this machine."
    NoServerUser "no-server-user" Missing "There is no user to run PostgreSQL as."
    RunAs "run-as" Refused "PostgreSQL can't be run as that user."
    StateDirectory "state-directory" Usage "The directory for the clusters' state can't be one."
    StateUnreadable "state-unreadable" Failed "The clusters' state can't be read."
    StateUnwritable "state-unwritable" Failed "The cluster's state can't be written."
    StateUnremovable "state-unremovable" Failed "The cluster's state can't be removed."
    StateDamaged "state-damaged" Failed "The cluster's record is damaged; nothing was changed."
    StateForeign "state-foreign" Refused "Something that is no cluster of a9s lies where the cluster would."
    StateFormat "state-format" Refused "The cluster was made by a newer a9s."
    DirectoryBlocked "directory-blocked" Failed "A directory of the cluster can't be made, entered or written."
    DirectoryTooLong "directory-too-long" Failed "The path of a socket would be longer than the system allows."
    DiskFull "disk-full" Failed "The disk has too little room for a cluster."

    // The stack.
    NoStack "no-stack" Missing "The a8s stack is not installed on the cluster."
    StackOther "stack-other" Refused "Another a8s stack is installed on the cluster."
    StackUnsupported "stack-unsupported" Refused "That stack can't run on that provider."
    ImagesUnsupported "images-unsupported" Refused "The provider runs no container images."
    NoImages "no-images" Missing "An image is not on this machine."
    ImageMap "image-map" Missing "The image map can't be read or is none."
    ImagePull "image-pull" Missing "An image can't be pulled."
    CrashLoop "crash-loop" Failed "A container starts and ends again and again; its log is shown."
    ContainerConfig "container-config" Failed "A container can't be made of what its pod says."
    JobFailed "job-failed" Failed "A Job of the stack has failed."
    ManifestsMissing "manifests-missing" Missing "The manifests of the stack are not where they were looked for."
    ManifestsDamaged "manifests-damaged" Refused "A manifest of the stack can't be understood."
    KustomizationUnsupported "kustomization-unsupported" Refused "A kustomization uses a field that is not supported."
    ReleaseDamaged "release-damaged" Failed "The archive of a release is damaged."
    FetchFailed "fetch-failed" Missing "A document can't be fetched."
    FetchNotFound "fetch-not-found" Missing "There is no document at that address."
    FetchInsecure "fetch-insecure" Refused "A document would be fetched without TLS."
    NoCertificates "no-certificates" Missing "This system trusts no certificates, so nothing can be fetched."
    NoCapability "no-capability" Refused "The stack on this cluster can't do that."

    // The backup store.
    BackupStore "backup-store" Usage "The flags describe no backup store."
    BackupConfigDamaged "backup-config-damaged" Refused "The kept configuration of the backup store is damaged."
    EmptyKey "empty-key" Usage "A key of the backup store is empty."
    NoKey "no-key" Usage "A key of the backup store is not given."
    KeyUnreadable "key-unreadable" Missing "The file or variable with a key of the backup store can't be read."
    OtherPassword "other-password" Refused "The cluster encrypts with another password than the working directory has."

    // Instances, backups, restores and service bindings.
    NoInstance "no-instance" Missing "There is no such instance."
    NoBackup "no-backup" Missing "There is no such backup."
    NoRestore "no-restore" Missing "There is no such restore."
    NoServiceBinding "no-service-binding" Missing "There is no such service binding, or it is not usable."
    NoInstanceNamed "no-instance-named" Usage "The command needs the name of an instance."
    BadNamespace "bad-namespace" Usage "The namespace can't be one."
    NoSuchVersion "no-such-version" Missing "The cluster has no such version of PostgreSQL."
    OtherSpec "other-spec" Refused "There is one of that name, and it says something else."
    FailedBefore "failed-before" Refused "There is one of that name, and it has failed."
    FormerInstance "former-instance" Refused "There is one of that name, of an instance that is gone."
    DeletedMeanwhile "deleted-meanwhile" Failed "What was waited for was deleted by somebody."
    PermanentlyFailed "permanently-failed" Failed "The stack says that it can't be done; its reason is in the cause."
    DeletionHeldUp "deletion-held-up" Failed "What is being deleted can't go; its reason is in the cause."
    ServiceBindingFailed "service-binding-failed" Failed "The service binding could not be made."
    NoSource "no-source" Refused "The backup does not say which instance it is of."
    BackupUnread "backup-unread" Failed "Not all of the restored content of the backup could be read."
    BackupUnusable "backup-unusable" Missing "The backup is not complete, or has failed."
    BackupDamaged "backup-damaged" Failed "The restored content of the backup can't be read to its end."
    InstanceTaken "instance-taken" Refused "The instance is there, and was not made for this restore."
    InstanceBusy "instance-busy" Refused "The instance's content is being replaced."
    NoPrimary "no-primary" Missing "The instance has no primary to work with."
    NoMember "no-member" Missing "The instance has no such member."
    NoOtherMember "no-other-member" Refused "The instance has nobody to fail over to."
    NoLease "no-lease" Refused "The instance has no Lease yet that says who leads."
    FailoverRefused "failover-refused" Refused "The members refuse the failover."
    FailoverUndone "failover-undone" Failed "The failover was undone: the former primary leads again."
    FailoverElsewhere "failover-elsewhere" Failed "Another member than the named one has become the primary."

    // SQL and logins.
    RowsLost "rows-lost" Failed "Rows that were acknowledged while something was done are not there."
    NoFile "no-file" Missing "The file can't be read."
    SqlFailed "sql-failed" Failed "PostgreSQL refused a statement, or undid what was not committed; the cause says which."
    SqlCutOff "sql-cut-off" Failed "The connection ended before the statement did."
    NoDocument "no-document" Usage "The command's output can't be a document."
    PsqlCutOff "psql-cut-off" Failed "The connection ended before psql did."
    NoPort "no-port" Failed "No port of this machine can be listened on."
    NoCredentials "no-credentials" Missing "The Secret of the service binding has no username or password."
    Passfile "passfile" Failed "The file with the password for psql can't be written."

    // Playbooks.
    NoPlaybook "no-playbook" Missing "The playbook can't be read."
    PlaybookWrong "playbook-wrong" Usage "The playbook says something that can't be run; the line is in the cause."
    PlaybookChanged "playbook-changed" Refused "The playbook is another than the one that was cut off."
    PlaybookElsewhere "playbook-elsewhere" Refused "The current context is another than that of the playbook's earlier steps."
    RunGoesOn "run-goes-on" Refused "Another run has the playbook, or the folder of the report."
    PlaybookJournal "playbook-journal" Failed "The record of how far a playbook got can't be used."

    // The conformance suite.
    NotConformant "not-conformant" Failed "Scenarios or checks of the run failed."
    ClusterLost "cluster-lost" Missing "The cluster stopped answering during the run."
    SuiteNotStarted "suite-not-started" Missing "What the suite needs to run could not be set up."
    NoPermission "no-permission" Missing "The context's user may not do what the suite has to, or is not let in."
    NoFeatures "no-features" Missing "The folder with the features can't be read."
    NoScenario "no-scenario" Failed "No scenario matches."
    NoSuchDoor "no-such-door" Usage "The scenarios can't be run through that door."
    RunsDiffer "runs-differ" Failed "The two runs differ."
    AcceptedStale "accepted-stale" Failed "Differences of runs that are accepted are not there any more."
    AcceptedWrong "accepted-wrong" Usage "The list of accepted differences has an entry that is none; the line is in the cause."
    ReportMissing "report-missing" Missing "There is no report in the folder."
    ReportDamaged "report-damaged" Missing "The report can't be read."
    ReportUnwritable "report-unwritable" Missing "The report can't be written."
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The fields `id` and `class` of the finding it identifies.
impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Id", 2)?;
        fields.serialize_field("id", self.name())?;
        fields.serialize_field("class", &self.class())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// `A9S_UPDATE_DOCS=1 cargo test -p a9s --lib findings` writes it anew.
    #[test]
    fn the_list_of_findings_is_up_to_date() {
        let by_name: BTreeMap<&str, Id> = Id::ALL.iter().map(|id| (id.name(), *id)).collect();
        assert_eq!(by_name.len(), Id::ALL.len(), "two findings have one name");
        let mut text = String::from(
            "# Findings\n\nGenerated from the program: `A9S_UPDATE_DOCS=1 cargo test -p a9s --lib findings`.\n\n\
             What a command that fails says in brackets behind the cause, ` ❌ … [no-instance]`, and in the field\n\
             `error.id` of `--output json`. An identifier never changes its exit code.\n\n\
             | finding | exit code | what it says |\n|---|---|---|\n",
        );
        for (name, id) in by_name {
            text.push_str(&format!("| `{name}` | {} | {} |\n", id.class().exit_code(), id.meaning()));
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/findings.md");
        if std::env::var_os("A9S_UPDATE_DOCS").is_some() {
            fs_err::write(&path, &text).unwrap();
        }
        assert!(
            fs_err::read_to_string(&path).unwrap_or_default() == text,
            "docs/findings.md is not what the code says"
        );
    }
}
