//! Reads what was planned.

use bytes::Bytes;
use futures::{StreamExt, stream};

use alluvium_types::ErrorCode;

use super::ReadResult;
use super::assemble::Assembly;
use super::plan::{Plan, PlannedRun};
use super::run_reader::{RunReader, Start, read_range};
use super::seek::{Target, seek};
use super::source::{Piece, ReadError, Source};

/// Partitions of one fetch that are read at a time.
const PARTITIONS: usize = 16;

/// Runs of one partition that are read at a time.
const RUNS: usize = 8;

/// Least that is read where the first batch is wanted whatever its size.
const FIRST_READ_BYTES: u64 = 4 << 10;

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
    if error == ErrorCode::None
        && let Err(failure) = read_runs(source, &plan, &mut assembly).await
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
        records: assembly.finish(),
    }
}

/// Bytes of one run to read ahead.
struct Ahead<'a> {
    run: &'a PlannedRun,
    start: Start,
    end: u64,
}

async fn read_runs(source: &Source, plan: &Plan, out: &mut Assembly) -> Result<(), ReadError> {
    let Some(first) = plan.runs.first() else {
        return Ok(());
    };
    if plan.max_bytes == 0 && !plan.at_least_one {
        return Ok(());
    }
    let start = seek(source, plan.partition, first, Target::Offset(plan.offset)).await?;
    let ahead = read_ahead(plan, start);
    // The futures are made before the first wait: a stream over the closure would not be `Send` for
    // every lifetime, as the server's tasks need it.
    let reads: Vec<_> = ahead
        .into_iter()
        .map(|ahead| async move {
            let piece = read_range(source, ahead.run, ahead.start.position, ahead.end).await;
            (ahead, piece)
        })
        .collect();
    let mut pieces = stream::iter(reads).buffered(RUNS);
    while let Some((ahead, piece)) = pieces.next().await {
        if !read_run(source, plan, &ahead, piece?, out).await? {
            break;
        }
    }
    Ok(())
}

/// Which bytes of which runs hold what may be returned.
fn read_ahead(plan: &Plan, start: Start) -> Vec<Ahead<'_>> {
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
        ahead.push(Ahead {
            run,
            start,
            end: start.position + bytes,
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
) -> Result<bool, ReadError> {
    let mut reader = RunReader::new(source, plan.partition, ahead.run, ahead.start);
    reader.read_ahead(piece);
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
        let parts = reader.take(&header).await?;
        out.batch(parts, header.base_offset);
    }
}
