//! Names of topics that were deleted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::topics::Names;

/// Most names that are remembered. A topic that is made again under an older one counts as new.
const MOST: usize = 10_000;

/// The names that topics had when they were deleted, while no topic has them again. So a topic made
/// anew under running producers can be told from one that is new to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeletedNames {
    /// How many topics were deleted.
    deletions: u64,
    /// Names, by the number of the deletion.
    by_name: BTreeMap<String, u64>,
}

impl DeletedNames {
    /// Remembers a name; past [`MOST`], lets go of the one that was deleted first.
    pub(super) fn insert(&mut self, name: String) {
        self.deletions = self.deletions.saturating_add(1);
        self.by_name.insert(name, self.deletions);
        if self.by_name.len() > MOST {
            let first = self.by_name.iter().min_by_key(|(_, number)| **number);
            if let Some(name) = first.map(|(name, _)| name.clone()) {
                self.by_name.remove(&name);
            }
        }
    }

    /// Whether a topic of this name was deleted; from now on one has it again.
    pub(super) fn take(&mut self, name: &str) -> bool {
        self.by_name.remove(name).is_some()
    }

    /// Says what does not hold of it, beside the names of the topics that there are.
    pub(crate) fn check(&self, names: &Names) -> Result<(), String> {
        let mut numbers: Vec<u64> = self.by_name.values().copied().collect();
        numbers.sort_unstable();
        if numbers.len() > MOST
            || numbers.first() == Some(&0)
            || numbers.last() > Some(&self.deletions)
            || !numbers.is_sorted_by(|number, next| number < next)
        {
            return Err(format!(
                "{} names of {} deleted topics, not numbered once each",
                numbers.len(),
                self.deletions
            ));
        }
        match self.by_name.keys().find(|name| names.get(name).is_some()) {
            Some(name) => Err(format!("topic {name:?} is there and deleted")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_thousand_are_remembered() {
        let mut names = DeletedNames::default();
        for number in 0..MOST {
            names.insert(number.to_string());
        }
        // One that was deleted again is the latest now.
        assert!(names.take("0"));
        names.insert("0".to_owned());
        names.insert("new".to_owned());
        names.insert("newer".to_owned());
        names.check(&Names::default()).unwrap();
        assert_eq!(names.by_name.len(), MOST);
        assert!(!names.take("1") && !names.take("2"));
        assert!(names.take("0") && names.take("3") && names.take("newer"));
        assert!(!names.take("newer"));
    }

    #[test]
    fn names_that_cannot_be_are_found_out() {
        let of = |deletions, names: &[(&str, u64)]| DeletedNames {
            deletions,
            by_name: names
                .iter()
                .map(|(name, number)| ((*name).to_owned(), *number))
                .collect(),
        };
        let mut there = Names::default();
        there.insert("c", alluvium_types::TopicId([1; 16]));
        assert!(of(2, &[("a", 1), ("b", 2)]).check(&there).is_ok());
        for (deletions, wrong) in [
            (1, [("a", 1), ("b", 2)]),
            (2, [("a", 0), ("b", 2)]),
            (2, [("a", 2), ("b", 2)]),
            (2, [("a", 1), ("c", 2)]),
        ] {
            assert!(of(deletions, &wrong).check(&there).is_err(), "{wrong:?}");
        }
    }
}
