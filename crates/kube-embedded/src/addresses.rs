//! Which loopback addresses a cluster uses.
//!
//! Each cluster owns one /20 of 127.64.0.0/10: its API server, pods and Services listen on addresses of their own, as
//! on a real network, and two clusters never meet. Linux answers on all of 127.0.0.0/8 without any set-up (ip(7)).

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;

const FIRST: u32 = u32::from_be_bytes([127, 64, 0, 0]);
const SIZE: u32 = 1 << 12;
const COUNT: u32 = 1 << 10;
/// The search for a free range begins below this one: the ranges above are for those who ask for them.
const ANYWHERE: u32 = COUNT - 64;
const FIRST_POD: u32 = 16;
const FIRST_SERVICE: u32 = SIZE / 2;

/// Why no addresses could be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every range is taken by a running cluster of this machine.
    #[error("all {COUNT} ranges of loopback addresses are in use by running clusters")]
    Exhausted,
    /// The system refused the lock.
    #[error("cannot lock a range of loopback addresses")]
    Lock(#[source] io::Error),
}

/// A range of addresses that is this process' own for as long as this value lives.
#[derive(Debug)]
pub struct AddressRange {
    index: u32,
    // An abstract socket is visible to every user of the same network namespace, as the addresses are, and the kernel
    // releases it however the process ends.
    _lock: UnixListener,
}

impl AddressRange {
    /// Claims the range `preferred`, or any free one.
    ///
    /// # Errors
    /// [`Error::Exhausted`] when there is none; [`Error::Lock`] where the system has no abstract sockets.
    pub fn claim(preferred: Option<u32>) -> Result<Self, Error> {
        // From anywhere, so that a cluster that is stopped for a while most likely finds its own range free again.
        let first = rand::random_range(0..ANYWHERE);
        let others = (0..COUNT).map(|offset| (first + offset) % COUNT);
        for index in preferred.into_iter().chain(others).filter(|index| *index < COUNT) {
            match lock(index) {
                Ok(lock) => return Ok(Self { index, _lock: lock }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(Error::Lock(error)),
            }
        }
        Err(Error::Exhausted)
    }

    /// The number by which the range can be claimed again.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Where the API server listens.
    pub fn api_server(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// First and last address for pods.
    pub fn pods(&self) -> (Ipv4Addr, Ipv4Addr) {
        (self.address(FIRST_POD), self.address(FIRST_SERVICE - 1))
    }

    /// First and last address for Services (`clusterIP`).
    pub fn services(&self) -> (Ipv4Addr, Ipv4Addr) {
        (self.address(FIRST_SERVICE), self.address(SIZE - 2))
    }

    fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(FIRST + self.index * SIZE + offset)
    }
}

#[cfg(target_os = "linux")]
fn lock(index: u32) -> io::Result<UnixListener> {
    use std::os::linux::net::SocketAddrExt;
    let name = std::os::unix::net::SocketAddr::from_abstract_name(format!("a9s/addresses/{index}"))?;
    UnixListener::bind_addr(&name)
}

/// Elsewhere there are no abstract sockets, and loopback has one address.
#[cfg(not(target_os = "linux"))]
fn lock(_: u32) -> io::Result<UnixListener> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn two_ranges_share_no_address_and_stay_inside_127_64_slash_10() {
        let one = AddressRange::claim(Some(1000)).unwrap();
        let two = AddressRange::claim(Some(1000)).unwrap();
        assert_eq!(one.index(), 1000);
        assert_ne!(two.index(), 1000);
        for range in [&one, &two] {
            assert!(range.api_server() < range.pods().0 && range.pods().1 < range.services().0);
            assert!(range.services().1 <= Ipv4Addr::new(127, 127, 255, 255));
            assert_eq!(range.api_server().octets()[2] & 0xf0, range.services().1.octets()[2] & 0xf0);
        }
    }

    #[test]
    fn a_dropped_range_is_free_again() {
        drop(AddressRange::claim(Some(1001)).unwrap());
        assert_eq!(AddressRange::claim(Some(1001)).unwrap().index(), 1001);
    }
}
