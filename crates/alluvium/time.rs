//! Moments as people write them: RFC 3339 in UTC, or milliseconds since 1970.

use alluvium_types::Millis;

const DAY: i64 = 86_400;

/// A moment as RFC 3339, to the millisecond.
pub(crate) fn print(at: Millis) -> String {
    let (seconds, millis) = (at.div_euclid(1000), at.rem_euclid(1000));
    let (day, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = date_of(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Reads `2026-11-21T18:40:00Z` (seconds, their fraction and an offset such as `+01:00` may be there
/// or not; a space may stand for the T), or milliseconds since 1970.
pub(crate) fn parse(text: &str) -> Result<Millis, String> {
    if let Ok(millis) = text.parse() {
        return Ok(millis);
    }
    read(text).ok_or_else(|| {
        format!(
            "'{text}' is no moment; write it as 2026-11-21T18:40:00Z, or as milliseconds since 1970"
        )
    })
}

fn read(text: &str) -> Option<Millis> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut parts = date.split('-').map(|part| number(part, 4));
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let time = rest.strip_prefix(['T', 't', ' '])?;
    let (time, offset) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => (&time[..at], offset(&time[at..])?),
        None => (time, 0),
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = clock.split(':').map(|part| number(part, 2));
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().map_or(Some(0), |second| second)?;
    let plausible = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61
        && parts.next().is_none()
        && !fraction.is_empty()
        && fraction.bytes().all(|digit| digit.is_ascii_digit());
    if !plausible {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let days = days_to(year, month, day);
    (date_of(days) == (year, month, day))
        .then_some((days * DAY + hour * 3600 + minute * 60 + second - offset) * 1000 + millis)
}

fn number(text: &str, longest: usize) -> Option<i64> {
    let plain = !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(|digit| digit.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// `Z`, `+01:00` or `-0730`, in seconds.
fn offset(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, digits) = text.split_at_checked(1)?;
    let digits = digits.replace(':', "");
    let all = number(&digits, 4).filter(|_| digits.len() == 4)?;
    let seconds = all / 100 * 3600 + all % 100 * 60;
    Some(if sign == "-" { -seconds } else { seconds })
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March, so that a leap day
/// is the last of its year; 400 years have 146,097 days.
fn days_to(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year.div_euclid(400);
    let year = year.rem_euclid(400);
    let days = year * 365 + year / 4 - year / 100 + (month * 153 + 2) / 5 + day - 1;
    era * 146_097 + days - 719_468
}

fn date_of(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day = day.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (year * 365 + year / 4 - year / 100);
    let month = (day * 5 + 2) / 153;
    let day = day - (month * 153 + 2) / 5 + 1;
    let (carry, month) = if month < 10 {
        (0, month + 3)
    } else {
        (1, month - 9)
    };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_printed() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(print(millis), text);
            assert_eq!(parse(text), Ok(millis));
        }
        for day in (-200_000..200_000).step_by(17) {
            let (year, month, date) = date_of(day);
            assert_eq!(days_to(year, month, date), day);
        }
    }

    #[test]
    fn people_may_write_less() {
        let noon = parse("2026-11-21T12:00:00Z");
        for text in [
            "2026-11-21 12:00",
            "2026-11-21T13:00:00.0+01:00",
            "2026-11-21t05:30:00-0630",
        ] {
            assert_eq!(parse(text), noon, "{text}");
        }
        assert_eq!(parse("1700000000123"), Ok(1_700_000_000_123));
        for text in [
            "",
            "yesterday",
            "2026-02-30T00:00Z",
            "2026-11-21",
            "2026-11-21T25:00Z",
        ] {
            assert!(
                parse(text).unwrap_err().contains("2026-11-21T18:40:00Z"),
                "{text}"
            );
        }
    }
}
