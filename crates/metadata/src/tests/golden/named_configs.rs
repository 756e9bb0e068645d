//! Settings of groups and of client metrics subscriptions, part of version 4.

use super::*;

fn config_commands() -> Vec<Command> {
    let alter = |target, name: &str, value: &str| Command::AlterConfigs {
        target,
        replace: false,
        changes: vec![set(name, ConfigOp::Set(value.to_owned()))],
    };
    let group = ConfigTarget::Group("queue".to_owned());
    let metrics = ConfigTarget::ClientMetrics("all".to_owned());
    vec![
        alter(group, "share.auto.offset.reset", "earliest"),
        alter(metrics, "interval.ms", "60000"),
    ]
}

#[test]
fn golden_commands_that_name_what_they_configure_are_read_and_written_as_ever() {
    let commands = config_commands();
    let bytes = postcard::to_allocvec(&commands).unwrap();
    let golden = golden("commands-v4-named-configs.postcard", &bytes);
    assert_eq!(
        postcard::from_bytes::<Vec<Command>>(&golden).unwrap(),
        commands
    );
    assert_eq!(bytes, golden);
}

#[test]
fn a_golden_snapshot_with_named_configs_is_read_and_written_as_ever() {
    let mut cluster = Cluster::new(1);
    for command in config_commands() {
        assert_eq!(cluster.apply(command), Outcome::Done);
    }
    let state = &cluster.state;
    assert_eq!(state.configured_groups().count(), 1);
    assert_eq!(state.client_metrics().count(), 1);
    let bytes = state.to_snapshot();
    let golden = golden("state-v4-named-configs.snapshot", &bytes);
    assert_eq!(&State::from_snapshot(&golden).unwrap(), state);
    assert_eq!(bytes, golden);
}
