//! Who reads on from where: fetches that follow on one another, though no session ties them together.
//!
//! A fetch that begins where another ended is taken for the same reader's. Such a one needs no index
//! to find its place. Far from the tail, the cache fetches ahead of it what it will want: more the
//! longer it has read, in whole segments, up to the end of what there is, and no more than its
//! share of the room that all such readers have.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use alluvium_storage::cache::segment_end;
use alluvium_types::hash::HashMap;
use alluvium_types::limits::CACHE_BLOCK_BYTES;
use alluvium_types::{ObjectId, Offset, TopicPartition};

use super::source::ObjectRef;

/// Places that are remembered; the oldest are forgotten first.
const PLACES: usize = 8192;

/// A window is so many times what was read so far,
const GROWTH: u64 = 8;

/// at most this,
const WINDOW_BYTES: u64 = 96 << 20;

/// and a reader counts for the sharing of the room until it was silent for so long.
const ACTIVE: Duration = Duration::from_secs(10);

/// Where a fetch ended, and what is known of its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    /// Tells readers apart; readers that stood at one place count as one.
    pub(super) id: u64,
    /// The object and the byte in it where the next batch begins.
    pub(super) mark: Option<(ObjectId, u64)>,
    /// Bytes read so far, one fetch following on the other.
    pub(super) streak: u64,
    /// Up to where was fetched ahead.
    pub(super) fetched_to: Option<(ObjectId, u64)>,
}

/// Readers by the place that they will ask for next.
#[derive(Debug)]
pub(super) struct Readers {
    room: u64,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    by_place: HashMap<(TopicPartition, Offset), (Reader, u64)>,
    oldest_first: VecDeque<((TopicPartition, Offset), u64)>,
    next: u64,
    active: HashMap<u64, Instant>,
    pruned: Option<Instant>,
}

impl Readers {
    /// `room` is what all readers together may fetch ahead, in bytes.
    pub(super) fn new(room: usize) -> Self {
        Self {
            room: u64::try_from(room).unwrap_or(u64::MAX),
            places: Mutex::default(),
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader that goes on here, if one ended here.
    pub(super) fn at(&self, partition: TopicPartition, offset: Offset) -> Option<Reader> {
        let places = self.places();
        places.by_place.get(&(partition, offset)).map(|(it, _)| *it)
    }

    /// A reader that nobody has seen before.
    pub(super) fn begin(&self) -> Reader {
        let mut places = self.places();
        places.next += 1;
        Reader {
            id: places.next,
            mark: None,
            streak: 0,
            fetched_to: None,
        }
    }

    /// Remembers where a reader will go on.
    pub(super) fn put(&self, partition: TopicPartition, next: Offset, reader: Reader) {
        let mut places = self.places();
        places.next += 1;
        let number = places.next;
        let place = (partition, next);
        places.by_place.insert(place, (reader, number));
        places.oldest_first.push_back((place, number));
        while places.by_place.len() > PLACES || places.oldest_first.len() > 2 * PLACES {
            let Some((oldest, number)) = places.oldest_first.pop_front() else {
                break;
            };
            // Unless it was put anew since.
            if places
                .by_place
                .get(&oldest)
                .is_some_and(|it| it.1 == number)
            {
                places.by_place.remove(&oldest);
            }
        }
    }

    /// How far ahead a reader of old data may be: three quarters of its share, for what it has passed
    /// lies there too.
    pub(super) fn window(&self, reader: &Reader) -> u64 {
        let mut places = self.places();
        let now = Instant::now();
        places.active.insert(reader.id, now);
        let is_due = |pruned: Instant| now.duration_since(pruned) > ACTIVE / 10;
        if places.pruned.is_none_or(is_due) {
            let is_active = |seen: &Instant| now.duration_since(*seen) < ACTIVE;
            places.active.retain(|_, seen| is_active(seen));
            places.pruned = Some(now);
        }
        let share = self.room / (places.active.len() as u64).max(1) / 4 * 3;
        let grown = reader.streak.saturating_mul(GROWTH);
        grown.min(WINDOW_BYTES).min(share)
    }
}

/// Bytes that a reader will come to, one stretch after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) object: ObjectRef,
    pub(super) range: Range<u64>,
}

/// What to fetch now for a reader at the beginning of the first stretch: whole segments that end
/// within the window. Less than that only where the reader would soon have to wait.
pub(super) fn look_ahead(
    stretches: &[Stretch],
    fetched_to: &mut Option<(ObjectId, u64)>,
    window: u64,
) -> Vec<Stretch> {
    let holds = |stretch: &Stretch, (object, position): (ObjectId, u64)| {
        stretch.object.object == object
            && (stretch.range.start..=stretch.range.end).contains(&position)
    };
    let frontier = fetched_to.and_then(|to| {
        let at = stretches.iter().position(|stretch| holds(stretch, to))?;
        Some((at, to.1))
    });
    let (first, mut position) = match (frontier, stretches.first()) {
        (Some(frontier), _) => frontier,
        (None, Some(stretch)) => (0, stretch.range.start),
        (None, None) => return Vec::new(),
    };
    let mut distance: u64 = stretches
        .iter()
        .take(first)
        .map(|stretch| stretch.range.end - stretch.range.start)
        .sum();
    let mut wanted = Vec::new();
    for (number, stretch) in stretches.iter().enumerate().skip(first) {
        let Range { start, end } = stretch.range;
        if number > first {
            position = start;
        }
        while position < end {
            let mut to = segment_end(stretch.object.bytes, position).min(end);
            if distance + (to - start) > window {
                let ahead = distance + (position - start);
                let reach = start.saturating_add(window.saturating_sub(distance));
                to = to.min(reach.next_multiple_of(CACHE_BLOCK_BYTES));
                if ahead > window / 4 || reach <= position {
                    return wanted;
                }
            }
            wanted.push(Stretch {
                object: stretch.object,
                range: position..to,
            });
            position = to;
            *fetched_to = Some((stretch.object.object, position));
        }
        distance += end - start;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn object(id: u128, bytes: u64) -> ObjectRef {
        ObjectRef {
            object: ObjectId(id),
            bytes,
        }
    }

    /// Reads `runs` in pieces of `piece` bytes; the requests that were made ahead.
    fn scan(runs: &[Stretch], piece: u64, room: usize) -> Vec<Stretch> {
        let readers = Readers::new(room);
        let mut reader = readers.begin();
        let mut requests: Vec<Stretch> = Vec::new();
        for (number, run) in runs.iter().enumerate() {
            let mut position = run.range.start;
            while position < run.range.end {
                let mut left = vec![Stretch {
                    range: position..run.range.end,
                    ..run.clone()
                }];
                left.extend(runs[number + 1..].iter().cloned());
                let window = readers.window(&reader);
                requests.extend(look_ahead(&left, &mut reader.fetched_to, window));
                position = (position + piece).min(run.range.end);
                reader.streak += piece;
            }
        }
        requests
    }

    #[tokio::test]
    async fn a_long_scan_makes_one_request_a_segment_and_asks_for_nothing_twice() {
        for bytes in [64 * MIB, 70 * MIB + 12345, 256 * MIB] {
            let runs: Vec<_> = (0..6)
                .map(|id| Stretch {
                    object: object(id, bytes + 4096),
                    range: 40..bytes,
                })
                .collect();
            let requests = scan(&runs, MIB, 256 << 20);
            let total: u64 = requests
                .iter()
                .map(|it| it.range.end - it.range.start)
                .sum();
            // The very first piece is read before anybody knows that more will be wanted.
            assert!(total <= 6 * bytes && total >= 6 * (bytes - 40) - MIB);
            let most = total.div_ceil(16 * MIB) + 2;
            assert!(
                requests.len() as u64 <= most,
                "{} of {most}",
                requests.len()
            );
            for (one, next) in requests.iter().zip(&requests[1..]) {
                let follows = one.object == next.object && one.range.end == next.range.start;
                assert!(follows || next.range.start == 40, "{one:?}, then {next:?}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_wanted_beyond_the_run_nor_before_there_is_a_streak() {
        let run = Stretch {
            object: object(1, 100 * MIB),
            range: 10 * MIB + 5..13 * MIB,
        };
        let mut fetched_to = None;
        let stretches = std::slice::from_ref(&run);
        assert_eq!(look_ahead(stretches, &mut fetched_to, 0), []);
        assert_eq!(look_ahead(stretches, &mut fetched_to, 8 * MIB), stretches);
        assert_eq!(look_ahead(stretches, &mut fetched_to, 8 * MIB), []);
        assert_eq!(fetched_to, Some((ObjectId(1), 13 * MIB)));
    }

    #[tokio::test(start_paused = true)]
    async fn readers_share_the_room_while_they_read() {
        let readers = Readers::new(64 << 20);
        let reader = || Reader {
            streak: 1 << 40,
            ..readers.begin()
        };
        let (one, other) = (reader(), reader());
        assert_eq!(readers.window(&one), 48 * MIB);
        assert_eq!(readers.window(&other), 24 * MIB);
        assert_eq!(readers.window(&one), 24 * MIB);
        tokio::time::advance(2 * ACTIVE).await;
        assert_eq!(readers.window(&one), 48 * MIB);
    }

    #[test]
    fn places_are_forgotten_oldest_first() {
        let readers = Readers::new(1 << 20);
        let partition = TopicPartition::new(alluvium_types::TopicId([1; 16]), 0);
        let count = i64::try_from(PLACES).unwrap() + 10;
        for offset in 0..count {
            readers.put(partition, offset, readers.begin());
            readers.put(partition, 0, readers.begin());
        }
        assert!(readers.at(partition, 0).is_some() && readers.at(partition, 1).is_none());
        assert!(readers.at(partition, count - 1).is_some());
    }
}
