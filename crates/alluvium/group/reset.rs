//! `alluvium group reset`: where a group shall go on reading.

mod plan;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use alluvium_client::{Client, TopicPartition, commit_for, group_offsets, list_offsets};
use alluvium_types::{Millis, Offset};

use self::plan::{Goal, Log};
use super::{find, partitions_of};
use crate::failure::Failure;
use crate::output::{Output, say};
use crate::time;

/// What ListOffsets calls the end and the start of a partition.
const END: i64 = -1;
const START: i64 = -2;

/// Arguments of `alluvium group reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// The group; it need not exist yet.
    group: String,
    #[command(flatten)]
    goal: GoalArgs,
    /// A topic, all of it or some partitions: orders or orders:0,3. May be given more than once.
    #[arg(
        long = "topic",
        value_name = "TOPIC[:P,P]",
        conflicts_with = "all_topics"
    )]
    topics: Vec<String>,
    /// Every topic that the group has committed offsets of.
    #[arg(long)]
    all_topics: bool,
    /// Do it, rather than show what would be done.
    #[arg(long)]
    execute: bool,
    /// Print TOPIC,PARTITION,OFFSET lines, as --from-file reads them.
    #[arg(long, conflicts_with = "json")]
    export: bool,
    /// JSON, a line for each partition.
    #[arg(long)]
    json: bool,
}

/// Where to: exactly one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct GoalArgs {
    /// To the first record there is.
    #[arg(long)]
    to_earliest: bool,
    /// To the end.
    #[arg(long)]
    to_latest: bool,
    /// To this offset, or as near to it as the log goes.
    #[arg(long, value_name = "OFFSET", allow_negative_numbers = true)]
    to_offset: Option<Offset>,
    /// To the first record of this time or later: 2026-11-21T18:40:00Z.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    to_datetime: Option<Millis>,
    /// To the first record of so long ago or later, in ISO 8601: PT1H30M, P7D.
    #[arg(long, value_name = "DURATION", value_parser = plan::duration)]
    by_duration: Option<Millis>,
    /// So many offsets on, or back when negative.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To what is committed; to the end where nothing is.
    #[arg(long)]
    to_current: bool,
    /// To the offsets of this file, lines of TOPIC,PARTITION,OFFSET.
    #[arg(long, value_name = "CSV")]
    from_file: Option<PathBuf>,
}

/// Runs `alluvium group reset`.
pub(crate) async fn run(client: &Client, args: &ResetArgs) -> Result<(), Failure> {
    let goal = goal(args)?;
    let from_file = matches!(goal, Goal::Each(_));
    if from_file && (args.all_topics || !args.topics.is_empty()) {
        let text = "--from-file names its partitions itself: leave out --topic and --all-topics";
        return Err(Failure::Usage(text.to_owned()));
    }
    if !from_file && !args.all_topics && args.topics.is_empty() {
        let text = "say which topics: --topic TOPIC, --topic TOPIC:0,1 or --all-topics";
        return Err(Failure::Usage(text.to_owned()));
    }
    refuse_unless_empty(client, &args.group).await?;
    let committed = group_offsets(client, &args.group).await?;
    let partitions: Vec<TopicPartition> = match &goal {
        Goal::Each(offsets) => offsets.keys().cloned().collect(),
        _ if args.all_topics => committed.keys().cloned().collect(),
        _ => partitions_of(client, &args.topics).await?,
    };
    let logs = logs(client, &partitions, &goal).await?;
    let mut planned = BTreeMap::new();
    for of in &partitions {
        let Some(log) = logs.get(of) else {
            // --all-topics and a file may name what is no longer there.
            say(&format!(
                "left out {}:{}: there is no such partition",
                of.0, of.1
            ));
            continue;
        };
        let next = plan::next(&goal, of, log, committed.get(of).copied())?;
        planned.insert(of.clone(), next);
    }
    if planned.is_empty() {
        let text = format!("group {}: there is no partition to reset", args.group);
        return Err(Failure::Failed(text));
    }
    if args.execute {
        commit_for(client, &args.group, &planned).await?;
    }
    show(args, &committed, &planned)?;
    match args.execute {
        true => say(&format!(
            "reset group {} in {} partitions",
            args.group,
            planned.len()
        )),
        false => say("nothing was changed: say --execute to do it"),
    }
    Ok(())
}

fn goal(args: &ResetArgs) -> Result<Goal, Failure> {
    let wanted = &args.goal;
    if let Some(file) = &wanted.from_file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", file.display())))?;
        let offsets = plan::read_csv(&text, &args.group);
        return offsets
            .map(Goal::Each)
            .map_err(|error| Failure::Failed(format!("{}: {error}", file.display())));
    }
    let goals = [
        wanted.to_earliest.then_some(Goal::Earliest),
        wanted.to_latest.then_some(Goal::Latest),
        wanted.to_current.then_some(Goal::Current),
        wanted.to_offset.map(Goal::Offset),
        wanted.shift_by.map(Goal::Shift),
        wanted.to_datetime.map(Goal::Time),
        wanted
            .by_duration
            .map(|ago| Goal::Time(plan::now().saturating_sub(ago))),
    ];
    let text = "say where to: --to-earliest, --to-latest, --to-offset, --to-datetime, …";
    goals
        .into_iter()
        .flatten()
        .next()
        .ok_or_else(|| Failure::Usage(text.to_owned()))
}

async fn refuse_unless_empty(client: &Client, name: &str) -> Result<(), Failure> {
    let Some(group) = find(client, name).await? else {
        return Ok(());
    };
    if group.kind == "share" || group.kind == "streams" {
        let kind = &group.kind;
        let text = format!(
            "group {name} is a {kind} group: reset it with Kafka's kafka-{kind}-groups.sh --reset-offsets"
        );
        return Err(Failure::Failed(text));
    }
    if matches!(group.state.as_str(), "Empty" | "Dead" | "") {
        return Ok(());
    }
    let state = &group.state;
    Err(Failure::Failed(format!(
        "group {name} is not empty (its state is {state}): stop its members first; \
         `alluvium group describe {name} --members` shows them"
    )))
}

async fn logs(
    client: &Client,
    partitions: &[TopicPartition],
    goal: &Goal,
) -> Result<BTreeMap<TopicPartition, Log>, Failure> {
    let starts = list_offsets(client, partitions, START).await?;
    let ends = list_offsets(client, partitions, END).await?;
    let of_time = match goal {
        Goal::Time(time) => list_offsets(client, partitions, *time).await?,
        _ => BTreeMap::new(),
    };
    let log = |(of, start): (TopicPartition, Offset)| {
        let end = *ends.get(&of)?;
        let of_time = of_time.get(&of).copied().filter(|offset| *offset >= 0);
        Some((
            of,
            Log {
                start,
                end,
                of_time,
            },
        ))
    };
    Ok(starts.into_iter().filter_map(log).collect())
}

fn show(
    args: &ResetArgs,
    committed: &BTreeMap<TopicPartition, Offset>,
    planned: &BTreeMap<TopicPartition, Offset>,
) -> Result<(), Failure> {
    let mut out = Output::new();
    let mut rows = vec![["TOPIC", "PARTITION", "COMMITTED", "NEW"].map(str::to_owned)];
    for (of, next) in planned {
        let (topic, partition) = of;
        let before = committed.get(of);
        if args.export {
            out.line(format!("{topic},{partition},{next}").as_bytes())?;
        } else if args.json {
            let line = json!({
                "group": args.group,
                "topic": topic,
                "partition": partition,
                "committed": before,
                "new": next,
                "executed": args.execute,
            });
            out.line(line.to_string().as_bytes())?;
        } else {
            rows.push([
                topic.clone(),
                partition.to_string(),
                before.map_or_else(|| "-".to_owned(), ToString::to_string),
                next.to_string(),
            ]);
        }
    }
    if rows.len() > 1 {
        out.table(&rows)?;
    }
    out.flush()
}
