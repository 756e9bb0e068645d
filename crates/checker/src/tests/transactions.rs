//! What readers of committed records may not be shown.

use super::*;

impl Story {
    /// A batch of one record in a transaction, acknowledged.
    fn within(&mut self, transaction: u64, number: u64, offset: i64) -> &mut Self {
        let op = self.invoke(1, number, 1);
        self.add(Event::Joined { transaction, op });
        self.add(Event::ProduceAcked { op, offset })
    }

    fn end(&mut self, transaction: u64, committed: bool) -> &mut Self {
        self.add(Event::Ended {
            transaction,
            committed,
        })
    }

    fn committed(
        &mut self,
        session: u64,
        stable: i64,
        records: &[(i64, u32, u64)],
        last: bool,
    ) -> &mut Self {
        let records = records.iter().map(|(offset, writer, number)| Read {
            offset: *offset,
            record: Some(RecordId(*writer, *number)),
        });
        self.add(Event::FetchedCommitted {
            place: place(),
            session,
            from: 0,
            next: stable,
            last_stable_offset: stable,
            records: records.collect(),
            last,
        })
    }
}

/// Two transactions, of two records and of one, between records that are part of none.
fn story() -> Story {
    let mut story = Story::default();
    story.acked(2, 0, 1, 0);
    story.within(7, 0, 1).within(7, 1, 2).within(8, 2, 4);
    story.acked(2, 1, 1, 6);
    story
}

/// Everything is there, whatever is shown.
fn all_there(story: &mut Story) -> &mut Story {
    story.last(&[(0, 2, 0), (1, 1, 0), (2, 1, 1), (4, 1, 2), (6, 2, 1)])
}

#[test]
fn what_was_committed_is_shown_and_what_was_aborted_is_not() {
    let mut story = story();
    story.end(7, true).end(8, false);
    story.committed(3, 4, &[(0, 2, 0), (1, 1, 0), (2, 1, 1)], false);
    all_there(&mut story);
    let shown = [(0, 2, 0), (1, 1, 0), (2, 1, 1), (6, 2, 1)];
    story.committed(4, 7, &shown, true);
    story.shows(&[]);
}

#[test]
fn what_nobody_knows_may_be_shown_or_not() {
    for shown in [
        &[(0, 2, 0), (6, 2, 1)][..],
        &[(0, 2, 0), (1, 1, 0), (2, 1, 1), (6, 2, 1)],
    ] {
        let mut story = story();
        all_there(&mut story).end(8, false);
        story.committed(4, 7, shown, true).shows(&[]);
    }
}

#[test]
fn an_aborted_record_is_shown() {
    let mut story = story();
    // It is known only later that it is one.
    story.committed(3, 5, &[(0, 2, 0), (4, 1, 2)], false);
    story.end(7, false).end(8, false);
    all_there(&mut story).committed(4, 7, &[(0, 2, 0), (6, 2, 1)], true);
    story.shows(&[Kind::Uncommitted]);
}

#[test]
fn a_committed_record_is_lost() {
    let mut story = story();
    all_there(&mut story).end(7, true).end(8, false);
    story.committed(4, 7, &[(0, 2, 0), (1, 1, 0), (6, 2, 1)], true);
    story.shows(&[Kind::Lost]);
}

#[test]
fn half_a_transaction_is_shown() {
    let mut story = story();
    all_there(&mut story).end(8, false);
    story.committed(4, 7, &[(0, 2, 0), (2, 1, 1), (6, 2, 1)], true);
    story.shows(&[Kind::Torn]);
}

#[test]
fn what_is_part_of_no_transaction_is_left_out() {
    let mut story = story();
    all_there(&mut story).end(7, false).end(8, false);
    story.committed(4, 7, &[(0, 2, 0)], true);
    story.shows(&[Kind::Skipped]);
}

#[test]
fn a_reader_of_committed_records_is_led_past_one() {
    let mut story = story();
    story.end(7, true).end(8, false);
    story.committed(3, 4, &[(0, 2, 0), (2, 1, 1)], false);
    let shown = [(0, 2, 0), (1, 1, 0), (2, 1, 1), (6, 2, 1)];
    all_there(&mut story).committed(4, 7, &shown, true);
    story.shows(&[Kind::Skipped]);
}

#[test]
fn the_last_stable_offset_goes_back_or_is_passed() {
    let mut story = Story::default();
    story.committed(3, 4, &[], false);
    story
        .committed(3, 3, &[], false)
        .committed(5, 2, &[], false);
    story.shows(&[Kind::StableOffsetBack]);
    let mut story = story_of_one();
    story.committed(3, 0, &[(0, 2, 0)], false);
    story.shows(&[Kind::ReadPastStableOffset]);
}

fn story_of_one() -> Story {
    let mut story = Story::default();
    story.acked(2, 0, 1, 0);
    story
}
