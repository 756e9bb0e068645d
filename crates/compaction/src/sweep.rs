//! Deletes what no manifest names.
