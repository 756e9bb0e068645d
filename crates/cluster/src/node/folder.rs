//! What a node's folder holds, and opening it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use alluvium_storage::disk::{Disk, create_dir_durable};
use alluvium_types::random;

use crate::growth::LogGrowth;
use crate::node::StartError;
use crate::raft::LogStore;
use crate::snapshots::Snapshots;
use crate::view::Current;
use crate::voter_id::{self, VoterId};

/// Bytes of one file of the log, of which there are a few, preallocated and used again.
const SEGMENT_BYTES: u64 = 16 << 20;
/// What to do about a folder that cannot be used.
const REPLACE: &str = "if no copy can be restored and other metadata nodes live, replace this one: \
                       empty the folder and start it again, it joins as a new voter; if none lives, \
                       rebuild the quorum with `alluvium restore`";

/// What a folder holds.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) voter: VoterId,
    pub(super) log: LogStore,
    pub(super) snapshots: Snapshots,
    pub(super) current: Current,
}

impl Folder {
    /// Opens what is in `dir`, or formats it for `node`. Blocks.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        node: u32,
        growth: Arc<LogGrowth>,
    ) -> Result<Self, StartError> {
        let named = |error: io::Error| StartError(format!("{}: {error}", dir.display()));
        let damaged =
            |what, error: &dyn std::fmt::Display| StartError(format!("{what}: {error}; {REPLACE}"));
        let (log_dir, snapshot_dir) = (dir.join("log"), dir.join("snapshots"));
        create_dir_durable(disk.as_ref(), dir).map_err(named)?;
        // Who the disk is comes first: nothing else may be promised before that is durable.
        let voter = identify(disk.as_ref(), dir, &log_dir, node)?;
        create_dir_durable(disk.as_ref(), &log_dir).map_err(named)?;
        create_dir_durable(disk.as_ref(), &snapshot_dir).map_err(named)?;
        let log = LogStore::open(Arc::clone(disk), &log_dir, SEGMENT_BYTES, growth)
            .map_err(|error| damaged("metadata log", &error))?;
        let (snapshots, current) = Snapshots::open(Arc::clone(disk), &snapshot_dir, log.begin())
            .map_err(|error| damaged("metadata snapshot", &error))?;
        if current.checkpoint.next_index() < log.begin() {
            return Err(StartError(format!(
                "{}: the log begins at entry {} but the newest snapshot covers only {}; restore the \
                 missing snapshot from a copy; {REPLACE}",
                dir.display(),
                log.begin(),
                current.checkpoint.next_index(),
            )));
        }
        log.count_from(current.checkpoint.next_index())
            .map_err(|error| damaged("metadata log", &error))?;
        Ok(Self {
            voter,
            log,
            snapshots,
            current,
        })
    }
}

/// Who the disk is; a new one draws it.
fn identify(disk: &dyn Disk, dir: &Path, log_dir: &Path, node: u32) -> Result<VoterId, StartError> {
    let named = |error: io::Error| StartError(format!("{}: {error}", dir.display()));
    let found = voter_id::read(disk, dir).map_err(|error| StartError(error.to_string()))?;
    if let Some(voter) = found {
        // What release 0.1 wrote is of voter 1, whatever the node is called now.
        if voter.node() != node && voter.incarnation() != 0 {
            return Err(StartError(format!(
                "{}: is the folder of metadata node {}, and this is node {node}; set \
                 metadata.node_id = {}, or give this node an empty folder",
                dir.display(),
                voter.node(),
                voter.node(),
            )));
        }
        return Ok(voter);
    }
    let voter = if disk.is_dir(log_dir).map_err(named)? {
        VoterId::new(0, 1)
    } else {
        VoterId::new(random::range(1..=u32::MAX), node)
    };
    voter_id::write(disk, dir, voter).map_err(named)?;
    Ok(voter)
}
