//! Which API keys are served, in which versions.

/// An API that the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedApi {
    /// Its key on the wire.
    pub key: i16,
    /// Its name in Kafka's protocol guide.
    pub name: &'static str,
    /// Oldest version served.
    pub min: i16,
    /// Newest version served.
    pub max: i16,
}

/// Everything that is served, by key. The ApiVersions answer, the dispatcher and
/// docs/compatibility.md are made from this table.
pub const SERVED: &[ServedApi] = &[];

/// Every API key that Kafka 4.x has, served or not, with its name.
pub const KNOWN: &[(i16, &str)] = &[];

/// The entry for a key.
#[must_use]
pub fn served(key: i16) -> Option<&'static ServedApi> {
    SERVED.iter().find(|api| api.key == key)
}
