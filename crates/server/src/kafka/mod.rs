//! The Kafka listener.

mod handlers;
