//! Leave to delete.

use std::time::Duration;

use alluvium_cluster::ArchiveTrouble;
use tokio::time::sleep;

use super::{Sweep, Trouble};

/// Between two looks at how far the archive is.
const LOOK: Duration = Duration::from_millis(500);

impl Sweep {
    /// Waits until the archive in the bucket holds everything that this view holds now, then until the
    /// view holds everything that is committed by then. What was dead before the call is dead in the
    /// archive too; and a quorum that was restored over never gets here, for it archives nothing more.
    ///
    /// Waits as long as the archive is behind: until then nothing may be deleted.
    pub(super) async fn clearance(&self) -> Result<(), Trouble> {
        let metadata = &self.context.metadata;
        let index = metadata.applied();
        let mut looks = 0u32;
        loop {
            self.still_mine()?;
            match metadata.status().await?.archive {
                // A process of its own with no bucket to archive to, in tests.
                None => break,
                Some(archive) if archive.error == Some(ArchiveTrouble::Fenced) => {
                    return Err(Trouble::Fenced);
                }
                Some(archive) if archive.next_index > index => break,
                Some(_) => {}
            }
            looks = looks.saturating_add(1);
            if looks == 240 {
                tracing::warn!(
                    index,
                    "nothing is swept: the copy of the metadata in the bucket is behind; see \
                     `alluvium cluster status`"
                );
            }
            sleep(LOOK).await;
        }
        metadata.barrier().await?;
        self.still_mine()
    }
}
