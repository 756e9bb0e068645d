//! Fetching.

use std::time::Duration;

use alluvium_agent::fetch::{ReadLimits, ReadPartition, ReadResult};
use alluvium_checker::{Event, Place, Read, RecordId};
use alluvium_protocol::{batch, records};
use alluvium_types::{ErrorCode, Offset, TopicPartition, random};
use bytes::Bytes;

use super::admin::latest;
use super::{Client, TOPICS};

/// Longest wait for an answer, beyond what is waited for records.
const ANSWER: Duration = Duration::from_secs(10);

/// Attempts at reading a partition a last time.
const LAST_TRIES: u32 = 300;

/// A connection to read over.
pub(super) struct Link {
    agent: usize,
    session: u64,
    /// The registration of the process it leads to; with another one it is another connection.
    process: (i32, u64),
}

/// What a fetch came to.
pub(super) enum Fetched {
    /// The next offset to read, and the high watermark.
    Upto(Offset, Offset),
    Again,
}

/// Follows one partition until told to stop.
pub(crate) async fn follow(client: Client) {
    let mut positions = Vec::new();
    for (topic, partitions, _) in TOPICS {
        positions.extend((0..partitions).map(|partition| (topic, partition, 0)));
    }
    let mut link = None;
    while !client.stopping() {
        let chosen = random::range(0..positions.len());
        if let Some((topic, partition, position)) = positions.get_mut(chosen) {
            let wait = Duration::from_millis(random::range(0..400));
            let fetched = fetch(
                &client, &mut link, topic, *partition, *position, wait, false,
            );
            match fetched.await {
                Fetched::Upto(next, _) => *position = next,
                Fetched::Again => client.pause(100).await,
            }
        }
        client.pause(50).await;
    }
}

/// Reads once, and notes what came.
pub(super) async fn fetch(
    client: &Client,
    link: &mut Option<Link>,
    topic: &str,
    partition: i32,
    from: Offset,
    wait: Duration,
    last: bool,
) -> Fetched {
    let cluster = &client.cluster;
    let Some(id) = cluster.topic(topic) else {
        return Fetched::Again;
    };
    let Some((agent, session)) = connect(client, link) else {
        client.wait(20).await;
        return Fetched::Again;
    };
    let asked = [ReadPartition {
        partition: TopicPartition::new(id, partition),
        offset: from,
        max_bytes: if random::range(0..4) == 0 {
            100
        } else {
            1 << 20
        },
    }];
    let limits = ReadLimits {
        max_wait: wait,
        min_bytes: 1,
        max_bytes: 1 << 20,
        read_committed: false,
    };
    let answer = cluster
        .ask(client.host, agent, ANSWER + wait, move |agent| async move {
            agent.fetch.read(&asked, limits).await.pop()
        })
        .await;
    let Ok(Some(result)) = answer else {
        *link = None;
        return Fetched::Again;
    };
    if result.error != ErrorCode::None {
        *link = None;
        refused(client, topic, partition, from, &result);
        return Fetched::Again;
    }
    let Some((read, next)) = decode(&result, from) else {
        let what = format!("{topic}-{partition}: what was read at {from} cannot be decoded");
        cluster.recorder.failed(what);
        return Fetched::Again;
    };
    let event = Event::Fetched {
        place: Place::new(topic, partition),
        session,
        from,
        high_watermark: result.high_watermark,
        log_start: result.log_start,
        records: read,
        last,
    };
    cluster.recorder.note(client.number, event);
    Fetched::Upto(next, result.high_watermark)
}

/// The agent and the connection's name: as they are, or others.
pub(super) fn connect(client: &Client, link: &mut Option<Link>) -> Option<(usize, u64)> {
    let cluster = &client.cluster;
    let process = |agent: usize| {
        let (_, agent) = cluster.running(agent)?;
        let origin = agent.origin();
        Some((origin.agent.0, origin.epoch.0))
    };
    let stale = |link: &Link| process(link.agent) != Some(link.process);
    if link.as_ref().is_none_or(stale) || random::range(0..30) == 0 {
        let agent = client.any_agent();
        *link = None;
        *link = Some(Link {
            agent,
            session: cluster.recorder.next(),
            process: process(agent)?,
        });
    }
    let link = link.as_ref()?;
    Some((link.agent, link.session))
}

pub(super) fn refused(
    client: &Client,
    topic: &str,
    partition: i32,
    from: Offset,
    result: &ReadResult,
) {
    let (error, recorder) = (result.error, &client.cluster.recorder);
    recorder.refused(&format!("fetch: {error}"));
    if error == ErrorCode::OffsetOutOfRange {
        recorder.failed(format!(
            "{topic}-{partition}: offset {from} is out of range (high watermark {})",
            result.high_watermark
        ));
    }
}

/// The records from an offset on, and where to go on.
fn decode(result: &ReadResult, from: Offset) -> Option<(Vec<Read>, Offset)> {
    let mut read = Vec::new();
    let mut next = from;
    for batch in batch::split(&Bytes::from(result.records.concat())).ok()? {
        batch::check_crc(&batch).ok()?;
        let header = batch::BatchHeader::parse(&batch).ok()?;
        // A marker holds no record of anybody's.
        let records = if header.is_control() {
            Vec::new()
        } else {
            records::decode(&batch, 1 << 24).ok()?
        };
        for record in records {
            if record.offset >= from {
                let text = record
                    .value
                    .as_ref()
                    .and_then(|v| std::str::from_utf8(v).ok());
                let id = text.and_then(|text| RecordId::parse(text.split(' ').next()?));
                read.push(Read {
                    offset: record.offset,
                    record: id,
                });
            }
        }
        next = next.max(header.last_offset() + 1);
    }
    Some((read, next))
}

/// Reads a partition a last time.
pub(crate) async fn read_all(client: &Client, topic: &str, partition: i32) {
    let mut link = None;
    let mut position = 0;
    let mut empty = 0;
    // A fetch shows what its agent knows, which may be a moment old.
    let mut end = None;
    for _ in 0..LAST_TRIES {
        if end.is_none() {
            end = latest(client, topic, partition).await;
        }
        let Some(end) = end else {
            client.wait(200).await;
            continue;
        };
        let fetched = fetch(
            client,
            &mut link,
            topic,
            partition,
            position,
            Duration::ZERO,
            true,
        );
        match fetched.await {
            Fetched::Upto(next, high_watermark) => {
                // Offsets at the end that were given up leave nothing to read.
                empty = if next == position { empty + 1 } else { 0 };
                position = next;
                if position >= end || (high_watermark >= end && empty > 3) {
                    return;
                }
            }
            Fetched::Again => client.wait(200).await,
        }
    }
    let what = format!("{topic}-{partition} cannot be read to its end although everything works");
    client.cluster.recorder.failed(what);
}
