//! A sealed chunk: its batches sorted by partition, and the forms in which it becomes durable.

use bytes::{Bytes, BytesMut};

use alluvium_metadata::{BatchStamp, ChunkRun, Location};
use alluvium_objects::{BuiltObject, ChunkOrigin, ObjectWriter};
use alluvium_types::{Millis, ObjectId, TopicPartition};

use super::buffer::Entry;
use super::submission::Waiting;

/// Smaller batches are copied together before they go into an object. A slice keeps the whole
/// buffer alive that its connection read it into, and recent chunks are kept for long.
const COPIED_BELOW: usize = 16 << 10;

/// A batch of a chunk.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) partition: TopicPartition,
    pub(super) bytes: Bytes,
    pub(super) stamp: BatchStamp,
}

/// The batches of a chunk, sorted by partition; those of one partition in the order they came.
#[derive(Clone, Debug)]
pub(super) struct Batches(Vec<Batch>);

impl Batches {
    /// Sorts, and parts what is stored from those who wait for it; both in the same order.
    pub(super) fn sort(mut entries: Vec<Entry>) -> (Self, Vec<Waiting>) {
        entries.sort_by_key(|entry| entry.partition);
        let (batches, waiting) = entries
            .into_iter()
            .map(|entry| {
                let Entry {
                    partition,
                    bytes,
                    stamp,
                    waiting,
                    ..
                } = entry;
                (
                    Batch {
                        partition,
                        bytes,
                        stamp,
                    },
                    waiting,
                )
            })
            .unzip();
        (Self(batches), waiting)
    }

    /// The partitions, in order, each once.
    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        let mut partitions: Vec<_> = self.0.iter().map(|batch| batch.partition).collect();
        partitions.dedup();
        partitions
    }

    fn runs(&self) -> impl Iterator<Item = &[Batch]> {
        self.0
            .chunk_by(|batch, next| batch.partition == next.partition)
    }

    fn chunk_runs(&self, positions: impl Iterator<Item = u64>) -> Vec<ChunkRun> {
        let run = |(batches, position): (&[Batch], u64)| {
            Some(ChunkRun {
                partition: batches.first()?.partition,
                position,
                batches: batches.iter().map(|batch| batch.stamp).collect(),
            })
        };
        self.runs().zip(positions).filter_map(run).collect()
    }

    /// The chunk inside a command: one copy, which frees the frames it came in.
    pub(super) fn inline(&self) -> (Location, Vec<ChunkRun>) {
        let mut bytes = BytesMut::with_capacity(self.bytes());
        let mut positions = Vec::new();
        for run in self.runs() {
            positions.push(bytes.len() as u64);
            for batch in run {
                bytes.extend_from_slice(&batch.bytes);
            }
        }
        let runs = self.chunk_runs(positions.into_iter());
        (Location::Inline(bytes.freeze()), runs)
    }

    /// The chunk as it lies in write-ahead buffers: its bytes, their number, and what lies where.
    pub(super) fn journal(&self) -> (Vec<Bytes>, u64, Vec<ChunkRun>) {
        let mut positions = Vec::new();
        let mut length = 0u64;
        for run in self.runs() {
            positions.push(length);
            for batch in run {
                length = length.saturating_add(batch.bytes.len() as u64);
            }
        }
        let parts = self.0.iter().map(|batch| batch.bytes.clone()).collect();
        let runs = self.chunk_runs(positions.into_iter());
        (parts, length, runs)
    }

    /// Bytes of all batches.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|batch| batch.bytes.len()).sum()
    }

    /// Puts the small batches into a buffer of their own; larger ones stay slices of their frames.
    pub(super) fn gather_small(&mut self) {
        let is_small = |batch: &&mut Batch| batch.bytes.len() < COPIED_BELOW;
        let small = || {
            self.0
                .iter()
                .map(|batch| batch.bytes.len())
                .filter(|len| *len < COPIED_BELOW)
        };
        let mut copy = BytesMut::with_capacity(small().sum());
        for batch in self
            .0
            .iter()
            .filter(|batch| batch.bytes.len() < COPIED_BELOW)
        {
            copy.extend_from_slice(&batch.bytes);
        }
        let mut copy = copy.freeze();
        for batch in self.0.iter_mut().filter(is_small) {
            batch.bytes = copy.split_to(batch.bytes.len());
        }
    }

    /// The chunk as an object of this name.
    pub(super) fn object(
        &self,
        object: ObjectId,
        origin: ChunkOrigin,
        at: Millis,
    ) -> (BuiltObject, Vec<ChunkRun>) {
        let mut writer = ObjectWriter::chunk(object, origin, at);
        for run in self.runs() {
            if let Some(first) = run.first() {
                writer.begin_run(first.partition, None);
            }
            for Batch { bytes, stamp, .. } in run {
                writer.batch(
                    std::slice::from_ref(bytes),
                    stamp.records,
                    stamp.max_timestamp,
                );
            }
        }
        let built = writer.finish();
        let runs = self.chunk_runs(built.runs.iter().map(|run| run.position));
        (built, runs)
    }
}

#[cfg(test)]
mod tests {
    use alluvium_objects::Footer;
    use alluvium_types::{AgentEpoch, AgentId, TopicId};

    use super::*;

    fn batch(partition: i32, bytes: Bytes) -> Batch {
        let stamp = BatchStamp {
            bytes: u32::try_from(bytes.len()).unwrap(),
            records: 2,
            max_timestamp: 7,
            producer: None,
        };
        Batch {
            partition: TopicPartition::new(TopicId([1; 16]), partition),
            bytes,
            stamp,
        }
    }

    #[test]
    fn small_batches_let_go_of_the_frame_they_came_in_and_large_ones_stay_slices() {
        let frame = Bytes::from(vec![3; 100_000]);
        let pieces = [0..100, 100..40_100, 40_100..40_300];
        let mut batches = Batches(
            pieces
                .iter()
                .map(|range| batch(0, frame.slice(range.clone())))
                .collect(),
        );
        batches.gather_small();
        let within = |bytes: &Bytes| frame.as_ptr_range().contains(&bytes.as_ptr());
        let kept: Vec<_> = batches.0.iter().map(|batch| within(&batch.bytes)).collect();
        assert_eq!(kept, [false, true, false]);
        for (batch, range) in batches.0.iter().zip(pieces) {
            assert_eq!(batch.bytes, frame.slice(range));
        }
    }

    #[test]
    fn both_forms_of_a_chunk_say_where_its_batches_lie() {
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        let batches = Batches(vec![
            batch(0, text("aaa")),
            batch(0, text("bb")),
            batch(4, text("cccc")),
            batch(5, text("d")),
        ]);
        let origin = ChunkOrigin {
            agent: AgentId(2),
            epoch: AgentEpoch(1),
            seal: 9,
            sealed_at: 1,
        };
        let (location, runs) = batches.inline();
        assert_eq!(location, Location::Inline(text("aaabbccccd")));
        let positions: Vec<_> = runs.iter().map(|run| run.position).collect();
        assert_eq!(positions, [0, 5, 9]);
        assert_eq!(runs[0].batches.len(), 2);
        let (parts, length, journal_runs) = batches.journal();
        assert_eq!(parts.concat(), b"aaabbccccd");
        assert_eq!((length, journal_runs), (10, runs));
        let (built, runs) = batches.object(ObjectId(3), origin, 1);
        let object = built.parts.concat();
        let footer = Footer::parse(&object, built.bytes).unwrap();
        assert_eq!(footer.origin, Some(origin));
        for (run, entry) in runs.iter().zip(&footer.runs) {
            assert_eq!(
                (run.partition, run.position),
                (entry.partition, entry.position)
            );
            assert_eq!(run.batches.len(), entry.batches as usize);
        }
        let last = usize::try_from(runs[2].position).unwrap();
        assert_eq!(object[last], b'd');
    }
}
