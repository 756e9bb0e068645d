//! Log starts rise as records grow old or many.
