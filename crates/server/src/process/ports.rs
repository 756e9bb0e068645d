//! The ports of a process, taken before anything else starts: a taken one is told at once, and
//! others must be told the real ones.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};

use crate::config::{self, Config, Role};
use crate::error::StartError;

/// What this process listens on.
#[derive(Debug)]
pub(crate) struct Ports {
    /// For Kafka clients, with the role of an agent.
    pub(crate) kafka: Option<Port>,
    /// For the other processes of the cluster, if they reach this one.
    pub(crate) cluster: Option<Port>,
    /// For people and load balancers.
    pub(crate) http: Option<TcpListener>,
}

/// A listener, where it really listens, and what others are told to connect to.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) advertised: (String, u16),
}

impl Ports {
    /// Takes them all.
    pub(crate) async fn take(config: &Config) -> Result<Self, StartError> {
        let kafka = if config.has(Role::Agent) {
            Some(take_kafka(&config.kafka).await?)
        } else {
            None
        };
        let cluster = match &config.cluster.listen {
            Some(listen) => Some(take_cluster(&config.cluster, listen).await?),
            None => None,
        };
        let http = take_http(&config.http).await?;
        Ok(Self {
            kafka,
            cluster,
            http,
        })
    }
}

impl Port {
    /// What others are told, as `host:port`.
    pub(crate) fn advertised(&self) -> String {
        let (host, port) = &self.advertised;
        if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

async fn take_kafka(kafka: &config::Kafka) -> Result<Port, StartError> {
    let (listener, address) = listen("kafka.listen", &kafka.listen).await?;
    let host = kafka
        .advertised_host
        .clone()
        .unwrap_or_else(|| host_of(address));
    let port = kafka.advertised_port.unwrap_or(address.port());
    Ok(Port {
        listener,
        address,
        advertised: (host, port),
    })
}

async fn take_cluster(cluster: &config::Cluster, text: &str) -> Result<Port, StartError> {
    let (listener, address) = listen("cluster.listen", text).await?;
    // The configuration's own words where there are any: they are what the other nodes list.
    let named = cluster.advertised.as_deref().unwrap_or(text);
    let advertised = match named
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse()))
    {
        Some((host, Ok(port))) if port != 0 => (host.to_owned(), port),
        _ => (host_of(address), address.port()),
    };
    Ok(Port {
        listener,
        address,
        advertised,
    })
}

/// A taken port ends the start only when somebody asked for that port.
async fn take_http(http: &config::Http) -> Result<Option<TcpListener>, StartError> {
    const KEY: &str = "http.listen";
    match http.listen.as_deref() {
        Some("off") => Ok(None),
        Some(text) => listen(KEY, text).await.map(|(listener, _)| Some(listener)),
        None => match listen(KEY, config::Http::DEFAULT_LISTEN).await {
            Ok((listener, _)) => Ok(Some(listener)),
            Err(error) => {
                tracing::warn!(%error, "going on without HTTP");
                Ok(None)
            }
        },
    }
}

/// Every address of the machine: somebody on this machine finds it at localhost.
fn host_of(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        "localhost".to_owned()
    } else {
        address.ip().to_string()
    }
}

async fn listen(key: &'static str, text: &str) -> Result<(TcpListener, SocketAddr), StartError> {
    let unknown = || StartError::Address {
        key,
        text: text.to_owned(),
    };
    let address = lookup_host(text)
        .await
        .map_err(|_| unknown())?
        .next()
        .ok_or_else(unknown)?;
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::AddrInUse {
            StartError::PortTaken { key, address }
        } else {
            StartError::Listen {
                key,
                address,
                source,
            }
        }
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
