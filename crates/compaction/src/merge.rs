//! Object compaction: small objects become large ones.
