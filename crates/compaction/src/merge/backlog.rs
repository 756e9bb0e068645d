//! What of a partition can be merged.
//!
//! A *piece* is a run that lies in an object and may be copied; a *stretch* is a row of neighbouring
//! pieces of one level and kind. A stretch becomes one run. Runs that are large already, that were
//! merged as often as may be, that are in no object yet, and gaps end a stretch.

use alluvium_metadata::{Partition, Run, RunLocation, State};
use alluvium_types::hash::HashSet;
use alluvium_types::{Millis, ObjectId, Offset, TopicPartition};

/// Bytes of a level are merged into the next one; there is none beyond.
pub(crate) const LAST_LEVEL: u8 = 2;

/// A run that may be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) base_offset: Offset,
    pub(crate) end_offset: Offset,
    pub(crate) max_timestamp: Millis,
    pub(crate) object: ObjectId,
    pub(crate) position: u64,
    pub(crate) length: u64,
}

/// Neighbouring pieces that become one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) partition: TopicPartition,
    /// The batches bear their own offsets.
    pub(crate) sparse: bool,
    pub(crate) pieces: Vec<Piece>,
}

impl Stretch {
    /// Bytes of its pieces.
    pub(crate) fn bytes(&self) -> u64 {
        let lengths = self.pieces.iter().map(|piece| piece.length);
        lengths.fold(0, u64::saturating_add)
    }
}

/// Runs that must not be touched, by object and position: their bytes are damaged.
pub(crate) type Damaged = HashSet<(ObjectId, u64)>;

/// What tells runs that can be merged from others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// Runs from this length on are left as they are.
    pub(crate) large_run: u64,
    pub(crate) damaged: &'a Damaged,
}

/// What a run is to the merger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Can be merged.
    Piece {
        piece: Piece,
        level: u8,
        sparse: bool,
    },
    /// Is not in an object yet, and will be.
    Unsettled,
    /// Stays as it is, whatever follows.
    Final,
}

impl Rules<'_> {
    fn kind(&self, state: &State, run: &Run) -> Kind {
        let (object, position, sparse) = match run.location {
            RunLocation::Object { object, position } => (object, position, false),
            RunLocation::Sparse { object, position } => (object, position, true),
            RunLocation::Inline(_) | RunLocation::Journal { .. } => return Kind::Unsettled,
            RunLocation::Gap => return Kind::Final,
        };
        match state.object_level(object) {
            Some(level)
                if level < LAST_LEVEL
                    && run.length < self.large_run
                    && !self.damaged.contains(&(object, position)) =>
            {
                let piece = Piece {
                    base_offset: run.base_offset,
                    end_offset: run.end_offset,
                    max_timestamp: run.max_timestamp,
                    object,
                    position,
                    length: run.length,
                };
                Kind::Piece {
                    piece,
                    level,
                    sparse,
                }
            }
            _ => Kind::Final,
        }
    }

    /// Visits the pieces of a partition from `from` on, telling where a stretch begins. Returns up to
    /// where everything is final, and whether something is not in an object yet.
    pub(crate) fn visit(
        &self,
        state: &State,
        partition: &Partition,
        from: Offset,
        mut each: impl FnMut(Step),
    ) -> Walked {
        let mut walked = Walked {
            final_to: from,
            unsettled: false,
        };
        let mut all_final = true;
        let mut last: Option<(u8, bool)> = None;
        for run in partition.runs_from(from) {
            match self.kind(state, run) {
                Kind::Piece {
                    piece,
                    level,
                    sparse,
                } => {
                    all_final = false;
                    let begins = last != Some((level, sparse));
                    last = Some((level, sparse));
                    each(Step {
                        piece,
                        level,
                        sparse,
                        begins,
                    });
                }
                Kind::Unsettled => {
                    (all_final, last) = (false, None);
                    walked.unsettled = true;
                }
                Kind::Final => {
                    last = None;
                    if all_final {
                        walked.final_to = run.end_offset;
                    }
                }
            }
        }
        walked
    }

    /// The stretches of one level.
    pub(crate) fn stretches(
        &self,
        state: &State,
        at: TopicPartition,
        partition: &Partition,
        from: Offset,
        wanted: u8,
    ) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = Vec::new();
        self.visit(state, partition, from, |step| {
            if step.level != wanted {
                return;
            }
            match stretches.last_mut() {
                Some(stretch) if !step.begins => stretch.pieces.push(step.piece),
                _ => stretches.push(Stretch {
                    partition: at,
                    sparse: step.sparse,
                    pieces: vec![step.piece],
                }),
            }
        });
        stretches
    }
}

/// A piece on the way through a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) piece: Piece,
    pub(crate) level: u8,
    pub(crate) sparse: bool,
    /// It does not continue the stretch of the piece before it.
    pub(crate) begins: bool,
}

/// What was found on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walked {
    pub(crate) final_to: Offset,
    pub(crate) unsettled: bool,
}

/// How much of one level there is to merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Pieces.
    pub(crate) pieces: usize,
    /// Stretches of them.
    pub(crate) stretches: usize,
    /// Pieces of the longest stretch.
    pub(crate) longest: usize,
    /// Bytes of all pieces.
    pub(crate) bytes: u64,
}

impl Figures {
    /// Counts a partition's pieces by level.
    pub(crate) fn count(
        by_level: &mut [Self; 2],
        rules: &Rules<'_>,
        state: &State,
        partition: &Partition,
        from: Offset,
    ) -> Walked {
        let mut row = 0;
        rules.visit(state, partition, from, |step| {
            let Some(figures) = by_level.get_mut(usize::from(step.level)) else {
                return;
            };
            figures.pieces += 1;
            figures.bytes = figures.bytes.saturating_add(step.piece.length);
            if step.begins {
                figures.stretches += 1;
                row = 0;
            }
            row += 1;
            figures.longest = figures.longest.max(row);
        })
    }

    /// Runs that would go.
    pub(crate) const fn shrinks_by(&self) -> usize {
        self.pieces - self.stretches
    }
}
