//! `[store]`.

use std::time::Duration;

use super::section;

section! {
    /// Where the records lie.
    pub struct Store in "store." {
        /// `s3://bucket/prefix`, `file:///folder` or `memory://`. Unset, it is the folder `objects`
        /// in the data directory. Credentials, region and endpoint of S3 come from the usual AWS
        /// variables.
        url: Option<String> = None,
        /// Objects stay so long after the last record in them has gone, for readers that are still at
        /// them. Measured by the agent that sweeps, anew by one that takes over.
        grace: Duration = Duration::from_secs(600),
    }
}
