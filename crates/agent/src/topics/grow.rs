//! Giving topics more partitions.

use alluvium_cluster::Metadata;
use alluvium_metadata::{Command, Partition, Refusal};
use alluvium_types::limits::PARTITIONS_PER_TOPIC;
use alluvium_types::{ErrorCode, PartitionIndex};

use super::create::check_replicas;
use super::{Topics, decide, refuse};

impl Topics {
    /// Raises a topic's partitions to `count`, or only says whether it could be done.
    /// `assignments` are the replicas of each new partition, where the client places them itself.
    ///
    /// # Errors
    /// Kafka's codes and words for what is wrong with it.
    pub async fn grow(
        &self,
        metadata: &Metadata,
        name: &str,
        count: PartitionIndex,
        assignments: Option<&[Vec<i32>]>,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        let topic = metadata.read(|state| {
            let topic = state.topic_by_name(name).ok_or_else(|| {
                refuse(
                    ErrorCode::UnknownTopicOrPartition,
                    "This server does not host this topic-partition.",
                )
            })?;
            check_growth(
                name,
                Partition::count(&topic.partitions),
                count,
                assignments,
            )?;
            Ok::<_, Refusal>(topic.id)
        })?;
        if !validate_only {
            decide(metadata, Command::CreatePartitions { topic, count }).await?;
        }
        Ok(())
    }
}

fn check_growth(
    name: &str,
    current: PartitionIndex,
    count: PartitionIndex,
    assignments: Option<&[Vec<i32>]>,
) -> Result<(), Refusal> {
    let invalid = |message: String| Err(refuse(ErrorCode::InvalidPartitions, message));
    if count == current {
        return invalid(format!("Topic already has {current} partition(s)."));
    }
    if count < current {
        return invalid(format!(
            "The topic {name} currently has {current} partition(s); {count} would not be an \
             increase."
        ));
    }
    if count > PARTITIONS_PER_TOPIC {
        return invalid(format!(
            "Topic '{name}' would have {count} partitions; a topic may have \
             {PARTITIONS_PER_TOPIC}."
        ));
    }
    let Some(assignments) = assignments else {
        return Ok(());
    };
    let additional = count - current;
    if usize::try_from(additional) != Ok(assignments.len()) {
        return Err(refuse(
            ErrorCode::InvalidReplicaAssignment,
            format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) \
                 were specified.",
                assignments.len()
            ),
        ));
    }
    check_replicas(assignments.iter().map(Vec::as_slice)).map(drop)
}
