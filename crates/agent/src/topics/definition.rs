//! What a setting is: its name, type, default, valid values, and what becomes of it here.

use std::collections::BTreeSet;

use super::offset_reset::OffsetReset;

/// A setting's type, by the numbers of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32 bits, signed.
    Int = 3,
    /// 16 bits, signed.
    Short = 4,
    /// 64 bits, signed.
    Long = 5,
    /// A number with a fraction.
    Double = 6,
    /// Texts with commas between them.
    List = 7,
    /// The name of a Java class.
    Class = 8,
    /// A secret; it is never shown.
    Password = 9,
}

impl Kind {
    /// The number in a DescribeConfigs answer.
    #[must_use]
    pub const fn number(self) -> i8 {
        self as i8
    }

    /// The name in Kafka's documentation and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// Which values of the type are valid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    Any,
    AtLeast(f64),
    Between(f64, f64),
    OneOf(&'static [&'static str]),
    /// Every element one of these, each at most once.
    ElementsOf(&'static [&'static str]),
    /// Every element at most once and not empty.
    Distinct,
    /// `*` or `partition:broker` pairs.
    ThrottledReplicas,
    /// A gzip level: -1 or 1 to 9.
    GzipLevel,
    /// See [`OffsetReset`].
    OffsetReset,
}

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// It does here what it does in Kafka.
    Honoured,
    /// It is checked, kept and shown; nothing acts on it yet.
    NotYet(&'static str),
    /// It is checked, kept and shown; there is nothing here that it could act on.
    NoEffect(&'static str),
    /// Only its default is taken: to ignore another value would mislead.
    Refused(&'static str),
}

/// A setting that is known by name.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its default as text; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// What becomes of it.
    pub stance: Stance,
    /// One line for people; empty where the stance says all.
    pub documentation: &'static str,
    /// Whether it can be changed while running, for the whole cluster. Topic settings always can.
    pub dynamic: bool,
    pub(crate) rule: Rule,
}

pub(crate) const fn setting(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition {
        name,
        kind,
        default: Some(default),
        stance: Stance::Honoured,
        documentation: "",
        dynamic: false,
        rule: Rule::Any,
    }
}

pub(crate) const fn boolean(name: &'static str, default: &'static str) -> Definition {
    setting(name, Kind::Boolean, default)
}
pub(crate) const fn int(name: &'static str, default: &'static str) -> Definition {
    setting(name, Kind::Int, default)
}
pub(crate) const fn short(name: &'static str, default: &'static str) -> Definition {
    setting(name, Kind::Short, default)
}
pub(crate) const fn long(name: &'static str, default: &'static str) -> Definition {
    setting(name, Kind::Long, default)
}
pub(crate) const fn double(name: &'static str, default: &'static str) -> Definition {
    setting(name, Kind::Double, default)
}
pub(crate) const fn string(name: &'static str, default: &'static str) -> Definition {
    setting(name, Kind::String, default)
}
pub(crate) const fn list(name: &'static str, default: &'static str) -> Definition {
    setting(name, Kind::List, default)
}

impl Definition {
    pub(crate) const fn null(mut self) -> Self {
        self.default = None;
        self
    }
    pub(crate) const fn of(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
    pub(crate) const fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }
    pub(crate) const fn at_least(self, least: f64) -> Self {
        self.rule(Rule::AtLeast(least))
    }
    pub(crate) const fn one_of(self, names: &'static [&'static str]) -> Self {
        self.rule(Rule::OneOf(names))
    }
    pub(crate) const fn dynamic(mut self) -> Self {
        self.dynamic = true;
        self
    }
    pub(crate) const fn doc(mut self, documentation: &'static str) -> Self {
        self.documentation = documentation;
        self
    }
    pub(crate) const fn not_yet(mut self, reason: &'static str) -> Self {
        self.stance = Stance::NotYet(reason);
        self
    }
    pub(crate) const fn no_effect(mut self, reason: &'static str) -> Self {
        self.stance = Stance::NoEffect(reason);
        self
    }
    pub(crate) const fn refused(mut self, reason: &'static str) -> Self {
        self.stance = Stance::Refused(reason);
        self
    }

    /// Whether the value is a secret.
    #[must_use]
    pub const fn is_sensitive(&self) -> bool {
        matches!(self.kind, Kind::Password)
    }

    /// The documentation with what becomes of the setting, as DescribeConfigs gives it.
    #[must_use]
    pub fn describe(&self) -> String {
        let note = match self.stance {
            Stance::Honoured => return self.documentation.to_owned(),
            Stance::NotYet(reason) => format!("Accepted, without effect yet: {reason}."),
            Stance::NoEffect(reason) => format!("Accepted without effect: {reason}."),
            Stance::Refused(reason) => format!("Not accepted: {reason}."),
        };
        if self.documentation.is_empty() {
            note
        } else {
            format!("{} {note}", self.documentation)
        }
    }

    /// Checks a value and returns it as Kafka would store it.
    ///
    /// # Errors
    /// Kafka's own sentence about what is wrong with it.
    pub fn check(&self, value: &str) -> Result<String, String> {
        // Kafka trims what it parses, of every type.
        let value = value.trim();
        self.check_type(value)?;
        self.check_rule(value)?;
        if let Stance::Refused(reason) = self.stance
            && self.default.unwrap_or_default() != value
        {
            return Err(self.invalid(value, reason));
        }
        Ok(value.to_owned())
    }

    fn check_type(&self, value: &str) -> Result<(), String> {
        let number = |fits: bool| {
            if fits {
                Ok(())
            } else {
                Err(self.invalid(value, &format!("Not a number of type {}", self.kind.name())))
            }
        };
        match self.kind {
            Kind::Boolean if parse_bool(value).is_none() => {
                Err(self.invalid(value, "Expected value to be either true or false"))
            }
            Kind::Int => number(value.parse::<i32>().is_ok()),
            Kind::Short => number(value.parse::<i16>().is_ok()),
            Kind::Long => number(value.parse::<i64>().is_ok()),
            Kind::Double => number(value.parse::<f64>().is_ok_and(f64::is_finite)),
            _ => Ok(()),
        }
    }

    fn check_rule(&self, value: &str) -> Result<(), String> {
        match self.rule {
            Rule::Any => Ok(()),
            Rule::AtLeast(least) => self.check_range(value, least, f64::INFINITY),
            Rule::Between(least, most) => self.check_range(value, least, most),
            Rule::GzipLevel if matches!(value.parse::<i32>(), Ok(-1 | 1..=9)) => Ok(()),
            Rule::GzipLevel => {
                Err(self.invalid(value, "Value must be between 1 and 9 or equal to -1"))
            }
            Rule::OffsetReset => OffsetReset::parse(value)
                .map(|_| ())
                .map_err(|reason| self.invalid(value, reason)),
            Rule::OneOf(names) => self.check_name(value, names),
            Rule::ElementsOf(names) => self.check_elements(value, names),
            Rule::Distinct => self.check_elements(value, &[]),
            Rule::ThrottledReplicas if is_throttled_replicas(value) => Ok(()),
            Rule::ThrottledReplicas => Err(self.invalid(
                value,
                "Must be the literal '*' or a list of replicas in the form \
                 [partitionId]:[brokerId],[partitionId]:[brokerId]",
            )),
        }
    }

    fn check_range(&self, value: &str, least: f64, most: f64) -> Result<(), String> {
        // Bounds are small enough to be exact as doubles; the type was checked before.
        let number = value.parse::<f64>().unwrap_or(f64::NEG_INFINITY);
        if number < least {
            Err(self.invalid(value, &format!("Value must be at least {least}")))
        } else if number > most {
            Err(self.invalid(value, &format!("Value must be no more than {most}")))
        } else {
            Ok(())
        }
    }

    fn check_name(&self, value: &str, names: &[&str]) -> Result<(), String> {
        if names.contains(&value) {
            return Ok(());
        }
        Err(self.invalid(
            value,
            &format!("String must be one of: {}", names.join(", ")),
        ))
    }

    fn check_elements(&self, value: &str, names: &[&str]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for element in elements(value) {
            if !seen.insert(element) {
                let name = self.name;
                return Err(format!(
                    "Configuration '{name}' values must not be duplicated."
                ));
            }
        }
        for element in elements(value) {
            if element.is_empty() {
                return Err(format!(
                    "Configuration '{}' values must not be empty.",
                    self.name
                ));
            }
            if !names.is_empty() {
                self.check_name(element, names)?;
            }
        }
        Ok(())
    }

    fn invalid(&self, value: &str, reason: &str) -> String {
        let shown = if self.is_sensitive() {
            "[hidden]"
        } else {
            value
        };
        format!(
            "Invalid value {shown} for configuration {}: {reason}",
            self.name
        )
    }
}

/// The elements of a list; an empty text has none.
pub(crate) fn elements(value: &str) -> impl Iterator<Item = &str> {
    let value = value.trim();
    value
        .split(',')
        .map(str::trim)
        .filter(move |_| !value.is_empty())
}

/// Reads a boolean as Kafka does: in any case.
pub(crate) fn parse_bool(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn is_throttled_replicas(value: &str) -> bool {
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    value == "*"
        || elements(value).all(|pair| {
            pair.split_once(':')
                .is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
        })
}

/// The known name that is most like `name`, if one is near enough to be what was meant.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any name: not worth comparing.
    if name.len() > 128 {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance in bytes: names are ASCII.
fn edit_distance(left: &str, right: &str) -> usize {
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.bytes().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in right.bytes().enumerate() {
            let replace = previous[column] + usize::from(a != b);
            let insert = current[column] + 1;
            let delete = previous[column + 1] + 1;
            current.push(replace.min(insert).min(delete));
        }
        previous = current;
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN_ISR: Definition = int("min.insync.replicas", "1").at_least(1.0);
    const POLICY: Definition =
        list("cleanup.policy", "delete").rule(Rule::ElementsOf(&["compact", "delete"]));
    const RATIO: Definition =
        double("min.cleanable.dirty.ratio", "0.5").rule(Rule::Between(0.0, 1.0));
    const THROTTLED: Definition =
        list("leader.replication.throttled.replicas", "").rule(Rule::ThrottledReplicas);
    const SECRET: Definition = string("ssl.key.password", "")
        .of(Kind::Password)
        .refused("no TLS");

    #[test]
    fn values_are_checked_in_kafkas_words() {
        let cases: &[(Definition, &str, Result<&str, &str>)] = &[
            (MIN_ISR, " 2 ", Ok("2")),
            (
                MIN_ISR,
                "0",
                Err(
                    "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1",
                ),
            ),
            (
                MIN_ISR,
                "two",
                Err(
                    "Invalid value two for configuration min.insync.replicas: Not a number of type INT",
                ),
            ),
            (
                MIN_ISR,
                "2147483648",
                Err(
                    "Invalid value 2147483648 for configuration min.insync.replicas: \
                     Not a number of type INT",
                ),
            ),
            (POLICY, "compact, delete", Ok("compact, delete")),
            (POLICY, "", Ok("")),
            (
                POLICY,
                "compact,shred",
                Err("Invalid value shred for configuration cleanup.policy: \
                     String must be one of: compact, delete"),
            ),
            (
                POLICY,
                "delete,delete",
                Err("Configuration 'cleanup.policy' values must not be duplicated."),
            ),
            (
                POLICY,
                "delete,",
                Err("Configuration 'cleanup.policy' values must not be empty."),
            ),
            (RATIO, "0.25", Ok("0.25")),
            (
                RATIO,
                "1.5",
                Err(
                    "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: \
                     Value must be no more than 1",
                ),
            ),
            (
                RATIO,
                "NaN",
                Err(
                    "Invalid value NaN for configuration min.cleanable.dirty.ratio: \
                     Not a number of type DOUBLE",
                ),
            ),
            (THROTTLED, "*", Ok("*")),
            (THROTTLED, "0:1,1:2", Ok("0:1,1:2")),
            (SECRET, "", Ok("")),
            (
                SECRET,
                "pass",
                Err("Invalid value [hidden] for configuration ssl.key.password: no TLS"),
            ),
        ];
        for (definition, value, expected) in cases {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(definition.check(value), expected, "{value:?}");
        }
        assert!(THROTTLED.check("0-1").is_err());
    }

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        let known = ["num.partitions", "log.retention.ms", "log.retention.hours"];
        assert_eq!(nearest("num.partition", known), Some("num.partitions"));
        assert_eq!(
            nearest("log.retention.hour", known),
            Some("log.retention.hours")
        );
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
    }
}
