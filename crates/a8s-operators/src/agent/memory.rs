//! How much memory the server takes, from the container's limit and what the machine has.

/// What a server needs beside its connections and buffers, in bytes.
const BASE: u64 = 40 << 20;
/// Shared memory per possible connection, without its locks, in bytes (measured: `shared_memory_size` by
/// `max_connections`).
const PER_CONNECTION: u64 = 22 << 10;
/// Shared memory per lock, in bytes.
const PER_LOCK: u64 = 270;
/// Taken where there is no limit, in bytes.
const UNLIMITED: u64 = 1 << 30;
const MEBIBYTE: u64 = 1 << 20;

/// The settings that follow from the limit, in kB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// `shared_buffers`: a fifth of the limit, as the released images take.
    pub shared_buffers: u64,
    /// `effective_cache_size`.
    pub effective_cache_size: u64,
    /// `maintenance_work_mem`.
    pub maintenance_work_mem: u64,
    /// `work_mem`.
    pub work_mem: u64,
}

/// The limit is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the memory limit of {limit} MiB is too small: PostgreSQL with {connections} connections and {locks} locks per \
     transaction needs at least {needed} MiB"
)]
pub struct TooSmall {
    limit: u64,
    connections: u64,
    locks: u64,
    needed: u64,
}

/// The memory of this machine in bytes, where it says so (proc(5), `/proc/meminfo`).
pub fn of_machine() -> Option<u64> {
    total(&fs_err::read_to_string("/proc/meminfo").ok()?)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// The limit that counts: nobody gets more than the machine has, whatever was allowed.
pub fn within(limit: Option<u64>, machine: Option<u64>) -> Option<u64> {
    limit.map(|limit| machine.map_or(limit, |machine| limit.min(machine)))
}

/// Divides a limit in bytes.
///
/// # Errors
/// If no server with so many connections and locks can run within it.
pub fn divide(limit: Option<u64>, connections: u64, locks: u64) -> Result<Memory, TooSmall> {
    let per_connection = PER_CONNECTION.saturating_add(locks.saturating_mul(PER_LOCK));
    let needed = BASE.saturating_add(connections.saturating_mul(per_connection));
    let limit = limit.unwrap_or_else(|| UNLIMITED.max(needed * 2));
    if limit < needed {
        let (limit, needed) = (limit / MEBIBYTE, needed.div_ceil(MEBIBYTE));
        return Err(TooSmall { limit, connections, locks, needed });
    }
    let kilobytes = |bytes: u64| bytes >> 10;
    Ok(Memory {
        shared_buffers: kilobytes(limit / 5).max(1024),
        effective_cache_size: kilobytes(limit / 2),
        maintenance_work_mem: kilobytes((limit / 16).clamp(MEBIBYTE, 1 << 30)),
        // As if a quarter of the connections sorted at the same time.
        work_mem: kilobytes((limit / connections.max(1)).clamp(MEBIBYTE, 64 << 20)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffers_are_a_fifth_of_the_limit() {
        let memory = divide(Some(200 << 20), 100, 100).expect("enough");
        assert_eq!(memory.shared_buffers, 40 << 10);
        assert_eq!(memory.work_mem, 2 << 10);
    }

    #[test]
    fn nobody_gets_more_than_the_machine_has() {
        assert_eq!(total("MemTotal:       24689764 kB\nMemFree: 1 kB\n"), Some(24_689_764 << 10));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(within(Some(8 << 60), Some(4 << 30)), Some(4 << 30));
        assert_eq!(within(Some(1 << 30), Some(4 << 30)), Some(1 << 30));
        assert_eq!(within(Some(1 << 30), None), Some(1 << 30));
        assert_eq!(within(None, Some(4 << 30)), None);
    }

    #[test]
    fn a_limit_that_cannot_work_is_refused_in_one_sentence() {
        let error = divide(Some(16 << 20), 100, 100).expect_err("too small").to_string();
        assert!(error.starts_with("the memory limit of 16 MiB is too small"), "{error}");
        assert!(divide(Some(200 << 20), 262_143, i64::MAX as u64).is_err());
        assert!(divide(None, 100, 64).is_ok());
    }
}
