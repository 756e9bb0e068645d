//! Merging from chunks to readers.

use std::time::Duration;

use alluvium_metadata::{
    AdvanceLogStart, Command, Compact, CompactStretch, CompactedObject, CompactedPlace,
    CompactedRun, Outcome, RunLocation, State,
};
use alluvium_objects::key;
use alluvium_types::{ObjectId, TopicPartition};
use bytes::Bytes;
use tokio::time::advance;

use super::backlog::LAST_LEVEL;
use super::testing::{Field, NOW, config};
use super::*;

fn values(seed: usize, count: usize, bytes: usize) -> Vec<Bytes> {
    (0..count)
        .map(|n| {
            let mut value = format!("{seed}-{n}-").into_bytes();
            value.resize(bytes, b'.');
            Bytes::from(value)
        })
        .collect()
}

/// Merges until there is nothing more to do; how many jobs that took.
async fn merge(field: &Field, agent: usize) -> usize {
    let mut merging = Merging::new(field.context(agent), &config());
    // What waits is looked at once, gets old, and is looked at again.
    let mut jobs = 0;
    if let Some(outcome) = merging.round().await {
        outcome.unwrap();
        jobs += 1;
    }
    advance(config().merge_age).await;
    while let Some(outcome) = merging.round().await {
        outcome.unwrap();
        jobs += 1;
        assert!(jobs < 100, "it never ends");
    }
    jobs
}

async fn fill(field: &Field, topics: &[&str], partitions: i32, chunks: usize) {
    let mut places = Vec::new();
    for name in topics {
        let topic = field.topic(name, partitions).await;
        places.extend((0..partitions).map(|index| TopicPartition::new(topic, index)));
    }
    places.sort_unstable();
    for chunk in 0..chunks {
        let content: Vec<_> = places
            .iter()
            .enumerate()
            // Not every partition is in every chunk.
            .filter(|(n, _)| !(n + chunk).is_multiple_of(3))
            .map(|(n, at)| (*at, values(chunk * 1000 + n, 1 + (n + chunk) % 4, 100)))
            .collect();
        field.chunk(&content).await;
    }
}

#[tokio::test(start_paused = true)]
async fn small_objects_become_one_and_every_record_stays() {
    let field = Field::of(1).await;
    fill(&field, &["topic"], 5, 30).await;
    let before = field.live();
    assert_eq!(before.len(), 30);
    assert!(merge(&field, 0).await > 0);
    field.check().await;
    let after = field.live();
    assert_eq!(after.len(), 1);
    let level = field.metadata.read(|state| state.object_level(after[0]));
    assert_eq!(level, Some(1));
    let dead: Vec<_> = field
        .metadata
        .read(|state| state.dead_objects().map(|(object, _, _)| object).collect());
    assert_eq!(dead, {
        let mut sorted = before;
        sorted.sort_unstable();
        sorted
    });
    let bytes = field.bucket.head(&key(after[0])).await.unwrap().bytes;
    assert_eq!(
        field.metadata.read(|state| state.object_bytes(after[0])),
        Some(bytes)
    );
}

#[tokio::test(start_paused = true)]
async fn topics_that_are_kept_equally_long_share_objects_and_others_do_not() {
    let field = Field::of(1).await;
    fill(&field, &["a1", "a2", "b1"], 2, 12).await;
    merge(&field, 0).await;
    field.check().await;
    assert_eq!(field.live().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn merging_goes_on_to_the_last_level_and_ends_there() {
    let field = Field::of(1).await;
    let topic = field.topic("t", 1).await;
    let at = TopicPartition::new(topic, 0);
    let mut merging = Merging::new(field.context(0), &config());
    for chunk in 0..300 {
        field.chunk(&[(at, values(chunk, 1, 50))]).await;
        while let Some(outcome) = merging.round().await {
            outcome.unwrap();
        }
    }
    field.check().await;
    let levels: Vec<_> = field.metadata.read(|state| {
        let runs = state.partition(at).unwrap().runs();
        runs.map(|run| {
            state
                .object_level(object_of(&run.location).unwrap())
                .unwrap()
        })
        .collect()
    });
    assert!(levels.contains(&LAST_LEVEL), "{levels:?}");
    assert!(
        levels.iter().all(|level| *level <= LAST_LEVEL),
        "{levels:?}"
    );
    assert!(levels.is_sorted_by(|a, b| a >= b), "{levels:?}");
    assert!(levels.len() < 25, "{levels:?}");
    let requests = field.bucket.requests_by_cause();
    let written = |cause| {
        let of = requests.iter().find(|(it, _)| *it == cause);
        of.map_or(0, |(_, requests)| requests.bytes_written)
    };
    // Footers weigh, with batches so small; batches themselves are written twice more at most.
    assert!(written(Cause::Compaction) < 2 * written(Cause::Other));
}

#[tokio::test(start_paused = true)]
async fn each_agent_merges_its_own_share() {
    let field = Field::of(3).await;
    fill(
        &field,
        &["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8"],
        1,
        6,
    )
    .await;
    let before = field.live();
    let owners: std::collections::BTreeSet<_> = field.metadata.read(|state| {
        let owner = |topic: &alluvium_metadata::Topic| {
            crate::ownership::owner_of_partitions(state, topic.id, 0)
        };
        state.topics().map(owner).collect()
    });
    assert!(owners.len() > 1);
    for agent in 0..3 {
        let mine = owners.contains(&Some(field.agents[agent].agent));
        assert_eq!(merge(&field, agent).await, usize::from(mine));
        field.check().await;
    }
    assert_eq!(field.live().len(), owners.len());
    assert!(before.iter().all(|object| !field.live().contains(object)));
    let requests = field.bucket.requests();
    for agent in 0..3 {
        assert_eq!(merge(&field, agent).await, 0);
    }
    assert_eq!(requests, field.bucket.requests());
}

async fn job(field: &Field) -> Job {
    let mut planner = Planner::new(&config());
    let read = |look: &mut dyn FnMut(&State)| field.metadata.read(|state| look(state));
    let (policies, me) = (field.context(0).policies, field.agents[0].agent);
    planner.look(&read, policies.as_ref(), me, Instant::now());
    let then = Instant::now() + config().merge_age;
    planner.choose(&read, then).unwrap()
}

fn worker(field: &Field) -> Worker {
    let bucket = field.bucket.for_cause(Cause::Compaction);
    Worker::new(&field.context(0), &config(), bucket)
}

#[tokio::test(start_paused = true)]
async fn the_second_of_two_that_do_the_same_job_changes_nothing() {
    let field = Field::of(1).await;
    fill(&field, &["t"], 4, 10).await;
    let job = job(&field).await;
    let (mut one, mut other) = (worker(&field), worker(&field));
    let (one, other) = tokio::join!(
        one.work(&job, field.agents[0]),
        other.work(&job, field.agents[0])
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(
        (one.replaced + other.replaced, one.refused + other.refused),
        (4, 4)
    );
    assert_eq!(
        one.runs_gone + other.runs_gone,
        one.runs_gone.max(other.runs_gone)
    );
    field.check().await;
    assert_eq!(field.live().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_retention_takes_meanwhile_is_not_brought_back() {
    let field = Field::of(1).await;
    fill(&field, &["t"], 3, 12).await;
    let job = job(&field).await;
    let partition = job.stretches[1].partition;
    let third = field.runs(partition)[3].base_offset;
    let advance = AdvanceLogStart {
        partition,
        offset: third,
    };
    field.propose(Command::AdvanceLogStart(advance)).await;
    let report = worker(&field).work(&job, field.agents[0]).await.unwrap();
    assert_eq!((report.replaced, report.refused), (2, 1));
    field.check().await;
    assert_eq!(field.runs(partition)[0].base_offset, third);
    merge(&field, 0).await;
    field.check().await;
    assert_eq!(field.runs(partition).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn damage_ends_its_partitions_stretch_and_the_others_go_on() {
    let field = Field::of(1).await;
    let topic = field.topic("t", 2).await;
    let [sound, hurt] = [0, 1].map(|index| TopicPartition::new(topic, index));
    for chunk in 0..10 {
        let content = [
            (sound, values(chunk, 2, 200)),
            (hurt, values(chunk, 2, 200)),
        ];
        let mark = format!("{chunk}-1-");
        field
            .chunk_with(&content, |mut bytes| {
                if chunk == 6 {
                    // The last byte of the last batch that bears the mark.
                    let at = bytes
                        .windows(mark.len())
                        .rposition(|it| it == mark.as_bytes());
                    bytes[at.unwrap() + 150] ^= 1;
                }
                bytes
            })
            .await;
    }
    let mut merging = Merging::new(field.context(0), &config());
    let mut jobs = 0;
    while let Some(outcome) = merging.round().await {
        outcome.unwrap();
        jobs += 1;
        assert!(jobs < 10, "it tries again and again");
    }
    assert_eq!(field.runs(sound).len(), 1);
    // Six before it, itself, three behind it.
    let runs = field.runs(hurt);
    assert_eq!(runs[0].end_offset, 12);
    assert_eq!(runs[1].base_offset..runs[1].end_offset, 12..14);
    assert!(runs.len() >= 2, "{runs:?}");
}

/// Replaces a partition's only run by one in the same bytes with every second batch left out.
async fn make_sparse(field: &Field, at: TopicPartition) {
    let run = &field.runs(at)[0];
    let RunLocation::Object { object, position } = run.location else {
        panic!("{run:?}")
    };
    let range = position..position + run.length;
    let bytes = field.bucket.read(&key(object), range).await.unwrap();
    let copy = ObjectId(alluvium_types::random::value());
    let batches = alluvium_protocol::batch::split(&bytes).unwrap();
    let kept: Vec<Bytes> = batches.into_iter().step_by(2).collect();
    let length = kept
        .iter()
        .map(|batch| u64::try_from(batch.len()).unwrap())
        .sum();
    field.bucket.create(&key(copy), kept).await.unwrap();
    let compact = Compact {
        origin: field.agents[0],
        objects: vec![CompactedObject {
            object: copy,
            bytes: length,
            level: 1,
        }],
        stretches: vec![CompactStretch {
            partition: at,
            base_offset: run.base_offset,
            end_offset: run.end_offset,
            sources: vec![object],
            runs: vec![CompactedRun {
                base_offset: run.base_offset,
                end_offset: run.end_offset,
                max_timestamp: run.max_timestamp,
                place: Some(CompactedPlace {
                    object: 0,
                    position: 0,
                    length,
                    sparse: true,
                }),
            }],
            clean_to: Some(run.end_offset),
        }],
        at: NOW,
    };
    let outcome = field.propose(Command::Compact(compact)).await;
    assert_eq!(outcome, Outcome::Compacted(vec![true]));
}

#[tokio::test(start_paused = true)]
async fn sparse_runs_stay_sparse_and_keep_their_offsets() {
    let field = Field::of(1).await;
    let topic = field.topic("t", 1).await;
    let at = TopicPartition::new(topic, 0);
    for chunk in 0..10 {
        field.chunk(&[(at, values(chunk, 1, 50))]).await;
    }
    merge(&field, 0).await;
    make_sparse(&field, at).await;
    let sparse = field.runs(at);
    for chunk in 10..20 {
        field.chunk(&[(at, values(chunk, 1, 50))]).await;
    }
    merge(&field, 0).await;
    let runs = field.runs(at);
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert_eq!(runs[0], sparse[0], "alone it is not touched");
    assert!(matches!(runs[1].location, RunLocation::Object { .. }));
    // A second sparse run behind the first merges with it.
    let piece = |run: &alluvium_metadata::Run| match run.location {
        RunLocation::Sparse { object, position } => backlog::Piece {
            base_offset: run.base_offset,
            end_offset: run.end_offset,
            max_timestamp: run.max_timestamp,
            object,
            position,
            length: run.length,
        },
        ref other => panic!("{other:?}"),
    };
    let run = piece(&sparse[0]);
    let RunLocation::Sparse { object, .. } = sparse[0].location else {
        panic!()
    };
    let bytes = field
        .bucket
        .read(&key(object), 0..run.length)
        .await
        .unwrap();
    let mut checked = bytes.to_vec();
    copy::check(&run, true, &mut checked).unwrap();
    assert_eq!(checked, bytes, "nothing is to be corrected");
    let dense = copy::check(&run, false, &mut bytes.to_vec());
    assert!(dense.is_err(), "offsets are missing");
    let mut writer =
        alluvium_objects::ObjectWriter::new(ObjectId(1), alluvium_objects::Level::Compacted, 0);
    let mut making = copy::RunInMaking::new(at, 0);
    making.add(&mut writer, &bytes);
    let built = writer.finish();
    assert_eq!(built.runs[0].length, run.length);
    let whole = built.parts.concat();
    let footer = alluvium_objects::Footer::parse(&whole, built.bytes).unwrap();
    assert_eq!((footer.runs[0].records, footer.runs[0].batches), (9, 5));
    let from = usize::try_from(built.runs[0].position).unwrap();
    assert_eq!(whole[from..from + bytes.len()], bytes);
}

#[tokio::test(start_paused = true)]
async fn a_running_merger_notices_what_comes_and_ends_when_told() {
    let field = Field::of(1).await;
    let stop = CancellationToken::new();
    let config = CompactionConfig {
        interval: Duration::from_millis(100),
        ..config()
    };
    let running = tokio::spawn(run(field.context(0), config, stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    fill(&field, &["t"], 3, 20).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(field.live().len(), 1);
    field.check().await;
    stop.cancel();
    running.await.unwrap();
}
