//! A cluster's status for a person and for a script.

use std::collections::BTreeMap;

use alluvium_cluster::{
    AgentCondition, AgentStatus, ArchiveStatus, ArchiveTrouble, ClusterStatus, VoterId, VoterStatus,
};
use serde_json::{Value, json};

use super::reach::Part;

/// Rows as columns of equal width.
pub(super) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!(" {cell:<width$} "));
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn ago(millis: Option<u64>) -> String {
    millis.map_or_else(|| "-".to_owned(), |millis| format!("{} ago", span(millis)))
}

/// By number, as people count.
fn in_order<T, K: Ord>(items: &[T], key: impl Fn(&T) -> K) -> Vec<&T> {
    let mut sorted: Vec<&T> = items.iter().collect();
    sorted.sort_by_key(|item| key(item));
    sorted
}

/// A time as people say it.
fn span(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", millis / 60_000, millis / 1000 % 60),
        _ => format!("{}h{:02}m", millis / 3_600_000, millis / 60_000 % 60),
    }
}

/// Everything, for a person.
pub(super) fn table(status: &ClusterStatus) -> Vec<String> {
    let mut lines = vec![format!(
        "cluster {}{}",
        or_dash(status.cluster),
        match status.restores {
            0 => String::new(),
            1 => ", restored from its bucket once".to_owned(),
            times => format!(", restored from its bucket {times} times"),
        }
    )];
    lines.push(format!(
        "leader {}, term {}, committed {}",
        or_dash(status.leader),
        status.term,
        status.committed
    ));
    lines.push(String::new());
    lines.push("metadata nodes".to_owned());
    let mut rows = vec![row(["node", "address", "role", "holds", "lag", "heard of"])];
    rows.extend(
        status
            .voters
            .iter()
            .map(|voter| voter_row(voter, status.leader)),
    );
    lines.extend(columns(&rows));
    lines.push(String::new());
    lines.extend(agents(&status.agents));
    lines.push(format!("archive  {}", archive(status.archive.as_ref())));
    lines.push(String::new());
    if status.advice.is_empty() {
        lines.push("healthy".to_owned());
    } else {
        lines.push("to do".to_owned());
        lines.extend(status.advice.iter().map(|advice| format!("  - {advice}")));
    }
    lines
}

fn voter_row(voter: &VoterStatus, leader: Option<VoterId>) -> Vec<String> {
    let role = if Some(voter.id) == leader {
        "leader"
    } else if !voter.votes {
        "learner"
    } else if voter.reachable {
        "voter"
    } else {
        "voter, silent"
    };
    let is_leader = Some(voter.id) == leader;
    vec![
        voter.id.to_string(),
        voter.address.clone(),
        role.to_owned(),
        or_dash(voter.last_index),
        or_dash(voter.lag),
        if is_leader {
            "-".to_owned()
        } else {
            ago(voter.contact_millis)
        },
    ]
}

/// The agents, and how many each zone has.
fn agents(agents: &[AgentStatus]) -> Vec<String> {
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for agent in agents {
        *zones
            .entry(agent.zone.as_deref().unwrap_or("(none)"))
            .or_default() += 1;
    }
    let zones: Vec<String> = zones
        .iter()
        .map(|(zone, count)| format!("{zone}: {count}"))
        .collect();
    let mut lines = vec![match agents.len() {
        0 => "agents: none".to_owned(),
        count => format!("agents: {count} (zones {})", zones.join(", ")),
    }];
    if !agents.is_empty() {
        let mut rows = vec![row([
            "agent",
            "address",
            "zone",
            "state",
            "lease renewed",
            "view lag",
        ])];
        rows.extend(agents.iter().map(|agent| {
            vec![
                agent.id.to_string(),
                format!("{}:{}", agent.host, agent.port),
                or_dash(agent.zone.as_deref()),
                condition(agent.condition).to_owned(),
                ago(agent.renewed_millis),
                or_dash(agent.view_lag),
            ]
        }));
        lines.extend(columns(&rows));
    }
    lines.push(String::new());
    lines
}

const fn condition(condition: AgentCondition) -> &'static str {
    match condition {
        AgentCondition::Live => "live",
        AgentCondition::Draining => "draining",
    }
}

fn archive(archive: Option<&ArchiveStatus>) -> String {
    let Some(archive) = archive.filter(|archive| archive.next_index > 0) else {
        return "nothing yet: the metadata nodes' disks hold the only copy of the metadata"
            .to_owned();
    };
    let mut text = format!("entries below {} are in the bucket", archive.next_index);
    if archive.behind_millis > 0 {
        text.push_str(&format!(", {} behind", span(archive.behind_millis)));
    }
    if let Some(trouble) = archive.error {
        text.push_str(match trouble {
            ArchiveTrouble::Store => "; the store did not take the last piece",
            ArchiveTrouble::Fenced => "; the bucket says that this cluster was restored elsewhere",
        });
    }
    text
}

/// Everything, for a script.
pub(super) fn json(status: &ClusterStatus) -> Value {
    let voters = in_order(&status.voters, |voter| (voter.id.node(), voter.id));
    let voters = voters.iter().map(|voter| {
        json!({
            "id": voter.id.to_string(),
            "node": voter.id.node(),
            "address": voter.address,
            "leader": Some(voter.id) == status.leader,
            "votes": voter.votes,
            "last_index": voter.last_index,
            "lag": voter.lag,
            "contact_millis": voter.contact_millis,
            "reachable": voter.reachable,
        })
    });
    let agents = status.agents.iter().map(|agent| {
        json!({
            "id": agent.id.0,
            "host": agent.host,
            "port": agent.port,
            "zone": agent.zone,
            "state": condition(agent.condition),
            "renewed_millis": agent.renewed_millis,
            "view_lag": agent.view_lag,
        })
    });
    let archive = status.archive.as_ref().map(|archive| {
        json!({
            "next_index": archive.next_index,
            "behind_millis": archive.behind_millis,
            "error": archive.error.map(|trouble| match trouble {
                ArchiveTrouble::Store => "store",
                ArchiveTrouble::Fenced => "fenced",
            }),
        })
    });
    json!({
        "source": "leader",
        "cluster": status.cluster.map(|id| id.to_string()),
        "restores": status.restores,
        "leader": status.leader.map(|leader| leader.to_string()),
        "term": status.term,
        "committed": status.committed,
        "voters": voters.collect::<Vec<_>>(),
        "agents": agents.collect::<Vec<_>>(),
        "archive": archive,
        "advice": status.advice,
        "healthy": status.advice.is_empty(),
    })
}

fn voter_name(id: i32, directory: [u8; 16]) -> String {
    VoterId::of_directory(directory).map_or_else(|| id.to_string(), |voter| voter.to_string())
}

/// What Kafka's protocol tells, for a person.
pub(super) fn table_by_kafka(part: &Part) -> Vec<String> {
    let Part {
        cluster,
        quorum,
        reason,
    } = part;
    let mut lines = vec![
        format!("cluster {}", cluster.id),
        format!(
            "leader {}, term {}, committed {}",
            quorum.leader,
            quorum.term,
            quorum.high_watermark - 1
        ),
        String::new(),
        "metadata nodes".to_owned(),
    ];
    let mut rows = vec![row(["node", "address", "role", "lag"])];
    let voters = in_order(&quorum.voters, |voter| (voter.id, voter.directory));
    rows.extend(voters.iter().map(|voter| {
        let role = if voter.id == quorum.leader {
            "leader"
        } else {
            "voter"
        };
        vec![
            voter_name(voter.id, voter.directory),
            or_dash(voter.address.as_deref()),
            role.to_owned(),
            or_dash(
                voter
                    .log_end
                    .map(|end| (quorum.high_watermark - end).max(0)),
            ),
        ]
    }));
    lines.extend(columns(&rows));
    lines.push(String::new());
    lines.push(format!("agents: {}", cluster.brokers.len()));
    let mut rows = vec![row(["agent", "address", "zone", "state"])];
    rows.extend(cluster.brokers.iter().map(|broker| {
        let state = if broker.fenced { "fenced" } else { "live" };
        vec![
            broker.id.to_string(),
            broker.address.clone(),
            or_dash(broker.rack.as_deref()),
            state.to_owned(),
        ]
    }));
    lines.extend(columns(&rows));
    lines.push(String::new());
    lines.push(format!(
        "there is more to tell, but the metadata nodes were not reached: {reason}"
    ));
    lines
}

/// What Kafka's protocol tells, for a script.
pub(super) fn json_by_kafka(part: &Part) -> Value {
    let Part {
        cluster,
        quorum,
        reason,
    } = part;
    let voters = in_order(&quorum.voters, |voter| (voter.id, voter.directory));
    let voters = voters.iter().map(|voter| {
        json!({
            "id": voter_name(voter.id, voter.directory),
            "node": voter.id,
            "address": voter.address,
            "leader": voter.id == quorum.leader,
            "votes": true,
            "lag": voter.log_end.map(|end| (quorum.high_watermark - end).max(0)),
        })
    });
    let agents = cluster.brokers.iter().map(|broker| {
        json!({
            "id": broker.id,
            "address": broker.address,
            "zone": broker.rack,
            "state": if broker.fenced { "fenced" } else { "live" },
        })
    });
    json!({
        "source": "kafka",
        "reason": reason,
        "cluster": cluster.id,
        "leader": quorum.leader,
        "term": quorum.term,
        "committed": quorum.high_watermark - 1,
        "voters": voters.collect::<Vec<_>>(),
        "agents": agents.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use alluvium_types::AgentId;

    use super::*;

    fn status() -> ClusterStatus {
        let leader = VoterId::new(0xab, 1);
        let voter = |id: VoterId| VoterStatus {
            id,
            address: format!("m{}:9094", id.node()),
            votes: true,
            last_index: Some(7),
            lag: Some(0),
            contact_millis: Some(40),
            reachable: true,
        };
        ClusterStatus {
            leader: Some(leader),
            term: 3,
            committed: 7,
            voters: vec![voter(leader), voter(VoterId::new(0xcd, 2))],
            agents: vec![AgentStatus {
                id: AgentId(1),
                host: "a1".to_owned(),
                port: 9092,
                zone: Some("eu-1a".to_owned()),
                condition: AgentCondition::Draining,
                renewed_millis: Some(61_500),
                view_lag: Some(2),
            }],
            advice: vec!["start node 3".to_owned()],
            ..ClusterStatus::default()
        }
    }

    #[test]
    fn a_person_sees_nodes_zones_leases_and_what_to_do() {
        let text = table(&status()).join("\n");
        for expected in [
            "leader 1-000000ab, term 3, committed 7",
            "m2:9094",
            "40ms ago",
            "agents: 1 (zones eu-1a: 1)",
            "draining",
            "1m01s ago",
            "archive  nothing yet",
            "to do\n  - start node 3",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        let healthy = ClusterStatus {
            advice: Vec::new(),
            ..status()
        };
        assert!(table(&healthy).join("\n").ends_with("healthy"));
    }

    #[test]
    fn a_script_gets_the_same_as_json() {
        let value = json(&status());
        assert_eq!(value["voters"][1]["node"], 2);
        assert_eq!(value["voters"][0]["leader"], true);
        assert_eq!(value["agents"][0]["state"], "draining");
        assert_eq!(value["healthy"], false);
        assert_eq!(value["archive"], Value::Null);
    }
}
