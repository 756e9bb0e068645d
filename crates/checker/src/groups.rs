//! Groups: who owns what, and what was committed.

use std::collections::BTreeMap;

use alluvium_types::Offset;

use crate::anomaly::{Found, Kind};
use crate::ends::Ends;
use crate::event::{Micros, Place};

/// Generations of a group whose owners are remembered.
const GENERATIONS: usize = 64;

/// What is known of one group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    owners: BTreeMap<i32, BTreeMap<Place, String>>,
    commits: BTreeMap<Place, Ends>,
}

impl Group {
    pub(crate) fn assigned(
        &mut self,
        generation: i32,
        member: &str,
        places: &[Place],
        found: &mut Found,
    ) {
        let owners = self.owners.entry(generation).or_default();
        for place in places {
            let owner = owners
                .entry(place.clone())
                .or_insert_with(|| member.to_owned());
            if owner != member {
                let detail = format!("generation {generation}: {owner} and {member}");
                found.add(Kind::TwoOwners, place, None, None, detail);
            }
        }
        while self.owners.len() > GENERATIONS {
            self.owners.pop_first();
        }
    }

    pub(crate) fn committed(&mut self, place: &Place, at: Micros, offset: Offset) {
        self.commits
            .entry(place.clone())
            .or_default()
            .known(at, offset);
    }

    pub(crate) fn fetched(
        &self,
        place: &Place,
        asked: Micros,
        offset: Option<Offset>,
        found: &mut Found,
    ) {
        let Some((when, known)) = self.commits.get(place).and_then(|c| c.before(asked)) else {
            return;
        };
        if offset.is_none_or(|offset| offset < known) {
            let detail = format!(
                "asked at {asked} µs: {}, but {known} was acknowledged at {when} µs",
                offset.map_or_else(|| "nothing".to_owned(), |offset| offset.to_string())
            );
            found.add(Kind::CommitBack, place, offset, None, detail);
        }
    }
}
