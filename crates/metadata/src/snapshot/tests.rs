use super::*;
use crate::testing::{
    Cluster, batch, claim, create, end, from, object, origin, part, register, run,
};
use crate::{Command, GroupRecord, PutGroup};
use alluvium_types::TopicId;

fn filled() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.append(&[from(5, 0, 0, 3), batch(2)]);
    cluster.append_inline(1, b"abc", 2);
    cluster.sequence(object(3), vec![run(2, 50, &[batch(1)])]);
    // A producer that was forgotten, a topic made again, and one that was not.
    cluster.state.forget_producer(part(2), 3);
    cluster.apply(Command::AllocateProducerIds { count: 6 });
    let others = ["again", "gone"]
        .into_iter()
        .zip([4, 5].map(|id| TopicId([id; 16])));
    for (name, topic) in others {
        cluster.apply(create(name, topic, 1));
        cluster.apply(Command::DeleteTopic { topic });
    }
    cluster.apply(create("again", TopicId([6; 16]), 1));
    // An agent with chunks of two epochs, one that ended, and two claims.
    cluster.apply(register(1));
    cluster.apply(register(2));
    cluster.apply(end(&[origin(2, 1)]));
    for group in ["idle", "held"] {
        cluster.apply(claim(origin(1, 2), group));
    }
    cluster.apply(Command::PutGroup(PutGroup {
        origin: origin(1, 2),
        group: "held".to_owned(),
        record: GroupRecord::default(),
    }));
    cluster
}

fn sealed(body: &[u8]) -> Vec<u8> {
    sealed_as(VERSION, body)
}

fn sealed_as(version: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(u64::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend(body);
    let crc = crc(&bytes);
    bytes.extend(crc);
    bytes
}

#[test]
fn a_state_comes_back_whole() {
    let cluster = filled();
    let bytes = cluster.state.to_snapshot();
    let read = State::from_snapshot(&bytes).unwrap();
    assert_eq!(read, cluster.state);
    assert_eq!(read.to_snapshot(), bytes);
    let empty = State::from_snapshot(&State::default().to_snapshot()).unwrap();
    assert_eq!(empty, State::default());
}

#[test]
fn any_bit_that_changes_is_noticed() {
    let bytes = filled().state.to_snapshot();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 0x10;
        assert!(State::from_snapshot(&changed).is_err(), "{at}");
        assert!(State::from_snapshot(&bytes[..at]).is_err(), "{at}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(State::from_snapshot(&longer).is_err());
}

#[test]
fn a_version_from_the_future_is_named() {
    let mut bytes = filled().state.to_snapshot().to_vec();
    bytes[8] = 5;
    let error = State::from_snapshot(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "metadata snapshot has version 5, this release reads up to 4"
    );
}

#[test]
fn a_body_that_lies_is_refused_even_with_a_right_checksum() {
    let bytes = filled().state.to_snapshot();
    let body = &bytes[HEADER_BYTES..bytes.len() - CRC_BYTES];
    assert!(State::from_snapshot(&sealed(body)).is_ok());
    for at in 0..body.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = body.to_vec();
            changed[at] = value;
            // It may be another state that is sound; it must never be one that is not.
            if let Ok(state) = State::from_snapshot(&sealed(&changed)) {
                state.check().unwrap();
            }
        }
    }
    let v1 = &include_bytes!("../../tests-data/state-v1.snapshot")[..];
    let v2 = &include_bytes!("../../tests-data/state-v2.snapshot")[..];
    for (version, old) in [(1, v1), (2, v2)] {
        let old = &old[HEADER_BYTES..old.len() - CRC_BYTES];
        assert!(State::from_snapshot(&sealed_as(version, old)).is_ok());
        assert!(State::from_snapshot(&sealed(old)).is_err());
        for at in 0..old.len() {
            let mut changed = old.to_vec();
            changed[at] ^= 0x41;
            if let Ok(state) = State::from_snapshot(&sealed_as(version, &changed)) {
                state.check().unwrap();
            }
        }
    }
    // A map that announces more pairs than memory could hold.
    let huge = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(State::from_snapshot(&sealed(&huge)).is_err());
    let mut trailing = body.to_vec();
    trailing.push(0);
    let error = State::from_snapshot(&sealed(&trailing)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "metadata snapshot is damaged: 1 bytes follow the state"
    );
}
