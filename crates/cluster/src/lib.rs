//! How nodes agree: openraft around the metadata state machine.
//!
//! [`Metadata`] is the one interface through which everything above proposes commands, reads the
//! state and waits for changes. Behind it stands a metadata node in this process ([`Node`]) or, where
//! there is none, an [`Observer`] that follows one. [`Metadata::in_memory`] is the same without a
//! quorum, for tests and benches. [`Operator`] asks from outside the cluster.
//!
//! # A command's way
//!
//! A proposed [`Command`](alluvium_metadata::Command) is encoded where it is proposed and handed to
//! the voter, which gathers what came meanwhile, gives each its index and appends them to the log in
//! one go. The log lies in a [journal](alluvium_storage::journal); one sync makes many entries
//! durable. Entries that a majority of the voters holds durably are applied in order to the view,
//! in small batches under its lock; then the changes are told to subscribers and the proposers are
//! answered. So an answer implies a durable command, and the proposer's next read sees it.
//!
//! Whoever does not lead forwards: `leader` knows or finds out who does, offers what nobody took
//! again for a while, and never what may have been taken. The leader answers with outcomes and
//! indexes, and the call returns when the own view has reached them. A barrier asks the leader what
//! is committed (those who wait at the same moment share the question) and waits likewise.
//!
//! # Who votes
//!
//! Nodes that were given the same addresses greet one another and form the quorum once, whoever is
//! started first (`forming`); without addresses an operator names them. A voter's id holds what its
//! disk drew when it was formatted ([`VoterId`]): a wiped disk is a new voter, which takes the place of
//! the one at its address and can never vote twice. New voters get the log, or a snapshot in pieces,
//! before they vote; every change (`members`) keeps a living majority. A follower asks the others
//! whether it could win before it disturbs a leader. A leader that no majority answers takes no
//! commands, one that is shut down hands over first, and one whose disk fails or is full stops.
//!
//! # Who follows
//!
//! Every node keeps the entries that it applied lately in a `feed`, as they were encoded. An observer
//! opens one stream to one node, says where its view ends, and gets everything from there on: from
//! the feed, from the log behind it, or a snapshot of the state and then entries. It applies them with
//! the same code as the voters do. Beats tell it who leads and that the node is there; it leaves a
//! node that is silent, has lost touch with the leader, or lacks what is known to be committed. A view
//! never goes back, and one of another cluster or of a history that was restored over ends by name.
//!
//! Agents hold leases with the leader (`liveness`), which ends the registrations of those that fall
//! silent. [`ClusterStatus`] says how all of them do and what to do about it.
//!
//! # What lies in the bucket
//!
//! The leader copies what was committed to the bucket, every second, and a snapshot now and then
//! (`archive`); nothing waits for it. When all metadata disks are lost, [`restore()`] makes a new quorum
//! of one of it: it replays the copy, gives the records of chunks that the copy does not know offsets
//! anew, and begins a new history, which fences whatever is left of the old quorum.
//!
//! # What lies on disk
//!
//! `log/` holds the journal with the entries, the vote and the committed and purged positions;
//! `snapshots/` the newest snapshot. When the log has grown by
//! [`NodeConfig::snapshot_log_bytes`] (or by 50,000 entries) the state is copied, written beside the
//! old snapshot, synced and renamed, and the log up to it is purged. A start reads the snapshot and
//! replays the short rest of the log, however long the log has been.
//!
//! - A torn end of the log was never acknowledged and is cut. Damage before it is refused by name.
//! - A damaged snapshot is refused by name, unless the log still holds all that it held.
//! - A disk that fails while the voter runs stops the voter ([`Node::stopped`]); proposals are
//!   answered [`ProposeError::Unavailable`]. A snapshot that cannot be written is tried again.
//!
//! Two processes must not share a folder; the server sees to that.
//!
//! # Metrics
//!
//! `alluvium_metadata_proposals_total`, `alluvium_metadata_apply_seconds` (per batch),
//! `alluvium_metadata_log_bytes_since_snapshot`, `alluvium_metadata_snapshots_total`,
//! `alluvium_metadata_snapshot_bytes`, `alluvium_metadata_snapshot_failures_total`,
//! `alluvium_metadata_subscribers` (observers that follow this node).

mod applied;
mod archive;
mod ask;
mod barrier;
mod checkpoint;
mod client;
mod directory;
mod feed;
mod forming;
mod growth;
mod leader;
mod liveness;
mod members;
mod node;
mod observer;
mod operator;
mod peers;
mod propose;
mod quorum;
mod raft;
mod restore;
mod rpc;
mod service;
mod snapshots;
mod snapshotter;
mod status;
#[cfg(test)]
mod testing;
mod view;
mod voter_id;

pub use applied::{Applied, Line, ProposeError, Renewal};
pub use archive::ArchiveConfig;
pub use client::Metadata;
pub use forming::{FormError, Formed, Hello, HelloAnswer};
pub use members::{ChangeError, Join, JoinAnswer, MembershipChange};
pub use node::{Node, NodeConfig, StartError, Timing};
pub use observer::{Observer, ObserverConfig};
pub use operator::Operator;
pub use restore::{
    ArchivedState, LostRun, PartitionOffsets, RefusedBatches, Replayed, Resequenced, RestoreConfig,
    RestoreError, RestoreReport, RestoreStep, is_archive_key, read_archive, restore,
};
pub use status::{
    AgentCondition, AgentStatus, ArchiveStatus, ArchiveTrouble, ClusterStatus, VoterStatus,
};
pub use voter_id::{ParseVoterIdError, Peer, VoterId};
