//! Each anomaly, fed as the smallest history that shows it, is found and no other.

mod transactions;

use crate::event::Micros;
use crate::{Checker, Entry, Event, Kind, Place, Read, RecordId, Verdict, history};

/// Builds histories; every step is 100 µs after the one before.
#[derive(Default)]
struct Story {
    entries: Vec<Entry>,
    ops: u64,
}

fn place() -> Place {
    Place::new("clicks", 0)
}

impl Story {
    fn now(&self) -> Micros {
        self.entries.len() as u64 * 100
    }

    fn add(&mut self, event: Event) -> &mut Self {
        let (at, client) = (self.now(), 1);
        self.entries.push(Entry { at, client, event });
        self
    }

    fn invoke(&mut self, writer: u32, first: u64, count: u32) -> u64 {
        self.ops += 1;
        let op = self.ops;
        self.add(Event::ProduceInvoked {
            op,
            place: place(),
            writer,
            first,
            count,
            producer: 7,
            sequence: 0,
        });
        op
    }

    fn acked(&mut self, writer: u32, first: u64, count: u32, offset: i64) -> &mut Self {
        let op = self.invoke(writer, first, count);
        self.add(Event::ProduceAcked { op, offset })
    }

    fn unknown(&mut self, writer: u32, first: u64) -> &mut Self {
        let op = self.invoke(writer, first, 1);
        self.add(Event::ProduceUnknown { op })
    }

    fn fetch(&mut self, from: i64, hw: i64, records: &[(i64, u32, u64)]) -> &mut Self {
        self.answer(1, from, hw, records, false)
    }

    fn last(&mut self, records: &[(i64, u32, u64)]) -> &mut Self {
        let hw = records.last().map_or(0, |(offset, ..)| offset + 1);
        self.answer(9, 0, hw, records, true)
    }

    fn answer(
        &mut self,
        session: u64,
        from: i64,
        hw: i64,
        records: &[(i64, u32, u64)],
        last: bool,
    ) -> &mut Self {
        let records = records.iter().map(|(offset, writer, number)| Read {
            offset: *offset,
            record: Some(RecordId(*writer, *number)),
        });
        self.add(Event::Fetched {
            place: place(),
            session,
            from,
            high_watermark: hw,
            log_start: 0,
            records: records.collect(),
            last,
        })
    }

    fn listed(&mut self, asked: Micros, offset: i64) -> &mut Self {
        self.add(Event::Listed {
            place: place(),
            asked,
            offset,
        })
    }

    fn verdict(&self) -> Verdict {
        let mut checker = Checker::new();
        self.entries.iter().for_each(|entry| checker.observe(entry));
        checker.finish()
    }

    #[track_caller]
    fn shows(&self, kinds: &[Kind]) {
        let found: Vec<Kind> = self.verdict().anomalies.iter().map(|a| a.kind).collect();
        assert_eq!(found, kinds, "{:#?}", self.verdict().anomalies);
    }
}

#[test]
fn a_good_history_is_clean() {
    let mut story = Story::default();
    story.acked(1, 0, 2, 0).acked(2, 0, 1, 2);
    let asked = story.now();
    story.listed(asked, 3).fetch(0, 3, &[(0, 1, 0), (1, 1, 1)]);
    story.fetch(2, 3, &[(2, 2, 0)]);
    // Stored although nobody knows, and a hole where nothing is.
    story.unknown(1, 2).unknown(1, 3);
    story.last(&[(0, 1, 0), (1, 1, 1), (2, 2, 0), (5, 1, 3)]);
    story.shows(&[]);
    let counts = story.verdict().counts;
    assert_eq!((counts.acked, counts.unknown, counts.there), (3, 2, 4));
}

#[test]
fn lost() {
    let mut story = Story::default();
    story.acked(1, 0, 3, 0).last(&[(0, 1, 0), (2, 1, 2)]);
    story.shows(&[Kind::Lost]);
}

#[test]
fn vanished_after_it_was_read() {
    let mut story = Story::default();
    story.unknown(1, 0).fetch(0, 1, &[(0, 1, 0)]);
    story.answer(9, 0, 1, &[], true);
    story.shows(&[Kind::Vanished]);
}

#[test]
fn duplicated() {
    let mut story = Story::default();
    story.acked(1, 0, 2, 0);
    story.last(&[(0, 1, 0), (1, 1, 1), (2, 1, 1)]);
    story.shows(&[Kind::Duplicated]);
}

#[test]
fn reordered() {
    let mut story = Story::default();
    story.unknown(1, 0).unknown(1, 1);
    story.last(&[(0, 1, 1), (1, 1, 0)]);
    story.shows(&[Kind::Reordered]);
}

#[test]
fn second_offset() {
    let mut story = Story::default();
    story.acked(1, 0, 1, 0).last(&[(3, 1, 0)]);
    story.shows(&[Kind::SecondOffset]);
}

#[test]
fn offset_given_twice() {
    let mut story = Story::default();
    story.acked(1, 0, 1, 0).acked(2, 0, 1, 0);
    story.shows(&[Kind::OffsetGivenTwice]);
    let mut story = Story::default();
    story.unknown(1, 0).unknown(2, 0);
    story.fetch(0, 1, &[(0, 1, 0)]).fetch(0, 1, &[(0, 2, 0)]);
    story.shows(&[Kind::OffsetGivenTwice]);
}

#[test]
fn high_watermark_goes_back() {
    let mut story = Story::default();
    story.fetch(0, 5, &[]).fetch(0, 4, &[]);
    story.shows(&[Kind::HighWatermarkBack]);
    // Another connection may be to an agent that lags.
    let mut story = Story::default();
    story.fetch(0, 5, &[]).answer(2, 0, 4, &[], false);
    story.shows(&[]);
}

#[test]
fn the_last_high_watermark_is_below_one_that_was_seen() {
    let mut story = Story::default();
    story.fetch(0, 5, &[]).answer(2, 0, 4, &[], true);
    story.shows(&[Kind::HighWatermarkBack]);
}

#[test]
fn read_past_the_high_watermark() {
    let mut story = Story::default();
    story.acked(1, 0, 1, 0).fetch(0, 0, &[(0, 1, 0)]);
    story.shows(&[Kind::ReadPastHighWatermark]);
}

#[test]
fn stale_list_offsets() {
    let mut story = Story::default();
    let before = story.now();
    story.acked(1, 0, 2, 0);
    let after = story.now();
    // Asked before the acknowledgement: either answer will do.
    story.listed(before, 0);
    story.shows(&[]);
    story.listed(after, 1);
    story.shows(&[Kind::StaleListOffsets]);
}

#[test]
fn commits_go_back() {
    let group = || "g".to_owned();
    let mut story = Story::default();
    story.add(Event::Committed {
        group: group(),
        place: place(),
        offset: 5,
    });
    let asked = story.now();
    let fetched = |asked, offset| Event::CommitFetched {
        group: group(),
        place: place(),
        asked,
        offset,
    };
    story
        .add(fetched(0, None))
        .add(fetched(asked, Some(5)))
        .add(fetched(asked, Some(9)));
    story.shows(&[]);
    story.add(fetched(asked, Some(4))).add(fetched(asked, None));
    story.shows(&[Kind::CommitBack, Kind::CommitBack]);
}

#[test]
fn two_owners() {
    let assigned = |generation, member: &str| Event::Assigned {
        group: "g".to_owned(),
        generation,
        member: member.to_owned(),
        places: vec![place()],
    };
    let mut story = Story::default();
    story
        .add(assigned(1, "a"))
        .add(assigned(1, "a"))
        .add(assigned(2, "b"));
    story.shows(&[]);
    story.add(assigned(2, "a"));
    story.shows(&[Kind::TwoOwners]);
}

#[test]
fn skipped() {
    let mut story = Story::default();
    story.acked(1, 0, 3, 0).fetch(0, 3, &[(0, 1, 0), (2, 1, 2)]);
    story.last(&[(0, 1, 0), (1, 1, 1), (2, 1, 2)]);
    story.shows(&[Kind::Skipped]);
}

#[test]
fn phantom() {
    let mut story = Story::default();
    story.acked(1, 0, 1, 0).last(&[(0, 1, 0), (1, 1, 1)]);
    story.shows(&[Kind::Phantom]);
    let mut story = Story::default();
    let op = story.invoke(1, 0, 1);
    story.add(Event::ProduceFailed { op }).last(&[(0, 1, 0)]);
    story.shows(&[Kind::Phantom]);
}

#[test]
fn anomalies_beyond_a_hundred_are_counted() {
    let mut story = Story::default();
    story.acked(1, 0, 150, 0).last(&[]);
    let verdict = story.verdict();
    assert_eq!((verdict.anomalies.len(), verdict.omitted), (100, 50));
}

#[test]
fn a_history_survives_its_file() {
    let mut story = Story::default();
    story
        .acked(1, 0, 2, 0)
        .fetch(0, 2, &[(0, 1, 0)])
        .listed(3, 2);
    story.add(Event::Note {
        text: "killed a2".to_owned(),
    });
    let mut file = Vec::new();
    history::begin(&mut file).unwrap();
    for entry in &story.entries {
        history::append(&mut file, entry).unwrap();
    }
    let read: Vec<Entry> = history::read(&file[..]).map(Result::unwrap).collect();
    assert_eq!(read, story.entries);
    assert!(history::read(&b"{}\n"[..]).next().unwrap().is_err());
}

/// Records 0 and 1 of writer 5, acknowledged by the machine "a1" alone.
fn kept(story: &mut Story) {
    story.add(Event::WritesAlone { writer: 5 });
    let op = story.invoke(5, 0, 2);
    let keeper = "a1".to_owned();
    story.add(Event::ProduceKept { op, keeper });
}

fn lose_disk(story: &mut Story, keeper: &str) {
    let keeper = keeper.to_owned();
    story.add(Event::DiskLost { keeper });
}

#[test]
fn what_one_agent_acknowledged_alone_is_lost_with_its_disk_only() {
    let mut story = Story::default();
    // A disk that was lost before is no excuse, nor is that of another.
    lose_disk(&mut story, "a1");
    kept(&mut story);
    lose_disk(&mut story, "a2");
    story.last(&[(7, 5, 0)]);
    story.shows(&[Kind::Lost]);

    let mut story = Story::default();
    kept(&mut story);
    lose_disk(&mut story, "a1");
    story.last(&[]);
    story.shows(&[]);

    // Not when somebody has read it.
    let mut story = Story::default();
    kept(&mut story);
    story.fetch(0, 1, &[(0, 5, 0)]);
    lose_disk(&mut story, "a1");
    story.answer(9, 0, 1, &[], true);
    story.shows(&[Kind::Vanished]);
}

#[test]
fn what_one_agent_acknowledged_alone_may_come_later_and_twice() {
    let mut story = Story::default();
    kept(&mut story);
    let op = story.invoke(5, 2, 1);
    story.add(Event::ProduceUnknown { op });
    story.last(&[(0, 5, 2), (1, 5, 1), (4, 5, 0), (5, 5, 1)]);
    story.shows(&[]);
}
