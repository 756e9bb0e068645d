//! Deleting topics and records.

use alluvium_cluster::Metadata;
use alluvium_metadata::{AdvanceLogStart, Command, Outcome, Refusal, State};
use alluvium_types::{ErrorCode, Offset, PartitionIndex, TopicId, TopicPartition};

use super::definition::elements;
use super::topic_configs::topic_config;
use super::{Topics, decide, is_internal, refuse, settings};

impl Topics {
    /// Deletes a topic with its records and committed offsets.
    ///
    /// # Errors
    /// `TOPIC_DELETION_DISABLED`, `UNKNOWN_TOPIC_ID`, or the quorum's refusal.
    pub async fn delete(&self, metadata: &Metadata, topic: TopicId) -> Result<(), Refusal> {
        if !metadata.read(|state| self.broker_bool(state, "delete.topic.enable")) {
            return Err(refuse(
                ErrorCode::TopicDeletionDisabled,
                "Topic deletion is disabled.",
            ));
        }
        decide(metadata, Command::DeleteTopic { topic })
            .await
            .map(drop)
    }

    /// Deletes the records of a partition below `offset`; -1 stands for the high watermark. Returns
    /// the first offset that is left.
    ///
    /// # Errors
    /// An unknown or internal topic, an offset that is out of range, or `POLICY_VIOLATION`: a topic
    /// that is only compacted keeps the last record of every key.
    pub async fn delete_records(
        &self,
        metadata: &Metadata,
        name: &str,
        partition: PartitionIndex,
        offset: Offset,
    ) -> Result<Offset, Refusal> {
        let partition =
            metadata.read(|state| self.check_delete_records(state, name, partition, offset))?;
        let advance = AdvanceLogStart { partition, offset };
        match decide(metadata, Command::AdvanceLogStart(advance)).await? {
            Outcome::LogStart(offset) => Ok(offset),
            outcome => Err(refuse(
                ErrorCode::UnknownServerError,
                format!("unexpected {outcome:?}"),
            )),
        }
    }

    fn check_delete_records(
        &self,
        state: &State,
        name: &str,
        index: PartitionIndex,
        offset: Offset,
    ) -> Result<TopicPartition, Refusal> {
        if is_internal(name) {
            let message = format!("Cannot delete records of internal topic {name}.");
            return Err(refuse(ErrorCode::InvalidTopic, message));
        }
        let unknown = || {
            let message = format!("There is no partition {name}-{index}.");
            refuse(ErrorCode::UnknownTopicOrPartition, message)
        };
        let topic = state.topic_by_name(name).ok_or_else(unknown)?;
        let id = TopicPartition::new(topic.id, index);
        let partition = state.partition(id).ok_or_else(unknown)?;
        let policy = topic_config("cleanup.policy").and_then(|definition| {
            let statics = &self.shared.statics;
            settings::topic_value(statics, state.cluster_configs(), &topic.configs, definition)
        });
        let policies: Vec<&str> = policy
            .as_deref()
            .map(elements)
            .into_iter()
            .flatten()
            .collect();
        if policies == ["compact"] {
            return Err(refuse(
                ErrorCode::PolicyViolation,
                format!(
                    "Records of partition {name}-{index} can not be deleted due to the configured policy"
                ),
            ));
        }
        let high = partition.high_watermark();
        if offset < -1 || offset > high {
            return Err(refuse(
                ErrorCode::OffsetOutOfRange,
                format!(
                    "Cannot increment the log start offset to {offset} of partition {name}-{index} since it is larger than the high watermark {high}"
                ),
            ));
        }
        Ok(id)
    }
}
