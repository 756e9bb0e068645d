//! Every message of the cold path, and the wire's own value types.
//!
//! Messages are plain structs with public fields and defaults; they are built with
//! [`message!`](crate::message).

pub use kafka_wire::*;
pub use kafka_wire_core::{
    ApiKey, ApiVersion, DecodeError, DecodeLimits, Decoder, EncodeError, Encoder, KafkaDecode,
    KafkaEncode, StrBytes, TaggedFields, Uuid, VersionRange,
};

use alluvium_types::TopicId;

/// A topic id as messages carry it.
#[must_use]
pub const fn uuid(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

/// The topic id that a message carries.
#[must_use]
pub const fn topic_id(uuid: Uuid) -> TopicId {
    TopicId(uuid.to_bytes())
}

/// Builds a message from its defaults and the fields given:
/// `message!(ListGroupsResponse { throttle_time_ms: 0, groups })`. A field without a value takes the
/// variable of its name, as in a struct.
#[macro_export]
macro_rules! message {
    ($message:path { $($field:ident $(: $value:expr)?),* $(,)? }) => {{
        #[allow(unused_mut)]
        let mut message = <$message as ::core::default::Default>::default();
        $(message.$field = $crate::message!(@value $field $($value)?);)*
        message
    }};
    (@value $field:ident) => { $field };
    (@value $field:ident $value:expr) => { $value };
}
