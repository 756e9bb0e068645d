//! DescribeLogDirs: the store, as the one directory that there is. An agent shows the partitions of which
//! it is named as a replica, each with all its bytes (KIP-113).

use alluvium_metadata::{Partition, State, Topic};
use alluvium_protocol::message;
use alluvium_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use alluvium_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use alluvium_types::PartitionIndex;

use super::RequestContext;
use super::hints::Hints;

/// A store has no size of its own.
const UNKNOWN_BYTES: i64 = -1;

pub(crate) async fn handle(
    context: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let topics = context.agent.metadata.read(|state| {
        let shown = Shown {
            hints: Hints::of(state, context),
            me: context.agent.id().0,
        };
        match &request.topics {
            None => {
                let topics = state.topics();
                let all =
                    topics.map(|topic| shown.topic(topic, 0..Partition::count(&topic.partitions)));
                all.filter(|topic| !topic.partitions.is_empty()).collect()
            }
            Some(asked) => {
                let known = asked.iter().filter_map(|asked| {
                    let topic = find(state, &asked.topic)?;
                    Some(shown.topic(topic, asked.partitions.iter().copied()))
                });
                known.filter(|topic| !topic.partitions.is_empty()).collect()
            }
        }
    });
    let store = message!(DescribeLogDirsResult {
        log_dir: context.agent.store().into(),
        topics,
        total_bytes: UNKNOWN_BYTES,
        usable_bytes: UNKNOWN_BYTES,
    });
    message!(DescribeLogDirsResponse {
        results: vec![store]
    })
}

fn find<'a>(state: &'a State, name: &str) -> Option<&'a Topic> {
    state.topic_by_name(name)
}

/// What an agent shows to one client.
struct Shown<'a> {
    hints: Hints<'a>,
    me: i32,
}

impl Shown<'_> {
    fn topic(
        &self,
        topic: &Topic,
        partitions: impl Iterator<Item = PartitionIndex>,
    ) -> DescribeLogDirsTopic {
        let known = partitions.filter_map(|index| {
            let partition = topic.partitions.get(usize::try_from(index).ok()?)?;
            if !self.hints.replicas(topic, index).contains(&self.me) {
                return None;
            }
            Some(message!(DescribeLogDirsPartition {
                partition_index: index,
                partition_size: i64::try_from(partition.bytes()).unwrap_or(i64::MAX),
            }))
        });
        message!(DescribeLogDirsTopic {
            partitions: known.collect(),
            name: topic.name.as_str().into(),
        })
    }
}
