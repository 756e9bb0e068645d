//! Logs and stores for tests of the archive and of restores.
