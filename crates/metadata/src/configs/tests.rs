use crate::testing::{Cluster, TOPIC};
use crate::{Change, Command, ConfigChange, ConfigOp, ConfigTarget, Outcome};
use alluvium_types::{ErrorCode, TopicId};

fn op(name: &str, op: ConfigOp) -> ConfigChange {
    ConfigChange {
        name: name.to_owned(),
        op,
    }
}

fn set(name: &str, value: &str) -> ConfigChange {
    op(name, ConfigOp::Set(value.to_owned()))
}

fn append(name: &str, default: &str, value: &str) -> ConfigChange {
    op(
        name,
        ConfigOp::Append {
            default: default.to_owned(),
            value: value.to_owned(),
        },
    )
}

fn subtract(name: &str, default: &str, value: &str) -> ConfigChange {
    op(
        name,
        ConfigOp::Subtract {
            default: default.to_owned(),
            value: value.to_owned(),
        },
    )
}

fn alter(replace: bool, changes: Vec<ConfigChange>) -> Command {
    Command::AlterConfigs {
        target: ConfigTarget::Topic(TOPIC),
        replace,
        changes,
    }
}

fn configs(cluster: &Cluster) -> Vec<(&str, &str)> {
    let topic = cluster.state.topic(TOPIC).unwrap();
    topic
        .configs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[test]
fn incremental_changes_keep_the_rest_and_replacing_forgets_it() {
    let mut cluster = Cluster::new(1);
    assert_eq!(
        cluster.apply(alter(false, vec![set("segment.ms", "5")])),
        Outcome::Done
    );
    assert_eq!(cluster.changes, [Change::Topics]);
    assert_eq!(
        configs(&cluster),
        [("retention.ms", "1000"), ("segment.ms", "5")]
    );
    cluster.apply(alter(false, vec![op("retention.ms", ConfigOp::Delete)]));
    assert_eq!(configs(&cluster), [("segment.ms", "5")]);
    cluster.apply(alter(true, vec![set("retention.ms", "6")]));
    assert_eq!(configs(&cluster), [("retention.ms", "6")]);
}

#[test]
fn lists_grow_without_duplicates_and_shrink() {
    let mut cluster = Cluster::new(1);
    let name = "cleanup.policy";
    cluster.apply(alter(true, vec![append(name, "delete", "compact, delete")]));
    assert_eq!(configs(&cluster), [(name, "delete,compact")]);
    cluster.apply(alter(false, vec![subtract(name, "delete", "delete,other")]));
    assert_eq!(configs(&cluster), [(name, "compact")]);
    cluster.apply(alter(
        false,
        vec![subtract(name, "", "compact"), append(name, "x", "")],
    ));
    assert_eq!(configs(&cluster), [(name, "")]);
}

#[test]
fn the_cluster_has_configs_of_its_own() {
    let mut cluster = Cluster::new(1);
    let changes = vec![set("num.partitions", "4")];
    let target = ConfigTarget::Cluster;
    cluster.apply(Command::AlterConfigs {
        target,
        replace: false,
        changes,
    });
    assert_eq!(cluster.state.cluster_configs()["num.partitions"], "4");
    let target = ConfigTarget::Topic(TopicId([1; 16]));
    let unknown = Command::AlterConfigs {
        target,
        replace: true,
        changes: Vec::new(),
    };
    assert_eq!(cluster.refused(unknown), ErrorCode::UnknownTopicId);
}
