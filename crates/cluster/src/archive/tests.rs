//! What leaders archive is whole, whoever led and whatever the store did.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alluvium_metadata::Command;
use alluvium_types::{Clock, ManualClock, TopicId};

use super::marker::Marker;
use super::testing::{CLUSTER, Log, NOW, Shelf, Voter, beginning, ids, topic};
use super::{ArchiveConfig, ArchiveTask, file, keys, refuse_claimed, snapshot};
use crate::restore::testing::replayed;
use crate::view::Current;

fn world() -> (Arc<Log>, Arc<Shelf>) {
    (Arc::default(), Arc::default())
}

fn push(log: &Log, commands: impl IntoIterator<Item = Command>) {
    commands.into_iter().for_each(|command| log.push(command));
}

fn many(count: usize) -> Vec<Command> {
    vec![ids(); count]
}

#[tokio::test]
async fn what_was_archived_is_the_state_again() {
    let (log, shelf) = world();
    push(&log, beginning());
    let mut leader = Voter::new(&log, &shelf);
    leader.apply();
    leader.archive().await;
    for round in 0..20 {
        push(&log, many(round));
        leader.apply();
        leader.archive().await;
    }
    let (current, replayed) = replayed(&shelf).await;
    assert_eq!(current.state, leader.current().state);
    assert_eq!(replayed.ended_early, None);
    // A piece for each round in which something was committed.
    assert_eq!(shelf.keys("quorum/log/").len(), 20);
    let status = leader.archiver.progress.status(NOW);
    assert_eq!((status.next_index, status.behind_millis), (193, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_known_to_be_there_before_the_end_was_found() {
    let (log, shelf) = world();
    push(&log, beginning());
    let mut leader = Voter::new(&log, &shelf);
    leader.apply();
    shelf.is_away.store(true, Ordering::SeqCst);
    assert!(leader.round().await.is_err());
    assert_eq!(leader.archiver.progress.status(NOW).next_index, 0);
    shelf.is_away.store(false, Ordering::SeqCst);
    leader.archive().await;
    assert!(leader.archiver.progress.status(NOW).next_index > 0);
}

#[tokio::test]
async fn leaders_follow_one_another_in_mid_way() {
    let (log, shelf) = world();
    push(&log, beginning());
    let mut voters: Vec<Voter> = (0..3).map(|_| Voter::new(&log, &shelf)).collect();
    for round in 0..30 {
        log.term.store(round as u64, Ordering::SeqCst);
        push(&log, many(7));
        let count = voters.len();
        for (number, voter) in voters.iter_mut().enumerate() {
            voter.apply();
            voter
                .side
                .leads
                .store(number == round % count, Ordering::SeqCst);
            voter.archive().await;
        }
    }
    let (current, replayed) = replayed(&shelf).await;
    assert_eq!(current.state, voters[0].current().state);
    assert_eq!(replayed.entries, 213);
}

/// Two leaders for a moment: the old one has applied less, and writes where the new one has written.
async fn a_late_leader(shelf: &Arc<Shelf>) -> (Current, Voter) {
    let log: Arc<Log> = Arc::default();
    push(&log, beginning());
    push(&log, many(10));
    let (mut old, mut new) = (Voter::new(&log, shelf), Voter::new(&log, shelf));
    old.apply_to(3);
    old.archive().await;
    new.apply();
    new.archive().await;
    push(&log, many(5));
    old.apply_to(6);
    old.archive().await;
    new.apply();
    new.archive().await;
    (new.current(), old)
}

#[tokio::test]
async fn a_late_leader_goes_on_behind_what_the_new_one_wrote() {
    let shelf = Arc::default();
    let (current, mut old) = a_late_leader(&shelf).await;
    let (restored, replay) = replayed(&shelf).await;
    assert_eq!(replay.ended_early, None);
    assert_eq!(restored.state, current.state);
    old.apply();
    old.archive().await;
    assert_eq!(shelf.keys("quorum/log/").len(), 3);
}

/// The guard: were creates not conditional, the late leader's shorter piece would take the place of
/// the longer one, and what is behind it would hang in the air.
#[tokio::test]
async fn without_conditional_creates_a_late_leader_tears_a_hole() {
    let shelf = Arc::new(Shelf::default());
    shelf.overwrites.store(true, Ordering::SeqCst);
    let (current, _) = a_late_leader(&shelf).await;
    let (restored, replayed) = replayed(&shelf).await;
    assert!(restored.state != current.state);
    assert!(replayed.ended_early.unwrap().contains("gap"));
}

#[tokio::test]
async fn a_damaged_piece_is_named_and_a_later_leader_heals_the_archive() {
    let (log, shelf) = world();
    push(&log, beginning());
    let mut leader = Voter::new(&log, &shelf);
    for _ in 0..3 {
        push(&log, many(3));
        leader.apply();
        leader.archive().await;
    }
    let torn = shelf.keys("quorum/log/").pop().unwrap();
    shelf.damage(&torn);
    let (current, replay) = replayed(&shelf).await;
    assert_eq!(current.checkpoint.next_index(), 9);
    let reason = replay.ended_early.unwrap();
    assert!(
        reason.contains(&torn) && reason.contains("entry 9"),
        "{reason}"
    );

    let mut next = Voter::new(&log, &shelf);
    next.apply();
    next.archive().await;
    let (current, replay) = replayed(&shelf).await;
    assert_eq!(current.state, next.current().state);
    assert_eq!((replay.snapshot, replay.ended_early), (Some(12), None));
    assert!(replay.damaged[0].contains(&torn));
}

#[tokio::test]
async fn a_gap_ends_the_replay_and_says_so() {
    let (log, shelf) = world();
    push(&log, beginning());
    let mut leader = Voter::new(&log, &shelf);
    for _ in 0..4 {
        push(&log, many(2));
        leader.apply();
        leader.archive().await;
    }
    shelf.remove(&keys::piece(0, 7));
    let (current, replay) = replayed(&shelf).await;
    assert_eq!(current.checkpoint.next_index(), 7);
    let reason = replay.ended_early.unwrap();
    assert!(reason.contains("entries 7 to 8"), "{reason}");
}

#[tokio::test]
async fn what_the_log_has_purged_comes_as_a_snapshot() {
    let (log, shelf) = world();
    push(&log, beginning());
    push(&log, many(50));
    let mut leader = Voter::new(&log, &shelf);
    leader.apply();
    leader.side.begin.store(40, Ordering::SeqCst);
    leader.archive().await;
    push(&log, many(5));
    leader.apply();
    leader.archive().await;
    assert_eq!(shelf.keys("quorum/snapshots/"), [keys::snapshot(0, 53)]);
    assert_eq!(shelf.keys("quorum/log/"), [keys::piece(0, 53)]);
    let (current, _) = replayed(&shelf).await;
    assert_eq!(current.state, leader.current().state);
}

#[tokio::test]
async fn snapshots_come_when_there_are_many_pieces_and_a_damaged_one_is_passed_over() {
    let (log, shelf) = world();
    push(&log, beginning());
    let mut leader = Voter::new(&log, &shelf);
    let pieces = usize::try_from(super::archiver::SNAPSHOT_PIECES).unwrap() * 2 + 10;
    for _ in 0..pieces {
        push(&log, many(1));
        leader.apply();
        leader.archive().await;
    }
    let snapshots = shelf.keys("quorum/snapshots/");
    assert_eq!(snapshots.len(), 2);
    let (current, replay) = replayed(&shelf).await;
    assert!(replay.entries < 20, "{replay:?}");
    assert_eq!(current.state, leader.current().state);

    // A new leader finds the end behind the snapshot.
    let mut next = Voter::new(&log, &shelf);
    push(&log, many(1));
    next.apply();
    next.archive().await;
    assert_eq!(shelf.keys("quorum/log/").len(), pieces + 1);

    shelf.damage(&snapshots[1]);
    let (current, replay) = replayed(&shelf).await;
    assert_eq!(current.state, next.current().state);
    assert!(replay.damaged[0].contains(&snapshots[1]));
}

#[tokio::test]
async fn what_is_older_than_the_retention_goes() {
    let (log, shelf) = world();
    push(&log, beginning());
    let mut leader = Voter::new(&log, &shelf);
    leader.keep_for(Duration::from_secs(3600));
    for _ in 0..6 {
        // A purged log brings a snapshot.
        push(&log, many(2));
        leader.apply();
        let next = leader.current().checkpoint.next_index();
        leader.side.begin.store(next - 1, Ordering::SeqCst);
        leader.archive().await;
        push(&log, many(1));
        leader.apply();
        leader.side.begin.store(0, Ordering::SeqCst);
        leader.archive().await;
        leader.clock.advance(3600 * 1000);
    }
    push(&log, many(1));
    leader.apply();
    leader.archive().await;
    // The newest snapshot of an hour ago, and what came after it.
    assert_eq!(shelf.keys("quorum/snapshots/").len(), 1);
    assert_eq!(shelf.keys("quorum/log/").len(), 2);
    assert_eq!(shelf.keys("quorum/history/").len(), 1);
    let (current, _) = replayed(&shelf).await;
    assert_eq!(current.state, leader.current().state);
}

#[tokio::test]
async fn a_restore_elsewhere_fences() {
    let (log, shelf) = world();
    push(&log, beginning());
    let mut leader = Voter::new(&log, &shelf);
    leader.apply();
    leader.archive().await;
    let marker = Marker::new(1, CLUSTER, Some((0, 3)), NOW);
    assert!(marker.create(&shelf.bucket()).await.unwrap());
    assert!(
        !Marker::new(1, CLUSTER, None, NOW)
            .create(&shelf.bucket())
            .await
            .unwrap()
    );
    push(&log, many(1));
    leader.apply();
    let error = leader.round().await.unwrap_err();
    assert!(
        error.starts_with("fenced: ") && error.contains("restored"),
        "{error}"
    );
    assert_eq!(
        shelf.keys("quorum/log/").len(),
        1,
        "nothing late is written"
    );

    // As a task: the node hears of it.
    let task = ArchiveTask::start(
        ArchiveConfig {
            interval: Duration::from_millis(1),
            ..ArchiveConfig::new(shelf.bucket())
        },
        Arc::clone(&leader.archiver.view),
        Arc::clone(&leader.archiver.source),
        Arc::new(ManualClock::new(NOW)) as Arc<dyn Clock>,
    );
    assert!(task.fenced().await.contains("restored"));
    task.shutdown().await;
}

#[tokio::test]
async fn two_clusters_do_not_share_a_bucket() {
    let (log, shelf) = world();
    let bucket = shelf.bucket();
    assert_eq!(refuse_claimed(&bucket).await, Ok(()));
    push(&log, beginning());
    let mut leader = Voter::new(&log, &shelf);
    leader.apply();
    leader.archive().await;
    let refused = refuse_claimed(&bucket).await.unwrap_err();
    assert!(refused.contains("alluvium restore") && refused.contains(&CLUSTER.to_string()));

    let other: Arc<Log> = Arc::default();
    other.push(Command::FormCluster {
        id: TopicId([8; 16]),
    });
    let mut stranger = Voter::new(&other, &shelf);
    stranger.apply();
    let error = stranger.round().await.unwrap_err();
    assert!(error.contains("belongs to cluster"), "{error}");

    // A copy of the data directory that went its own way.
    let copy: Arc<Log> = Arc::default();
    push(&copy, beginning());
    push(&copy, [topic("other", 9)]);
    push(&log, many(1));
    let mut copied = Voter::new(&copy, &shelf);
    copied.apply_to(3);
    copied.archive().await;
    leader.apply();
    leader.archive().await;
    copied.apply();
    let error = copied.round().await.unwrap_err();
    assert!(error.contains("two clusters"), "{error}");
    let mut copied = Voter::new(&copy, &shelf);
    copied.apply();
    let error = copied.round().await.unwrap_err();
    assert!(error.contains("another entry 3"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_waited_for_and_nothing_is_missing_then() {
    let (log, shelf) = world();
    push(&log, beginning());
    let leader = Voter::new(&log, &shelf);
    leader.apply();
    shelf.is_away.store(true, Ordering::SeqCst);
    let task = ArchiveTask::start(
        ArchiveConfig::new(shelf.bucket()),
        Arc::clone(&leader.archiver.view),
        Arc::clone(&leader.archiver.source),
        Arc::clone(&leader.clock) as Arc<dyn Clock>,
    );
    tokio::time::sleep(Duration::from_secs(600)).await;
    push(&log, many(100));
    leader.apply();
    shelf.is_away.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (current, _) = replayed(&shelf).await;
    assert_eq!(current.state, leader.current().state);
    assert_eq!(task.progress().status(NOW).error, None);
    // A shutdown takes the last of it along.
    push(&log, many(1));
    leader.apply();
    task.shutdown().await;
    let (current, _) = replayed(&shelf).await;
    assert_eq!(current.state, leader.current().state);
}

#[tokio::test]
async fn golden_files_are_read_and_written_as_they_are() {
    let (log, shelf) = world();
    push(&log, beginning());
    push(&log, many(40));
    let mut leader = Voter::new(&log, &shelf);
    leader.apply();
    leader.archive().await;
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests-data");
    let files = [
        ("archive-piece-v1", shelf.get(&keys::piece(0, 0))),
        (
            "archive-snapshot-v1-state-v4",
            snapshot::encode((0, CLUSTER), &leader.current(), NOW).unwrap(),
        ),
    ];
    for (name, written) in files {
        let path = dir.join(name);
        if !path.exists() && std::env::var_os("ALLUVIUM_WRITE_GOLDEN").is_some() {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, &written).unwrap();
        }
        let golden = bytes::Bytes::from(std::fs::read(&path).unwrap());
        assert_eq!(unpacked(&golden), unpacked(&written), "{name}");
    }
    let golden = std::fs::read(dir.join("archive-piece-v1")).unwrap().into();
    let piece = super::piece::Piece::decode("piece", &golden).unwrap();
    assert_eq!(piece.entries.len(), 43);
    // The first holds a state of version 2.
    for name in [
        "archive-snapshot-v1",
        "archive-snapshot-v1-state-v3",
        "archive-snapshot-v1-state-v4",
    ] {
        let golden = std::fs::read(dir.join(name)).unwrap().into();
        let (head, current) = snapshot::decode("snapshot", &golden).unwrap();
        assert_eq!((head.last.index, head.at), (42, NOW), "{name}");
        assert_eq!(current.state, leader.current().state, "{name}");
    }
}

/// Without the compression, whose bytes may differ from release to release.
fn unpacked(file: &bytes::Bytes) -> (file::Head, bytes::Bytes) {
    let kind = match file[10] {
        1 => file::Kind::Piece,
        _ => file::Kind::Snapshot,
    };
    file::decode("golden", file, kind).unwrap()
}
