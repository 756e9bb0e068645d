//! Those who read: group members, askers for ends and commits, and the last reading of everything.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alluvium_checker::Event;
use alluvium_client::{
    Answer, Client, ClientError, Consumer, GroupConsumer, Start, Target, committed_offsets,
    list_offset,
};
use alluvium_types::Offset;

use super::run::{MEMBER_PATIENCE, PATIENCE, Run};

/// A member that is silent for this long is taken for dead by its group, in milliseconds.
const SESSION_MS: i32 = 10_000;

const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// How long the cluster may take until everything can be read.
const LAST_READING: Duration = Duration::from_secs(180);

/// Names a connection, as far as its owner can tell: a node, and how often something broke.
struct Sessions<'a> {
    run: &'a Run,
    by_node: BTreeMap<i32, u64>,
}

impl Sessions<'_> {
    fn of(&mut self, node: i32) -> u64 {
        let run = self.run;
        *self
            .by_node
            .entry(node)
            .or_insert_with(|| run.recorder.next_session())
    }
}

fn note(run: &Run, client: u32, session: u64, answer: &Answer, last: bool) {
    let event = Event::Fetched {
        place: run.place(answer.partition),
        session,
        from: answer.from,
        high_watermark: answer.high_watermark,
        log_start: answer.log_start,
        records: answer
            .records
            .iter()
            .map(|record| run.read(record))
            .collect(),
        last,
    };
    run.recorder.note(client, event);
}

/// A member of the group that reads what it is assigned and commits. `starts` is where the topic
/// ended when the run began.
pub(super) async fn member(run: Run) {
    let number = run.recorder.next_client();
    let Some(client) = run.connect(MEMBER_PATIENCE).await else {
        return;
    };
    while !run.stopping() {
        let (group, topic) = (&run.group, &run.topic);
        let asked = run.recorder.now();
        let start = Start::Beginning;
        let joined = GroupConsumer::join_for(&client, group, topic, start, SESSION_MS).await;
        match joined {
            Ok(member) => follow(&run, number, member, asked).await,
            Err(error) => run.failed("join", &error).await,
        }
    }
}

async fn follow(run: &Run, number: u32, mut member: GroupConsumer<'_>, joining: u64) {
    let mut generation = None;
    let mut asked = joining;
    let mut sessions = Sessions {
        run,
        by_node: BTreeMap::new(),
    };
    let mut committed = Instant::now();
    while !run.stopping() {
        let now_in = (member.generation(), member.member_id().to_owned());
        if generation.as_ref() != Some(&now_in) {
            taken_over(run, number, &member, asked);
            generation = Some(now_in);
        }
        asked = run.recorder.now();
        match member.poll_answers(Duration::from_millis(500)).await {
            Ok(answers) => {
                for answer in answers {
                    note(run, number, sessions.of(answer.node), &answer, false);
                }
            }
            Err(error) => {
                sessions.by_node.clear();
                run.failed("fetch", &error).await;
                continue;
            }
        }
        let changed = Some(&(member.generation(), member.member_id().to_owned()));
        if committed.elapsed() >= COMMIT_EVERY && generation.as_ref() == changed {
            committed = Instant::now();
            let positions = member.positions();
            match member.commit().await {
                Ok(()) => {
                    for (partition, offset) in positions {
                        let event = Event::Committed {
                            group: run.group.to_string(),
                            place: run.place(partition),
                            offset,
                        };
                        run.recorder.note(number, event);
                    }
                }
                Err(error) => run.failed("commit", &error).await,
            }
        }
    }
    if let Err(error) = member.leave().await {
        run.recorder.refused("leave", &error);
    }
}

fn taken_over(run: &Run, number: u32, member: &GroupConsumer<'_>, asked: u64) {
    let positions = member.positions();
    let event = Event::Assigned {
        group: run.group.to_string(),
        generation: member.generation(),
        member: member.member_id().to_owned(),
        places: positions
            .keys()
            .map(|partition| run.place(*partition))
            .collect(),
    };
    run.recorder.note(number, event);
    for partition in positions.keys() {
        let event = Event::CommitFetched {
            group: run.group.to_string(),
            place: run.place(*partition),
            asked,
            offset: member.found().get(partition).copied(),
        };
        run.recorder.note(number, event);
    }
}

/// Asks, of one server after another, where partitions end and what is committed.
pub(super) async fn asker(run: Run) {
    let number = run.recorder.next_client();
    let Some(client) = run.connect(PATIENCE).await else {
        return;
    };
    let mut turn = 0_usize;
    while !run.stopping() {
        turn += 1;
        run.pause(Duration::from_millis(50)).await;
        let partition = i32::try_from(turn).unwrap_or(0) % run.partitions;
        if turn.is_multiple_of(4) {
            ask_commits(&run, number, &client).await;
            continue;
        }
        let nodes: Vec<i32> = client.nodes().await.keys().copied().collect();
        let target = match nodes.get(turn / 3 % nodes.len().max(1)) {
            Some(node) => Target::Node(*node),
            None => Target::Any,
        };
        let asked = run.recorder.now();
        match list_offset(&client, &target, &run.topic, partition, -1).await {
            Ok(offset) => {
                let event = Event::Listed {
                    place: run.place(partition),
                    asked,
                    offset,
                };
                run.recorder.note(number, event);
            }
            // Where only the leader may say it, others rightly refuse.
            Err(error) => {
                run.recorder.refused("list offsets", &error);
                if client.nodes().await.is_empty() || turn.is_multiple_of(7) {
                    let _ = client.topics(Some(&[&*run.topic])).await;
                }
            }
        }
    }
}

async fn ask_commits(run: &Run, number: u32, client: &Client) {
    let all: Vec<i32> = (0..run.partitions).collect();
    let asked = run.recorder.now();
    match committed_offsets(client, &run.group, &run.topic, &all).await {
        Ok(offsets) => {
            for partition in all {
                let event = Event::CommitFetched {
                    group: run.group.to_string(),
                    place: run.place(partition),
                    asked,
                    offset: offsets.get(&partition).copied(),
                };
                run.recorder.note(number, event);
            }
        }
        Err(error) => run.recorder.refused("offset fetch", &error),
    }
}

/// Reads everything a last time. Fails when the cluster does not let it in time.
pub(super) async fn read_all(run: &Run) -> Result<(), ClientError> {
    let number = run.recorder.next_client();
    let begun = Instant::now();
    let mut reached: BTreeMap<i32, Offset> = BTreeMap::new();
    loop {
        match read_rest(run, number, &mut reached).await {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > LAST_READING => return Err(error),
            Err(error) => {
                run.recorder.refused("last reading", &error);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn read_rest(
    run: &Run,
    number: u32,
    reached: &mut BTreeMap<i32, Offset>,
) -> Result<(), ClientError> {
    let client = Client::connect_within(&run.bootstrap, PATIENCE).await?;
    let mut reader = Consumer::new(&client, &run.topic, None, Start::Beginning).await?;
    for (partition, offset) in reached.iter() {
        reader.seek(*partition, *offset);
    }
    let ends = reader.ends().await?;
    let mut sessions = Sessions {
        run,
        by_node: BTreeMap::new(),
    };
    // A log may end in offsets that were given up: then nothing comes, however often it is asked.
    let mut empty = 0;
    let behind = |positions: &BTreeMap<i32, Offset>| {
        let mut open = ends
            .iter()
            .filter(|(partition, _)| **partition < run.partitions);
        open.any(|(partition, end)| positions.get(partition).is_none_or(|at| at < end))
    };
    // Each partition is asked once at least, so that its high watermark is seen.
    let mut first = true;
    while first || (behind(reader.positions()) && empty < 5) {
        first = false;
        let answers = reader.poll_answers(Duration::from_millis(200)).await?;
        let came: usize = answers.iter().map(|answer| answer.records.len()).sum();
        empty = if came == 0 { empty + 1 } else { 0 };
        for answer in answers {
            note(run, number, sessions.of(answer.node), &answer, true);
        }
        reached.clone_from(reader.positions());
    }
    Ok(())
}
