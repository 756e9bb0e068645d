//! Which API keys are served, in which versions.

use crate::messages::API_DESCRIPTORS;

/// An API that the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedApi {
    /// Its key on the wire.
    pub key: i16,
    /// Its name in Kafka's protocol guide.
    pub name: &'static str,
    /// Oldest version served.
    pub min: i16,
    /// Newest version served.
    pub max: i16,
}

impl ServedApi {
    const fn new(key: i16, name: &'static str, min: i16, max: i16) -> Self {
        Self {
            key,
            name,
            min,
            max,
        }
    }

    /// The oldest version that the ApiVersions answer names. It is [`Self::min`] but for Produce,
    /// where Kafka claims version 0: librdkafka takes a higher one for a broker without
    /// compression (KAFKA-18659).
    #[must_use]
    pub const fn advertised_min(&self) -> i16 {
        if self.key == PRODUCE { 0 } else { self.min }
    }

    /// Whether a request of this version is answered.
    #[must_use]
    pub const fn serves(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// The key of Produce.
pub const PRODUCE: i16 = 0;
/// The key of Fetch.
pub const FETCH: i16 = 1;
/// The key of ApiVersions, the one API that answers a version it does not know (KIP-511).
pub const API_VERSIONS: i16 = 18;

/// Everything that is served, by key. The ApiVersions answer, the dispatcher and
/// docs/compatibility.md are made from this table.
pub const SERVED: &[ServedApi] = &[
    ServedApi::new(PRODUCE, "Produce", 3, 13),
    ServedApi::new(FETCH, "Fetch", 4, 18),
    ServedApi::new(2, "ListOffsets", 1, 11),
    ServedApi::new(3, "Metadata", 0, 13),
    ServedApi::new(8, "OffsetCommit", 2, 10),
    ServedApi::new(9, "OffsetFetch", 1, 10),
    ServedApi::new(10, "FindCoordinator", 0, 6),
    ServedApi::new(11, "JoinGroup", 0, 9),
    ServedApi::new(12, "Heartbeat", 0, 4),
    ServedApi::new(13, "LeaveGroup", 0, 5),
    ServedApi::new(14, "SyncGroup", 0, 5),
    ServedApi::new(15, "DescribeGroups", 0, 6),
    ServedApi::new(16, "ListGroups", 0, 5),
    ServedApi::new(API_VERSIONS, "ApiVersions", 0, 4),
    ServedApi::new(19, "CreateTopics", 2, 7),
    ServedApi::new(20, "DeleteTopics", 1, 6),
    ServedApi::new(21, "DeleteRecords", 0, 2),
    ServedApi::new(22, "InitProducerId", 0, 5),
    ServedApi::new(23, "OffsetForLeaderEpoch", 2, 4),
    ServedApi::new(24, "AddPartitionsToTxn", 0, 5),
    ServedApi::new(25, "AddOffsetsToTxn", 0, 4),
    ServedApi::new(26, "EndTxn", 0, 5),
    ServedApi::new(27, "WriteTxnMarkers", 1, 2),
    ServedApi::new(28, "TxnOffsetCommit", 0, 5),
    ServedApi::new(32, "DescribeConfigs", 1, 4),
    ServedApi::new(33, "AlterConfigs", 0, 2),
    ServedApi::new(34, "AlterReplicaLogDirs", 1, 2),
    ServedApi::new(35, "DescribeLogDirs", 1, 5),
    ServedApi::new(37, "CreatePartitions", 0, 3),
    ServedApi::new(42, "DeleteGroups", 0, 2),
    ServedApi::new(43, "ElectLeaders", 0, 2),
    ServedApi::new(44, "IncrementalAlterConfigs", 0, 1),
    ServedApi::new(45, "AlterPartitionReassignments", 0, 1),
    ServedApi::new(46, "ListPartitionReassignments", 0, 0),
    ServedApi::new(47, "OffsetDelete", 0, 0),
    ServedApi::new(48, "DescribeClientQuotas", 0, 1),
    ServedApi::new(49, "AlterClientQuotas", 0, 1),
    ServedApi::new(55, "DescribeQuorum", 0, 2),
    ServedApi::new(57, "UpdateFeatures", 0, 2),
    ServedApi::new(60, "DescribeCluster", 0, 2),
    ServedApi::new(61, "DescribeProducers", 0, 0),
    ServedApi::new(64, "UnregisterBroker", 0, 0),
    ServedApi::new(65, "DescribeTransactions", 0, 0),
    ServedApi::new(66, "ListTransactions", 0, 2),
    ServedApi::new(68, "ConsumerGroupHeartbeat", 0, 1),
    ServedApi::new(69, "ConsumerGroupDescribe", 0, 1),
    ServedApi::new(74, "ListConfigResources", 0, 1),
    ServedApi::new(75, "DescribeTopicPartitions", 0, 0),
    ServedApi::new(76, "ShareGroupHeartbeat", 1, 1),
    ServedApi::new(77, "ShareGroupDescribe", 1, 1),
    ServedApi::new(78, "ShareFetch", 1, 2),
    ServedApi::new(79, "ShareAcknowledge", 1, 2),
    ServedApi::new(80, "AddRaftVoter", 0, 1),
    ServedApi::new(81, "RemoveRaftVoter", 0, 0),
    ServedApi::new(90, "DescribeShareGroupOffsets", 0, 1),
    ServedApi::new(91, "AlterShareGroupOffsets", 0, 0),
    ServedApi::new(92, "DeleteShareGroupOffsets", 0, 0),
];

/// Every API key that Kafka 4.x has, served or not, with its name.
pub const KNOWN: &[(i16, &str)] = &[
    (0, "Produce"),
    (1, "Fetch"),
    (2, "ListOffsets"),
    (3, "Metadata"),
    (8, "OffsetCommit"),
    (9, "OffsetFetch"),
    (10, "FindCoordinator"),
    (11, "JoinGroup"),
    (12, "Heartbeat"),
    (13, "LeaveGroup"),
    (14, "SyncGroup"),
    (15, "DescribeGroups"),
    (16, "ListGroups"),
    (17, "SaslHandshake"),
    (18, "ApiVersions"),
    (19, "CreateTopics"),
    (20, "DeleteTopics"),
    (21, "DeleteRecords"),
    (22, "InitProducerId"),
    (23, "OffsetForLeaderEpoch"),
    (24, "AddPartitionsToTxn"),
    (25, "AddOffsetsToTxn"),
    (26, "EndTxn"),
    (27, "WriteTxnMarkers"),
    (28, "TxnOffsetCommit"),
    (29, "DescribeAcls"),
    (30, "CreateAcls"),
    (31, "DeleteAcls"),
    (32, "DescribeConfigs"),
    (33, "AlterConfigs"),
    (34, "AlterReplicaLogDirs"),
    (35, "DescribeLogDirs"),
    (36, "SaslAuthenticate"),
    (37, "CreatePartitions"),
    (38, "CreateDelegationToken"),
    (39, "RenewDelegationToken"),
    (40, "ExpireDelegationToken"),
    (41, "DescribeDelegationToken"),
    (42, "DeleteGroups"),
    (43, "ElectLeaders"),
    (44, "IncrementalAlterConfigs"),
    (45, "AlterPartitionReassignments"),
    (46, "ListPartitionReassignments"),
    (47, "OffsetDelete"),
    (48, "DescribeClientQuotas"),
    (49, "AlterClientQuotas"),
    (50, "DescribeUserScramCredentials"),
    (51, "AlterUserScramCredentials"),
    (52, "Vote"),
    (53, "BeginQuorumEpoch"),
    (54, "EndQuorumEpoch"),
    (55, "DescribeQuorum"),
    (56, "AlterPartition"),
    (57, "UpdateFeatures"),
    (58, "Envelope"),
    (59, "FetchSnapshot"),
    (60, "DescribeCluster"),
    (61, "DescribeProducers"),
    (62, "BrokerRegistration"),
    (63, "BrokerHeartbeat"),
    (64, "UnregisterBroker"),
    (65, "DescribeTransactions"),
    (66, "ListTransactions"),
    (67, "AllocateProducerIds"),
    (68, "ConsumerGroupHeartbeat"),
    (69, "ConsumerGroupDescribe"),
    (70, "ControllerRegistration"),
    (71, "GetTelemetrySubscriptions"),
    (72, "PushTelemetry"),
    (73, "AssignReplicasToDirs"),
    (74, "ListConfigResources"),
    (75, "DescribeTopicPartitions"),
    (76, "ShareGroupHeartbeat"),
    (77, "ShareGroupDescribe"),
    (78, "ShareFetch"),
    (79, "ShareAcknowledge"),
    (80, "AddRaftVoter"),
    (81, "RemoveRaftVoter"),
    (82, "UpdateRaftVoter"),
    (83, "InitializeShareGroupState"),
    (84, "ReadShareGroupState"),
    (85, "WriteShareGroupState"),
    (86, "DeleteShareGroupState"),
    (87, "ReadShareGroupStateSummary"),
    (88, "StreamsGroupHeartbeat"),
    (89, "StreamsGroupDescribe"),
    (90, "DescribeShareGroupOffsets"),
    (91, "AlterShareGroupOffsets"),
    (92, "DeleteShareGroupOffsets"),
];

/// The entry for a key.
#[must_use]
pub fn served(key: i16) -> Option<&'static ServedApi> {
    SERVED.iter().find(|api| api.key == key)
}

/// The name for a key, served or not.
#[must_use]
pub fn name(key: i16) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|(known, _)| *known == key)
        .map(|(_, name)| *name)
}

/// Whether an API's version has tagged fields and compact lengths (KIP-482); its requests then have
/// header version 2. Versions newer than any known are taken to be flexible where the known ones
/// are.
#[must_use]
pub fn is_flexible(key: i16, version: i16) -> bool {
    API_DESCRIPTORS
        .iter()
        .find(|api| api.api_key.value() == key)
        .and_then(|api| api.flexible_versions)
        .is_some_and(|versions| version >= versions.min().value())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_agree() {
        assert!(SERVED.is_sorted_by(|a, b| a.key < b.key));
        assert!(KNOWN.is_sorted_by(|a, b| a.0 < b.0));
        for api in SERVED {
            assert_eq!(name(api.key), Some(api.name));
            let codec = API_DESCRIPTORS
                .iter()
                .find(|d| d.api_key.value() == api.key)
                .unwrap();
            assert!(
                codec.supported_versions.min().value() <= api.min,
                "{}",
                api.name
            );
            assert!(
                codec.supported_versions.max().value() >= api.max,
                "{}",
                api.name
            );
        }
    }

    #[test]
    fn kafka_4_3_has_89_request_apis() {
        assert_eq!(KNOWN.len(), 89);
    }

    #[test]
    fn produce_claims_version_0_but_does_not_serve_it() {
        let produce = served(PRODUCE).unwrap();
        assert_eq!(produce.advertised_min(), 0);
        assert!(!produce.serves(2));
        assert!(produce.serves(3));
        assert_eq!(served(FETCH).unwrap().advertised_min(), 4);
    }

    #[test]
    fn future_versions_keep_the_flexible_header() {
        assert!(!is_flexible(API_VERSIONS, 2));
        assert!(is_flexible(API_VERSIONS, 3));
        assert!(is_flexible(API_VERSIONS, i16::MAX));
        assert!(!is_flexible(1234, 5));
    }
}
