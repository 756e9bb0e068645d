//! Who a voter is, and the file that says so.
//!
//! A voter's promises (its vote, the entries it acknowledged) are on its disk. A wiped disk has made
//! none, so it must not pass for the voter it was before: each disk draws an incarnation when it is
//! formatted, and the voter's id holds it. A wiped node is thereby a new voter and cannot vote twice.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use alluvium_storage::disk::Disk;

const FILE: &str = "voter";
const TEMPORARY: &str = "voter.tmp";
const FIRST_LINE: &str = "alluvium voter 1";

/// A voter: `incarnation << 32 | node`. Printed as `node-incarnation`, the incarnation in
/// hexadecimal, or as `node` alone when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VoterId(pub u64);

impl VoterId {
    /// Incarnation 0 is the one of folders that release 0.1 wrote.
    #[must_use]
    pub fn new(incarnation: u32, node: u32) -> Self {
        Self((u64::from(incarnation) << 32) | u64::from(node))
    }

    /// The configured `metadata.node_id`.
    #[must_use]
    pub fn node(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }

    /// What its disk drew when it was formatted.
    #[must_use]
    pub fn incarnation(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation() {
            0 => write!(f, "{}", self.node()),
            incarnation => write!(f, "{}-{incarnation:08x}", self.node()),
        }
    }
}

/// Neither `node` nor `node-incarnation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a voter is given as NODE or NODE-INCARNATION, as `alluvium cluster status` prints it")]
pub struct ParseVoterIdError;

impl FromStr for VoterId {
    type Err = ParseVoterIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (node, incarnation) = match text.split_once('-') {
            None => (text, 0),
            Some((node, incarnation)) => (
                node,
                u32::from_str_radix(incarnation, 16).map_err(|_| ParseVoterIdError)?,
            ),
        };
        let node = node.parse().map_err(|_| ParseVoterIdError)?;
        Ok(Self::new(incarnation, node))
    }
}

/// A voter or listener and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Who.
    pub voter: VoterId,
    /// Its cluster address, `host:port`.
    pub address: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.voter, self.address)
    }
}

/// Reads who the disk says it is; `None` when it says nothing. Blocks.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<VoterId>> {
    let path = dir.join(FILE);
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.len()?).unwrap_or(usize::MAX).min(256);
    let content = file.read_at(0, length)?;
    let text = std::str::from_utf8(&content).unwrap_or_default();
    let mut lines = text.lines();
    let voter = match (lines.next(), lines.next()) {
        (Some(FIRST_LINE), Some(voter)) => voter.parse().ok(),
        _ => None,
    };
    voter.map(Some).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{}: does not say who this voter is; restore it from a copy, or empty the folder \
                 and let the node join anew",
                path.display()
            ),
        )
    })
}

/// Writes who the disk is; durable when it returns. Blocks.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, voter: VoterId) -> io::Result<()> {
    let (path, temporary) = (dir.join(FILE), dir.join(TEMPORARY));
    match disk.remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create_new(&temporary)?;
    file.write_at(&[Bytes::from(format!("{FIRST_LINE}\n{voter}\n"))], 0)?;
    file.sync()?;
    drop(file);
    disk.rename(&temporary, &path)?;
    disk.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use alluvium_storage::disk::{ForgetfulDisk, create_dir_durable};

    use super::*;

    #[test]
    fn a_voter_is_printed_as_it_is_read() {
        for (voter, text) in [
            (VoterId::new(0, 1), "1"),
            (VoterId::new(0xa1b2, 3), "3-0000a1b2"),
            (VoterId::new(u32::MAX, u32::MAX), "4294967295-ffffffff"),
        ] {
            assert_eq!(voter.to_string(), text);
            assert_eq!(text.parse(), Ok(voter));
        }
        for text in ["", "-", "x", "1-", "1-g", "1-123456789", "4294967296"] {
            assert_eq!(text.parse::<VoterId>(), Err(ParseVoterIdError), "{text}");
        }
    }

    #[test]
    fn the_file_survives_a_crash_and_nonsense_is_refused_by_name() {
        let forgetful = ForgetfulDisk::default();
        let dir = Path::new("/metadata");
        let disk = forgetful.shared();
        create_dir_durable(disk.as_ref(), dir).unwrap();
        assert_eq!(read(disk.as_ref(), dir).unwrap(), None);
        let voter = VoterId::new(77, 2);
        write(disk.as_ref(), dir, voter).unwrap();
        let disk = forgetful.crash().shared();
        assert_eq!(read(disk.as_ref(), dir).unwrap(), Some(voter));
        let file = disk.open(&dir.join(FILE)).unwrap();
        file.write_at(&[Bytes::from_static(b"nothing")], 0).unwrap();
        let error = read(disk.as_ref(), dir).unwrap_err().to_string();
        assert!(error.contains("/metadata/voter"), "{error}");
    }
}
