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

fn alter_named(target: &ConfigTarget, replace: bool, changes: Vec<ConfigChange>) -> Command {
    Command::AlterConfigs {
        target: target.clone(),
        replace,
        changes,
    }
}

#[test]
fn groups_have_settings_before_they_exist_and_are_forgotten_with_the_last_one() {
    let mut cluster = Cluster::new(1);
    let target = ConfigTarget::Group("queue".to_owned());
    let two = vec![set("a", "1"), set("b", "2")];
    cluster.apply(alter_named(&target, false, two));
    assert_eq!(cluster.changes, [Change::Groups]);
    assert_eq!(cluster.state.configured_groups().next(), Some("queue"));
    assert_eq!(cluster.state.group("queue"), None);
    assert_eq!(cluster.state.group_configs("other"), None);
    cluster.apply(alter_named(&target, true, vec![set("b", "3")]));
    let configs = cluster.state.group_configs("queue").unwrap();
    assert_eq!((configs.len(), configs["b"].as_str()), (1, "3"));
    cluster.apply(alter_named(&target, false, vec![op("b", ConfigOp::Delete)]));
    assert_eq!(cluster.state.configured_groups().next(), None);
}

#[test]
fn a_client_metrics_subscription_is_apart_from_a_group_of_its_name() {
    let mut cluster = Cluster::new(1);
    let target = ConfigTarget::ClientMetrics("queue".to_owned());
    cluster.apply(alter_named(&target, false, vec![set("metrics", "")]));
    assert_eq!(cluster.state.group_configs("queue"), None);
    let names: Vec<&str> = cluster
        .state
        .client_metrics()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["queue"]);
}
