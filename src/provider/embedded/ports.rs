//! Ports of pods that somebody else of this machine holds.
//!
//! Pods have fixed ports on addresses of their own. Whoever listens on a port of *every* address has it on those as
//! well: no member could listen, and worse, clients of an instance would reach that other server instead.

use std::net::Ipv4Addr;

use a8s_operators::agent::{BACKUP_PORT, METRICS_PORT, REST_PORT, SQL_PORT};
use tokio::net::TcpSocket;

use crate::finding::{Finding, Id};

/// The ports of an instance's pod.
const PORTS: [u16; 4] = [SQL_PORT, REST_PORT, BACKUP_PORT, METRICS_PORT];
/// The last address of the clusters' range, which no cluster uses, and where nobody ever listens: clusters that are
/// created at once look at the same time.
const PROBE: Ipv4Addr = Ipv4Addr::new(127, 127, 255, 255);

/// Refuses a machine where one of the ports is taken on every address.
///
/// # Errors
/// It is; the finding says by whom.
pub fn check() -> Result<(), Finding> {
    match PORTS.into_iter().find(|port| is_taken(*port)) {
        Some(port) => Err(taken(port)),
        None => Ok(()),
    }
}

/// Whether somebody listens on a port of every address. Only listeners are in the way of a socket that is bound to be
/// reused (socket(7), `SO_REUSEADDR`).
fn is_taken(port: u16) -> bool {
    let bound = TcpSocket::new_v4().and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind((PROBE, port).into())
    });
    bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

fn taken(port: u16) -> Finding {
    let who =
        holder(port).map_or_else(|| "another program".to_owned(), |(pid, name)| format!("{name} (process {pid})"));
    let cause =
        format!("{who} listens on port {port} of every address of this machine, where the instances' members listen");
    Finding::new(Id::PortTaken, cause)
        .advise(format!("Let it listen on one address only, such as 127.0.0.1:{port}, or on another port."))
}

/// The process that listens on a port of every address, as far as this user may know (proc(5), `/proc/net/tcp`).
fn holder(port: u16) -> Option<(u32, String)> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| listeners(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = numbers.find(|pid| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    })?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some((pid, name.trim().to_owned()))
}

/// The inodes of the sockets that listen on a port of every address.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, number) = fields.get(1)?.split_once(':')?;
        let is_listening = *fields.get(3)? == "0A";
        let is_every = address.bytes().all(|digit| digit == b'0');
        let is_port = u16::from_str_radix(number, 16) == Ok(port);
        (is_listening && is_every && is_port).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn whoever_listens_on_every_address_is_named_and_nobody_else() {
        let every = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let port = every.local_addr().unwrap().port();
        assert!(is_taken(port));
        assert_eq!(holder(port).map(|(pid, _)| pid), Some(std::process::id()));
        let finding = taken(port);
        assert!(
            finding.cause.contains(&format!("(process {}) listens on port {port}", std::process::id())),
            "{finding}"
        );
        drop(every);
        // A program that another test starts at this moment holds it until it is one of its own.
        let begun = std::time::Instant::now();
        while is_taken(port) {
            assert!(begun.elapsed() < std::time::Duration::from_secs(10), "port {port} is still taken");
            std::thread::yield_now();
        }
        let cause = taken(port).cause;
        assert!(cause.starts_with(&format!("another program listens on port {port} of every address")), "{cause}");

        let one = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = one.local_addr().unwrap().port();
        assert!(!is_taken(port));
        assert_eq!(holder(port), None);
    }

    #[test]
    fn clusters_that_are_created_at_once_do_not_take_each_other_for_a_stranger() {
        let port = TcpListener::bind((PROBE, 0)).unwrap().local_addr().unwrap().port();
        std::thread::scope(|scope| {
            let look = || (0..500).any(|_| is_taken(port));
            let lookers: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
            assert!(lookers.into_iter().all(|looker| !looker.join().unwrap()));
        });
    }

    #[test]
    fn listeners_are_told_from_connections_and_other_addresses() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 00000000:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 11 1\n\
            1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 12 1\n\
            2: 00000000:1538 00000000:0000 01 00000000:00000000 00:00000000 00000000   101        0 13 1\n\
            3: 00000000:1539 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 14 1\n";
        assert_eq!(listeners(table, 5432), ["11"]);
    }
}
