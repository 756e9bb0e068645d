//! A cluster: its nodes, topics and coordinators.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Mutex;

use alluvium_protocol::message;
use alluvium_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, RequestResponsePair,
    metadata_request::MetadataRequestTopic,
};
use alluvium_types::TopicId;

use crate::connection::{Connection, Patience};
use crate::consumer::Isolation;
use crate::error::ClientError;

/// Tries at what may succeed a moment later.
const TRIES: u32 = 20;

/// Wait between two tries.
const BETWEEN: Duration = Duration::from_millis(250);

/// A cluster that is spoken to through its bootstrap addresses and the nodes that it names.
#[derive(Debug)]
pub struct Client {
    /// In the order in which they are tried; the first is the one that answered last.
    servers: Mutex<Vec<String>>,
    bootstrap: String,
    patience: Patience,
    connections: Mutex<BTreeMap<String, Connection>>,
    nodes: Mutex<BTreeMap<i32, String>>,
    isolation: Isolation,
}

/// Who shall answer a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Anybody that can be reached.
    Any,
    /// A node by its id.
    Node(i32),
    /// The coordinator of a group.
    Coordinator(String),
}

/// A topic as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id; zero where the server is too old to say.
    pub id: TopicId,
    /// Kept by the cluster for itself.
    pub internal: bool,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its index.
    pub partition: i32,
    /// The node to talk to.
    pub leader: i32,
    /// The nodes that are said to hold it.
    pub replicas: Vec<i32>,
    /// Those of them that are said to be in step.
    pub in_sync: Vec<i32>,
}

impl Client {
    /// Connects to a bootstrap server, `host:port`; the first that answers of a comma-separated list.
    ///
    /// # Errors
    /// None of them answers.
    pub async fn connect(bootstrap: &str) -> Result<Self, ClientError> {
        Self::connect_within(bootstrap, Patience::default()).await
    }

    /// As [`Self::connect`], with less patience or more.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_within(bootstrap: &str, patience: Patience) -> Result<Self, ClientError> {
        let mut last = ClientError::Usage("--bootstrap names no server".to_owned());
        let servers: Vec<String> = bootstrap
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        for address in servers.clone() {
            match Connection::open_within(&address, patience).await {
                Ok(connection) => {
                    let connections = BTreeMap::from([(address.clone(), connection)]);
                    let client = Self {
                        bootstrap: address.clone(),
                        servers: Mutex::new(servers),
                        patience,
                        connections: Mutex::new(connections),
                        nodes: Mutex::new(BTreeMap::new()),
                        isolation: Isolation::default(),
                    };
                    client.prefer(&address).await;
                    return Ok(client);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Has its consumers read in this way.
    #[must_use]
    pub fn reading(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    pub(crate) const fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Asks this server first from now on.
    async fn prefer(&self, address: &str) {
        let mut servers = self.servers.lock().await;
        servers.retain(|known| known != address);
        servers.insert(0, address.to_owned());
    }

    /// Asks this server last from now on.
    async fn avoid(&self, address: &str) {
        let mut servers = self.servers.lock().await;
        if let Some(at) = servers.iter().position(|known| known == address) {
            let moved = servers.remove(at);
            servers.push(moved);
        }
    }

    /// A connection to anybody.
    async fn anybody(&self) -> Result<(String, Connection), ClientError> {
        let mut servers = self.servers.lock().await.clone();
        for address in self.nodes.lock().await.values() {
            if !servers.contains(address) {
                servers.push(address.clone());
            }
        }
        let mut last = ClientError::Usage("--bootstrap names no server".to_owned());
        for address in servers {
            match self.open(&address).await {
                Ok(connection) => {
                    self.prefer(&address).await;
                    return Ok((address, connection));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn open(&self, address: &str) -> Result<Connection, ClientError> {
        // Taken out, so that one slow answer does not hold up the other servers.
        let known = self.connections.lock().await.remove(address);
        match known {
            Some(connection) => Ok(connection),
            None => Connection::open_within(address, self.patience).await,
        }
    }

    /// The nodes that the cluster has named so far, by id.
    pub async fn nodes(&self) -> BTreeMap<i32, String> {
        self.nodes.lock().await.clone()
    }

    /// The server that was reached first.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Sends a request and waits for its answer. A connection that broke is opened again for the
    /// next request.
    ///
    /// # Errors
    /// See [`ClientError`]; error codes in the answer are the caller's to read.
    pub async fn call<R: RequestResponsePair>(
        &self,
        target: &Target,
        ask: &R,
    ) -> Result<R::Response, ClientError> {
        self.call_up_to(target, ask, i16::MAX).await
    }

    /// As [`Self::call`], in no version above `newest`: for requests that name topics, which later
    /// versions do by id.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call_up_to<R: RequestResponsePair>(
        &self,
        target: &Target,
        ask: &R,
        newest: i16,
    ) -> Result<R::Response, ClientError> {
        let (address, mut connection) = match self.address(target).await? {
            None => self.anybody().await?,
            Some(address) => match self.open(&address).await {
                Ok(connection) => (address, connection),
                Err(error) => {
                    self.forget(&address).await;
                    return Err(error);
                }
            },
        };
        let answer = connection.call_up_to(ask, newest).await;
        let usable = !matches!(
            answer,
            Err(ClientError::Broken { .. } | ClientError::TimedOut { .. })
        );
        if usable {
            self.connections.lock().await.insert(address, connection);
        } else {
            self.forget(&address).await;
        }
        answer
    }

    /// A server failed: others are asked first, and whoever is named at its address is looked up anew.
    async fn forget(&self, address: &str) {
        self.avoid(address).await;
        self.nodes.lock().await.retain(|_, known| known != address);
    }

    async fn address(&self, target: &Target) -> Result<Option<String>, ClientError> {
        match target {
            Target::Any => Ok(None),
            Target::Node(id) => self.node(*id).await.map(Some),
            Target::Coordinator(group) => Box::pin(self.coordinator(group)).await.map(Some),
        }
    }

    async fn node(&self, id: i32) -> Result<String, ClientError> {
        if let Some(address) = self.nodes.lock().await.get(&id) {
            return Ok(address.clone());
        }
        Box::pin(self.topics(Some(&[]))).await?;
        self.nodes
            .lock()
            .await
            .get(&id)
            .cloned()
            .ok_or_else(|| ClientError::Unreachable {
                address: format!("node {id}"),
                reason: "the cluster does not name it".to_owned(),
            })
    }

    async fn coordinator(&self, group: &str) -> Result<String, ClientError> {
        // Batched look-up, version 4 and later (KIP-699): every broker since Kafka 3.0.
        let ask = message!(FindCoordinatorRequest {
            coordinator_keys: vec![group.into()]
        });
        for _ in 0..TRIES {
            let answer = Box::pin(self.call(&Target::Any, &ask)).await?;
            let found = answer.coordinators.first().ok_or_else(|| {
                ClientError::refused(
                    format!("group {group}"),
                    15,
                    Some("no coordinator is named"),
                )
            })?;
            match ClientError::check(&format!("group {group}"), found.error_code, None) {
                Ok(()) => return Ok(format!("{}:{}", found.host, found.port)),
                Err(error) if error.is_retriable() => tokio::time::sleep(BETWEEN).await,
                Err(error) => return Err(error),
            }
        }
        Err(ClientError::refused(
            format!("group {group}"),
            15,
            Some("no coordinator was found"),
        ))
    }

    /// Describes topics: those named, or all.
    ///
    /// # Errors
    /// A named topic does not exist or may not be described.
    pub async fn topics(&self, names: Option<&[&str]>) -> Result<Vec<TopicInfo>, ClientError> {
        self.describe(names, false).await
    }

    /// Describes a topic, which the server makes now if it makes topics on first use.
    ///
    /// # Errors
    /// It does not exist and is not made.
    pub async fn topic_on_first_use(&self, name: &str) -> Result<TopicInfo, ClientError> {
        let mut tries = 0;
        loop {
            match self.describe(Some(&[name]), true).await {
                Ok(mut topics) if !topics.is_empty() => return Ok(topics.swap_remove(0)),
                Ok(_) => return Err(ClientError::refused(name, 3, Some("the server is silent"))),
                Err(error) if error.is_retriable() && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(BETWEEN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn describe(
        &self,
        names: Option<&[&str]>,
        create: bool,
    ) -> Result<Vec<TopicInfo>, ClientError> {
        let topics = names.map(|names| {
            names
                .iter()
                .map(|name| {
                    message!(MetadataRequestTopic {
                        name: Some((*name).into())
                    })
                })
                .collect()
        });
        let ask = message!(MetadataRequest {
            topics,
            allow_auto_topic_creation: create,
        });
        let answer = self.call(&Target::Any, &ask).await?;
        {
            let mut nodes = self.nodes.lock().await;
            for node in &answer.brokers {
                nodes.insert(node.node_id, format!("{}:{}", node.host, node.port));
            }
        }
        let mut described = Vec::with_capacity(answer.topics.len());
        for topic in &answer.topics {
            let name = topic
                .name
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            let reason = match topic.error_code {
                3 => Some("there is no such topic"),
                17 => Some("this is not a valid topic name"),
                _ => None,
            };
            ClientError::check(&format!("topic {name}"), topic.error_code, reason)?;
            let mut partitions: Vec<PartitionInfo> = topic
                .partitions
                .iter()
                .map(|partition| PartitionInfo {
                    partition: partition.partition_index,
                    leader: partition.leader_id,
                    replicas: partition.replica_nodes.clone(),
                    in_sync: partition.isr_nodes.clone(),
                })
                .collect();
            partitions.sort_by_key(|partition| partition.partition);
            let id = TopicId(topic.topic_id.to_bytes());
            described.push(TopicInfo {
                name,
                id,
                internal: topic.is_internal,
                partitions,
            });
        }
        described.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(described)
    }
}
