//! Bytes that are leased before they are held. The lease travels with the data and returns on drop.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of bytes that many tasks share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    units: Arc<Semaphore>,
    total: u32,
}

/// Permits count KiB, so that a budget of terabytes fits in 32 bits.
const UNIT: usize = 1024;

/// Bytes that are in use until this is dropped.
#[derive(Debug)]
pub struct Lease {
    _permit: OwnedSemaphorePermit,
}

impl ByteBudget {
    /// A budget of `bytes`, rounded up to a KiB.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let total = units(bytes).min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            units: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits until `bytes` are free. More than the whole budget waits for all of it, so that one
    /// large request can pass alone.
    pub async fn lease(&self, bytes: usize) -> Lease {
        let wanted = units(bytes).min(self.total);
        loop {
            // The semaphore is never closed; an error cannot come.
            if let Ok(permit) = Arc::clone(&self.units).acquire_many_owned(wanted).await {
                return Lease { _permit: permit };
            }
        }
    }

    /// Bytes in use now, rounded up to KiB per lease.
    #[must_use]
    pub fn used(&self) -> usize {
        (self.total as usize).saturating_sub(self.units.available_permits()) * UNIT
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_returns_on_drop_and_an_oversized_one_passes_alone() {
        let budget = ByteBudget::new(4096);
        let small = budget.lease(1).await;
        assert_eq!(budget.used(), 1024);
        let large = budget.lease(1 << 30);
        tokio::pin!(large);
        assert!(futures::poll!(&mut large).is_pending());
        drop(small);
        let _large = large.await;
        assert_eq!(budget.used(), 4096);
    }
}
