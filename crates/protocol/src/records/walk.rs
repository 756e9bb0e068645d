//! Goes through the records of a batch as they lie there, without copying or allocating.

use std::ops::Range;

use crate::batch::BatchError;

/// A record as ranges of the payload.
pub(super) struct RawRecord {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<Range<usize>>,
    pub(super) value: Option<Range<usize>>,
    header_count: i32,
    headers: Range<usize>,
    /// All its bytes, its length in front included.
    pub(super) whole: Range<usize>,
    /// Where the bytes behind its timestamp begin.
    pub(super) after_timestamp: usize,
}

/// A header's name and value, as ranges of the payload.
type RawHeader = (Range<usize>, Option<Range<usize>>);

impl RawRecord {
    /// The record's headers; the last item is an error if their count and bytes do not agree.
    pub(super) fn headers(
        &self,
        payload: &[u8],
    ) -> impl Iterator<Item = Result<RawHeader, BatchError>> {
        let mut cursor = Cursor {
            bytes: payload.get(..self.headers.end).unwrap_or_default(),
            at: self.headers.start,
        };
        let mut left = self.header_count;
        std::iter::from_fn(move || {
            if left == 0 {
                left = -1;
                return cursor.finish("headers").err().map(Err);
            }
            if left < 0 {
                return None;
            }
            left -= 1;
            let header = cursor.header();
            if header.is_err() {
                left = -1;
            }
            Some(header)
        })
    }
}

/// The records of a payload; the last item is an error if the header's count and the bytes do not
/// agree.
pub(super) struct Records<'a> {
    cursor: Cursor<'a>,
    /// -1 once the end has been told.
    left: i32,
}

impl<'a> Records<'a> {
    pub(super) fn new(payload: &'a [u8], count: i32) -> Self {
        Self {
            cursor: Cursor {
                bytes: payload,
                at: 0,
            },
            left: count.max(0),
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<RawRecord, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left < 0 {
            return None;
        }
        if self.left == 0 {
            self.left = -1;
            return self.cursor.finish("records").err().map(Err);
        }
        self.left -= 1;
        let record = self.cursor.record();
        if record.is_err() {
            self.left = -1;
        }
        Some(record)
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn invalid(&self, what: &str) -> BatchError {
        BatchError::invalid(format!("{what} at byte {} of the records", self.at))
    }

    fn finish(&self, of: &str) -> Result<(), BatchError> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.invalid(&format!("more bytes than the {of} counted")))
        }
    }

    fn varlong(&mut self) -> Result<i64, BatchError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(self.invalid("cut short"));
            };
            self.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // Zigzag: the lowest bit is the sign.
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(self.invalid("overlong number"))
    }

    fn varint(&mut self) -> Result<i32, BatchError> {
        let value = self.varlong()?;
        i32::try_from(value).map_err(|_| self.invalid("number out of range"))
    }

    /// A length and as many bytes; `None` for a length of -1.
    fn field(&mut self) -> Result<Option<Range<usize>>, BatchError> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| self.invalid("negative length"))?;
        if length > self.bytes.len() - self.at {
            return Err(self.invalid("a length beyond the end"));
        }
        let start = self.at;
        self.at += length;
        Ok(Some(start..self.at))
    }

    fn header(&mut self) -> Result<RawHeader, BatchError> {
        let name = self
            .field()?
            .ok_or_else(|| self.invalid("header without a name"))?;
        Ok((name, self.field()?))
    }

    fn record(&mut self) -> Result<RawRecord, BatchError> {
        let start = self.at;
        let body = self
            .field()?
            .ok_or_else(|| self.invalid("record of length -1"))?;
        let mut inside = Cursor {
            bytes: &self.bytes[..body.end],
            at: body.start,
        };
        // The record's attributes: one byte without a meaning so far.
        if inside.at == inside.bytes.len() {
            return Err(inside.invalid("empty record"));
        }
        inside.at += 1;
        let timestamp_delta = inside.varlong()?;
        let after_timestamp = inside.at;
        let offset_delta = inside.varint()?;
        let key = inside.field()?;
        let value = inside.field()?;
        let header_count = inside.varint()?;
        if header_count < 0 {
            return Err(inside.invalid("negative number of headers"));
        }
        let headers = inside.at..body.end;
        // Each header takes two bytes or more; without headers the record ends here.
        let most = headers.len() / 2;
        if usize::try_from(header_count).is_ok_and(|count| count > most) {
            return Err(inside.invalid("more headers than bytes for them"));
        }
        if header_count == 0 {
            inside.finish("record's fields")?;
        }
        Ok(RawRecord {
            timestamp_delta,
            offset_delta,
            key,
            value,
            header_count,
            headers,
            whole: start..body.end,
            after_timestamp,
        })
    }
}
