use alluvium_metadata::{Command, Outcome};

use super::*;
use crate::propose::propose;
use crate::rpc::Proposed;
use crate::testing::{Net, Scripted};
use crate::view::Current;

const ASKING: Asking = Asking {
    lane: Lane::Control,
    within: Duration::from_secs(1),
    offers: Duration::from_secs(5),
    repeat: true,
};

fn client(net: &Net, nodes: &[&str]) -> LeaderClient {
    LeaderClient::new(
        net.transport("client"),
        Arc::new(View::new(Current::default())),
        nodes.iter().map(|node| (*node).to_owned()).collect(),
        None,
    )
}

fn hint(term: u64, address: &str) -> LeaderHint {
    LeaderHint {
        term,
        address: address.to_owned(),
    }
}

fn follower(leader: Option<LeaderHint>) -> Arc<Scripted> {
    Scripted::new(move |_| {
        Some(Answer::NotLeader {
            leader: leader.clone(),
        })
    })
}

fn leader() -> Arc<Scripted> {
    Scripted::new(|request| {
        Some(match request {
            Request::Propose { commands } => Answer::Proposed(
                (7..)
                    .zip(commands)
                    .map(|(index, _)| Proposed {
                        index,
                        outcome: Outcome::Done,
                    })
                    .collect(),
            ),
            _ => Answer::ReadIndex { next_index: 5 },
        })
    })
}

fn commands(count: usize) -> Vec<Command> {
    vec![Command::AllocateProducerIds { count: 1 }; count]
}

#[tokio::test(start_paused = true)]
async fn a_hint_leads_to_the_leader_and_is_kept() {
    let net = Net::default();
    let (a, b, c) = (follower(Some(hint(3, "c"))), follower(None), leader());
    net.listen("a", a.clone());
    net.listen("b", b.clone());
    net.listen("c", c.clone());
    let client = client(&net, &["a", "b"]);
    for _ in 0..5 {
        let answer = client.ask(Request::ReadIndex, ASKING).await.unwrap();
        assert_eq!(answer, Answer::ReadIndex { next_index: 5 });
    }
    assert_eq!(c.times_asked(), 5);
    assert!(a.times_asked() <= 1 && b.times_asked() <= 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_dead_or_silent_is_passed_over() {
    let net = Net::default();
    // One still believes in a leader that is gone; the other leads by now.
    net.listen("a", follower(Some(hint(3, "gone"))));
    net.listen("b", leader());
    let client = client(&net, &["a", "b"]);
    client.hear(hint(3, "gone"));
    client.ask(Request::ReadIndex, ASKING).await.unwrap();

    net.listen("silent", Scripted::new(|_| None));
    client.hear(hint(4, "silent"));
    let began = Instant::now();
    client.ask(Request::ReadIndex, ASKING).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_it_is_offered_for_a_while_and_then_said_why() {
    let net = Net::default();
    let node = follower(None);
    net.listen("a", node.clone());
    let client = client(&net, &["a"]);
    let began = Instant::now();
    let error = propose(&client, commands(1)).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unavailable(_)), "{error}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(6));
    assert!(
        node.times_asked() < 200,
        "asked {} times",
        node.times_asked()
    );
}

#[tokio::test(start_paused = true)]
async fn a_proposal_waits_for_a_leader_to_be_elected() {
    let net = Net::default();
    net.listen("a", follower(None));
    let client = Arc::new(client(&net, &["a"]));
    let proposing = tokio::spawn({
        let client = Arc::clone(&client);
        async move { propose(&client, commands(3)).await }
    });
    sleep(Duration::from_secs(2)).await;
    net.listen("a", leader());
    let applied = proposing.await.unwrap().unwrap();
    let indexes: Vec<u64> = applied.iter().map(|applied| applied.index).collect();
    assert_eq!(indexes, [7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_taken_is_not_offered_again() {
    let net = Net::default();
    let (silent, other) = (Scripted::new(|_| None), leader());
    net.listen("silent", silent.clone());
    net.listen("other", other.clone());
    let client = Arc::new(client(&net, &["silent", "other"]));
    client.hear(hint(3, "silent"));
    let proposing = tokio::spawn({
        let client = Arc::clone(&client);
        async move { propose(&client, commands(1)).await }
    });
    while silent.times_asked() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    net.leave("silent");
    let error = proposing.await.unwrap().unwrap_err();
    assert_eq!(error, ProposeError::TimedOut);
    assert_eq!(other.times_asked(), 0);
    // What can be repeated is.
    client.ask(Request::ReadIndex, ASKING).await.unwrap();
    assert_eq!(other.times_asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_when_another_leads() {
    let net = Net::default();
    net.listen("stopped", Scripted::new(|_| None));
    let client = Arc::new(client(&net, &["stopped"]));
    client.hear(hint(3, "stopped"));
    let began = Instant::now();
    let proposing = tokio::spawn({
        let client = Arc::clone(&client);
        async move { propose(&client, commands(1)).await }
    });
    sleep(Duration::from_millis(500)).await;
    client.hear(hint(4, "other"));
    let error = proposing.await.unwrap().unwrap_err();
    assert_eq!(error, ProposeError::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_leaves_it_open_what_happened() {
    let net = Net::default();
    let node = Scripted::new(|_| Some(Answer::Proposed(Vec::new())));
    net.listen("a", node.clone());
    let client = client(&net, &["a"]);
    let error = propose(&client, commands(1)).await.unwrap_err();
    assert_eq!(error, ProposeError::TimedOut);
    assert_eq!(node.times_asked(), 1);
}

#[test]
fn hints_of_an_older_term_and_endless_lists_are_not_taken() {
    let net = Net::default();
    let client = client(&net, &["a"]);
    client.hear(hint(3, "b"));
    client.hear(hint(2, "c"));
    assert_eq!(client.leader(), Some(hint(3, "b")));
    client.hear(hint(9, &"x".repeat(10_000)));
    assert_eq!(client.leader(), Some(hint(3, "b")));
    client.hear_nodes((0..1_000).map(|number| number.to_string()).collect());
    assert!(client.addresses().len() <= MAX_NODES + 1);
}
