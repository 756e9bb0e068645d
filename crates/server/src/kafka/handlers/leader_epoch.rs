//! Leader epochs. Any agent takes records for any partition and no record is ever taken back, so
//! there is one epoch, 0, for ever.

use alluvium_types::ErrorCode;

/// The only leader epoch.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// Checks the epoch that a client takes for current; -1 is none (KIP-320).
pub(crate) const fn check(current: i32) -> Result<(), ErrorCode> {
    match current {
        -1 | LEADER_EPOCH => Ok(()),
        epoch if epoch < LEADER_EPOCH => Err(ErrorCode::FencedLeaderEpoch),
        _ => Err(ErrorCode::UnknownLeaderEpoch),
    }
}
