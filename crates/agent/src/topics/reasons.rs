//! Why settings have no effect, or none yet, or are refused: the words that users read.

pub(super) const REPLICATION: &str =
    "the object store keeps the copies, agents do not copy partitions from each other";
pub(super) const SEGMENTS: &str = "there are no segment files; objects are cut by size and time";
pub(super) const STORE_SYNC: &str = "every batch is durable before it is acknowledged";
pub(super) const REMOTE: &str = "all records are in the object store, there is no second tier";
pub(super) const LEVELS: &str = "each codec's usual level is used";
pub(super) const RETENTION_CHECK: &str = "use compaction.retention_interval";
pub(super) const TRANSACTIONS: &str =
    "transactions lie in the metadata quorum and end in one step, so there is nothing to be set";
pub(super) const SHARE_GROUPS: &str = "what share groups have acquired lies in the metadata quorum";
pub(super) const NO_CLIENT_METRICS: &str = "clients are not asked for their metrics";
pub(super) const STREAMS: &str = "streams groups are not served yet";
pub(super) const NEW_GROUPS: &str =
    "a coordinator deals partitions out at once, whenever members or topics change";
pub(super) const OFFSETS_IN_METADATA: &str =
    "committed offsets live in the metadata, not in a topic";
pub(super) const THREADS: &str = "work runs as tasks on one thread per processor";
pub(super) const PURGATORY: &str = "a request that waits is woken by what it waits for";
pub(super) const QUORUM: &str = "the metadata quorum has settings of its own";
pub(super) const METRICS: &str = "metrics are not served yet, and Java classes cannot be loaded";
pub(super) const QUOTAS: &str = "the rate of changes to topics has no quota, and agents copy nothing from each other that could have one";
pub(super) const DELEGATION: &str = "there are no delegation tokens";
pub(super) const CLEANER: &str = "log compaction has settings of its own, compaction.*";
pub(super) const PLACES: &str = "use data_dir and store.url";
pub(super) const LISTEN: &str = "use kafka.listen and kafka.advertised_host";
pub(super) const ROLES: &str = "use roles = [\"agent\", \"metadata\"]";
pub(super) const IDENTITY: &str = "agents get their ids from the metadata quorum";
pub(super) const SECURITY: &str =
    "the listener has neither encryption nor authentication nor authorisation yet";
pub(super) const PLUGINS: &str = "Java classes cannot be loaded";
