//! Keys of the archive. Numbers are padded, so that a listing is in order, and no key is another
//! key's folder.
//!
//! - `quorum/history/RRRRRRRRRR`: the marker of history R.
//! - `quorum/log/RRRRRRRRRR/IIIIIIIIIIIIIIIIIIII`: a piece of its log that begins with entry I.
//! - `quorum/snapshots/RRRRRRRRRR/IIIIIIIIIIIIIIIIIIII`: a snapshot that covers all below entry I.

/// Before the numbers of histories.
pub(crate) const MARKERS: &str = "quorum/history/";

pub(crate) fn marker(history: u32) -> String {
    format!("{MARKERS}{history:010}")
}

/// Before the keys of a history's pieces.
pub(crate) fn pieces(history: u32) -> String {
    format!("quorum/log/{history:010}/")
}

pub(crate) fn piece(history: u32, first: u64) -> String {
    format!("{}{first:020}", pieces(history))
}

/// Before the keys of a history's snapshots.
pub(crate) fn snapshots(history: u32) -> String {
    format!("quorum/snapshots/{history:010}/")
}

pub(crate) fn snapshot(history: u32, next_index: u64) -> String {
    format!("{}{next_index:020}", snapshots(history))
}

/// The number at the end of a key, if the key is `prefix` and digits.
pub(crate) fn number(key: &str, prefix: &str) -> Option<u64> {
    let digits = key.strip_prefix(prefix)?;
    let plain = (digits.len() == 10 || digits.len() == 20)
        && digits.bytes().all(|digit| digit.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        assert_eq!(piece(3, 17), "quorum/log/0000000003/00000000000000000017");
        assert_eq!(number(&piece(3, u64::MAX), &pieces(3)), Some(u64::MAX));
        assert_eq!(
            number(&marker(u32::MAX), MARKERS),
            Some(u64::from(u32::MAX))
        );
        assert_eq!(number(&snapshot(1, 5), &snapshots(1)), Some(5));
        assert_eq!(number("quorum/log/0000000003/x", &pieces(3)), None);
        assert!(piece(3, 99) < piece(3, 100));
    }
}
