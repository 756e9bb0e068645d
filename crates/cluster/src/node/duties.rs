//! What a node does by itself once it belongs to a quorum.

use std::time::Duration;

use alluvium_storage::watch;
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use alluvium_metadata::Command;
use alluvium_transport::Lane;
use alluvium_types::{TopicId, random};

use crate::forming::Hello;
use crate::peers::Peers;
use crate::quorum::Quorum;
use crate::raft::Standing;
use crate::rpc::{Answer, Request};

/// How often to look, if nothing wakes the task.
const TICK: Duration = Duration::from_millis(500);
/// A change that nobody makes any more is finished after this.
const ABANDONED: Duration = Duration::from_secs(1);
/// A voter that hears of no leader for so long looks whether it is one still.
const LEADERLESS: Duration = Duration::from_secs(3);
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs as long as the node. Tells through `gone` that the node is of the quorum no more.
pub(super) async fn run(quorum: Quorum, peers: Peers, gone: watch::Sender<Option<String>>) {
    let mut watch = quorum.voter().watch();
    let mut changing_since = None;
    let mut was_member = false;
    loop {
        let standing = watch.now();
        if standing.stopped.is_some() {
            return;
        }
        if standing.leads() {
            name_cluster(&quorum, &peers).await;
            finish_change(&quorum, &standing, &mut changing_since).await;
            tell_address(&quorum, &standing).await;
        } else {
            changing_since = None;
        }
        let me = quorum.me().voter;
        let member = standing.members().any(|peer| peer.voter == me);
        if member {
            was_member = true;
        }
        let left = was_member && standing.is_formed() && !member && !standing.leads();
        let silence = quorum.voter().receiver().silence();
        let alone = !standing.leads() && standing.votes(me) && silence > LEADERLESS;
        if left || (alone && is_forgotten(&quorum, &peers, &standing).await) {
            // Nobody may listen any more.
            let _ = gone.send(Some(format!(
                "metadata voter {me} is not in the quorum any more: it was removed or replaced. To \
                 have this node vote again, empty its metadata folder, start it, and add it with \
                 `alluvium cluster add-voter`"
            )));
            return;
        }
        let mut next = watch.clone();
        // Whichever comes first, and not more often than a few times a second.
        let _ = timeout(TICK, next.changed()).await;
        sleep(TICK / 10).await;
        watch = next;
    }
}

/// The first leader of all names the cluster.
async fn name_cluster(quorum: &Quorum, peers: &Peers) {
    if peers.identity().is_some() {
        return;
    }
    let id = TopicId(random::value());
    let Ok(command) = postcard::to_stdvec(&Command::FormCluster { id }) else {
        return;
    };
    if let Err(error) = quorum.voter().offer(&[Bytes::from(command)]).await {
        tracing::debug!(?error, "cannot name the cluster now");
    }
}

/// A leader that died in the middle of a change has left two sets of voters.
async fn finish_change(quorum: &Quorum, standing: &Standing, since: &mut Option<Instant>) {
    if !standing.changing || quorum.is_changing() {
        *since = None;
        return;
    }
    let begun = *since.get_or_insert_with(Instant::now);
    if begun.elapsed() < ABANDONED {
        return;
    }
    *since = None;
    let mark = quorum.voter().membership_mark();
    match quorum.voter().finish_change(mark).await {
        Ok(()) => tracing::info!("finished a change of the metadata quorum that was begun before"),
        Err(error) => tracing::warn!(?error, "cannot finish a change of the metadata quorum"),
    }
}

/// A node that got another address tells the others, when it leads.
async fn tell_address(quorum: &Quorum, standing: &Standing) {
    let me = quorum.me();
    let moved = standing
        .members()
        .any(|peer| peer.voter == me.voter && peer.address != me.address);
    if !moved || me.address.is_empty() || standing.changing || quorum.is_changing() {
        return;
    }
    let mark = quorum.voter().membership_mark();
    match quorum.voter().set_address(me, mark).await {
        Ok(()) => tracing::info!(voter = %me, "told the metadata quorum of a new address"),
        Err(error) => tracing::warn!(?error, "cannot tell the metadata quorum of a new address"),
    }
}

/// Whether a leader says that this voter is none.
async fn is_forgotten(quorum: &Quorum, peers: &Peers, standing: &Standing) -> bool {
    let me = quorum.me();
    let hello = Hello {
        peer: me.clone(),
        nodes: Vec::new(),
    };
    for peer in standing.members().filter(|peer| peer.voter != me.voter) {
        let request = Request::Hello(hello.clone());
        let asked = peers.ask(&peer.address, Lane::Control, request, HELLO_TIMEOUT);
        let Ok(Answer::Hello(answer)) = asked.await else {
            continue;
        };
        let Some(formed) = answer.formed else {
            continue;
        };
        let leads = formed.leader.as_ref() == Some(&answer.peer);
        if leads && !formed.has(me.voter) && !formed.listens(me.voter) {
            return true;
        }
    }
    false
}
