//! Quantities as people write them: "8MiB", "250ms".

use std::time::Duration;

/// Why a quantity could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}; write a number and a unit, for example {example:?}")]
pub struct ParseQuantityError {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// Reads a byte count: a whole number, alone or followed by B, KiB, MiB or GiB.
///
/// # Errors
/// The text is no such number, or it does not fit in 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, ParseQuantityError> {
    const UNITS: [(&str, u64); 4] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("B", 1),
    ];
    parse(text, &UNITS).ok_or_else(|| ParseQuantityError {
        text: text.to_owned(),
        what: "size",
        example: "8MiB",
    })
}

/// Reads a length of time: a whole number followed by ms, s, m, h or d; alone it counts
/// milliseconds, as Kafka's `*.ms` settings do.
///
/// # Errors
/// The text is no such number, or it does not fit in 64 bits.
pub fn parse_duration(text: &str) -> Result<Duration, ParseQuantityError> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    parse(text, &UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| ParseQuantityError {
            text: text.to_owned(),
            what: "duration",
            example: "250ms",
        })
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        .unwrap_or((text, 1));
    number.trim_end().parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse_bytes("8MiB"), Ok(8 << 20));
        assert_eq!(parse_bytes("12"), Ok(12));
        assert_eq!(parse_bytes("3 KiB"), Ok(3072));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_bytes("-1").is_err());
        assert!(parse_bytes("99999999999GiB").is_err());
        assert!(parse_duration("soon").is_err());
    }
}
