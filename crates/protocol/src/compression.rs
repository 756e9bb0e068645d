//! Kafka's codecs. lz4 is the frame format, snappy has xerial framing (or none, as some clients
//! send it).
//!
//! Whatever is decompressed comes from outside: output never exceeds the stated limit, and what is
//! allocated ahead follows from the bytes that are there, not from a length among them.

use std::io::{Read, Write};

use bytes::Bytes;

use alluvium_types::ErrorCode;

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
    /// Every codec, by number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in a batch's attributes.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec with a number, if there is one.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.number() == number)
    }

    /// The codec with a name of `compression.type`, if there is one. ("producer" is none.)
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "uncompressed" => Some(Self::None),
            _ => Self::ALL.into_iter().find(|codec| codec.name() == name),
        }
    }

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
/// `CorruptMessage` for damaged data, `MessageTooLarge` when more than `limit` bytes come out.
pub fn decompress(codec: Codec, data: &Bytes, limit: usize) -> Result<Bytes, BatchError> {
    match codec {
        Codec::None if data.len() > limit => Err(too_large(codec, limit)),
        Codec::None => Ok(data.clone()),
        Codec::Gzip => read_all(
            codec,
            flate2::bufread::MultiGzDecoder::new(&data[..]),
            data.len(),
            limit,
        ),
        Codec::Snappy => snappy::decompress(data, limit),
        Codec::Lz4 => read_all(
            codec,
            lz4_flex::frame::FrameDecoder::new(&data[..]),
            data.len(),
            limit,
        ),
        Codec::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&data[..])
                .map_err(|error| damaged(codec, &error))?;
            decoder
                .window_log_max(window_log(limit))
                .map_err(|error| damaged(codec, &error))?;
            read_all(codec, decoder, data.len(), limit)
        }
    }
}

/// Compresses `data` at the codec's default level.
///
/// # Errors
/// The codec's.
pub fn compress(codec: Codec, data: &[u8]) -> Result<Bytes, BatchError> {
    let fault = |error: std::io::Error| {
        BatchError::new(
            ErrorCode::UnknownServerError,
            format!(
                "cannot compress {} bytes with {}: {error}",
                data.len(),
                codec.name()
            ),
        )
    };
    let room = Vec::with_capacity(data.len() / 2 + 64);
    match codec {
        Codec::None => Ok(Bytes::copy_from_slice(data)),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(room, flate2::Compression::default());
            encoder.write_all(data).map_err(fault)?;
            encoder.finish().map(Bytes::from).map_err(fault)
        }
        Codec::Snappy => snappy::compress(data),
        Codec::Lz4 => {
            // What Kafka's own clients write: independent blocks of 64 KiB, no checksums but the
            // header's.
            let frame = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, room);
            encoder.write_all(data).map_err(fault)?;
            encoder
                .finish()
                .map(Bytes::from)
                .map_err(|error| fault(error.into()))
        }
        Codec::Zstd => zstd::bulk::compress(data, zstd::DEFAULT_COMPRESSION_LEVEL)
            .map(Bytes::from)
            .map_err(fault),
    }
}

fn damaged(codec: Codec, error: &dyn std::fmt::Display) -> BatchError {
    BatchError::corrupt(format!("damaged {} data: {error}", codec.name()))
}

fn too_large(codec: Codec, limit: usize) -> BatchError {
    BatchError::new(
        ErrorCode::MessageTooLarge,
        format!(
            "{} data is more than {limit} bytes when decompressed",
            codec.name()
        ),
    )
}

/// The greatest zstd window (log 2 of its bytes) that `limit` bytes can need: at least 8 MiB, which
/// every decoder must offer and small frames of streaming encoders ask for, at most the 128 MiB
/// that zstd goes to unasked.
fn window_log(limit: usize) -> u32 {
    limit
        .checked_next_power_of_two()
        .map_or(27, usize::ilog2)
        .clamp(23, 27)
}

/// Reads a stream to its end or to `limit`, with room at first for four times what went in.
fn read_all(
    codec: Codec,
    stream: impl Read,
    compressed: usize,
    limit: usize,
) -> Result<Bytes, BatchError> {
    let mut out = Vec::with_capacity(compressed.saturating_mul(4).min(limit));
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    stream
        .take(one_more)
        .read_to_end(&mut out)
        .map_err(|error| damaged(codec, &error))?;
    if out.len() > limit {
        return Err(too_large(codec, limit));
    }
    Ok(Bytes::from(out))
}

/// Snappy as Java's xerial library frames it: a header of 16 bytes, then chunks, each with its
/// length in four bytes. Some clients send one bare snappy block instead.
mod snappy {
    use bytes::Bytes;

    use super::{Codec, damaged, too_large};
    use crate::batch::BatchError;

    const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
    /// Magic, version 1, oldest compatible version 1.
    const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
    /// Uncompressed bytes of one chunk: xerial's default.
    const CHUNK_BYTES: usize = 32 << 10;
    /// No snappy element makes more of its bytes: a copy of three bytes gives 64.
    const GREATEST_RATIO: usize = 22;

    pub(super) fn decompress(data: &Bytes, limit: usize) -> Result<Bytes, BatchError> {
        let mut out = Vec::new();
        if !data.starts_with(&MAGIC) {
            block(data, limit, &mut out)?;
            return Ok(Bytes::from(out));
        }
        let mut rest = &data[..];
        while !rest.is_empty() {
            // Streams may follow one another, each with its header.
            if rest.starts_with(&MAGIC) {
                rest = rest
                    .get(HEADER.len()..)
                    .ok_or_else(|| cut_short(rest.len()))?;
                continue;
            }
            let (length, after) = rest
                .split_first_chunk()
                .ok_or_else(|| cut_short(rest.len()))?;
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let chunk = after.get(..length).ok_or_else(|| cut_short(after.len()))?;
            block(chunk, limit, &mut out)?;
            rest = &after[length..];
        }
        Ok(Bytes::from(out))
    }

    fn cut_short(left: usize) -> BatchError {
        damaged(
            Codec::Snappy,
            &format_args!("a chunk is cut short with {left} bytes left"),
        )
    }

    fn block(data: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
        let fault = |error| damaged(Codec::Snappy, &error);
        let length = snap::raw::decompress_len(data).map_err(fault)?;
        if length > data.len().saturating_mul(GREATEST_RATIO) {
            return Err(damaged(
                Codec::Snappy,
                &"a block claims more than it can hold",
            ));
        }
        let start = out.len();
        if length > limit.saturating_sub(start) {
            return Err(too_large(Codec::Snappy, limit));
        }
        out.resize(start + length, 0);
        let written = snap::raw::Decoder::new()
            .decompress(data, &mut out[start..])
            .map_err(fault)?;
        out.truncate(start + written);
        Ok(())
    }

    pub(super) fn compress(data: &[u8]) -> Result<Bytes, BatchError> {
        let mut out = Vec::with_capacity(HEADER.len() + data.len() / 2 + 64);
        out.extend_from_slice(&HEADER);
        let mut encoder = snap::raw::Encoder::new();
        for chunk in data.chunks(CHUNK_BYTES) {
            let block = encoder
                .compress_vec(chunk)
                .map_err(|error| damaged(Codec::Snappy, &error))?;
            let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&block);
        }
        Ok(Bytes::from(out))
    }
}

#[cfg(test)]
mod tests;
