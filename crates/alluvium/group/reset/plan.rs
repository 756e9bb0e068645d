//! What a reset comes to, partition by partition.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use alluvium_client::TopicPartition;
use alluvium_types::{Millis, Offset};

use crate::failure::Failure;

/// Where a group shall go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Earliest,
    Latest,
    Current,
    Offset(Offset),
    Shift(i64),
    Time(Millis),
    Each(BTreeMap<TopicPartition, Offset>),
}

/// What there is of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) start: Offset,
    pub(super) end: Offset,
    /// The first offset of the time that was asked for, if a record is as young.
    pub(super) of_time: Option<Offset>,
}

impl Log {
    /// The nearest offset that the log has.
    fn clamp(&self, offset: Offset) -> Offset {
        offset.min(self.end).max(self.start)
    }
}

/// The offset that a goal means for a partition.
pub(super) fn next(
    goal: &Goal,
    of: &TopicPartition,
    log: &Log,
    committed: Option<Offset>,
) -> Result<Offset, Failure> {
    let (topic, partition) = of;
    Ok(match goal {
        Goal::Earliest => log.start,
        Goal::Latest => log.end,
        Goal::Current => committed.unwrap_or(log.end),
        Goal::Offset(offset) => log.clamp(*offset),
        Goal::Time(_) => log.of_time.unwrap_or(log.end),
        Goal::Shift(by) => {
            let Some(committed) = committed else {
                return Err(Failure::Failed(format!(
                    "{topic}:{partition} has no committed offset to shift: \
                     use --to-offset, --to-earliest or --to-latest for it"
                )));
            };
            log.clamp(committed.saturating_add(*by))
        }
        Goal::Each(offsets) => {
            let offset = offsets.get(of).copied();
            log.clamp(offset.unwrap_or(log.end))
        }
    })
}

/// Reads lines of TOPIC,PARTITION,OFFSET, or of GROUP,TOPIC,PARTITION,OFFSET: of the latter only those
/// of `group`.
pub(super) fn read_csv(
    text: &str,
    group: &str,
) -> Result<BTreeMap<TopicPartition, Offset>, String> {
    let mut offsets = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let unquoted = |field: &str| field.trim().trim_matches('"').to_owned();
        let fields: Vec<String> = line.split(',').map(unquoted).collect();
        let (topic, partition, offset) = match fields.as_slice() {
            [topic, partition, offset] => (topic, partition, offset),
            [of, topic, partition, offset] if of == group => (topic, partition, offset),
            [_, _, _, _] => continue,
            _ => return Err(wrong(index, line)),
        };
        let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else {
            return Err(wrong(index, line));
        };
        offsets.insert((topic.clone(), partition), offset);
    }
    match offsets.is_empty() {
        true => Err(format!("there is no line for group {group}")),
        false => Ok(offsets),
    }
}

fn wrong(index: usize, line: &str) -> String {
    let number = index + 1;
    format!("line {number}, '{line}', is not TOPIC,PARTITION,OFFSET")
}

/// Reads an ISO 8601 duration of days, hours, minutes and seconds, in milliseconds: `P1DT2H30M`.
pub(super) fn duration(text: &str) -> Result<Millis, String> {
    read_duration(text)
        .ok_or_else(|| format!("'{text}' is no duration; write it as PT1H30M, PT45S or P7D"))
}

fn read_duration(text: &str) -> Option<Millis> {
    let rest = text.strip_prefix(['P', 'p'])?;
    let (days, clock) = match rest.split_once(['T', 't']) {
        Some((_, "")) => return None,
        Some((days, clock)) => (days, clock),
        None => (rest, ""),
    };
    if days.is_empty() && clock.is_empty() {
        return None;
    }
    let days = parts(days, &[('D', 86_400_000)])?;
    let clock = parts(clock, &[('H', 3_600_000), ('M', 60_000), ('S', 1000)])?;
    days.checked_add(clock)
}

/// Sums up `1H30M` by the units given, each at most once and in their order.
fn parts(mut text: &str, mut units: &[(char, i64)]) -> Option<Millis> {
    let mut sum: i64 = 0;
    while !text.is_empty() {
        let at = text.find(|letter: char| letter.is_ascii_alphabetic())?;
        let (number, rest) = text.split_at(at);
        let letter = rest.chars().next()?.to_ascii_uppercase();
        let which = units.iter().position(|(unit, _)| *unit == letter)?;
        let (_, millis) = *units.get(which)?;
        let number: i64 = number.parse().ok().filter(|number| *number >= 0)?;
        sum = sum.checked_add(number.checked_mul(millis)?)?;
        units = units.get(which + 1..)?;
        text = rest.get(1..)?;
    }
    Some(sum)
}

/// The time of day of this machine.
pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Log = Log {
        start: 10,
        end: 20,
        of_time: None,
    };

    fn to(goal: &Goal, committed: Option<Offset>) -> Offset {
        next(goal, &("t".to_owned(), 0), &LOG, committed).unwrap()
    }

    #[test]
    fn no_goal_leads_out_of_the_log() {
        assert_eq!(to(&Goal::Earliest, Some(15)), 10);
        assert_eq!(to(&Goal::Latest, Some(15)), 20);
        assert_eq!(to(&Goal::Offset(12), None), 12);
        assert_eq!(to(&Goal::Offset(3), None), 10);
        assert_eq!(to(&Goal::Offset(99), None), 20);
        assert_eq!(to(&Goal::Shift(-3), Some(15)), 12);
        assert_eq!(to(&Goal::Shift(-9), Some(15)), 10);
        assert_eq!(to(&Goal::Shift(i64::MAX), Some(15)), 20);
        let each = BTreeMap::from([(("t".to_owned(), 0), 1)]);
        assert_eq!(to(&Goal::Each(each), None), 10);
    }

    #[test]
    fn what_is_committed_stays_and_what_is_not_begins_at_the_end() {
        assert_eq!(to(&Goal::Current, Some(15)), 15);
        assert_eq!(to(&Goal::Current, None), 20);
        let shifted = next(&Goal::Shift(1), &("t".to_owned(), 0), &LOG, None);
        assert!(shifted.unwrap_err().to_string().contains("t:0"));
    }

    #[test]
    fn a_time_after_the_last_record_is_the_end() {
        assert_eq!(to(&Goal::Time(5), None), 20);
        let log = Log {
            of_time: Some(13),
            ..LOG
        };
        let found = next(&Goal::Time(5), &("t".to_owned(), 0), &log, None);
        assert_eq!(found.unwrap(), 13);
    }

    #[test]
    fn a_file_names_offsets_with_or_without_the_group() {
        let one = BTreeMap::from([(("t".to_owned(), 1), 5)]);
        assert_eq!(read_csv("t,1,5\n\n", "g").unwrap(), one);
        assert_eq!(
            read_csv("\"g\",\"t\",1,5\nother,t,1,6\n", "g").unwrap(),
            one
        );
        for wrong in ["t,1", "t,x,5", "t,1,y", "a,b,c,d,e"] {
            let error = read_csv(&format!("t,0,0\n{wrong}"), "g").unwrap_err();
            assert!(error.contains("line 2"), "{error}");
        }
        assert!(read_csv("other,t,1,6", "g").is_err());
    }

    #[test]
    fn durations_are_read_as_iso_8601_writes_them() {
        assert_eq!(duration("PT1H30M"), Ok(5_400_000));
        assert_eq!(duration("P7D"), Ok(604_800_000));
        assert_eq!(duration("P1DT1S"), Ok(86_401_000));
        for wrong in [
            "", "P", "PT", "P1DT", "1H", "PT1M1H", "PT-1S", "P1H", "PTS", "PT1é",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration("P9223372036854775807D").is_err());
    }
}
