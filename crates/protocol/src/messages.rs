//! Every message of the cold path, and the wire's own value types.
//!
//! Messages are plain structs with public fields and defaults; they are built with
//! [`message!`](crate::message).

pub use kafka_wire::*;
pub use kafka_wire_core::{ApiVersion, StrBytes, Uuid};

/// Builds a message from its defaults and the fields given:
/// `message!(ListGroupsResponse { throttle_time_ms: 0, groups: vec![] })`.
#[macro_export]
macro_rules! message {
    ($message:path { $($field:ident: $value:expr),* $(,)? }) => {{
        #[allow(unused_mut)]
        let mut message = <$message as ::core::default::Default>::default();
        $(message.$field = $value;)*
        message
    }};
}
