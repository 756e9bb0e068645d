//! The other agents, as the read path sees them.
//!
//! Each segment of an object has one agent in each zone that fetches it from the store; the others
//! of the zone read it from there, so that it costs one GET a zone. Who that is everybody computes from
//! the state. When it does not answer, the store is asked, and it is left alone for a while.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use metrics::Counter;
use tokio::time::Instant;

use alluvium_cluster::Metadata;
use alluvium_objects::parse_key;
use alluvium_storage::cache::Neighbours;
use alluvium_types::hash::HashMap;
use alluvium_types::{AgentId, ObjectId};

use crate::peers::{Copies, Peers, READ_BYTES, block_owner};
use crate::registration::Registration;

/// How long an agent that did not answer is not asked.
const SHUNNED: Duration = Duration::from_secs(5);

/// Who else has bytes, and who this agent is among them.
#[derive(Clone, Debug)]
pub(super) struct Company {
    pub(super) registration: Registration,
    pub(super) peers: Arc<dyn Peers>,
    /// This agent's write-ahead buffer.
    pub(super) copies: Option<Arc<dyn Copies>>,
}

/// The agents of this one's zone.
#[derive(Debug)]
pub(super) struct Zone {
    company: Company,
    zone: Option<String>,
    metadata: Metadata,
    shunned: Mutex<HashMap<AgentId, Instant>>,
    read: Counter,
    failed: Counter,
}

impl Zone {
    pub(super) fn new(company: Company, zone: Option<String>, metadata: Metadata) -> Self {
        Self {
            company,
            zone,
            metadata,
            shunned: Mutex::default(),
            read: metrics::counter!("alluvium_zone_reads_total", "result" => "ok"),
            failed: metrics::counter!("alluvium_zone_reads_total", "result" => "failed"),
        }
    }

    /// Whom to ask for a segment, if not the store.
    fn owner(&self, object: ObjectId, segment: u64) -> Option<AgentId> {
        let zone = self.zone.as_deref();
        let owner = self
            .metadata
            .read(|state| block_owner(state, zone, object, segment))?;
        let is_other = owner != self.company.registration.id();
        (is_other && !self.is_shunned(owner)).then_some(owner)
    }

    fn shunned(&self) -> std::sync::MutexGuard<'_, HashMap<AgentId, Instant>> {
        self.shunned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_shunned(&self, agent: AgentId) -> bool {
        let mut shunned = self.shunned();
        if shunned.is_empty() {
            return false;
        }
        let now = Instant::now();
        shunned.retain(|_, until| *until > now);
        shunned.contains_key(&agent)
    }
}

#[async_trait]
impl Neighbours for Zone {
    fn is_mine(&self, key: &str, segment: u64) -> bool {
        match parse_key(key) {
            Some(object) => self.owner(object, segment).is_none(),
            None => true,
        }
    }

    async fn read(
        &self,
        key: &str,
        object_bytes: u64,
        segment: u64,
        range: Range<u64>,
    ) -> Option<Bytes> {
        let object = parse_key(key)?;
        let owner = self.owner(object, segment)?;
        if range.end.saturating_sub(range.start) > READ_BYTES {
            return None;
        }
        let peers = &self.company.peers;
        match peers.read_object(owner, object, object_bytes, range).await {
            Ok(bytes) => {
                self.read.increment(1);
                Some(bytes)
            }
            Err(error) => {
                tracing::debug!(%object, %error, "a block is read from the store instead");
                self.failed.increment(1);
                self.shunned().insert(owner, Instant::now() + SHUNNED);
                None
            }
        }
    }
}
