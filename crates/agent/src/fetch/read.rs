//! Reads what was planned.

use bytes::Bytes;
use futures::{StreamExt, stream};

use alluvium_storage::cache::{Lane, SEGMENT_BYTES};
use alluvium_types::{ErrorCode, ObjectId, Offset, ProducerId};

use super::ReadResult;
use super::assemble::Assembly;
use super::plan::{Place, Plan, PlannedRun};
use super::readers::{Reader, Stretch, look_ahead};
use super::run_reader::{RunReader, Start, read_range};
use super::seek::{Target, seek};
use super::source::{Piece, ReadError, Source, Way};

/// Partitions of one fetch that are read at a time.
const PARTITIONS: usize = 16;

/// Runs of one partition that are read at a time.
const RUNS: usize = 8;

/// Least that is read where the first batch is wanted whatever its size.
const FIRST_READ_BYTES: u64 = 4 << 10;

/// Who reads on at the tail has this many times what it read so far fetched at once.
const TAIL_GROWTH: u64 = 8;

/// After so many bytes others have a turn: what is in memory is read without ever waiting, and who waits
/// at the tail must not wait for that.
const TURN_BYTES: usize = 256 << 10;

/// Reads all partitions of a fetch. Together they stay within `max_bytes`, but for the first batch.
pub(super) async fn read_all(
    source: &Source,
    plans: Vec<Plan>,
    max_bytes: usize,
) -> Vec<ReadResult> {
    let reads = plans.into_iter().map(|plan| read_partition(source, plan));
    let mut results: Vec<_> = stream::iter(reads).buffered(PARTITIONS).collect().await;
    // A first batch that was larger than planned leaves less for the others.
    let mut left = max_bytes;
    let mut is_first = true;
    for result in &mut results {
        let bytes: usize = result.records.iter().map(Bytes::len).sum();
        if bytes == 0 {
            continue;
        }
        if bytes > left && !is_first {
            result.records.clear();
            result.aborted.clear();
        } else {
            left = left.saturating_sub(bytes);
            is_first = false;
        }
    }
    results
}

async fn read_partition(source: &Source, plan: Plan) -> ReadResult {
    let mut assembly = Assembly::default();
    let mut error = plan.error;
    let mut progress = Progress {
        next_offset: plan.offset,
        mark: None,
    };
    if error == ErrorCode::None
        && let Err(failure) = read_runs(source, &plan, &mut assembly, &mut progress).await
    {
        metrics::counter!("alluvium_fetch_read_failures_total").increment(1);
        tracing::error!(
            topic = %plan.partition.topic,
            partition = plan.partition.partition,
            "records cannot be read: {failure}",
        );
        // What came before the fault is good; the next fetch meets the fault at its beginning.
        if assembly.len() == 0 {
            error = ErrorCode::KafkaStorageError;
        }
    }
    ReadResult {
        error,
        high_watermark: plan.high_watermark,
        last_stable_offset: plan.last_stable_offset,
        log_start: plan.log_start,
        aborted: aborted_below(plan.aborted, assembly.len(), progress.next_offset),
        records: assembly.finish(),
    }
}

/// Of the aborted transactions those that begin below the end of what was read.
fn aborted_below(
    mut aborted: Vec<(ProducerId, Offset)>,
    bytes: usize,
    end: Offset,
) -> Vec<(ProducerId, Offset)> {
    let read = aborted.partition_point(|(_, first_offset)| *first_offset < end);
    aborted.truncate(if bytes == 0 { 0 } else { read });
    aborted
}

/// Bytes of one run to read ahead.
struct Ahead<'a> {
    run: &'a PlannedRun,
    start: Start,
    end: u64,
    way: Way,
}

/// How far a fetch has come.
#[derive(Clone, Copy)]
struct Progress {
    next_offset: Offset,
    mark: Option<(ObjectId, u64)>,
}

async fn read_runs(
    source: &Source,
    plan: &Plan,
    out: &mut Assembly,
    progress: &mut Progress,
) -> Result<(), ReadError> {
    let Some(first) = plan.runs.first() else {
        return Ok(());
    };
    if plan.max_bytes == 0 && !plan.at_least_one {
        return Ok(());
    }
    let known = source.readers().at(plan.partition, plan.offset);
    let start = match known.and_then(|reader| marked(plan, first, &reader)) {
        Some(start) => start,
        None => seek(source, plan.partition, first, Target::Offset(plan.offset)).await?,
    };
    let mut reader = known.unwrap_or_else(|| source.readers().begin());
    let ahead = read_ahead(plan, start, fetch_ahead(source, plan, start, &mut reader));
    // The futures are made before the first wait: a stream over the closure would not be `Send` for
    // every lifetime, as the server's tasks need it.
    let reads: Vec<_> = ahead
        .into_iter()
        .map(|ahead| async move {
            let range = ahead.start.position..ahead.end;
            let piece = read_range(source, ahead.run, range, ahead.way).await;
            (ahead, piece)
        })
        .collect();
    let mut pieces = stream::iter(reads).buffered(RUNS);
    while let Some((ahead, piece)) = pieces.next().await {
        if !read_run(source, plan, &ahead, piece?, out, progress).await? {
            break;
        }
    }
    // The run of the offset may have no record from there on: then the next one is to be looked at,
    // or its reader would never get past it.
    for run in &plan.next {
        if out.len() > 0 {
            break;
        }
        let begin = Start {
            position: 0,
            base_offset: run.base_offset,
            slack: 0,
        };
        let length = u64::try_from(plan.max_bytes).unwrap_or(u64::MAX);
        let end = run.length.min(length.max(FIRST_READ_BYTES));
        let piece = read_range(source, run, 0..end, Way::PLAIN).await?;
        let ahead = Ahead {
            run,
            start: begin,
            end,
            way: Way::PLAIN,
        };
        if !read_run(source, plan, &ahead, piece, out, progress).await? {
            break;
        }
    }
    if out.len() > 0 {
        reader.mark = progress.mark;
        reader.streak = reader.streak.saturating_add(out.len() as u64);
        source
            .readers()
            .put(plan.partition, progress.next_offset, reader);
    }
    Ok(())
}

/// The place where the fetch before this one ended, if it lies in the run.
fn marked(plan: &Plan, run: &PlannedRun, reader: &Reader) -> Option<Start> {
    let (marked, at) = reader.mark?;
    let Place::Object {
        object, position, ..
    } = &run.place
    else {
        return None;
    };
    let into_run = at.checked_sub(*position)?;
    if object.object != marked || into_run > run.length {
        return None;
    }
    let base_offset = match into_run {
        0 => run.base_offset,
        _ => plan.offset.max(run.base_offset),
    };
    Some(Start {
        position: into_run,
        base_offset,
        slack: 0,
    })
}

/// Has the cache fetch what a reader of old data will come to, and says how it is to be read; at the
/// tail, how much is to come with what it reads.
fn fetch_ahead(source: &Source, plan: &Plan, start: Start, reader: &mut Reader) -> (Lane, u64) {
    if reader.streak == 0 {
        return (Lane::Hot, 0);
    }
    if plan.is_tail {
        let grown = reader.streak.saturating_mul(TAIL_GROWTH);
        return (Lane::Hot, grown.min(SEGMENT_BYTES));
    }
    let mut skipped = start.position;
    let runs = plan.runs.iter().chain(&plan.next);
    let stretches: Vec<_> = runs
        .filter_map(|run| {
            let skipped = std::mem::take(&mut skipped);
            match &run.place {
                Place::Object {
                    object, position, ..
                } => Some(Stretch {
                    object: *object,
                    range: position.saturating_add(skipped)..position.saturating_add(run.length),
                }),
                _ => None,
            }
        })
        .collect();
    let window = source.readers().window(reader);
    for stretch in look_ahead(&stretches, &mut reader.fetched_to, window) {
        source.ahead(stretch.object, stretch.range);
    }
    (Lane::Scan, 0)
}

/// Which bytes of which runs hold what may be returned.
fn read_ahead(plan: &Plan, start: Start, (lane, extra): (Lane, u64)) -> Vec<Ahead<'_>> {
    let mut left = u64::try_from(plan.max_bytes).unwrap_or(u64::MAX);
    if plan.at_least_one {
        left = left.max(FIRST_READ_BYTES);
    }
    let mut start = Some(start);
    let mut ahead = Vec::with_capacity(plan.runs.len());
    for run in &plan.runs {
        if left == 0 {
            break;
        }
        let whole = Start {
            position: 0,
            base_offset: run.base_offset,
            slack: 0,
        };
        let start = start.take().unwrap_or(whole);
        let wanted = left.saturating_add(start.slack);
        let bytes = run.length.saturating_sub(start.position).min(wanted);
        left = left.saturating_sub(bytes.saturating_sub(start.slack));
        let end = start.position + bytes;
        let extend_to = match &run.place {
            Place::Object { position, .. } => {
                position.saturating_add(end.saturating_add(extra).min(run.length))
            }
            _ => 0,
        };
        ahead.push(Ahead {
            run,
            start,
            end,
            way: Way { lane, extend_to },
        });
    }
    ahead
}

/// Adds a run's batches. False when no more can be added.
async fn read_run(
    source: &Source,
    plan: &Plan,
    ahead: &Ahead<'_>,
    piece: Piece,
    out: &mut Assembly,
    progress: &mut Progress,
) -> Result<bool, ReadError> {
    let reader = RunReader::new(source, plan.partition, ahead.run, ahead.start);
    let mut reader = reader.in_way(ahead.way);
    reader.read_ahead(piece);
    let goes_on = take_batches(plan, &mut reader, out, progress).await?;
    progress.mark = match &ahead.run.place {
        Place::Object {
            object, position, ..
        } => Some((object.object, position.saturating_add(reader.position()))),
        _ => None,
    };
    Ok(goes_on)
}

async fn take_batches(
    plan: &Plan,
    reader: &mut RunReader<'_>,
    out: &mut Assembly,
    progress: &mut Progress,
) -> Result<bool, ReadError> {
    let mut turn = 0;
    loop {
        // Past what was read ahead only the first batch is looked for.
        if out.len() > 0 && !reader.has_header() && !reader.is_at_end() {
            return Ok(false);
        }
        let Some(header) = reader.header().await? else {
            return Ok(true);
        };
        if header.base_offset >= plan.end {
            return Ok(false);
        }
        if header.last_offset() < plan.offset {
            reader.skip(&header);
            continue;
        }
        let fits = out.len().saturating_add(header.bytes) <= plan.max_bytes;
        let is_first = out.len() == 0;
        if !(fits || is_first && plan.at_least_one) || !(is_first || reader.is_at_hand(&header)) {
            return Ok(false);
        }
        let Some(parts) = reader.take(&header).await? else {
            continue;
        };
        out.batch(parts, header.base_offset);
        turn += header.bytes;
        if turn >= TURN_BYTES {
            turn = 0;
            tokio::task::yield_now().await;
        }
        progress.next_offset = header.last_offset().saturating_add(1);
    }
}
