//! Topics come and go; ends are asked for.

use std::time::Duration;

use alluvium_agent::fetch::OffsetSpec;
use alluvium_agent::produce::{Acks, PartitionRecords};
use alluvium_agent::topics::NewTopic;
use alluvium_checker::{Event, Place};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_types::{ErrorCode, Offset, TopicId, TopicPartition, random};
use bytes::Bytes;

use super::session::Session;
use super::{Client, TOPICS};

const ANSWER: Duration = Duration::from_secs(8);

/// Makes a topic, however often that takes.
pub(crate) async fn make_topic(
    client: &Client,
    name: &str,
    partitions: i32,
    lane: &str,
) -> TopicId {
    let new = NewTopic {
        partitions,
        configs: vec![("alluvium.lane".to_owned(), Some(lane.to_owned()))],
        ..NewTopic::named(name)
    };
    loop {
        let (agent, new) = (client.any_agent(), new.clone());
        let asked = client
            .cluster
            .ask(client.host, agent, ANSWER, move |agent| async move {
                let now = agent.clock.now();
                let metadata = &agent.metadata;
                let _ = agent.topics.create(metadata, now, &new, false).await;
                metadata.barrier().await.ok()?;
                metadata.read(|state| state.topic_by_name(&new.name).map(|topic| topic.id))
            })
            .await;
        if let Ok(Some(id)) = asked {
            return id;
        }
        client.wait(300).await;
    }
}

/// Asks one agent after another where partitions end.
pub(crate) async fn list(client: Client) {
    while !client.stopping() {
        client.pause(60).await;
        let (topic, partitions, _) = TOPICS[random::range(0..TOPICS.len())];
        let partition = random::range(0..partitions);
        let recorder = &client.cluster.recorder;
        let asked = recorder.now();
        if let Some(offset) = latest(&client, topic, partition).await {
            let event = Event::Listed {
                place: Place::new(topic, partition),
                asked,
                offset,
            };
            recorder.note(client.number, event);
        }
    }
}

/// A partition's end, as any agent knows it when it is asked.
pub(super) async fn latest(client: &Client, topic: &str, partition: i32) -> Option<Offset> {
    let place = TopicPartition::new(client.cluster.topic(topic)?, partition);
    let answer = client
        .cluster
        .ask(
            client.host,
            client.any_agent(),
            ANSWER,
            move |agent| async move {
                agent.current().await.ok()?;
                let latest = agent.fetch.list_offset(place, OffsetSpec::Latest, false);
                latest.await.ok()
            },
        )
        .await;
    answer.ok().flatten().map(|(offset, _)| offset)
}

/// Makes a topic through one agent, writes to it at once through another, and deletes it.
pub(crate) async fn churn(client: Client) {
    let mut turn = 0;
    while !client.stopping() {
        client.pause(3000).await;
        turn += 1;
        let name = format!("passing-{}", turn % 2);
        let id = tokio::select! {
            biased;
            () = client.stop.cancelled() => return,
            id = make_topic(&client, &name, 2, "auto") => id,
        };
        let known = format!("{name}#{id}");
        client.cluster.add_topic(&known, id);
        write(&client, id).await;
        let agent = client.any_agent();
        let deleted = client
            .cluster
            .ask(client.host, agent, ANSWER, move |agent| async move {
                agent.topics.delete(&agent.metadata, id).await.is_ok()
            })
            .await;
        client.cluster.remove_topic(&known);
        if deleted.is_err() {
            client.cluster.recorder.refused("delete topic: lost");
        }
    }
}

async fn write(client: &Client, topic: TopicId) {
    let agent = client.any_agent();
    let Some(session) = Session::open(&client.cluster, client.host, agent, Acks::All) else {
        return;
    };
    let record = Record {
        timestamp: 1_700_000_000_000,
        value: Some(Bytes::from_static(b"passing")),
        ..Record::default()
    };
    let options = BatchOptions {
        codec: Codec::None,
        producer: None,
        transactional: false,
    };
    let Ok(records) = records::encode(&[record], options) else {
        return;
    };
    let sent = session.send(vec![PartitionRecords {
        partition: TopicPartition::new(topic, random::range(0..2)),
        records,
    }]);
    let Ok(Ok(results)) = tokio::time::timeout(ANSWER, sent).await else {
        return;
    };
    for result in results {
        let recorder = &client.cluster.recorder;
        recorder.refused(&format!("passing topic: {}", result.error));
        if result.error == ErrorCode::UnknownTopicOrPartition && client.cluster.is_healed() {
            recorder.failed("a topic that was made is not known".to_owned());
        }
    }
}
