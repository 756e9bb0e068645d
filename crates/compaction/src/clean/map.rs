//! For each key the newest offset at which it was seen, within a bound of memory.

use std::hash::Hasher as _;

use alluvium_types::{Offset, random};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// Bytes of a key's digest and of its offset, counted from the map's base.
const SLOT_BYTES: usize = 16 + 4;

/// Of ten slots eight are used: more, and probes grow long.
const FULL: usize = 8;
const OF: usize = 10;

/// Least number of slots, whatever the budget.
const LEAST_SLOTS: usize = 16;

/// An open-addressing table of key digests. Digests are keyed anew for each map, so nobody can make
/// keys that collide; among a billion keys two do with a chance of one in 10^20.
pub(super) struct OffsetMap {
    base: Offset,
    seed: (u64, u64),
    digests: Vec<u128>,
    /// One more than the offset, counted from the base; 0 in an empty slot.
    offsets: Vec<u32>,
    used: usize,
}

impl OffsetMap {
    /// A map for the records from `base` on, at most `span` of them, within `bytes` of memory.
    pub(super) fn new(base: Offset, span: u64, bytes: u64) -> Self {
        let within = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let affordable = within(bytes) / SLOT_BYTES;
        let useful = within(span).saturating_mul(OF) / FULL + 1;
        let slots = affordable.min(useful).max(LEAST_SLOTS);
        Self {
            base,
            seed: (random::value(), random::value()),
            digests: vec![0; slots],
            offsets: vec![0; slots],
            used: 0,
        }
    }

    /// Notes a key's offset, of which the greatest counts. False, with nothing changed, when there
    /// is no room for another key, or the offset is too far from the base.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let Some(from_base) = offset
            .checked_sub(self.base)
            .and_then(|offset| u32::try_from(offset).ok()?.checked_add(1))
        else {
            return false;
        };
        let digest = self.digest(key);
        let slot = self.find(digest);
        let most = self.most();
        let (Some(held), Some(place)) = (self.offsets.get_mut(slot), self.digests.get_mut(slot))
        else {
            return false;
        };
        if *held == 0 {
            if self.used >= most {
                return false;
            }
            *place = digest;
            self.used += 1;
        }
        *held = from_base.max(*held);
        true
    }

    /// The greatest offset noted for a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.find(self.digest(key));
        let from_base = self.offsets.get(slot)?.checked_sub(1)?;
        Some(self.base.saturating_add(i64::from(from_base)))
    }

    /// Number of keys.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.used
    }

    /// How many keys it takes.
    const fn most(&self) -> usize {
        self.offsets.len() / OF * FULL + self.offsets.len() % OF * FULL / OF
    }

    fn digest(&self, key: &[u8]) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        hasher.write(key);
        hasher.finish128().into()
    }

    /// The digest's slot, or the empty one where it would be. There is always an empty one.
    fn find(&self, digest: u128) -> usize {
        let slots = self.offsets.len();
        let spread = (digest >> 64) * u128::try_from(slots).unwrap_or(1);
        let mut slot = usize::try_from(spread >> 64).unwrap_or(0);
        loop {
            match (self.offsets.get(slot), self.digests.get(slot)) {
                (Some(0), _) => return slot,
                (_, Some(held)) if *held == digest => return slot,
                (Some(_), _) => slot += 1,
                (None, _) => slot = 0,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_until_it_is_full(
            puts in proptest::collection::vec((0u16..300, 0i64..1000), 0..400),
            bytes in 0u64..8000,
        ) {
            let mut map = OffsetMap::new(-50, 1000, bytes);
            let mut model: BTreeMap<u16, Offset> = BTreeMap::new();
            for (key, offset) in puts {
                let taken = map.put(&key.to_be_bytes(), offset);
                if taken {
                    let held = model.entry(key).or_insert(offset);
                    *held = offset.max(*held);
                } else {
                    prop_assert!(!model.contains_key(&key), "a known key always fits");
                }
            }
            prop_assert_eq!(map.len(), model.len());
            for key in 0u16..300 {
                prop_assert_eq!(map.get(&key.to_be_bytes()), model.get(&key).copied());
            }
        }
    }

    #[test]
    fn it_stays_within_its_budget_and_what_it_needs() {
        let map = OffsetMap::new(0, 1 << 40, 1 << 20);
        assert!(map.offsets.len() * SLOT_BYTES <= 1 << 20);
        assert!(OffsetMap::new(0, 100, 1 << 30).offsets.len() < 200);
        let mut map = OffsetMap::new(0, 1000, 0);
        let taken = (0..1000u32).filter(|key| map.put(&key.to_be_bytes(), i64::from(*key)));
        assert_eq!(taken.count(), 12, "sixteen slots, eight in ten used");
        assert!(!map.put(b"far", 1 << 40));
        assert!(!map.put(b"before", -1));
    }
}
