//! Agents, their write-ahead buffers in memory, and wires between them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use alluvium_cluster::Metadata;
use alluvium_metadata::{AgentOrigin, AnnounceAgent, Command, Outcome, RegisterAgent};
use alluvium_transport::{Incoming, Lane, Service, TransportError};
use alluvium_types::TopicId;
use tokio::time::{Duration, Instant, timeout};

use super::super::*;
use crate::freshness::Freshness;
use crate::registration::Registration;

/// Agent n's buffer is this and n - 1.
pub(super) const JOURNAL: u128 = 1000;

/// Bytes that tell where they stand.
pub(super) fn bytes(range: Range<u64>) -> Bytes {
    let byte = |at: u64| u8::try_from(at % 251).unwrap();
    range.map(byte).collect::<Vec<u8>>().into()
}

#[derive(Debug, Default)]
pub(super) struct MemoryCopies {
    journal: u128,
    chunks: Mutex<BTreeMap<JournalChunkId, Bytes>>,
    hangs: AtomicBool,
}

impl MemoryCopies {
    pub(super) fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    pub(super) fn count(&self) -> usize {
        self.chunks.lock().unwrap().len()
    }
}

#[async_trait]
impl Copies for MemoryCopies {
    fn journal(&self) -> u128 {
        self.journal
    }

    async fn append(&self, chunk: JournalChunkId, bytes: Bytes) -> Result<(), String> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.chunks.lock().unwrap().insert(chunk, bytes);
        Ok(())
    }

    async fn read(&self, chunk: JournalChunkId, range: Range<u64>) -> Result<Vec<Bytes>, String> {
        let chunks = self.chunks.lock().unwrap();
        let bytes = chunks.get(&chunk).ok_or("it is not here")?;
        let at = |at: u64| usize::try_from(at).unwrap().min(bytes.len());
        Ok(vec![bytes.slice(at(range.start)..at(range.end))])
    }
}

/// Every object holds the same.
#[derive(Debug)]
struct AllAlike;

#[async_trait]
impl Blocks for AllAlike {
    async fn read(
        &self,
        _object: ObjectId,
        _object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Vec<Bytes>, String> {
        Ok(vec![bytes(range)])
    }
}

/// Who serves at which address; `None` hangs.
#[derive(Debug, Default)]
pub(super) struct Wires(Mutex<BTreeMap<String, Option<Arc<dyn Service>>>>);

impl Wires {
    pub(super) fn serve(&self, address: &str, service: Arc<dyn Service>) {
        let mut services = self.0.lock().unwrap();
        services.insert(address.to_owned(), Some(service));
    }

    pub(super) fn hang(&self, address: &str) {
        self.0.lock().unwrap().insert(address.to_owned(), None);
    }
}

#[async_trait]
impl Transport for Wires {
    async fn call(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, TransportError> {
        let address = address.to_owned();
        let service = self.0.lock().unwrap().get(&address).cloned();
        match service {
            None => Err(TransportError::Unreachable {
                address,
                reason: "nobody is there".to_owned(),
            }),
            Some(None) => {
                tokio::time::sleep(within).await;
                Err(TransportError::TimedOut { address, within })
            }
            Some(Some(service)) => match timeout(within, service.call(lane, request)).await {
                // As on a wire: what arrives is not what was sent.
                Ok(Ok(answer)) => Ok(Bytes::copy_from_slice(&answer)),
                Ok(Err(refused)) => Err(TransportError::Refused {
                    address,
                    reason: refused.to_string(),
                }),
                Err(_) => Err(TransportError::TimedOut { address, within }),
            },
        }
    }

    async fn open(
        &self,
        address: &str,
        _lane: Lane,
        _request: Bytes,
        _within: Duration,
    ) -> Result<Incoming, TransportError> {
        Err(TransportError::Unreachable {
            address: address.to_owned(),
            reason: "no streams here".to_owned(),
        })
    }
}

/// One of several agents.
pub(super) struct Peer {
    pub(super) registration: Registration,
    pub(super) client: PeerClient,
    pub(super) service: Arc<dyn Service>,
    pub(super) copies: Arc<MemoryCopies>,
}

impl Peer {
    pub(super) fn id(&self) -> AgentId {
        self.registration.id()
    }

    pub(super) fn origin(&self) -> AgentOrigin {
        self.registration.origin()
    }

    /// It has heard of its new registration.
    pub(super) fn registered(&self, origin: AgentOrigin) {
        let hour = Duration::from_secs(3600);
        self.registration.registered(origin, Instant::now() + hour);
    }
}

pub(super) struct World {
    pub(super) metadata: Metadata,
    pub(super) network: Arc<Wires>,
    pub(super) agents: Vec<Peer>,
}

impl World {
    /// Agents 1, 2, … at "a0:9094", "a1:9094", …
    pub(super) async fn new(agents: u16) -> Self {
        let mut world = Self::over(Arc::default());
        let transport = Arc::clone(&world.network) as Arc<dyn Transport>;
        for number in 0..agents {
            let origin = world.register(number).await;
            world.announce(number, origin).await;
            let peer = world.peer(origin, Arc::clone(&transport));
            let address = format!("a{number}:9094");
            world.network.serve(&address, Arc::clone(&peer.service));
            world.agents.push(peer);
        }
        world
    }

    pub(super) fn over(network: Arc<Wires>) -> Self {
        Self {
            metadata: Metadata::in_memory(),
            network,
            agents: Vec::new(),
        }
    }

    pub(super) async fn propose(&self, command: Command) -> Outcome {
        let outcome = self.metadata.propose(command).await.unwrap().outcome;
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        outcome
    }

    /// Gives an agent its (next) registration.
    pub(super) async fn register(&self, number: u16) -> AgentOrigin {
        let register = Command::RegisterAgent(RegisterAgent {
            identity: u128::from(number) + 1,
            host: "h".to_owned(),
            port: 9092,
            zone: None,
            at: 1,
            cluster_id: TopicId([9; 16]),
        });
        match self.propose(register).await {
            Outcome::AgentRegistered(origin) => origin,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn announce(&self, number: u16, origin: AgentOrigin) {
        self.announce_at(format!("a{number}:9094"), origin).await;
    }

    pub(super) async fn announce_at(&self, address: String, origin: AgentOrigin) {
        let announce = AnnounceAgent {
            origin,
            peer: Some(address),
            journal: Some(JOURNAL),
        };
        self.propose(Command::AnnounceAgent(announce)).await;
    }

    pub(super) fn peer(&self, origin: AgentOrigin, transport: Arc<dyn Transport>) -> Peer {
        let metadata = self.metadata.clone();
        let registration = Registration::fixed(origin);
        let number = u128::try_from(origin.agent.0).unwrap() - 1;
        let copies = Arc::new(MemoryCopies {
            journal: JOURNAL + number,
            ..MemoryCopies::default()
        });
        let service = PeerService::new(
            metadata.clone(),
            Freshness::of(&metadata),
            registration.clone(),
            Some(Arc::clone(&copies) as Arc<dyn Copies>),
            Arc::new(AllAlike),
        );
        Peer {
            client: PeerClient::new(metadata, registration.clone(), transport),
            registration,
            service: Arc::new(service),
            copies,
        }
    }
}
