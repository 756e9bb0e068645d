//! What must hold of a manifest, whatever was applied.

use alluvium_types::Offset;

use super::{Partition, Rest};
use crate::runs::Run;

impl Partition {
    /// First offsets of the runs that may yet vanish, ascending.
    pub(crate) fn unstable(&self) -> impl Iterator<Item = Offset> {
        let rest = self.rest.iter();
        rest.flat_map(|rest| rest.unstable.iter().copied())
    }

    /// Says what does not hold. Of a partition of a deleted topic only the counts are checked.
    pub(crate) fn check(&self, is_deleted: bool) -> Result<(), String> {
        if !is_deleted {
            self.check_marks()?;
            if let Some(producers) = self.producers() {
                producers.check(self.next_offset)?;
            }
            if let Some(transactions) = self.transactions() {
                transactions.check(self.next_offset)?;
            }
        }
        self.check_runs()?;
        let default = Rest::default();
        let rest = self.rest.as_deref().unwrap_or(&default);
        if (rest.inline_runs, rest.journal_runs) != self.count_unsettled()
            || self.descents_in(0, usize::MAX) != self.descents
        {
            return Err("counts do not match the runs".to_owned());
        }
        let unstable = self.unstable().collect::<Vec<_>>();
        let of_journal = |offset: &Offset| {
            let found = self
                .runs
                .binary_search_by_key(offset, |run| run.base_offset);
            let run = found.ok().and_then(|index| self.runs.get(index));
            run.is_some_and(|run| run.journal().is_some())
        };
        if !unstable.is_sorted_by(|held, next| held < next) || !unstable.iter().all(of_journal) {
            return Err(format!("{unstable:?} are held back"));
        }
        Ok(())
    }

    fn check_marks(&self) -> Result<(), String> {
        if self.log_start < 0 || self.log_start > self.high_watermark() {
            return Err(format!(
                "log start {} and high watermark {}",
                self.log_start,
                self.high_watermark()
            ));
        }
        let first = self.runs.front();
        let begins = first.map_or(self.log_start, |run| run.base_offset);
        if begins < 0 || begins > self.log_start {
            return Err(format!(
                "first run begins at {begins}, log start is {}",
                self.log_start
            ));
        }
        if let Some(run) = first.filter(|run| run.end_offset <= self.log_start) {
            return Err(format!(
                "run {}..{} is below the log start",
                run.base_offset, run.end_offset
            ));
        }
        if !(0..=self.high_watermark()).contains(&self.clean_to()) {
            return Err(format!("it is clean to {}", self.clean_to()));
        }
        Ok(())
    }

    fn check_runs(&self) -> Result<(), String> {
        let first = self.runs.front();
        let mut expected = first.map_or(self.next_offset, |run| run.base_offset);
        let mut bytes = 0u64;
        let mut before: Option<&Run> = None;
        for run in &self.runs {
            if run.base_offset != expected || run.end_offset <= run.base_offset {
                return Err(format!(
                    "run {}..{}, expected {expected}",
                    run.base_offset, run.end_offset
                ));
            }
            let inline = run
                .inline()
                .map(|bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            if (run.length == 0) != run.is_gap()
                || inline.is_some_and(|inline| inline != run.length)
            {
                return Err(format!(
                    "run {expected} has length {}, inline {inline:?}",
                    run.length
                ));
            }
            if run.is_gap() && before.is_some_and(Run::is_gap) {
                return Err(format!("two gaps meet at {expected}"));
            }
            expected = run.end_offset;
            bytes = bytes.checked_add(run.length).ok_or("bytes overflow")?;
            before = Some(run);
        }
        if expected != self.next_offset {
            return Err(format!(
                "runs end at {expected}, next offset is {}",
                self.next_offset
            ));
        }
        if bytes != self.bytes {
            return Err(format!("{} bytes, found {bytes}", self.bytes));
        }
        Ok(())
    }
}
