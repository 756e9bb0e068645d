//! Settling while other things happen.

use std::time::Duration;

use alluvium_metadata::{AdvanceLogStart, Command, State};
use alluvium_types::TopicPartition;
use tokio::time::{sleep, timeout};

use crate::AgentConfig;
use crate::testing::{MoodyDisk, Rig, batch, values};

const PATIENCE: Duration = Duration::from_secs(10);

async fn rig(dir: &tempfile::TempDir) -> (Rig, std::sync::Arc<crate::testing::Mood>) {
    let (bucket, mood) = MoodyDisk::bucket(dir.path()).await;
    let config = AgentConfig {
        settle_bytes: 1,
        settle_interval: Duration::from_millis(100),
        ..AgentConfig::default()
    };
    (Rig::over(config, bucket).await, mood)
}

#[tokio::test]
async fn what_could_not_move_is_settled_later_even_if_what_follows_it_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (rig, mood) = rig(&dir).await;
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    rig.append(at, batch(&["deleted"])).await;
    rig.append(at, batch(&["kept"])).await;
    rig.set(topic, "alluvium.lane", "object").await;
    rig.append(at, batch(&["object"])).await;
    rig.set(topic, "alluvium.lane", "auto").await;
    rig.append(at, batch(&["last"])).await;
    assert_eq!(rig.runs(at), (3, 1));

    let files = mood.files();
    mood.hold(0);
    let settler = rig.settler();
    mood.begun(files + 1).await;
    let delete = AdvanceLogStart {
        partition: at,
        offset: 1,
    };
    let delete = Command::AdvanceLogStart(delete);
    rig.metadata.propose(delete).await.unwrap();
    mood.free();
    let settled = async {
        while rig.metadata.read(State::inline_bytes) > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let settled = timeout(PATIENCE, settled).await;
    assert!(settled.is_ok(), "something stays inline for ever");
    settler.shutdown().await;
    let read = rig.read_from(at, 1).await;
    let read = values(&crate::testing::decode(&read));
    assert_eq!(read, ["kept", "object", "last"]);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_store_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let (rig, mood) = rig(&dir).await;
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    rig.append(at, batch(&["inline"])).await;
    let files = mood.files();
    mood.hold(0);
    let settler = rig.settler();
    mood.begun(files + 1).await;
    let stopped = timeout(PATIENCE, settler.shutdown()).await;
    // The last round got through where the one before hangs.
    let inline = rig.metadata.read(State::inline_bytes);
    mood.free();
    assert!(stopped.is_ok(), "the settler waits for the store");
    assert_eq!(inline, 0);
    assert_eq!(values(&rig.read_all(at, usize::MAX).await), ["inline"]);
}
