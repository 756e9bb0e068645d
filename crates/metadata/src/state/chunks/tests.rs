use super::*;
use crate::PartitionSequenced;

#[test]
fn answers_are_bounded_by_number_and_by_bytes() {
    let mut log = ChunkLog::default();
    for _ in 0..200 {
        log.remember(&Outcome::Done);
    }
    assert_eq!((log.last, log.answers.len()), (200, REMEMBERED_CHUNKS));
    let batches = vec![
        crate::BatchOutcome::Appended {
            base_offset: i64::MAX
        };
        150_000
    ];
    let large = Outcome::Sequenced(vec![PartitionSequenced {
        batches,
        log_start: 0,
    }]);
    for _ in 0..10 {
        log.remember(&large);
        log.check().unwrap();
    }
    assert!(log.answers.iter().map(|answer| answer.len()).sum::<usize>() <= REMEMBERED_BYTES);
    assert!(matches!(log.place(ChunkNumber(210)), Place::Answered(answer) if answer == large));
    assert!(matches!(log.place(ChunkNumber(200)), Place::Forgotten));
    assert!(matches!(log.place(ChunkNumber(211)), Place::Next));
}
