//! Header blocks of SPDY/3: names and values, compressed with zlib from a fixed dictionary on. One stream of compressed
//! data runs through all header blocks of a direction.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::Malformed;

/// Header names and values, in order.
pub(super) type Headers = Vec<(String, String)>;

/// More than any client sends, and little enough to be held for every stream.
const MAX_BLOCK: usize = 64 * 1024;

/// The words that the dictionary starts with, each after its length (specification, section 2.6.10.1).
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
/// What follows them.
const PHRASES: &str = "\
    100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authori\
    tative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
    Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug S\
    ept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,imag\
    e/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,\
    sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// The dictionary of the specification.
fn dictionary() -> BytesMut {
    let mut dictionary = BytesMut::new();
    for word in WORDS {
        dictionary.put_u32(u32::try_from(word.len()).unwrap_or_default());
        dictionary.put_slice(word.as_bytes());
    }
    dictionary.put_slice(PHRASES.as_bytes());
    dictionary
}

/// Reads the header blocks of one direction.
#[derive(Debug)]
pub(super) struct Decoder(Decompress);

impl Decoder {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Reads one block. After an error the direction can't be read any further.
    pub(super) fn decode(&mut self, mut compressed: &[u8]) -> Result<Headers, Malformed> {
        let mut block = Vec::with_capacity(1024);
        loop {
            if block.len() == block.capacity() {
                if block.len() >= MAX_BLOCK {
                    return Err(Malformed("a header block is too large"));
                }
                block.reserve(block.len());
            }
            let (taken, given) = (self.0.total_in(), self.0.total_out());
            let result = self.0.decompress_vec(compressed, &mut block, FlushDecompress::Sync);
            let progress =
                usize::try_from(self.0.total_in() - taken).map_err(|_| Malformed("a header block is too large"))?;
            compressed = compressed.get(progress..).unwrap_or_default();
            match result {
                Ok(Status::StreamEnd) => break,
                // Neither input nor room for more output was left, or the end of this block is reached.
                Ok(_) if compressed.is_empty() && block.len() < block.capacity() => break,
                Ok(_) if progress == 0 && self.0.total_out() == given => {
                    return Err(Malformed("a header block is cut off"));
                }
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(&dictionary())
                        .map_err(|_| Malformed("a header block of another dictionary"))?;
                }
                Err(_) => return Err(Malformed("a header block that is not compressed")),
            }
        }
        parse(Bytes::from(block))
    }
}

/// Reads names and values: a count, then each text after its length.
fn parse(mut block: Bytes) -> Result<Headers, Malformed> {
    let cut_off = Malformed("a header block is cut off");
    let count = block.try_get_u32().map_err(|_| cut_off)?;
    let mut text = || {
        let length = block.try_get_u32().map_err(|_| cut_off)? as usize;
        if length > block.remaining() {
            return Err(cut_off);
        }
        String::from_utf8(block.split_to(length).to_vec()).map_err(|_| Malformed("a header that is not text"))
    };
    // No capacity is reserved: the count is the client's word.
    let mut headers = Headers::new();
    for _ in 0..count {
        headers.push((text()?, text()?));
    }
    Ok(headers)
}

/// Writes the header blocks of one direction.
#[derive(Debug)]
pub(super) struct Encoder(Compress);

impl Encoder {
    pub(super) fn new() -> Result<Self, Malformed> {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(&dictionary()).map_err(|_| Malformed("the dictionary"))?;
        Ok(Self(compress))
    }

    /// Writes one block.
    pub(super) fn encode(&mut self, headers: &Headers) -> Result<Vec<u8>, Malformed> {
        let mut block = BytesMut::new();
        let length = |length: usize| u32::try_from(length).map_err(|_| Malformed("a header is too large"));
        block.put_u32(length(headers.len())?);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(length(text.len())?);
            block.put_slice(text.as_bytes());
        }
        let mut compressed = Vec::with_capacity(block.len() + 64);
        let mut rest = &block[..];
        loop {
            let taken = self.0.total_in();
            self.0.compress_vec(rest, &mut compressed, FlushCompress::Sync).map_err(|_| Malformed("a header block"))?;
            let progress = usize::try_from(self.0.total_in() - taken).unwrap_or(rest.len());
            rest = rest.get(progress..).unwrap_or_default();
            // Room that is left says that everything has been flushed.
            if rest.is_empty() && compressed.len() < compressed.capacity() {
                return Ok(compressed);
            }
            compressed.reserve(compressed.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The Adler-32 checksum by which zlib streams of SPDY/3 name their dictionary.
    #[test]
    fn the_dictionary_is_that_of_the_specification() {
        let (mut low, mut high) = (1u32, 0u32);
        for byte in dictionary() {
            low = (low + u32::from(byte)) % 65521;
            high = (high + low) % 65521;
        }
        assert_eq!((high << 16) | low, 0xe3c6_a7c2);
    }

    proptest! {
        #[test]
        fn blocks_of_a_direction_can_be_read_in_order(
            blocks in prop::collection::vec(prop::collection::vec(("[a-z:]{0,20}", "[ -~]{0,300}"), 0..6), 1..5)
        ) {
            let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new());
            for headers in blocks {
                let compressed = encoder.encode(&headers).unwrap();
                prop_assert_eq!(decoder.decode(&compressed).unwrap(), headers);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            let _ = Decoder::new().decode(&bytes);
            let _ = parse(bytes.into());
        }

        #[test]
        fn a_damaged_block_is_an_error_or_other_headers(at in 0usize..40, byte: u8) {
            let mut compressed = Encoder::new().unwrap().encode(&vec![("streamtype".into(), "error".into())]).unwrap();
            let at = at % compressed.len();
            compressed[at] = byte;
            let _ = Decoder::new().decode(&compressed);
        }
    }

    #[test]
    fn a_block_that_unpacks_to_too_much_is_refused() {
        let bomb = vec![("x".to_owned(), "a".repeat(4 << 20))];
        let compressed = Encoder::new().unwrap().encode(&bomb).unwrap();
        assert!(compressed.len() < 64 * 1024);
        assert_eq!(Decoder::new().decode(&compressed), Err(Malformed("a header block is too large")));
    }
}
