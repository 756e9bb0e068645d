//! `alluvium group`: list, describe, reset, delete.

mod reset;
mod show;

use clap::{Args, Subcommand};
use serde_json::json;

use alluvium_client::{
    Client, ListedGroup, TopicPartition, delete_group, delete_offsets, list_groups,
};

use crate::bootstrap::Bootstrap;
use crate::failure::Failure;
use crate::output::{Output, confirmed, say};

/// Arguments of `alluvium group`.
#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    bootstrap: Bootstrap,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List groups.
    List {
        /// Only those in one of these states, such as Stable or Empty: comma-separated.
        #[arg(long, value_delimiter = ',')]
        state: Vec<String>,
        /// Only those of one of these types: classic, consumer, share, streams.
        #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
        kind: Vec<String>,
        /// JSON, a line each.
        #[arg(long)]
        json: bool,
    },
    /// Show groups: state, members and how far behind they are.
    Describe(show::DescribeArgs),
    /// Move what a group without members has committed; shows what would be done unless --execute.
    Reset(reset::ResetArgs),
    /// Delete groups with all that they have committed.
    Delete {
        /// Their names.
        #[arg(required = true)]
        groups: Vec<String>,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Have a group forget what it has committed for topics.
    DeleteOffsets {
        /// Its name.
        group: String,
        /// A topic, all of it or some partitions: orders or orders:0,3. May be given more than once.
        #[arg(long = "topic", value_name = "TOPIC[:P,P]", required = true)]
        topics: Vec<String>,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// Runs `alluvium group`.
pub(crate) async fn run(args: GroupArgs) -> Result<(), Failure> {
    let client = args.bootstrap.connect().await?;
    match args.action {
        Action::List { state, kind, json } => list(&client, &state, &kind, json).await,
        Action::Describe(args) => show::run(&client, &args).await,
        Action::Reset(args) => reset::run(&client, &args).await,
        Action::Delete { groups, yes } => delete(&client, &groups, yes).await,
        Action::DeleteOffsets { group, topics, yes } => forget(&client, &group, &topics, yes).await,
    }
}

async fn list(
    client: &Client,
    states: &[String],
    kinds: &[String],
    json: bool,
) -> Result<(), Failure> {
    let mut groups = list_groups(client).await?;
    groups.retain(|group| one_of(states, &group.state) && one_of(kinds, &group.kind));
    let mut out = Output::new();
    if json {
        for group in &groups {
            let line = json!({
                "group": group.group,
                "type": group.kind,
                "protocol": group.protocol,
                "state": group.state,
            });
            out.line(line.to_string().as_bytes())?;
        }
        return out.flush();
    }
    let mut rows = vec![["GROUP", "TYPE", "PROTOCOL", "STATE"].map(str::to_owned)];
    for group in groups {
        rows.push([group.group, group.kind, group.protocol, group.state]);
    }
    out.table(&rows)?;
    out.flush()
}

/// Whether a filter lets a value pass; an empty one lets all.
fn one_of(filter: &[String], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(value))
}

/// A group as the cluster lists it, if there is one of that name.
async fn find(client: &Client, name: &str) -> Result<Option<ListedGroup>, Failure> {
    let groups = list_groups(client).await?;
    Ok(groups.into_iter().find(|group| group.group == name))
}

fn no_such(group: &str) -> Failure {
    Failure::Failed(format!(
        "there is no group {group}; `alluvium group list` shows which there are"
    ))
}

async fn delete(client: &Client, groups: &[String], yes: bool) -> Result<(), Failure> {
    let names = groups.join(", ");
    if !yes && !confirmed(&format!("delete group {names} and what it has committed?"))? {
        say("nothing was deleted");
        return Ok(());
    }
    let mut failures = Vec::new();
    for group in groups {
        match delete_group(client, group).await {
            Ok(()) => say(&format!("deleted group {group}")),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Failure::unless_none(&failures)
}

async fn forget(client: &Client, group: &str, topics: &[String], yes: bool) -> Result<(), Failure> {
    let partitions = partitions_of(client, topics).await?;
    if !yes
        && !confirmed(&format!(
            "delete what group {group} has committed for these topics?"
        ))?
    {
        say("nothing was deleted");
        return Ok(());
    }
    delete_offsets(client, group, &partitions).await?;
    let count = partitions.len();
    say(&format!(
        "group {group} forgot its offsets of {count} partitions"
    ));
    Ok(())
}

/// The partitions that `TOPIC` or `TOPIC:P,P` name.
async fn partitions_of(client: &Client, names: &[String]) -> Result<Vec<TopicPartition>, Failure> {
    let mut partitions = Vec::new();
    for name in names {
        let (topic, wanted) = named(name)?;
        let topics = client.topics(Some(&[topic.as_str()])).await?;
        let known = topics.iter().flat_map(|topic| &topic.partitions);
        let known: Vec<i32> = known.map(|partition| partition.partition).collect();
        for partition in wanted.unwrap_or_else(|| known.clone()) {
            if !known.contains(&partition) {
                let count = known.len();
                let text = format!("topic {topic} has no partition {partition}: it has {count}");
                return Err(Failure::Failed(text));
            }
            let partition = (topic.clone(), partition);
            if !partitions.contains(&partition) {
                partitions.push(partition);
            }
        }
    }
    Ok(partitions)
}

/// Reads `TOPIC` or `TOPIC:P,P`.
fn named(text: &str) -> Result<(String, Option<Vec<i32>>), Failure> {
    let Some((topic, numbers)) = text.split_once(':') else {
        return Ok((text.to_owned(), None));
    };
    let numbers: Result<Vec<i32>, _> = numbers.split(',').map(|part| part.trim().parse()).collect();
    match numbers {
        Ok(numbers) if !topic.is_empty() => Ok((topic.to_owned(), Some(numbers))),
        _ => {
            let text = format!("--topic {text}: write TOPIC, or TOPIC:0,1 for some partitions");
            Err(Failure::Usage(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_named_with_or_without_partitions() {
        assert_eq!(named("orders").unwrap(), ("orders".to_owned(), None));
        let some = ("orders".to_owned(), Some(vec![0, 3]));
        assert_eq!(named("orders:0, 3").unwrap(), some);
        for wrong in ["orders:", "orders:x", ":1", "orders:0,,1"] {
            assert!(matches!(named(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn filters_look_past_capitals_and_an_empty_one_lets_all_pass() {
        assert!(one_of(&[], "Stable"));
        assert!(one_of(&["stable".to_owned()], "Stable"));
        assert!(!one_of(&["empty".to_owned()], "Stable"));
    }
}
