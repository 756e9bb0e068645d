//! Reads the pieces of a job with few requests.
//!
//! Pieces of one object that lie near each other are read in one go, whoever's they are; what lies
//! between is read along and dropped, at once where it is much: what is kept is a quarter more than
//! the pieces at most. A piece is never cut.

use std::collections::BTreeMap;
use std::ops::Range;

use alluvium_types::ObjectId;
use bytes::{Bytes, BytesMut};

use super::backlog::Piece;

/// Most bytes of one read, unless a single piece is larger.
const WINDOW_BYTES: u64 = 16 << 20;

/// Bytes between two pieces that are always read along: they cost less than another request.
const GAP_BYTES: u64 = 64 << 10;

/// Beyond that, they may be so small a part of what is wanted.
const GAP_SHARE: u64 = 4;

/// A range of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) object: ObjectId,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where the pieces begin and end in the object, in order.
    wanted: Vec<(u64, u64)>,
}

impl Window {
    pub(super) const fn bytes(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    pub(super) const fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    fn wanted_bytes(&self) -> u64 {
        self.wanted
            .iter()
            .map(|(start, end)| end.saturating_sub(*start))
            .sum()
    }

    /// Whether most of it is worth its memory.
    fn is_dense(&self) -> bool {
        let wanted = self.wanted_bytes();
        self.bytes() <= wanted.saturating_add(wanted / GAP_SHARE)
    }
}

/// The reads that bring all pieces, in the order of objects and positions.
pub(super) fn windows<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Vec<Window> {
    let mut wanted: Vec<_> = pieces
        .map(|piece| {
            (
                piece.object,
                piece.position,
                piece.position.saturating_add(piece.length),
            )
        })
        .collect();
    wanted.sort_unstable();
    let mut windows: Vec<Window> = Vec::new();
    let mut covered = 0;
    for (object, start, end) in wanted {
        if let Some(last) = windows.last_mut()
            && last.object == object
            && start <= last.end.saturating_add(GAP_BYTES.max(covered / GAP_SHARE))
            && end.saturating_sub(last.start) <= WINDOW_BYTES
        {
            covered += end.saturating_sub(start);
            last.end = last.end.max(end);
            last.wanted.push((start, end));
            continue;
        }
        covered = end.saturating_sub(start);
        windows.push(Window {
            object,
            start,
            end,
            wanted: vec![(start, end)],
        });
    }
    windows
}

/// What was read, to be checked and corrected where it lies.
#[derive(Debug, Default)]
pub(super) struct Read {
    windows: BTreeMap<(ObjectId, u64), BytesMut>,
    /// Pieces by themselves: those of windows that hold little else but gaps, and those that were
    /// read once more.
    pieces: BTreeMap<(ObjectId, u64), BytesMut>,
}

impl Read {
    pub(super) fn add(&mut self, window: &Window, bytes: Bytes) {
        if window.is_dense() {
            let place = (window.object, window.start);
            self.windows.insert(place, writable(bytes));
            return;
        }
        for (start, end) in &window.wanted {
            let at = |offset: u64| usize::try_from(offset.saturating_sub(window.start)).ok();
            let range = at(*start).zip(at(*end));
            if let Some(piece) = range.and_then(|(from, to)| bytes.get(from..to)) {
                let place = (window.object, *start);
                self.pieces.insert(place, BytesMut::from(piece));
            }
        }
    }

    /// The bytes of a piece, read anew.
    pub(super) fn replace(&mut self, piece: &Piece, bytes: Bytes) {
        let place = (piece.object, piece.position);
        self.pieces.insert(place, writable(bytes));
    }

    /// The bytes of a piece, if they were read.
    pub(super) fn piece(&mut self, piece: &Piece) -> Option<&mut [u8]> {
        let place = (piece.object, piece.position);
        if let Some(bytes) = self.pieces.get_mut(&place) {
            return Some(bytes);
        }
        let ((object, start), bytes) = self.windows.range_mut(..=place).next_back()?;
        let range = range_within(piece, *object, *start)?;
        bytes.get_mut(range)
    }

    /// No byte changes any more.
    pub(super) fn freeze(self) -> Checked {
        let freeze = |windows: BTreeMap<_, BytesMut>| {
            let windows = windows.into_iter();
            windows
                .map(|(place, bytes)| (place, bytes.freeze()))
                .collect()
        };
        Checked {
            windows: freeze(self.windows),
            pieces: freeze(self.pieces),
        }
    }
}

/// What was read, as it goes into the new object.
#[derive(Debug)]
pub(super) struct Checked {
    windows: BTreeMap<(ObjectId, u64), Bytes>,
    pieces: BTreeMap<(ObjectId, u64), Bytes>,
}

impl Checked {
    /// The bytes of a piece, not copied.
    pub(super) fn piece(&self, piece: &Piece) -> Option<Bytes> {
        let place = (piece.object, piece.position);
        if let Some(bytes) = self.pieces.get(&place) {
            return Some(bytes.clone());
        }
        let ((object, start), bytes) = self.windows.range(..=place).next_back()?;
        let range = range_within(piece, *object, *start)?;
        (range.end <= bytes.len()).then(|| bytes.slice(range))
    }
}

/// Where a piece lies in a window that begins at or before it.
fn range_within(piece: &Piece, object: ObjectId, start: u64) -> Option<Range<usize>> {
    if object != piece.object {
        return None;
    }
    let from = usize::try_from(piece.position.checked_sub(start)?).ok()?;
    let to = from.checked_add(usize::try_from(piece.length).ok()?)?;
    Some(from..to)
}

/// Copied only where somebody else holds the bytes too.
fn writable(bytes: Bytes) -> BytesMut {
    bytes
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(shared.as_ref()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(object: u128, position: u64, length: u64) -> Piece {
        Piece {
            base_offset: 0,
            end_offset: 1,
            max_timestamp: 0,
            object: ObjectId(object),
            position,
            length,
        }
    }

    #[test]
    fn neighbours_are_read_in_one_go_and_what_is_far_is_not() {
        let mib = 1 << 20;
        let pieces = [
            piece(2, 40, 1000),
            piece(1, 40, mib),
            piece(1, 40 + mib + 1000, mib),
            piece(1, 40 << 20, 10),
            piece(2, 1040, 50),
        ];
        let windows = windows(pieces.iter());
        let shown: Vec<_> = windows
            .iter()
            .map(|window| (window.object.0, window.start, window.end))
            .collect();
        let expected = [
            (1, 40, 40 + 2 * mib + 1000),
            (1, 40 << 20, (40 << 20) + 10),
            (2, 40, 1090),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn little_among_much_is_kept_without_what_lies_between() {
        let pieces: Vec<_> = (0..20).map(|it| piece(1, 40 + it * 60_000, 100)).collect();
        let windows = windows(pieces.iter());
        assert_eq!((windows.len(), windows[0].is_dense()), (1, false));
        let number = |at: u64| u8::try_from(at / 60_000).unwrap();
        let bytes: Vec<u8> = (0..windows[0].bytes()).map(number).collect();
        let mut read = Read::default();
        read.add(&windows[0], bytes.into());
        let read = read.freeze();
        assert!(read.windows.is_empty());
        for (number, piece) in (0..).zip(&pieces) {
            assert_eq!(read.piece(piece).unwrap(), [number; 100].as_slice());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_piece_is_read_whole_and_little_else(
            layout in prop::collection::vec((0u128..3, 0u64..200_000, 1u64..3_000_000), 1..60),
        ) {
            let mut ends = [40u64; 3];
            let mut pieces = Vec::new();
            for (object, gap, length) in layout {
                let end = &mut ends[usize::try_from(object).unwrap()];
                pieces.push(piece(object, *end + gap, length));
                *end += gap + length;
            }
            let mut read = Read::default();
            let mut starts = Vec::new();
            for window in windows(pieces.iter()) {
                let wanted: u64 = pieces
                    .iter()
                    .filter(|it| it.object == window.object)
                    .filter(|it| it.position >= window.start && it.position < window.end)
                    .map(|it| it.length)
                    .sum();
                prop_assert_eq!(window.wanted_bytes(), wanted);
                prop_assert!(window.bytes() <= wanted + 60 * GAP_BYTES + wanted * 15);
                let bytes = Bytes::from(vec![0; usize::try_from(window.bytes()).unwrap()]);
                let start = bytes.as_ptr();
                read.add(&window, bytes);
                starts.push((window, start));
            }
            let read = read.freeze();
            let all: u64 = pieces.iter().map(|it| it.length).sum();
            let kept = read.windows.values().chain(read.pieces.values()).map(Bytes::len);
            prop_assert!(u64::try_from(kept.sum::<usize>()).unwrap() <= all + all / GAP_SHARE);
            for piece in &pieces {
                let bytes = read.piece(piece).unwrap();
                prop_assert_eq!(u64::try_from(bytes.len()).unwrap(), piece.length);
                let holds = |window: &Window| {
                    let inside = window.start..window.end;
                    window.object == piece.object && inside.contains(&piece.position)
                };
                let (window, start) = starts.iter().find(|(window, _)| holds(window)).unwrap();
                let at = usize::try_from(piece.position - window.start).unwrap();
                let is_there = bytes.as_ptr() == start.wrapping_add(at);
                prop_assert_eq!(is_there, window.is_dense());
            }
        }
    }
}
