//! The footer: which run lies where, with a sparse index into each.

use bytes::{BufMut, Bytes, BytesMut};

use alluvium_types::{AgentEpoch, AgentId, Millis, Offset, TopicId, TopicPartition};

use crate::error::FormatError;
use crate::fields::{Fields, crc32c};
use crate::layout::{
    ChunkOrigin, HEADER_BYTES, TRAILER_BYTES, TRAILER_MAGIC, VERSION, WITHOUT_ORIGIN,
};

/// Least bytes that a run takes in the footer; bounds what a count may claim.
const RUN_ENTRY_BYTES: usize = 76;

/// Bytes of one index entry.
const INDEX_ENTRY_BYTES: usize = 24;

/// What lies where in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The runs, sorted by (partition, base offset).
    pub runs: Vec<RunEntry>,
    /// Which chunk it is; `None` in a settled object, and in objects of release 0.1.
    pub origin: Option<ChunkOrigin>,
}

/// A run of one partition's batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEntry {
    /// Whose.
    pub partition: TopicPartition,
    /// Offset of the first record; `None` in a chunk, where `Sequence` gives it.
    pub base_offset: Option<Offset>,
    /// First byte in the object.
    pub position: u64,
    /// Length in bytes.
    pub length: u64,
    /// Offsets it takes.
    pub records: u64,
    /// Number of batches.
    pub batches: u32,
    /// Greatest timestamp.
    pub max_timestamp: Millis,
    /// CRC32C of its bytes.
    pub crc: u32,
    /// An entry for the first batch and then for about every 64 KiB.
    pub index: Vec<IndexEntry>,
}

/// Points at a batch within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Offsets taken by the batches before it.
    pub records_before: u64,
    /// Its first byte, counted from the run's.
    pub position: u64,
    /// Greatest timestamp of the batches before it.
    pub max_timestamp_before: Millis,
}

impl RunEntry {
    /// Whether these are the run's bytes.
    #[must_use]
    pub fn matches_checksum(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.length && crc32c(bytes) == self.crc
    }

    /// The last indexed batch at or before the record that is `record` records into the run.
    #[must_use]
    pub fn seek_record(&self, record: u64) -> Option<IndexEntry> {
        let after = self
            .index
            .partition_point(|entry| entry.records_before <= record);
        self.index.get(after.checked_sub(1)?).copied()
    }

    /// The last indexed batch before which no record has a timestamp of `timestamp` or later.
    #[must_use]
    pub fn seek_time(&self, timestamp: Millis) -> Option<IndexEntry> {
        let after = self
            .index
            .partition_point(|entry| entry.max_timestamp_before < timestamp);
        self.index.get(after.checked_sub(1)?).copied()
    }

    /// The last indexed batch that begins at or before byte `position` of the run.
    #[must_use]
    pub fn seek_position(&self, position: u64) -> Option<IndexEntry> {
        let after = self
            .index
            .partition_point(|entry| entry.position <= position);
        self.index.get(after.checked_sub(1)?).copied()
    }
}

impl Footer {
    /// Footer and trailer as bytes.
    pub(crate) fn encode(runs: &[RunEntry], origin: Option<&ChunkOrigin>) -> Bytes {
        let entries: usize = runs.iter().map(|run| run.index.len()).sum();
        let capacity = 4 + runs.len() * RUN_ENTRY_BYTES + entries * INDEX_ENTRY_BYTES + 28 + 24;
        let mut out = BytesMut::with_capacity(capacity);
        out.put_u32(saturate(runs.len()));
        for run in runs {
            out.put_slice(&run.partition.topic.0);
            out.put_i32(run.partition.partition);
            out.put_i64(run.base_offset.unwrap_or(-1));
            out.put_u64(run.position);
            out.put_u64(run.length);
            out.put_u64(run.records);
            out.put_u32(run.batches);
            out.put_i64(run.max_timestamp);
            out.put_u32(run.crc);
            out.put_u32(0);
            out.put_u32(saturate(run.index.len()));
            for entry in &run.index {
                out.put_u64(entry.records_before);
                out.put_u64(entry.position);
                out.put_i64(entry.max_timestamp_before);
            }
        }
        if let Some(origin) = origin {
            out.put_i32(origin.agent.0);
            out.put_u64(origin.epoch.0);
            out.put_u64(origin.seal);
            out.put_i64(origin.sealed_at);
        }
        let length = saturate(out.len());
        let crc = crc32c(&out);
        let trailer_at = out.len();
        out.put_u32(length);
        out.put_u32(crc);
        out.put_u16(origin.map_or(WITHOUT_ORIGIN, |_| VERSION));
        out.put_u16(0);
        let trailer_crc = crc32c(&out[trailer_at..]);
        out.put_u32(trailer_crc);
        out.put_slice(&TRAILER_MAGIC);
        out.freeze()
    }

    /// How many bytes at the end of the object hold footer and trailer, read from the object's last
    /// [`TRAILER_BYTES`].
    ///
    /// # Errors
    /// Not an object of ours, damaged, of a later version, or longer than the object.
    pub fn tail_bytes(trailer: &[u8], object_bytes: u64) -> Result<u64, FormatError> {
        let mut fields = Fields::new(trailer, "trailer");
        let length = u64::from(fields.u32()?);
        fields.u32()?;
        let version = fields.u16()?;
        fields.u16()?;
        let crc = fields.u32()?;
        if fields.array::<8>()? != TRAILER_MAGIC {
            return Err(FormatError::NotAnObject);
        }
        if crc != crc32c(trailer.get(..12).unwrap_or_default()) {
            return Err(FormatError::Checksum("trailer"));
        }
        if version > VERSION {
            return Err(FormatError::Version {
                found: version,
                newest: VERSION,
            });
        }
        let tail = length + TRAILER_BYTES;
        if tail + HEADER_BYTES > object_bytes {
            return Err(FormatError::Damaged {
                part: "trailer",
                reason: "footer exceeds object",
            });
        }
        Ok(tail)
    }

    /// Reads the footer from the last bytes of an object: as many as [`Self::tail_bytes`] said, or
    /// more.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn parse(tail: &[u8], object_bytes: u64) -> Result<Self, FormatError> {
        let trailer_at = tail
            .len()
            .checked_sub(TRAILER_BYTES as usize)
            .ok_or(FormatError::Short("trailer"))?;
        let (rest, trailer) = tail.split_at(trailer_at);
        let wanted = Self::tail_bytes(trailer, object_bytes)?;
        let length = usize::try_from(wanted - TRAILER_BYTES).unwrap_or(usize::MAX);
        let start = rest
            .len()
            .checked_sub(length)
            .ok_or(FormatError::Short("footer"))?;
        let body = &rest[start..];
        if Fields::new(&trailer[4..], "trailer").u32()? != crc32c(body) {
            return Err(FormatError::Checksum("footer"));
        }
        let version = Fields::new(&trailer[8..], "trailer").u16()?;
        Self::parse_body(body, version, object_bytes - wanted)
    }

    fn parse_body(body: &[u8], version: u16, data_end: u64) -> Result<Self, FormatError> {
        let mut fields = Fields::new(body, "footer");
        let count = fields.count(RUN_ENTRY_BYTES)?;
        let mut runs = Vec::with_capacity(count);
        let mut position = HEADER_BYTES;
        for _ in 0..count {
            let run = Self::parse_run(&mut fields)?;
            let end = run.position.checked_add(run.length);
            if run.position != position || end.is_none_or(|end| end > data_end) {
                return Err(FormatError::Damaged {
                    part: "footer",
                    reason: "runs do not lie one after another",
                });
            }
            position = run.position + run.length;
            runs.push(run);
        }
        let origin = if version > WITHOUT_ORIGIN {
            Some(ChunkOrigin {
                agent: AgentId(fields.i32()?),
                epoch: AgentEpoch(fields.u64()?),
                seal: fields.u64()?,
                sealed_at: fields.i64()?,
            })
        } else {
            None
        };
        if position != data_end || !fields.is_empty() {
            return Err(FormatError::Damaged {
                part: "footer",
                reason: "bytes belong to no run",
            });
        }
        Ok(Self { runs, origin })
    }

    fn parse_run(fields: &mut Fields<'_>) -> Result<RunEntry, FormatError> {
        let topic = TopicId(fields.array::<16>()?);
        let partition = TopicPartition::new(topic, fields.i32()?);
        let base_offset = Some(fields.i64()?).filter(|offset| *offset >= 0);
        let position = fields.u64()?;
        let length = fields.u64()?;
        let records = fields.u64()?;
        let batches = fields.u32()?;
        let max_timestamp = fields.i64()?;
        let crc = fields.u32()?;
        fields.u32()?;
        let count = fields.count(INDEX_ENTRY_BYTES)?;
        let mut index = Vec::with_capacity(count);
        for _ in 0..count {
            let entry = IndexEntry {
                records_before: fields.u64()?,
                position: fields.u64()?,
                max_timestamp_before: fields.i64()?,
            };
            if entry.position >= length || entry.records_before >= records {
                return Err(FormatError::Damaged {
                    part: "footer",
                    reason: "an index entry points outside its run",
                });
            }
            index.push(entry);
        }
        let ascends = |a: &IndexEntry, b: &IndexEntry| {
            a.position < b.position
                && a.records_before < b.records_before
                && a.max_timestamp_before <= b.max_timestamp_before
        };
        if !index.is_sorted_by(ascends) {
            return Err(FormatError::Damaged {
                part: "footer",
                reason: "the entries of an index do not ascend",
            });
        }
        Ok(RunEntry {
            partition,
            base_offset,
            position,
            length,
            records,
            batches,
            max_timestamp,
            crc,
            index,
        })
    }

    /// The run of a partition that holds byte `position` of the object.
    #[must_use]
    pub fn run_at(&self, partition: TopicPartition, position: u64) -> Option<&RunEntry> {
        let after = self.runs.partition_point(|run| run.position <= position);
        let run = self.runs.get(after.checked_sub(1)?)?;
        (run.partition == partition && position < run.position + run.length).then_some(run)
    }

    /// About how many bytes the footer takes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let entries: usize = self.runs.iter().map(|run| run.index.capacity()).sum();
        self.runs.capacity() * size_of::<RunEntry>() + entries * size_of::<IndexEntry>()
    }
}

fn saturate(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
