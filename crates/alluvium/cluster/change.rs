//! Forming a quorum, and changing who votes and leads.

use std::collections::HashSet;
use std::time::Duration;

use alluvium_cluster::{ChangeError, FormError, HelloAnswer, MembershipChange, Operator, VoterId};
use serde_json::json;

use super::{HELLO, done, done_json, find};
use crate::bootstrap::Bootstrap;
use crate::cluster::reach::Reach;
use crate::failure::Failure;

/// A node gets the whole log before it votes.
const CATCH_UP: Duration = Duration::from_secs(50);

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<FormError> for Failure {
    fn from(error: FormError) -> Self {
        Self::Failed(format!("the quorum was not formed: {error}"))
    }
}

/// `alluvium cluster init`.
pub(super) async fn init(reach: &Reach, json: bool) -> Result<(), Failure> {
    let nodes = reach.nodes();
    let Some(first) = nodes.first() else {
        let text = "name the metadata nodes that are to form the quorum: --nodes HOST:PORT,…";
        return Err(Failure::Usage(text.to_owned()));
    };
    let mut seen = HashSet::new();
    if let Some(twice) = nodes.iter().find(|node| !seen.insert(*node)) {
        return Err(Failure::Usage(format!("--nodes names {twice} twice")));
    }
    let operator = reach.operator(nodes.to_vec())?;
    let mut peers = Vec::with_capacity(nodes.len());
    for node in nodes {
        let answer = hello(&operator, node).await?;
        if answer.formed.is_some() {
            return Err(Failure::Failed(format!(
                "{node} belongs to a quorum already; to take other nodes into it, use `alluvium \
                 cluster add-voter`"
            )));
        }
        peers.push(answer.peer);
    }
    operator.form(first, nodes.to_vec()).await?;
    if json {
        let voters = peers.iter().map(|peer| {
            json!({ "id": peer.voter.to_string(), "node": peer.voter.node(), "address": peer.address })
        });
        return done_json(&json!({ "voters": voters.collect::<Vec<_>>() }));
    }
    let told: Vec<String> = peers.iter().map(ToString::to_string).collect();
    done(&format!("formed a quorum of {}", told.join(", ")));
    Ok(())
}

/// `alluvium cluster add-voter`.
pub(super) async fn add(
    bootstrap: &Bootstrap,
    reach: &Reach,
    address: &str,
) -> Result<(), Failure> {
    let newcomer = reach.operator(vec![address.to_owned()])?;
    // The leader must reach it; this machine need not.
    let answer = newcomer.hello(address, HELLO).await.ok();
    let voter = answer.as_ref().map(|answer| answer.peer.voter);
    let formed = answer.and_then(|answer| answer.formed);
    if let (Some(voter), Some(formed)) = (voter, formed)
        && formed.has(voter)
    {
        return Err(Failure::Failed(format!(
            "{address} (node {voter}) votes in a quorum already"
        )));
    }
    if reach.nodes().is_empty() {
        let client = bootstrap.connect().await?;
        let number = voter.map_or(-1, number_of);
        let directory = voter.map_or([0; 16], VoterId::directory);
        let host_and_port = parted(address)?;
        client
            .add_voter(number, directory, host_and_port, CATCH_UP)
            .await?;
    } else {
        let operator = reach.operator(reach.nodes().to_vec())?;
        let address = address.to_owned();
        operator
            .change(MembershipChange::Add { address, voter })
            .await?;
    }
    match voter {
        Some(voter) => done(&format!("node {voter} at {address} votes now")),
        None => done(&format!("the node at {address} votes now")),
    }
    Ok(())
}

fn parted(address: &str) -> Result<(&str, u16), Failure> {
    address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)))
        .ok_or_else(|| Failure::Usage(format!("{address:?} is not host:port")))
}

fn number_of(voter: VoterId) -> i32 {
    i32::try_from(voter.node()).unwrap_or(i32::MAX)
}

/// `alluvium cluster remove-voter`.
pub(super) async fn remove(
    bootstrap: &Bootstrap,
    reach: &Reach,
    text: &str,
) -> Result<(), Failure> {
    let voter = if reach.nodes().is_empty() {
        let client = bootstrap.connect().await?;
        let quorum = client.describe_quorum().await?;
        let known = quorum.voters.iter().chain(&quorum.observers);
        let voter = find(
            text,
            known.filter_map(|replica| VoterId::of_directory(replica.directory)),
        )?;
        client
            .remove_voter(number_of(voter), voter.directory())
            .await?;
        voter
    } else {
        let operator = reach.operator(reach.nodes().to_vec())?;
        let voter = find(text, voters(&operator).await?.into_iter())?;
        operator.change(MembershipChange::Remove { voter }).await?;
        voter
    };
    done(&format!(
        "node {voter} votes no more; its process can be stopped and its data directory removed"
    ));
    Ok(())
}

/// `alluvium cluster hand-over`.
pub(super) async fn hand_over(
    bootstrap: &Bootstrap,
    reach: &Reach,
    to: Option<&str>,
) -> Result<(), Failure> {
    let operator = reach.find(bootstrap).await?;
    let to = match to {
        Some(text) => Some(find(text, voters(&operator).await?.into_iter())?),
        None => None,
    };
    operator.change(MembershipChange::HandOver { to }).await?;
    let leader = operator
        .status()
        .await
        .ok()
        .and_then(|status| status.leader);
    match leader {
        Some(leader) => done(&format!("node {leader} leads now")),
        None => done("the leader has handed over"),
    }
    Ok(())
}

async fn voters(operator: &Operator) -> Result<Vec<VoterId>, Failure> {
    let status = operator.status().await;
    let status = status.map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(status.voters.iter().map(|voter| voter.id).collect())
}

async fn hello(operator: &Operator, address: &str) -> Result<HelloAnswer, Failure> {
    operator.hello(address, HELLO).await.map_err(|error| {
        Failure::Failed(format!(
            "{error}; is a metadata node with cluster.listen running there, and if it uses TLS, are \
             --tls-ca, --tls-certificate and --tls-key given?"
        ))
    })
}
