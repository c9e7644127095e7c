//! `a9s pg connect`: an instance at a port of this machine, until interrupted.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use a8s_operators::agent::SQL_PORT;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use fs_err::os::unix::fs::OpenOptionsExt;
use kube::Client;
use serde_json::json;

use super::Named;
use crate::caller;
use crate::cli::Session;
use crate::cli::arguments::ClusterTarget;
use crate::cli::session::interrupted;
use crate::finding::{Finding, Id};
use crate::manifest::names::{Namespace, ObjectName};
use crate::manifest::resource::{Kind, Reference};
use crate::postgres::DATABASE;
use crate::step::{Cancel, Event, Reporter};
use crate::steps::binding::secret;
use crate::steps::credentials::{self, Credentials};
use crate::steps::gateway::Gateway;
use crate::steps::{condition, primary, resource};

/// Arguments of `pg connect`.
#[derive(Debug, Args)]
#[command(after_help = "Ctrl-C ends it. After a failover, new connections reach the new primary.")]
pub struct Connect {
    /// The instance [default: that of --binding]
    #[arg(value_name = "NAME", required_unless_present_any = ["service_instance", "binding"],
        conflicts_with = "service_instance")]
    name: Option<ObjectName>,
    /// Service binding whose credentials are used, also one in another namespace [default: the administrator's]
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    binding: Option<Binding>,
    /// Database of the URL
    #[arg(long, value_name = "DATABASE", default_value = DATABASE, value_parser = NonEmptyStringValueParser::new())]
    database: String,
    /// Put the password into the URL also where the output is no terminal
    #[arg(long)]
    show_password: bool,
    #[command(flatten)]
    cluster: ClusterTarget,
}

/// A service binding; without a namespace, one beside its instance.
#[derive(Debug, Clone)]
struct Binding {
    namespace: Option<Namespace>,
    name: ObjectName,
}

impl Binding {
    fn reference(&self, beside: &Namespace) -> Reference {
        Reference::new(Kind::ServiceBinding, self.namespace.as_ref().unwrap_or(beside), &self.name)
    }
}

impl FromStr for Binding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace.parse()?), name),
            None => (None, text),
        };
        Ok(Self { namespace, name: name.parse()? })
    }
}

/// A file from which PostgreSQL's clients take the password. It goes when the command ends.
struct Passfile(PathBuf);

impl Drop for Passfile {
    fn drop(&mut self) {
        // It may have been removed.
        let _ = fs_err::remove_file(&self.0);
    }
}

impl Passfile {
    /// PostgreSQL manual, "The Password File". Nobody else can read it, and nobody can have put it there before.
    fn write(port: u16, credentials: &Credentials) -> Result<Self, Finding> {
        let failed = |error: std::io::Error| {
            Finding::new(Id::Passfile, format!("cannot write the file with the password: {error}"))
        };
        let directory = caller::variable("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
        let name = format!("a9s-{:016x}.pgpass", rand::random::<u64>());
        let path = directory.unwrap_or_else(std::env::temp_dir).join(name);
        let mut file =
            fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let passfile = Self(path);
        let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
        let (user, password) = (escaped(&credentials.username), escaped(&credentials.password));
        writeln!(file, "127.0.0.1:{port}:*:{user}:{password}").map_err(failed)?;
        Ok(passfile)
    }
}

impl Connect {
    pub(super) fn run(self, session: &Session, named: &Named) -> Result<(), Finding> {
        session.block_on(async |cancel| {
            let (access, namespace) = self.cluster.reach(named.namespace.as_ref()).await?;
            let client = access.client().await?;
            let binding = self.binding.as_ref().map(|binding| binding.reference(&namespace));
            let (namespace, instance) = match (named.instance(self.name.as_ref()), &binding) {
                (Err(_), Some(binding)) => bound_to(&client, binding).await?,
                (named, _) => (namespace, named?),
            };
            let credentials = credentials(&client, &namespace, &instance, binding.as_ref()).await?;
            self.serve(session, &client, &namespace, &instance, credentials, &cancel).await
        })
    }

    async fn serve(
        &self,
        session: &Session,
        client: &Client,
        namespace: &Namespace,
        instance: &ObjectName,
        credentials: Credentials,
        cancel: &Cancel,
    ) -> Result<(), Finding> {
        let pod = primary::wait_for(client, namespace, instance, Duration::MAX, |_| {}).await?;
        let gateway = Gateway::open(client.clone(), namespace.clone(), instance.clone(), Duration::MAX).await?;
        let port = gateway.port();
        session
            .progress
            .event(&Event::Command(&format!("kubectl port-forward -n {namespace} pod/{pod} {port}:{SQL_PORT}")));
        let shows = self.show_password || (session.console.words() && caller::is_read_by_a_person());
        let passfile = if shows { None } else { Some(Passfile::write(port, &credentials)?) };
        let url = url(port, &self.database, &credentials, passfile.as_ref().map(|file| file.0.as_path()));
        session.progress.clear();
        session.console.line(&url);
        if let Some(passfile) = &passfile {
            session.console.info(format!("The password is in {} while this runs.", passfile.0.display()));
        }
        session.console.document(&json!({
            "url": url, "host": "127.0.0.1", "port": port, "user": credentials.username, "database": self.database,
            "passfile": passfile.as_ref().map(|file| &file.0), "instance": instance, "namespace": namespace,
        }));
        session.console.hand_out(None);
        let progress = session.progress.clone();
        gateway.serve(cancel.clone(), move |finding| progress.event(&Event::Warning(&finding.cause))).await;
        Err(interrupted())
    }
}

/// The administrator's, or those of a service binding to the instance.
async fn credentials(
    client: &Client,
    namespace: &Namespace,
    instance: &ObjectName,
    binding: Option<&Reference>,
) -> Result<Credentials, Finding> {
    let Some(binding) = binding else {
        return credentials::of_secret(client, namespace, &credentials::administrator(instance)).await;
    };
    bound(client, binding, &Reference::new(Kind::Instance, namespace, instance)).await?;
    credentials::of_secret(client, &binding.namespace, &secret(&binding.name)).await
}

/// The instance of a service binding, with its namespace.
async fn bound_to(client: &Client, binding: &Reference) -> Result<(Namespace, ObjectName), Finding> {
    let found = resource::get(client, binding).await?.ok_or_else(|| binding.missing())?;
    let namespace = found.data["spec"]["instance"]["namespace"].as_str().unwrap_or(binding.namespace.as_str());
    let instance = (namespace.parse(), condition::instance(&found).parse());
    let (Ok(namespace), Ok(instance)) = instance else {
        return Err(Finding::new(Id::NoServiceBinding, format!("the {binding} names no instance")));
    };
    Ok((namespace, instance))
}

/// The service binding must be there, be this instance's, and be usable.
async fn bound(client: &Client, binding: &Reference, instance: &Reference) -> Result<(), Finding> {
    let found = resource::get(client, binding).await?.ok_or_else(|| binding.missing())?;
    let missing = |why: &str| Finding::new(Id::NoServiceBinding, format!("the {binding} {why}"));
    if !condition::is_for(&found, instance) {
        return Err(missing(&format!("is to another instance than {}/{}", instance.namespace, instance.name)));
    }
    match found.data["status"]["implemented"] == true {
        true => Ok(()),
        false => Err(missing("has no login yet")),
    }
}

/// A connection URI of libpq. Encryption goes all the way to the server.
fn url(port: u16, database: &str, credentials: &Credentials, passfile: Option<&Path>) -> String {
    let user = encoded(&credentials.username);
    let user = match passfile {
        None => format!("{user}:{}", encoded(&credentials.password)),
        Some(_) => user,
    };
    let passfile = passfile.map(|path| format!("&passfile={}", encoded(&path.to_string_lossy()))).unwrap_or_default();
    format!("postgresql://{user}@127.0.0.1:{port}/{}?sslmode=require{passfile}", encoded(database))
}

/// Percent-encoding of everything that is not unreserved (RFC 3986).
fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn credentials() -> Credentials {
        Credentials { username: "a8s-sb-x".to_owned(), password: "p:w\\d".to_owned() }
    }

    #[test]
    fn the_password_is_in_the_url_only_without_a_passfile() {
        assert_eq!(
            url(4000, "my db", &credentials(), None),
            "postgresql://a8s-sb-x:p%3Aw%5Cd@127.0.0.1:4000/my%20db?sslmode=require"
        );
        assert_eq!(
            url(4000, "db", &credentials(), Some(Path::new("/run/x.pgpass"))),
            "postgresql://a8s-sb-x@127.0.0.1:4000/db?sslmode=require&passfile=%2Frun%2Fx.pgpass"
        );
    }

    #[test]
    fn the_passfile_is_private_escaped_and_goes_at_the_end() {
        let passfile = Passfile::write(4000, &credentials()).unwrap();
        let path = passfile.0.clone();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "127.0.0.1:4000:*:a8s-sb-x:p\\:w\\\\d\n");
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(passfile);
        assert!(!path.exists());
    }
}
