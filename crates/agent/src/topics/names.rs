//! Kafka's rules for topic names.

use alluvium_metadata::Refusal;
use alluvium_types::ErrorCode;
use alluvium_types::limits::TOPIC_NAME_BYTES;

/// Topics that Kafka keeps for itself. Here their contents live in the metadata, but the names stay
/// reserved: tools treat them specially.
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// Whether clients are told that the topic is internal.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Checks a name.
///
/// # Errors
/// `INVALID_TOPIC_EXCEPTION`, in Kafka's words.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    match fault(name) {
        None => Ok(()),
        Some(fault) => Err(Refusal {
            code: ErrorCode::InvalidTopic,
            message: format!("Topic name is invalid: {fault}"),
        }),
    }
}

fn fault(name: &str) -> Option<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() {
        Some("the empty string is not allowed".to_owned())
    } else if name == "." || name == ".." {
        Some(format!("'{name}' is not allowed"))
    } else if name.len() > TOPIC_NAME_BYTES {
        Some(format!(
            "the length of '{}' is longer than the max allowed length {TOPIC_NAME_BYTES}",
            shorten(name)
        ))
    } else if !name.bytes().all(legal) {
        Some(format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ))
    } else {
        None
    }
}

/// A name that is too long is not sent back whole.
fn shorten(name: &str) -> &str {
    name.char_indices()
        .nth(TOPIC_NAME_BYTES)
        .map_or(name, |(end, _)| &name[..end])
}

/// The text under which two names collide: Kafka's metrics cannot tell '.' from '_'.
pub(crate) fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_kafka_checks_them() {
        let long = "a".repeat(249);
        let too_long = "a".repeat(250);
        for good in [
            "a",
            "...",
            "_",
            "-",
            "A.b_c-9",
            "__consumer_offsets",
            long.as_str(),
        ] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let cases = [
            ("", "Topic name is invalid: the empty string is not allowed"),
            (".", "Topic name is invalid: '.' is not allowed"),
            ("..", "Topic name is invalid: '..' is not allowed"),
            (
                "a b",
                "Topic name is invalid: 'a b' contains one or more characters other than ASCII \
                 alphanumerics, '.', '_' and '-'",
            ),
        ];
        for (name, message) in cases {
            let refusal = check_name(name).unwrap_err();
            assert_eq!(
                (refusal.code, refusal.message.as_str()),
                (ErrorCode::InvalidTopic, message)
            );
        }
        for bad in ["a/b", "a\0", "ü", "a,b", "a\n", too_long.as_str()] {
            assert_eq!(
                check_name(bad).unwrap_err().code,
                ErrorCode::InvalidTopic,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_answer_about_a_long_name_is_not_longer_than_the_name_may_be() {
        let refusal = check_name(&"ü".repeat(30_000)).unwrap_err();
        assert!(refusal.message.chars().count() < 400);
    }
}
