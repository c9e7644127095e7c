//! Pod addresses. One is not given again while the node runs, unless the range is used up: then the one that has been
//! free for longest is.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

/// The addresses of one node's pods.
pub struct Addresses(Mutex<Pool>);

struct Pool {
    first: u32,
    last: u32,
    next: u32,
    used: BTreeSet<u32>,
    freed: VecDeque<u32>,
}

impl Addresses {
    /// The addresses from `first` to `last`.
    pub fn new((first, last): (Ipv4Addr, Ipv4Addr)) -> Self {
        let (first, last) = (first.to_bits(), last.to_bits());
        Self(Mutex::new(Pool { first, last, next: first, used: BTreeSet::new(), freed: VecDeque::new() }))
    }

    /// Takes the address a pod had before a restart of the node. False if it is out of range or another pod's.
    pub fn claim(&self, address: Ipv4Addr) -> bool {
        let mut pool = self.pool();
        let address = address.to_bits();
        if address < pool.first || address > pool.last || !pool.used.insert(address) {
            return false;
        }
        pool.next = pool.next.max(address.saturating_add(1));
        true
    }

    /// Whether the address is in use.
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        self.pool().used.contains(&address.to_bits())
    }

    /// An address nobody has; `None` when all are in use.
    pub fn allocate(&self) -> Option<Ipv4Addr> {
        let mut pool = self.pool();
        let pool = &mut *pool;
        let address = if pool.next <= pool.last {
            pool.next += 1;
            pool.next - 1
        } else {
            let oldest = std::iter::from_fn(|| pool.freed.pop_front()).find(|address| !pool.used.contains(address));
            oldest.or_else(|| (pool.first..=pool.last).find(|address| !pool.used.contains(address)))?
        };
        pool.used.insert(address);
        Some(Ipv4Addr::from_bits(address))
    }

    /// Gives an address back.
    pub fn release(&self, address: Ipv4Addr) {
        let mut pool = self.pool();
        if pool.used.remove(&address.to_bits()) {
            pool.freed.push_back(address.to_bits());
        }
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 64, 0, last)
    }

    #[test]
    fn an_address_comes_back_only_when_the_range_is_used_up() {
        let addresses = Addresses::new((address(2), address(4)));
        assert_eq!(addresses.allocate(), Some(address(2)));
        addresses.release(address(2));
        assert_eq!(addresses.allocate(), Some(address(3)));
        assert_eq!(addresses.allocate(), Some(address(4)));
        assert_eq!(addresses.allocate(), Some(address(2)));
        assert_eq!(addresses.allocate(), None);
    }

    #[test]
    fn a_claimed_address_is_nobody_elses() {
        let addresses = Addresses::new((address(2), address(5)));
        assert!(addresses.claim(address(3)));
        assert!(!addresses.claim(address(3)));
        assert!(!addresses.claim(address(9)));
        assert_eq!(addresses.allocate(), Some(address(4)));
        assert_eq!(addresses.allocate(), Some(address(5)));
        assert_eq!(addresses.allocate(), Some(address(2)), "what lies before a claimed address is not lost");
    }
}
