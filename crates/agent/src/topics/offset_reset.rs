//! Where a share group begins: `share.auto.offset.reset`.

use alluvium_types::Millis;

/// Where a share group begins in a partition that is new to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// With the next record.
    Latest,
    /// With the first record there is.
    Earliest,
    /// With the first record that is not older than so many milliseconds.
    Ago(Millis),
}

const BY_DURATION: &str = "by_duration:";

impl OffsetReset {
    /// Reads Kafka's words: `latest`, `earliest`, or `by_duration:` and a duration of ISO 8601.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let lower = text.trim().to_ascii_lowercase();
        match lower.as_str() {
            "latest" => Ok(Self::Latest),
            "earliest" => Ok(Self::Earliest),
            other => match other.strip_prefix(BY_DURATION) {
                Some(duration) => millis(duration)
                    .filter(|millis| *millis >= 0)
                    .map(Self::Ago)
                    .ok_or("the duration must be of the form PnDTnHnMn.nS and not negative"),
                None => Err("must be earliest, latest or by_duration:<duration>"),
            },
        }
    }
}

/// Milliseconds of `pndtnhnmn.ns`, in lower case.
fn millis(text: &str) -> Option<Millis> {
    const DAY: i64 = 86_400_000;
    const TIMES: [(char, i64); 3] = [('h', 3_600_000), ('m', 60_000), ('s', 1000)];
    let text = text.strip_prefix('p')?;
    let (days, times) = match text.split_once('t') {
        Some((days, times)) if !times.is_empty() => (days, times),
        Some(_) => return None,
        None => (text, ""),
    };
    if days.is_empty() && times.is_empty() {
        return None;
    }
    let mut total = match days {
        "" => 0,
        days => whole(days.strip_suffix('d')?)?.checked_mul(DAY)?,
    };
    let mut rest = times;
    for (unit, factor) in TIMES {
        let Some((number, after)) = rest.split_once(unit) else {
            continue;
        };
        let part = if unit == 's' {
            seconds(number)?
        } else {
            whole(number)?.checked_mul(factor)?
        };
        total = total.checked_add(part)?;
        rest = after;
    }
    rest.is_empty().then_some(total)
}

fn whole(text: &str) -> Option<i64> {
    let digits = text.trim_start_matches(['+', '-']);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Seconds with a fraction of up to nine digits, in milliseconds.
fn seconds(text: &str) -> Option<i64> {
    let Some((seconds, fraction)) = text.split_once(['.', ',']) else {
        return whole(text)?.checked_mul(1000);
    };
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let millis = if seconds.starts_with('-') {
        -millis
    } else {
        millis
    };
    whole(seconds)?.checked_mul(1000)?.checked_add(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_durations_are_read_as_kafka_does() {
        let cases = [
            ("latest", OffsetReset::Latest),
            (" Earliest ", OffsetReset::Earliest),
            ("by_duration:PT1H", OffsetReset::Ago(3_600_000)),
            ("by_duration:P2DT3H4M5.678S", OffsetReset::Ago(183_845_678)),
            ("BY_DURATION:pt0.5s", OffsetReset::Ago(500)),
            ("by_duration:P1D", OffsetReset::Ago(86_400_000)),
        ];
        for (text, expected) in cases {
            assert_eq!(OffsetReset::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_or_a_negative_one_is_refused() {
        for text in [
            "",
            "none",
            "by_duration",
            "by_duration:",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:1H",
            "by_duration:PT1S1M",
            "by_duration:P1DT",
            "by_duration:PT-1H",
            "by_duration:PT1.1234567891S",
            "by_duration:P99999999999999999D",
            "by_duration:PT1X",
        ] {
            assert!(OffsetReset::parse(text).is_err(), "{text}");
        }
    }
}
