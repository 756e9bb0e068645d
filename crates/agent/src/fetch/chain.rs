//! Bytes that lie in several buffers, read as if in one.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// A chain of buffers.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    parts: VecDeque<Bytes>,
    len: usize,
}

impl From<Vec<Bytes>> for Chain {
    fn from(parts: Vec<Bytes>) -> Self {
        let len = parts.iter().map(Bytes::len).sum();
        Self {
            parts: parts.into(),
            len,
        }
    }
}

impl From<Bytes> for Chain {
    fn from(part: Bytes) -> Self {
        Self {
            len: part.len(),
            parts: VecDeque::from([part]),
        }
    }
}

impl Chain {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// More bytes behind what is there.
    pub(super) fn append(&mut self, parts: Vec<Bytes>) {
        self.len += parts.iter().map(Bytes::len).sum::<usize>();
        self.parts.extend(parts);
    }

    /// The first `N` bytes, left where they are.
    pub(super) fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        let mut out = [0; N];
        let mut filled = 0;
        for part in &self.parts {
            let count = part.len().min(N - filled);
            out[filled..filled + count].copy_from_slice(&part[..count]);
            filled += count;
            if filled == N {
                return Some(out);
            }
        }
        None
    }

    /// Drops the first `count` bytes, or all there are.
    pub(super) fn skip(&mut self, count: usize) {
        self.take(count, |_| {});
    }

    /// Takes the first `count` bytes off, or all there are, part by part.
    pub(super) fn take(&mut self, mut count: usize, mut each: impl FnMut(Bytes)) {
        while count > 0 {
            let Some(part) = self.parts.front_mut() else {
                return;
            };
            if part.len() <= count {
                count -= part.len();
                self.len -= part.len();
                if let Some(part) = self.parts.pop_front() {
                    each(part);
                }
            } else {
                let taken = part.slice(..count);
                part.advance(count);
                self.len -= count;
                count = 0;
                each(taken);
            }
        }
    }

    /// Takes the first `count` bytes off as parts.
    pub(super) fn split(&mut self, count: usize) -> Vec<Bytes> {
        let mut parts = Vec::with_capacity(1);
        self.take(count, |part| parts.push(part));
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crosses_parts_is_read_as_one() {
        let mut chain = Chain::from(vec![Bytes::from("ab"), Bytes::new(), Bytes::from("cdef")]);
        assert_eq!(chain.peek::<3>(), Some(*b"abc"));
        assert_eq!(chain.peek::<7>(), None);
        chain.skip(1);
        assert_eq!(chain.split(3).concat(), b"bcd");
        chain.append(vec![Bytes::from("gh")]);
        assert_eq!((chain.len(), chain.peek::<4>()), (4, Some(*b"efgh")));
        assert_eq!(chain.split(9).concat(), b"efgh");
        assert_eq!(chain.len(), 0);
    }
}
