//! Which record is at which offset, eight bytes each.

use std::collections::BTreeMap;

use alluvium_types::Offset;

use crate::event::RecordId;

const PAGE: usize = 512;

/// A slot: nothing, or a record with a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) record: RecordId,
    /// Told by an acknowledgement, not only by readers.
    pub(crate) acked: bool,
}

impl Slot {
    // Bit 63: taken. Bit 62: acked. Then 22 bits of writer and 40 of number.
    fn pack(self) -> u64 {
        let flags = (1 << 63) | (u64::from(self.acked) << 62);
        flags | (u64::from(self.record.0) & 0x3f_ffff) << 40 | (self.record.1 & 0xff_ffff_ffff)
    }

    fn unpack(packed: u64) -> Option<Self> {
        let writer = u32::try_from((packed >> 40) & 0x3f_ffff).ok()?;
        (packed != 0).then_some(Self {
            record: RecordId(writer, packed & 0xff_ffff_ffff),
            acked: packed >> 62 & 1 == 1,
        })
    }
}

/// A sparse array over offsets.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pages: BTreeMap<u64, Box<[u64; PAGE]>>,
}

fn locate(offset: Offset) -> Option<(u64, usize)> {
    let offset = u64::try_from(offset).ok()?;
    let within = usize::try_from(offset % PAGE as u64).ok()?;
    Some((offset / PAGE as u64, within))
}

impl Pages {
    pub(crate) fn get(&self, offset: Offset) -> Option<Slot> {
        let (page, within) = locate(offset)?;
        Slot::unpack(*self.pages.get(&page)?.get(within)?)
    }

    pub(crate) fn set(&mut self, offset: Offset, slot: Slot) {
        let Some((page, within)) = locate(offset) else {
            return;
        };
        let page = self
            .pages
            .entry(page)
            .or_insert_with(|| Box::new([0; PAGE]));
        if let Some(place) = page.get_mut(within) {
            *place = slot.pack();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Offset, Slot)> {
        self.pages.iter().flat_map(|(page, slots)| {
            slots.iter().enumerate().filter_map(move |(within, slot)| {
                let offset = page * PAGE as u64 + within as u64;
                Some((Offset::try_from(offset).ok()?, Slot::unpack(*slot)?))
            })
        })
    }

    /// The first record in a range.
    pub(crate) fn first_in(&self, start: Offset, end: Offset) -> Option<(Offset, Slot)> {
        let (page, _) = locate(start)?;
        self.pages
            .range(page..)
            .flat_map(|(page, slots)| {
                slots.iter().enumerate().filter_map(move |(within, slot)| {
                    let offset = page * PAGE as u64 + within as u64;
                    Some((Offset::try_from(offset).ok()?, Slot::unpack(*slot)?))
                })
            })
            .find(|(offset, _)| *offset >= start)
            .filter(|(offset, _)| *offset < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_keep_what_is_put_into_them() {
        let mut pages = Pages::default();
        let last = RecordId(RecordId::WRITERS - 1, RecordId::NUMBERS - 1);
        for (offset, record, acked) in [
            (0, RecordId(0, 0), false),
            (511, RecordId(1, 2), true),
            (1 << 40, last, true),
        ] {
            pages.set(offset, Slot { record, acked });
            assert_eq!(pages.get(offset), Some(Slot { record, acked }));
        }
        assert_eq!(pages.get(1), None);
        assert_eq!(pages.get(-1), None);
        assert_eq!(pages.iter().count(), 3);
        assert_eq!(pages.first_in(1, 511), None);
        assert_eq!(pages.first_in(1, 512).map(|found| found.0), Some(511));
    }
}
