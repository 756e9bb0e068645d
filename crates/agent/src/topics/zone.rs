//! Which availability zone a client is in.
//!
//! Kafka's `client.rack` reaches a broker with fetches only, not with metadata requests, so other
//! logs on object storage read the zone from tags within `client.id`. Their tags are understood
//! here, so that a client that was set up for one of them stays in its zone without a change.

use std::borrow::Cow;

/// A tag within a client id and how its value is written.
struct Tag {
    name: &'static str,
    is_percent_encoded: bool,
}

/// Tags that name a zone: `zone` (Bufstream, and ours), WarpStream's two, AutoMQ's, whose client ids
/// are written as the query of a URL, and the two that Aiven's Inkless has had.
const TAGS: [Tag; 6] = [
    tag("zone", false),
    tag("warpstream_az", false),
    tag("ws_az", false),
    tag("automq_az", true),
    tag("diskless_az", false),
    tag("inkless_az", false),
];

const fn tag(name: &'static str, is_percent_encoded: bool) -> Tag {
    Tag {
        name,
        is_percent_encoded,
    }
}

/// What stands between two tags; each of the logs has its own among them.
const BETWEEN: [char; 5] = [',', ';', '&', '|', ' '];

/// The zone that a client says it is in: its `client.rack` where the request carries it, else the
/// first tag of its `client.id` that names a zone, as in `app-1,zone=eu-1a`. None when it says
/// nothing, or names nothing.
#[must_use]
pub fn zone_of_client<'a>(client_id: &'a str, rack: Option<&'a str>) -> Option<Cow<'a, str>> {
    if let Some(rack) = rack.filter(|rack| !rack.is_empty()) {
        return Some(Cow::Borrowed(rack));
    }
    client_id.split(BETWEEN).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let tag = TAGS.iter().find(|tag| tag.name == name)?;
        let zone = if tag.is_percent_encoded {
            percent_decoded(value)
        } else {
            Cow::Borrowed(value)
        };
        (!zone.is_empty()).then_some(zone)
    })
}

/// Text with each `%` and two hexadecimal digits replaced by the byte they stand for; as it is when
/// it is not written that way.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = match behind {
            [high, low, ..] if *first == b'%' => hexadecimal(*high).zip(hexadecimal(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn hexadecimal(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(client_id: &str, zone: Option<&str>) {
        assert_eq!(
            zone_of_client(client_id, None).as_deref(),
            zone,
            "{client_id}"
        );
    }

    #[test]
    fn tags_of_other_logs_are_understood() {
        // WarpStream
        check("warpstream_az=us-east-1a", Some("us-east-1a"));
        check("app,ws_az=us-east-1a", Some("us-east-1a"));
        check(
            "ws_az=us-east-1a,ws_pas=equal_spread,app",
            Some("us-east-1a"),
        );
        // AutoMQ
        check(
            "automq_type=producer&automq_az=eu%2F1&automq_role=x",
            Some("eu/1"),
        );
        check("automq_az=us-east-1a&producer-1", Some("us-east-1a"));
        // Inkless
        check("app,diskless_az=use1-az1", Some("use1-az1"));
        check("app, diskless_az=use1-az1", Some("use1-az1"));
        check("app|diskless_az=use1-az1", Some("use1-az1"));
        check("loadtest;inkless_az=use1-az1", Some("use1-az1"));
        // Bufstream
        check("app-001,zone=us-west-2b", Some("us-west-2b"));
        check(
            "app;host_override=local;zone=us-west-2b",
            Some("us-west-2b"),
        );
        // Azure's zones have a slash.
        check(
            "app,zone=germanywestcentral/1",
            Some("germanywestcentral/1"),
        );
    }

    #[test]
    fn what_names_no_zone_is_no_zone() {
        for client_id in [
            "",
            "app",
            "zone",
            "zone=",
            "app,zone=,other=1",
            "timezone=utc",
            "ZONE=a",
            "my.zone=a",
            "=a",
            "automq_az=",
        ] {
            check(client_id, None);
        }
        check("zone=,ws_az=b", Some("b"));
        check("zone=a,ws_az=b", Some("a"));
        check("app,zone=a=b", Some("a=b"));
        check("automq_az=%zz%4", Some("%zz%4"));
        check("automq_az=%ff", Some("%ff"));
        check("zone=%41", Some("%41"));
    }

    #[test]
    fn the_rack_counts_before_any_tag() {
        let zone = |rack| zone_of_client("app,zone=a", rack).unwrap().into_owned();
        assert_eq!(zone(Some("b")), "b");
        assert_eq!(zone(Some("")), "a");
        assert_eq!(zone_of_client("app", Some("")), None);
    }
}
