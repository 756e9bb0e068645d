//! Kafka's codecs. lz4 is the frame format, snappy has xerial framing (or none, as some clients
//! send it).

use bytes::Bytes;

use crate::batch::BatchError;

/// A codec by its number in a batch's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// 0
    None,
    /// 1
    Gzip,
    /// 2
    Snappy,
    /// 3
    Lz4,
    /// 4
    Zstd,
}

impl Codec {
    /// The name in `compression.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Decompresses `data` to at most `limit` bytes.
///
/// # Errors
/// Damaged data, or more than `limit` bytes come out.
pub fn decompress(codec: Codec, data: &Bytes, limit: usize) -> Result<Bytes, BatchError> {
    let _ = (codec, data, limit);
    todo!()
}

/// Compresses `data` at the codec's default level.
///
/// # Errors
/// The codec's.
pub fn compress(codec: Codec, data: &[u8]) -> Result<Bytes, BatchError> {
    let _ = (codec, data);
    todo!()
}
