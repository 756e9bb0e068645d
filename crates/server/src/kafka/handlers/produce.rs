//! Produce: names to ids, and everything else is the write path's.

use std::borrow::Cow;
use std::collections::HashMap;

use alluvium_agent::Agent;
use alluvium_agent::produce::{Acks, PartitionRecords, Pending, ProducerConnection};
use alluvium_agent::topics::{Placement, zone_of_client};
use alluvium_metadata::{InTransaction, State, Topic};
use alluvium_protocol::batch::BatchHeader;
use alluvium_protocol::compression::Codec;
use alluvium_protocol::produce::{
    ProducePartition, ProduceRequest, ProduceResult, TopicRef, encode_response,
};
use alluvium_protocol::request::{Request, RequestError};
use alluvium_types::{AgentId, ErrorCode, PartitionIndex, TopicId, TopicPartition};
use bytes::{Bytes, BytesMut};

use crate::kafka::dispatch::Rejection;
use crate::kafka::writer::Answer;

/// The first version in which zstd is allowed (KIP-110).
const ZSTD: i16 = 7;

/// The first version whose batches add their partitions to the transaction by themselves (KIP-890).
const JOINS: i16 = 12;

/// A Produce that the write path has.
#[derive(Debug)]
pub(crate) struct Submitted {
    request: ProduceRequest,
    /// By partition of the request; what is `None` is in the write path, in this order.
    results: Vec<Option<ProduceResult>>,
    pending: Option<Pending>,
    arrived: Option<Vec<ProduceResult>>,
    /// Of the records that the write path has.
    pub(crate) bytes: u64,
}

/// Decodes a request and gives its record sets to the write path. The records stay slices of the
/// frame. Waits only where a topic or partition is not known here: the client may have learned of it
/// from another agent.
pub(crate) async fn submit(
    agent: &Agent,
    producer: &ProducerConnection,
    request: &Request,
) -> Result<Submitted, RequestError> {
    let mut produce = ProduceRequest::decode(request)?;
    let mut results = vec![None; produce.partitions.len()];
    let mut sets = Vec::with_capacity(produce.partitions.len());
    if let Some(refusal) = refusal_of_all(&produce) {
        results.fill(Some(refusal));
    } else {
        let mut is_certain = true;
        if !agent.metadata.read(|state| all_known(state, &produce))
            && let Err(error) = agent.catch_up().await
        {
            tracing::debug!(%error, "a Produce names topics that are not known here (yet)");
            is_certain = false;
        }
        // With acks=0 nobody would hear of it.
        let newcomers = match produce.acks {
            0 => Vec::new(),
            _ => agent.newcomers(),
        };
        agent.metadata.read(|state| {
            let shares = Shares::of(state, newcomers, request.client_id.as_deref());
            let mut last: Option<(TopicRef, Option<TopicId>)> = None;
            for (partition, result) in produce.partitions.iter_mut().zip(&mut results) {
                if last
                    .as_ref()
                    .is_none_or(|(topic, _)| *topic != partition.topic)
                {
                    let id = match &partition.topic {
                        TopicRef::Name(name) => state.topic_by_name(name).map(|topic| topic.id),
                        TopicRef::Id(id) => state.topic(*id).map(|topic| topic.id),
                    };
                    last = Some((partition.topic.clone(), id));
                }
                let id = last.as_ref().and_then(|(_, id)| *id);
                if is_idempotent(partition)
                    && id.is_some_and(|id| shares.is_newcomers(id, partition.partition))
                {
                    *result = Some(sent_on());
                    continue;
                }
                match accept(partition, id, is_certain, request.api_version) {
                    Ok(records) => sets.push(records),
                    Err(refusal) => *result = Some(refusal),
                }
            }
        });
    }
    log_refusals(&produce, &results, request);
    let acks = if produce.acks == -1 {
        Acks::All
    } else {
        Acks::One
    };
    let bytes = sets.iter().map(|set| set.records.len() as u64).sum();
    let transaction = match produce.transactional_id {
        None => InTransaction::No,
        Some(_) if request.api_version >= JOINS => InTransaction::Joins,
        Some(_) => InTransaction::Added,
    };
    let pending = (!sets.is_empty()).then(|| producer.submit_in(sets, acks, transaction));
    Ok(Submitted {
        request: produce,
        results,
        pending,
        arrived: None,
        bytes,
    })
}

/// Whose partitions are, while there are agents that have just come.
struct Shares<'a> {
    newcomers: Vec<AgentId>,
    placement: Option<(Placement, Option<Cow<'a, str>>)>,
}

impl<'a> Shares<'a> {
    fn of(state: &State, newcomers: Vec<AgentId>, client_id: Option<&'a str>) -> Self {
        let placement = (!newcomers.is_empty()).then(|| {
            let zone = zone_of_client(client_id.unwrap_or_default(), None);
            (Placement::of(state), zone)
        });
        Self {
            newcomers,
            placement,
        }
    }

    /// Whether a client of this zone should send a partition's records to an agent that has just
    /// come.
    fn is_newcomers(&self, topic: TopicId, partition: PartitionIndex) -> bool {
        self.placement.as_ref().is_some_and(|(placement, zone)| {
            let named = placement.replicas(topic, partition, 1, zone.as_deref());
            named.iter().any(|agent| self.newcomers.contains(agent))
        })
    }
}

/// Whether its producer keeps its records in order whatever is refused in between. Of another one,
/// what it has sent since would stand before what was refused.
fn is_idempotent(partition: &ProducePartition) -> bool {
    let records = partition.records.as_deref().unwrap_or_default();
    BatchHeader::parse(records).is_ok_and(|header| header.producer_id >= 0)
}

/// Answers of a connection keep their order: the client has those for all that it sent before this.
fn sent_on() -> ProduceResult {
    let text = "A new agent has come that takes this partition's records; ask for metadata.";
    ProduceResult::refused(ErrorCode::NotLeaderOrFollower, text)
}

/// The quorum did not say whether there is such a topic. Clients try again for as long as they are
/// told to.
fn unasked() -> ProduceResult {
    let text =
        "The metadata quorum does not answer, and this agent does not know the topic; try again.";
    ProduceResult::refused(ErrorCode::NotLeaderOrFollower, text)
}

fn all_known(state: &State, produce: &ProduceRequest) -> bool {
    let mut topic: Option<(&TopicRef, Option<&Topic>)> = None;
    produce.partitions.iter().all(|asked| {
        if topic.is_none_or(|(last, _)| *last != asked.topic) {
            let found = match &asked.topic {
                TopicRef::Name(name) => state.topic_by_name(name),
                TopicRef::Id(id) => state.topic(*id),
            };
            topic = Some((&asked.topic, found));
        }
        let partitions = topic
            .and_then(|(_, topic)| topic)
            .map_or(0, |topic| topic.partitions.len());
        usize::try_from(asked.partition).is_ok_and(|index| index < partitions)
    })
}

/// A fault of the request as a whole is answered for each of its partitions.
fn refusal_of_all(produce: &ProduceRequest) -> Option<ProduceResult> {
    if !matches!(produce.acks, -1..=1) {
        let text = format!("acks = {} is not one of -1, 0 and 1", produce.acks);
        return Some(ProduceResult::refused(ErrorCode::InvalidRequiredAcks, text));
    }
    None
}

/// Moves a partition's records out, if it can have them. `is_certain`: the view is fresh.
fn accept(
    partition: &mut ProducePartition,
    topic: Option<TopicId>,
    is_certain: bool,
    version: i16,
) -> Result<PartitionRecords, ProduceResult> {
    let records = partition.records.take();
    if topic.is_none() && !is_certain {
        return Err(unasked());
    }
    let Some(topic) = topic else {
        return Err(match &partition.topic {
            TopicRef::Name(name) => ProduceResult::refused(
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no topic {name}"),
            ),
            TopicRef::Id(id) => ProduceResult::refused(
                ErrorCode::UnknownTopicId,
                format!("there is no topic with id {id}"),
            ),
        });
    };
    let Some(records) = records.filter(|records| !records.is_empty()) else {
        return Err(ProduceResult::refused(
            ErrorCode::InvalidRecord,
            "there is no record batch",
        ));
    };
    if version < ZSTD && uses_zstd(&records) {
        return Err(ProduceResult::refused(
            ErrorCode::UnsupportedCompressionType,
            format!("zstd needs Produce version {ZSTD} or newer"),
        ));
    }
    Ok(PartitionRecords {
        partition: TopicPartition::new(topic, partition.partition),
        records: from_zero(records),
    })
}

/// A batch whose base offset is 0. Offsets are given here, whatever a client that passes on what it
/// has read elsewhere left in the header; the field is outside the checksum.
fn from_zero(records: Bytes) -> Bytes {
    const BASE_OFFSET: [u8; 8] = [0; 8];
    match records.first_chunk() {
        Some(base) if *base != BASE_OFFSET => {
            let mut copy = BytesMut::from(&records[..]);
            copy[..BASE_OFFSET.len()].copy_from_slice(&BASE_OFFSET);
            copy.freeze()
        }
        _ => records,
    }
}

/// Whether one of the batches says so; batches that cannot be read are refused elsewhere.
fn uses_zstd(records: &Bytes) -> bool {
    let mut rest: &[u8] = records;
    while let Ok(header) = BatchHeader::parse(rest) {
        if matches!(header.codec(), Ok(Codec::Zstd)) {
            return true;
        }
        match rest.get(header.bytes.max(1)..) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    false
}

/// One line for each kind of refusal, not for each partition.
fn log_refusals(produce: &ProduceRequest, results: &[Option<ProduceResult>], request: &Request) {
    let mut counts: HashMap<ErrorCode, (usize, &ProducePartition)> = HashMap::new();
    for (partition, result) in produce.partitions.iter().zip(results) {
        if let Some(result) = result {
            counts.entry(result.error).or_insert((0, partition)).0 += 1;
        }
    }
    for (error, (partitions, first)) in counts {
        tracing::debug!(
            %error,
            partitions,
            first_topic = ?first.topic,
            first_partition = first.partition,
            client_id = request.client_id.as_deref(),
            "Produce refused"
        );
    }
}

impl Submitted {
    /// Whether the answer is known.
    pub(crate) fn is_ready(&mut self) -> bool {
        if let Some(pending) = &mut self.pending
            && let Ok(results) = pending.try_recv()
        {
            self.arrived = Some(results);
            self.pending = None;
        }
        self.pending.is_none()
    }

    /// Waits for the write path and encodes the answer: none with acks=0. `throttle` tells for how many
    /// milliseconds the client is to wait.
    pub(crate) async fn answer(
        &mut self,
        request: &Request,
        throttle: &(dyn Fn() -> i32 + Sync),
    ) -> Result<Option<Answer>, Rejection> {
        let arrived = match (self.arrived.take(), self.pending.take()) {
            (Some(arrived), _) => arrived,
            // The write path has gone without an answer: nobody knows what became of the records.
            (None, Some(pending)) => pending.await.unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        let mut arrived = arrived.into_iter();
        let results: Vec<ProduceResult> = std::mem::take(&mut self.results)
            .into_iter()
            .map(|refused| refused.or_else(|| arrived.next()).unwrap_or_else(unknown))
            .collect();
        if self.request.acks != 0 {
            let frame = encode_response(
                request.correlation_id,
                request.api_version,
                &self.request,
                &results,
                throttle(),
            );
            return Ok(Some(frame.into()));
        }
        match results
            .iter()
            .find(|result| result.error != ErrorCode::None)
        {
            None => Ok(None),
            Some(refused) => Err(Rejection::Unanswered(format!(
                "{}{}",
                refused.error,
                refused
                    .message
                    .as_ref()
                    .map_or_else(String::new, |text| format!(": {text}")),
            ))),
        }
    }
}

fn unknown() -> ProduceResult {
    ProduceResult::refused(
        ErrorCode::RequestTimedOut,
        "the server stopped before it was known whether the records are durable",
    )
}
