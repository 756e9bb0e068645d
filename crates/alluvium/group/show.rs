//! `alluvium group describe`: state, members, and lag per partition.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::{Value, json};

use alluvium_client::{
    Client, GroupInfo, ListedGroup, MemberInfo, TopicPartition, describe_group, group_offsets,
    list_groups, list_offsets, share_group_offsets,
};
use alluvium_types::Offset;

use super::no_such;
use crate::failure::Failure;
use crate::output::{Output, say};

/// What ListOffsets calls the end of a partition.
const END: i64 = -1;

/// Arguments of `alluvium group describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Their names.
    #[arg(required_unless_present = "all_groups")]
    groups: Vec<String>,
    /// Every group of the cluster.
    #[arg(long, conflicts_with = "groups")]
    all_groups: bool,
    /// Only the state.
    #[arg(long)]
    state: bool,
    /// Only the members and what is assigned to them.
    #[arg(long)]
    members: bool,
    /// Only the offsets: committed, end of the log, lag.
    #[arg(long)]
    offsets: bool,
    /// JSON, a line for each group, with everything.
    #[arg(long)]
    json: bool,
}

/// Where a group is in a partition.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    topic: &'a str,
    partition: i32,
    committed: Option<Offset>,
    end: Option<Offset>,
    member: Option<&'a MemberInfo>,
}

impl Place<'_> {
    /// How many offsets are left; never below zero, for the end is read at another moment.
    fn lag(&self) -> Option<Offset> {
        Some((self.end? - self.committed?).max(0))
    }
}

/// Runs `alluvium group describe`.
pub(crate) async fn run(client: &Client, args: &DescribeArgs) -> Result<(), Failure> {
    let mut listed = list_groups(client).await?;
    for name in &args.groups {
        if !listed.iter().any(|group| group.group == *name) {
            return Err(no_such(name));
        }
    }
    listed.retain(|group| args.all_groups || args.groups.contains(&group.group));
    let mut out = Output::new();
    for (index, group) in listed.iter().enumerate() {
        if index > 0 && !args.json {
            out.line(b"")?;
        }
        describe(client, args, group, &mut out).await?;
    }
    out.flush()
}

async fn describe(
    client: &Client,
    args: &DescribeArgs,
    listed: &ListedGroup,
    out: &mut Output,
) -> Result<(), Failure> {
    let info = describe_group(client, listed).await?;
    let committed = match info.kind.as_str() {
        "share" => share_group_offsets(client, &info.group).await?,
        _ => group_offsets(client, &info.group).await?,
    };
    let partitions: Vec<TopicPartition> = partitions(&info, &committed).into_iter().collect();
    let ends = list_offsets(client, &partitions, END).await?;
    let places = places(&info, &partitions, &committed, &ends);
    if args.json {
        return out.line(as_json(listed, &info, &places).to_string().as_bytes());
    }
    let all = !args.state && !args.members && !args.offsets;
    if args.state || all {
        let (group, members) = (&info.group, info.members.len());
        let mut line = format!("group {group}  {}  {}", info.kind, info.state);
        if !info.assignor.is_empty() {
            line.push_str(&format!("  assignor {}", info.assignor));
        }
        if let Some(epoch) = info.epoch {
            line.push_str(&format!("  epoch {epoch}"));
        }
        line.push_str(&format!("  {members} members"));
        out.line(line.as_bytes())?;
    }
    if args.members && info.kind == "streams" {
        let group = &info.group;
        say(&format!(
            "group {group} is a streams group: Kafka's kafka-streams-groups.sh shows its members"
        ));
    } else if args.members {
        show_members(&info, out)?;
    }
    if args.offsets || all {
        show_offsets(&places, out)?;
    }
    Ok(())
}

/// What the group has committed or is assigned.
fn partitions(
    info: &GroupInfo,
    committed: &BTreeMap<TopicPartition, Offset>,
) -> BTreeSet<TopicPartition> {
    let mut partitions: BTreeSet<TopicPartition> = committed.keys().cloned().collect();
    for (topic, assigned) in info.members.iter().flat_map(|member| &member.assigned) {
        partitions.extend(assigned.iter().map(|partition| (topic.clone(), *partition)));
    }
    partitions
}

fn places<'a>(
    info: &'a GroupInfo,
    partitions: &'a [TopicPartition],
    committed: &BTreeMap<TopicPartition, Offset>,
    ends: &BTreeMap<TopicPartition, Offset>,
) -> Vec<Place<'a>> {
    let place = |of: &'a TopicPartition| {
        let (topic, partition) = of;
        let member = info.members.iter().find(|member| {
            let assigned = member.assigned.get(topic);
            assigned.is_some_and(|assigned| assigned.contains(partition))
        });
        Place {
            topic,
            partition: *partition,
            committed: committed.get(of).copied(),
            end: ends.get(of).copied(),
            member,
        }
    };
    partitions.iter().map(place).collect()
}

fn show_members(info: &GroupInfo, out: &mut Output) -> Result<(), Failure> {
    let mut rows = vec![["MEMBER", "INSTANCE", "HOST", "CLIENT", "ASSIGNED"].map(str::to_owned)];
    for member in &info.members {
        rows.push([
            member.member.clone(),
            member.instance.clone().unwrap_or_else(|| "-".to_owned()),
            member.host.clone(),
            member.client.clone(),
            assigned(member),
        ]);
    }
    out.table(&rows)
}

/// `orders:0,1 clicks:2`.
fn assigned(member: &MemberInfo) -> String {
    let topic = |(name, partitions): (&String, &Vec<i32>)| {
        let numbers: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        format!("{name}:{}", numbers.join(","))
    };
    let topics: Vec<String> = member.assigned.iter().map(topic).collect();
    match topics.is_empty() {
        true => "-".to_owned(),
        false => topics.join(" "),
    }
}

fn show_offsets(places: &[Place<'_>], out: &mut Output) -> Result<(), Failure> {
    let head = [
        "TOPIC",
        "PARTITION",
        "COMMITTED",
        "END",
        "LAG",
        "MEMBER",
        "HOST",
        "CLIENT",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    let number = |value: Option<Offset>| match value {
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    };
    for place in places {
        let of_member = |field: fn(&MemberInfo) -> &String| match place.member {
            Some(member) => field(member).clone(),
            None => "-".to_owned(),
        };
        rows.push([
            place.topic.to_owned(),
            place.partition.to_string(),
            number(place.committed),
            number(place.end),
            number(place.lag()),
            of_member(|member| &member.member),
            of_member(|member| &member.host),
            of_member(|member| &member.client),
        ]);
    }
    out.table(&rows)
}

fn as_json(listed: &ListedGroup, info: &GroupInfo, places: &[Place<'_>]) -> Value {
    let members = info.members.iter().map(|member| {
        json!({
            "member": member.member,
            "instance": member.instance,
            "client": member.client,
            "host": member.host,
            "assigned": member.assigned,
        })
    });
    let offsets = places.iter().map(|place| {
        json!({
            "topic": place.topic,
            "partition": place.partition,
            "committed": place.committed,
            "end": place.end,
            "lag": place.lag(),
            "member": place.member.map(|member| &member.member),
        })
    });
    json!({
        "group": info.group,
        "type": info.kind,
        "protocol": listed.protocol,
        "state": info.state,
        "assignor": info.assignor,
        "epoch": info.epoch,
        "members": members.collect::<Vec<_>>(),
        "offsets": offsets.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_shown_when_it_is_committed_or_assigned() {
        let info = GroupInfo {
            members: vec![MemberInfo {
                member: "m".to_owned(),
                assigned: BTreeMap::from([("t".to_owned(), vec![1, 2])]),
                ..MemberInfo::default()
            }],
            ..GroupInfo::default()
        };
        let at = |partition| ("t".to_owned(), partition);
        let committed = BTreeMap::from([(at(0), 4), (at(1), 7)]);
        let ends = BTreeMap::from([(at(0), 10), (at(1), 6), (at(2), 3)]);
        let all: Vec<_> = partitions(&info, &committed).into_iter().collect();
        let shown = places(&info, &all, &committed, &ends);
        let lags: Vec<_> = shown.iter().map(Place::lag).collect();
        assert_eq!(lags, [Some(6), Some(0), None]);
        let owned: Vec<_> = shown.iter().map(|place| place.member.is_some()).collect();
        assert_eq!(owned, [false, true, true]);
    }
}
