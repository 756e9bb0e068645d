//! Altering settings.

use ErrorCode::{InvalidConfig, InvalidRequest, UnknownTopicOrPartition};

use super::*;
use crate::topics::{Alteration, AlterationOp};
use AlterationOp::{Append, Delete, Set, Subtract};

/// Names and values.
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn alteration(op: AlterationOp, name: &str, value: Option<&str>) -> Alteration {
    Alteration {
        name: name.to_owned(),
        op,
        value: value.map(str::to_owned),
    }
}

fn configs(metadata: &Metadata) -> Vec<(String, String)> {
    metadata
        .read(|state| state.topic_by_name("t").unwrap().configs.clone())
        .into_iter()
        .collect()
}

fn pairs(pairs: Pairs) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn settings_are_set_deleted_appended_to_and_subtracted_from() {
    let topics = topics(&[]);
    let metadata = with_topic(&topics, &[("retention.ms", "5")]).await;
    let steps: &[(&[Alteration], Pairs)] = &[
        (
            &[alteration(Set, "segment.ms", Some(" 7 "))],
            &[("retention.ms", "5"), ("segment.ms", "7")],
        ),
        (
            &[
                alteration(Delete, "retention.ms", None),
                alteration(Delete, "foo", None),
            ],
            &[("segment.ms", "7")],
        ),
        (
            // The default, delete, is what is appended to.
            &[alteration(Append, "cleanup.policy", Some("compact"))],
            &[("cleanup.policy", "delete,compact"), ("segment.ms", "7")],
        ),
        (
            &[alteration(Append, "cleanup.policy", Some("compact"))],
            &[("cleanup.policy", "delete,compact"), ("segment.ms", "7")],
        ),
        (
            &[alteration(Subtract, "cleanup.policy", Some("delete"))],
            &[("cleanup.policy", "compact"), ("segment.ms", "7")],
        ),
    ];
    for (alterations, expected) in steps {
        topics
            .alter_topic(&metadata, "t", alterations, false, true)
            .await
            .unwrap();
        topics
            .alter_topic(&metadata, "t", alterations, false, false)
            .await
            .unwrap();
        assert_eq!(configs(&metadata), pairs(expected));
    }
    let replace = [alteration(Set, "flush.ms", Some("9"))];
    topics
        .alter_topic(&metadata, "t", &replace, true, true)
        .await
        .unwrap();
    assert_eq!(configs(&metadata).len(), 2);
    topics
        .alter_topic(&metadata, "t", &replace, true, false)
        .await
        .unwrap();
    assert_eq!(configs(&metadata), pairs(&[("flush.ms", "9")]));
    topics
        .alter_topic(&metadata, "t", &[], true, false)
        .await
        .unwrap();
    assert_eq!(configs(&metadata), []);
}

#[tokio::test]
async fn a_request_with_one_fault_changes_nothing() {
    let topics = topics(&[]);
    let metadata = with_topic(&topics, &[("max.compaction.lag.ms", "10")]).await;
    let before = configs(&metadata);
    let cases = [
        (
            vec![alteration(Set, "retention.ms", None)],
            InvalidRequest,
            "Null value not supported for : retention.ms",
        ),
        (
            vec![
                alteration(Set, "retention.ms", Some("1")),
                alteration(Delete, "retention.ms", None),
            ],
            InvalidRequest,
            "Error due to duplicate config keys",
        ),
        (
            vec![alteration(Append, "retention.ms", Some("1"))],
            InvalidConfig,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        ),
        (
            vec![alteration(Subtract, "retention.ms", Some("1"))],
            InvalidConfig,
            "Can't SUBTRACT to key retention.ms because its type is not LIST.",
        ),
        (
            vec![alteration(Append, "cleanup.policy", Some("shred"))],
            InvalidConfig,
            "Invalid value shred for configuration cleanup.policy: String must be one of: compact, \
             delete",
        ),
        (
            vec![
                alteration(Set, "flush.ms", Some("1")),
                alteration(Set, "min.insync.replicas", Some("0")),
            ],
            InvalidConfig,
            "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1",
        ),
        (
            vec![alteration(Set, "min.compaction.lag.ms", Some("11"))],
            InvalidConfig,
            "conflict topic config setting min.compaction.lag.ms (11) > max.compaction.lag.ms (10)",
        ),
        (
            vec![alteration(Set, "foo", Some("1"))],
            InvalidConfig,
            "Unknown topic config name: foo",
        ),
    ];
    for (alterations, code, message) in cases {
        let outcome = topics
            .alter_topic(&metadata, "t", &alterations, false, false)
            .await;
        assert_eq!(told(outcome), (code, message.to_owned()));
    }
    assert_eq!(configs(&metadata), before);
    let set = [alteration(Set, "retention.ms", Some("1"))];
    let unknown = topics
        .alter_topic(&metadata, "nobody", &set, false, false)
        .await;
    assert_eq!(
        told(unknown),
        (
            UnknownTopicOrPartition,
            "The topic 'nobody' does not exist.".to_owned()
        )
    );
    let default = topics.alter_topic(&metadata, "", &set, false, false).await;
    assert_eq!(told(default).0, InvalidRequest);
}

#[tokio::test]
async fn only_what_can_change_while_running_changes_for_the_cluster() {
    let topics = topics(&[]);
    let metadata = metadata().await;
    let set = |name: &str, value: &str| vec![alteration(Set, name, Some(value))];
    topics
        .alter_cluster(&metadata, &set("log.retention.ms", "60000"), false, false)
        .await
        .unwrap();
    let append = [alteration(Append, "log.cleanup.policy", Some("compact"))];
    topics
        .alter_cluster(&metadata, &append, false, false)
        .await
        .unwrap();
    metadata.read(|state| {
        assert_eq!(topics.broker_int(state, "log.retention.ms"), 60_000);
        let policy = topics.broker(state, "log.cleanup.policy");
        assert_eq!(policy.as_deref(), Some("delete,compact"));
    });
    let cases = [
        (
            set("num.partitions", "3"),
            "Cannot update these configs dynamically: [num.partitions]",
        ),
        (
            [set("log.dirs", "/x"), set("broker.id", "1")].concat(),
            "Cannot update these configs dynamically: [log.dirs, broker.id]",
        ),
        (
            set("message.max.bytes", "big"),
            "Invalid value big for configuration message.max.bytes: Not a number of type INT",
        ),
        (set("colour", "blue"), "Unknown broker config name: colour"),
        (
            set("log.retention.ms", "0"),
            "log.retention.ms must be unlimited (-1) or, equal or greater than 1",
        ),
    ];
    for (alterations, message) in cases {
        let outcome = topics
            .alter_cluster(&metadata, &alterations, false, false)
            .await;
        assert_eq!(told(outcome), (InvalidRequest, message.to_owned()));
    }
    let back = [alteration(Delete, "log.retention.ms", None)];
    topics
        .alter_cluster(&metadata, &back, false, false)
        .await
        .unwrap();
    metadata.read(|state| assert_eq!(topics.broker(state, "log.retention.ms"), None));
}
