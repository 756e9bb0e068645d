//! Fetch: sessions, checks, limits; the reading is the read path's.

use std::time::Duration;

use alluvium_agent::budget::Lease;
use alluvium_agent::fetch::{ReadLimits, ReadPartition, ReadResult};
use alluvium_agent::quotas::QuotaKind;
use alluvium_metadata::{Partition, State};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchedPartition};
use alluvium_protocol::produce::TopicRef;
use alluvium_protocol::request::Request;
use alluvium_types::{AgentId, ErrorCode, Offset, TopicPartition};

use crate::kafka::connection::Session;
use crate::kafka::dispatch::Rejection;
use crate::kafka::services::Services;
use crate::kafka::writer::Answer;

use super::leader_epoch;
use super::nearer::Nearer;

/// The first version that names topics by id.
const TOPIC_IDS: i16 = 13;
/// The first version in which a topic may be compressed by zstd (KIP-110).
const ZSTD: i16 = 10;
/// The first version whose clients know KAFKA_STORAGE_ERROR.
const STORAGE_ERROR: i16 = 6;
/// Most that is read for a fetch that waits at the tail, where nobody knows beforehand how much it
/// will be.
const TAIL_BYTES: usize = 1 << 20;
/// How long a fetch waits for its share of the memory for answers,
const MEMORY_PATIENCE: Duration = Duration::from_millis(500);
/// and what it reads without: a little, so that slow readers cannot stop the others.
const WITHOUT_LEASE_BYTES: usize = 128 << 10;

/// Longest wait that a client gets. A waiting request holds the memory of its frame; an empty answer
/// only makes the client ask again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Numbers of one request, in our types.
struct Limits {
    max_wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
    read_committed: bool,
}

/// Carries out a fetch.
pub(crate) async fn answer(session: &Session, request: &Request) -> Result<Answer, Rejection> {
    let services = &*session.services;
    let version = request.api_version;
    let fetch = FetchRequest::decode(request)?;
    let now = services.agent.clock.now();
    let limits = Limits::of(&fetch, services.limits.fetch_bytes);
    let rack = fetch.rack.clone();
    let client_id = request.client_id.as_deref().unwrap_or_default();
    let plan = match services
        .fetch_sessions
        .begin(fetch, version >= TOPIC_IDS, now)
    {
        Ok(plan) => plan,
        Err(error) => {
            tracing::debug!(%error, client_id = request.client_id.as_deref(), "Fetch refused");
            let refused = FetchResponse {
                error,
                ..FetchResponse::default()
            };
            let parts = refused.encode(request.correlation_id, version);
            return Ok(Answer { parts, lease: None });
        }
    };
    let resolve_all = || {
        services.agent.metadata.read(|state| {
            let nearer = Nearer::of(state, services.agent.id(), client_id, &rack);
            let resolve = |asked| resolve(services, state, asked, version, nearer.as_ref());
            plan.partitions.iter().map(resolve).collect::<Vec<_>>()
        })
    };
    let mut resolved = resolve_all();
    // The client may have learned of a topic from another agent.
    if resolved.iter().any(is_unknown) {
        if services.agent.catch_up().await.is_ok() {
            resolved = resolve_all();
        } else {
            // The quorum does not say whether they are there: the client asks again.
            let unknown = resolved.iter_mut().filter(|resolved| is_unknown(resolved));
            unknown.for_each(|resolved| *resolved = Err(ErrorCode::NotLeaderOrFollower.into()));
        }
    }
    let (results, lease) = read(session, &resolved, &limits).await;
    let mut response = FetchResponse {
        partitions: assemble(&plan.partitions, &resolved, results, limits.read_committed),
        ..FetchResponse::default()
    };
    for partition in &mut response.partitions {
        partition.error = shown(partition.error, version);
    }
    services
        .fetch_sessions
        .finish(plan, &mut response, services.agent.clock.now());
    let records = response.partitions.iter().flat_map(|of| &of.records);
    let bytes = records.map(bytes::Bytes::len).sum();
    session.charge_bytes(request, QuotaKind::ConsumerByteRate, bytes);
    response.throttle_ms = session.throttle_millis();
    let parts = response.encode(request.correlation_id, version);
    Ok(Answer { parts, lease })
}

impl Limits {
    fn of(fetch: &FetchRequest, fetch_bytes: usize) -> Self {
        let positive = |number: i32| usize::try_from(number).unwrap_or(0);
        let wait = u64::try_from(fetch.max_wait_ms).unwrap_or(0);
        let max_bytes = positive(fetch.max_bytes).min(fetch_bytes);
        Self {
            max_wait: Duration::from_millis(wait).min(LONGEST_WAIT),
            min_bytes: positive(fetch.min_bytes).min(max_bytes),
            max_bytes,
            read_committed: fetch.read_committed,
        }
    }
}

/// Why a partition is not read.
enum Unread {
    Refused(ErrorCode),
    /// There is an agent in the client's zone (KIP-392).
    Elsewhere {
        agent: AgentId,
        high_watermark: Offset,
        last_stable_offset: Offset,
        log_start: Offset,
    },
}

impl From<ErrorCode> for Unread {
    fn from(error: ErrorCode) -> Self {
        Self::Refused(error)
    }
}

/// What to read for a partition, or why not.
fn resolve(
    services: &Services,
    state: &State,
    asked: &FetchPartition,
    version: i16,
    nearer: Option<&Nearer<'_>>,
) -> Result<ReadPartition, Unread> {
    let topic = match &asked.topic {
        TopicRef::Name(name) => state
            .topic_by_name(name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?,
        TopicRef::Id(id) => state.topic(*id).ok_or(ErrorCode::UnknownTopicId)?,
    };
    let partition = TopicPartition::new(topic.id, asked.partition);
    let Some(known) = state.partition(partition) else {
        return Err(ErrorCode::UnknownTopicOrPartition.into());
    };
    leader_epoch::check(asked.current_leader_epoch)?;
    if version < ZSTD
        && services.agent.topics.settings(state, topic).compression == Some(Codec::Zstd)
    {
        return Err(ErrorCode::UnsupportedCompressionType.into());
    }
    if let Some(agent) = nearer.and_then(|nearer| nearer.agent(topic, asked.partition)) {
        return Err(Unread::Elsewhere {
            agent,
            high_watermark: known.high_watermark(),
            last_stable_offset: known.last_stable_offset(),
            log_start: known.log_start(),
        });
    }
    let max_bytes = usize::try_from(asked.max_bytes).unwrap_or(0);
    Ok(ReadPartition {
        partition,
        offset: asked.offset,
        max_bytes,
    })
}

const fn is_unknown(resolved: &Result<ReadPartition, Unread>) -> bool {
    matches!(
        resolved,
        Err(Unread::Refused(
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
        ))
    )
}

/// Reads what could be resolved; the bytes are leased until the answer is sent.
async fn read(
    session: &Session,
    resolved: &[Result<ReadPartition, Unread>],
    limits: &Limits,
) -> (Vec<ReadResult>, Option<Lease>) {
    let services = &*session.services;
    let agent = &services.agent;
    let partitions: Vec<ReadPartition> = resolved
        .iter()
        .filter_map(|partition| partition.as_ref().ok().copied())
        .collect();
    // An error is told at once, not after a wait for other partitions; so is a nearer agent.
    let has_errors = partitions.len() < resolved.len() || resolved.is_empty();
    let available = agent
        .metadata
        .read(|state| available(state, &partitions, limits));
    let mut max_bytes = limits.max_bytes;
    let mut lease = None;
    if available >= limits.min_bytes.max(1) {
        let leasing = services.responses.lease(available);
        lease = tokio::time::timeout(MEMORY_PATIENCE, leasing).await.ok();
        max_bytes = max_bytes.min(if lease.is_some() {
            available
        } else {
            WITHOUT_LEASE_BYTES
        });
    } else {
        max_bytes = max_bytes.min(limits.min_bytes.max(TAIL_BYTES));
    }
    let now = ReadLimits {
        max_wait: Duration::ZERO,
        min_bytes: limits.min_bytes,
        max_bytes,
        read_committed: limits.read_committed,
    };
    let waits = !has_errors && !limits.max_wait.is_zero();
    let later = ReadLimits {
        max_wait: limits.max_wait,
        ..now
    };
    let results = tokio::select! {
        biased;
        results = agent.fetch.read(&partitions, if waits { later } else { now }) => results,
        () = session.waits.cancelled(), if waits => agent.fetch.read(&partitions, now).await,
    };
    let records = results.iter().flat_map(|result| &result.records);
    let bytes = records.map(bytes::Bytes::len).sum();
    services.traffic.fetched(bytes as u64);
    if lease.is_none() && bytes > WITHOUT_LEASE_BYTES {
        let leasing = services.responses.lease(bytes);
        lease = tokio::time::timeout(MEMORY_PATIENCE, leasing).await.ok();
    }
    (results, lease)
}

/// About how many bytes there are to read now, up to what may be read.
fn available(state: &State, partitions: &[ReadPartition], limits: &Limits) -> usize {
    let mut total = 0usize;
    for asked in partitions {
        if let Some(partition) = state.partition(asked.partition) {
            total = total.saturating_add(available_in(partition, asked, limits));
        }
        if total >= limits.max_bytes {
            return limits.max_bytes;
        }
    }
    total
}

fn available_in(partition: &Partition, asked: &ReadPartition, limits: &Limits) -> usize {
    let end = if limits.read_committed {
        partition.last_stable_offset()
    } else {
        partition.high_watermark()
    };
    if asked.offset >= end {
        return 0;
    }
    let mut bytes = 0usize;
    for run in partition.runs_from(asked.offset) {
        bytes = bytes.saturating_add(usize::try_from(run.length).unwrap_or(usize::MAX));
        if bytes >= asked.max_bytes || run.end_offset >= end {
            break;
        }
    }
    // The first batch is given whole, however little is asked for.
    bytes.min(asked.max_bytes.max(1))
}

fn assemble(
    asked: &[FetchPartition],
    resolved: &[Result<ReadPartition, Unread>],
    results: Vec<ReadResult>,
    read_committed: bool,
) -> Vec<FetchedPartition> {
    let mut results = results.into_iter();
    let answers = asked.iter().zip(resolved).map(|(asked, resolved)| {
        let mut preferred_read_replica = -1;
        let result = match resolved {
            Ok(_) => results
                .next()
                .unwrap_or_else(|| failed(ErrorCode::UnknownServerError)),
            Err(Unread::Refused(error)) => failed(*error),
            Err(Unread::Elsewhere {
                agent,
                high_watermark,
                last_stable_offset,
                log_start,
            }) => {
                preferred_read_replica = agent.0;
                ReadResult {
                    error: ErrorCode::None,
                    high_watermark: *high_watermark,
                    last_stable_offset: *last_stable_offset,
                    log_start: *log_start,
                    aborted: Vec::new(),
                    records: Vec::new(),
                }
            }
        };
        FetchedPartition {
            topic: asked.topic.clone(),
            partition: asked.partition,
            error: result.error,
            high_watermark: result.high_watermark,
            last_stable_offset: result.last_stable_offset,
            log_start: result.log_start,
            aborted: (read_committed && result.error == ErrorCode::None).then_some(result.aborted),
            preferred_read_replica,
            records: result.records,
        }
    });
    answers.collect()
}

/// An error as clients of a version know it: one that they do not know ends them, where they should
/// try again.
fn shown(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        ErrorCode::KafkaStorageError if version < STORAGE_ERROR => ErrorCode::NotLeaderOrFollower,
        error => error,
    }
}

const fn failed(error: ErrorCode) -> ReadResult {
    ReadResult {
        error,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start: -1,
        aborted: Vec::new(),
        records: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_are_told_to_try_again_in_words_they_know() {
        let error = ErrorCode::KafkaStorageError;
        assert_eq!(shown(error, 5), ErrorCode::NotLeaderOrFollower);
        assert_eq!(shown(error, 6), error);
        assert_eq!(
            shown(ErrorCode::OffsetOutOfRange, 4),
            ErrorCode::OffsetOutOfRange
        );
    }
}
