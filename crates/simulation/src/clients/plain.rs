//! Producers without sequence numbers. They send everything once, so nothing may be there twice, and
//! over one connection, so that it stays in order. Those that ask one agent alone (acks=1) are told
//! sooner and less.

use std::time::Duration;

use alluvium_agent::produce::{Acks, PartitionRecords};
use alluvium_checker::{Event, Place};
use alluvium_types::{ErrorCode, TopicPartition, random};
use tokio::time::timeout;

use super::producer::encode;
use super::session::Session;
use super::{Client, TOPICS};
use crate::host::Host;

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// Produces until told to stop.
pub(crate) async fn produce_once(client: Client, acks: Acks) {
    while !client.stopping() {
        let agent = client.any_agent();
        match Session::open(&client.cluster, client.host, agent, acks) {
            Some(session) => {
                let keeper = (acks == Acks::One).then(|| Host::Agent(agent).to_string());
                use_up(&client, &session, keeper).await;
            }
            None => client.pause(100).await,
        }
    }
}

/// Sends over one connection, as one writer, until it breaks or an answer is an error.
async fn use_up(client: &Client, session: &Session, keeper: Option<String>) {
    let recorder = &client.cluster.recorder;
    let writer = recorder.next_writer();
    if keeper.is_some() {
        recorder.note(client.number, Event::WritesAlone { writer });
    }
    let (topic, partitions, _) = TOPICS[random::range(0..TOPICS.len())];
    let partition = random::range(0..partitions);
    let Some(id) = client.cluster.topic(topic) else {
        return;
    };
    let mut number = 0;
    let mut good = true;
    while good && !client.stopping() {
        let mut sent = Vec::new();
        for _ in 0..random::range(1..=5) {
            let count: u32 = random::range(1..=3);
            let Some(records) = encode(writer, number, count, random::range(0..100), None) else {
                return recorder.failed("a batch cannot be encoded".to_owned());
            };
            let op = recorder.next();
            let event = Event::ProduceInvoked {
                op,
                place: Place::new(topic, partition),
                writer,
                first: number,
                count,
                producer: -1,
                sequence: -1,
            };
            recorder.note(client.number, event);
            number += u64::from(count);
            let partition = TopicPartition::new(id, partition);
            sent.push((
                op,
                session.send(vec![PartitionRecords { partition, records }]),
            ));
            client.pause(40).await;
        }
        for (op, answer) in sent {
            let results = timeout(ANSWER, answer).await;
            let result = results.ok().and_then(Result::ok);
            let offset = result
                .and_then(|mut results| results.pop())
                .filter(|result| result.error == ErrorCode::None)
                .map(|result| result.base_offset);
            let event = match (offset, &keeper) {
                (Some(offset), None) => Event::ProduceAcked { op, offset },
                (Some(_), Some(keeper)) => Event::ProduceKept {
                    op,
                    keeper: keeper.clone(),
                },
                (None, _) => Event::ProduceUnknown { op },
            };
            good &= offset.is_some();
            recorder.note(client.number, event);
        }
        client.pause(200).await;
    }
}
