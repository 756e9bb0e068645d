//! What is not as it should be.

use alluvium_objects::key;
use alluvium_types::{Millis, ObjectId, Offset, PartitionIndex};
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Records cannot be read, or the metadata contradicts itself.
    Error,
    /// Nothing is lost; something costs money, or a copy of something is gone.
    Warning,
}

/// Offsets of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// Of which topic: its name, or the id of one that is deleted.
    pub topic: String,
    /// Of which partition.
    pub partition: PartitionIndex,
    /// The first.
    pub first: Offset,
    /// The last.
    pub last: Offset,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Problem {
    /// Manifests name an object that is not in the bucket.
    Missing {
        /// How long it should be.
        bytes: u64,
    },
    /// An object has another length than when it was written.
    WrongLength {
        /// In the manifest.
        named: u64,
        /// In the bucket.
        found: u64,
    },
    /// An object that no manifest names, nor named lately, and that nothing can name any more.
    Orphan {
        /// Its length.
        bytes: u64,
        /// When it was written, by the store's clock.
        modified: Millis,
    },
    /// An object whose last run has gone is still there, long after the grace.
    DeadLate {
        /// Its length.
        bytes: u64,
        /// When its last run went, by the state's clock.
        died_at: Millis,
    },
    /// Two runs of a partition hold the same offsets.
    Overlap,
    /// No run of a partition holds these offsets.
    Hole,
    /// A run contradicts itself.
    BadRun {
        /// In what.
        reason: String,
    },
    /// Two runs name the same bytes of an object.
    SharedBytes {
        /// The first byte that both name.
        position: u64,
    },
    /// A run lies in a chunk of write-ahead buffers that the state does not know.
    UnknownChunk {
        /// Which: agent, epoch and number.
        chunk: String,
    },
    /// The state as a whole does not hold together.
    Contradiction {
        /// What does not.
        reason: String,
    },
    /// The archive's log ends before it should, so the state is older than the cluster.
    ArchiveEndsEarly {
        /// Why.
        reason: String,
    },
    /// A file of the archive is damaged; what it held was found elsewhere.
    ArchiveDamaged {
        /// Which, and how.
        reason: String,
    },
    /// An object's own parts cannot be read.
    Unreadable {
        /// Why.
        reason: String,
    },
    /// Bytes of an object do not match their checksum.
    Damaged {
        /// Which bytes.
        reason: String,
    },
    /// An object is sound and does not hold what the manifest says.
    NotAsNamed {
        /// In what it differs.
        reason: String,
    },
}

impl Problem {
    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Orphan { .. } | Self::DeadLate { .. } | Self::ArchiveDamaged { .. } => {
                Severity::Warning
            }
            _ => Severity::Error,
        }
    }

    /// In words.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Missing { bytes } => {
                format!("is not in the bucket; manifests name it, {bytes} bytes long")
            }
            Self::WrongLength { named, found } => {
                format!("has {found} bytes; it was written with {named}")
            }
            Self::Orphan { bytes, .. } => {
                format!("is an orphan of {bytes} bytes: nothing names it")
            }
            Self::DeadLate { bytes, .. } => {
                format!("is dead and past its grace; its {bytes} bytes are still there")
            }
            Self::Overlap => "are held by two runs".to_owned(),
            Self::Hole => "are held by no run".to_owned(),
            Self::BadRun { reason } => format!("have a run that contradicts itself: {reason}"),
            Self::SharedBytes { position } => {
                format!("is named twice from byte {position} on, by different runs")
            }
            Self::UnknownChunk { chunk } => {
                format!(
                    "lie in chunk {chunk} of write-ahead buffers, of which the state knows nothing"
                )
            }
            Self::Contradiction { reason } => format!("contradict themselves: {reason}"),
            Self::ArchiveEndsEarly { reason } => format!("ends early: {reason}"),
            Self::ArchiveDamaged { reason } => format!("is damaged, and nothing is lost: {reason}"),
            Self::Unreadable { reason } => format!("cannot be read: {reason}"),
            Self::Damaged { reason } => format!("is damaged: {reason}"),
            Self::NotAsNamed { reason } => format!("is not what the manifest says: {reason}"),
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Missing { .. }
            | Self::WrongLength { .. }
            | Self::Unreadable { .. }
            | Self::Damaged { .. } => {
                "bring the object back from a backup or an older version in the bucket; if there is \
                 none, move the log start of the partitions past these offsets (kafka-delete-records)"
            }
            Self::Orphan { .. } => {
                "the cluster's sweeper deletes it within some hours; `alluvium fsck --repair` does so \
                 now"
            }
            Self::DeadLate { .. } => {
                "see whether a sweeper runs (alluvium_sweep_failures_total and the agents' logs), and \
                 may delete"
            }
            Self::ArchiveEndsEarly { .. } => {
                "see `alluvium cluster status`: a running cluster heals its archive with the next \
                 snapshot; do not repair before"
            }
            Self::ArchiveDamaged { .. } => "nothing; the next snapshot makes it superfluous",
            Self::Overlap
            | Self::Hole
            | Self::BadRun { .. }
            | Self::SharedBytes { .. }
            | Self::UnknownChunk { .. }
            | Self::Contradiction { .. }
            | Self::NotAsNamed { .. } => {
                "this is a fault of the program: keep the bucket as it is and report it; \
                 `alluvium restore --plan --at` says whether an earlier state is sound"
            }
        }
    }
}

/// Something that is not as it should be, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    #[serde(flatten)]
    pub problem: Problem,
    /// Which object.
    #[serde(serialize_with = "as_text")]
    pub object: Option<ObjectId>,
    /// Its key in the bucket.
    pub key: Option<String>,
    /// Whose records are concerned; the first of them, where there are many.
    pub stretches: Vec<Stretch>,
    /// In words.
    pub message: String,
    /// What to do about it.
    pub advice: &'static str,
}

impl Finding {
    pub(super) fn new(object: Option<ObjectId>, stretches: Vec<Stretch>, problem: Problem) -> Self {
        Self {
            severity: problem.severity(),
            message: problem.message(),
            advice: problem.advice(),
            key: object.map(key),
            object,
            stretches,
            problem,
        }
    }

    /// The thing it is about, in words.
    #[must_use]
    pub fn thing(&self) -> String {
        let what = match &self.problem {
            Problem::ArchiveEndsEarly { .. } | Problem::ArchiveDamaged { .. } => {
                return "the archive".to_owned();
            }
            Problem::Contradiction { .. } => return "the manifests".to_owned(),
            _ => self.key.as_ref().map(|key| format!("object {key}")),
        };
        what.unwrap_or_else(|| {
            let stretch = self.stretches.first();
            stretch.map_or_else(
                || "something".to_owned(),
                |it| {
                    format!(
                        "{}/{}: offsets {}..{}",
                        it.topic, it.partition, it.first, it.last
                    )
                },
            )
        })
    }
}

#[allow(clippy::ref_option, reason = "as serde asks for it")]
fn as_text<S: serde::Serializer>(
    object: &Option<ObjectId>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match object {
        Some(object) => serializer.collect_str(object),
        None => serializer.serialize_none(),
    }
}
