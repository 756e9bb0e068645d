//! Names of objects. Keys begin with random digits, so that load spreads over the store's prefixes,
//! and no key is another key's folder.

use alluvium_types::ObjectId;

/// The end of every object's key.
pub const KEY_SUFFIX: &str = ".alv";

/// The key of an object: two digits of its id as a folder, then the id.
#[must_use]
pub fn key(object: ObjectId) -> String {
    let id = object.to_string();
    format!("{}/{id}{KEY_SUFFIX}", &id[..2])
}

/// The object that a key names, if it names one.
#[must_use]
pub fn parse_key(key: &str) -> Option<ObjectId> {
    let (folder, name) = key.rsplit_once('/')?;
    let id = name.strip_suffix(KEY_SUFFIX)?;
    let folder = folder.rsplit('/').next()?;
    let well_formed = id.len() == 32
        && id
            .bytes()
            .all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
    (well_formed && id.starts_with(folder) && folder.len() == 2).then(|| id.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_begin_with_random_digits() {
        let id = ObjectId(0xfeed_0000_0000_0000_0000_0000_0000_0001);
        assert_eq!(key(id), "fe/feed0000000000000000000000000001.alv");
        assert_eq!(parse_key(&key(id)), Some(id));
        assert_eq!(parse_key("fa/feed0000000000000000000000000001.alv"), None);
        assert_eq!(parse_key("prove/abc"), None);
    }
}
