//! Share groups: where they begin, and what their own settings do.

use alluvium_metadata::AcknowledgeKind;
use alluvium_protocol::records;
use alluvium_types::Clock;

use super::*;
use crate::shares::{ShareFetch, ShareHeartbeat};
use crate::testing::{PLAIN, record};
use crate::topics::{Alteration, AlterationOp};

const HOUR: i64 = 3_600_000;

/// A batch of one record of that time.
fn batch_at(timestamp: i64) -> Bytes {
    let record = records::Record {
        timestamp,
        ..record("r")
    };
    records::encode(&[record], PLAIN).unwrap()
}

async fn set(cluster: &Cluster, group: &str, name: &str, value: &str) {
    let set = [Alteration {
        name: name.to_owned(),
        op: AlterationOp::Set,
        value: Some(value.to_owned()),
    }];
    let topics = &cluster.topics;
    let done = topics.alter_group(&cluster.metadata, group, &set, false, false);
    done.await.unwrap();
}

/// A member of a share group that reads "clicks"; the first offset that the group has of partition 0.
async fn begin(agent: &Agent, group: &str) -> i64 {
    let beat = ShareHeartbeat {
        group: group.to_owned(),
        member: "m".to_owned(),
        epoch: 0,
        subscribed: Some(vec!["clicks".to_owned()]),
        rack: None,
        client_id: String::new(),
        client_host: String::new(),
    };
    agent.shares.heartbeat(&agent.fetch, beat).await.unwrap();
    let first = |state: &alluvium_metadata::State| {
        let group = state.group(group).unwrap();
        let mut shares = group.shares.iter();
        shares
            .find(|(place, _)| place.partition == 0)
            .unwrap()
            .1
            .start()
    };
    agent.metadata.read(first)
}

#[tokio::test]
async fn a_share_group_begins_where_its_setting_says() {
    let cluster = Cluster::new().await;
    let agent = cluster.agent(1).await;
    let producer = agent.produce.connect();
    let now = SystemClock.now();
    for at in [now - 2 * HOUR, now - HOUR / 2, now] {
        let sent = send(&producer, cluster.at(0), batch_at(at)).await;
        assert_eq!(sent.error, ErrorCode::None);
    }
    set(&cluster, "all", "share.auto.offset.reset", "earliest").await;
    set(
        &cluster,
        "hour",
        "share.auto.offset.reset",
        "by_duration:PT1H",
    )
    .await;
    set(
        &cluster,
        "none",
        "share.auto.offset.reset",
        "by_duration:PT0S",
    )
    .await;
    assert_eq!(begin(&agent, "all").await, 0);
    assert_eq!(begin(&agent, "hour").await, 1);
    assert_eq!(begin(&agent, "none").await, 3);
    assert_eq!(begin(&agent, "unset").await, 3);
    shut_down(&[agent]).await;
}

#[tokio::test]
async fn a_share_groups_own_settings_hold_for_it_alone() {
    let cluster = Cluster::new().await;
    let agent = cluster.agent(1).await;
    let sent = send(&agent.produce.connect(), cluster.at(0), batch_at(1)).await;
    assert_eq!(sent.error, ErrorCode::None);
    for (name, value) in [
        ("share.auto.offset.reset", "earliest"),
        ("share.record.lock.duration.ms", "20000"),
        ("share.heartbeat.interval.ms", "7000"),
        ("share.renew.acknowledge.enable", "false"),
    ] {
        set(&cluster, "own", name, value).await;
    }
    assert_eq!(agent.shares.heartbeat_interval("own"), 7000);
    assert_eq!(agent.shares.heartbeat_interval("other"), 5000);
    begin(&agent, "own").await;
    let fetch = |epoch, acknowledged| ShareFetch {
        group: "own".to_owned(),
        member: "m".to_owned(),
        session_epoch: epoch,
        max_wait: Duration::ZERO,
        max_bytes: 1 << 20,
        max_records: 10,
        added: vec![(cluster.at(0), 1 << 20)],
        forgotten: Vec::new(),
        acknowledged,
    };
    let fetched = agent
        .shares
        .fetch(&agent.fetch, &fetch(0, Vec::new()))
        .await;
    let fetched = fetched.unwrap();
    assert_eq!(fetched.lock, 20_000);
    assert_eq!(fetched.partitions[&cluster.at(0)].acquired.len(), 1);
    let acknowledged = |kind| {
        let batch = alluvium_metadata::Acknowledgements {
            first: 0,
            last: 0,
            kinds: vec![kind],
        };
        vec![(cluster.at(0), vec![batch])]
    };
    let renewed = fetch(1, acknowledged(AcknowledgeKind::Renew));
    let codes = agent.shares.acknowledge(&renewed).await.unwrap();
    assert_eq!(codes, [(cluster.at(0), ErrorCode::InvalidRecordState)]);
    let accepted = fetch(2, acknowledged(AcknowledgeKind::Accept));
    let codes = agent.shares.acknowledge(&accepted).await.unwrap();
    assert_eq!(codes, [(cluster.at(0), ErrorCode::None)]);
    shut_down(&[agent]).await;
}
