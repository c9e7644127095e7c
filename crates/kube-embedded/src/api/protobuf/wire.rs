//! The wire format of Protocol Buffers (protobuf.dev, "Encoding").

/// Reads the fields of one message in order.
pub struct Reader<'a>(&'a [u8]);

/// One field as it stands in the message.
pub struct Item<'a> {
    /// Its number.
    pub number: u64,
    content: Content<'a>,
}

enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field: `Some(None)` at the end, `None` where the bytes are no message.
    #[expect(clippy::option_option, reason = "the end is not an error")]
    pub fn next(&mut self) -> Option<Option<Item<'a>>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let content = match tag & 7 {
            0 => Content::Number(self.varint()?),
            1 => Content::Number(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Content::Bytes(self.take(length)?)
            }
            5 => Content::Number(u32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            _ => return None,
        };
        Some(Some(Item { number: tag >> 3, content }))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Item<'a> {
    /// The bytes of a field that has some.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self.content {
            Content::Bytes(bytes) => Some(bytes),
            Content::Number(_) => None,
        }
    }

    /// The number of a field that is one.
    pub fn number(&self) -> Option<u64> {
        match self.content {
            Content::Number(number) => Some(number),
            Content::Bytes(_) => None,
        }
    }
}
