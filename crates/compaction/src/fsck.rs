//! Whether manifests and bucket agree.
