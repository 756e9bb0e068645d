//! The words every other crate shares.
//!
//! Ids, offsets, time, limits and Kafka's error codes. This crate owns no behaviour beyond what the
//! values themselves need (parsing, printing, ordering) and does no I/O. Everything above it in the
//! workspace may use it; it uses nothing of the workspace.

mod clock;
mod error_code;
pub mod hash;
mod ids;
pub mod limits;
pub mod random;
mod size;

pub use clock::{Clock, ManualClock, Millis, SystemClock};
pub use error_code::{ErrorCode, UnknownErrorCode};
pub use ids::{
    AgentEpoch, AgentId, ChunkNumber, ObjectId, Offset, PartitionIndex, ProducerId, TopicId,
    TopicPartition,
};
pub use size::{ParseQuantityError, parse_bytes, parse_duration};
