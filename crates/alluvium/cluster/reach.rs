//! How the metadata nodes are reached: by their own addresses, or by asking an agent for them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alluvium_client::{Client, ClientError, ClusterInfo, QuorumInfo};
use alluvium_cluster::{ClusterStatus, Operator};
use alluvium_transport::{Http2Transport, TlsOptions, Transport};

use crate::bootstrap::Bootstrap;
use crate::failure::Failure;

/// Longest wait for the metadata nodes when agents can tell as much as matters.
const WHOLE: Duration = Duration::from_secs(5);

/// Where the metadata nodes are, and how connections to them are encrypted.
#[derive(Debug, clap::Args)]
pub(crate) struct Reach {
    /// Cluster addresses of metadata nodes to ask, host:port, comma-separated; without it the
    /// cluster at --bootstrap is asked for them.
    #[arg(long, global = true, value_name = "HOST:PORT,…", value_delimiter = ',')]
    nodes: Vec<String>,
    /// Certificates (PEM) that sign those of the metadata nodes, where they use TLS.
    #[arg(long, global = true, value_name = "FILE", requires_all = ["tls_certificate", "tls_key"])]
    tls_ca: Option<PathBuf>,
    /// The certificate (PEM) to show them.
    #[arg(long, global = true, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, global = true, value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

/// What was seen of a cluster.
#[derive(Debug)]
pub(crate) enum Seen {
    /// All that its leader knows.
    Whole(ClusterStatus),
    /// What Kafka's protocol tells.
    ByKafka(Part),
}

/// What Kafka's protocol tells of a cluster.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) cluster: ClusterInfo,
    pub(crate) quorum: QuorumInfo,
    /// Why there is not more.
    pub(crate) reason: String,
}

impl Reach {
    /// The nodes that were named.
    pub(crate) fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Somebody who asks these nodes.
    pub(crate) fn operator(&self, nodes: Vec<String>) -> Result<Operator, Failure> {
        let tls = match (&self.tls_ca, &self.tls_certificate, &self.tls_key) {
            (Some(ca), Some(certificate), Some(key)) => Some(TlsOptions {
                ca: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => None,
        };
        let transport: Arc<dyn Transport> =
            Http2Transport::new(tls).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Operator::new(nodes, transport))
    }

    /// Somebody who asks the cluster's metadata nodes, wherever they are.
    pub(crate) async fn find(&self, bootstrap: &Bootstrap) -> Result<Operator, Failure> {
        if !self.nodes.is_empty() {
            return self.operator(self.nodes.clone());
        }
        let quorum = bootstrap.connect().await?.describe_quorum().await?;
        let nodes = addresses(&quorum);
        if nodes.is_empty() {
            let text = "the cluster does not tell where its metadata nodes are: name them with \
                        --nodes HOST:PORT (their cluster.listen)";
            return Err(Failure::Failed(text.to_owned()));
        }
        self.operator(nodes)
    }

    /// How the cluster does.
    pub(crate) async fn status(&self, bootstrap: &Bootstrap) -> Result<Seen, Failure> {
        if !self.nodes.is_empty() {
            let operator = self.operator(self.nodes.clone())?;
            let status = operator.status().await;
            return status.map(Seen::Whole).map_err(|error| {
                Failure::Failed(format!(
                    "the metadata nodes at {} did not tell: {error}",
                    self.nodes.join(", ")
                ))
            });
        }
        let client = bootstrap.connect().await?;
        let quorum = match client.describe_quorum().await {
            Ok(quorum) => quorum,
            Err(error) => return Err(no_quorum(&client, error).await),
        };
        let nodes = addresses(&quorum);
        let reason = if nodes.is_empty() {
            "the metadata nodes have no address that others could reach".to_owned()
        } else {
            let operator = self.operator(nodes.clone())?;
            match tokio::time::timeout(WHOLE, operator.status()).await {
                Ok(Ok(status)) => return Ok(Seen::Whole(status)),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!(
                    "{} did not answer (if they use TLS, give --tls-ca, --tls-certificate and \
                     --tls-key)",
                    nodes.join(", ")
                ),
            }
        };
        Ok(Seen::ByKafka(Part {
            cluster: client.describe_cluster().await?,
            quorum,
            reason,
        }))
    }
}

/// Where the voters listen for the other processes of the cluster.
fn addresses(quorum: &QuorumInfo) -> Vec<String> {
    let voters = quorum.voters.iter();
    voters.filter_map(|voter| voter.address.clone()).collect()
}

/// An agent that answers while the quorum does not is worth telling.
async fn no_quorum(client: &Client, error: ClientError) -> Failure {
    let agents = match client.describe_cluster().await {
        Ok(cluster) => format!("; the agents it knew last: {}", cluster.brokers.len()),
        Err(_) => String::new(),
    };
    Failure::Failed(format!(
        "{} answers, the metadata quorum behind it does not: {error}{agents}; look at the metadata \
         nodes, or ask them with --nodes HOST:PORT",
        client.bootstrap()
    ))
}
