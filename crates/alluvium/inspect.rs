//! `alluvium inspect`: what an object holds, with no cluster asked.

use std::path::Path;

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use alluvium_objects::{Footer, HEADER_BYTES, Header, Level, RunEntry, TRAILER_BYTES, parse_key};
use alluvium_protocol::batch::{self, BatchHeader};
use alluvium_protocol::records::Marker;
use alluvium_storage::bucket::{Bucket, ObjectMeta};
use alluvium_storage::disk::LocalDisk;

use crate::failure::Failure;
use crate::output::Output;

/// Objects listed per request.
const PAGE: usize = 1000;

/// Arguments of `alluvium inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// An object or all objects below: s3://bucket/prefix[/object], file:///folder[/object], or a
    /// path.
    url: String,
    /// Also every batch.
    #[arg(long)]
    batches: bool,
    /// A JSON object per object.
    #[arg(long)]
    json: bool,
}

/// Runs `alluvium inspect`.
pub(crate) async fn run(args: InspectArgs) -> Result<(), Failure> {
    let url = as_url(&args.url)?;
    let (store, object) = split(&url);
    let bucket = Bucket::open_existing(store, LocalDisk::shared())
        .await
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let mut out = Output::new();
    let mut damaged = 0u64;
    let mut seen = 0u64;
    if let Some(key) = object {
        let meta = bucket.head(&key).await.map_err(failed)?;
        damaged += u64::from(!show(&mut out, &args, &bucket, &meta).await?);
        seen += 1;
    } else {
        let mut after: Option<String> = None;
        loop {
            let page = bucket
                .list("", after.as_deref(), PAGE)
                .await
                .map_err(failed)?;
            for meta in page.iter().filter(|meta| parse_key(&meta.key).is_some()) {
                damaged += u64::from(!show(&mut out, &args, &bucket, meta).await?);
                seen += 1;
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
                _ => break,
            }
        }
    }
    out.flush()?;
    match (seen, damaged) {
        (0, _) => Err(Failure::Failed(format!(
            "{}: no Alluvium objects there",
            args.url
        ))),
        (_, 0) => Ok(()),
        (_, damaged) => Err(Failure::Failed(format!(
            "{damaged} of {seen} objects are damaged"
        ))),
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

/// A plain path means the file system.
fn as_url(text: &str) -> Result<String, Failure> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let path = Path::new(text)
        .canonicalize()
        .map_err(|error| Failure::Failed(format!("{text}: {error}")))?;
    Ok(format!("file://{}", path.display()))
}

/// Store and object: the last two parts of a URL may be an object's key.
fn split(url: &str) -> (&str, Option<String>) {
    let mut cuts = url.rmatch_indices('/').map(|(at, _)| at);
    let cut = cuts.next().and(cuts.next());
    if let Some(cut) = cut {
        let (store, key) = (&url[..cut], &url[cut + 1..]);
        if parse_key(key).is_some() {
            return (store, Some(key.to_owned()));
        }
    }
    (url, None)
}

/// A batch, and what it marks if it is a marker.
struct Shown {
    header: BatchHeader,
    marker: Option<Marker>,
}

impl Shown {
    /// What kind of batch it is, where it is not just records.
    const fn kind(&self) -> Option<&'static str> {
        match self.marker {
            Some(Marker::Commit) => Some("commit marker"),
            Some(Marker::Abort) => Some("abort marker"),
            None if self.header.is_control() => Some("control batch"),
            None if self.header.is_transactional() => Some("transactional"),
            None => None,
        }
    }
}

/// What one object says of itself, and what is wrong with it.
struct Findings {
    header: Option<Header>,
    runs: Vec<(RunEntry, Vec<Shown>)>,
    damage: Vec<String>,
}

/// Prints an object; whether it is sound.
async fn show(
    out: &mut Output,
    args: &InspectArgs,
    bucket: &Bucket,
    meta: &ObjectMeta,
) -> Result<bool, Failure> {
    let found = examine(bucket, meta).await?;
    if args.json {
        out.line(as_json(meta, &found, args.batches).to_string().as_bytes())?;
    } else {
        out.write(as_text(meta, &found, args.batches).as_bytes())?;
    }
    Ok(found.damage.is_empty())
}

async fn examine(bucket: &Bucket, meta: &ObjectMeta) -> Result<Findings, Failure> {
    let mut found = Findings {
        header: None,
        runs: Vec::new(),
        damage: Vec::new(),
    };
    if meta.bytes < HEADER_BYTES + TRAILER_BYTES {
        found
            .damage
            .push(format!("{} bytes are too few for an object", meta.bytes));
        return Ok(found);
    }
    let read = async |range| bucket.read(&meta.key, range).await.map_err(failed);
    match Header::parse(&read(0..HEADER_BYTES).await?) {
        Ok(header) => {
            if Some(header.object) != parse_key(&meta.key) {
                found
                    .damage
                    .push(format!("it is named {} inside", header.object));
            }
            found.header = Some(header);
        }
        Err(error) => found.damage.push(error.to_string()),
    }
    let trailer = read(meta.bytes - TRAILER_BYTES..meta.bytes).await?;
    let footer = match Footer::tail_bytes(&trailer, meta.bytes) {
        Ok(tail) => {
            let tail = read(meta.bytes - tail..meta.bytes).await?;
            Footer::parse(&tail, meta.bytes)
        }
        Err(error) => Err(error),
    };
    match footer {
        Ok(footer) => {
            for run in footer.runs {
                let bytes = read(run.position..run.position + run.length).await?;
                let batches = examine_run(&run, &bytes, &mut found.damage);
                found.runs.push((run, batches));
            }
        }
        Err(error) => found.damage.push(error.to_string()),
    }
    Ok(found)
}

fn examine_run(run: &RunEntry, bytes: &Bytes, damage: &mut Vec<String>) -> Vec<Shown> {
    let place = format!("run of {} {}", run.partition.topic, run.partition.partition);
    if !run.matches_checksum(bytes) {
        damage.push(format!("{place}: its bytes do not match its checksum"));
    }
    let batches = match batch::split(bytes) {
        Ok(batches) => batches,
        Err(error) => {
            damage.push(format!("{place}: {error}"));
            return Vec::new();
        }
    };
    let mut headers = Vec::with_capacity(batches.len());
    let mut records = 0;
    for bytes in &batches {
        match BatchHeader::parse(bytes) {
            Ok(header) => {
                if let Err(error) = batch::check_crc(bytes) {
                    damage.push(format!("{place}: {error}"));
                }
                records += i64::from(header.last_offset_delta) + 1;
                headers.push(Shown {
                    header,
                    marker: Marker::of(bytes),
                });
            }
            Err(error) => damage.push(format!("{place}: {error}")),
        }
    }
    if u64::try_from(records).ok() != Some(run.records) {
        damage.push(format!(
            "{place}: {records} records, the footer says {}",
            run.records
        ));
    }
    headers
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::Chunk => "chunk",
        Level::Settled => "settled",
        Level::Compacted => "compacted",
    }
}

fn as_json(meta: &ObjectMeta, found: &Findings, batches: bool) -> Value {
    let runs: Vec<Value> = found
        .runs
        .iter()
        .map(|(run, headers)| {
            let mut shown = json!({
                "topic_id": run.partition.topic.to_string(),
                "partition": run.partition.partition,
                "base_offset": run.base_offset,
                "position": run.position,
                "length": run.length,
                "records": run.records,
                "batches": run.batches,
                "max_timestamp": run.max_timestamp,
                "crc32c": format!("{:08x}", run.crc),
            });
            if batches {
                shown["batch_list"] = headers.iter().map(batch_json).collect();
            }
            shown
        })
        .collect();
    json!({
        "key": meta.key,
        "bytes": meta.bytes,
        "version": found.header.map(|header| header.version),
        "level": found.header.map(|header| level(header.level)),
        "created_at": found.header.map(|header| header.created_at),
        "runs": runs,
        "damage": found.damage,
    })
}

fn codec(header: &BatchHeader) -> &'static str {
    header
        .codec()
        .map_or("unknown", alluvium_protocol::compression::Codec::name)
}

fn batch_json(shown: &Shown) -> Value {
    let header = &shown.header;
    json!({
        "base_offset": header.base_offset,
        "bytes": header.bytes,
        "records": header.record_count,
        "codec": codec(header),
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "transactional": header.is_transactional(),
        "control": header.is_control(),
        "kind": shown.kind(),
    })
}

fn as_text(meta: &ObjectMeta, found: &Findings, batches: bool) -> String {
    use std::fmt::Write;
    let mut text = format!("{}  {} bytes", meta.key, meta.bytes);
    if let Some(header) = found.header {
        let (level, version) = (level(header.level), header.version);
        let _ = write!(
            text,
            "  {level}  format {version}  written at {}",
            header.created_at
        );
    }
    text.push('\n');
    for (run, headers) in &found.runs {
        let offsets = run.base_offset.map_or_else(
            || format!("{} records", run.records),
            |base| {
                format!(
                    "offsets {base} to {}",
                    base.saturating_add_unsigned(run.records) - 1
                )
            },
        );
        let _ = writeln!(
            text,
            "  topic {} partition {}: {offsets} in {} batches, bytes {} to {}, crc32c {:08x}",
            run.partition.topic,
            run.partition.partition,
            run.batches,
            run.position,
            run.position + run.length,
            run.crc
        );
        for shown in headers.iter().filter(|_| batches) {
            let header = &shown.header;
            let kind = shown
                .kind()
                .map_or_else(String::new, |kind| format!(", {kind}"));
            let _ = writeln!(
                text,
                "    {} records, {} bytes, {}, timestamps {} to {}, producer {} epoch {} sequence {}{kind}",
                header.record_count,
                header.bytes,
                codec(header),
                header.base_timestamp,
                header.max_timestamp,
                header.producer_id,
                header.producer_epoch,
                header.base_sequence
            );
        }
    }
    for damage in &found.damage {
        let _ = writeln!(text, "  DAMAGED {damage}");
    }
    text
}
