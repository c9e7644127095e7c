//! SQL in an instance, by `psql` in the container of its primary.
//!
//! One command in the container does it all: it takes the SQL from its standard input into a file of its own in
//! `/tmp` and runs it from there. The file loses its name before anything is written to it, so nothing is left behind
//! however this ends, unless it is to be kept. SQL is never an argument.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use a8s_operators::agent::bootstrap::{SAFE, word};
use async_trait::async_trait;
use kube::Client;

use super::primary::{self, Primary};
use crate::finding::{Finding, Id};
use crate::kubernetes::exec::{self, Container, Ended, Input, POSTGRES};
use crate::kubernetes::{Access, Error};
use crate::manifest::names::{Namespace, ObjectName};
use crate::step::{Context, Observation, Step, quoted};

/// What comes before SQL whose answer a program reads: rows one below the other, columns separated by `|`, no headings.
pub const PLAIN: &str = "\\set QUIET on\n\\pset tuples_only on\n\\pset format unaligned\n";
/// What psql says in the end where the SQL has left a transaction open. The end of the session undoes that, and psql is
/// content with it.
const LEFT_OPEN: &str = "a9s: a transaction was left open";
/// Lines of psql's errors that go into a finding.
const ERROR_LINES: usize = 8;
/// How long it may take to end it in the server: the runner waits a little longer, so that what became of it is said.
const ENDING: Duration = Duration::from_secs(4);

/// A database for `psql -d`, in which the superuser asks what is this program's own: with [`SAFE`], whatever an application has
/// set for it, and under whatever name, of which `psql` takes some for more than that (PostgreSQL manual, 34.1.1.1).
pub fn as_superuser(database: &str) -> String {
    format!("{} {}", word("dbname", database), word("options", SAFE))
}

/// Where the SQL comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A local file.
    File(PathBuf),
    /// Text.
    Statement(String),
}

/// SQL for an instance.
pub struct Query {
    /// The cluster.
    pub access: Arc<Access>,
    /// The instance.
    pub instance: ObjectName,
    /// Its namespace.
    pub namespace: Namespace,
    /// Database to run it in, as `psql -d` takes it.
    pub database: String,
    /// The SQL.
    pub source: Source,
    /// Whether the uploaded file stays in the pod.
    pub keep: bool,
    /// Where it runs, until its end is known.
    pub under_way: Mutex<Option<UnderWay>>,
}

/// SQL that runs, or is about to.
#[derive(Debug, Clone)]
pub struct UnderWay {
    pod: String,
    /// Its `application_name` in the server.
    name: String,
}

impl Query {
    /// Runs it in a pod and gives psql's standard output to `output` as it comes.
    ///
    /// # Errors
    /// The file can't be read, or psql can't be started.
    async fn run(&self, client: Client, pod: &str, output: &mut (dyn FnMut(&[u8]) + Send)) -> Result<Ended, Finding> {
        let stdin = self.open()?;
        let container = Container::postgres(self.namespace.as_str(), pod);
        let name = format!("a9s-{:016x}", rand::random::<u64>());
        let script = self.script(&name, stdin.1);
        *self.under_way() = Some(UnderWay { pod: pod.to_owned(), name });
        let ended = exec::run(client, &container, script, Some(stdin), output).await;
        // What can't be started, or uploaded, does nothing: the SQL comes after that.
        if !matches!(ended, Ok(Ended { code: None, .. })) {
            *self.under_way() = None;
        }
        ended.map_err(|error| match (error, &self.source) {
            (Error::Input { source }, Source::File(path)) => unreadable(path, source),
            (error, _) => error.into(),
        })
    }

    fn under_way(&self) -> MutexGuard<'_, Option<UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends in the server what was begun there and whose end is not known: neither psql nor the server need notice that nobody
    /// waits for them any more. Says what became of it.
    pub async fn call_off(&self) -> Option<String> {
        if sabotage::sabotaged!("sql-goes-on") {
            return None;
        }
        let UnderWay { pod, name } = self.under_way().clone()?;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'");
        let command = ["psql", "-XAtq", "-U", "postgres", "-d", &as_superuser("postgres"), "-c", &end];
        let command = command.map(str::to_owned).to_vec();
        let container = Container::postgres(self.namespace.as_str(), &pod);
        let ended = async {
            let client = self.access.client().await.ok()?;
            exec::run(client, &container, command, None, &mut |_| {}).await.ok()
        };
        let ended = tokio::time::timeout(ENDING, ended).await.ok().flatten();
        Some(match ended.and_then(|ended| ended.code) {
            Some(0) => "It was ended in the server: what it had committed stays, the rest is undone.".to_owned(),
            _ => format!("It may go on in the pod {pod}, as {name} in pg_stat_activity.application_name."),
        })
    }

    /// Runs it as a question, which begins with [`PLAIN`]. Where there is no answer yet, it is said why.
    ///
    /// # Errors
    /// There is no such instance, or the cluster can't be asked.
    pub async fn ask(&self) -> Result<Result<String, String>, Finding> {
        let client = self.access.client().await?;
        let pod = match primary::find(&client, &self.namespace, &self.instance).await? {
            Primary::Ready(pod) => pod,
            Primary::Awaited(why) => return Ok(Err(why)),
        };
        let mut answer = Vec::new();
        let mut output = |bytes: &[u8]| answer.extend_from_slice(bytes);
        let ended = match self.run(client, &pod, &mut output).await {
            // The pod may just have gone.
            Err(finding) if finding.id == Id::NotFound => return Ok(Err(finding.cause)),
            ended => ended?,
        };
        Ok(match ended.code {
            Some(0) => Ok(String::from_utf8_lossy(&answer).trim_end_matches('\n').to_owned()),
            _ => Err(self.failure(&pod, &ended).cause),
        })
    }

    /// Runs it once in the primary, for which it waits a while. Gives psql's standard output to `output` as it comes;
    /// returns the pod it was run in.
    ///
    /// # Errors
    /// There is no such instance, its primary does not come back, the cluster can't be asked, or the SQL fails.
    pub async fn carry_out(
        &self,
        context: &Context,
        output: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<String, Finding> {
        let client = self.access.client().await?;
        let pod = primary::wait_for(&client, &self.namespace, &self.instance, context.remaining(), |why| {
            context.progress(why);
        })
        .await?;
        context.command(format!(
            "kubectl exec -i -n {} {pod} -c {POSTGRES} -- psql -v ON_ERROR_STOP=1 -X -U postgres -d {} < {}",
            self.namespace,
            quoted(&self.database),
            quoted(&self.called())
        ));
        context.progress(format!("it runs in the pod {pod}"));
        let ended = self.run(client, &pod, output).await?;
        if ended.code != Some(0) && !sabotage::sabotaged!("sql-errors-are-passed-over") {
            return Err(self.failure(&pod, &ended));
        }
        if ended.stderr.lines().any(|line| line == LEFT_OPEN) {
            let cause = format!("the SQL left a transaction open in the pod {pod}, which the server has rolled back");
            return Err(Finding::new(Id::SqlFailed, cause)
                .advise("End it with COMMIT, or with ROLLBACK where nothing of it is to stay."));
        }
        // Notices and warnings of the server, which whoever wrote the SQL may have asked for.
        for line in ended.stderr.lines().filter(|line| !line.trim().is_empty()) {
            context.warn(clip(&self.rename(line)));
        }
        Ok(pod)
    }

    /// The SQL and its length in bytes.
    fn open(&self) -> Result<Input, Finding> {
        match &self.source {
            Source::Statement(text) => {
                let mut bytes = text.clone().into_bytes();
                bytes.push(b'\n');
                let length = bytes.len() as u64;
                Ok((Box::new(std::io::Cursor::new(bytes)), length))
            }
            Source::File(path) => {
                let (file, length) = open_file(path)?;
                Ok((Box::new(tokio::fs::File::from_std(file)), length))
            }
        }
    }

    fn script(&self, unique: &str, length: u64) -> Vec<String> {
        let name = match &self.source {
            Source::File(path) => safe(&path.file_name().unwrap_or_default().to_string_lossy()),
            Source::Statement(_) => "statement.sql".to_owned(),
        };
        // `head` and not `cat`: the end of standard input does not reach a container through every API server. What comes
        // after the SQL prints nothing: only a transaction that has changed something has an identifier. `open` stays on
        // where that can't be asked, as after an error that the SQL has passed over.
        let script = r#"
            umask 077
            f="/tmp/$3-$4"
            exec 3> "$f" 4< "$f" 5< "$f" || exit 74
            if [ "$5" = delete ]; then rm -f "$f"; fi
            head -c "$1" >&3 || exit 74
            [ "$(wc -c <&5)" -eq "$1" ] || { echo "a9s: the upload was cut off" >&2; exit 74; }
            export PGAPPNAME="$3"
            exec psql -v ON_ERROR_STOP=1 -X -U postgres -d "$2" -f - -f /dev/fd/6 <&4 3>&- 4<&- 5<&- 6<<END
                \set QUIET on
                \set ECHO none
                \timing off
                \set open on
                SELECT pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL AS open \gset
                \if :open
                \warn $6
                \endif
END
        "#;
        let delete = if self.keep || sabotage::sabotaged!("upload-is-left") { "keep" } else { "delete" };
        let database =
            if sabotage::sabotaged!("sql-in-another-database") { "postgres" } else { self.database.as_str() };
        let words = ["sh", "-c", script, "a9s", &length.to_string(), database, unique, &name, delete, LEFT_OPEN];
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// How the source is called in an error: the user knows their file, not the uploaded one.
    fn called(&self) -> String {
        match &self.source {
            Source::File(path) => path.display().to_string(),
            Source::Statement(_) => "statement".to_owned(),
        }
    }

    fn failure(&self, pod: &str, ended: &Ended) -> Finding {
        let mut lines: Vec<String> = ended.stderr.lines().map(|line| clip(&self.rename(line))).collect();
        let is_error = |line: &String| ["ERROR:", "FATAL:", "error:"].iter().any(|word| line.contains(word));
        let error = lines.iter().position(is_error).or_else(|| lines.iter().position(|line| !line.trim().is_empty()));
        // There may be many notices before it, and what it says in detail comes after it.
        lines.drain(..error.unwrap_or_default());
        let said = error.and_then(|_| lines.first());
        let cause = match (said, ended.code) {
            (Some(line), _) => format!("the SQL failed in the pod {pod}: {line}"),
            (None, Some(code)) => format!("psql ended with exit code {code} in the pod {pod}"),
            (None, None) => format!("the SQL was cut off in the pod {pod}: {}", ended.message),
        };
        let id = if ended.code.is_some() { Id::SqlFailed } else { Id::SqlCutOff };
        Finding::new(id, cause).with("psql", lines.into_iter().take(ERROR_LINES))
    }

    /// A failure, with what may have been done before it: each statement is a transaction of its own.
    fn advised(&self, finding: Finding) -> Finding {
        let may_be_several = match &self.source {
            Source::File(_) => true,
            // Only the server knows what is quoted in it.
            Source::Statement(text) => text.trim_end_matches(|c: char| c == ';' || c.is_whitespace()).contains(';'),
        };
        let in_a_statement = matches!(finding.id, Id::SqlFailed | Id::SqlCutOff) && finding.advice.is_empty();
        match in_a_statement && may_be_several {
            true => finding.advise("Statements before the failing one have taken effect, unless BEGIN was among them."),
            false => finding,
        }
    }

    /// psql prefixes errors with `psql:<stdin>:<line>:`.
    fn rename(&self, line: &str) -> String {
        match line.strip_prefix("psql:<stdin>:") {
            Some(rest) => format!("{}:{rest}", self.called()),
            None => line.to_owned(),
        }
    }
}

/// Opens a local file of SQL.
///
/// # Errors
/// It is not there, can't be read, or is no file.
pub fn open_file(path: &std::path::Path) -> Result<(std::fs::File, u64), Finding> {
    let failed = |why: String| {
        let finding = unreadable(path, why);
        match is_piped(path) {
            true => finding.advise("What comes from a pipe is for: a9s pg psql NAME -- -v ON_ERROR_STOP=1 -f -"),
            false => finding,
        }
    };
    let file = std::fs::File::open(crate::caller::path(path)).map_err(|error| failed(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("it is not a file".to_owned()));
    }
    Ok((file, metadata.len()))
}

fn unreadable(path: &std::path::Path, why: impl std::fmt::Display) -> Finding {
    Finding::new(Id::NoFile, format!("Can't upload file {}: {why}", path.display()))
}

/// Whether a path stands for standard input or another pipe, whose length nobody knows.
fn is_piped(path: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_fifo = |it: std::fs::Metadata| it.file_type().is_fifo();
    path == std::path::Path::new("-") || std::fs::metadata(crate::caller::path(path)).is_ok_and(is_fifo)
}

/// A file name of harmless characters, so that the uploaded file can be recognised.
fn safe(name: &str) -> String {
    let safe: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).take(60).collect();
    if safe.is_empty() { "file.sql".to_owned() } else { safe }
}

/// Garbage may come back in an error message.
fn clip(line: &str) -> String {
    line.chars().take(400).collect()
}

/// What receives psql's standard output as it comes.
pub type Output = Box<dyn FnMut(&[u8]) + Send>;

/// SQL should have been run once, in this run.
pub struct Sql {
    query: Query,
    output: Mutex<Output>,
    pod: Mutex<Option<String>>,
}

impl Sql {
    /// The step.
    pub fn new(query: Query, output: Output) -> Self {
        Self { query, output: Mutex::new(output), pod: Mutex::default() }
    }

    /// The pod it was run in, once it was.
    pub fn pod(&self) -> Option<String> {
        self.pod.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Step for Sql {
    fn id(&self) -> String {
        "sql".to_owned()
    }

    fn title(&self) -> String {
        format!("run the SQL in the instance {}", self.query.instance)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        if let Some(pod) = self.pod() {
            return Ok(Observation::satisfied(format!("it was run in the pod {pod}")));
        }
        let Query { access, instance, namespace, source, .. } = &self.query;
        if let Source::File(path) = source {
            open_file(path)?;
        }
        Ok(Observation::unmet(match primary::find(&access.client().await?, namespace, instance).await? {
            Primary::Ready(pod) => format!("it was not run yet; it would be in the pod {pod}"),
            Primary::Awaited(why) => format!("it was not run yet: {why}"),
        }))
    }

    async fn converge(&self, context: &Context) -> Result<(), Finding> {
        let mut output = |bytes: &[u8]| {
            let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
            output(bytes);
        };
        let carried_out = self.query.carry_out(context, &mut output).await;
        let pod = carried_out.map_err(|finding| self.query.advised(finding))?;
        *self.pod.lock().unwrap_or_else(PoisonError::into_inner) = Some(pod);
        Ok(())
    }

    fn is_resumed(&self) -> bool {
        false
    }

    async fn call_off(&self) -> Option<String> {
        self.query.call_off().await
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;

    use super::*;
    use crate::finding::Class;

    fn query(source: Source, keep: bool) -> Query {
        Query {
            access: Arc::default(),
            instance: "solo".parse().unwrap(),
            namespace: "default".parse().unwrap(),
            database: crate::postgres::DATABASE.to_owned(),
            source,
            keep,
            under_way: Mutex::default(),
        }
    }

    #[test]
    fn an_error_names_the_users_file_and_its_line() {
        let query = query(Source::File("posts/broken.sql".into()), false);
        let ended = Ended {
            code: Some(3),
            stderr: "psql:<stdin>:3: ERROR:  relation \"nowhere\" does not exist\nLINE 1: x\n".to_owned(),
            message: String::new(),
        };
        let finding = query.failure("solo-0", &ended);
        assert_eq!(
            finding.cause,
            "the SQL failed in the pod solo-0: posts/broken.sql:3: ERROR:  relation \"nowhere\" does not exist"
        );
        assert_eq!(finding.class(), Class::Failed);
    }

    #[test]
    fn an_error_has_its_details_whatever_was_said_before_it() {
        let query = query(Source::File("load.sql".into()), false);
        let notices = "psql:<stdin>:1: NOTICE:  table \"t\" does not exist, skipping\n".repeat(ERROR_LINES);
        let error = "psql:<stdin>:9: ERROR:  duplicate key\nDETAIL:  Key (id)=(1) already exists.\n";
        let ended = Ended { code: Some(3), stderr: notices + error, message: String::new() };
        let finding = query.failure("solo-0", &ended);
        assert_eq!(finding.cause, "the SQL failed in the pod solo-0: load.sql:9: ERROR:  duplicate key");
        assert_eq!(
            finding.evidence[0].lines,
            ["load.sql:9: ERROR:  duplicate key", "DETAIL:  Key (id)=(1) already exists."]
        );
    }

    #[test]
    fn what_several_statements_have_done_before_one_failed_is_said() {
        let advice = |id, text: &str| {
            query(Source::Statement(text.to_owned()), false).advised(Finding::new(id, "it failed")).advice
        };
        let said = ["Statements before the failing one have taken effect, unless BEGIN was among them."];
        assert_eq!(advice(Id::SqlFailed, "INSERT INTO t VALUES (1); SELECT 1/0;"), said);
        assert!(advice(Id::SqlFailed, "SELECT 1/0;\n").is_empty());
        assert!(advice(Id::NoInstance, "SELECT 1; SELECT 1/0").is_empty());
        let known = Finding::new(Id::SqlFailed, "a transaction was left open").advise("End it.");
        assert_eq!(query(Source::File("x.sql".into()), false).advised(known).advice, ["End it."]);
    }

    #[test]
    fn whoever_names_a_pipe_is_told_what_takes_it() {
        let advice = open_file(std::path::Path::new("-")).unwrap_err().advice;
        assert_eq!(advice, ["What comes from a pipe is for: a9s pg psql NAME -- -v ON_ERROR_STOP=1 -f -"]);
        assert!(open_file(std::path::Path::new("/tmp")).unwrap_err().advice.is_empty());
    }

    #[test]
    fn a_psql_that_ends_without_a_word_is_told_from_one_that_was_cut_off() {
        let query = query(Source::Statement("SELECT 1".to_owned()), false);
        let failure = |code| {
            let ended = Ended { code, stderr: String::new(), message: "the connection ended".to_owned() };
            let finding = query.failure("solo-0", &ended);
            (finding.id, finding.cause)
        };
        let killed = "psql ended with exit code 137 in the pod solo-0".to_owned();
        assert_eq!(failure(Some(137)), (Id::SqlFailed, killed));
        let cut_off = "the SQL was cut off in the pod solo-0: the connection ended".to_owned();
        assert_eq!(failure(None), (Id::SqlCutOff, cut_off));
    }

    #[tokio::test]
    async fn nothing_goes_on_of_sql_that_could_not_be_started() {
        let service = tower::service_fn(|_request: http::Request<Body>| async {
            let refusal = http::Response::builder().status(403).body(Body::from(b"{}".to_vec()));
            Ok::<_, Infallible>(refusal.unwrap())
        });
        let query = query(Source::Statement("SELECT 1".to_owned()), false);
        query.run(Client::new(service, "default"), "solo-0", &mut |_| {}).await.unwrap_err();
        assert_eq!(query.call_off().await, None);
    }

    #[test]
    fn a_file_that_is_not_there_is_missing() {
        assert_eq!(open_file(std::path::Path::new("/nowhere/x.sql")).unwrap_err().class(), Class::Missing);
        assert_eq!(open_file(std::path::Path::new("/tmp")).unwrap_err().class(), Class::Missing);
    }

    #[test]
    fn the_programs_own_questions_are_asked_with_a_path_of_the_servers_own_names() {
        let database = as_superuser(r"it's \ x");
        assert!(database.starts_with(r"dbname='it\'s \\ x' options='-c search_path= -c role=none "), "{database}");
        assert!(database.contains(r" -c default_transaction_isolation=read\\ committed "), "{database}");
    }

    #[test]
    fn sql_is_not_an_argument_and_two_uploads_have_two_names() {
        let query = query(Source::Statement("SELECT 'secret'".to_owned()), false);
        let (one, two) = (query.script("a9s-1", 10), query.script("a9s-2", 10));
        assert!(one.iter().all(|word| !word.contains("secret")));
        assert_ne!(one, two);
    }

    /// The script is run by the shell of this machine, with a `psql` that only looks whether it has both its files.
    fn run_script(keep: bool, input: &[u8], length: u64, exit: i32) -> (i32, Vec<String>) {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let psql = directory.path().join("psql");
        let looks = format!("grep -q . && for last; do :; done && grep -qF '\\warn {LEFT_OPEN}' \"$last\" || exit 9");
        fs_err::write(&psql, format!("#!/bin/sh\n{looks}\nexit {exit}\n")).unwrap();
        fs_err::set_permissions(&psql, std::fs::Permissions::from_mode(0o755)).unwrap();
        let words = query(Source::File("odd name;$(x).sql".into()), keep).script("a9s-1", length);
        let unique = words[6].clone();
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
        let mut child = std::process::Command::new(&words[0])
            .args(&words[1..])
            .env("PATH", path)
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
        let code = child.wait().unwrap().code().unwrap();
        let left = std::fs::read_dir("/tmp").unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
        (code, left.filter(|name| name.contains(&unique)).collect())
    }

    #[test]
    fn the_uploaded_file_is_gone_after_success_failure_and_a_cut_upload_and_stays_when_asked_for() {
        assert_eq!(run_script(false, b"SELECT 1;\n", 10, 0), (0, vec![]));
        assert_eq!(run_script(false, b"SELECT 1;\n", 10, 3), (3, vec![]));
        assert_eq!(run_script(false, b"SELECT", 10, 0), (74, vec![]));
        let (code, left) = run_script(true, b"SELECT 1;\n", 10, 0);
        assert_eq!((code, left.len()), (0, 1));
        assert!(left[0].ends_with("odd_name___x_.sql"), "{left:?}");
        fs_err::remove_file(format!("/tmp/{}", left[0])).unwrap();
    }
}
