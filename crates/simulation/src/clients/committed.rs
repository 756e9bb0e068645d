//! Readers of committed records.

use std::collections::BTreeSet;
use std::time::Duration;

use alluvium_agent::fetch::{ReadLimits, ReadPartition, ReadResult};
use alluvium_checker::{Event, Place, Read, RecordId};
use alluvium_protocol::batch;
use alluvium_protocol::records::{self, Marker};
use alluvium_types::{ErrorCode, Offset, ProducerId, TopicPartition, random};
use bytes::Bytes;

use super::reader::{Link, connect, refused};
use super::{Client, TOPICS};

/// Longest wait for an answer, beyond what is waited for records.
const ANSWER: Duration = Duration::from_secs(10);

/// Attempts at reading a partition a last time.
const LAST_TRIES: u32 = 300;

/// Follows the partitions until told to stop.
pub(crate) async fn follow_committed(client: Client) {
    let mut positions = Vec::new();
    for (topic, partitions, _) in TOPICS {
        positions.extend((0..partitions).map(|partition| (topic, partition, 0)));
    }
    let mut link = None;
    while !client.stopping() {
        let chosen = random::range(0..positions.len());
        if let Some((topic, partition, position)) = positions.get_mut(chosen) {
            let wait = Duration::from_millis(random::range(0..400));
            let place = (*topic, *partition);
            match fetch(&client, &mut link, place, *position, wait, false).await {
                Some((next, _)) => *position = next,
                None => client.pause(100).await,
            }
        }
        client.pause(50).await;
    }
}

/// Reads a partition a last time, up to an end.
pub(crate) async fn read_all_committed(client: &Client, topic: &str, partition: i32) {
    let mut link = None;
    let (mut position, mut empty) = (0, 0);
    for _ in 0..LAST_TRIES {
        let place = (topic, partition);
        let read = fetch(client, &mut link, place, position, Duration::ZERO, true).await;
        let Some((next, is_at_end)) = read else {
            client.wait(200).await;
            continue;
        };
        empty = if next == position { empty + 1 } else { 0 };
        position = next;
        if is_at_end && empty > 3 {
            return;
        }
    }
    let what = format!("what is committed of {topic}-{partition} cannot be read to its end");
    client.cluster.recorder.failed(what);
}

/// Reads once, and notes what came. The next offset, and whether the last stable offset is the high
/// watermark and nothing more came.
async fn fetch(
    client: &Client,
    link: &mut Option<Link>,
    (topic, partition): (&str, i32),
    from: Offset,
    wait: Duration,
    last: bool,
) -> Option<(Offset, bool)> {
    let cluster = &client.cluster;
    let id = cluster.topic(topic)?;
    let (agent, session) = connect(client, link)?;
    let max_bytes = if random::range(0..4) == 0 {
        100
    } else {
        1 << 20
    };
    let asked = [ReadPartition {
        partition: TopicPartition::new(id, partition),
        offset: from,
        max_bytes,
    }];
    let limits = ReadLimits {
        max_wait: wait,
        min_bytes: 1,
        max_bytes: 1 << 20,
        read_committed: true,
    };
    let answer = cluster.ask(client.host, agent, ANSWER + wait, move |agent| async move {
        agent.fetch.read(&asked, limits).await.pop()
    });
    let Ok(Some(result)) = answer.await else {
        *link = None;
        return None;
    };
    if result.error != ErrorCode::None {
        *link = None;
        refused(client, topic, partition, from, &result);
        return None;
    }
    let Some((read, next)) = committed(&result, from) else {
        let what = format!("{topic}-{partition}: what was read at {from} cannot be decoded");
        cluster.recorder.failed(what);
        return None;
    };
    let event = Event::FetchedCommitted {
        place: Place::new(topic, partition),
        session,
        from,
        next,
        last_stable_offset: result.last_stable_offset,
        records: read,
        last,
    };
    cluster.recorder.note(client.number, event);
    let is_at_end = next == from && result.last_stable_offset == result.high_watermark;
    Some((next, is_at_end))
}

/// The records that a consumer shows, by the rules of Kafka's, and where to go on.
fn committed(result: &ReadResult, from: Offset) -> Option<(Vec<Read>, Offset)> {
    let mut to_come = result.aborted.clone();
    let mut begun: BTreeSet<ProducerId> = BTreeSet::new();
    let mut read = Vec::new();
    let mut next = from;
    for batch in batch::split(&Bytes::from(result.records.concat())).ok()? {
        batch::check_crc(&batch).ok()?;
        let header = batch::BatchHeader::parse(&batch).ok()?;
        next = next.max(header.last_offset() + 1);
        to_come.retain(|(producer, first)| {
            let begins = *first <= header.last_offset();
            if begins {
                begun.insert(*producer);
            }
            !begins
        });
        if Marker::of(&batch) == Some(Marker::Abort) {
            begun.remove(&header.producer_id);
        }
        let is_aborted = header.is_transactional() && begun.contains(&header.producer_id);
        if header.is_control() || is_aborted {
            continue;
        }
        for record in records::decode(&batch, 1 << 24).ok()? {
            if record.offset >= from {
                let value = record.value.as_ref();
                let text = value.and_then(|value| std::str::from_utf8(value).ok());
                read.push(Read {
                    offset: record.offset,
                    record: text.and_then(|text| RecordId::parse(text.split(' ').next()?)),
                });
            }
        }
    }
    Some((read, next))
}
