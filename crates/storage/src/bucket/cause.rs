//! What a request to the store is made for.

/// Requests are counted, and paid, by cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A chunk that producers wait for.
    Flush,
    /// Gathering what is inline or in write-ahead buffers.
    Settle,
    /// Object and log compaction: reading and writing.
    Compaction,
    /// A reader wants bytes that are in no cache.
    CacheMiss,
    /// Snapshots and the log of the metadata quorum.
    Archive,
    /// Sweeping: listings and deletions.
    Sweep,
    /// Proofs at the start, tools.
    Other,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Flush,
        Self::Settle,
        Self::Compaction,
        Self::CacheMiss,
        Self::Archive,
        Self::Sweep,
        Self::Other,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flush => "flush",
            Self::Settle => "settle",
            Self::Compaction => "compaction",
            Self::CacheMiss => "cache_miss",
            Self::Archive => "archive",
            Self::Sweep => "sweep",
            Self::Other => "other",
        }
    }
}
