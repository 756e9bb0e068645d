//! What a check says.

use alluvium_cluster::{ArchivedState, Replayed};
use alluvium_types::{ObjectId, TopicId};
use serde::Serialize;

use super::finding::{Finding, Problem, Severity, Stretch};

/// Findings that are kept; those beyond are only counted.
const MOST: usize = 100_000;

/// What was compared, and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which store.
    pub store: String,
    /// The cluster's id.
    pub cluster: String,
    /// How often the cluster had been restored.
    pub history: u32,
    /// How the state was read from the archive.
    pub log: Replayed,
    /// Objects were read whole.
    pub deep: bool,
    /// How much there is of what.
    pub counts: Counts,
    /// Findings that are errors.
    pub errors: u64,
    /// Findings that are warnings.
    pub warnings: u64,
    /// What is not as it should be: the first 100,000.
    pub findings: Vec<Finding>,
    #[serde(skip)]
    pub(super) cluster_id: TopicId,
}

/// How much there is of what. Lengths are bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Topics.
    pub topics: u64,
    /// Partitions.
    pub partitions: u64,
    /// Runs of all partitions.
    pub runs: u64,
    /// Runs that log compaction thinned out.
    pub sparse_runs: u64,
    /// Runs without a record: compacted away, or lost before anybody could read them.
    pub gaps: u64,
    /// Bytes that lie in the metadata itself.
    pub inline_bytes: u64,
    /// Bytes that lie in write-ahead buffers. They are not in the bucket, so they are not checked.
    pub journal_bytes: u64,
    /// Runs of deleted topics that are not let go of yet.
    pub purgeable_runs: u64,
    /// Objects listed, whoever names them.
    pub listed: u64,
    /// Objects that manifests name and that are there.
    pub live_objects: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Objects that nothing names any more and that are there, within their grace or not.
    pub dead_objects: u64,
    /// Their bytes.
    pub dead_bytes: u64,
    /// Objects that nothing names and that are too young to tell whether something will.
    pub young_objects: u64,
    /// Their bytes.
    pub young_bytes: u64,
    /// Files of the archive.
    pub archive_files: u64,
    /// Their bytes.
    pub archive_bytes: u64,
    /// What starts left that were proving the store.
    pub proofs: u64,
    /// Keys that are nothing of ours.
    pub foreign: u64,
    /// Objects that were read whole.
    pub read_objects: u64,
    /// Their bytes.
    pub read_bytes: u64,
}

impl Report {
    pub(super) fn new(store: &str, archived: &ArchivedState) -> Self {
        let mut report = Self {
            store: store.to_owned(),
            cluster: archived.cluster.to_string(),
            history: archived.history,
            log: archived.log.clone(),
            deep: false,
            counts: Counts::default(),
            errors: 0,
            warnings: 0,
            findings: Vec::new(),
            cluster_id: archived.cluster,
        };
        if let Some(reason) = archived.log.ended_early.clone() {
            report.add(None, Vec::new(), Problem::ArchiveEndsEarly { reason });
        }
        for reason in &archived.log.damaged {
            let reason = reason.clone();
            report.add(None, Vec::new(), Problem::ArchiveDamaged { reason });
        }
        report
    }

    pub(super) fn add(
        &mut self,
        object: Option<ObjectId>,
        stretches: Vec<Stretch>,
        problem: Problem,
    ) {
        match problem.severity() {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        if self.findings.len() < MOST {
            self.findings.push(Finding::new(object, stretches, problem));
        }
    }

    /// Manifests and bucket agree.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.errors == 0 && self.warnings == 0
    }

    /// The orphans among the findings, with their lengths.
    pub fn orphans(&self) -> impl Iterator<Item = (ObjectId, u64)> {
        self.findings.iter().filter_map(|finding| {
            let Problem::Orphan { bytes, .. } = finding.problem else {
                return None;
            };
            finding.object.map(|object| (object, bytes))
        })
    }
}
