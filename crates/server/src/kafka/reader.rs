//! Bytes to frames, with memory that follows the bytes that really came.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use alluvium_agent::budget::{ByteBudget, Lease};
use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The first step of reading a frame. A connection that has nothing else in hand gets it without a
/// lease, so that small requests pass when large ones have spent the budget.
const FIRST_BYTES: usize = 16 << 10;

/// What a request in hand takes beside its bytes: many may be very small.
pub(crate) const OVERHEAD_BYTES: usize = 1 << 10;

/// A frame up to this length gets its exact buffer at once: memory that is not written to costs
/// nothing yet. A longer one grows by doubling, as its bytes arrive.
const EXACT_BYTES: usize = 2 << 20;

/// Memory for requests that are read and not answered yet, shared by all connections.
#[derive(Clone, Debug)]
pub(crate) struct RequestMemory {
    budget: ByteBudget,
    /// Frames lease in steps; half-read frames that waited for each other would wait for ever. So
    /// one of them at a time may go on beyond the budget.
    beyond: Arc<Semaphore>,
}

/// Memory that a request holds; it returns on drop.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    leases: Vec<Lease>,
    beyond: Option<OwnedSemaphorePermit>,
}

impl RequestMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            budget: ByteBudget::new(bytes),
            beyond: Arc::new(Semaphore::new(1)),
        }
    }

    /// Adds `bytes` to a hold, waiting until they are free.
    async fn extend(&self, hold: &mut Hold, bytes: usize) {
        if hold.beyond.is_some() {
            return;
        }
        if hold.leases.is_empty() {
            hold.leases.push(self.budget.lease(bytes).await);
            return;
        }
        let beyond = Arc::clone(&self.beyond).acquire_owned();
        tokio::select! {
            biased;
            lease = self.budget.lease(bytes) => hold.leases.push(lease),
            Ok(permit) = beyond => hold.beyond = Some(permit),
        }
    }

    /// Bytes leased now.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.budget.used()
    }
}

/// A request as it came, without its length prefix.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Bytes,
    pub(crate) hold: Hold,
}

/// Why no more frames are read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The client has closed, between frames.
    #[error("closed by the client")]
    Closed,
    /// Nothing came for the idle time.
    #[error("idle for {0:?}")]
    Idle(Duration),
    #[error("the client closed within a request")]
    Cut,
    #[error("no bytes for {0:?} within a request")]
    Stalled(Duration),
    #[error("{0} is not a possible length of a request")]
    Length(i32),
    #[error("a request of {length} bytes is over socket.request.max.bytes = {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("no memory for a request of {0} bytes")]
    NoMemory(usize),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl FrameError {
    /// Whether the client broke the protocol, as against went away.
    pub(crate) const fn is_violation(&self) -> bool {
        matches!(
            self,
            Self::Length(_) | Self::TooLong { .. } | Self::Stalled(_)
        )
    }
}

/// Reads frames from a stream.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    stream: R,
    memory: RequestMemory,
    limit: usize,
    idle: Duration,
    stall: Duration,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) const fn new(
        stream: R,
        memory: RequestMemory,
        limit: usize,
        idle: Duration,
        stall: Duration,
    ) -> Self {
        Self {
            stream,
            memory,
            limit,
            idle,
            stall,
        }
    }

    /// The length of the next frame. Not safe to cancel, but to end the connection.
    pub(crate) async fn length(&mut self) -> Result<usize, FrameError> {
        let mut prefix = [0; 4];
        let mut filled = 0;
        while let Some(rest) = prefix.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let patience = if filled == 0 { self.idle } else { self.stall };
            match timeout(patience, self.stream.read(rest)).await {
                Ok(Ok(0)) if filled == 0 => return Err(FrameError::Closed),
                Ok(Ok(0)) => return Err(FrameError::Cut),
                Ok(read) => filled += read?,
                Err(_) if filled == 0 => return Err(FrameError::Idle(self.idle)),
                Err(_) => return Err(FrameError::Stalled(self.stall)),
            }
        }
        let length = i32::from_be_bytes(prefix);
        match usize::try_from(length) {
            Ok(0) | Err(_) => Err(FrameError::Length(length)),
            Ok(length) if length > self.limit => Err(FrameError::TooLong {
                length,
                limit: self.limit,
            }),
            Ok(length) => Ok(length),
        }
    }

    /// The frame itself. `alone` says that the connection has no other request in hand. Not safe to
    /// cancel, but to end the connection.
    pub(crate) async fn body(&mut self, length: usize, alone: bool) -> Result<Frame, FrameError> {
        let no_memory = |_| FrameError::NoMemory(length);
        let mut hold = Hold::default();
        let mut granted = length.min(FIRST_BYTES);
        if !alone {
            self.memory
                .extend(&mut hold, granted.saturating_add(OVERHEAD_BYTES))
                .await;
        }
        let mut buffer = Vec::new();
        buffer
            .try_reserve_exact(length.min(EXACT_BYTES))
            .map_err(no_memory)?;
        while buffer.len() < length {
            if buffer.len() == granted {
                let next = length.min(EXACT_BYTES.max(granted * 2));
                self.memory.extend(&mut hold, next - granted).await;
                granted = next;
                buffer
                    .try_reserve_exact(granted - buffer.len())
                    .map_err(no_memory)?;
            }
            let missing = granted - buffer.len();
            let mut room = (&mut buffer).limit(missing);
            match timeout(self.stall, self.stream.read_buf(&mut room)).await {
                Ok(Ok(0)) => return Err(FrameError::Cut),
                Ok(read) => read?,
                Err(_) => return Err(FrameError::Stalled(self.stall)),
            };
        }
        Ok(Frame {
            bytes: Bytes::from(buffer),
            hold,
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const LIMIT: usize = 100 << 20;

    fn pair(memory: &RequestMemory) -> (DuplexStream, FrameReader<DuplexStream>) {
        let (client, server) = duplex(64 << 10);
        let (idle, stall) = (Duration::from_secs(600), Duration::from_secs(60));
        (
            client,
            FrameReader::new(server, memory.clone(), LIMIT, idle, stall),
        )
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }

    #[tokio::test]
    async fn frames_of_every_size_come_out_as_they_went_in() {
        let memory = RequestMemory::new(16 << 20);
        for size in [
            1,
            100,
            FIRST_BYTES,
            FIRST_BYTES + 1,
            EXACT_BYTES,
            3 * EXACT_BYTES + 7,
        ] {
            let (mut client, mut reader) = pair(&memory);
            let body: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let sent = framed(&body);
            tokio::spawn(async move { client.write_all(&sent).await });
            let length = reader.length().await.unwrap();
            assert_eq!(length, size);
            let frame = reader.body(length, false).await.unwrap();
            assert_eq!(frame.bytes, body);
            assert!(memory.used() >= size);
            drop(frame);
            assert_eq!(memory.used(), 0);
            assert!(matches!(reader.length().await, Err(FrameError::Closed)));
        }
    }

    #[tokio::test]
    async fn impossible_lengths_are_refused_before_anything_is_held() {
        let memory = RequestMemory::new(1 << 20);
        for length in [0, -1, i32::MIN, i32::MAX, i32::try_from(LIMIT).unwrap() + 1] {
            let (mut client, mut reader) = pair(&memory);
            client.write_all(&length.to_be_bytes()).await.unwrap();
            assert!(
                reader.length().await.unwrap_err().is_violation(),
                "{length}"
            );
        }
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn a_claim_holds_no_memory_until_bytes_come() {
        let memory = RequestMemory::new(256 << 20);
        let (mut client, mut reader) = pair(&memory);
        client
            .write_all(&(90u32 << 20).to_be_bytes())
            .await
            .unwrap();
        let length = reader.length().await.unwrap();
        let body = reader.body(length, true);
        tokio::pin!(body);
        assert!(futures::poll!(&mut body).is_pending());
        assert_eq!(memory.used(), 0, "the first step of a lone request is free");
        client.write_all(&[0; FIRST_BYTES]).await.unwrap();
        assert!(futures::poll!(&mut body).is_pending());
        assert!(memory.used() <= EXACT_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_sender_is_given_up() {
        let memory = RequestMemory::new(1 << 20);
        let (mut client, mut reader) = pair(&memory);
        assert!(matches!(reader.length().await, Err(FrameError::Idle(_))));
        client.write_all(&[0, 0]).await.unwrap();
        assert!(matches!(reader.length().await, Err(FrameError::Stalled(_))));
        let (mut client, mut reader) = pair(&memory);
        client.write_all(&[0, 0, 0, 9, 1, 2]).await.unwrap();
        let length = reader.length().await.unwrap();
        assert!(matches!(
            reader.body(length, false).await,
            Err(FrameError::Stalled(_))
        ));
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn half_read_frames_do_not_wait_for_each_other_for_ever() {
        // Two frames of 6 MiB against a budget of 8 MiB, each with half of its bytes there.
        let memory = RequestMemory::new(8 << 20);
        let body = vec![7; 6 << 20];
        let reads = (0..2).map(|_| {
            let (mut client, mut reader) = pair(&memory);
            let sent = framed(&body);
            tokio::spawn(async move { client.write_all(&sent).await });
            async move {
                let length = reader.length().await.unwrap();
                reader.body(length, false).await.unwrap().bytes.len()
            }
        });
        let lengths = futures::future::join_all(reads).await;
        assert_eq!(lengths, [6 << 20, 6 << 20]);
    }
}
