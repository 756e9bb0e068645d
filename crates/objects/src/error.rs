//! Why bytes are not what they should be.

/// Why bytes are not an object of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It does not begin or end as an object does.
    #[error("not an Alluvium object: the magic bytes are missing")]
    NotAnObject,
    /// It was written by a later release.
    #[error("object format {found} is newer than this release, which reads up to {newest}")]
    Version {
        /// Its version.
        found: u16,
        /// The newest that can be read.
        newest: u16,
    },
    /// A part ends too early.
    #[error("object is cut short in its {0}")]
    Short(&'static str),
    /// A checksum does not match.
    #[error("checksum of the object's {0} does not match its bytes")]
    Checksum(&'static str),
    /// A field has an impossible value.
    #[error("object's {part} is damaged: {reason}")]
    Damaged {
        /// Which part.
        part: &'static str,
        /// What was wrong.
        reason: &'static str,
    },
}
