//! What looked wrong, looked at again.
//!
//! Between the archive's state and the listing a running cluster goes on: objects are merged into others
//! and deleted, new ones are named. Only what is still wrong by the state as it is archived afterwards
//! is a finding.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_cluster::ArchivedState;
use alluvium_metadata::State;
use alluvium_objects::key;
use alluvium_storage::bucket::{Bucket, BucketError, ObjectMeta};
use alluvium_types::ObjectId;

use super::content::Damage;
use super::finding::{Problem, Stretch};
use super::manifest::{Claim, Claims, stretch};
use super::report::Report;

/// Stretches of one object that a finding lists.
const STRETCHES: usize = 100;

/// What looked wrong.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Named, and not in the listing. With the length that they should have.
    pub(super) missing: Vec<(ObjectId, u64)>,
    /// Named and found lengths.
    pub(super) wrong_length: Vec<(ObjectId, (u64, u64))>,
    /// Old and not named.
    pub(super) orphans: Vec<(ObjectId, ObjectMeta)>,
    /// Dead for long, with their lengths.
    pub(super) late: Vec<(ObjectId, u64)>,
    /// What was read and is not right.
    pub(super) damaged: Vec<(ObjectId, Damage)>,
}

impl Suspects {
    pub(super) const fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.wrong_length.is_empty()
            && self.orphans.is_empty()
            && self.late.is_empty()
            && self.damaged.is_empty()
    }

    /// Whether an object that is named is not worth reading.
    pub(super) fn is_suspect(&self, object: ObjectId) -> bool {
        // Both lists are in order: they come from a listing.
        self.missing
            .binary_search_by_key(&object, |it| it.0)
            .is_ok()
            || self
                .wrong_length
                .binary_search_by_key(&object, |it| it.0)
                .is_ok()
    }

    /// Says which of them are wrong by a later state too.
    pub(super) async fn judge(
        self,
        bucket: &Bucket,
        later: &ArchivedState,
        claims: &Claims,
        report: &mut Report,
    ) -> Result<(), BucketError> {
        let state = &later.state;
        let affected = |object| affected(state, claims.of(object));
        for (object, bytes) in self.missing {
            if is_live(state, object) && found(bucket, object).await?.is_none() {
                report.add(Some(object), affected(object), Problem::Missing { bytes });
            }
        }
        for (object, (named, found)) in self.wrong_length {
            if is_live(state, object) {
                let problem = Problem::WrongLength { named, found };
                report.add(Some(object), affected(object), problem);
            }
        }
        let mut told = BTreeSet::new();
        for (object, damage) in self.damaged {
            // Bytes that are damaged matter until nothing names them.
            if is_live(state, object) && (damage.claim.is_some() || told.insert(object)) {
                let stretches = match damage.claim {
                    Some(claim) => affected_by(state, &claim),
                    None => affected(object),
                };
                report.add(Some(object), stretches, damage.problem);
            }
        }
        let dead: BTreeMap<_, _> = state.dead_objects().map(|it| (it.0, it.2)).collect();
        for (object, bytes) in self.late {
            if let Some(died_at) = dead.get(&object).copied()
                && found(bucket, object).await?.is_some()
            {
                let problem = Problem::DeadLate { bytes, died_at };
                report.add(Some(object), Vec::new(), problem);
            }
        }
        for (object, meta) in self.orphans {
            if state.object_bytes(object).is_none() && found(bucket, object).await?.is_some() {
                let problem = Problem::Orphan {
                    bytes: meta.bytes,
                    modified: meta.modified,
                };
                report.add(Some(object), Vec::new(), problem);
            }
        }
        Ok(())
    }
}

/// Whether some manifest names an object.
fn is_live(state: &State, object: ObjectId) -> bool {
    state.object_level(object).is_some()
}

async fn found(bucket: &Bucket, object: ObjectId) -> Result<Option<ObjectMeta>, BucketError> {
    match bucket.head(&key(object)).await {
        Ok(meta) => Ok(Some(meta)),
        Err(BucketError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn affected(state: &State, claims: &[Claim]) -> Vec<Stretch> {
    let claims = claims.iter().take(STRETCHES);
    claims.flat_map(|claim| affected_by(state, claim)).collect()
}

fn affected_by(state: &State, claim: &Claim) -> Vec<Stretch> {
    let last = claim.end_offset.saturating_sub(1);
    vec![stretch(state, claim.place, claim.base_offset, last)]
}
