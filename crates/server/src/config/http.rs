//! `[http]`.

use super::section;

section! {
    /// The HTTP listener: `/health` and `/ready`.
    pub struct Http in "http." {
        /// Address and port. Port 0 takes a free one; `off` opens none. Unset, it is
        /// `127.0.0.1:8080`, and when that is taken the process goes on without.
        listen: Option<String> = None,
    }
}

impl Http {
    /// Where to listen when nothing is set.
    pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
}
