//! Groups of the newer consumer protocol.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_metadata::Partitions;
use alluvium_protocol::message;
use alluvium_protocol::messages::consumer_protocol_subscription::TopicPartition;
use alluvium_protocol::messages::{
    ApiVersion, ConsumerProtocolAssignment, ConsumerProtocolSubscription, DecodeLimits,
    decode_consumer_protocol_assignment, encode_consumer_protocol_assignment,
    encode_consumer_protocol_subscription,
};
use alluvium_types::PartitionIndex;
use bytes::BytesMut;
use proptest::prelude::*;
use regex::Regex;

use super::super::consumer::{Catalog, ConsumerAnswer, ConsumerHeartbeat};
use super::super::member::Waiter;
use super::*;

const CONSUMER_SESSION: Millis = 45_000;

/// The topics that there are; a topic's id is its number of letters.
struct Topics(BTreeMap<&'static str, PartitionIndex>);

/// Whoever joins by the classic protocol sees the same.
impl Catalog for Quorum {
    fn topic(&self, name: &str) -> Option<(TopicId, PartitionIndex)> {
        topics().topic(name)
    }

    fn name(&self, topic: TopicId) -> Option<String> {
        topics().name(topic)
    }

    fn len(&self) -> usize {
        topics().len()
    }

    fn matching(&self, pattern: &Regex) -> BTreeSet<String> {
        topics().matching(pattern)
    }
}

impl Catalog for Topics {
    fn name(&self, topic: TopicId) -> Option<String> {
        let mut names = self.0.keys();
        let name = names.find(|name| Some(topic) == self.topic(name).map(|(id, _)| id))?;
        Some((*name).to_owned())
    }

    fn topic(&self, name: &str) -> Option<(TopicId, PartitionIndex)> {
        let id = u8::try_from(name.len()).unwrap();
        Some((TopicId([id; 16]), *self.0.get(name)?))
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn matching(&self, pattern: &Regex) -> BTreeSet<String> {
        let names = self.0.keys().filter(|name| pattern.is_match(name));
        names.map(|name| (*name).to_owned()).collect()
    }
}

fn topics() -> Topics {
    Topics([("t", 4), ("tt", 2), ("other", 3)].into())
}

impl Bench {
    fn beat(&mut self, topics: &Topics, beat: &ConsumerHeartbeat) -> Receiver<ConsumerAnswer> {
        let (waiter, answer) = Waiter::new();
        self.coordinator
            .consumer_heartbeat(self.now, beat, waiter, &self.quorum, topics);
        answer
    }

    fn beaten(&mut self, topics: &Topics, beat: &ConsumerHeartbeat) -> ConsumerAnswer {
        let mut answer = self.beat(topics, beat);
        self.write();
        now(&mut answer)
    }

    fn consumers(&self) -> String {
        let described = self.coordinator.describe_consumers("g").unwrap();
        format!("{} {}", described.state.name(), described.epoch)
    }
}

/// A member as an honest client is one.
#[derive(Clone, Debug)]
struct Client {
    beat: ConsumerHeartbeat,
    has: Partitions,
    /// It must say everything: it does not know what came through.
    is_unsure: bool,
}

impl Client {
    fn new(id: &str, names: &[&str]) -> Self {
        Self {
            beat: ConsumerHeartbeat {
                group: "g".to_owned(),
                member_id: id.to_owned(),
                rebalance_timeout: Some(REBALANCE),
                topics: Some(names.iter().map(|it| (*it).to_owned()).collect()),
                ..ConsumerHeartbeat::default()
            },
            has: Partitions::new(),
            is_unsure: true,
        }
    }

    fn request(&self) -> ConsumerHeartbeat {
        let mut beat = self.beat.clone();
        beat.owned = Some(self.has.clone());
        if !self.is_unsure && beat.epoch > 0 {
            beat.topics = None;
            beat.rebalance_timeout = None;
        }
        beat
    }

    fn hear(&mut self, answer: ConsumerAnswer) {
        match answer {
            Ok(told) => {
                self.beat.epoch = told.epoch;
                self.is_unsure = false;
                if let Some(assignment) = told.assignment {
                    self.has = assignment;
                }
            }
            Err(refused) => {
                let again = [
                    ErrorCode::UnknownMemberId,
                    ErrorCode::FencedMemberEpoch,
                    ErrorCode::GroupIdNotFound,
                ];
                assert!(again.contains(&refused.code), "{refused:?}");
                self.beat.epoch = 0;
                self.has.clear();
                self.is_unsure = true;
            }
        }
    }

    fn turn(&mut self, bench: &mut Bench, topics: &Topics) {
        let answer = bench.beaten(topics, &self.request());
        self.hear(answer);
    }

    fn count(&self) -> usize {
        self.has.values().map(BTreeSet::len).sum()
    }
}

#[test]
fn a_second_member_gets_its_share_when_the_first_has_given_it_up() {
    let (mut bench, topics) = (Bench::new(), topics());
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    a.turn(&mut bench, &topics);
    assert_eq!((a.count(), bench.consumers().as_str()), (4, "Stable 1"));
    b.turn(&mut bench, &topics);
    assert_eq!(
        (b.count(), bench.consumers().as_str()),
        (0, "Reconciling 2")
    );
    let held = a.has.clone();
    a.turn(&mut bench, &topics);
    assert_eq!(a.count(), 2);
    // It is still at work on what it is to give up.
    let mut busy = a.clone();
    busy.has = held;
    busy.turn(&mut bench, &topics);
    b.turn(&mut bench, &topics);
    assert_eq!((b.count(), b.beat.epoch), (0, 2));
    a.turn(&mut bench, &topics);
    b.turn(&mut bench, &topics);
    assert_eq!((a.count(), b.count()), (2, 2));
    assert_eq!(bench.consumers(), "Stable 2");
}

#[test]
fn nobody_is_answered_before_it_is_durable_and_silence_ends_a_membership() {
    let (mut bench, topics) = (Bench::new(), topics());
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    let mut answer = bench.beat(&topics, &a.request());
    assert!(waits(&mut answer));
    bench.write();
    a.hear(now(&mut answer));
    b.turn(&mut bench, &topics);
    bench.advance(CONSUMER_SESSION - 1);
    b.turn(&mut bench, &topics);
    bench.advance(1);
    b.turn(&mut bench, &topics);
    assert_eq!((b.count(), bench.consumers().as_str()), (4, "Stable 3"));
    let refused = bench.beaten(&topics, &a.request()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownMemberId);
}

#[test]
fn who_does_not_give_up_in_time_is_expelled() {
    let (mut bench, topics) = (Bench::new(), topics());
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    a.turn(&mut bench, &topics);
    b.turn(&mut bench, &topics);
    let held = a.has.clone();
    a.turn(&mut bench, &topics);
    a.has = held;
    for _ in 0..5 {
        bench.advance(Millis::from(REBALANCE) / 4);
        let answer = bench.beaten(&topics, &a.request());
        if answer.is_err() {
            a.hear(answer);
            break;
        }
        b.turn(&mut bench, &topics);
    }
    assert_eq!(a.beat.epoch, 0, "it was expelled");
    b.turn(&mut bench, &topics);
    assert_eq!(b.count(), 4);
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let (mut bench, topics) = (Bench::new(), topics());
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    a.beat.instance_id = Some("one".to_owned());
    for _ in 0..3 {
        a.turn(&mut bench, &topics);
        b.turn(&mut bench, &topics);
    }
    let (had, state) = (a.has.clone(), bench.consumers());
    let mut again = Client::new("a2", &["t"]);
    again.beat.instance_id = Some("one".to_owned());
    let refused = bench.beaten(&topics, &again.request()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnreleasedInstanceId);
    let mut away = a.request();
    away.epoch = -2;
    assert_eq!(bench.beaten(&topics, &away).unwrap().epoch, -2);
    again.turn(&mut bench, &topics);
    assert_eq!((&again.has, bench.consumers()), (&had, state));
    let fenced = bench.beaten(&topics, &a.request()).unwrap_err();
    assert_eq!(fenced.code, ErrorCode::FencedInstanceId);
}

#[test]
fn an_expression_takes_in_topics_as_they_come() {
    let (mut bench, mut topics) = (Bench::new(), topics());
    let mut a = Client::new("a", &[]);
    a.beat.pattern = Some("t+".to_owned());
    a.turn(&mut bench, &topics);
    assert_eq!(a.count(), 6);
    topics.0.insert("ttt", 5);
    a.turn(&mut bench, &topics);
    assert_eq!(a.count(), 11);
    topics.0.insert("t", 7);
    a.turn(&mut bench, &topics);
    assert_eq!(a.count(), 6 + 11 - 3);
    let mut bad = Client::new("b", &[]);
    bad.beat.pattern = Some("t(".to_owned());
    let refused = bench.beaten(&topics, &bad.request()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidRegularExpression);
}

#[test]
fn an_empty_group_changes_its_protocol_both_ways() {
    let (mut bench, topics) = (Bench::new(), topics());
    let ids = bench.stable(1);
    let mut a = Client::new("a", &["t"]);
    // Its member says nothing that a consumer would.
    let refused = bench.beaten(&topics, &a.request()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::GroupIdNotFound);
    assert_eq!(bench.leave(&ids[0]), ErrorCode::None);
    bench.write();
    let generation = bench.quorum.groups["g"]
        .classic
        .as_ref()
        .unwrap()
        .generation;
    a.turn(&mut bench, &topics);
    assert!(a.beat.epoch > generation);
    assert_eq!(bench.coordinator.list().count(), 1);
    let refused = now(&mut bench.join("")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InconsistentGroupProtocol);
    let mut leaving = a.request();
    leaving.epoch = -1;
    bench.beaten(&topics, &leaving).unwrap();
    let (_, mut answer) = bench.newcomer();
    assert!(now(&mut answer).unwrap().generation > a.beat.epoch);
}

/// What a classic client says that wants "t" and has some of it.
fn subscription(owned: &[PartitionIndex], generation: i32) -> Vec<(String, Bytes)> {
    let owned = message!(TopicPartition {
        topic: "t".into(),
        partitions: owned.to_vec(),
    });
    let said = message!(ConsumerProtocolSubscription {
        topics: vec!["t".into()],
        owned_partitions: vec![owned],
        generation_id: generation,
    });
    let mut written = BytesMut::new();
    encode_consumer_protocol_subscription(&mut written, &said, ApiVersion::new(3)).unwrap();
    vec![("cooperative-sticky".to_owned(), written.freeze())]
}

fn partitions_of(assignment: Bytes) -> Vec<PartitionIndex> {
    let (_, said) =
        decode_consumer_protocol_assignment(assignment, DecodeLimits::default()).unwrap();
    let topics = said.assigned_partitions.into_iter();
    topics.flat_map(|topic| topic.partitions).collect()
}

impl Bench {
    /// A classic member joins (again) and syncs.
    fn rejoin(&mut self, id: &str, has: &[PartitionIndex], at: i32) -> (i32, Vec<PartitionIndex>) {
        let mut request = request(id, None);
        request.protocols = subscription(has, at);
        let mut joined = self.send_join(request);
        self.write();
        let joined = now(&mut joined).unwrap();
        let mut synced = self.sync(id, joined.generation, &[]);
        let assignment = now(&mut synced).unwrap().assignment;
        (joined.generation, partitions_of(assignment))
    }
}

#[test]
fn a_group_with_members_changes_its_protocol_and_back() {
    let (mut bench, topics) = (Bench::new(), topics());
    // A classic member that has everything.
    let mut request = request("", None);
    request.protocols = subscription(&[], -1);
    let id = now(&mut bench.send_join(request.clone()))
        .unwrap_err()
        .member_id;
    request.member_id.clone_from(&id);
    let joined = now(&mut bench.send_join(request)).unwrap();
    let all = written([0, 1, 2, 3]);
    let shares = vec![(id.clone(), all)];
    let (waiter, mut synced) = Waiter::new();
    let sync = SyncGroup {
        group: "g".into(),
        generation: joined.generation,
        member_id: id.clone(),
        assignments: shares,
        ..SyncGroup::default()
    };
    bench.coordinator.sync(0, sync, waiter, &bench.quorum);
    bench.write();
    assert_eq!(
        partitions_of(now(&mut synced).unwrap().assignment),
        [0, 1, 2, 3]
    );

    // One of the newer protocol comes: the group is of that from now on.
    let mut new = Client::new("new", &["t"]);
    new.turn(&mut bench, &topics);
    assert!(bench.quorum.groups["g"].classic.is_none());
    assert_eq!(
        (new.count(), bench.consumers()),
        (0, "Reconciling 2".to_owned())
    );
    assert_eq!(bench.heartbeat(&id, 1), ErrorCode::RebalanceInProgress);
    // It gives up two, and has them until it says so.
    assert_eq!(bench.rejoin(&id, &[0, 1, 2, 3], 1), (1, vec![0, 1]));
    new.turn(&mut bench, &topics);
    assert_eq!(new.count(), 0);
    assert_eq!(bench.heartbeat(&id, 1), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.rejoin(&id, &[0, 1], 1), (2, vec![0, 1]));
    assert_eq!(bench.heartbeat(&id, 2), ErrorCode::None);
    new.turn(&mut bench, &topics);
    assert_eq!((new.count(), bench.consumers()), (2, "Stable 2".to_owned()));
    bench.restart();
    assert_eq!(bench.heartbeat(&id, 2), ErrorCode::None);
    let mut committed = bench.commit(&id, 2, 7);
    bench.write();
    assert_eq!(now(&mut committed), ErrorCode::None);

    // It goes, and those that are left are a classic group.
    let mut leaving = new.request();
    leaving.epoch = -1;
    bench.beaten(&topics, &leaving).unwrap();
    assert_eq!(bench.heartbeat(&id, 3), ErrorCode::RebalanceInProgress);
    let mut request = super::request(&id, None);
    request.protocols = subscription(&[0, 1], 3);
    let joined = now(&mut bench.send_join(request)).unwrap();
    assert_eq!(
        (joined.generation, joined.leader.as_str()),
        (4, id.as_str())
    );
    let mut synced = bench.sync(&id, 4, &[(&id, "all")]);
    bench.write();
    assert_eq!(now(&mut synced).unwrap().assignment, "all");
    assert!(bench.quorum.groups["g"].consumer.is_none());
}

#[test]
fn a_classic_member_that_does_not_join_again_is_expelled() {
    let (mut bench, topics) = (Bench::new(), topics());
    let mut new = Client::new("new", &["t"]);
    new.turn(&mut bench, &topics);
    let mut request = request("", None);
    request.protocols = subscription(&[], -1);
    let id = now(&mut bench.send_join(request)).unwrap_err().member_id;
    let (generation, has) = bench.rejoin(&id, &[], -1);
    assert_eq!((generation, has.len()), (2, 0));
    new.turn(&mut bench, &topics);
    new.turn(&mut bench, &topics);
    assert_eq!(new.count(), 2);
    for _ in 0..8 {
        bench.advance(Millis::from(SESSION) - 1);
        new.turn(&mut bench, &topics);
        let _ = bench.heartbeat(&id, 2);
    }
    assert_eq!(bench.heartbeat(&id, 2), ErrorCode::UnknownMemberId);
    assert_eq!(new.count(), 4);
}

fn written(partitions: [PartitionIndex; 4]) -> Bytes {
    let of = message!(
        alluvium_protocol::messages::consumer_protocol_assignment::TopicPartition {
            topic: "t".into(),
            partitions: partitions.to_vec(),
        }
    );
    let assignment = message!(ConsumerProtocolAssignment {
        assigned_partitions: vec![of]
    });
    let mut written = BytesMut::new();
    encode_consumer_protocol_assignment(&mut written, &assignment, ApiVersion::new(1)).unwrap();
    written.freeze()
}

#[test]
fn commits_are_judged_by_the_members_epoch() {
    let (mut bench, topics) = (Bench::new(), topics());
    let mut a = Client::new("a", &["t"]);
    a.turn(&mut bench, &topics);
    let mut code = |member: &str, epoch| {
        let mut answer = bench.commit(member, epoch, 7);
        bench.write();
        now(&mut answer)
    };
    assert_eq!(code("a", 1), ErrorCode::None);
    assert_eq!(code("a", 0), ErrorCode::StaleMemberEpoch);
    assert_eq!(code("x", 1), ErrorCode::UnknownMemberId);
    assert_eq!(code("", -1), ErrorCode::UnknownMemberId);
}

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Leave(usize),
    Beat(usize),
    /// The answer does not arrive.
    Deaf(usize),
    /// It dies without a word.
    Die(usize),
    Restart,
    Grow,
    Unwritten(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..5usize).prop_map(Step::Join),
        1 => (0..5usize).prop_map(Step::Leave),
        8 => (0..5usize).prop_map(Step::Beat),
        1 => (0..5usize).prop_map(Step::Deaf),
        1 => (0..5usize).prop_map(Step::Die),
        1 => Just(Step::Restart),
        1 => Just(Step::Grow),
        1 => (0..5usize).prop_map(Step::Unwritten),
    ]
}

/// No partition is with two clients.
fn check(clients: &[Option<Client>]) {
    let mut owners = BTreeMap::new();
    for (at, client) in clients.iter().enumerate() {
        for (topic, partitions) in client.iter().flat_map(|client| &client.has) {
            for partition in partitions {
                let other = owners.insert((*topic, *partition), at);
                assert_eq!(other, None, "{topic:?} {partition} is read twice");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_partition_has_two_readers_and_in_the_end_each_has_one(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (mut bench, mut topics) = (Bench::new(), topics());
        let mut clients: Vec<Option<Client>> = vec![None; 5];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Join(at) if clients[at].is_none() => {
                    let wants: &[&str] = [&["t"][..], &["t", "tt"], &["other", "t"]][at % 3];
                    let mut client = Client::new(&format!("m{at}-{number}"), wants);
                    client.turn(&mut bench, &topics);
                    clients[at] = Some(client);
                }
                Step::Beat(at) => {
                    if let Some(client) = &mut clients[at] {
                        client.turn(&mut bench, &topics);
                    }
                }
                Step::Deaf(at) => {
                    if let Some(client) = &mut clients[at] {
                        let _ = bench.beaten(&topics, &client.request());
                        client.is_unsure = true;
                    }
                }
                Step::Unwritten(at) => {
                    if let Some(client) = &mut clients[at] {
                        let mut answer = bench.beat(&topics, &client.request());
                        bench.write_with(Err(ErrorCode::CoordinatorNotAvailable));
                        if let Ok(answer) = answer.try_recv()
                            && answer.is_err()
                        {
                            client.is_unsure = true;
                            bench.restart();
                        }
                    }
                }
                Step::Leave(at) => {
                    if let Some(client) = clients[at].take() {
                        let mut beat = client.request();
                        beat.epoch = -1;
                        let _ = bench.beaten(&topics, &beat);
                    }
                }
                Step::Die(at) => {
                    if clients[at].take().is_some() {
                        // The others stay.
                        for _ in 0..2 {
                            bench.advance(CONSUMER_SESSION / 2 + 1);
                            for client in clients.iter_mut().flatten() {
                                client.turn(&mut bench, &topics);
                            }
                        }
                    }
                }
                Step::Restart => {
                    bench.write();
                    bench.restart();
                }
                Step::Grow => {
                    *topics.0.get_mut("t").unwrap() += 1;
                }
                Step::Join(_) => {}
            }
            check(&clients);
        }
        for _ in 0..6 {
            for client in clients.iter_mut().flatten() {
                client.turn(&mut bench, &topics);
            }
            check(&clients);
        }
        let wanted: BTreeSet<&String> = clients
            .iter()
            .flatten()
            .flat_map(|client| client.beat.topics.iter().flatten())
            .collect();
        let there: i32 = wanted.iter().map(|name| topics.0[name.as_str()]).sum();
        let read: usize = clients.iter().flatten().map(Client::count).sum();
        prop_assert_eq!(read, usize::try_from(there).unwrap());
        if clients.iter().any(Option::is_some) {
            prop_assert!(bench.consumers().starts_with("Stable"));
        }
    }
}
