//! Chunks between sealing and answer, in the order in which they were sealed.

use std::cmp::Ordering;
use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

use alluvium_metadata::{ChunkRun, Location};
use alluvium_types::{AgentEpoch, Millis, TopicPartition};

use crate::write_ahead::UnderWay;

use super::buffer::Way;
use super::durable::Durable;
use super::submission::Waiting;

/// When producers are told that it is not known what became of their records. Kafka's clients wait
/// 30 seconds.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(28);

/// Most chunks that are proposed together.
const ROUND_CHUNKS: usize = 8;

/// A chunk on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: u64,
    pub(super) waiting: Vec<Waiting>,
    pub(super) bytes: usize,
    pub(super) way: Way,
    /// Where its bytes are, for the metrics.
    pub(super) place: &'static str,
    /// It lies in write-ahead buffers with fewer copies than the cluster asks for.
    pub(super) is_unstable: bool,
    /// While it lies in write-ahead buffers and is not answered.
    pub(super) under_way: Option<UnderWay>,
    /// In order, each once.
    pub(super) partitions: Vec<TopicPartition>,
    sealed_at: Millis,
    /// When whoever waits is told that the outcome is not known.
    pub(super) deadline: Instant,
    stage: Stage,
}

/// How far it has come.
#[derive(Debug)]
enum Stage {
    /// Its bytes are not durable yet.
    Uploading,
    /// It can be sequenced once nothing before it is in its way.
    Ready(Location, Vec<ChunkRun>),
    /// Its command was proposed and must be seen through.
    Proposed,
}

/// What a chunk's command is made of.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) id: u64,
    pub(super) location: Location,
    pub(super) runs: Vec<ChunkRun>,
    pub(super) sealed_at: Millis,
}

/// The chunks on their way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    queue: VecDeque<Flight>,
    next_id: u64,
}

impl Flights {
    /// Adds the chunk that was sealed last. Its id names it from here on.
    pub(super) fn depart(
        &mut self,
        partitions: Vec<TopicPartition>,
        waiting: Vec<Waiting>,
        (bytes, way): (usize, Way),
        (sealed_at, now): (Millis, Instant),
    ) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.queue.push_back(Flight {
            id,
            waiting,
            bytes,
            way,
            place: "",
            is_unstable: false,
            under_way: None,
            partitions,
            sealed_at,
            deadline: now + ANSWER_DEADLINE,
            stage: Stage::Uploading,
        });
        id
    }

    /// The chunk's bytes are durable.
    pub(super) fn durable(&mut self, id: u64, durable: Durable) {
        let Durable {
            location,
            runs,
            under_way,
        } = durable;
        if let Some(flight) = self.queue.iter_mut().find(|flight| flight.id == id) {
            flight.place = match location {
                Location::Object { .. } => "object",
                Location::Inline(_) => "inline",
                Location::Journal { .. } => "journal",
            };
            flight.is_unstable = matches!(location, Location::Journal { stable: false, .. });
            flight.under_way = under_way;
            flight.stage = Stage::Ready(location, runs);
        }
    }

    /// Takes a chunk out, to answer it.
    pub(super) fn land(&mut self, id: u64) -> Option<Flight> {
        let at = self.queue.iter().position(|flight| flight.id == id)?;
        self.queue.remove(at)
    }

    /// The chunks that can be sequenced now, in order: durable, and no chunk that was sealed before
    /// and shares a partition is still behind.
    pub(super) fn take_ready(&mut self) -> Vec<Proposal> {
        let mut taken = Vec::new();
        let mut behind: Vec<usize> = Vec::new();
        for at in 0..self.queue.len() {
            if taken.len() == ROUND_CHUNKS {
                break;
            }
            let Some(flight) = self.queue.get(at) else {
                break;
            };
            let is_ready = matches!(flight.stage, Stage::Ready(..));
            let overtakes = || {
                let mut before = behind.iter().filter_map(|at| self.queue.get(*at));
                before.any(|before| share(&before.partitions, &flight.partitions))
            };
            if !is_ready || overtakes() {
                behind.push(at);
                continue;
            }
            let Some(flight) = self.queue.get_mut(at) else {
                break;
            };
            let stage = std::mem::replace(&mut flight.stage, Stage::Proposed);
            if let Stage::Ready(location, runs) = stage {
                let Flight { id, sealed_at, .. } = *flight;
                taken.push(Proposal {
                    id,
                    location,
                    runs,
                    sealed_at,
                });
            }
        }
        taken
    }

    /// Takes out what counts copies on other agents and was kept under an earlier registration than
    /// `epoch`: as soon as that had ended, the others may have let go of what nobody had proposed.
    pub(super) fn take_uncopied(&mut self, epoch: AgentEpoch) -> Vec<Flight> {
        let is_uncopied = |flight: &Flight| match &flight.stage {
            Stage::Ready(Location::Journal { chunk, copies, .. }, _) => {
                copies.len() > 1 && chunk.epoch != epoch
            }
            _ => false,
        };
        // Looked for in every round, and hardly ever there.
        if !self.queue.iter().any(is_uncopied) {
            return Vec::new();
        }
        let (taken, left) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition::<Vec<_>, _>(is_uncopied);
        self.queue = left.into();
        taken
    }

    /// This process ends. What is proposed may still be sequenced, so the write-ahead buffer keeps it
    /// for the next one.
    pub(super) fn outlive_proposed(&mut self) {
        let proposed = self.queue.iter_mut().filter(|flight| flight.is_proposed());
        for under_way in proposed.filter_map(|flight| flight.under_way.as_mut()) {
            under_way.outlive();
        }
    }

    /// When the next chunk is late.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self
            .queue
            .iter()
            .filter(|flight| !flight.waiting.is_empty());
        waiting.map(|flight| flight.deadline).min()
    }

    /// Those who have waited too long. A chunk that was not proposed is given up with them; one that
    /// was stays, for its command must be seen through.
    pub(super) fn take_late(&mut self, now: Instant) -> (Vec<Waiting>, Vec<Flight>) {
        let mut waiting = Vec::new();
        let mut given_up = Vec::new();
        for mut flight in std::mem::take(&mut self.queue) {
            if flight.deadline > now {
                self.queue.push_back(flight);
            } else if flight.is_proposed() {
                waiting.append(&mut flight.waiting);
                self.queue.push_back(flight);
            } else {
                given_up.push(flight);
            }
        }
        (waiting, given_up)
    }

    /// Takes out the chunks that were not proposed, and has those that were wait no longer than
    /// `until`: this agent is cut off, and others can take what it cannot.
    pub(super) fn cut_short(&mut self, until: Instant) -> Vec<Flight> {
        let mut given_up = Vec::new();
        for mut flight in std::mem::take(&mut self.queue) {
            if flight.is_proposed() {
                flight.deadline = flight.deadline.min(until);
                self.queue.push_back(flight);
            } else {
                given_up.push(flight);
            }
        }
        given_up
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Flight {
    const fn is_proposed(&self) -> bool {
        matches!(self.stage, Stage::Proposed)
    }
}

/// Whether two sorted lists have an element in common.
fn share(left: &[TopicPartition], right: &[TopicPartition]) -> bool {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        match a.cmp(b) {
            Ordering::Less => _ = left.next(),
            Ordering::Greater => _ = right.next(),
            Ordering::Equal => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_metadata::{JournalChunkId, JournalCopy};
    use alluvium_types::{AgentId, ChunkNumber, TopicId};
    use bytes::Bytes;

    fn partitions(indexes: &[i32]) -> Vec<TopicPartition> {
        indexes
            .iter()
            .map(|index| TopicPartition::new(TopicId([1; 16]), *index))
            .collect()
    }

    fn depart(flights: &mut Flights, indexes: &[i32], now: Instant) -> u64 {
        let what = (10, Way::Object);
        flights.depart(partitions(indexes), Vec::new(), what, (0, now))
    }

    fn arrive(flights: &mut Flights, id: u64) {
        let durable = Durable {
            location: Location::Inline(Bytes::new()),
            runs: Vec::new(),
            under_way: None,
        };
        flights.durable(id, durable);
    }

    fn ready(flights: &mut Flights) -> Vec<u64> {
        flights
            .take_ready()
            .iter()
            .map(|proposal| proposal.id)
            .collect()
    }

    #[test]
    fn copies_that_were_made_under_an_earlier_registration_are_not_counted() {
        let kept = |epoch, copies: usize| {
            let chunk = JournalChunkId {
                agent: AgentId(1),
                epoch: AgentEpoch(epoch),
                chunk: ChunkNumber(1),
            };
            let copy = |agent| JournalCopy {
                agent: AgentId(agent),
                journal: 1,
            };
            Durable {
                location: Location::Journal {
                    chunk,
                    copies: (1..).map(copy).take(copies).collect(),
                    bytes: 10,
                    stable: copies > 1,
                },
                runs: Vec::new(),
                under_way: None,
            }
        };
        let mut flights = Flights::default();
        let now = Instant::now();
        let ids: Vec<u64> = (0..3).map(|at| depart(&mut flights, &[at], now)).collect();
        for (id, durable) in ids.iter().zip([kept(1, 2), kept(1, 1), kept(2, 2)]) {
            flights.durable(*id, durable);
        }
        let taken = flights.take_uncopied(AgentEpoch(2));
        assert_eq!(
            taken.iter().map(|flight| flight.id).collect::<Vec<_>>(),
            [0]
        );
        assert_eq!(ready(&mut flights), [1, 2]);
    }

    #[test]
    fn a_fast_put_waits_for_a_slow_one_with_which_it_shares_a_partition() {
        let now = Instant::now();
        let mut flights = Flights::default();
        let slow = depart(&mut flights, &[0, 1], now);
        let shares = depart(&mut flights, &[1, 2], now);
        let apart = depart(&mut flights, &[3], now);
        let behind_both = depart(&mut flights, &[2, 3], now);
        for id in [shares, apart, behind_both] {
            arrive(&mut flights, id);
        }
        assert_eq!(ready(&mut flights), [apart]);
        assert!(ready(&mut flights).is_empty());
        assert!(flights.land(apart).is_some());
        arrive(&mut flights, slow);
        assert_eq!(ready(&mut flights), [slow, shares, behind_both]);
    }

    #[test]
    fn late_chunks_are_given_up_unless_they_were_proposed() {
        let now = Instant::now();
        let mut flights = Flights::default();
        let proposed = depart(&mut flights, &[0], now);
        arrive(&mut flights, proposed);
        assert_eq!(ready(&mut flights), [proposed]);
        let uploading = depart(&mut flights, &[1], now);
        assert!(flights.take_late(now).1.is_empty());
        let (_, given_up) = flights.take_late(now + ANSWER_DEADLINE);
        assert_eq!(
            given_up.iter().map(|flight| flight.id).collect::<Vec<_>>(),
            [uploading]
        );
        assert!(flights.land(proposed).is_some());
    }

    #[test]
    fn a_cut_off_agent_gives_up_what_it_did_not_propose_and_waits_less_for_the_rest() {
        let now = Instant::now();
        let mut flights = Flights::default();
        let [proposed, durable, uploading] = [0, 1, 2].map(|at| depart(&mut flights, &[at], now));
        arrive(&mut flights, proposed);
        assert_eq!(ready(&mut flights), [proposed]);
        arrive(&mut flights, durable);
        let until = now + ANSWER_DEADLINE / 4;
        let given_up = flights.cut_short(until);
        let ids: Vec<_> = given_up.iter().map(|flight| flight.id).collect();
        assert_eq!(ids, [durable, uploading]);
        assert!(
            flights
                .land(proposed)
                .is_some_and(|flight| flight.deadline == until)
        );
    }
}
