//! The wire's primitive types for the messages that are read and written by hand. Nothing here
//! trusts a length: every read is checked against the bytes that are there.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use alluvium_types::TopicId;

use crate::messages::StrBytes;
use crate::produce::TopicRef;

/// What was wrong, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    what: &'static str,
    at: usize,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// Reads a frame from front to back; what it gives out are slices of the frame.
pub(crate) struct Reader {
    bytes: Bytes,
    at: usize,
    flexible: bool,
}

impl Reader {
    pub(crate) const fn new(bytes: Bytes, flexible: bool) -> Self {
        Self {
            bytes,
            at: 0,
            flexible,
        }
    }

    pub(crate) const fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }

    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some(found) = self.bytes[self.at..].first_chunk::<N>() else {
            return Err(self.malformed("cut short"));
        };
        let found = *found;
        self.at += N;
        Ok(found)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, Malformed> {
        self.array().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    fn unsigned_varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u32;
        for shift in [0u32, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                return Err(self.malformed("overlong varint"));
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }

    fn slice(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if length > self.remaining() {
            return Err(self.malformed("a length beyond the end"));
        }
        let slice = self.bytes.slice(self.at..self.at + length);
        self.at += length;
        Ok(slice)
    }

    /// Turns a length of the wire (-1 is null) into a length.
    fn length(&self, length: i32) -> Result<Option<usize>, Malformed> {
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length)
                .map(Some)
                .map_err(|_| self.malformed("negative length")),
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, Malformed> {
        let Some(length) = self.unsigned_varint()?.checked_sub(1) else {
            return Ok(None);
        };
        usize::try_from(length)
            .map(Some)
            .map_err(|_| self.malformed("impossible length"))
    }

    pub(crate) fn nullable_string(&mut self) -> Result<Option<StrBytes>, Malformed> {
        let length = if self.flexible {
            self.compact_length()?
        } else {
            let length = self.i16()?;
            self.length(i32::from(length))?
        };
        let Some(length) = length else {
            return Ok(None);
        };
        if length > usize::from(i16::MAX.unsigned_abs()) {
            return Err(self.malformed("string longer than 32767 bytes"));
        }
        let bytes = self.slice(length)?;
        StrBytes::try_from(bytes)
            .map(Some)
            .map_err(|_| self.malformed("string is not UTF-8"))
    }

    pub(crate) fn string(&mut self) -> Result<StrBytes, Malformed> {
        self.nullable_string()?
            .ok_or_else(|| self.malformed("null where a string must be"))
    }

    pub(crate) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        let length = if self.flexible {
            self.compact_length()?
        } else {
            let length = self.i32()?;
            self.length(length)?
        };
        length.map(|length| self.slice(length)).transpose()
    }

    /// The number of elements of an array, none of which is shorter than `element` bytes.
    pub(crate) fn count(&mut self, element: usize) -> Result<usize, Malformed> {
        let count = if self.flexible {
            self.compact_length()?
        } else {
            let count = self.i32()?;
            self.length(count)?
        };
        let count = count.ok_or_else(|| self.malformed("null where an array must be"))?;
        if count > self.remaining() / element.max(1) {
            return Err(self.malformed("more elements than bytes for them"));
        }
        Ok(count)
    }

    /// A topic: its name, or its id from `id_from` on.
    pub(crate) fn topic(&mut self, by_id: bool) -> Result<TopicRef, Malformed> {
        if by_id {
            self.array().map(|id| TopicRef::Id(TopicId(id)))
        } else {
            self.string().map(TopicRef::Name)
        }
    }

    /// Passes every tagged field to `field`; one it has no use for is skipped.
    pub(crate) fn tags_with(
        &mut self,
        mut field: impl FnMut(u32, Bytes) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let length = self.unsigned_varint()?;
            let length =
                usize::try_from(length).map_err(|_| self.malformed("impossible length"))?;
            let bytes = self.slice(length)?;
            field(tag, bytes)?;
        }
        Ok(())
    }

    pub(crate) fn skip_tags(&mut self) -> Result<(), Malformed> {
        self.tags_with(|_, _| Ok(()))
    }

    pub(crate) fn finish(&self) -> Result<(), Malformed> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(self.malformed("bytes left over"))
        }
    }
}

/// Writes an answer, its first four bytes left free for the length.
pub(crate) struct Writer {
    pub(crate) buffer: BytesMut,
    flexible: bool,
}

impl Writer {
    /// Begins a frame with its response header.
    pub(crate) fn response(capacity: usize, correlation_id: i32, flexible: bool) -> Self {
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.put_i32(0);
        buffer.put_i32(correlation_id);
        let mut writer = Self { buffer, flexible };
        writer.no_tags();
        writer
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer
                .put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(u8::try_from(value).unwrap_or(0));
    }

    /// The length in front of an array or of bytes.
    pub(crate) fn length(&mut self, length: Option<usize>) {
        if self.flexible {
            let length = length.map_or(0, |length| length.saturating_add(1));
            self.unsigned_varint(u32::try_from(length).unwrap_or(u32::MAX));
        } else {
            let length = length.map_or(-1, |length| i32::try_from(length).unwrap_or(i32::MAX));
            self.buffer.put_i32(length);
        }
    }

    /// A string, cut at a character boundary to what the wire can carry.
    pub(crate) fn nullable_string(&mut self, text: Option<&str>) {
        let text = text.map(|text| &text[..text.floor_char_boundary(STRING_BYTES)]);
        if self.flexible {
            self.length(text.map(str::len));
        } else {
            let length = text.map_or(-1, |text| i16::try_from(text.len()).unwrap_or(i16::MAX));
            self.buffer.put_i16(length);
        }
        self.buffer.put_slice(text.unwrap_or_default().as_bytes());
    }

    /// A topic as the version names it. A name where an id belongs is written as the zero id, an
    /// id where a name belongs as an empty one: the caller answers as it was asked.
    pub(crate) fn topic(&mut self, topic: &TopicRef, by_id: bool) {
        match (topic, by_id) {
            (TopicRef::Id(id), true) => self.buffer.put_slice(&id.0),
            (TopicRef::Name(_), true) => self.buffer.put_slice(&TopicId::ZERO.0),
            (TopicRef::Name(name), false) => self.nullable_string(Some(name.as_str())),
            (TopicRef::Id(_), false) => self.nullable_string(Some("")),
        }
    }

    /// An empty section of tagged fields, where the version has one.
    pub(crate) fn no_tags(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        }
    }

    /// Fills in the length of the frame, `more` bytes of which are not in this buffer.
    pub(crate) fn finish(mut self, more: usize) -> Bytes {
        let length = (self.buffer.len() + more).saturating_sub(4);
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        if let Some(prefix) = self.buffer.first_chunk_mut::<4>() {
            *prefix = length.to_be_bytes();
        }
        self.buffer.freeze()
    }
}

/// Longest string of the wire (an `int16`).
const STRING_BYTES: usize = 32_767;
