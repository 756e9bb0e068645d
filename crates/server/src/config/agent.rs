//! `[agent]`.

use super::section;

section! {
    /// Who this agent is.
    pub struct Agent in "agent." {
        /// The availability zone it runs in (Kafka's `broker.rack`).
        zone: Option<String> = None,
        /// Its identity, 32 hexadecimal digits. Unset, one is drawn at the first start and kept in
        /// the data directory; the same identity keeps the same node id.
        identity: Option<u128> = None,
    }
}

impl super::value::Value for u128 {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() != 32 {
            return Err(format!("{text:?} is not 32 hexadecimal digits"));
        }
        Self::from_str_radix(text, 16).map_err(|_| format!("{text:?} is not 32 hexadecimal digits"))
    }
}
