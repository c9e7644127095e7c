//! A pod that is cut off from the API server: its packets are dropped by nftables, as a broken network drops them. Nobody
//! is told, connections stay as they are, and nothing is answered.

use std::net::IpAddr;

use super::command::said;
use super::failure::Failure;
use super::inventory::is_running;
use super::stage::Stage;

/// How the tables of runs are named; the process of the run and a number follow.
const PREFIX: &str = "a9s_e2e_";

/// As long as it lives, the pod is cut off. A rule that stays is told when the run ends.
#[derive(Debug)]
pub struct Cut {
    table: String,
}

impl Cut {
    /// Drops what comes from `pod` and goes to `port`, the API server's.
    ///
    /// # Errors
    /// nft(8) refuses.
    pub fn off(pod: IpAddr, port: u16) -> Result<Self, Failure> {
        sweep()?;
        let number = pod.to_string().replace(['.', ':'], "_");
        let table = format!("{PREFIX}{}_{number}", std::process::id());
        let family = if pod.is_ipv4() { "ip" } else { "ip6" };
        // All of it or nothing (nft(8), "transactions").
        nft(&format!(
            "add table inet {table}; \
             add chain inet {table} output {{ type filter hook output priority 0; }}; \
             add rule inet {table} output {family} saddr {pod} tcp dport {port} drop"
        ))?;
        Ok(Self { table })
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if let Err(failure) = nft(&format!("delete table inet {}", self.table)) {
            Stage::get().note_left(format!("the table {} of nftables: {failure}", self.table));
        }
    }
}

/// Whether this user of this machine can cut a pod off; if not, why.
pub fn lacking() -> Option<String> {
    nft("list tables").err().map(|_| "only root may do this, with nftables".to_owned())
}

/// Removes what runs have left that were killed: another pod may have the address now.
fn sweep() -> Result<(), Failure> {
    let listed = nft("list tables")?;
    let mut left = listed.lines().filter_map(|line| line.strip_prefix("table inet ")).filter(|table| {
        let run = table.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next());
        run.and_then(|pid| pid.parse().ok()).is_some_and(|pid| !is_running(pid))
    });
    left.try_for_each(|table| nft(&format!("delete table inet {table}")).map(drop))
}

fn nft(commands: &str) -> Result<String, Failure> {
    said("nft", &[commands])
}
