use std::path::Path;
use std::sync::Arc;

use openraft::StorageError;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader};

use alluvium_metadata::{Command, Location, Sequence};
use alluvium_storage::disk::ForgetfulDisk;
use alluvium_types::{AgentEpoch, AgentId, ChunkNumber};

use super::codec;
use super::types::{Entry, LogId, Proposal, TypeConfig, Vote, log_id, position};
use super::{LogStore, StateMachine};
use crate::checkpoint::LogPosition;
use crate::growth::{LogGrowth, LogSize};
use crate::snapshots::Snapshots;
use crate::view::View;

fn growth() -> Arc<LogGrowth> {
    Arc::new(LogGrowth::new(LogSize {
        entries: 1 << 20,
        bytes: 1 << 30,
    }))
}

fn open(disk: &ForgetfulDisk) -> (LogStore, StateMachine) {
    let shared = disk.shared();
    let (log_dir, snapshot_dir) = (Path::new("/log"), Path::new("/snapshots"));
    for dir in [log_dir, snapshot_dir] {
        alluvium_storage::disk::create_dir_durable(shared.as_ref(), dir).unwrap();
    }
    let log = LogStore::open(Arc::clone(&shared), log_dir, 64 << 10, growth()).unwrap();
    let (snapshots, current) = Snapshots::open(shared, snapshot_dir, log.begin()).unwrap();
    let state_machine = StateMachine::new(
        Arc::new(View::new(current)),
        Arc::new(snapshots),
        Arc::default(),
    );
    (log, state_machine)
}

struct OnForgetfulDisk;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, ForgetfulDisk> for OnForgetfulDisk {
    async fn build(
        &self,
    ) -> Result<(ForgetfulDisk, LogStore, StateMachine), StorageError<TypeConfig>> {
        let disk = ForgetfulDisk::default();
        let (log, state_machine) = open(&disk);
        Ok((disk, log, state_machine))
    }
}

#[test]
fn passes_the_suite_of_the_library() {
    TypeConfig::run(async {
        Suite::test_all(OnForgetfulDisk).await.unwrap();
    });
}

fn id(term: u64, index: u64) -> LogId {
    log_id(LogPosition {
        term,
        leader: 1,
        index,
    })
}

fn entry(term: u64, index: u64) -> Entry {
    let command = Command::DeleteGroup {
        group: format!("group-{index}"),
    };
    Entry {
        log_id: id(term, index),
        payload: EntryPayload::Normal(Proposal::new(command).unwrap()),
    }
}

fn indexes(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.log_id.index).collect()
}

#[tokio::test]
async fn a_crash_keeps_what_was_flushed_and_the_vote() {
    let disk = ForgetfulDisk::default();
    let (mut log, _) = open(&disk);
    log.save_vote(&Vote::new_committed(3, 1)).await.unwrap();
    log.blocking_append([entry(3, 0), entry(3, 1)])
        .await
        .unwrap();
    log.save_committed(Some(id(3, 1))).await.unwrap();
    log.blocking_append([entry(3, 2)]).await.unwrap();

    let (mut log, _) = open(&disk.crash());
    assert_eq!(
        log.read_vote().await.unwrap(),
        Some(Vote::new_committed(3, 1))
    );
    assert_eq!(log.read_committed().await.unwrap(), Some(id(3, 1)));
    assert_eq!(
        log.get_log_state().await.unwrap().last_log_id,
        Some(id(3, 2))
    );
    let entries = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(indexes(&entries), [0, 1, 2]);
}

#[tokio::test]
async fn a_truncated_end_is_written_anew() {
    let disk = ForgetfulDisk::default();
    let (mut log, _) = open(&disk);
    log.blocking_append((0..6).map(|index| entry(1, index)))
        .await
        .unwrap();
    log.truncate_after(Some(id(1, 2))).await.unwrap();
    log.blocking_append([entry(2, 3)]).await.unwrap();
    let entries = log.try_get_log_entries(2..).await.unwrap();
    assert_eq!(
        entries.iter().map(|e| e.log_id).collect::<Vec<_>>(),
        [id(1, 2), id(2, 3)]
    );

    let (mut log, _) = open(&disk.crash());
    let entries = log.try_get_log_entries(2..).await.unwrap();
    assert_eq!(
        entries.iter().map(|e| e.log_id).collect::<Vec<_>>(),
        [id(1, 2), id(2, 3)]
    );
}

#[tokio::test]
async fn an_emptied_log_starts_anew() {
    let disk = ForgetfulDisk::default();
    let (mut log, _) = open(&disk);
    log.blocking_append((0..3).map(|index| entry(1, index)))
        .await
        .unwrap();
    log.truncate_after(None).await.unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, None);
    log.blocking_append([entry(2, 0)]).await.unwrap();
    let (mut log, _) = open(&disk.crash());
    assert_eq!(
        log.get_log_state().await.unwrap().last_log_id,
        Some(id(2, 0))
    );
}

#[tokio::test]
async fn a_purge_survives_and_may_run_ahead_of_the_log() {
    let disk = ForgetfulDisk::default();
    let (mut log, _) = open(&disk);
    log.blocking_append((0..10).map(|index| entry(1, index)))
        .await
        .unwrap();
    log.purge(id(1, 4)).await.unwrap();
    log.blocking_append([entry(1, 10)]).await.unwrap();
    let disk = disk.crash();
    let (mut log, _) = open(&disk);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(id(1, 4)), Some(id(1, 10)))
    );
    assert_eq!(
        indexes(&log.try_get_log_entries(..).await.unwrap()),
        [5, 6, 7, 8, 9, 10]
    );

    // A snapshot from elsewhere was ahead of this log.
    log.purge(id(2, 40)).await.unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(id(2, 40)), Some(id(2, 40)))
    );
    log.blocking_append([entry(2, 41)]).await.unwrap();
    log.close();
    let (mut log, _) = open(&disk);
    assert_eq!(
        log.get_log_state().await.unwrap().last_purged_log_id,
        Some(id(2, 40))
    );
    assert_eq!(indexes(&log.try_get_log_entries(..).await.unwrap()), [41]);
}

#[tokio::test]
async fn long_reads_come_whole_from_memory_and_from_disk() {
    let disk = ForgetfulDisk::default();
    let (mut log, _) = open(&disk);
    let body = "x".repeat(200_000);
    let big = |index| Entry {
        log_id: id(1, index),
        payload: EntryPayload::Normal(
            Proposal::new(Command::DeleteGroup {
                group: body.clone(),
            })
            .unwrap(),
        ),
    };
    // More than is kept as values, and than one read takes.
    log.blocking_append((0..60).map(big)).await.unwrap();
    let whole: Vec<u64> = (0..60).collect();
    assert_eq!(indexes(&log.try_get_log_entries(..).await.unwrap()), whole);
    for start in [10, 40, 59] {
        // About a megabyte of entries, for one message to another voter.
        let part = log.limited_get_log_entries(start, 60).await.unwrap();
        assert!(!part.is_empty() && part.len() < 10, "{}", part.len());
        let end = start + u64::try_from(part.len()).unwrap();
        assert_eq!(indexes(&part), (start..end).collect::<Vec<_>>());
    }

    use futures::TryStreamExt;
    let streamed: Vec<Entry> = log.entries_stream(0..60).await.try_collect().await.unwrap();
    assert_eq!(indexes(&streamed), whole);
    // What was taken as values is read back from the journal.
    let again: Vec<Entry> = log
        .entries_stream(55..60)
        .await
        .try_collect()
        .await
        .unwrap();
    assert_eq!(indexes(&again), [55, 56, 57, 58, 59]);
}

#[test]
fn entries_votes_and_positions_come_back() {
    let chunk = Command::Sequence(Sequence {
        origin: alluvium_metadata::AgentOrigin {
            agent: AgentId::default(),
            epoch: AgentEpoch::default(),
        },
        chunk: ChunkNumber::default(),
        location: Location::Inline(vec![7; 40_000].into()),
        runs: Vec::new(),
        sealed_at: Default::default(),
        at: Default::default(),
    });
    let members = openraft::Membership::new_with_defaults(vec![[1, 2, 3].into()], [4]);
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Proposal::new(chunk.clone()).unwrap()),
        EntryPayload::Membership(members.clone()),
    ];
    for (index, payload) in (8..).zip(payloads) {
        let written = Entry {
            log_id: id(5, index),
            payload,
        };
        let bytes = bytes::Bytes::from(codec::encode_entry(&written).unwrap().concat());
        assert_eq!(
            codec::decode_entry_position(&bytes).unwrap(),
            position(&written.log_id)
        );
        let read = codec::decode_entry(bytes.clone()).unwrap();
        assert_eq!(read.log_id, written.log_id);
        match (read.payload, index) {
            (EntryPayload::Blank, 8) => {}
            (EntryPayload::Normal(proposal), 9) => assert_eq!(proposal.into_command(), chunk),
            (EntryPayload::Membership(read), 10) => assert_eq!(read, members),
            (other, _) => panic!("{other:?}"),
        }
        // Cut short anywhere it is refused, or is another kind's whole body; never a panic.
        for end in 0..bytes.len().min(200) {
            let _ = codec::decode_entry(bytes.slice(..end));
        }
    }
    let vote = Vote::new_committed(9, 2);
    assert_eq!(codec::decode_vote(codec::encode_vote(&vote)).unwrap(), vote);
    let place = LogPosition {
        term: 1,
        leader: 2,
        index: u64::MAX,
    };
    assert_eq!(
        codec::decode_position(codec::encode_position(place)).unwrap(),
        place
    );
    assert!(codec::decode_position(codec::encode_vote(&vote)).is_err());
}

#[test]
fn the_entry_envelope_is_as_documented() {
    let blank = Entry {
        log_id: id(0x0102, 3),
        payload: EntryPayload::Blank,
    };
    let bytes = codec::encode_entry(&blank).unwrap().concat();
    let mut expected = vec![1, 0, 2, 1];
    expected.extend([0; 6]);
    expected.extend(1_u64.to_le_bytes());
    expected.extend(3_u64.to_le_bytes());
    assert_eq!(bytes, expected);
}
