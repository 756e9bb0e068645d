//! Whatever the layout, jobs shrink it, and end.

use std::collections::BTreeSet;

use alluvium_metadata::{
    Command, Compact, CompactStretch, CompactedObject, CompactedPlace, CompactedRun, Outcome,
};
use proptest::prelude::*;

use super::super::backlog::LAST_LEVEL;
use super::super::testing::{ByLetter, Field, NOW, config};
use super::*;

struct Planning<'a> {
    field: &'a Field,
    planner: Planner,
    me: AgentId,
}

impl<'a> Planning<'a> {
    fn new(field: &'a Field, agent: usize) -> Self {
        Self {
            field,
            planner: Planner::new(&config()),
            me: field.agents[agent].agent,
        }
    }

    fn next(&mut self, now: Instant) -> Option<Job> {
        let metadata = &self.field.metadata;
        let read = |look: &mut dyn FnMut(&State)| metadata.read(|state| look(state));
        self.planner.look(&read, &ByLetter, self.me, now);
        self.planner.choose(&read, now)
    }
}

/// Puts the job's pieces into one object, as far as the metadata are concerned.
async fn pretend_done(field: &Field, job: &Job) {
    let mut position = 40;
    let mut stretches = Vec::new();
    for stretch in &job.stretches {
        let (first, last) = (
            stretch.pieces.first().unwrap(),
            stretch.pieces.last().unwrap(),
        );
        stretches.push(CompactStretch {
            partition: stretch.partition,
            base_offset: first.base_offset,
            end_offset: last.end_offset,
            sources: stretch.pieces.iter().map(|piece| piece.object).collect(),
            runs: vec![CompactedRun {
                base_offset: first.base_offset,
                end_offset: last.end_offset,
                max_timestamp: first.max_timestamp,
                place: Some(CompactedPlace {
                    object: 0,
                    position,
                    length: stretch.bytes(),
                    sparse: stretch.sparse,
                }),
            }],
            clean_to: None,
        });
        position += stretch.bytes();
    }
    let count = stretches.len();
    let compact = Compact {
        origin: field.agents[0],
        objects: vec![CompactedObject {
            object: ObjectId(alluvium_types::random::value()),
            bytes: position + 100,
            level: job.level + 1,
        }],
        stretches,
        at: NOW,
    };
    let outcome = field.propose(Command::Compact(compact)).await;
    assert_eq!(outcome, Outcome::Compacted(vec![true; count]));
}

fn check(job: &Job) {
    let pieces: usize = job.stretches.iter().map(|it| it.pieces.len()).sum();
    assert!(pieces > job.stretches.len(), "nothing is gained");
    assert!(job.level < LAST_LEVEL);
    assert!(job.bytes <= config().target_bytes);
    assert_eq!(
        job.bytes,
        job.stretches.iter().map(Stretch::bytes).sum::<u64>()
    );
    let places: Vec<_> = job
        .stretches
        .iter()
        .map(|stretch| (stretch.partition, first_offset(stretch)))
        .collect();
    assert!(places.is_sorted_by(|a, b| a < b), "an object is sorted");
    for stretch in &job.stretches {
        let touch =
            |pair: &[super::super::backlog::Piece]| pair[0].end_offset == pair[1].base_offset;
        assert!(stretch.pieces.windows(2).all(touch));
        let is_small = |length: u64| length < config().large_run_bytes;
        assert!(stretch.pieces.iter().all(|piece| is_small(piece.length)));
    }
}

fn runs(field: &Field) -> usize {
    field.metadata.read(|state| {
        let partitions = state.topics().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| partition.runs().len()).sum()
    })
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

type Chunks = Vec<Vec<(usize, u32)>>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_job_shrinks_the_manifest_and_there_is_a_last_one(
        chunks in prop::collection::vec(
            prop::collection::vec((0usize..200, 61u32..90_000), 1..40),
            1..40,
        ),
    ) {
        let chunks: Chunks = chunks;
        in_runtime(async {
            let field = Field::of(3).await;
            let a = field.topic("a", 150).await;
            let b = field.topic("b", 50).await;
            let place = |n: usize| {
                let n = i32::try_from(n).unwrap();
                if n < 150 { TopicPartition::new(a, n) } else { TopicPartition::new(b, n - 150) }
            };
            for chunk in &chunks {
                let mut content = BTreeMap::new();
                for (at, bytes) in chunk {
                    content.insert(place(*at), *bytes);
                }
                let content: Vec<_> = content.into_iter().map(|(at, bytes)| (at, bytes, 2)).collect();
                field.pretend(&content).await;
            }
            let mut owners: BTreeMap<TopicPartition, usize> = BTreeMap::new();
            let start = Instant::now();
            for agent in 0..3 {
                let mut planning = Planning::new(&field, agent);
                let mut now = start;
                planning.next(now);
                for step in 0.. {
                    assert!(step < 500, "it never ends");
                    now += config().merge_age;
                    let before = runs(&field);
                    let Some(job) = planning.next(now) else { break };
                    check(&job);
                    for stretch in &job.stretches {
                        let owner = owners.entry(stretch.partition).or_insert(agent);
                        assert_eq!(*owner, agent, "two do the same");
                    }
                    let classes: BTreeSet<u8> =
                        job.stretches.iter().map(|it| it.partition.topic.0[0]).collect();
                    assert_eq!(classes.len(), 1, "they are not kept equally long");
                    pretend_done(&field, &job).await;
                    planning.planner.done(&job);
                    assert!(runs(&field) < before);
                }
            }
            field.metadata.read(State::check).unwrap();
        });
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_little_waits_and_what_is_much_does_not() {
    let field = Field::of(1).await;
    let topic = field.topic("t", 2).await;
    let at = TopicPartition::new(topic, 0);
    let start = Instant::now();
    let mut planning = Planning::new(&field, 0);
    for _ in 0..3 {
        field.pretend(&[(at, 1000, 1)]).await;
    }
    assert_eq!(planning.next(start), None);
    let age = config().merge_age;
    assert_eq!(planning.next(start + age - Duration::from_millis(1)), None);
    assert!(planning.next(start + age).is_some());
    for _ in 0..5 {
        field.pretend(&[(at, 1000, 1)]).await;
    }
    let job = planning.next(start).unwrap();
    assert_eq!((job.stretches.len(), job.bytes), (1, 8000));
}

#[tokio::test(start_paused = true)]
async fn an_object_is_no_larger_than_it_may_be_and_large_runs_are_left_alone() {
    let field = Field::of(1).await;
    let topic = field.topic("t", 1).await;
    let at = TopicPartition::new(topic, 0);
    let large = u32::try_from(config().large_run_bytes).unwrap();
    for n in 0..20 {
        let bytes = if n == 10 { large } else { large - 1 };
        field.pretend(&[(at, bytes, 1)]).await;
    }
    let mut planning = Planning::new(&field, 0);
    let mut sizes = Vec::new();
    while let Some(job) = planning.next(Instant::now()) {
        check(&job);
        sizes.push(job.stretches[0].pieces.len());
        pretend_done(&field, &job).await;
    }
    // Four fit; of what is left over, two become one where that is worth it.
    assert_eq!(sizes.first(), Some(&4));
    let lengths: Vec<_> = field.runs(at).iter().map(|run| run.length).collect();
    assert!(lengths.contains(&u64::from(large)), "{lengths:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_late_finds_what_there_is() {
    let field = Field::of(2).await;
    for n in 0..20 {
        let topic = field.topic(&format!("t{n}"), 3).await;
        for _ in 0..10 {
            field
                .pretend(&[(TopicPartition::new(topic, 2), 1000, 1)])
                .await;
        }
    }
    let mut found = 0;
    for agent in 0..2 {
        let mut planning = Planning::new(&field, agent);
        while let Some(job) = planning.next(Instant::now()) {
            found += job.stretches.len();
            pretend_done(&field, &job).await;
        }
    }
    assert_eq!(found, 20);
}
