//! One sealed piece of a backup's stream.
//!
//! The stream is a header and records. A record is the length of what follows in four bytes, most significant first,
//! then a zstd frame sealed by AES-256-GCM. The nonces are those of the STREAM construction (Hoang, Reyhanitabar,
//! Rogaway, Vizár 2015): the record's number, and whether it is the last. So a record cannot be changed, left out,
//! repeated, put elsewhere or taken from another stream, and the stream cannot be cut off or added to.

use super::RECORD;
use super::keys::{DataKey, LENGTH};
use data_encoding::HEXLOWER;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::io::Cursor;

/// What a stream starts with.
pub const MAGIC: &[u8; 16] = b"a9s-backup/1\r\n\x1a\n";
/// Bytes of the header: [`MAGIC`] and the salt.
pub const HEADER: usize = MAGIC.len() + LENGTH;
/// Bytes of a record's length.
pub const PREFIX: usize = 4;
/// Bytes that sealing adds.
const TAG: usize = 16;
/// The most that a frame of a record can have, with room: zstd adds a few bytes to what it cannot compress.
const LARGEST: usize = RECORD + (RECORD >> 8) + 1024 + TAG;
/// The fastest of zstd's regular levels: a backup is to be as fast as its server reads.
const LEVEL: i32 = 1;

/// Why a stream is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It does not start as one.
    #[error("it does not start as a backup of format 1 does")]
    Header,
    /// It ends within a record, or before the first.
    #[error("it ends too early")]
    Truncated,
    /// A length that no record has.
    #[error("record {0} says it has a length that no record has")]
    Length(u32),
    /// It was changed, moved or cut, or the key is another.
    #[error("record {0} is not authentic: it was changed, moved or cut, or the key is another")]
    Authentication(u32),
    /// It is authentic and yet not what it should be.
    #[error("record {0} cannot be decompressed")]
    Compression(u32),
    /// More than can be counted.
    #[error("it has too many records")]
    TooLong,
}

/// Seals or opens the records of one stream.
pub struct Sealer {
    key: LessSafeKey,
}

impl Sealer {
    fn new(key: &DataKey, salt: &[u8; LENGTH]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &key.stream(salt)).expect("32 bytes are a key of AES-256");
        Self { key: LessSafeKey::new(key) }
    }

    /// For a new stream, with its header.
    pub fn create(key: &DataKey) -> (Self, [u8; HEADER]) {
        let salt: [u8; LENGTH] = rand::random();
        let mut header = [0; HEADER];
        header[..MAGIC.len()].copy_from_slice(MAGIC);
        header[MAGIC.len()..].copy_from_slice(&salt);
        (Self::new(key, &salt), header)
    }

    /// For the stream with this header.
    ///
    /// # Errors
    /// If it is no such header.
    pub fn open(key: &DataKey, header: &[u8; HEADER]) -> Result<Self, Invalid> {
        let (magic, salt) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Invalid::Header);
        }
        Ok(Self::new(key, salt.try_into().map_err(|_| Invalid::Header)?))
    }

    /// A record, with its length, of a piece of the plain stream.
    ///
    /// # Errors
    /// If the piece cannot be compressed, which only a lack of memory explains.
    pub fn seal(
        &self,
        compressor: &mut zstd::bulk::Compressor<'_>,
        number: u32,
        is_last: bool,
        plain: &[u8],
    ) -> std::io::Result<Vec<u8>> {
        let bound = PREFIX + zstd::zstd_safe::compress_bound(plain.len()) + TAG;
        let mut record = Cursor::new(Vec::with_capacity(bound));
        record.set_position(PREFIX as u64);
        compressor.compress_to_buffer(plain, &mut record)?;
        self.seal_frame(number, is_last, record.into_inner())
    }

    /// Seals the frame of a record, which stands behind room for its length.
    pub(super) fn seal_frame(&self, number: u32, is_last: bool, mut record: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let (prefix, frame) = record.split_at_mut(PREFIX);
        prefix.copy_from_slice(&u32::try_from(frame.len() + TAG).unwrap_or(u32::MAX).to_be_bytes());
        if sabotage::sabotaged!("backup-is-not-sealed") {
            record.extend_from_slice(&[0; TAG]);
            return Ok(record);
        }
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(number, is_last), Aad::empty(), frame)
            .map_err(|_| std::io::Error::other("a record is too long to be sealed"))?;
        record.extend_from_slice(tag.as_ref());
        Ok(record)
    }

    /// The piece of the plain stream in a record, which is given without its length.
    ///
    /// # Errors
    /// If the record is not the one that was sealed with this number.
    pub fn unseal(
        &self,
        decompressor: &mut zstd::bulk::Decompressor<'_>,
        number: u32,
        is_last: bool,
        mut sealed: Vec<u8>,
    ) -> Result<Vec<u8>, Invalid> {
        let frame = self
            .key
            .open_in_place(nonce(number, is_last), Aad::empty(), &mut sealed)
            .map_err(|_| Invalid::Authentication(number))?;
        decompressor.decompress(frame, RECORD).map_err(|_| Invalid::Compression(number))
    }
}

/// A compressor for records. Its frames have a checksum of their content (RFC 8878, 3.1.1): what is authentic may still
/// have been spoilt in memory before it was sealed, or be spoilt after it was opened.
///
/// # Errors
/// If there is no memory for it.
pub fn compressor<'a>() -> std::io::Result<zstd::bulk::Compressor<'a>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    Ok(compressor)
}

fn nonce(number: u32, is_last: bool) -> Nonce {
    let mut nonce = [0; ring::aead::NONCE_LEN];
    nonce[7..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(is_last);
    Nonce::assume_unique_for_key(nonce)
}

/// Which stream this header starts: its salt, in hexadecimal digits.
pub fn stream(header: &[u8; HEADER]) -> String {
    HEXLOWER.encode(&header[MAGIC.len()..])
}

/// The length in front of a record.
///
/// # Errors
/// If no record has it.
pub fn length(prefix: [u8; PREFIX], number: u32) -> Result<usize, Invalid> {
    match usize::try_from(u32::from_be_bytes(prefix)) {
        Ok(length) if (TAG..=LARGEST).contains(&length) => Ok(length),
        _ => Err(Invalid::Length(number)),
    }
}
