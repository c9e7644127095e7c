//! `a9s version`: of the program, and of what is installed on the current cluster.

use std::time::Duration;

use clap::Args;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use serde::Serialize;

use super::Session;
use super::arguments::ClusterTarget;
use crate::finding::Finding;
use crate::kubernetes::{Connection, Target, within};
use crate::manifest::resource::Kind;
use crate::steps::look::majors;

/// How long the cluster may take to answer everything.
const DEADLINE: Duration = Duration::from_secs(2);

/// Arguments of `version`.
#[derive(Debug, Args)]
pub struct Version {
    /// Only the version of this program; no cluster is asked
    #[arg(long)]
    client: bool,
    #[command(flatten)]
    cluster: ClusterTarget,
}

#[derive(Debug, Serialize)]
struct Answer {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Installed>,
}

/// What is installed on a cluster, as far as it answered.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Installed {
    context: Option<String>,
    kubernetes: Option<String>,
    stack: Option<String>,
    postgresql: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

impl Version {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let cluster = match self.client {
            true => None,
            false => Some(session.look(async { Ok(installed(&self.cluster.target()).await) })?),
        };
        let answer = Answer { version: env!("CARGO_PKG_VERSION"), commit: option_env!("A9S_COMMIT"), cluster };
        let console = &session.console;
        console.line(format!("a9s cli version: {}", answer.version));
        if let Some(commit) = answer.commit {
            console.line(format!("Based on last git commit: {commit}"));
        }
        if let Some(installed) = &answer.cluster {
            for line in installed.lines() {
                console.line(line);
            }
        }
        console.document(&answer);
        Ok(())
    }
}

impl Installed {
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(self.context.as_ref().map(|context| format!("Context: {context}")));
        lines.extend(self.kubernetes.as_ref().map(|version| format!("Kubernetes version: {version}")));
        lines.extend(self.stack.as_ref().map(|stack| format!("a8s stack: {stack}")));
        if !self.postgresql.is_empty() {
            let majors: Vec<String> = self.postgresql.iter().map(u32::to_string).collect();
            lines.push(format!("PostgreSQL majors: {}", majors.join(", ")));
        }
        lines.extend(self.trouble.as_ref().map(|trouble| format!("Cluster: {trouble}")));
        lines
    }
}

/// Asks everything at the same time; what is not answered in time is left out.
async fn installed(target: &Target) -> Installed {
    let mut answer = Installed::default();
    let connection = match target.connect().await {
        Ok(connection) => connection,
        Err(error) => {
            answer.trouble = Some(Finding::from(error).cause);
            return answer;
        }
    };
    answer.context = Some(connection.context.clone());
    let (kubernetes, stack, majors) = tokio::join!(
        within(DEADLINE, connection.client.apiserver_version()),
        within(DEADLINE, stack(&connection)),
        within(DEADLINE, majors(&connection.client))
    );
    match kubernetes {
        Ok(Ok(version)) => answer.kubernetes = Some(version.git_version),
        Ok(Err(error)) => {
            answer.trouble = Some(Finding::from(crate::kubernetes::Error::request("ask the cluster", error)).cause);
        }
        Err(_) => answer.trouble = Some(format!("no answer within {} s", DEADLINE.as_secs())),
    }
    answer.stack = stack.ok().flatten();
    answer.postgresql = majors.ok().and_then(Result::ok).unwrap_or_default();
    answer
}

async fn stack(connection: &Connection) -> Option<String> {
    let api: Api<CustomResourceDefinition> = Api::all(connection.client.clone());
    let definition = api.get_opt(&Kind::Instance.definition()).await.ok()?;
    Some(match definition {
        None => "not installed".to_owned(),
        Some(definition) => {
            let served: Vec<String> = definition
                .spec
                .versions
                .into_iter()
                .filter(|version| version.served)
                .map(|version| version.name)
                .collect();
            format!("installed ({})", served.join(", "))
        }
    })
}
