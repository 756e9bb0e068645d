//! `[memory]`: one limit, and the budgets that take shares of it.

use super::errors::ConfigError;
use super::section;
use super::value::{ByteSize, Value};
use super::{Config, machine};

section! {
    /// How much memory the process takes. The budgets of an agent are shares of one limit unless they
    /// are set by hand; what they leave is for the metadata, the connections and what is under way.
    pub struct Memory in "memory." {
        /// What the process may take, in bytes or in percent of what there is (`"40%"`). Unset, it is
        /// half of the control group's limit, or of the machine's memory where there is none.
        limit: Option<MemoryLimit> = None,
        /// Requests that were read and are not answered yet. Past it a connection is not read, so that
        /// its client slows down. Unset, it is 12% of `memory.limit`, up to 1GiB.
        requests: Option<ByteSize> = None,
        /// Records that were read for fetches and are not sent yet. Unset, it is 12% of
        /// `memory.limit`, up to 1GiB.
        responses: Option<ByteSize> = None,
    }
}

/// The least that a process can do anything with.
const LEAST: u64 = 128 << 20;

/// How much memory a process may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// So much.
    Bytes(ByteSize),
    /// A share of what there is, from 1 to 100.
    Percent(u8),
}

/// Unset, it takes half of what there is.
const DEFAULT: MemoryLimit = MemoryLimit::Percent(50);

impl MemoryLimit {
    /// In bytes, where there are `available`.
    const fn bytes(self, available: u64) -> u64 {
        match self {
            Self::Bytes(size) => size.0,
            Self::Percent(percent) => available / 100 * percent as u64,
        }
    }
}

impl Value for MemoryLimit {
    fn read(text: &str) -> Result<Self, String> {
        let Some(number) = text.trim().strip_suffix('%') else {
            return ByteSize::read(text)
                .map(Self::Bytes)
                .map_err(|error| format!("{error}, or \"50%\""));
        };
        match number.trim_end().parse() {
            Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
            _ => Err(format!("{text:?} is not between 1% and 100%")),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Bytes(size) => size.write(),
            Self::Percent(percent) => format!("{percent}%"),
        }
    }
}

/// What each part of an agent may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// The whole.
    pub limit: u64,
    /// `memory.requests`.
    pub requests: u64,
    /// `memory.responses`.
    pub responses: u64,
    /// `cache.bytes`.
    pub cache: u64,
    /// `cache.recent_bytes`.
    pub recent: u64,
    /// `journal.memory_bytes`.
    pub journal: u64,
    /// `compaction.memory`.
    pub merge: u64,
    /// `compaction.clean_memory`.
    pub clean: u64,
}

/// A budget: its key, its share in percent, the most that it takes unless set by hand.
struct Share {
    key: &'static str,
    percent: u64,
    most: u64,
    set: Option<ByteSize>,
}

impl Config {
    /// The budgets that take shares of the limit. They add up to 78 %.
    fn shares(&self) -> [Share; 7] {
        let share = |key, percent, most: u64, set| Share {
            key,
            percent,
            most,
            set,
        };
        [
            share("memory.requests", 12, 1 << 30, self.memory.requests),
            share("memory.responses", 12, 1 << 30, self.memory.responses),
            share("cache.bytes", 25, u64::MAX, self.cache.bytes),
            share("cache.recent_bytes", 6, 512 << 20, self.cache.recent_bytes),
            share(
                "journal.memory_bytes",
                3,
                64 << 20,
                self.journal.memory_bytes,
            ),
            share("compaction.memory", 12, 768 << 20, self.compaction.memory),
            share(
                "compaction.clean_memory",
                8,
                128 << 20,
                self.compaction.clean_memory,
            ),
        ]
    }

    /// What each part may take on this machine.
    #[must_use]
    pub fn budgets(&self) -> Budgets {
        self.budgets_of(machine::memory())
    }

    /// The same where there are so many bytes of memory.
    fn budgets_of(&self, available: u64) -> Budgets {
        let limit = self.memory.limit.unwrap_or(DEFAULT).bytes(available);
        let shares = self.shares();
        let by_hand = shares.iter().filter_map(|share| share.set);
        let by_hand = by_hand.fold(0_u64, |sum, set| sum.saturating_add(set.0));
        let of_hand = |share: &&Share| share.set.is_some();
        let percents: u64 = shares.iter().filter(of_hand).map(|it| it.percent).sum();
        // What is set by hand is gone; the others divide the rest as they would divide the whole.
        let left = limit.saturating_sub(by_hand);
        let [requests, responses, cache, recent, journal, merge, clean] = shares.map(|share| {
            let share_of_left = left / (100 - percents) * share.percent;
            let own = (limit / 100 * share.percent).min(share_of_left);
            share.set.map_or(own.min(share.most), |set| set.0)
        });
        Budgets {
            limit,
            requests,
            responses,
            cache,
            recent,
            journal,
            merge,
            clean,
        }
    }

    /// What is wrong with the limit and the budgets, where there are so many bytes of memory.
    pub(super) fn check_memory(&self, errors: &mut Vec<ConfigError>) {
        self.check_memory_of(machine::memory(), errors);
    }

    fn check_memory_of(&self, available: u64, errors: &mut Vec<ConfigError>) {
        for (key, size) in [
            ("memory.requests", self.memory.requests),
            ("memory.responses", self.memory.responses),
        ] {
            if size.is_some_and(|size| size.0 < 4 << 20) {
                errors.push(ConfigError::of(key, "is less than 4MiB"));
            }
        }
        let limit = self.memory.limit.unwrap_or(DEFAULT).bytes(available);
        if let Some(set) = self.memory.limit
            && limit < LEAST
        {
            let text = format!("= {} is less than {}", set.write(), ByteSize(LEAST).write());
            errors.push(ConfigError::of("memory.limit", text));
            return;
        }
        let shares = self.shares();
        let by_hand = shares
            .iter()
            .filter_map(|share| Some((share.key, share.set?)));
        let by_hand: Vec<(&str, ByteSize)> = by_hand.collect();
        let sum = by_hand
            .iter()
            .map(|(_, set)| set.0)
            .fold(0_u64, u64::saturating_add);
        if sum > limit {
            let keys: Vec<String> = by_hand
                .iter()
                .map(|(key, set)| format!("{key} = {}", set.write()))
                .collect();
            errors.push(ConfigError::of(
                "memory.limit",
                format!(
                    "is {} MiB and these are more together: {}; set less, or raise the limit",
                    limit >> 20,
                    keys.join(", ")
                ),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;

    const GIB: u64 = 1 << 30;

    fn errors(config: &Config, available: u64) -> String {
        let mut errors = Vec::new();
        config.check_memory_of(available, &mut errors);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        errors.join("\n")
    }

    fn sum(budgets: &Budgets) -> u64 {
        let Budgets {
            requests,
            responses,
            cache,
            recent,
            journal,
            merge,
            clean,
            limit: _,
        } = *budgets;
        requests + responses + cache + recent + journal + merge + clean
    }

    #[test]
    fn budgets_are_shares_of_half_of_the_memory() {
        let budgets = Config::defaults(Mode::Server).budgets_of(4 * GIB);
        assert_eq!(budgets.limit >> 20, 2047);
        assert_eq!(budgets.cache >> 20, 511);
        assert_eq!(budgets.requests >> 20, 245);
        for available in [GIB, 4 * GIB, 64 * GIB] {
            let budgets = Config::defaults(Mode::Server).budgets_of(available);
            assert!(sum(&budgets) <= budgets.limit / 100 * 78, "{budgets:?}");
        }
        let large = Config::defaults(Mode::Server).budgets_of(64 * GIB);
        assert_eq!((large.requests, large.merge), (GIB, 768 << 20));
    }

    #[test]
    fn what_is_set_by_hand_is_taken_from_the_others() {
        let mut config = Config::defaults(Mode::Server);
        config.memory.limit = Some(MemoryLimit::Bytes(ByteSize(GIB)));
        config.cache.bytes = Some(ByteSize(700 << 20));
        let budgets = config.budgets_of(64 * GIB);
        assert_eq!((budgets.limit, budgets.cache), (GIB, 700 << 20));
        assert!(sum(&budgets) <= GIB, "{budgets:?}");
        assert!(budgets.requests > 40 << 20, "{budgets:?}");
        assert_eq!(errors(&config, 64 * GIB), "");
        config.memory.requests = Some(ByteSize(400 << 20));
        let error = errors(&config, 64 * GIB);
        for word in [
            "memory.limit",
            "cache.bytes = 700MiB",
            "memory.requests = 400MiB",
        ] {
            assert!(error.contains(word), "{error}");
        }
        assert!(!error.contains("memory.responses"), "{error}");
    }

    #[test]
    fn a_limit_is_written_in_bytes_or_percent() {
        for (text, limit) in [
            ("2GiB", MemoryLimit::Bytes(ByteSize(2 * GIB))),
            ("40%", MemoryLimit::Percent(40)),
        ] {
            assert_eq!(MemoryLimit::read(text), Ok(limit));
            assert_eq!(limit.write(), text);
        }
        for text in ["0%", "101%", "-1%", "lots", "%"] {
            assert!(MemoryLimit::read(text).is_err(), "{text}");
        }
        let mut config = Config::defaults(Mode::Server);
        config.memory.limit = Some(MemoryLimit::Percent(5));
        assert!(errors(&config, GIB).contains("less than 128MiB"));
    }
}
