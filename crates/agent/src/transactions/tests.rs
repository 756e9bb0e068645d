use alluvium_metadata::State;
use alluvium_types::{AgentId, ManualClock};

use super::*;

const ID: &str = "orders";

async fn started() -> (Metadata, Transactions, Arc<ManualClock>) {
    let metadata = Metadata::in_memory();
    let clock = Arc::new(ManualClock::new(5));
    let register = alluvium_metadata::RegisterAgent {
        identity: 1,
        host: "h".to_owned(),
        port: 9092,
        zone: None,
        at: 5,
        cluster_id: alluvium_types::TopicId([9; 16]),
    };
    let registered = metadata.propose(Command::RegisterAgent(register)).await;
    let Outcome::AgentRegistered(origin) = registered.unwrap().outcome else {
        panic!("not registered");
    };
    assert_eq!(origin.agent, AgentId(1));
    let topics = Topics::new(BTreeMap::new()).unwrap();
    let registration = Registration::fixed(origin);
    let time = Arc::clone(&clock) as Arc<dyn Clock>;
    let transactions = Transactions::start(registration, metadata.clone(), time, topics);
    (metadata, transactions, clock)
}

fn status(metadata: &Metadata) -> TransactionStatus {
    let known = |state: &State| state.transaction(ID).unwrap().status;
    metadata.read(known)
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_nobody_ends_is_aborted_when_its_time_is_over() {
    let (metadata, transactions, _clock) = started().await;
    let producer = transactions.init(ID, 10_000, None).await.unwrap();
    let groups = vec!["g".to_owned()];
    transactions
        .add(ID, producer, Vec::new(), groups)
        .await
        .unwrap();
    sleep(Duration::from_secs(9)).await;
    assert_eq!(status(&metadata), TransactionStatus::Ongoing);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(status(&metadata), TransactionStatus::Aborted);
    let ended = transactions
        .end(ID, producer, true, EndedBy::Producer)
        .await;
    assert_eq!(ended, Err(ErrorCode::ProducerFenced));
    transactions.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn one_transaction_after_another_does_not_count_as_one_long_one() {
    let (metadata, transactions, clock) = started().await;
    let producer = transactions.init(ID, 10_000, None).await.unwrap();
    for _ in 0..5 {
        let groups = vec!["g".to_owned()];
        transactions
            .add(ID, producer, Vec::new(), groups)
            .await
            .unwrap();
        sleep(Duration::from_secs(6)).await;
        clock.advance(6000);
        let ended = transactions
            .end(ID, producer, true, EndedBy::Producer)
            .await;
        assert_eq!(ended, Ok(producer));
    }
    assert_eq!(status(&metadata), TransactionStatus::Committed);
    transactions.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_beyond_the_greatest_is_refused() {
    let (_metadata, transactions, _clock) = started().await;
    for timeout in [0, -1, MAX_TIMEOUT + 1] {
        let begun = transactions.init(ID, timeout, None).await;
        assert_eq!(begun, Err(ErrorCode::InvalidTransactionTimeout));
    }
    transactions.shutdown().await;
}
