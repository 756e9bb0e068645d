use super::*;
use crate::testing::{Cluster, NOW, batch, object, run};
use crate::{AdvanceLogStart, BatchStamp, Command};

const fn stamped(max_timestamp: Millis) -> BatchStamp {
    BatchStamp {
        max_timestamp,
        ..batch(10)
    }
}

/// One row of ten offsets for each timestamp.
fn with_times(times: &[Millis]) -> Cluster {
    let mut cluster = Cluster::new(1);
    for time in times {
        cluster.append(&[stamped(*time)]);
    }
    cluster
}

fn found(run: Option<&Run>) -> Option<Offset> {
    run.map(|run| run.base_offset)
}

#[test]
fn a_partition_without_records_is_small() {
    assert!(size_of::<Partition>() <= 72, "{}", size_of::<Partition>());
    assert!(size_of::<Run>() <= 80, "{}", size_of::<Run>());
    assert!(
        size_of::<ProducerState>() <= 104,
        "{}",
        size_of::<ProducerState>()
    );
    let cluster = with_times(&[1]);
    assert_eq!(cluster.partition(0).runs.capacity(), 1);
    assert_eq!(Partition::default().runs.capacity(), 0);
}

#[test]
fn runs_are_found_by_offset() {
    let cluster = with_times(&[1, 2, 3]);
    let from = |offset| found(cluster.partition(0).runs_from(offset).next());
    assert_eq!([from(-5), from(0), from(9)], [Some(0); 3]);
    assert_eq!(
        [from(10), from(19), from(29)],
        [Some(10), Some(10), Some(20)]
    );
    assert_eq!([from(30), from(Offset::MAX)], [None, None]);
    assert_eq!(cluster.partition(0).runs_from(5).count(), 3);
    assert_eq!(cluster.partition(0).bytes(), 300);
}

#[test]
fn runs_are_found_by_time_even_where_time_goes_back() {
    for (times, at, expected) in [
        (&[10, 20, 30][..], 20, Some(10)),
        (&[10, 20, 30], 21, Some(20)),
        (&[10, 20, 30], 31, None),
        (&[30, 10, 20], 15, Some(0)),
        (&[10, 5, 20], 6, Some(0)),
        (&[10, 5, 20], 11, Some(20)),
        (&[], 0, None),
    ] {
        let cluster = with_times(times);
        assert_eq!(
            found(cluster.partition(0).run_at_time(at)),
            expected,
            "{times:?} {at}"
        );
    }
}

#[test]
fn the_greatest_timestamp_is_found_where_it_came_first() {
    for (times, expected) in [
        (&[10, 30, 30][..], Some(10)),
        (&[30, 10, 30], Some(0)),
        (&[10, 30, 20], Some(10)),
        (&[], None),
    ] {
        let cluster = with_times(times);
        assert_eq!(
            found(cluster.partition(0).run_of_max_timestamp()),
            expected,
            "{times:?}"
        );
    }
}

#[test]
fn what_lies_behind_one_another_in_an_object_is_one_row() {
    let mut cluster = Cluster::new(1);
    cluster.sequence(object(5), vec![run(0, 0, &[stamped(9), stamped(3)])]);
    cluster.sequence(object(5), vec![run(0, 200, &[stamped(4)])]);
    assert_eq!(cluster.rows(0), [(0, 30)]);
    assert_eq!(cluster.partition(0).runs[0].max_timestamp, 9);
    cluster.sequence(object(5), vec![run(0, 301, &[stamped(1)])]);
    cluster.sequence(object(6), vec![run(0, 401, &[stamped(1)])]);
    assert_eq!(cluster.rows(0), [(0, 30), (30, 40), (40, 50)]);
}

#[test]
fn a_row_that_grows_can_put_time_in_order_again() {
    let mut cluster = with_times(&[NOW]);
    cluster.sequence(object(5), vec![run(0, 0, &[stamped(NOW - 1)])]);
    assert_eq!(cluster.partition(0).descents, 1);
    cluster.sequence(object(5), vec![run(0, 100, &[stamped(NOW + 1)])]);
    assert_eq!(cluster.partition(0).descents, 0);
    let advance = AdvanceLogStart {
        partition: crate::testing::part(0),
        offset: 12,
    };
    cluster.apply(Command::AdvanceLogStart(advance));
    assert_eq!(found(cluster.partition(0).run_at_time(NOW)), Some(10));
}

#[test]
fn serialised_and_read_again_it_is_the_same() {
    let cluster = with_times(&[3, 1, 2]);
    let bytes = postcard::to_allocvec(cluster.partition(0)).unwrap();
    let read: Partition = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(&read, cluster.partition(0));
}
