use std::sync::Arc;
use std::time::Duration;

use alluvium_metadata::State;
use futures::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::checkpoint::{Checkpoint, LogPosition};
use crate::rpc::{FeedMessage, Identity, LeaderHint, Subscribe};
use crate::testing::topic;
use crate::view::{Current, View};

fn command(size: usize) -> Option<Bytes> {
    Some(vec![1; size].into())
}

#[test]
fn entries_are_read_in_order_and_in_bounds() {
    let feed = Feed::new(1 << 20);
    assert_eq!(feed.read(0, 100), Stretch::End);
    for index in 0..10 {
        feed.push(index, (index % 3 != 0).then(|| Bytes::from(vec![0; 36])));
    }
    let Stretch::Entries(all) = feed.read(0, usize::MAX) else {
        panic!("nothing")
    };
    assert_eq!(all.len(), 10);
    assert!(all[0].is_none() && all[1].is_some());
    let Stretch::Entries(some) = feed.read(4, 200) else {
        panic!("nothing")
    };
    assert_eq!(some.len(), 2);
    // The next one comes whatever its size.
    let Stretch::Entries(some) = feed.read(4, 0) else {
        panic!("nothing")
    };
    assert_eq!(some.len(), 1);
    assert_eq!(feed.read(10, 100), Stretch::End);
    assert_eq!(feed.read(99, 100), Stretch::End);
}

#[test]
fn what_is_old_goes() {
    let feed = Feed::new(1_000);
    for index in 0..10 {
        feed.push(index, command(236));
    }
    assert_eq!(feed.read(6, 1_000), Stretch::Gone);
    assert!(matches!(feed.read(7, 1_000), Stretch::Entries(entries) if entries.len() == 3));
    assert_eq!(feed.begin(10), 7);
    feed.push(10, command(5_000));
    assert_eq!(feed.read(9, 1_000), Stretch::Gone);
    assert!(matches!(feed.read(10, 1), Stretch::Entries(entries) if entries.len() == 1));
}

#[test]
fn a_gap_begins_it_anew() {
    let feed = Feed::new(1_000);
    feed.push(0, None);
    feed.push(50, None);
    assert_eq!(feed.read(0, 100), Stretch::Gone);
    assert_eq!(feed.read(50, 100), Stretch::Entries(vec![None]));
    assert_eq!(feed.begin(51), 50);
    // A snapshot was installed behind its back.
    assert_eq!(feed.begin(80), 80);
}

#[derive(Debug)]
struct InTouch;

impl Standing for InTouch {
    fn leader(&self) -> Option<LeaderHint> {
        None
    }

    fn nodes(&self) -> Vec<String> {
        Vec::new()
    }

    fn out_of_touch(&self) -> Option<String> {
        None
    }

    fn heard(&self) {}
}

/// A node whose view holds this many entries, none of which are in its feed.
fn source(entries: u64) -> Source {
    let mut state = State::new();
    let id = alluvium_types::TopicId([3; 16]);
    state.apply(
        alluvium_metadata::Command::FormCluster { id },
        &mut Vec::new(),
    );
    for number in 0..entries {
        state.apply(topic(u128::from(number)), &mut Vec::new());
    }
    let last = LogPosition {
        term: 1,
        leader: 1,
        index: entries,
    };
    let view = Arc::new(View::new(Current {
        state,
        checkpoint: Checkpoint {
            last: Some(last),
            ..Checkpoint::default()
        },
    }));
    Source {
        snapshot: Arc::new(SharedSnapshot::new(Arc::clone(&view))),
        view,
        feed: Arc::default(),
        log: None,
        subscribers: Arc::default(),
        quorum: Arc::new(InTouch),
    }
}

fn from_the_start() -> Subscribe {
    Subscribe {
        identity: None,
        next_index: 0,
    }
}

/// Reads a stream until a whole snapshot has come.
async fn whole(mut answers: alluvium_transport::Answers) -> (u64, State) {
    let (mut covers, mut announced, mut bytes) = (0, 0, Vec::new());
    loop {
        match FeedMessage::decode(&answers.next().await.unwrap()).unwrap() {
            FeedMessage::Snapshot { next_index, bytes } => {
                (covers, announced) = (next_index, bytes)
            }
            FeedMessage::Piece(piece) => bytes.extend_from_slice(&piece),
            FeedMessage::Begin { .. } | FeedMessage::Beat { .. } => {}
            other => panic!("{other:?}"),
        }
        if announced > 0 && bytes.len() == usize::try_from(announced).unwrap() {
            return (covers, State::from_snapshot(&bytes).unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_come_together_share_one_snapshot_and_it_goes_when_all_have_it() {
    let source = source(10_000);
    let streams = (0..20).map(|_| whole(subscribe(source.clone(), &from_the_start())));
    let all = futures::future::join_all(streams).await;
    assert!(all.iter().all(|(covers, _)| *covers == 10_001));
    let expected = source.view.read(|current| current.state.clone());
    assert!(all.iter().all(|(_, state)| *state == expected));
    let info = source.snapshot.covering(1).await.unwrap();
    assert!(source.snapshot.read(info, 0, 10).is_some());
    sleep(Duration::from_secs(11)).await;
    assert!(source.snapshot.read(info, 0, 10).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_stalls_costs_nothing_and_is_told_to_come_again() {
    let source = source(10_000);
    let mut answers = subscribe(source.clone(), &from_the_start());
    loop {
        let message = answers.next().await.unwrap();
        if let FeedMessage::Piece(_) = FeedMessage::decode(&message).unwrap() {
            break;
        }
    }
    sleep(Duration::from_secs(20)).await;
    let rest: Vec<_> = answers.collect().await;
    let last = FeedMessage::decode(rest.last().unwrap()).unwrap();
    assert!(matches!(last, FeedMessage::Elsewhere(_)), "{last:?}");
    assert!(rest.len() <= 2);
    assert_eq!(
        source
            .subscribers
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_ahead_waits_a_moment_and_is_sent_on() {
    let source = source(10);
    let ahead = Subscribe {
        identity: None,
        next_index: 500,
    };
    let began = Instant::now();
    let heard: Vec<_> = timeout(Duration::from_secs(10), subscribe(source, &ahead).collect())
        .await
        .unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(heard.len() >= 5, "no beats meanwhile");
    let last = FeedMessage::decode(heard.last().unwrap()).unwrap();
    assert!(matches!(last, FeedMessage::Elsewhere(_)), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn another_cluster_is_told_so_and_an_ended_history_sends_elsewhere() {
    let source = source(10);
    let subscriber = |cluster: u8, restores| Subscribe {
        identity: Some(Identity {
            cluster: alluvium_types::TopicId([cluster; 16]),
            restores,
        }),
        next_index: 0,
    };
    for (theirs, foreign) in [(subscriber(4, 0), true), (subscriber(3, 1), false)] {
        let heard: Vec<_> = subscribe(source.clone(), &theirs).collect().await;
        assert_eq!(heard.len(), 1);
        let only = FeedMessage::decode(&heard[0]).unwrap();
        assert_eq!(matches!(only, FeedMessage::Foreign(_)), foreign, "{only:?}");
    }
}
