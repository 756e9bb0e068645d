//! `[store]`.

use super::section;

section! {
    /// Where the records lie.
    pub struct Store in "store." {
        /// `s3://bucket/prefix`, `file:///folder` or `memory://`. Unset, it is the folder `objects`
        /// in the data directory. Credentials, region and endpoint of S3 come from the usual AWS
        /// variables.
        url: Option<String> = None,
    }
}
