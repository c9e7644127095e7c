//! Arguments that many commands share.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Args, Command, ValueEnum};

use crate::finding::{Finding, Id};
use crate::kubernetes::{Access, Target};
use crate::manifest::names::Namespace;
use crate::manifest::resource::Kind;
use crate::provider::Name as ProviderName;
use crate::steps::backup_config::Owner;

/// Arguments of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Answer every question with "yes"
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub yes: bool,

    /// Say more: every step, and what was found
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,

    /// Show the shell commands that do the same
    #[arg(long, global = true, help_heading = "Global options")]
    pub show_commands: bool,

    /// Print exactly one document of this format instead of words, or wide tables
    #[arg(short, long, global = true, value_name = "FORMAT", help_heading = "Global options")]
    pub output: Option<Format>,
}

/// Formats of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Words, and tables with all their columns
    Wide,
}

/// Arguments of commands that run a plan.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Only look: print what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// When it gives up.
    #[command(flatten)]
    pub deadline: Deadline,
}

/// How long a command may take.
#[derive(Debug, Clone, Args)]
pub struct Deadline {
    /// Give up after this time, for example 90s or 10m
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub timeout: Duration,
}

/// Arguments that name an existing cluster.
#[derive(Debug, Clone, Args)]
pub struct ClusterTarget {
    /// Use this kubeconfig file instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Use this context of the kubeconfig instead of its current one
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<String>,
}

impl ClusterTarget {
    /// The cluster that is meant.
    pub fn target(&self) -> Target {
        Target { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }

    /// Access to it, for whoever first needs it.
    pub fn access(&self) -> Arc<Access> {
        Arc::new(Access::new(self.target()))
    }

    /// Access to it, and the namespace for a command: the one that was named, else the context's.
    ///
    /// # Errors
    /// There is no context, or its namespace can't be one.
    pub async fn reach(&self, named: Option<&Namespace>) -> Result<(Arc<Access>, Namespace), Finding> {
        let access = self.access();
        let namespace = match named {
            Some(namespace) => namespace.clone(),
            None => namespace_of_context(&access.connection().await?.namespace)?,
        };
        Ok((access, namespace))
    }
}

/// The namespace that a context says.
///
/// # Errors
/// It can't be one.
pub fn namespace_of_context(text: &str) -> Result<Namespace, Finding> {
    text.parse().map_err(|why: String| {
        Finding::new(Id::BadNamespace, format!("the context's namespace {text:?} can't be used: {why}"))
    })
}

/// Arguments that name a provider and one of its clusters.
#[derive(Debug, Clone, Args)]
pub struct ProviderChoice {
    /// What makes the cluster: embedded, kind or minikube [default: $A9S_PROVIDER, else Provider in ~/.a9s, else
    /// embedded]
    #[arg(short, long, global = true, value_parser = ProviderNames, hide_possible_values = true)]
    pub provider: Option<ProviderName>,
}

/// What a person may call the kinds of custom resources: their nouns, their plurals, Kubernetes' short names.
impl ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let others: &[&str] = match self {
            Self::Instance => &["instances", "pg", "postgresql", "postgresqls"],
            Self::Backup => &["backups", "bkp"],
            Self::Restore => &["restores", "rst"],
            Self::ServiceBinding => &["servicebindings", "sb"],
        };
        Some(PossibleValue::new(self.argument()).aliases(others))
    }
}

/// Reads the name of a provider, and refuses another one in the words that the variable and the configuration get, too.
/// Shells that complete the names know them.
#[derive(Clone)]
struct ProviderNames;

impl TypedValueParser for ProviderNames {
    type Value = ProviderName;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, text: &OsStr) -> Result<ProviderName, clap::Error> {
        let parse = |text: &str| text.parse::<ProviderName>();
        parse.parse_ref(command, argument, text)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = [ProviderName::Embedded, ProviderName::Kind, ProviderName::Minikube];
        Some(Box::new(names.into_iter().map(|name| PossibleValue::new(name.as_str()))))
    }
}

/// What a person may call those who have a store for backups.
impl ValueEnum for Owner {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Minio, Self::Aws]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::Minio => ("minio", "The stack's own store"),
            Self::Aws => ("AWS", "AWS, or with --backup-store-endpoint any other that speaks S3"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

/// Parses a duration such as `90s`, `10m`, `1h 30m` or a number of seconds.
///
/// # Errors
/// Words that say what is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => text.parse::<jiff::SignedDuration>().ok().and_then(|parsed| Duration::try_from(parsed).ok()),
    };
    match parsed {
        Some(duration) if !duration.is_zero() && duration <= Duration::from_secs(7 * 24 * 3600) => Ok(duration),
        Some(_) => Err("a duration between 1ms and a week is expected".to_owned()),
        None => Err("a duration such as 90s, 10m or 1h is expected".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("90", 90_000)]
    #[case("90s", 90_000)]
    #[case("10m", 600_000)]
    #[case("1h 30m", 5_400_000)]
    #[case("250ms", 250)]
    fn durations_are_read(#[case] text: &str, #[case] milliseconds: u64) {
        assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
    }

    #[rstest]
    #[case("")]
    #[case("0")]
    #[case("-5s")]
    #[case("soon")]
    #[case("99999999h")]
    fn impossible_durations_are_refused(#[case] text: &str) {
        assert!(duration(text).is_err());
    }
}
