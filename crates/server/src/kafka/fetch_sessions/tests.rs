use alluvium_protocol::fetch::FetchedPartition;
use alluvium_protocol::messages::StrBytes;
use alluvium_protocol::produce::TopicRef;
use alluvium_types::TopicId;
use bytes::Bytes;

use super::*;

fn topic(name: &str) -> TopicRef {
    TopicRef::Name(StrBytes::from(name))
}

fn asked(name: &str, partition: i32, offset: i64) -> FetchPartition {
    FetchPartition {
        topic: topic(name),
        partition,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        offset,
        max_bytes: 1000,
    }
}

fn request(id: i32, epoch: i32, partitions: Vec<FetchPartition>) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        read_committed: false,
        session_id: id,
        session_epoch: epoch,
        partitions,
        forgotten: Vec::new(),
        rack: String::new(),
    }
}

/// The answer of a broker on which every partition has the given high watermark.
fn answered(plan: &Plan, high_watermark: i64, records: &'static [u8]) -> FetchResponse {
    let partitions = plan.partitions.iter().map(|asked| FetchedPartition {
        topic: asked.topic.clone(),
        partition: asked.partition,
        error: ErrorCode::None,
        high_watermark,
        last_stable_offset: high_watermark,
        log_start: 0,
        aborted: None,
        preferred_read_replica: -1,
        records: if records.is_empty() {
            vec![]
        } else {
            vec![Bytes::from_static(records)]
        },
    });
    FetchResponse {
        partitions: partitions.collect(),
        ..FetchResponse::default()
    }
}

fn named(response: &FetchResponse) -> Vec<i32> {
    response
        .partitions
        .iter()
        .map(|partition| partition.partition)
        .collect()
}

fn open(sessions: &FetchSessions, partitions: i32, now: Millis) -> i32 {
    let partitions = (0..partitions).map(|index| asked("t", index, 0)).collect();
    let plan = sessions
        .begin(request(0, 0, partitions), false, now)
        .unwrap();
    let mut response = answered(&plan, 10, b"");
    sessions.finish(plan, &mut response, now);
    response.session_id
}

#[test]
fn a_session_is_told_only_what_changed() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 3, 0);
    assert_ne!(id, 0);

    // Nothing asked anew: everything is read, nothing has changed, nothing is told.
    let plan = sessions.begin(request(id, 1, vec![]), false, 1).unwrap();
    assert_eq!(plan.partitions.len(), 3);
    let mut response = answered(&plan, 10, b"");
    sessions.finish(plan, &mut response, 1);
    assert_eq!((response.session_id, named(&response)), (id, vec![]));

    // A high watermark moved.
    let plan = sessions
        .begin(request(id, 2, vec![asked("t", 1, 5)]), false, 2)
        .unwrap();
    assert_eq!(
        plan.partitions[1].offset, 5,
        "the client's new position is remembered"
    );
    let mut response = answered(&plan, 10, b"");
    response.partitions[2].high_watermark = 11;
    sessions.finish(plan, &mut response, 2);
    assert_eq!(named(&response), vec![2]);

    // Where else to fetch from is told until the client goes there.
    let plan = sessions.begin(request(id, 3, vec![]), false, 2).unwrap();
    let mut response = answered(&plan, 10, b"");
    response.partitions[2].high_watermark = 11;
    response.partitions[1].preferred_read_replica = 7;
    sessions.finish(plan, &mut response, 2);
    assert_eq!(named(&response), vec![1]);

    // An error is told, and told again for as long as it lasts, and so is its end.
    for (epoch, error) in [
        (4, ErrorCode::KafkaStorageError),
        (5, ErrorCode::KafkaStorageError),
        (6, ErrorCode::None),
    ] {
        let plan = sessions
            .begin(request(id, epoch, vec![]), false, 3)
            .unwrap();
        let mut response = answered(&plan, 10, b"");
        response.partitions[2].high_watermark = 11;
        response.partitions[0].error = error;
        sessions.finish(plan, &mut response, 3);
        assert_eq!(named(&response), vec![0], "epoch {epoch}");
    }
}

#[test]
fn a_session_is_told_when_a_transaction_has_ended() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 3, 0);
    for (epoch, stable, told) in [(1, 4, true), (2, 4, false), (3, 10, true)] {
        let plan = sessions
            .begin(request(id, epoch, vec![]), false, 1)
            .unwrap();
        let mut response = answered(&plan, 10, b"");
        response.partitions[1].last_stable_offset = stable;
        sessions.finish(plan, &mut response, 1);
        let expected = if told { vec![1] } else { vec![] };
        assert_eq!(named(&response), expected, "epoch {epoch}");
    }
}

#[test]
fn a_partition_that_gave_records_goes_behind_the_others() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 3, 0);
    let plan = sessions.begin(request(id, 1, vec![]), false, 0).unwrap();
    let mut response = answered(&plan, 10, b"");
    response.partitions[0].records = vec![Bytes::from_static(b"batch")];
    sessions.finish(plan, &mut response, 0);
    assert_eq!(named(&response), vec![0]);
    let plan = sessions.begin(request(id, 2, vec![]), false, 0).unwrap();
    let order: Vec<i32> = plan
        .partitions
        .iter()
        .map(|asked| asked.partition)
        .collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn partitions_are_added_and_forgotten() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 2, 0);
    let mut change = request(id, 1, vec![asked("u", 7, 0)]);
    change.forgotten = vec![(topic("t"), 0), (topic("nobody"), 9)];
    let plan = sessions.begin(change, false, 0).unwrap();
    let read: Vec<_> = plan
        .partitions
        .iter()
        .map(|p| (p.topic.clone(), p.partition))
        .collect();
    assert_eq!(read, [(topic("t"), 1), (topic("u"), 7)]);

    // A session without partitions ends.
    let mut last = request(id, 2, vec![]);
    last.forgotten = vec![(topic("t"), 1), (topic("u"), 7)];
    let plan = sessions.begin(last, false, 0).unwrap();
    assert!(plan.partitions.is_empty());
    let mut response = answered(&plan, 0, b"");
    sessions.finish(plan, &mut response, 0);
    assert_eq!(response.session_id, 0);
    let gone = sessions.begin(request(id, 3, vec![]), false, 0);
    assert_eq!(gone.unwrap_err(), ErrorCode::FetchSessionIdNotFound);
}

#[test]
fn what_does_not_fit_the_session_is_refused() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 1, 0);
    let cases = [
        (
            request(id + 1, 1, vec![]),
            false,
            ErrorCode::FetchSessionIdNotFound,
        ),
        (
            request(id, 2, vec![]),
            false,
            ErrorCode::InvalidFetchSessionEpoch,
        ),
        (
            request(id, 1, vec![]),
            true,
            ErrorCode::FetchSessionTopicIdError,
        ),
    ];
    for (request, by_id, expected) in cases {
        assert_eq!(sessions.begin(request, by_id, 0).unwrap_err(), expected);
    }
    // None of these changed the session; its last request ends it.
    sessions.begin(request(id, 1, vec![]), false, 0).unwrap();
    let plan = sessions
        .begin(request(id, -1, vec![asked("t", 0, 0)]), false, 0)
        .unwrap();
    assert_eq!(plan.partitions.len(), 1);
    assert!(sessions.begin(request(id, 2, vec![]), false, 0).is_err());
}

#[test]
fn two_requests_at_once_do_not_both_count() {
    let sessions = FetchSessions::new(10);
    let id = open(&sessions, 1, 0);
    let slow = sessions.begin(request(id, 1, vec![]), false, 0).unwrap();
    let quick = sessions.begin(request(id, 2, vec![]), false, 0).unwrap();
    let mut response = answered(&quick, 11, b"");
    sessions.finish(quick, &mut response, 0);
    assert_eq!(response.error, ErrorCode::None);
    let mut response = answered(&slow, 12, b"");
    sessions.finish(slow, &mut response, 0);
    assert_eq!(response.error, ErrorCode::InvalidFetchSessionEpoch);
    assert!(response.partitions.is_empty());
}

#[test]
fn eviction_takes_the_stale_then_the_small() {
    let sessions = FetchSessions::new(2);
    let (small, large) = (open(&sessions, 1, 0), open(&sessions, 5, 10));
    assert_eq!(open(&sessions, 9, 1000), 0, "nobody has had its time yet");
    let alive = |id, epoch, now| {
        sessions
            .begin(request(id, epoch, vec![]), false, now)
            .is_ok()
    };
    assert!(alive(small, 1, 100_000) && alive(large, 1, 100_000));

    // Both are in use and old: only a larger newcomer takes a smaller one's place.
    assert_eq!(open(&sessions, 1, 150_000), 0);
    let newcomer = open(&sessions, 2, 150_000);
    assert_ne!(newcomer, 0);
    assert!(!alive(small, 2, 150_000));

    // Unused for long: anybody may have the place.
    assert!(alive(newcomer, 1, 400_000));
    assert_ne!(open(&sessions, 1, 400_000), 0);
    assert!(!alive(large, 2, 400_000));
}

#[test]
fn no_slots_no_sessions() {
    assert_eq!(open(&FetchSessions::new(0), 1, 0), 0);
}

#[test]
fn topic_ids_and_names_keep_apart_and_epochs_wrap() {
    let sessions = FetchSessions::new(2);
    let mut by_id = asked("", 0, 0);
    by_id.topic = TopicRef::Id(TopicId([7; 16]));
    let plan = sessions.begin(request(0, 0, vec![by_id]), true, 0).unwrap();
    let mut response = answered(&plan, 1, b"");
    sessions.finish(plan, &mut response, 0);
    assert!(
        sessions
            .begin(request(response.session_id, 1, vec![]), true, 0)
            .is_ok()
    );
    assert_eq!(next_epoch(i32::MAX), 1);
    assert_eq!(next_epoch(1), 2);
}
