//! Offsets that an administrator takes from a group.

use bytes::{BufMut, BytesMut};

use super::*;
use crate::groups::coordinator::Forgotten;

/// A subscription as consumers write it.
fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(topics.len().try_into().unwrap());
    for topic in topics {
        bytes.put_i16(topic.len().try_into().unwrap());
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

impl Bench {
    /// Forgets partition 0 of two topics, "a" and "b".
    fn forget(&mut self) -> (Result<Vec<bool>, ErrorCode>, Receiver<ErrorCode>) {
        let (waiter, answer) = Waiter::new();
        let of = |topic: &str, id| Forgotten {
            topic: topic.into(),
            partitions: vec![TopicPartition::new(TopicId([id; 16]), 0)],
        };
        let topics = vec![of("a", 1), of("b", 2)];
        let told = self
            .coordinator
            .forget_offsets("g", topics, waiter, &self.quorum);
        (told, answer)
    }

    /// A group whose only member has just joined.
    fn read_by(&mut self, protocol_type: &str, subscription: Bytes) -> Joined {
        let mut asked = request("", None);
        asked.protocol_type = protocol_type.into();
        asked.protocols = vec![("range".into(), subscription)];
        let refused = now(&mut self.send_join(asked.clone())).unwrap_err();
        asked.member_id = refused.member_id;
        now(&mut self.send_join(asked)).unwrap()
    }
}

#[test]
fn a_group_that_is_not_there_forgets_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.forget().0, Err(ErrorCode::GroupIdNotFound));
    assert!(!bench.coordinator.has_writes());
}

#[test]
fn a_group_without_members_forgets_everything() {
    let mut bench = Bench::new();
    let mut committed = bench.commit("", -1, 5);
    bench.write();
    assert_eq!(now(&mut committed), ErrorCode::None);
    let (told, mut answer) = bench.forget();
    assert_eq!(told, Ok(vec![false, false]));
    assert!(waits(&mut answer));
    bench.write();
    assert_eq!(now(&mut answer), ErrorCode::None);
    assert_eq!(bench.quorum.log, ["commit 5", "forget 2"]);
}

#[test]
fn what_members_read_stays() {
    let mut bench = Bench::new();
    let joined = bench.read_by("consumer", subscription(&["a", "c"]));
    bench.sync_all(&joined, std::slice::from_ref(&joined.member_id));
    let (told, mut answer) = bench.forget();
    assert_eq!(told, Ok(vec![true, false]));
    bench.write();
    assert_eq!(now(&mut answer), ErrorCode::None);
    assert_eq!(bench.quorum.log.last().unwrap(), "forget 1");
}

#[test]
fn a_subscription_that_is_not_understood_may_be_to_anything() {
    let mut bench = Bench::new();
    bench.stable(1);
    let (told, mut answer) = bench.forget();
    assert_eq!(told, Ok(vec![true, true]));
    assert_eq!(now(&mut answer), ErrorCode::None);
    assert!(!bench.coordinator.has_writes());
}

#[test]
fn members_of_another_kind_must_go_first() {
    let mut bench = Bench::new();
    let joined = bench.read_by("connect", subscription(&["a"]));
    assert_eq!(bench.forget().0, Err(ErrorCode::NonEmptyGroup));
    assert_eq!(bench.leave(&joined.member_id), ErrorCode::None);
    bench.write();
    assert_eq!(bench.forget().0, Ok(vec![false, false]));
}

#[test]
fn a_refusal_of_the_quorum_is_told() {
    let mut bench = Bench::new();
    bench.commit("", -1, 5);
    bench.write();
    let (_, mut answer) = bench.forget();
    bench.write_with(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(now(&mut answer), ErrorCode::CoordinatorNotAvailable);
}
