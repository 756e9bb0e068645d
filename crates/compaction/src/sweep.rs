//! Deletes what no manifest names.

use tokio_util::sync::CancellationToken;

use crate::{CompactionConfig, Context};

/// Runs until it is told to stop.
pub(crate) async fn run(context: Context, config: CompactionConfig, stop: CancellationToken) {
    let _ = (context, config);
    stop.cancelled().await;
}
