//! What administrators do besides topics, configs and groups.

mod offset_delete;

use crate::table::Case;

pub(super) const KEYS: &[i16] = &[47];

pub(super) fn cases() -> Vec<Case> {
    offset_delete::cases()
}
