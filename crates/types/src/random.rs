//! Randomness that a simulation can repeat.
//!
//! Everything below the server draws from here, never from `rand` itself. A thread that holds a
//! [`Seeded`] gets the same numbers from the same seed; all others get the operating system's. The
//! same mark says that the thread is a simulation: nothing may leave it for another thread.

use std::cell::RefCell;
use std::marker::PhantomData;

use rand::distr::StandardUniform;
use rand::distr::uniform::{SampleRange, SampleUniform};
use rand::prelude::Distribution;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore, SeedableRng};

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// While it lives, its thread's randomness follows from a seed.
#[derive(Debug)]
pub struct Seeded {
    /// It belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl Drop for Seeded {
    fn drop(&mut self) {
        SEEDED.with(|seeded| seeded.replace(None));
    }
}

/// Makes this thread's randomness follow from `seed` until the answer is dropped.
#[must_use]
pub fn seed(seed: u64) -> Seeded {
    SEEDED.with(|seeded| seeded.replace(Some(StdRng::seed_from_u64(seed))));
    Seeded {
        thread: PhantomData,
    }
}

/// Whether this thread is a simulation.
#[must_use]
pub fn is_seeded() -> bool {
    SEEDED.with(|seeded| seeded.borrow().is_some())
}

/// This thread's generator, to be handed to what asks for one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rng;

impl RngCore for Rng {
    fn next_u32(&mut self) -> u32 {
        with(|rng| rng.next_u32())
    }

    fn next_u64(&mut self) -> u64 {
        with(|rng| rng.next_u64())
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        with(|rng| rng.fill_bytes(bytes));
    }
}

fn with<T>(draw: impl FnOnce(&mut dyn RngCore) -> T) -> T {
    SEEDED.with(|seeded| match seeded.borrow_mut().as_mut() {
        Some(rng) => draw(rng),
        None => draw(&mut rand::rng()),
    })
}

/// Any value of the type, each as likely.
#[must_use]
pub fn value<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    Rng.random()
}

/// A value of the range, each as likely. The range must not be empty.
#[must_use]
pub fn range<T: SampleUniform>(range: impl SampleRange<T>) -> T {
    Rng.random_range(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_only_while_it_is_held() {
        let draw = || (0..4).map(|_| value::<u64>()).collect::<Vec<_>>();
        let held = seed(7);
        let first = draw();
        drop(held);
        assert!(!is_seeded());
        let held = seed(7);
        assert!(is_seeded());
        assert_eq!(draw(), first);
        assert!((3..5).contains(&range(3..5)));
        drop(held);
        assert_ne!(draw(), first);
    }
}
