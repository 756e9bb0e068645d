//! Client quotas: DescribeClientQuotas, AlterClientQuotas (KIP-546).

use alluvium_protocol::message;
use alluvium_protocol::messages as own;
use own::alter_client_quotas_request::{EntityData, EntryData, OpData};
use own::describe_client_quotas_request::ComponentData;

use crate::codes::*;
use crate::table::{Case, newest};

pub(super) const KEYS: &[i16] = &[48, 49];

fn entry(kind: &str, name: Option<&str>, key: &str, value: f64, remove: bool) -> EntryData {
    message!(EntryData {
        entity: vec![message!(EntityData {
            entity_type: kind.into(),
            entity_name: name.map(Into::into),
        })],
        ops: vec![message!(OpData {
            key: key.into(),
            value,
            remove
        })],
    })
}

fn alter(entries: Vec<EntryData>) -> own::AlterClientQuotasRequest {
    message!(own::AlterClientQuotasRequest { entries })
}

fn describe(kind: &str, match_type: i8, name: Option<&str>) -> own::DescribeClientQuotasRequest {
    message!(own::DescribeClientQuotasRequest {
        components: vec![message!(ComponentData {
            entity_type: kind.into(),
            match_type,
            match_: name.map(Into::into),
        })],
        strict: true,
    })
}

pub(super) fn cases() -> Vec<Case> {
    const RATE: &str = "producer_byte_rate";
    vec![
        newest(
            "quotas are set, shown and taken back; what is wrong is refused alone",
            0,
            |_| {
                alter(vec![
                    entry("client-id", Some("bounded"), RATE, 1e9, false),
                    entry("client-id", Some("c"), "speed", 1.0, false),
                    entry("client-id", Some("c"), RATE, 0.0, false),
                    entry("planet", Some("c"), RATE, 1.0, false),
                    entry("client-id", Some(""), RATE, 1.0, false),
                    entry("ip", Some("127.0.0.1"), RATE, 1.0, false),
                ])
            },
            |world, answer: own::AlterClientQuotasResponse| {
                let codes: Vec<_> = answer.entries.iter().map(|it| it.error_code).collect();
                assert_eq!(codes[0], NONE);
                assert_eq!(codes[1..], [INVALID_REQUEST; 5]);
                let shown: own::DescribeClientQuotasResponse = world
                    .client
                    .ask_own(1, &describe("client-id", 0, Some("bounded")));
                let entries = shown.entries.unwrap();
                assert_eq!(entries.len(), 1);
                assert_eq!(&*entries[0].values[0].key, RATE);
                assert!((entries[0].values[0].value - 1e9).abs() < 1.0);
                let back = alter(vec![entry("client-id", Some("bounded"), RATE, 0.0, true)]);
                let back: own::AlterClientQuotasResponse = world.client.ask_own(1, &back);
                assert_eq!(back.entries[0].error_code, NONE);
            },
        ),
        newest(
            "nobody has a quota of that name",
            0,
            |_| describe("client-id", 0, Some("nobody")),
            |_, answer: own::DescribeClientQuotasResponse| {
                assert_eq!(
                    (answer.error_code, answer.entries.unwrap().len()),
                    (NONE, 0)
                );
            },
        ),
        newest(
            "a type that there is not",
            0,
            |_| describe("planet", 2, None),
            |_, answer: own::DescribeClientQuotasResponse| {
                assert_eq!(answer.error_code, INVALID_REQUEST);
                assert!(answer.entries.is_none());
            },
        ),
    ]
}
