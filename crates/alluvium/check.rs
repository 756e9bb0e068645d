//! `alluvium check`: loads a cluster, whatever is done to it meanwhile, and judges what clients saw.
//!
//! - `producer`: idempotent producers that send until they know. `reader`: group members, askers, the
//!   last reading. `recorder`: notes everything and judges it. `run`: what they share.
//!
//! It knows Kafka's protocol only, so any Kafka-compatible cluster can be checked.

mod producer;
mod reader;
mod recorder;
mod run;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use alluvium_checker::Event;
use alluvium_client::{Client, ClientError, Target};
use alluvium_protocol::message;
use alluvium_protocol::messages::{CreateTopicsRequest, create_topics_request::CreatableTopic};
use alluvium_types::{ErrorCode, parse_duration, random};

use crate::bootstrap::Bootstrap;
use crate::failure::Failure;
use crate::output::{Output, say};
use producer::Load;
use recorder::{Judged, Recorder};
use run::Run;

/// Longest wait for clients to end once the time is up.
const ENDING: Duration = Duration::from_secs(150);

/// Most anomalies that are printed.
const PRINTED: usize = 20;

/// Arguments of `alluvium check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The topic to load; a new one by default. It must be nobody else's: records of others count
    /// as anomalies.
    #[arg(long)]
    topic: Option<String>,
    /// Partitions of a topic that is made.
    #[arg(long, default_value_t = 6)]
    partitions: i32,
    /// Idempotent producers, acks=all.
    #[arg(long, default_value_t = 8)]
    producers: u32,
    /// Members of one group that read and commit.
    #[arg(long, default_value_t = 3)]
    consumers: u32,
    /// How long to load, such as 30s or 10m.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// Records of a batch.
    #[arg(long, default_value_t = 10)]
    batch: u32,
    /// Bytes of a record.
    #[arg(long, default_value_t = 100)]
    record_bytes: usize,
    /// How long a producer waits between two batches.
    #[arg(long, default_value = "0ms", value_parser = parse_duration)]
    pause: Duration,
    /// Run this command again and again, to kill something.
    #[arg(long, value_name = "COMMAND", requires = "every")]
    run: Option<String>,
    /// How often to run it.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    every: Option<Duration>,
    /// Write all that clients did and saw to this file, as JSON lines.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Print the verdict as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

/// Runs `alluvium check`.
pub(crate) async fn run(args: CheckArgs) -> Result<(), Failure> {
    if args.partitions < 1 || args.producers < 1 || args.batch < 1 {
        let what = "--partitions, --producers and --batch must be at least 1";
        return Err(Failure::Usage(what.to_owned()));
    }
    let client = args.bootstrap.connect().await?;
    let mark = format!("{:08x}:", random::value::<u32>());
    let topic = match &args.topic {
        Some(topic) => topic.clone(),
        None => format!("alluvium-check-{}", mark.trim_end_matches(':')),
    };
    let partitions = make_topic(&client, &topic, args.partitions).await?;
    let (stop, stopped) = watch::channel(false);
    let run = Run {
        recorder: Arc::new(Recorder::new(args.history.as_deref())?),
        bootstrap: args.bootstrap.servers().into(),
        group: format!("{topic}-readers").into(),
        topic: topic.as_str().into(),
        partitions,
        mark: mark.into(),
        stop: stopped,
    };
    say(&format!(
        "loading topic {topic} ({partitions} partitions) with {} producers and {} consumers for {:?}",
        args.producers, args.consumers, args.duration
    ));
    let mut tasks = start(&args, &run);
    tokio::select! {
        () = watch_over(&args, &run) => {}
        _ = tokio::signal::ctrl_c() => say("stopping early"),
    }
    let _ = stop.send(true);
    say("waiting for what is in flight");
    let ended = tokio::time::timeout(ENDING, async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                say(&format!("a client ended badly: {error}"));
            }
        }
    });
    if ended.await.is_err() {
        say("some clients did not end in time; what they waited for counts as unknown");
        tasks.shutdown().await;
    }
    say("reading everything a last time");
    let complete = reader::read_all(&run).await;
    report(&args, &topic, run.recorder.finish(), complete)
}

fn start(args: &CheckArgs, run: &Run) -> JoinSet<()> {
    let load = Load {
        batch_records: args.batch,
        record_bytes: args.record_bytes,
        pause: args.pause,
    };
    let mut tasks = JoinSet::new();
    for _ in 0..args.producers {
        tasks.spawn(producer::run(run.clone(), load));
    }
    for _ in 0..args.consumers {
        tasks.spawn(reader::member(run.clone()));
    }
    tasks.spawn(reader::asker(run.clone()));
    if let (Some(command), Some(every)) = (args.run.clone(), args.every) {
        tasks.spawn(disturb(run.clone(), command, every));
    }
    tasks
}

/// Makes the topic if it is not there; how many partitions it has.
async fn make_topic(client: &Client, topic: &str, partitions: i32) -> Result<i32, Failure> {
    let wanted = message!(CreatableTopic {
        name: topic.into(),
        num_partitions: partitions,
        replication_factor: -1,
    });
    let ask = message!(CreateTopicsRequest {
        topics: vec![wanted],
        timeout_ms: 30_000
    });
    let answer = client.call(&Target::Any, &ask).await?;
    for result in &answer.topics {
        if result.error_code != ErrorCode::TopicAlreadyExists.code() {
            let subject = format!("topic {topic}");
            ClientError::check(&subject, result.error_code, result.error_message.as_deref())?;
        }
    }
    let described = client.topic_on_first_use(topic).await?;
    i32::try_from(described.partitions.len())
        .ok()
        .filter(|partitions| *partitions > 0)
        .ok_or_else(|| Failure::Failed(format!("topic {topic} has no partitions")))
}

/// Runs the command at intervals.
async fn disturb(run: Run, command: String, every: Duration) {
    while !run.stopping() {
        run.pause(every).await;
        if run.stopping() {
            return;
        }
        let text = format!("run: {command}");
        run.recorder.note(0, Event::Note { text });
        let shell = tokio::process::Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await;
        match shell {
            Ok(status) if status.success() => {}
            Ok(status) => say(&format!("the command ended with {status}: {command}")),
            Err(error) => say(&format!("cannot run {command:?}: {error}")),
        }
    }
}

/// One line a second until the time is up.
async fn watch_over(args: &CheckArgs, run: &Run) {
    let begun = Instant::now();
    let mut before = 0;
    let mut told = Instant::now();
    while begun.elapsed() < args.duration {
        let rest = args.duration.saturating_sub(begun.elapsed());
        tokio::time::sleep(rest.min(Duration::from_secs(1))).await;
        let figures = run.recorder.figures();
        let now = figures.acked;
        if now == before || told.elapsed() >= Duration::from_secs(5) {
            let found = if run.recorder.has_found() {
                "; ANOMALIES"
            } else {
                ""
            };
            say(&format!(
                "{:>5} s  {now} acked  longest silence {} ms  p99 {} ms{found}",
                begun.elapsed().as_secs(),
                figures.longest_silence / 1000,
                figures.latency_p99 / 1000,
            ));
            told = Instant::now();
        }
        before = now;
    }
}

fn report(
    args: &CheckArgs,
    topic: &str,
    judged: Judged,
    complete: Result<(), ClientError>,
) -> Result<(), Failure> {
    let Judged {
        verdict,
        figures,
        refusals,
        unwritten,
    } = judged;
    let mut out = Output::new();
    let clean = verdict.is_clean() && complete.is_ok();
    if args.json {
        let summary = json!({
            "topic": topic,
            "clean": clean,
            "complete": complete.is_ok(),
            "counts": verdict.counts,
            "figures": figures,
            "anomalies": verdict.anomalies,
            "omitted": verdict.omitted,
            "refusals": refusals,
        });
        out.line(summary.to_string().as_bytes())?;
    } else {
        let counts = verdict.counts;
        let lines = [
            format!(
                "acked    {} records, {:.0} a second; p50 {} ms, p99 {} ms",
                counts.acked,
                figures.acked_per_second,
                figures.latency_p50 / 1000,
                figures.latency_p99 / 1000
            ),
            format!(
                "silence  {} ms at most without a successful produce, {} s after the start",
                figures.longest_silence / 1000,
                figures.longest_silence_at / 1_000_000
            ),
            format!(
                "unknown  {} records; there in the end {}; {} ListOffsets, {} commits judged",
                counts.unknown, counts.there, counts.listed, counts.committed
            ),
        ];
        for line in lines {
            out.line(line.as_bytes())?;
        }
        for (what, count) in &refusals {
            out.line(format!("retried  {count} x {what}").as_bytes())?;
        }
        for anomaly in verdict.anomalies.iter().take(PRINTED) {
            out.line(format!("ANOMALY  {anomaly}").as_bytes())?;
        }
        let more = verdict.anomalies.len().saturating_sub(PRINTED) as u64 + verdict.omitted;
        if more > 0 {
            out.line(format!("ANOMALY  and {more} more").as_bytes())?;
        }
        if clean {
            out.line(b"verdict  no anomaly")?;
        }
    }
    out.flush()?;
    if let Some(error) = unwritten {
        return Err(Failure::Failed(format!(
            "the history is incomplete: {error}"
        )));
    }
    if let Err(error) = complete {
        return Err(Failure::Failed(format!(
            "topic {topic} could not be read to its end, so that nothing can be said of losses: {error}"
        )));
    }
    if verdict.is_clean() {
        return Ok(());
    }
    let found = verdict.anomalies.len() as u64 + verdict.omitted;
    Err(Failure::Failed(match &args.history {
        Some(path) => format!("{found} anomalies; the history is in {}", path.display()),
        None => {
            format!("{found} anomalies; run again with --history FILE to keep what led to them")
        }
    }))
}
