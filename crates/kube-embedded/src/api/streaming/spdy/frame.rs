//! Frames of SPDY/3.1 (specification, section 2.2 on): reading them from a buffer, writing them into one.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::headers::{self, Headers};

const VERSION: u16 = 3;
const HEADER: usize = 8;
const FLAG_FIN: u8 = 1;
/// Control frames are small; data frames may be as long as their 24-bit length says.
const MAX_CONTROL: usize = 64 * 1024;

/// RST_STREAM: the stream breaks the protocol.
pub(super) const PROTOCOL_ERROR: u32 = 1;
/// RST_STREAM: nothing was done with the stream.
pub(super) const REFUSED_STREAM: u32 = 3;

/// The peer broke the protocol; the connection can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed SPDY frame: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    SynReply {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    RstStream {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last_stream: u32,
    },
    Headers {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    Data {
        stream: u32,
        data: Bytes,
        fin: bool,
    },
    /// SETTINGS, WINDOW_UPDATE and types that the specification says to ignore.
    Other,
}

/// Reads the frames of one direction.
#[derive(Debug)]
pub(super) struct Reader(headers::Decoder);

impl Reader {
    pub(super) fn new() -> Self {
        Self(headers::Decoder::new())
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Frame, Malformed> {
        let fin = flags & FLAG_FIN != 0;
        let mut number = || body.try_get_u32().map_err(|_| Malformed("a control frame is cut off"));
        Ok(match kind {
            1 => {
                let stream = number()? & STREAM_ID;
                number()?;
                // Priority and slot.
                body.try_get_u16().map_err(|_| Malformed("a control frame is cut off"))?;
                Frame::SynStream { stream, headers: self.0.decode(&body)?, fin }
            }
            2 => Frame::SynReply { stream: number()? & STREAM_ID, headers: self.0.decode(&body)?, fin },
            3 => Frame::RstStream { stream: number()? & STREAM_ID, status: number()? },
            6 => Frame::Ping { id: number()? },
            7 => Frame::GoAway { last_stream: number()? & STREAM_ID },
            8 => Frame::Headers { stream: number()? & STREAM_ID, headers: self.0.decode(&body)?, fin },
            _ => Frame::Other,
        })
    }
}

const STREAM_ID: u32 = 0x7fff_ffff;

impl Decoder for Reader {
    type Item = Frame;
    type Error = std::io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> std::io::Result<Option<Frame>> {
        let malformed = |error: Malformed| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let (mut first, mut second) = (&header[..4], &header[4..]);
        let (first, second) = (first.get_u32(), second.get_u32());
        let (is_control, flags, length) = (first > STREAM_ID, (second >> 24) as u8, (second & 0xff_ffff) as usize);
        if is_control && length > MAX_CONTROL {
            return Err(malformed(Malformed("a control frame is too large")));
        }
        if is_control && (first >> 16) as u16 & 0x7fff != VERSION {
            return Err(malformed(Malformed("another version")));
        }
        if buffer.len() < HEADER + length {
            buffer.reserve(HEADER + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(HEADER);
        let body = buffer.split_to(length).freeze();
        if is_control {
            self.control((first & 0xffff) as u16, flags, body).map(Some).map_err(malformed)
        } else {
            Ok(Some(Frame::Data { stream: first, data: body, fin: flags & FLAG_FIN != 0 }))
        }
    }
}

/// Writes the frames of one direction.
#[derive(Debug)]
pub(super) struct Writer(headers::Encoder);

impl Writer {
    pub(super) fn new() -> Result<Self, Malformed> {
        Ok(Self(headers::Encoder::new()?))
    }

    /// Appends a frame.
    pub(super) fn write(&mut self, frame: &Frame, buffer: &mut BytesMut) -> Result<(), Malformed> {
        match frame {
            Frame::SynStream { stream, headers, fin } => {
                let block = self.0.encode(headers)?;
                control(1, *fin, 10 + block.len(), buffer)?;
                buffer.put_u32(*stream);
                buffer.put_u32(0);
                buffer.put_u16(0);
                buffer.put_slice(&block);
            }
            Frame::SynReply { stream, headers, fin } => self.with_headers(2, *stream, headers, *fin, buffer)?,
            Frame::Headers { stream, headers, fin } => self.with_headers(8, *stream, headers, *fin, buffer)?,
            Frame::RstStream { stream, status } => numbers(3, &[*stream, *status], buffer)?,
            Frame::Ping { id } => numbers(6, &[*id], buffer)?,
            Frame::GoAway { last_stream } => numbers(7, &[*last_stream, 0], buffer)?,
            Frame::Data { stream, data, fin } => {
                buffer.put_u32(*stream);
                put_length(*fin, data.len(), buffer)?;
                buffer.put_slice(data);
            }
            Frame::Other => {}
        }
        Ok(())
    }

    fn with_headers(
        &mut self,
        kind: u16,
        stream: u32,
        headers: &Headers,
        fin: bool,
        buffer: &mut BytesMut,
    ) -> Result<(), Malformed> {
        let block = self.0.encode(headers)?;
        control(kind, fin, 4 + block.len(), buffer)?;
        buffer.put_u32(stream);
        buffer.put_slice(&block);
        Ok(())
    }
}

fn numbers(kind: u16, numbers: &[u32], buffer: &mut BytesMut) -> Result<(), Malformed> {
    control(kind, false, 4 * numbers.len(), buffer)?;
    numbers.iter().for_each(|number| buffer.put_u32(*number));
    Ok(())
}

fn control(kind: u16, fin: bool, length: usize, buffer: &mut BytesMut) -> Result<(), Malformed> {
    buffer.put_u16(0x8000 | VERSION);
    buffer.put_u16(kind);
    put_length(fin, length, buffer)
}

fn put_length(fin: bool, length: usize, buffer: &mut BytesMut) -> Result<(), Malformed> {
    let length =
        u32::try_from(length).ok().filter(|length| *length <= 0xff_ffff).ok_or(Malformed("a frame is too large"))?;
    buffer.put_u32(length | if fin { u32::from(FLAG_FIN) << 24 } else { 0 });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let id = || 1u32..STREAM_ID;
        let headers = || prop::collection::vec(("[a-z]{1,8}", "[ -~]{0,20}"), 0..4);
        let data = prop::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from);
        prop_oneof![
            (id(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::SynStream {
                stream,
                headers,
                fin
            }),
            (id(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::SynReply {
                stream,
                headers,
                fin
            }),
            (id(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::Headers { stream, headers, fin }),
            (id(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
            any::<u32>().prop_map(|id| Frame::Ping { id }),
            id().prop_map(|last_stream| Frame::GoAway { last_stream }),
            (id(), data, any::<bool>()).prop_map(|(stream, data, fin)| Frame::Data { stream, data, fin }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read_in_any_pieces(frames in prop::collection::vec(frames(), 1..6), piece in 1usize..40) {
            let (mut writer, mut reader) = (Writer::new().unwrap(), Reader::new());
            let mut wire = BytesMut::new();
            for frame in &frames {
                writer.write(frame, &mut wire).unwrap();
            }
            let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
            for part in wire.chunks(piece) {
                buffer.extend_from_slice(part);
                while let Some(frame) = reader.decode(&mut buffer).unwrap() {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), control: bool) {
            let mut buffer = BytesMut::from(&bytes[..]);
            if control && buffer.len() >= 4 {
                buffer[..3].copy_from_slice(&[0x80, 3, 0]);
                buffer[3] %= 10;
            }
            let mut reader = Reader::new();
            while let Ok(Some(_)) = reader.decode(&mut buffer) {}
        }
    }

    #[test]
    fn a_frame_of_another_version_or_of_absurd_length_ends_the_connection() {
        let decode = |bytes: &[u8]| Reader::new().decode(&mut BytesMut::from(bytes));
        assert!(decode(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]).is_err());
        assert!(decode(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]).is_err());
        assert!(
            decode(b"GET / HTTP/1.1\r\n\r\n").is_ok_and(|frame| frame.is_none()),
            "data of a stream, still incomplete"
        );
        assert!(decode(&[0x80, 3, 0, 3, 0, 0, 0, 1, 0]).is_err(), "too short for its type");
        assert_eq!(decode(&[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 1, 0]).unwrap(), Some(Frame::Other));
    }
}
