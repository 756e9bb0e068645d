//! A connection to an agent over which produces are pipelined.

use std::sync::Arc;

use alluvium_agent::Agent;
use alluvium_agent::produce::{Acks, PartitionRecords, Pending};
use alluvium_metadata::InTransaction;
use alluvium_protocol::produce::ProduceResult;
use alluvium_types::ErrorCode;
use tokio::sync::{mpsc, oneshot};

use crate::cluster::Cluster;
use crate::host::{Host, Port};
use crate::network::Network;

type Answer = oneshot::Sender<Vec<ProduceResult>>;

/// Requests go out in order and are answered in order. When it breaks, what was not answered is not
/// known.
pub(super) struct Session {
    requests: mpsc::UnboundedSender<(Vec<PartitionRecords>, Answer)>,
}

/// What becomes of a request.
enum Turn {
    Submitted(Pending),
    /// For so many partitions: nobody knows whether they are there.
    Refused(usize),
}

struct Ends {
    network: Arc<Network>,
    client: Host,
    port: Port,
    agent: Arc<Agent>,
    acks: Acks,
}

impl Session {
    /// Connects, if the agent runs.
    pub(super) fn open(cluster: &Cluster, client: Host, agent: usize, acks: Acks) -> Option<Self> {
        let (port, agent) = cluster.running(agent)?;
        let ends = Ends {
            network: Arc::clone(&cluster.network),
            client,
            port,
            agent,
            acks,
        };
        let (requests, asked) = mpsc::unbounded_channel();
        tokio::spawn(carry(ends, asked));
        Some(Self { requests })
    }

    /// Sends; the answer comes, or is dropped with the connection.
    pub(super) fn send(
        &self,
        records: Vec<PartitionRecords>,
    ) -> oneshot::Receiver<Vec<ProduceResult>> {
        let (answer, answered) = oneshot::channel();
        // An error drops the answer, which says it all.
        let _ = self.requests.send((records, answer));
        answered
    }
}

async fn carry(ends: Ends, mut asked: mpsc::UnboundedReceiver<(Vec<PartitionRecords>, Answer)>) {
    let ends = Arc::new(ends);
    let connection = ends.agent.produce.connect();
    let (back, answers) = mpsc::unbounded_channel();
    tokio::spawn(bring_back(Arc::clone(&ends), answers));
    while let Some((records, answer)) = asked.recv().await {
        let arrived = ends.network.pass(ends.client, ends.port.host).await;
        if arrived.is_err() || ends.port.is_dead() || back.is_closed() {
            return;
        }
        let known = |records: &PartitionRecords| {
            let found =
                |state: &alluvium_metadata::State| state.partition(records.partition).is_some();
            ends.agent.metadata.read(found)
        };
        let mut is_certain = true;
        if !records.iter().all(known) {
            // As the server does: another agent may have made the topic.
            let caught_up = ends.port.living(ends.agent.catch_up()).await;
            is_certain = caught_up.is_some_and(|caught_up| caught_up.is_ok());
        }
        let turn = if is_certain || records.iter().all(known) {
            // It is of no consequence for batches outside transactions.
            Turn::Submitted(connection.submit_in(records, ends.acks, InTransaction::Joins))
        } else {
            Turn::Refused(records.len())
        };
        if back.send((turn, answer)).is_err() {
            return;
        }
    }
}

async fn bring_back(ends: Arc<Ends>, mut answers: mpsc::UnboundedReceiver<(Turn, Answer)>) {
    while let Some((turn, answer)) = answers.recv().await {
        let results = match turn {
            Turn::Refused(partitions) => {
                let text = "the quorum does not say whether this topic exists";
                vec![ProduceResult::refused(ErrorCode::NotLeaderOrFollower, text); partitions]
            }
            Turn::Submitted(pending) => match ends.port.living(pending).await {
                Some(Ok(results)) => results,
                _ => return,
            },
        };
        if ends
            .network
            .pass(ends.port.host, ends.client)
            .await
            .is_err()
        {
            return;
        }
        let _ = answer.send(results);
    }
}
