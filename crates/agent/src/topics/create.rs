//! Creating topics.

use alluvium_cluster::Metadata;
use alluvium_metadata::{Command, CreateTopic, Refusal, State};
use alluvium_types::limits::PARTITIONS_PER_TOPIC;
use alluvium_types::{ErrorCode, Millis, PartitionIndex, TopicId};

use super::describe::DescribedConfig;
use super::names::collision_key;
use super::settings::{self, Values};
use super::topic_configs::topic_config;
use super::{Topics, check_name, decide, refuse};

/// A topic that somebody asks for. -1 stands for the cluster's default.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: PartitionIndex,
    /// How many replicas to show.
    pub replication_factor: i16,
    /// Replicas by partition, where the client places them itself; else empty.
    pub assignments: Vec<(PartitionIndex, Vec<i32>)>,
    /// Settings that differ from the defaults.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that was made, or would have been.
#[derive(Clone, Debug)]
pub struct CreatedTopic {
    /// Its id; zero if it was only validated.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: PartitionIndex,
    /// The replication factor that was asked for.
    pub replication_factor: i16,
    /// Its whole configuration.
    pub configs: Vec<DescribedConfig>,
}

impl NewTopic {
    /// A topic with all defaults.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            partitions: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }
}

impl Topics {
    /// Creates a topic, or only says whether it could be created.
    ///
    /// # Errors
    /// Kafka's codes and words for what is wrong with it.
    pub async fn create(
        &self,
        metadata: &Metadata,
        now: Millis,
        new: &NewTopic,
        validate_only: bool,
    ) -> Result<CreatedTopic, Refusal> {
        let (command, mut created) = metadata.read(|state| {
            let command = self.check_new(state, now, new, validate_only)?;
            let own: Values = command.configs.iter().cloned().collect();
            let created = CreatedTopic {
                id: TopicId::ZERO,
                partitions: command.partitions,
                replication_factor: command.replication_factor,
                configs: self.describe_topic_configs(state, &own, None),
            };
            Ok::<_, Refusal>((command, created))
        })?;
        if !validate_only {
            created.id = command.id;
            decide(metadata, Command::CreateTopic(command)).await?;
        }
        Ok(created)
    }

    /// How many partitions a request for this topic asks for, before anything else is checked.
    #[must_use]
    pub fn partitions_wanted(&self, state: &State, new: &NewTopic) -> i64 {
        if !new.assignments.is_empty() {
            i64::try_from(new.assignments.len()).unwrap_or(i64::MAX)
        } else if new.partitions == -1 {
            self.broker_int(state, "num.partitions")
        } else {
            i64::from(new.partitions.max(0))
        }
    }

    fn check_new(
        &self,
        state: &State,
        now: Millis,
        new: &NewTopic,
        validate_only: bool,
    ) -> Result<CreateTopic, Refusal> {
        check_name(&new.name)?;
        if validate_only {
            check_absent(state, &new.name)?;
        } else if state.topic_by_name(&new.name).is_some() {
            return Err(exists(&new.name));
        }
        let (partitions, replication_factor) = if new.assignments.is_empty() {
            self.check_counts(state, new)?
        } else {
            check_assignments(new)?
        };
        if partitions > PARTITIONS_PER_TOPIC {
            return Err(refuse(
                ErrorCode::InvalidPartitions,
                format!(
                    "Topic '{}' would have {partitions} partitions; a topic may have \
                     {PARTITIONS_PER_TOPIC}.",
                    new.name
                ),
            ));
        }
        let configs = self.check_overrides(state, &new.configs)?;
        Ok(CreateTopic {
            name: new.name.clone(),
            id: TopicId::from_random(alluvium_types::random::value()),
            partitions,
            replication_factor,
            configs: configs.into_iter().collect(),
            at: now,
        })
    }

    fn check_counts(
        &self,
        state: &State,
        new: &NewTopic,
    ) -> Result<(PartitionIndex, i16), Refusal> {
        let factor = match new.replication_factor {
            -1 => i16::try_from(self.broker_int(state, "default.replication.factor")).unwrap_or(1),
            factor if factor < 1 => {
                return Err(refuse(
                    ErrorCode::InvalidReplicationFactor,
                    "Replication factor must be larger than 0, or -1 to use the default value.",
                ));
            }
            factor => factor,
        };
        let partitions = match new.partitions {
            -1 => i32::try_from(self.broker_int(state, "num.partitions")).unwrap_or(1),
            count if count < 1 => {
                return Err(refuse(
                    ErrorCode::InvalidPartitions,
                    "Number of partitions was set to an invalid non-positive value.",
                ));
            }
            count => count,
        };
        Ok((partitions, factor))
    }

    fn check_overrides(
        &self,
        state: &State,
        given: &[(String, Option<String>)],
    ) -> Result<Values, Refusal> {
        let invalid = |message: String| refuse(ErrorCode::InvalidConfig, message);
        let mut own = Values::new();
        for (name, value) in given {
            let Some(definition) = topic_config(name) else {
                return Err(invalid(settings::unknown_topic_config(name)));
            };
            let Some(value) = value else {
                return Err(invalid(format!(
                    "Null value not supported for topic configs: {name}"
                )));
            };
            own.insert(name.clone(), definition.check(value).map_err(invalid)?);
        }
        settings::check_topic(&self.shared.statics, state.cluster_configs(), &own)
            .map_err(invalid)?;
        Ok(own)
    }
}

fn exists(name: &str) -> Refusal {
    refuse(
        ErrorCode::TopicAlreadyExists,
        format!("Topic '{name}' already exists."),
    )
}

/// What the state machine will check too; here for requests that are only validated.
fn check_absent(state: &State, name: &str) -> Result<(), Refusal> {
    if state.topic_by_name(name).is_some() {
        return Err(exists(name));
    }
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let key = collision_key(name);
    match state
        .topics()
        .find(|topic| collision_key(&topic.name) == key)
    {
        Some(other) => Err(refuse(
            ErrorCode::InvalidTopic,
            format!(
                "Topic '{name}' collides with existing topic: {}",
                other.name
            ),
        )),
        None => Ok(()),
    }
}

/// Checks that manual assignments are well formed; the object store does the replicating.
fn check_assignments(new: &NewTopic) -> Result<(PartitionIndex, i16), Refusal> {
    let request = |message: &str| Err(refuse(ErrorCode::InvalidRequest, message));
    if new.replication_factor != -1 {
        return request(
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        );
    }
    if new.partitions != -1 {
        return request(
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        );
    }
    let mut partitions: Vec<_> = new
        .assignments
        .iter()
        .map(|(partition, _)| *partition)
        .collect();
    partitions.sort_unstable();
    if let Some(twice) = partitions.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(refuse(
            ErrorCode::InvalidReplicaAssignment,
            format!(
                "Found multiple manual partition assignments for partition {}",
                twice[0]
            ),
        ));
    }
    if !partitions
        .iter()
        .copied()
        .eq(0..PartitionIndex::try_from(partitions.len()).unwrap_or(0))
    {
        return Err(refuse(
            ErrorCode::InvalidReplicaAssignment,
            "partitions should be a consecutive 0-based integer sequence",
        ));
    }
    let factor = check_replicas(
        new.assignments
            .iter()
            .map(|(_, replicas)| replicas.as_slice()),
    )?;
    Ok((
        PartitionIndex::try_from(partitions.len()).unwrap_or(PartitionIndex::MAX),
        factor,
    ))
}

/// Checks lists of replicas and returns their common length.
pub(super) fn check_replicas<'a>(lists: impl Iterator<Item = &'a [i32]>) -> Result<i16, Refusal> {
    let fault = |message: String| Err(refuse(ErrorCode::InvalidReplicaAssignment, message));
    let mut length = None;
    for replicas in lists {
        let mut sorted = replicas.to_vec();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let broker = twice[0];
            return fault(format!(
                "The manual partition assignment includes the broker {broker} more than once."
            ));
        }
        match sorted.first() {
            None => {
                return fault(
                    "The manual partition assignment includes an empty replica list.".to_owned(),
                );
            }
            Some(negative) if *negative < 0 => {
                return fault(format!(
                    "The manual partition assignment includes broker {negative}, but no such \
                     broker is registered."
                ));
            }
            Some(_) => {}
        }
        let expected = *length.get_or_insert(replicas.len());
        if replicas.len() != expected {
            return fault(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this \
                 is not consistent with previous partitions, which have {expected} replica(s).",
                replicas.len()
            ));
        }
    }
    Ok(i16::try_from(length.unwrap_or(1)).unwrap_or(i16::MAX))
}
