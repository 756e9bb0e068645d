//! A small Kafka client, for the command line and the suites.
//!
//! It speaks to any Kafka-compatible cluster, one request at a time per connection. [`Client`] finds
//! nodes, leaders and coordinators; on top of it [`Producer`] sends batches and [`Consumer`] reads
//! partitions or joins a group. It is made to be clear rather than fast: services should use a client
//! of their language.

mod client;
mod connection;
mod consumer;
mod error;
mod group;
mod partitioner;
mod producer;

pub use client::{Client, PartitionInfo, Target, TopicInfo};
pub use connection::Connection;
pub use consumer::{Consumer, ReadRecord, Start};
pub use error::ClientError;
pub use group::GroupConsumer;
pub use partitioner::partition_of_key;
pub use producer::{Producer, ProducerOptions, Sent};
