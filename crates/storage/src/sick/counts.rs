//! What was asked of a sick store and what it did about it.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Creates.
    Put,
    /// Reads.
    Get,
    /// Lookups.
    Head,
    /// Listings.
    List,
    /// Deletions.
    Delete,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Head, Self::List, Self::Delete];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::List => "LIST",
            Self::Delete => "DELETE",
        }
    }

    const fn place(self) -> usize {
        self as usize
    }
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It fails, and does nothing.
    Error,
    /// The store asks for fewer requests.
    SlowDown,
    /// There is never an answer.
    Hang,
    /// A body ends too soon.
    Truncated,
    /// A bit of a body is wrong.
    Corrupt,
    /// A write or deletion is done, and answered with an error.
    Ambiguous,
    /// The store is switched off.
    Off,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Error,
        Self::SlowDown,
        Self::Hang,
        Self::Truncated,
        Self::Corrupt,
        Self::Ambiguous,
        Self::Off,
    ];

    /// Its name in metrics and settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "errors",
            Self::SlowDown => "slowdown",
            Self::Hang => "hang",
            Self::Truncated => "truncated",
            Self::Corrupt => "corrupt",
            Self::Ambiguous => "ambiguous",
            Self::Off => "off",
        }
    }

    const fn place(self) -> usize {
        self as usize
    }

    /// Whether such a request can meet it.
    #[must_use]
    pub const fn befalls(self, kind: Kind) -> bool {
        match self {
            Self::Truncated | Self::Corrupt => matches!(kind, Kind::Get),
            Self::Ambiguous => matches!(kind, Kind::Put | Kind::Delete),
            _ => true,
        }
    }
}

/// Counts of one kind of request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCounts {
    /// Requests.
    pub requests: u64,
    /// Bytes of those that succeeded.
    pub bytes: u64,
    faults: [u64; Fault::ALL.len()],
}

impl KindCounts {
    /// Requests that met a fault.
    #[must_use]
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults.get(fault.place()).copied().unwrap_or(0)
    }
}

/// All counts at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SickCounts {
    kinds: [KindCounts; Kind::ALL.len()],
}

impl SickCounts {
    /// Those of a kind of request.
    #[must_use]
    pub fn of(&self, kind: Kind) -> KindCounts {
        self.kinds.get(kind.place()).copied().unwrap_or_default()
    }

    /// Requests of all kinds that met a fault.
    #[must_use]
    pub fn faults(&self, fault: Fault) -> u64 {
        self.kinds.iter().map(|kind| kind.faults(fault)).sum()
    }

    /// Requests of all kinds.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.requests).sum()
    }
}

#[derive(Debug)]
struct Tally {
    requests: (AtomicU64, Counter),
    bytes: (AtomicU64, Counter),
    faults: [(AtomicU64, Counter); Fault::ALL.len()],
}

fn add((count, counter): &(AtomicU64, Counter), more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
    counter.increment(more);
}

/// Counts while requests run.
#[derive(Debug)]
pub(super) struct Counts {
    kinds: [Tally; Kind::ALL.len()],
}

impl Counts {
    pub(super) fn new() -> Self {
        let tally = |kind: Kind| {
            let operation = kind.name();
            let zero = |counter| (AtomicU64::new(0), counter);
            Tally {
                requests: zero(metrics::counter!(
                    "alluvium_sick_store_requests_total", "operation" => operation
                )),
                bytes: zero(metrics::counter!(
                    "alluvium_sick_store_bytes_total", "operation" => operation
                )),
                faults: Fault::ALL.map(|fault| {
                    zero(metrics::counter!(
                        "alluvium_sick_store_faults_total",
                        "operation" => operation, "fault" => fault.name()
                    ))
                }),
            }
        };
        Self {
            kinds: Kind::ALL.map(tally),
        }
    }

    pub(super) fn request(&self, kind: Kind) {
        if let Some(tally) = self.kinds.get(kind.place()) {
            add(&tally.requests, 1);
        }
    }

    pub(super) fn bytes(&self, kind: Kind, bytes: u64) {
        if let Some(tally) = self.kinds.get(kind.place()) {
            add(&tally.bytes, bytes);
        }
    }

    pub(super) fn fault(&self, kind: Kind, fault: Fault) {
        let tally = self.kinds.get(kind.place());
        if let Some(count) = tally.and_then(|tally| tally.faults.get(fault.place())) {
            add(count, 1);
        }
    }

    pub(super) fn snapshot(&self) -> SickCounts {
        let read = |(count, _): &(AtomicU64, Counter)| count.load(Ordering::Relaxed);
        let mut counts = SickCounts::default();
        for (kind, tally) in counts.kinds.iter_mut().zip(&self.kinds) {
            kind.requests = read(&tally.requests);
            kind.bytes = read(&tally.bytes);
            for (count, fault) in kind.faults.iter_mut().zip(&tally.faults) {
                *count = read(fault);
            }
        }
        counts
    }
}
