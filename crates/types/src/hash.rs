//! Hash tables whose order a simulation can repeat.
//!
//! Keys come from outside, so the hash is keyed with what nobody can guess; except in a simulation
//! ([`crate::random`]), where the order of an iteration must follow from the seed.

use std::hash::{BuildHasher, DefaultHasher, RandomState};

use crate::random;

/// [`std::collections::HashMap`], made with `default()`.
pub type HashMap<K, V> = std::collections::HashMap<K, V, HashState>;

/// [`std::collections::HashSet`], made with `default()`.
pub type HashSet<K> = std::collections::HashSet<K, HashState>;

/// How keys are hashed.
#[derive(Clone, Debug)]
pub struct HashState(Option<RandomState>);

impl Default for HashState {
    fn default() -> Self {
        Self((!random::is_seeded()).then(RandomState::new))
    }
}

impl BuildHasher for HashState {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        match &self.0 {
            Some(keyed) => keyed.build_hasher(),
            None => DefaultHasher::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_meets_keys_in_the_same_order() {
        let order = || {
            let set: HashSet<u32> = (0..100).collect();
            set.into_iter().collect::<Vec<_>>()
        };
        let other = order();
        let held = random::seed(1);
        let first = order();
        assert_eq!(order(), first);
        drop(held);
        assert_ne!(other, order());
    }
}
