//! A small Kafka client, for the command line and the suites.
//!
//! It speaks to any Kafka-compatible cluster, one request at a time per connection. [`Client`] finds
//! nodes, leaders and coordinators; on top of it [`Producer`] sends batches and [`Consumer`] reads
//! partitions or joins a group. A server that cannot be reached is passed over for another one of the
//! bootstrap list or of the cluster. It is made to be clear rather than fast: services should use a client
//! of their language.

mod client;
mod connection;
mod consumer;
mod error;
mod group;
mod groups;
mod partitioner;
mod producer;
mod quorum;

pub use client::{Client, PartitionInfo, Target, TopicInfo};
pub use connection::{Connection, Patience};
pub use consumer::{Answer, Consumer, Isolation, ReadRecord, Start, list_offset};
pub use error::ClientError;
pub use group::{GroupConsumer, committed_offsets};
pub use groups::{
    GroupInfo, ListedGroup, MemberInfo, TopicPartition, commit_for, delete_group, delete_offsets,
    describe_group, group_offsets, list_groups, list_offsets, share_group_offsets,
};
pub use partitioner::partition_of_key;
pub use producer::{Producer, ProducerOptions, Sent, new_producer_id, produce};
pub use quorum::{BrokerInfo, ClusterInfo, QuorumInfo, ReplicaInfo};
