//! Versions and keys that are not served.

use std::io::ErrorKind;

use alluvium_protocol::api::{API_VERSIONS, KNOWN, SERVED, served};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::codes::UNSUPPORTED_VERSION;
use crate::support::Server;
use crate::wire::{Client, raw_frame, read};

fn lives(server: &Server) {
    let answer = Client::of(server).ask(0, &ApiVersionsRequest::default());
    assert_eq!(answer.api_keys.len(), SERVED.len());
}

/// The connection is closed and nothing else happens.
fn is_refused(server: &Server, key: i16, version: i16) {
    for rest in [&[][..], &[0; 64], &[0xff; 64]] {
        let mut client = Client::of(server);
        client.send(&raw_frame(key, version, 1, rest));
        assert!(
            client.is_closed(),
            "API {key} version {version} was answered"
        );
    }
}

#[test]
fn versions_beyond_what_is_served_cost_one_connection() {
    let (_dir, server) = Server::fresh();
    for api in SERVED.iter().filter(|api| api.key != API_VERSIONS) {
        for version in [api.max + 1, i16::MAX, api.min - 1, i16::MIN] {
            is_refused(&server, api.key, version);
        }
    }
    lives(&server);
}

#[test]
fn keys_that_are_not_served_cost_one_connection() {
    let (_dir, server) = Server::fresh();
    let unserved = KNOWN.iter().filter(|(key, _)| served(*key).is_none());
    for key in unserved
        .map(|(key, _)| *key)
        .chain([-1, 93, 1000, i16::MAX, i16::MIN])
    {
        is_refused(&server, key, 0);
    }
    lives(&server);
}

#[test]
fn api_versions_of_any_version_is_answered_in_version_0() {
    let (_dir, server) = Server::fresh();
    let own = served(API_VERSIONS).unwrap();
    let mut client = Client::of(&server);
    for version in [own.max + 1, own.max + 2, i16::MAX, -1, i16::MIN] {
        for rest in [&[][..], &[0; 64], &[0xff; 64]] {
            client.send(&raw_frame(API_VERSIONS, version, 9, rest));
            let (correlation, answer): (_, ApiVersionsResponse) = read(&client.frame().unwrap(), 0);
            assert_eq!((correlation, answer.error_code), (9, UNSUPPORTED_VERSION));
            let told = answer
                .api_keys
                .iter()
                .find(|api| api.api_key == API_VERSIONS)
                .unwrap();
            assert_eq!((told.min_version, told.max_version), (own.min, own.max));
        }
    }
    // The same connection goes on in a version that is served.
    assert_eq!(
        client.ask(0, &ApiVersionsRequest::default()).api_keys.len(),
        SERVED.len()
    );
}

#[test]
fn what_was_asked_before_is_answered_before_the_connection_is_closed() {
    let (_dir, server) = Server::fresh();
    let mut client = Client::of(&server);
    let first = client.request(0, &ApiVersionsRequest::default());
    client.send(&raw_frame(3, i16::MAX, 2, &[0; 64]));
    assert_eq!(client.answer::<ApiVersionsRequest>(0, first).error_code, 0);
    assert!(client.is_closed());
}

/// How a closed connection shows.
const CLOSED: [ErrorKind; 2] = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];

#[test]
fn bodies_that_cannot_be_read_cost_one_connection() {
    let (_dir, server) = Server::fresh();
    let bodies = [
        &[0xff; 64][..],
        &[0x7f; 64],
        &[0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff],
    ];
    let mut closed = 0;
    for api in SERVED {
        for (version, body) in (api.min..=api.max).flat_map(|v| bodies.map(|body| (v, body))) {
            let mut client = Client::of(&server);
            client.send(&raw_frame(api.key, version, 1, body));
            // Some are read as a request with bytes behind it, which Kafka ignores.
            if let Err(error) = client.frame() {
                assert!(
                    CLOSED.contains(&error.kind()),
                    "{} version {version}: {error}",
                    api.name
                );
                closed += 1;
            }
        }
    }
    assert!(closed > 300, "only {closed} connections were closed");
    lives(&server);
}
