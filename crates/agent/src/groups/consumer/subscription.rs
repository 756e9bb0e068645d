//! What the members of a group want, and which topics that is.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_metadata::{ConsumerMember, Partition, State};
use alluvium_types::{ErrorCode, Millis, PartitionIndex, TopicId};
use regex::{Regex, RegexBuilder};

use super::request::ConsumerRefused;

/// Most bytes that a compiled regular expression may have.
const PATTERN_BYTES: usize = 1 << 20;

/// Longest regular expression, in bytes.
const PATTERN_TEXT_BYTES: usize = 4096;

/// How often topics are matched again where their number has not changed, in milliseconds.
const REFRESH: Millis = 10_000;

/// The topics that there are.
pub(crate) trait Catalog {
    /// A topic's id and how many partitions it has.
    fn topic(&self, name: &str) -> Option<(TopicId, PartitionIndex)>;
    /// A topic's name.
    fn name(&self, topic: TopicId) -> Option<String>;
    /// How many topics there are.
    fn len(&self) -> usize;
    /// The names that an expression matches.
    fn matching(&self, pattern: &Regex) -> BTreeSet<String>;
}

impl Catalog for State {
    fn topic(&self, name: &str) -> Option<(TopicId, PartitionIndex)> {
        let topic = self.topic_by_name(name)?;
        Some((topic.id, Partition::count(&topic.partitions)))
    }

    fn name(&self, topic: TopicId) -> Option<String> {
        State::topic(self, topic).map(|topic| topic.name.clone())
    }

    fn len(&self) -> usize {
        self.topic_count()
    }

    fn matching(&self, pattern: &Regex) -> BTreeSet<String> {
        let names = self.topics().map(|topic| topic.name.as_str());
        let matching = names.filter(|name| pattern.is_match(name));
        matching.map(str::to_owned).collect()
    }
}

/// Compiles a regular expression that must match the whole name of a topic (Kafka has RE2's syntax).
///
/// # Errors
/// `INVALID_REGULAR_EXPRESSION`.
pub(crate) fn compile(pattern: &str) -> Result<Regex, ConsumerRefused> {
    let refused = |why: String| {
        let text = format!("SubscribedTopicRegex is not a valid regular expression: {why}.");
        ConsumerRefused::new(ErrorCode::InvalidRegularExpression, text)
    };
    if pattern.len() > PATTERN_TEXT_BYTES {
        return Err(refused(format!("it has {} bytes", pattern.len())));
    }
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(PATTERN_BYTES)
        .build()
        .map_err(|error| refused(error.to_string()))
}

#[derive(Debug)]
struct Pattern {
    compiled: Regex,
    members: usize,
    matched: BTreeSet<String>,
}

/// What all members of a group subscribe to.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    names: BTreeMap<String, usize>,
    patterns: BTreeMap<String, Pattern>,
    /// Topics by name, as they were last seen.
    seen: BTreeMap<String, (TopicId, PartitionIndex)>,
    matched_at: Option<(Millis, usize)>,
}

impl Subscriptions {
    pub(crate) fn add(&mut self, member: &ConsumerMember) {
        for name in &member.topics {
            *self.names.entry(name.clone()).or_default() += 1;
        }
        let Some(pattern) = member.pattern.as_ref().filter(|it| !it.is_empty()) else {
            return;
        };
        if let Some(known) = self.patterns.get_mut(pattern) {
            known.members += 1;
        } else if let Ok(compiled) = compile(pattern) {
            let new = Pattern {
                compiled,
                members: 1,
                matched: BTreeSet::new(),
            };
            self.patterns.insert(pattern.clone(), new);
            self.matched_at = None;
        }
    }

    pub(crate) fn remove(&mut self, member: &ConsumerMember) {
        for name in &member.topics {
            if let Some(members) = self.names.get_mut(name) {
                *members -= 1;
                if *members == 0 {
                    self.names.remove(name);
                }
            }
        }
        if let Some(pattern) = &member.pattern
            && let Some(known) = self.patterns.get_mut(pattern)
        {
            known.members -= 1;
            if known.members == 0 {
                self.patterns.remove(pattern);
            }
        }
    }

    /// Looks at the topics. Says whether they, or what is wanted of them, have changed since the last look.
    pub(crate) fn look(&mut self, catalog: &impl Catalog, now: Millis) -> bool {
        let is_due = self.matched_at.is_none_or(|(at, topics)| {
            now >= at.saturating_add(REFRESH) || topics != catalog.len()
        });
        if is_due && !self.patterns.is_empty() {
            for pattern in self.patterns.values_mut() {
                pattern.matched = catalog.matching(&pattern.compiled);
            }
            self.matched_at = Some((now, catalog.len()));
        }
        let matched = self.patterns.values().flat_map(|pattern| &pattern.matched);
        let wanted: BTreeSet<&String> = self.names.keys().chain(matched).collect();
        let seen: BTreeMap<String, (TopicId, PartitionIndex)> = wanted
            .into_iter()
            .filter_map(|name| Some((name.clone(), catalog.topic(name)?)))
            .collect();
        let has_changed = seen != self.seen;
        self.seen = seen;
        has_changed
    }

    /// The topics seen, with their numbers of partitions.
    pub(crate) fn counts(&self) -> BTreeMap<TopicId, PartitionIndex> {
        self.seen.values().copied().collect()
    }

    /// Which of the topics seen a member wants.
    pub(crate) fn of(&self, member: &ConsumerMember) -> BTreeSet<TopicId> {
        let pattern = member.pattern.as_ref();
        let pattern = pattern.and_then(|pattern| self.patterns.get(pattern));
        let matched = pattern.into_iter().flat_map(|pattern| &pattern.matched);
        let names = member.topics.iter().chain(matched);
        let seen = names.filter_map(|name| self.seen.get(name));
        seen.map(|(topic, _)| *topic).collect()
    }

    /// Whether any member wants a topic.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let mut patterns = self.patterns.values();
        self.names.contains_key(name) || patterns.any(|pattern| pattern.matched.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_whole_names() {
        let pattern = compile("a|b.*").unwrap();
        let matches = |name| pattern.is_match(name);
        assert!(matches("a") && matches("bcd") && !matches("xa") && !matches("ab"));
        let refused = compile("a(").unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRegularExpression);
        assert!(
            compile("(a{1000}){1000}").is_err(),
            "it would take too much memory"
        );
    }
}
