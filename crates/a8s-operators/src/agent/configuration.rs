//! The server's configuration files, written whole from the instance's spec. Pure: text out of values.

use super::SQL_PORT;
use super::memory::{self, Memory};
use a8s_api::{Parameters, PostgresqlSpec};
use serde_json::Value;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Settings that are the pod's own.
const LISTEN: &str = "listen_addresses";
const SOCKETS: &str = "unix_socket_directories";
/// Values below these are not applied, as in the released stack: the server could not be replicated, backed up or
/// even reached by its operator. Setting, smallest value, value taken instead.
const FLOORS: [(&str, i64, i64); 4] = [
    ("max_connections", 25, 100),
    ("max_locks_per_transaction", 32, 64),
    ("max_replication_slots", 4, 10),
    ("max_wal_senders", 3, 10),
];
/// What a standby must not have less of than its primary either, and no parameter says: a superuser does, with
/// `ALTER SYSTEM`, for the one member that they reach.
const UNASKED: [&str; 2] = ["max_prepared_transactions", "max_worker_processes"];

/// What the files are made from.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The pod's address.
    pub address: IpAddr,
    /// Directory of the socket.
    pub socket_directory: &'a Path,
    /// Directory of certificate and key.
    pub tls_directory: PathBuf,
    /// The instance's spec.
    pub spec: &'a PostgresqlSpec,
    /// The container's memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// PostgreSQL's major.
    pub major: u32,
    /// Whether the library `pg_stat_statements` is installed.
    pub has_statements: bool,
    /// Smallest values of some settings: what a standby's primary has, or of a primary what it has [itself](unasked).
    pub demands: &'a [(String, i64)],
}

/// Values of settings that PostgreSQL gets, after [`FLOORS`], without `shared_buffers`, which follows from the memory.
pub fn settings(parameters: &Parameters) -> Vec<(&'static str, Value)> {
    let effective = parameters.effective().into_iter().filter(|(parameter, _)| parameter.field != "sharedBuffers");
    effective
        .map(|(parameter, value)| {
            let floor = FLOORS.iter().find(|(setting, ..)| *setting == parameter.setting);
            match (floor, value.as_i64()) {
                (Some((_, smallest, instead)), Some(number)) if number < *smallest => {
                    (parameter.setting, Value::from(*instead))
                }
                _ => (parameter.setting, value),
            }
        })
        .collect()
}

/// Settings that are at least as large as a standby's primary demands.
fn raised(settings: Vec<(&'static str, Value)>, demands: &[(String, i64)]) -> Vec<(&'static str, Value)> {
    let raise = |(setting, value): (&'static str, Value)| {
        let demand = demands.iter().find(|(name, _)| name == setting).map_or(i64::MIN, |(_, demand)| *demand);
        let value = value.as_i64().filter(|number| *number < demand).map_or(value, |_| Value::from(demand));
        (setting, value)
    };
    settings.into_iter().map(raise).collect()
}

/// What a member keeps when it becomes the primary, of all that was demanded of it: with less, it would not start if
/// there are prepared transactions.
pub fn unasked(demands: &[(String, i64)]) -> Vec<(String, i64)> {
    demands.iter().filter(|(setting, _)| UNASKED.contains(&setting.as_str())).cloned().collect()
}

/// Whether parameters have less than a standby's primary demands, so that they cannot be applied yet.
pub fn is_below(parameters: &Parameters, demands: &[(String, i64)]) -> bool {
    let settings = settings(parameters);
    raised(settings.clone(), demands) != settings
}

/// `postgresql.conf`.
///
/// # Errors
/// If the memory limit is too small.
pub fn postgresql_conf(input: &Input<'_>) -> Result<String, memory::TooSmall> {
    let settings = raised(settings(&input.spec.parameters.clone().unwrap_or_default()), input.demands);
    let number = |name| {
        let value = settings.iter().find(|(setting, _)| *setting == name).and_then(|(_, value)| value.as_u64());
        value.unwrap_or(0)
    };
    let memory = memory::divide(input.memory_limit, number("max_connections"), number("max_locks_per_transaction"))?;
    let mut text =
        String::from("# Written by the agent at every start and change. Changes here are lost: use spec.parameters.\n");
    let mut set = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = {}", quoted(value));
    };
    fixed(&mut set, input);
    sized(&mut set, memory, input.spec);
    for (name, value) in settings.iter().filter(|_| !sabotage::sabotaged!("parameters-ignored")) {
        match value {
            Value::String(value) => set(name, value),
            other => set(name, &other.to_string()),
        }
    }
    for (name, value) in unasked(input.demands) {
        set(&name, &value.to_string());
    }
    text.push_str("include_if_exists = 'replication.conf'\n");
    Ok(text)
}

/// Where the server listens. Pods of one machine share its loopback addresses: there, only the pod's own is taken.
/// Elsewhere a port-forward arrives at the pod's 127.0.0.1.
fn listen_addresses(address: IpAddr) -> String {
    if address.is_loopback() { address.to_string() } else { format!("{address}, localhost") }
}

/// A `postgresql.conf` that an earlier pod has written, for one of this address and with this directory for sockets.
pub fn moved(text: &str, address: IpAddr, socket_directory: &Path) -> String {
    let own = [(LISTEN, listen_addresses(address)), (SOCKETS, socket_directory.to_string_lossy().into_owned())]
        .map(|(name, value)| (name, format!("{name} = {}", quoted(&value))));
    let line = |line| own.iter().find(|(name, _)| str::starts_with(line, name)).map_or(line, |(_, own)| own.as_str());
    text.lines().map(|text| format!("{}\n", line(text))).collect()
}

/// A `postgresql.conf` that was written before, for a server that must not have less than what is demanded now. Of a
/// setting, the last line counts.
pub fn with_at_least(text: &str, demands: &[(String, i64)]) -> String {
    let has = |name: &str| {
        let value = text.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
        value.trim_matches('\'').parse::<i64>().ok()
    };
    let lacking = demands.iter().filter(|(name, demand)| has(name).is_none_or(|number| number < *demand));
    lacking.fold(text.to_owned(), |text, (name, demand)| format!("{text}{name} = '{demand}'\n"))
}

fn fixed(set: &mut impl FnMut(&str, &str), input: &Input<'_>) {
    set(LISTEN, &listen_addresses(input.address));
    set("port", &SQL_PORT.to_string());
    set(SOCKETS, &input.socket_directory.to_string_lossy());
    set("unix_socket_permissions", "0700");
    set("password_encryption", "scram-sha-256");
    set("ssl", "on");
    set("ssl_cert_file", &input.tls_directory.join("server.crt").to_string_lossy());
    set("ssl_key_file", &input.tls_directory.join("server.key").to_string_lossy());
    set("wal_level", "replica");
    set("wal_log_hints", "on");
    // A server that ends waits for each standby that it knows, also for one whose machine is gone. Nobody writes then.
    set("wal_sender_timeout", "20s");
    set("hot_standby", "on");
    set("logging_collector", "off");
    set("log_destination", "stderr");
    set("log_timezone", "UTC");
    set("timezone", "UTC");
    set("lc_messages", "C");
    set("default_text_search_config", "pg_catalog.english");
    if input.major >= 14 {
        // Before a crash recovery, one flush of the file system instead of one for each of a thousand files. Only Linux has
        // that, and no server runs elsewhere.
        set("recovery_init_sync_method", "syncfs");
    }
    if input.has_statements {
        set("shared_preload_libraries", "pg_stat_statements");
    }
}

fn sized(set: &mut impl FnMut(&str, &str), memory: Memory, spec: &PostgresqlSpec) {
    let mut kilobytes = |name: &str, value: u64| set(name, &format!("{value}kB"));
    kilobytes("shared_buffers", memory.shared_buffers);
    kilobytes("effective_cache_size", memory.effective_cache_size);
    kilobytes("maintenance_work_mem", memory.maintenance_work_mem);
    kilobytes("work_mem", memory.work_mem);
    // WAL must not fill a small volume.
    let volume = spec.volume_size().value().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(1 << 30);
    kilobytes("max_wal_size", (volume / 4).clamp(64 << 20, 1 << 30) >> 10);
    kilobytes("min_wal_size", (volume / 16).clamp(32 << 20, 80 << 20) >> 10);
    // So much stays for a standby that is away, or a primary that has to be rewound, and no more for any slot.
    kilobytes("wal_keep_size", (volume / 8).clamp(64 << 20, 1 << 30) >> 10);
    kilobytes("max_slot_wal_keep_size", (volume / 4).clamp(64 << 20, 4 << 30) >> 10);
}

/// A value in quotes (PostgreSQL manual, "Parameter Interaction via the Configuration File"). Nothing in it can end
/// the line.
pub(super) fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('\'');
    for character in value.chars() {
        match character {
            '\'' => text.push_str("''"),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\0' => {}
            other => text.push(other),
        }
    }
    text.push('\'');
    text
}

/// `pg_hba.conf` of a server that lets only its own agent in.
pub const CLOSED_PG_HBA_CONF: &str = "local all all trust\nlocal replication all trust\n";

/// `pg_hba.conf`: trust on the socket only; TCP always by scram; without TLS only from the pod itself, which is where a
/// port-forward comes from. On a cluster whose pods are processes of one machine, every client's address is a
/// loopback one, and what they send does not leave the machine.
pub fn pg_hba_conf(address: IpAddr) -> String {
    let width = if address.is_ipv4() { 32 } else { 128 };
    if sabotage::sabotaged!("any-password-will-do") {
        return "local all all trust\nlocal replication all trust\nhostssl all all all trust\nhost all all all reject\n".to_owned();
    }
    if sabotage::sabotaged!("tls-not-required") {
        return "local all all trust\nlocal replication all trust\nhost all all all scram-sha-256\n".to_owned();
    }
    format!(
        "# Written by the agent at every start. Changes here are lost.\n\
         local   all          all                         trust\n\
         local   replication  all                         trust\n\
         hostssl all          all  all                    scram-sha-256\n\
         hostssl replication  all  all                    scram-sha-256\n\
         host    all          all  127.0.0.1/32           scram-sha-256\n\
         host    all          all  ::1/128                scram-sha-256\n\
         host    all          all  {address}/{width}      scram-sha-256\n\
         host    all          all  all                    reject\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(spec: Value, address: &str) -> Result<String, memory::TooSmall> {
        postgresql_conf(&Input {
            address: address.parse().expect("an address"),
            socket_directory: Path::new("/var/run/postgresql"),
            tls_directory: "/home/postgres/pgdata/tls".into(),
            spec: &serde_json::from_value(spec).expect("a spec"),
            memory_limit: Some(200 << 20),
            major: 15,
            has_statements: true,
            demands: &[],
        })
    }

    #[test]
    fn the_configuration_is_as_reviewed() {
        insta::assert_snapshot!(text(json!({"version": 15}), "127.64.0.9").expect("enough memory"));
    }

    #[test]
    fn the_configuration_of_one_pod_serves_another() {
        let of = |address: &str| text(json!({"version": 15}), address).expect("enough memory");
        let address = "10.1.2.3".parse().expect("an address");
        assert_eq!(moved(&of("127.64.0.9"), address, Path::new("/var/run/postgresql")), of("10.1.2.3"));
        let elsewhere = moved(&of("10.1.2.3"), address, Path::new("/run/x"));
        assert!(elsewhere.contains("unix_socket_directories = '/run/x'\n"), "{elsewhere}");
    }

    #[test]
    fn a_configuration_of_before_gets_what_is_demanded_now() {
        let before = "max_connections = '100'\nmax_prepared_transactions = '0'\ninclude_if_exists = 'x'\n";
        let demands =
            |prepared| [("max_connections".to_owned(), 100), ("max_prepared_transactions".to_owned(), prepared)];
        assert_eq!(with_at_least(before, &demands(0)), before);
        let raised = with_at_least(before, &demands(7));
        assert_eq!(raised, format!("{before}max_prepared_transactions = '7'\n"));
        assert_eq!(with_at_least(&raised, &demands(7)), raised);
        assert_eq!(with_at_least("", &[("max_worker_processes".to_owned(), 9)]), "max_worker_processes = '9'\n");
    }

    #[test]
    fn the_rules_for_clients_are_as_reviewed() {
        insta::assert_snapshot!(pg_hba_conf("127.64.0.9".parse().expect("an address")));
    }

    #[test]
    fn a_pod_with_a_network_of_its_own_also_listens_on_localhost() {
        let text = text(json!({"version": 15}), "10.1.2.3").expect("enough memory");
        assert!(text.contains("listen_addresses = '10.1.2.3, localhost'\n"));
    }

    #[test]
    fn a_value_cannot_add_a_setting() {
        let parameters = json!({"sslCiphers": "x'\nfsync = off\\"});
        let text = text(json!({"version": 15, "parameters": parameters}), "127.64.0.9").expect("enough memory");
        assert!(text.contains(r"ssl_ciphers = 'x''\nfsync = off\\'"), "{text}");
        assert!(!text.contains("\nfsync"), "{text}");
    }

    #[test]
    fn values_the_server_could_not_be_run_with_are_not_applied() {
        let parameters = json!({"maxConnections": 1, "maxWALSenders": 0, "maxReplicationSlots": 5});
        let text = text(json!({"version": 15, "parameters": parameters}), "127.64.0.9").expect("enough memory");
        for line in ["max_connections = '100'", "max_wal_senders = '10'", "max_replication_slots = '5'"] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn a_standby_has_at_least_what_its_primary_has() {
        let demands = [("max_connections".to_owned(), 120), ("max_wal_senders".to_owned(), 5)];
        let parameters = |number| Parameters { max_connections: Some(number), ..Parameters::default() };
        assert!(is_below(&parameters(101), &demands));
        assert!(!is_below(&parameters(121), &demands));
        let raised = raised(settings(&parameters(101)), &demands);
        assert!(raised.contains(&("max_connections", json!(120))) && raised.contains(&("max_wal_senders", json!(10))));
    }

    #[test]
    fn what_a_superuser_has_set_for_the_primary_is_set_for_a_standby() {
        let demands = [("max_connections".to_owned(), 100), ("max_prepared_transactions".to_owned(), 10)];
        let text = postgresql_conf(&Input {
            address: [127, 64, 0, 9].into(),
            socket_directory: Path::new("/s"),
            tls_directory: "/tls".into(),
            spec: &PostgresqlSpec::default(),
            memory_limit: Some(200 << 20),
            major: 15,
            has_statements: false,
            demands: &demands,
        });
        let text = text.expect("enough memory");
        assert!(text.contains("\nmax_prepared_transactions = '10'\n"), "{text}");
        assert_eq!(text.matches("max_connections").count(), 1);
        // No parameter waits for it.
        assert!(!is_below(&Parameters::default(), &demands));
        assert_eq!(unasked(&demands), demands[1..]);
    }

    #[test]
    fn more_connections_than_the_memory_allows_are_refused() {
        let parameters = json!({"maxConnections": 262_143});
        let error = text(json!({"version": 15, "parameters": parameters}), "127.64.0.9").expect_err("too many");
        assert!(error.to_string().contains("262143 connections"));
    }
}
