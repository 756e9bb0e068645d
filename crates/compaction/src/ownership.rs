//! Which agent does what.
