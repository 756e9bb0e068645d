//! What readers of old data fetched ahead, in a room of its own.
//!
//! A scan reads everything once, so nothing of it is worth what the tail's readers come back to. What
//! one GET brought stays together and uncopied, until its reader has passed and room is needed;
//! where there is too little room, the oldest goes first.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::blocks::BlockKey;

/// What one GET brought.
#[derive(Debug)]
struct Group {
    blocks: Arc<[Bytes]>,
    bytes: usize,
    /// When it came, counted.
    number: u64,
    /// A reader has taken its last block.
    passed: bool,
}

/// Groups by their first block.
#[derive(Debug)]
pub(super) struct ScanArea {
    capacity: usize,
    bytes: usize,
    groups: BTreeMap<BlockKey, Group>,
    /// By (not passed, number): those first that go first.
    order: BTreeMap<(bool, u64), BlockKey>,
    next: u64,
}

impl ScanArea {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            bytes: 0,
            groups: BTreeMap::new(),
            order: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn holder(&self, key: &BlockKey) -> Option<(&BlockKey, &Group)> {
        let (first, group) = self.groups.range(..=key).next_back()?;
        let ends = first.block.saturating_add(group.blocks.len() as u64);
        (first.object == key.object && key.block < ends).then_some((first, group))
    }

    pub(super) fn contains(&self, key: &BlockKey) -> bool {
        self.holder(key).is_some()
    }

    /// A block. `is_whole` says that its reader takes it up to its end.
    pub(super) fn get(&mut self, key: &BlockKey, is_whole: bool) -> Option<Bytes> {
        let (first, group) = self.holder(key)?;
        let place = usize::try_from(key.block - first.block).ok()?;
        let block = group.blocks.get(place)?.clone();
        let passes = is_whole && !group.passed && place + 1 == group.blocks.len();
        if passes {
            let first = first.clone();
            let number = group.number;
            if let Some(group) = self.groups.get_mut(&first) {
                group.passed = true;
                self.order.remove(&(true, number));
                self.order.insert((false, number), first);
            }
        }
        Some(block)
    }

    /// Keeps what a GET brought, and lets go of what there is no room for. What overlaps with it goes.
    pub(super) fn insert(&mut self, first: BlockKey, blocks: Arc<[Bytes]>) {
        let bytes = blocks.iter().map(Bytes::len).sum();
        if bytes > self.capacity || blocks.is_empty() {
            return;
        }
        let range = first.block..first.block.saturating_add(blocks.len() as u64);
        self.remove(&first.object, range);
        while self.bytes + bytes > self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            if let Some(group) = self.groups.remove(&oldest) {
                self.bytes -= group.bytes;
            }
        }
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.order.insert((true, number), first.clone());
        let group = Group {
            blocks,
            bytes,
            number,
            passed: false,
        };
        self.groups.insert(first, group);
    }

    /// Drops every group that holds one of these blocks.
    pub(super) fn remove(&mut self, object: &Arc<str>, blocks: Range<u64>) {
        let key = |block| BlockKey {
            object: Arc::clone(object),
            block,
        };
        let mut doomed: Vec<BlockKey> = Vec::new();
        doomed.extend(
            self.holder(&key(blocks.start))
                .map(|(first, _)| first.clone()),
        );
        let within = key(blocks.start)..key(blocks.end.max(blocks.start));
        doomed.extend(self.groups.range(within).map(|(first, _)| first.clone()));
        for first in doomed {
            if let Some(group) = self.groups.remove(&first) {
                self.bytes -= group.bytes;
                self.order.remove(&(!group.passed, group.number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(object: &str, block: u64) -> BlockKey {
        BlockKey {
            object: object.into(),
            block,
        }
    }

    fn blocks(count: usize) -> Arc<[Bytes]> {
        (0..count)
            .map(|at| Bytes::from(vec![u8::try_from(at).unwrap(); 10]))
            .collect()
    }

    #[test]
    fn who_was_passed_goes_first_then_the_oldest() {
        let mut area = ScanArea::new(100);
        area.insert(key("a", 0), blocks(4));
        area.insert(key("b", 5), blocks(4));
        assert_eq!(area.get(&key("b", 7), true).unwrap(), vec![2; 10]);
        assert!(area.get(&key("b", 4), true).is_none() && !area.contains(&key("b", 9)));
        // The reader of b is through, the one of a is not.
        area.get(&key("a", 3), false);
        area.get(&key("b", 8), true);
        area.insert(key("c", 0), blocks(4));
        assert!(area.contains(&key("a", 0)) && !area.contains(&key("b", 5)));
        area.insert(key("d", 0), blocks(4));
        assert!(!area.contains(&key("a", 0)) && area.contains(&key("c", 3)));
        assert_eq!(area.bytes(), 80);
        area.insert(key("e", 0), blocks(11));
        assert!(!area.contains(&key("e", 0)));
    }

    #[test]
    fn what_overlaps_is_replaced_and_what_is_removed_is_gone() {
        let mut area = ScanArea::new(1000);
        area.insert(key("a", 0), blocks(4));
        area.insert(key("a", 10), blocks(4));
        area.insert(key("a", 3), blocks(8));
        assert!(!area.contains(&key("a", 0)) && !area.contains(&key("a", 13)));
        assert_eq!(area.bytes(), 80);
        area.remove(&"a".into(), 0..3);
        assert_eq!(area.bytes(), 80);
        area.remove(&"a".into(), 5..6);
        assert_eq!((area.bytes(), area.order.len()), (0, 0));
    }
}
