//! Turns batches into the parts of an object without copying them.

use bytes::Bytes;

use alluvium_types::{Millis, ObjectId, Offset, TopicPartition};

use crate::fields::crc32c_append;
use crate::footer::{Footer, IndexEntry, RunEntry};
use crate::layout::{
    ChunkOrigin, HEADER_BYTES, Header, INDEX_STRIDE_BYTES, Level, VERSION, WITHOUT_ORIGIN,
};

/// Collects runs, which must come sorted by (partition, base offset).
#[derive(Debug)]
pub struct ObjectWriter {
    header: Header,
    parts: Vec<Bytes>,
    position: u64,
    runs: Vec<RunEntry>,
    indexed_to: u64,
    origin: Option<ChunkOrigin>,
}

/// An object ready to be written.
#[derive(Clone, Debug)]
pub struct BuiltObject {
    /// Its name.
    pub object: ObjectId,
    /// Its bytes, one after another.
    pub parts: Vec<Bytes>,
    /// Its length.
    pub bytes: u64,
    /// What lies where, in the order in which the runs were added.
    pub runs: Vec<WrittenRun>,
}

/// Where a run of a built object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenRun {
    /// Whose.
    pub partition: TopicPartition,
    /// First byte.
    pub position: u64,
    /// Length in bytes.
    pub length: u64,
}

impl ObjectWriter {
    /// An empty object.
    #[must_use]
    pub fn new(object: ObjectId, level: Level, created_at: Millis) -> Self {
        Self::begin(Header {
            version: WITHOUT_ORIGIN,
            level,
            object,
            created_at,
        })
    }

    /// An empty object for a chunk, which says whose it is.
    #[must_use]
    pub fn chunk(object: ObjectId, origin: ChunkOrigin, created_at: Millis) -> Self {
        let header = Header {
            version: VERSION,
            level: Level::Chunk,
            object,
            created_at,
        };
        Self {
            origin: Some(origin),
            ..Self::begin(header)
        }
    }

    fn begin(header: Header) -> Self {
        Self {
            header,
            parts: vec![header.encode()],
            position: HEADER_BYTES,
            runs: Vec::new(),
            indexed_to: 0,
            origin: None,
        }
    }

    /// Begins the run of a partition. `base_offset` is what its first record has, `None` in a chunk.
    pub fn begin_run(&mut self, partition: TopicPartition, base_offset: Option<Offset>) {
        self.runs.push(RunEntry {
            partition,
            base_offset,
            position: self.position,
            length: 0,
            records: 0,
            batches: 0,
            max_timestamp: Millis::MIN,
            crc: 0,
            index: Vec::new(),
        });
        self.indexed_to = 0;
    }

    /// Adds a whole batch, in any number of parts, to the run begun last.
    ///
    /// # Panics
    /// Never; a batch before the first run is ignored, which is a fault of the caller.
    pub fn batch(&mut self, parts: &[Bytes], records: u32, max_timestamp: Millis) {
        debug_assert!(!self.runs.is_empty(), "a batch belongs to a run");
        let Some(run) = self.runs.last_mut() else {
            return;
        };
        run.index_batch(&mut self.indexed_to);
        for part in parts {
            run.crc = crc32c_append(run.crc, part);
            run.length += part.len() as u64;
            self.position += part.len() as u64;
            self.parts.push(part.clone());
        }
        run.count_batch(records, max_timestamp);
    }

    /// Adds whole batches that lie one after another in `bytes` to the run begun last: their lengths,
    /// the offsets that they take, and their greatest timestamps.
    ///
    /// # Panics
    /// Never; batches before the first run are ignored, and so are lengths that do not add up to
    /// `bytes`: both are faults of the caller.
    pub fn batches(&mut self, bytes: &Bytes, each: impl IntoIterator<Item = (u64, u32, Millis)>) {
        debug_assert!(!self.runs.is_empty(), "a batch belongs to a run");
        let Some(run) = self.runs.last_mut() else {
            return;
        };
        let end = run.length + bytes.len() as u64;
        for (length, records, max_timestamp) in each {
            run.index_batch(&mut self.indexed_to);
            run.length += length;
            run.count_batch(records, max_timestamp);
        }
        debug_assert_eq!(run.length, end, "batches fill their bytes");
        run.length = end;
        run.crc = crc32c_append(run.crc, bytes);
        self.position += bytes.len() as u64;
        self.parts.push(bytes.clone());
    }

    /// Bytes so far, without the footer.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.position
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Closes the object with its footer.
    #[must_use]
    pub fn finish(mut self) -> BuiltObject {
        let runs = self
            .runs
            .iter()
            .map(|run| WrittenRun {
                partition: run.partition,
                position: run.position,
                length: run.length,
            })
            .collect();
        let tail = Footer::encode(&self.runs, self.origin.as_ref());
        let bytes = self.position + tail.len() as u64;
        self.parts.push(tail);
        BuiltObject {
            object: self.header.object,
            parts: self.parts,
            bytes,
            runs,
        }
    }
}

impl RunEntry {
    /// An entry for the batch that comes next, where one is due.
    fn index_batch(&mut self, indexed_to: &mut u64) {
        if self.length >= *indexed_to {
            self.index.push(IndexEntry {
                records_before: self.records,
                position: self.length,
                max_timestamp_before: self.max_timestamp,
            });
            *indexed_to = self.length + INDEX_STRIDE_BYTES;
        }
    }

    fn count_batch(&mut self, records: u32, max_timestamp: Millis) {
        self.records += u64::from(records);
        self.batches += 1;
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }
}
