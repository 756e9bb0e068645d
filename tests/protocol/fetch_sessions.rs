//! Incremental fetch sessions (KIP-227): the client names what changes and is told what changed.

use kafka_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use uuid::Uuid;

use crate::batches::Batch;
use crate::codes::*;
use crate::wire::topic;
use crate::world::{self, World, fetch_partition};

const TOPIC_ID_ERROR: i16 = 106;

/// A topic of its own in one version of the protocol, and the session over it.
struct Reader {
    version: i16,
    name: String,
    id: Uuid,
    session: i32,
}

impl Reader {
    fn new(world: &mut World, version: i16) -> Self {
        let (name, id) = world.fresh_topic(3);
        Self {
            version,
            name,
            id,
            session: 0,
        }
    }

    /// A fetch of partitions from offsets, in an epoch of the session.
    fn request(&self, epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
        let request = world::fetch(vec![])
            .with_session_id(self.session)
            .with_session_epoch(epoch);
        if partitions.is_empty() {
            return request;
        }
        let partitions = partitions
            .iter()
            .map(|(partition, offset)| fetch_partition(*partition, *offset, 1 << 20));
        let asked = FetchTopic::default().with_partitions(partitions.collect());
        let asked = if self.version >= 13 {
            asked.with_topic_id(self.id)
        } else {
            asked.with_topic(topic(&self.name))
        };
        request.with_topics(vec![asked])
    }

    fn forgetting(&self, request: FetchRequest, partition: i32) -> FetchRequest {
        let forgotten = ForgottenTopic::default().with_partitions(vec![partition]);
        let forgotten = if self.version >= 13 {
            forgotten.with_topic_id(self.id)
        } else {
            forgotten.with_topic(topic(&self.name))
        };
        request.with_forgotten_topics_data(vec![forgotten])
    }

    fn ask(&self, world: &mut World, request: &FetchRequest) -> FetchResponse {
        world.client.ask(self.version, request)
    }

    /// The partitions that an answer of this session tells of, with their record bytes.
    fn told(&self, answer: &FetchResponse) -> Vec<(i32, bool)> {
        assert_eq!((answer.error_code, answer.session_id), (NONE, self.session));
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|read| {
                let has_records = read
                    .records
                    .as_ref()
                    .is_some_and(|records| !records.is_empty());
                (read.partition_index, has_records)
            })
            .collect()
    }
}

/// Versions that differ in how they name topics.
const VERSIONS: [i16; 4] = [7, 11, 12, 16];

#[test]
fn a_session_tells_what_changed() {
    let mut world = World::new();
    for version in VERSIONS {
        let mut reader = Reader::new(&mut world, version);
        let name = reader.name.clone();
        world.produce(&name, 0, Batch::of(2).bytes());
        let full = reader.ask(&mut world, &reader.request(0, &[(0, 0), (1, 0)]));
        reader.session = full.session_id;
        assert_ne!(reader.session, 0);
        assert_eq!(reader.told(&full), [(0, true), (1, false)]);

        // Partition 0 has been read; nothing else is new.
        let read = reader.ask(&mut world, &reader.request(1, &[(0, 2)]));
        assert_eq!(reader.told(&read), []);
        let idle = reader.ask(&mut world, &reader.request(2, &[]));
        assert_eq!(reader.told(&idle), []);

        world.produce(&name, 1, Batch::of(1).bytes());
        let news = reader.ask(&mut world, &reader.request(3, &[]));
        assert_eq!(reader.told(&news), [(1, true)]);

        // A partition joins, another is forgotten.
        world.produce(&name, 2, Batch::of(1).bytes());
        world.produce(&name, 0, Batch::of(1).bytes());
        let request = reader.request(4, &[(1, 1), (2, 0)]);
        let changed = reader.ask(&mut world, &reader.forgetting(request, 0));
        assert_eq!(reader.told(&changed), [(2, true)]);
        world.produce(&name, 0, Batch::of(1).bytes());
        let request = reader.request(5, &[(2, 1)]);
        let forgotten = reader.ask(&mut world, &request);
        assert_eq!(reader.told(&forgotten), []);
    }
}

#[test]
fn a_session_waits_for_news_of_any_of_its_partitions() {
    let mut world = World::new();
    let mut reader = Reader::new(&mut world, 12);
    let full = reader.ask(&mut world, &reader.request(0, &[(0, 0), (1, 0), (2, 0)]));
    reader.session = full.session_id;
    let request = reader.request(1, &[]).with_max_wait_ms(60_000);
    let mut other = crate::wire::Client::of(&world.server);
    let correlation = other.request(12, &request);
    world.produce(&reader.name, 2, Batch::of(1).bytes());
    let news = other.answer::<FetchRequest>(12, correlation);
    assert_eq!(reader.told(&news), [(2, true)]);
}

#[test]
fn errors_are_told_once_and_again_when_they_change() {
    let mut world = World::new();
    let mut reader = Reader::new(&mut world, 12);
    let full = reader.ask(&mut world, &reader.request(0, &[(0, 0), (9, 0)]));
    reader.session = full.session_id;
    let code = |answer: &FetchResponse, at: usize| answer.responses[0].partitions[at].error_code;
    assert_eq!(code(&full, 1), UNKNOWN_TOPIC_OR_PARTITION);
    // Errors are repeated until they pass.
    let again = reader.ask(&mut world, &reader.request(1, &[]));
    assert_eq!(reader.told(&again), [(9, false)]);
    assert_eq!(code(&again, 0), UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn wrong_epochs_and_unknown_sessions_are_refused_and_harm_nobody() {
    let mut world = World::new();
    for version in VERSIONS {
        let mut reader = Reader::new(&mut world, version);
        reader.session = reader
            .ask(&mut world, &reader.request(0, &[(0, 0)]))
            .session_id;
        for epoch in [2, 7, i32::MAX, -7] {
            let refused = reader.ask(&mut world, &reader.request(epoch, &[]));
            assert_eq!(
                refused.error_code, INVALID_FETCH_SESSION_EPOCH,
                "epoch {epoch}"
            );
            assert!(refused.responses.is_empty());
        }
        // The right epoch is still good, and only once.
        let right = reader.request(1, &[]);
        assert_eq!(reader.ask(&mut world, &right).error_code, NONE);
        assert_eq!(
            reader.ask(&mut world, &right).error_code,
            INVALID_FETCH_SESSION_EPOCH
        );

        let unknown = reader
            .request(1, &[])
            .with_session_id(reader.session.wrapping_add(1));
        assert_eq!(
            reader.ask(&mut world, &unknown).error_code,
            FETCH_SESSION_ID_NOT_FOUND
        );
        let none = reader.request(1, &[]).with_session_id(0);
        assert_eq!(
            reader.ask(&mut world, &none).error_code,
            FETCH_SESSION_ID_NOT_FOUND
        );
    }
}

#[test]
fn the_final_epoch_ends_a_session_and_still_reads() {
    let mut world = World::new();
    let mut reader = Reader::new(&mut world, 12);
    world.produce(&reader.name, 0, Batch::of(1).bytes());
    reader.session = reader
        .ask(&mut world, &reader.request(0, &[(0, 0)]))
        .session_id;
    let last = reader.ask(&mut world, &reader.request(-1, &[(0, 0)]));
    assert_eq!((last.error_code, last.session_id), (NONE, 0));
    assert!(
        !last.responses[0].partitions[0]
            .records
            .as_ref()
            .unwrap()
            .is_empty()
    );
    let gone = reader.ask(&mut world, &reader.request(1, &[]));
    assert_eq!(gone.error_code, FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn a_session_by_name_is_not_continued_by_id() {
    let mut world = World::new();
    let mut reader = Reader::new(&mut world, 12);
    reader.session = reader
        .ask(&mut world, &reader.request(0, &[(0, 0)]))
        .session_id;
    reader.version = 13;
    let mixed = reader.ask(&mut world, &reader.request(1, &[]));
    assert_eq!(mixed.error_code, TOPIC_ID_ERROR);
}
