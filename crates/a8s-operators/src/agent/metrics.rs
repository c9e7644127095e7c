//! The exporter: what the server says of itself, in Prometheus' text format (prometheus.io, "Exposition formats").

use super::environment::Pod;
use super::{METRICS_PORT, bootstrap, health};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Time for all queries of one scrape.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counters per database: column of `pg_stat_database`, and what it counts.
const COUNTERS: [(&str, &str); 11] = [
    ("xact_commit", "Transactions committed"),
    ("xact_rollback", "Transactions rolled back"),
    ("blks_read", "Blocks read from disk"),
    ("blks_hit", "Blocks found in the buffers"),
    ("tup_returned", "Rows read by scans"),
    ("tup_fetched", "Rows fetched by index scans"),
    ("tup_inserted", "Rows inserted"),
    ("tup_updated", "Rows updated"),
    ("tup_deleted", "Rows deleted"),
    ("temp_bytes", "Bytes written to temporary files"),
    ("deadlocks", "Deadlocks detected"),
];

/// Runs until it is told to end.
///
/// # Errors
/// If its port cannot be had.
pub async fn run(pod: Pod) -> Result<(), health::Error> {
    let listener = health::listen_in_pod(pod.address, METRICS_PORT).await?;
    tracing::info!("metrics are served on {}:{METRICS_PORT}/metrics", pod.address);
    let sockets: Rc<PathBuf> = Rc::new(pod.socket_directory);
    let answer = move |path: String| {
        let sockets = sockets.clone();
        async move {
            match path.as_str() {
                "/metrics" => page(scrape(&sockets).await),
                "/liveness" | "/readiness" | "/health" => health::status(StatusCode::OK),
                _ => health::status(StatusCode::NOT_FOUND),
            }
        }
    };
    health::serve_until_told_to_end(listener, answer).await;
    Ok(())
}

fn page(text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Everything, or only that the server does not answer.
async fn scrape(sockets: &Path) -> String {
    let ask = async {
        let client = bootstrap::connect(sockets, "a9s metrics").await?;
        read(&client).await
    };
    match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(sample)) => render(Some(&sample)),
        _ => render(None),
    }
}

/// What one scrape found.
#[derive(Debug, Default)]
struct Sample {
    version: String,
    start_time: f64,
    is_in_recovery: bool,
    databases: Vec<Database>,
}

#[derive(Debug, Default)]
struct Database {
    name: String,
    size: u64,
    backends: u64,
    counters: Vec<u64>,
}

async fn read(client: &Client) -> Result<Sample, tokio_postgres::Error> {
    let mut sample = Sample::default();
    let server = "SELECT current_setting('server_version'), extract(epoch FROM pg_postmaster_start_time()), \
                  pg_is_in_recovery()";
    for row in rows(client, server).await? {
        sample.version = text(&row, 0);
        sample.start_time = text(&row, 1).parse().unwrap_or(0.0);
        sample.is_in_recovery = text(&row, 2) == "t";
    }
    let columns: Vec<&str> = COUNTERS.iter().map(|(column, _)| *column).collect();
    let databases = format!(
        "SELECT s.datname, pg_database_size(s.datid), s.numbackends, s.{} FROM pg_stat_database s \
         JOIN pg_database d ON d.oid = s.datid WHERE NOT d.datistemplate ORDER BY 1",
        columns.join(", s.")
    );
    for row in rows(client, &databases).await? {
        let number = |column| text(&row, column).parse().unwrap_or(0);
        sample.databases.push(Database {
            name: text(&row, 0),
            size: number(1),
            backends: number(2),
            counters: (0..COUNTERS.len()).map(|i| number(i + 3)).collect(),
        });
    }
    Ok(sample)
}

async fn rows(client: &Client, query: &str) -> Result<Vec<tokio_postgres::SimpleQueryRow>, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let row = |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None };
    Ok(messages.into_iter().filter_map(row).collect())
}

fn text(row: &tokio_postgres::SimpleQueryRow, column: usize) -> String {
    row.try_get(column).ok().flatten().unwrap_or_default().to_owned()
}

fn render(sample: Option<&Sample>) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, lines: &mut dyn Iterator<Item = (String, String)>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let mut one = |name: &str, help: &str, labels: String, value: String| {
        metric(name, "gauge", help, &mut std::iter::once((labels, value)));
    };
    one("pg_up", "Whether the server answered the last query", String::new(), u8::from(sample.is_some()).to_string());
    let Some(sample) = sample else { return text };
    one("pg_static", "Version of the server", format!("{{version=\"{}\"}}", escaped(&sample.version)), "1".into());
    let help = "When the server started, in seconds since 1970";
    one("pg_postmaster_start_time_seconds", help, String::new(), sample.start_time.to_string());
    let help = "Whether the server is a standby";
    one("pg_replication_is_replica", help, String::new(), u8::from(sample.is_in_recovery).to_string());
    let of = |value: &dyn Fn(&Database) -> u64| -> Vec<(String, String)> {
        let line = |d: &Database| (format!("{{datname=\"{}\"}}", escaped(&d.name)), value(d).to_string());
        sample.databases.iter().map(line).collect()
    };
    metric("pg_database_size_bytes", "gauge", "Disk space of a database", &mut of(&|d| d.size).into_iter());
    let help = "Connections to a database";
    metric("pg_stat_database_numbackends", "gauge", help, &mut of(&|d| d.backends).into_iter());
    for (i, (column, help)) in COUNTERS.iter().enumerate() {
        let lines = of(&|d| d.counters.get(i).copied().unwrap_or(0));
        metric(&format!("pg_stat_database_{column}"), "counter", help, &mut lines.into_iter());
    }
    text
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let database = Database { name: "a\"b".into(), size: 7, backends: 1, counters: (0..11).collect() };
        let sample =
            Sample { version: "15.8".into(), start_time: 1.5, is_in_recovery: false, databases: vec![database] };
        let text = render(Some(&sample));
        assert!(
            text.starts_with("# HELP pg_up Whether the server answered the last query\n# TYPE pg_up gauge\npg_up 1\n")
        );
        assert!(text.contains("pg_database_size_bytes{datname=\"a\\\"b\"} 7\n"), "{text}");
        assert!(text.contains("# TYPE pg_stat_database_deadlocks counter\n"), "{text}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_down() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(scrape(directory.path()).await.ends_with("pg_up 0\n"));
    }
}
