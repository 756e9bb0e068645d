//! Kafka's wire and record batches: bytes in, values out. No I/O.
//!
//! Two paths meet here. The hot path (Produce in, Fetch out, batch headers) is written by hand:
//! batches stay slices of the frame they came in and leave as slices of what they were stored in.
//! Everything else goes through generated messages ([`messages`]), decoded within [`request::LIMITS`].
//!
//! - [`api`]: which API keys are served, in which versions.
//! - [`request`], [`response`]: frames, headers, bodies.
//! - [`produce`], [`fetch`]: the hot path.
//! - [`batch`]: the header of a v2 record batch, checked and patched in place.
//! - [`records`]: the records inside, where somebody must look.
//! - [`compression`]: Kafka's four codecs, never beyond a stated output size.

pub mod api;
pub mod batch;
pub mod compression;
pub mod fetch;
pub mod messages;
pub mod produce;
pub mod records;
pub mod request;
pub mod response;
mod wire;

#[cfg(test)]
mod oracle;
