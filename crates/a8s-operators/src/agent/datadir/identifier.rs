//! Giving a copied data directory a system identifier of its own.
//!
//! The identifier is in `global/pg_control`, whose checksum covers it, and in the first page header of every WAL
//! segment (`xlp_sysid` of `XLogLongPageHeaderData`, src/include/access/xlog_internal.h), which no checksum covers.
//! A server that starts compares the two, and [`crate::agent::bootstrap`] asks the running server for it again. The
//! secret from which a server invents salts for users that do not exist (`mock_authentication_nonce`, the last 32
//! bytes before the checksum) is made anew as well.

use crate::postgresql::durable;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Smallest and largest offset of the checksum within `pg_control` in the supported majors, with room on both sides.
const CHECKSUM_RANGE: std::ops::Range<usize> = 200..508;
/// Bytes of the mock authentication nonce.
const NONCE: usize = 32;
/// `XLP_LONG_HEADER`.
const LONG_HEADER: u16 = 2;
/// Offset of `xlp_info` and of `xlp_sysid` in a WAL segment.
const INFO: usize = 2;
const SEGMENT_IDENTIFIER: usize = 24;

/// Why the identifier cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation.
    #[error("cannot change the system identifier in {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is not as expected.
    #[error("{path} is not what a PostgreSQL server writes")]
    Unknown {
        /// The file.
        path: PathBuf,
    },
}

/// A new identifier, as `initdb` makes them: the time in seconds, then microseconds, then what differs between
/// processes of the same moment.
pub fn random(now: std::time::SystemTime) -> u64 {
    let time = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (time.as_secs() << 32) | (u64::from(time.subsec_micros()) << 12) | u64::from(rand::random::<u16>() & 0xfff)
}

/// The identifier of a data directory.
///
/// # Errors
/// If `pg_control` cannot be read or is damaged.
pub fn read(data: &Path) -> Result<u64, Error> {
    let path = data.join("global/pg_control");
    let control = fs_err::read(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    checksum_offset(&control).ok_or(Error::Unknown { path })?;
    Ok(identifier(&control))
}

/// Changes the identifier of a data directory whose server was shut down cleanly. The changes are durable.
///
/// # Errors
/// If a file cannot be changed or is not as expected.
pub fn change(data: &Path, new: u64) -> Result<(), Error> {
    let path = data.join("global/pg_control");
    let failed = |source| Error::File { path: path.clone(), source };
    let mut control = fs_err::read(&path).map_err(failed)?;
    let old = rewrite(&mut control, new, &rand::random()).ok_or_else(|| Error::Unknown { path: path.clone() })?;
    durable::replace(&path, &control, 0o600).map_err(failed)?;
    let wal = data.join("pg_wal");
    let entries = fs_err::read_dir(&wal).map_err(|source| Error::File { path: wal.clone(), source })?;
    for entry in entries {
        let entry = entry.map_err(|source| Error::File { path: wal.clone(), source })?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            change_segment(&entry.path(), old, new)?;
        }
    }
    Ok(())
}

/// Puts identifier, nonce and checksum into the content of `pg_control`, and returns the old identifier.
fn rewrite(control: &mut [u8], new: u64, nonce: &[u8; NONCE]) -> Option<u64> {
    let offset = checksum_offset(control)?;
    let old = identifier(control);
    control[..8].copy_from_slice(&new.to_ne_bytes());
    control[offset - NONCE..offset].copy_from_slice(nonce);
    let checksum = crc32c(&control[..offset]);
    control[offset..offset + 4].copy_from_slice(&checksum.to_ne_bytes());
    Some(old)
}

fn identifier(control: &[u8]) -> u64 {
    u64::from_ne_bytes(control[..8].try_into().unwrap_or_default())
}

/// Where the checksum is: the one place whose four bytes are the checksum of all before them. It differs between majors.
fn checksum_offset(control: &[u8]) -> Option<usize> {
    let matches = |offset: &usize| {
        let stored = control.get(*offset..*offset + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        stored.is_some_and(|stored| stored == crc32c(&control[..*offset]))
    };
    CHECKSUM_RANGE.step_by(4).find(matches)
}

fn change_segment(path: &Path, old: u64, new: u64) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut file = fs_err::OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let mut header = [0; SEGMENT_IDENTIFIER + 8];
    file.read_exact(&mut header).map_err(failed)?;
    if header.iter().all(|byte| *byte == 0) {
        // A segment that was prepared for later.
        return Ok(());
    }
    let info = u16::from_ne_bytes([header[INFO], header[INFO + 1]]);
    if info & LONG_HEADER == 0 || header[SEGMENT_IDENTIFIER..] != old.to_ne_bytes() {
        return Err(Error::Unknown { path: path.to_owned() });
    }
    let offset = SEGMENT_IDENTIFIER as u64;
    file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(&new.to_ne_bytes())).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// CRC-32C, as PostgreSQL computes it (src/port/pg_crc32c_sb8.c; RFC 3720, B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    fn control(offset: usize) -> Vec<u8> {
        let mut control = vec![0; 8192];
        control[..offset].iter_mut().enumerate().for_each(|(i, byte)| *byte = u8::try_from(i % 251).expect("small"));
        let checksum = crc32c(&control[..offset]);
        control[offset..offset + 4].copy_from_slice(&checksum.to_ne_bytes());
        control
    }

    #[test]
    fn a_changed_control_file_is_consistent_wherever_its_checksum_is() {
        for offset in [288, 292, 296] {
            let mut control = control(offset);
            let before = control.clone();
            let old = rewrite(&mut control, 42, &[7; NONCE]).expect("found");
            assert_eq!(old, identifier(&before));
            assert_eq!(identifier(&control), 42);
            assert_eq!(checksum_offset(&control), Some(offset));
            assert_eq!(control[8..offset - NONCE], before[8..offset - NONCE]);
        }
    }

    #[test]
    fn a_damaged_control_file_is_refused() {
        let mut control = control(288);
        control[100] ^= 1;
        assert_eq!(rewrite(&mut control, 42, &[7; NONCE]), None);
        assert_eq!(rewrite(&mut [0; 8], 42, &[7; NONCE]), None);
    }

    #[test]
    fn identifiers_differ() {
        let now = std::time::SystemTime::now();
        let all: std::collections::BTreeSet<u64> = (0..50).map(|_| random(now)).collect();
        assert!(all.len() > 40);
    }
}
