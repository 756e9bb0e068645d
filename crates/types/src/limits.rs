//! Every fixed limit of the system on one page. Settings that users may change live in the
//! server's configuration; these are the walls behind them.

/// Longest topic name (Kafka's `Topic.MAX_NAME_LENGTH`).
pub const TOPIC_NAME_BYTES: usize = 249;

/// Most partitions a topic may have.
pub const PARTITIONS_PER_TOPIC: i32 = 100_000;

/// Most partitions one request may create, over all its topics.
pub const PARTITIONS_PER_REQUEST: i64 = 100_000;

/// A chunk is sealed when its batches reach this many bytes.
pub const CHUNK_BYTES: usize = 8 << 20;

/// A chunk up to this size may travel inside a Raft entry.
pub const INLINE_CHUNK_BYTES: usize = 64 << 10;

/// Bytes in front of a v2 batch's records (Kafka's `RECORD_BATCH_OVERHEAD`).
pub const BATCH_HEADER_BYTES: usize = 61;

/// Most bytes one batch may decompress to where the server must look inside.
pub const DECOMPRESSED_BATCH_BYTES: usize = 128 << 20;

/// Batches of one idempotent producer that a partition remembers (Kafka keeps five).
pub const PRODUCER_BATCHES: usize = 5;

/// Bytes of one block of the read cache.
pub const CACHE_BLOCK_BYTES: u64 = 512 << 10;

/// A chunk that waited longer than this between sealing and `Sequence` is refused: its object may
/// already be gone as an orphan. Half of the sweep's grace time.
pub const CHUNK_AGE_MILLIS: i64 = 30 * 60 * 1000;
