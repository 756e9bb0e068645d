//! `alluvium consume`: records of a topic, from anywhere, alone or in a group.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use alluvium_client::{Client, ClientError, Consumer, GroupConsumer, Isolation, ReadRecord, Start};
use alluvium_types::Offset;

use crate::base64;
use crate::bootstrap::Bootstrap;
use crate::failure::Failure;
use crate::output::{Output, say};

/// Longest wait of one poll.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `alluvium consume`.
#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    /// The topic.
    topic: String,
    /// Begin with the first record there is (in a group: where the group has no offset).
    #[arg(long)]
    from_beginning: bool,
    /// Begin at this offset of every partition that is read.
    #[arg(long, conflicts_with_all = ["from_beginning", "group"])]
    offset: Option<i64>,
    /// Begin with the first record of this time or later, in milliseconds since 1970.
    #[arg(long, value_name = "MILLIS", conflicts_with_all = ["from_beginning", "offset", "group"])]
    time: Option<i64>,
    /// Only this partition; may be given more than once.
    #[arg(long = "partition", conflicts_with = "group")]
    partitions: Vec<i32>,
    /// Read as a member of this group and commit what was printed.
    #[arg(long)]
    group: Option<String>,
    /// Which records of transactions to print: all, or those of committed ones.
    #[arg(long, value_enum, default_value = "read_uncommitted")]
    isolation: Reading,
    /// Stop after so many records.
    #[arg(long, value_name = "COUNT")]
    max: Option<u64>,
    /// Stop at the records that were the last when this began.
    #[arg(long)]
    exit_at_end: bool,
    /// A JSON object per record, with bytes also as base64.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// How to print a record: {topic} {partition} {offset} {timestamp} {key} {value} {headers}.
    #[arg(long, value_name = "TEMPLATE", default_value = "{value}")]
    format: String,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

/// Isolation levels, as Kafka names them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Reading {
    #[value(name = "read_uncommitted")]
    Uncommitted,
    #[value(name = "read_committed")]
    Committed,
}

/// Reads alone or in a group.
enum Reader<'a> {
    Alone(Consumer<'a>),
    Member(Box<GroupConsumer<'a>>),
}

impl Reader<'_> {
    async fn poll(&mut self) -> Result<Vec<ReadRecord>, ClientError> {
        match self {
            Self::Alone(consumer) => consumer.poll(POLL).await,
            Self::Member(member) => member.poll(POLL).await,
        }
    }

    async fn ends(&self) -> Result<BTreeMap<i32, Offset>, ClientError> {
        match self {
            Self::Alone(consumer) => consumer.ends().await,
            Self::Member(member) => member.ends().await,
        }
    }

    /// Whether every partition was read up to where `ends` says.
    fn is_past(&self, ends: &BTreeMap<i32, Offset>) -> bool {
        let positions = match self {
            Self::Alone(consumer) => consumer.positions().clone(),
            Self::Member(member) => member.positions(),
        };
        ends.iter()
            .all(|(partition, end)| positions.get(partition).is_none_or(|at| at >= end))
    }
}

/// Runs `alluvium consume`.
pub(crate) async fn run(args: ConsumeArgs) -> Result<(), Failure> {
    let client = args
        .bootstrap
        .connect()
        .await?
        .reading(match args.isolation {
            Reading::Uncommitted => Isolation::Uncommitted,
            Reading::Committed => Isolation::Committed,
        });
    let mut reader = open(&client, &args).await?;
    let ends = if args.exit_at_end {
        Some(reader.ends().await?)
    } else {
        None
    };
    let mut out = Output::new();
    let mut count = 0;
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    'reading: loop {
        if ends.as_ref().is_some_and(|ends| reader.is_past(ends)) {
            break;
        }
        let records = tokio::select! {
            records = reader.poll() => records?,
            _ = &mut stop => break,
        };
        for record in &records {
            if args.max.is_some_and(|max| count >= max) {
                break 'reading;
            }
            if is_late(record, ends.as_ref()) {
                continue;
            }
            count += 1;
            print(&mut out, &args, record)?;
        }
        out.flush()?;
        if let Reader::Member(member) = &mut reader
            && !records.is_empty()
        {
            member.commit().await?;
        }
        if args.max.is_some_and(|max| count >= max) {
            break;
        }
    }
    out.flush()?;
    if let Reader::Member(member) = reader {
        member.leave().await?;
    }
    say(&format!("{count} records from {}", args.topic));
    Ok(())
}

async fn open<'a>(client: &'a Client, args: &ConsumeArgs) -> Result<Reader<'a>, Failure> {
    let start = match (args.offset, args.time) {
        (Some(offset), _) => Start::Offset(offset),
        (_, Some(time)) => Start::Time(time),
        _ if args.from_beginning => Start::Beginning,
        _ => Start::End,
    };
    if let Some(group) = &args.group {
        let member = GroupConsumer::join(client, group, &args.topic, start).await?;
        return Ok(Reader::Member(Box::new(member)));
    }
    let partitions = (!args.partitions.is_empty()).then_some(args.partitions.as_slice());
    Ok(Reader::Alone(
        Consumer::new(client, &args.topic, partitions, start).await?,
    ))
}

/// Written after `--exit-at-end` looked where the end is.
fn is_late(record: &ReadRecord, ends: Option<&BTreeMap<i32, Offset>>) -> bool {
    ends.and_then(|ends| ends.get(&record.partition))
        .is_some_and(|end| record.record.offset >= *end)
}

fn print(out: &mut Output, args: &ConsumeArgs, read: &ReadRecord) -> Result<(), Failure> {
    if args.json {
        return out.line(as_json(&args.topic, read).to_string().as_bytes());
    }
    let mut rest = args.format.as_str();
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        out.write(before.as_bytes())?;
        let Some(close) = from.find('}') else {
            rest = from;
            break;
        };
        let (name, after) = from.split_at(close + 1);
        field(out, args, read, name)?;
        rest = after;
    }
    out.line(rest.as_bytes())
}

fn field(
    out: &mut Output,
    args: &ConsumeArgs,
    read: &ReadRecord,
    name: &str,
) -> Result<(), Failure> {
    let record = &read.record;
    match name {
        "{topic}" => out.write(args.topic.as_bytes()),
        "{partition}" => out.write(read.partition.to_string().as_bytes()),
        "{offset}" => out.write(record.offset.to_string().as_bytes()),
        "{timestamp}" => out.write(record.timestamp.to_string().as_bytes()),
        "{key}" => out.write(record.key.as_deref().unwrap_or_default()),
        "{value}" => out.write(record.value.as_deref().unwrap_or_default()),
        "{headers}" => {
            for (index, (name, value)) in record.headers.iter().enumerate() {
                out.write(if index == 0 { b"" } else { b"," })?;
                out.write(name.as_bytes())?;
                out.write(b"=")?;
                out.write(value.as_deref().unwrap_or_default())?;
            }
            Ok(())
        }
        other => Err(Failure::Usage(format!("--format: there is no {other}"))),
    }
}

fn as_json(topic: &str, read: &ReadRecord) -> Value {
    let text = |bytes: Option<&bytes::Bytes>| {
        bytes.and_then(|bytes| std::str::from_utf8(bytes).ok().map(str::to_owned))
    };
    let exact = |bytes: Option<&bytes::Bytes>| bytes.map(|bytes| base64::encode(bytes));
    let record = &read.record;
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| {
            json!({
                "key": name,
                "value": text(value.as_ref()),
                "value_base64": exact(value.as_ref()),
            })
        })
        .collect();
    json!({
        "topic": topic,
        "partition": read.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": text(record.key.as_ref()),
        "key_base64": exact(record.key.as_ref()),
        "value": text(record.value.as_ref()),
        "value_base64": exact(record.value.as_ref()),
        "headers": headers,
    })
}
