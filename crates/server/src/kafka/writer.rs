//! Answers to bytes: a chain of buffers, written vectored.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use alluvium_agent::budget::Lease;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Answers are sent together up to this many bytes.
const TOGETHER_BYTES: usize = 64 << 10;

/// A whole answer frame as a chain of buffers, with the memory it holds.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) parts: Vec<Bytes>,
    pub(crate) lease: Option<Lease>,
}

impl From<Bytes> for Answer {
    fn from(frame: Bytes) -> Self {
        Self {
            parts: vec![frame],
            lease: None,
        }
    }
}

/// Buffers one after another.
#[derive(Debug, Default)]
struct Chain {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Buf for Chain {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.len().min(self.parts.len());
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(part);
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(front) = self.parts.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.parts.pop_front();
        }
    }
}

/// Sends answers.
#[derive(Debug)]
pub(crate) struct AnswerWriter<W> {
    stream: W,
    stall: Duration,
    chain: Chain,
    leases: Vec<Lease>,
}

impl<W: AsyncWrite + Unpin> AnswerWriter<W> {
    /// A client that takes nothing for `stall` is given up.
    pub(crate) fn new(stream: W, stall: Duration) -> Self {
        Self {
            stream,
            stall,
            chain: Chain::default(),
            leases: Vec::new(),
        }
    }

    /// Takes an answer; it is sent now or with the next ones.
    pub(crate) async fn push(&mut self, answer: Answer) -> io::Result<()> {
        for part in answer.parts.into_iter().filter(|part| !part.is_empty()) {
            self.chain.bytes += part.len();
            self.chain.parts.push_back(part);
        }
        self.leases.extend(answer.lease);
        if self.chain.bytes >= TOGETHER_BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Sends what was pushed.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while self.chain.has_remaining() {
            match timeout(self.stall, self.stream.write_buf(&mut self.chain)).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written?,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            };
        }
        self.leases.clear();
        // What held many buffers once need not hold their places for ever.
        self.chain.parts.shrink_to(8);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chain_arrives_in_order_through_a_narrow_pipe() {
        let (client, server) = tokio::io::duplex(7);
        let mut writer = AnswerWriter::new(server, Duration::from_secs(5));
        let parts: Vec<Bytes> = (0..100u8)
            .map(|i| Bytes::from(vec![i; usize::from(i % 13)]))
            .collect();
        let expected = parts.concat();
        let reading = tokio::spawn(async move {
            let mut client = client;
            let mut received = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut client, &mut received)
                .await
                .unwrap();
            received
        });
        writer.push(Answer { parts, lease: None }).await.unwrap();
        writer.flush().await.unwrap();
        drop(writer);
        assert_eq!(reading.await.unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (_client, server) = tokio::io::duplex(7);
        let mut writer = AnswerWriter::new(server, Duration::from_secs(600));
        writer
            .push(Bytes::from_static(b"more than seven").into())
            .await
            .unwrap();
        assert_eq!(
            writer.flush().await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }
}
