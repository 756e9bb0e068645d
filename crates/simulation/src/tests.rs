//! Fixed seeds, fresh seeds, and seeds that once failed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Options, run};

/// Seeds that found something once, one a line; see the file for what.
const REGRESSIONS: &str = include_str!("../regressions.txt");

#[track_caller]
fn passes(seed: u64) {
    let report = run(seed, &Options::default());
    assert!(report.is_clean(), "{report}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let options = Options {
        duration: Duration::from_secs(10),
        keep_trace: true,
    };
    for seed in [1, 2] {
        let (one, other) = (run(seed, &options), run(seed, &options));
        let differs = one.lines.iter().zip(&other.lines).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

#[test]
fn fixed_seeds() {
    (100..104).for_each(passes);
}

#[test]
fn fresh_seeds() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = u64::from(now.subsec_nanos());
    println!("fresh seeds from {first} on");
    (first..first + 4).for_each(passes);
}

#[test]
fn seeds_that_once_failed() {
    let seeds = REGRESSIONS
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty());
    for seed in seeds {
        passes(seed.parse().unwrap());
    }
}
