//! Aborted transactions, as readers and compaction ask for them.

use alluvium_types::Offset;

use super::{AbortedTransaction, Partition};

impl Partition {
    /// Transactions that were aborted and have offsets within these, by the offset of their end.
    pub fn aborted_within(
        &self,
        from: Offset,
        to: Offset,
    ) -> impl Iterator<Item = &AbortedTransaction> {
        let transactions = self.transactions().into_iter();
        transactions.flat_map(move |transactions| transactions.aborted_within(from, to))
    }

    /// The transactions that were aborted and have offsets within these, by first offset, and up to which
    /// offset these are all: `to`, unless more than `most` begin behind `from`. That offset lies behind
    /// `from`, and no batch lies across it.
    #[must_use]
    pub fn aborted_up_to(
        &self,
        from: Offset,
        to: Offset,
        most: usize,
    ) -> (Vec<AbortedTransaction>, Offset) {
        self.transactions()
            .map_or((Vec::new(), to), |transactions| {
                transactions.aborted_up_to(from, to, most)
            })
    }

    /// No record of a transaction is left whose marker lies below this offset, or none can be read.
    pub(super) fn forget_aborted(&mut self, below: Offset) {
        if let Some(rest) = &mut self.rest
            && let Some(transactions) = &mut rest.transactions
        {
            transactions.forget_below(below);
        }
        self.tidy_transactions();
    }
}
