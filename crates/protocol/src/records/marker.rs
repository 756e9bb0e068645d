//! What a control batch says (KIP-98): the key of its record is a version and a type.

use bytes::Bytes;

use super::decode;
use crate::batch::BatchHeader;

/// Most bytes of a control batch's records that are looked at.
const LIMIT: usize = 1 << 10;

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// It was aborted.
    Abort,
    /// It was committed.
    Commit,
}

impl Marker {
    /// What a whole batch marks; nothing when it is no control batch, or of another type.
    #[must_use]
    pub fn of(batch: &Bytes) -> Option<Self> {
        if !BatchHeader::parse(batch).ok()?.is_control() {
            return None;
        }
        let records = decode(batch, LIMIT).ok()?;
        match records.first()?.key.as_deref()? {
            [_, _, 0, 0, ..] => Some(Self::Abort),
            [_, _, 0, 1, ..] => Some(Self::Commit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchOptions, Record, encode};
    use super::*;
    use crate::batch::{ATTRIBUTES_AT, seal};
    use crate::compression::Codec;

    fn batch(key: &'static [u8], is_control: bool) -> Bytes {
        let record = Record {
            key: Some(Bytes::from_static(key)),
            ..Record::default()
        };
        let options = BatchOptions {
            codec: Codec::None,
            producer: Some((1, 0, 0)),
            transactional: true,
        };
        let mut batch = encode(&[record], options).unwrap().to_vec();
        if is_control {
            batch[ATTRIBUTES_AT + 1] |= 0x20;
            seal(&mut batch);
        }
        Bytes::from(batch)
    }

    #[test]
    fn the_key_says_what_it_marks() {
        assert_eq!(Marker::of(&batch(&[0, 0, 0, 0], true)), Some(Marker::Abort));
        assert_eq!(
            Marker::of(&batch(&[0, 0, 0, 1], true)),
            Some(Marker::Commit)
        );
        assert_eq!(Marker::of(&batch(&[0, 0, 0, 2], true)), None);
        assert_eq!(Marker::of(&batch(&[0, 0], true)), None);
        assert_eq!(Marker::of(&batch(&[0, 0, 0, 1], false)), None);
        assert_eq!(Marker::of(&batch(&[0, 0, 0, 1], true).slice(..70)), None);
    }
}
