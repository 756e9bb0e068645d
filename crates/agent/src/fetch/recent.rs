//! Chunks that were just written, so that readers at the tail never go to the store.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use alluvium_metadata::JournalChunkId;
use alluvium_types::ObjectId;
use alluvium_types::hash::HashMap;

/// Recently written chunks, in memory, the oldest making room for the newest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recent {
    objects: Arc<RwLock<Objects>>,
}

#[derive(Debug)]
struct Objects {
    capacity: u64,
    bytes: u64,
    by_id: HashMap<Written, Arc<Parts>>,
    oldest_first: VecDeque<Written>,
}

/// What was written, and to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Written {
    Object(ObjectId),
    Journal(JournalChunkId),
}

/// An object's parts, each with the position at which it ends.
#[derive(Debug)]
struct Parts {
    bytes: u64,
    parts: Vec<(u64, Bytes)>,
}

impl Recent {
    /// Room for `capacity` bytes of objects.
    #[must_use]
    pub(crate) fn new(capacity: usize) -> Self {
        let objects = Objects {
            capacity: u64::try_from(capacity).unwrap_or(u64::MAX),
            bytes: 0,
            by_id: HashMap::default(),
            oldest_first: VecDeque::new(),
        };
        Self {
            objects: Arc::new(RwLock::new(objects)),
        }
    }

    /// Keeps an object that was just written. One larger than the whole room is not kept.
    pub(crate) fn insert(&self, object: ObjectId, parts: Vec<Bytes>, bytes: u64) {
        self.keep(Written::Object(object), parts, bytes);
    }

    /// Keeps a chunk that was just written to write-ahead buffers, as [`Self::insert`] does.
    pub(crate) fn insert_chunk(&self, chunk: JournalChunkId, parts: Vec<Bytes>, bytes: u64) {
        self.keep(Written::Journal(chunk), parts, bytes);
    }

    fn keep(&self, object: Written, parts: Vec<Bytes>, bytes: u64) {
        let mut end = 0;
        let parts = parts.into_iter().map(|part| {
            end += part.len() as u64;
            (end, part)
        });
        let parts = Arc::new(Parts {
            bytes,
            parts: parts.collect(),
        });
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        if bytes > objects.capacity || objects.by_id.contains_key(&object) {
            return;
        }
        while objects.bytes + bytes > objects.capacity {
            let Some(oldest) = objects.oldest_first.pop_front() else {
                break;
            };
            if let Some(parts) = objects.by_id.remove(&oldest) {
                objects.bytes -= parts.bytes;
            }
        }
        objects.bytes += bytes;
        objects.by_id.insert(object, parts);
        objects.oldest_first.push_back(object);
    }

    /// A range of an object or chunk, if it is here.
    pub(super) fn read(&self, object: Written, range: &Range<u64>) -> Option<Vec<Bytes>> {
        let parts = {
            let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(objects.by_id.get(&object)?)
        };
        parts.read(range)
    }

    /// Bytes of the objects that are here.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.objects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes
    }
}

impl Parts {
    fn read(&self, range: &Range<u64>) -> Option<Vec<Bytes>> {
        if range.end > self.bytes {
            return None;
        }
        let first = self.parts.partition_point(|(end, _)| *end <= range.start);
        let mut slices = Vec::new();
        for (end, part) in self.parts.get(first..)? {
            let begin = end - part.len() as u64;
            if begin >= range.end {
                break;
            }
            let from = usize::try_from(range.start.saturating_sub(begin)).ok()?;
            let to = usize::try_from(range.end.min(*end) - begin).ok()?;
            if from < to {
                slices.push(part.slice(from..to));
            }
        }
        Some(slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cross_parts_and_the_oldest_object_makes_room() {
        let recent = Recent::new(20);
        let parts = || vec![Bytes::from("abc"), Bytes::from("defg"), Bytes::from("hij")];
        let read = |object, range: Range<u64>| {
            recent
                .read(Written::Object(ObjectId(object)), &range)
                .map(|slices| slices.concat())
        };
        recent.insert(ObjectId(1), parts(), 10);
        assert_eq!(read(1, 0..10).as_deref(), Some(&b"abcdefghij"[..]));
        assert_eq!(read(1, 2..8).as_deref(), Some(&b"cdefgh"[..]));
        assert_eq!(read(1, 3..7).as_deref(), Some(&b"defg"[..]));
        assert_eq!(read(1, 5..11), None);
        recent.insert(ObjectId(2), parts(), 10);
        recent.insert(ObjectId(3), parts(), 10);
        assert_eq!(read(1, 0..1), None);
        assert!(read(2, 0..1).is_some() && read(3, 0..1).is_some());
        recent.insert(ObjectId(4), vec![Bytes::from(vec![0; 21])], 21);
        assert_eq!((read(4, 0..1), recent.bytes()), (None, 20));
    }
}
