//! What administrators do besides topics, configs and groups.

mod brokers;
mod log_dirs;
mod offset_delete;
mod partitions;
mod txn_markers;

use crate::table::Case;

pub(super) const KEYS: &[i16] = &[27, 34, 35, 43, 45, 46, 47, 57, 64];

pub(super) fn cases() -> Vec<Case> {
    [
        offset_delete::cases(),
        log_dirs::cases(),
        partitions::cases(),
        brokers::cases(),
        txn_markers::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
