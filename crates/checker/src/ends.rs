//! What was known when: a value that may only rise, and the moments at which it was known to have
//! risen.

use alluvium_types::Offset;

use crate::event::Micros;

/// A rising value over time. Times are given in order.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    rises: Vec<(Micros, Offset)>,
}

impl Ends {
    /// From `at` on the value is known to be at least this.
    pub(crate) fn known(&mut self, at: Micros, value: Offset) {
        match self.rises.last_mut() {
            Some((_, last)) if *last >= value => {}
            Some((when, last)) if *when == at => *last = value,
            _ => self.rises.push((at, value)),
        }
    }

    /// What was known before `at`.
    pub(crate) fn before(&self, at: Micros) -> Option<(Micros, Offset)> {
        let later = self.rises.partition_point(|(when, _)| *when < at);
        self.rises.get(later.checked_sub(1)?).copied()
    }
}
