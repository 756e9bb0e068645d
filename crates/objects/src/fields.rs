//! Fields of a layout, read from bytes that may end anywhere, and the checksum over them.

use crate::error::FormatError;

/// CRC32C (Castagnoli), as Kafka's batches use it.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    truncate(crc_fast::checksum(
        crc_fast::CrcAlgorithm::Crc32Iscsi,
        bytes,
    ))
}

/// The checksum of what `crc` covers followed by `bytes`.
pub(crate) fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new_with_init_state(
        crc_fast::CrcAlgorithm::Crc32Iscsi,
        u64::from(crc ^ u32::MAX),
    );
    digest.update(bytes);
    truncate(digest.finalize())
}

fn truncate(crc: u64) -> u32 {
    u32::try_from(crc & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Reads fields from bytes that may end anywhere.
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    part: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(bytes: &'a [u8], part: &'static str) -> Self {
        Self { bytes, part }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (head, rest) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or(FormatError::Short(self.part))?;
        self.bytes = rest;
        Ok(*head)
    }

    /// A count of things of at least `each` bytes; never more than the bytes left can hold.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, FormatError> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count > self.bytes.len() / each {
            return Err(FormatError::Damaged {
                part: self.part,
                reason: "a count is too great",
            });
        }
        Ok(count)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FormatError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, FormatError> {
        self.array().map(u128::from_be_bytes)
    }
}
