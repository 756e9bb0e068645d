//! A connection to an agent over which produces are pipelined.

use std::sync::Arc;

use alluvium_agent::Agent;
use alluvium_agent::produce::{PartitionRecords, Pending};
use alluvium_protocol::produce::ProduceResult;
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

struct Ends {
    network: Arc<Network>,
    client: Host,
    port: Port,
    agent: Arc<Agent>,
}

impl Session {
    /// Connects, if the agent runs.
    pub(super) fn open(cluster: &Cluster, client: Host, agent: usize) -> Option<Self> {
        let (port, agent) = cluster.running(agent)?;
        let ends = Ends {
            network: Arc::clone(&cluster.network),
            client,
            port,
            agent,
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
        if !records.iter().all(known) {
            // As the server does: another agent may have made the topic.
            let _ = ends.port.living(ends.agent.catch_up()).await;
        }
        if back.send((connection.submit(records), answer)).is_err() {
            return;
        }
    }
}

async fn bring_back(ends: Arc<Ends>, mut answers: mpsc::UnboundedReceiver<(Pending, Answer)>) {
    while let Some((pending, answer)) = answers.recv().await {
        let Some(Ok(results)) = ends.port.living(pending).await else {
            return;
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
