//! The schedule: what breaks, when, and for how long. All of it follows from the seed.

use std::sync::Arc;
use std::time::Duration;

use alluvium_types::random;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::Cluster;
use crate::host::Host;
use crate::store::Mood;

/// How long the quorum is given to take a voter in, before it may lose another one.
const REPLACING: Duration = Duration::from_secs(30);

/// Least time between the losses of two agents' disks.
const APART: Duration = Duration::from_secs(20);

/// What this seed likes to break: of each kind, how often it is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taste {
    weights: [u32; 13],
    /// Longest pause between two faults, in milliseconds.
    pause: u64,
}

impl Taste {
    pub(crate) fn draw() -> Self {
        let mut weights = [0; 13];
        for weight in &mut weights {
            // Some kinds not at all, so that others show what they do alone.
            *weight = if random::range(0..4) == 0 {
                0
            } else {
                random::range(1..10)
            };
        }
        Self {
            weights,
            pause: [300, 1500, 5000][random::range(0..3)],
        }
    }

    fn choose(&self) -> usize {
        let all: u32 = self.weights.iter().sum();
        let mut left = random::range(0..all.max(1));
        for (kind, weight) in self.weights.iter().enumerate() {
            if left < *weight {
                return kind;
            }
            left -= weight;
        }
        0
    }
}

fn millis(range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random::range(range))
}

/// Breaks things for so long.
pub(crate) async fn drive(cluster: Arc<Cluster>, taste: Taste, duration: Duration) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        sleep(millis(0..taste.pause + 1)).await;
        one(&cluster, taste.choose()).await;
    }
}

async fn one(cluster: &Arc<Cluster>, kind: usize) {
    let voter = random::range(0..cluster.voters.len());
    let agent = random::range(0..cluster.agents.len());
    match kind {
        0 => crash_voter(cluster, voter),
        1 => wipe_voter(cluster, voter).await,
        2 | 3 => crash_agent(cluster, agent, kind == 3),
        4 => isolate(cluster),
        5 => cut(cluster),
        6 => storm(cluster),
        7 => pause(cluster),
        8 => jump(cluster),
        9 => sour(cluster),
        10 => order(cluster, voter, agent),
        11 => hold(cluster, agent),
        _ => lights_out(cluster).await,
    }
}

fn machines(cluster: &Cluster) -> Vec<Host> {
    let voters = cluster.voters.iter().map(|voter| voter.host);
    let agents = cluster.agents.iter().map(|agent| agent.host);
    voters.chain(agents).collect()
}

fn any_machine(cluster: &Cluster) -> Host {
    let all = machines(cluster);
    all[random::range(0..all.len())]
}

fn later(after: Duration, what: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        sleep(after).await;
        what();
    });
}

fn crash_voter(cluster: &Arc<Cluster>, voter: usize) {
    let machine = &cluster.voters[voter];
    if !machine.is_running() {
        return;
    }
    let down = millis(50..5000);
    cluster
        .recorder
        .tell(format!("crash {} for {down:?}", machine.host));
    machine.crash(cluster);
    let cluster = Arc::clone(cluster);
    later(down, move || cluster.voters[voter].start(&cluster));
}

/// Takes a disk away. Never more than a minority: all others must be there, and the quorum gets the
/// time to take the new voter in.
async fn wipe_voter(cluster: &Arc<Cluster>, voter: usize) {
    if cluster.voters.len() < 3 || !all_there(cluster, REPLACING / 3).await {
        return;
    }
    let machine = &cluster.voters[voter];
    cluster.recorder.tell(format!("wipe {}", machine.host));
    machine.wipe(cluster);
    sleep(millis(50..1000)).await;
    machine.start(cluster);
    if !all_there(cluster, REPLACING).await {
        cluster
            .recorder
            .tell(format!("{} is not taken in yet", machine.host));
        // Whatever else is broken now must not be a disk.
        cluster.heal_voters();
        if !all_there(cluster, REPLACING).await {
            let host = machine.host;
            cluster
                .recorder
                .failed(format!("{host} with an empty disk is not taken in"));
        }
    }
}

/// Whether all machines run voters that are members and hold what is committed.
pub(crate) async fn all_there(cluster: &Arc<Cluster>, within: Duration) -> bool {
    let there = async {
        loop {
            if are_there(cluster).await {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(within, there).await.is_ok()
}

async fn are_there(cluster: &Cluster) -> bool {
    let mut ids = Vec::new();
    let mut asked = None;
    for machine in &cluster.voters {
        let Some((metadata, id)) = machine.metadata() else {
            return false;
        };
        ids.push(id);
        asked = Some(metadata);
    }
    let Some(metadata) = asked else { return false };
    let status = timeout(Duration::from_secs(3), metadata.status()).await;
    let Ok(Ok(status)) = status else { return false };
    let votes = |id| {
        let mut voters = status.voters.iter();
        voters.any(|voter| {
            voter.id == id && voter.votes && voter.last_index >= Some(status.committed)
        })
    };
    status.voters.len() == ids.len() && ids.into_iter().all(votes)
}

/// Whether a disk of an agent may be lost now: copies of chunks lie on two, so that only one may be
/// lost until what it held is in the store. With one copy, none.
fn may_lose_a_disk(cluster: &Cluster) -> bool {
    if cluster.min_copies < 2 {
        return false;
    }
    let wiped = cluster.agents.iter().filter_map(|machine| machine.wiped());
    if wiped.max().is_some_and(|wiped| wiped.elapsed() < APART) {
        return false;
    }
    let mut voters = cluster.voters.iter();
    let Some((metadata, _)) = voters.find_map(|machine| machine.metadata()) else {
        return false;
    };
    metadata.read(|state| {
        let mut chunks = state.journal_chunks();
        chunks.all(|(_, chunk)| {
            !chunk
                .copies
                .iter()
                .any(|copy| cluster.is_lost(copy.journal))
        })
    })
}

fn crash_agent(cluster: &Arc<Cluster>, agent: usize, wipe: bool) {
    let machine = &cluster.agents[agent];
    if !machine.is_running() {
        return;
    }
    let wipe = wipe && may_lose_a_disk(cluster);
    let down = millis(0..6000);
    let what = if wipe { "wipe" } else { "crash" };
    cluster
        .recorder
        .tell(format!("{what} {} for {down:?}", machine.host));
    if wipe {
        machine.wipe(cluster);
    } else {
        machine.crash(cluster);
    }
    let cluster = Arc::clone(cluster);
    later(down, move || cluster.agents[agent].start(&cluster));
}

/// Cuts a machine off from all others, or only one way.
fn isolate(cluster: &Arc<Cluster>) {
    let lonely = any_machine(cluster);
    let ways = random::range(0..3);
    let away = millis(200..6000);
    cluster
        .recorder
        .tell(format!("isolate {lonely} ({ways}) for {away:?}"));
    for other in machines(cluster) {
        if ways != 1 {
            cluster.network.cut(lonely, other);
        }
        if ways != 2 {
            cluster.network.cut(other, lonely);
        }
    }
    let cluster = Arc::clone(cluster);
    later(away, move || {
        for other in machines(&cluster) {
            cluster.network.mend(lonely, other);
            cluster.network.mend(other, lonely);
        }
    });
}

/// Cuts one way between two machines.
fn cut(cluster: &Arc<Cluster>) {
    let (from, to) = (any_machine(cluster), any_machine(cluster));
    let away = millis(200..8000);
    cluster
        .recorder
        .tell(format!("cut {from} > {to} for {away:?}"));
    cluster.network.cut(from, to);
    let cluster = Arc::clone(cluster);
    later(away, move || cluster.network.mend(from, to));
}

fn storm(cluster: &Arc<Cluster>) {
    let (loss, delay) = (random::range(0..200), random::range(1..60));
    let away = millis(500..5000);
    cluster.recorder.tell(format!(
        "storm: loss {loss} of 1000, delays of {delay} ms, for {away:?}"
    ));
    cluster.network.weather(loss, delay);
    let cluster = Arc::clone(cluster);
    later(away, move || cluster.network.weather(0, 3));
}

fn pause(cluster: &Arc<Cluster>) {
    let host = any_machine(cluster);
    // Longer than a lease: what it had begun to say is heard when others have taken over.
    let away = millis(100..12_000);
    cluster.recorder.tell(format!("pause {host} for {away:?}"));
    cluster.network.pause(host, Instant::now() + away);
}

fn jump(cluster: &Arc<Cluster>) {
    let by = match random::range(0..3) {
        0 => random::range(-5_000..5_000),
        1 => random::range(-300_000..300_000),
        _ => random::range(-1_200_000..1_200_000),
    };
    let host = any_machine(cluster);
    cluster
        .recorder
        .tell(format!("clock of {host} jumps {by} ms"));
    match host {
        Host::Metadata(at) => cluster.voters[at].clock.jump(by),
        Host::Agent(at) => cluster.agents[at].clock.jump(by),
        Host::Client(_) => {}
    }
}

/// What an agent proposes stays on its way until others have taken over from it.
fn hold(cluster: &Arc<Cluster>, agent: usize) {
    let machine = &cluster.agents[agent];
    let (caught, held) = (millis(50..1500), millis(4_000..15_000));
    cluster.recorder.tell(format!(
        "what {} proposes within {caught:?} arrives after {held:?}",
        machine.host
    ));
    let now = Instant::now();
    cluster.network.hold(machine.host, now + caught, now + held);
    let cluster = Arc::clone(cluster);
    later(caught, move || {
        let lonely = cluster.agents[agent].host;
        for voter in &cluster.voters {
            cluster.network.cut(lonely, voter.host);
        }
        let mended = Arc::clone(&cluster);
        later(held.saturating_sub(caught), move || {
            for voter in &mended.voters {
                mended.network.mend(lonely, voter.host);
            }
        });
    });
}

/// The store has a bad time.
fn sour(cluster: &Arc<Cluster>) {
    let mood = Mood {
        failing: [0, 100, 600, 1000][random::range(0..4)],
        ambiguous: [0, 100, 500][random::range(0..3)],
        slow: [0, 50, 400][random::range(0..3)],
    };
    let away = millis(500..8000);
    cluster
        .recorder
        .tell(format!("store {mood:?} for {away:?}"));
    cluster.objects.mood(mood);
    let cluster = Arc::clone(cluster);
    later(away, move || cluster.objects.mood(Mood::default()));
}

/// What an operator does, and a disk that fails.
fn order(cluster: &Arc<Cluster>, voter: usize, agent: usize) {
    let machine = &cluster.voters[voter];
    match random::range(0..4) {
        0 => {
            cluster
                .recorder
                .tell(format!("snapshot at {}", machine.host));
            machine.snapshot();
        }
        1 => {
            cluster
                .recorder
                .tell(format!("hand over by {}", machine.host));
            machine.hand_over();
        }
        2 => {
            cluster
                .recorder
                .tell(format!("syncs fail at {}", machine.host));
            machine.fail_syncs(1);
        }
        _ => {
            let machine = &cluster.agents[agent];
            cluster
                .recorder
                .tell(format!("{} is told to end", machine.host));
            machine.leave();
        }
    }
}

/// The power of the whole quorum goes, and comes back machine by machine.
async fn lights_out(cluster: &Arc<Cluster>) {
    if random::range(0..3) != 0 {
        return;
    }
    cluster
        .recorder
        .tell("power cut of all metadata nodes".to_owned());
    for machine in &cluster.voters {
        machine.crash(cluster);
    }
    for voter in 0..cluster.voters.len() {
        let cluster = Arc::clone(cluster);
        later(millis(50..2000), move || {
            cluster.voters[voter].start(&cluster);
        });
    }
    sleep(millis(0..3000)).await;
}

impl Cluster {
    /// Mends the network and starts what is down.
    pub(crate) fn heal_voters(self: &Arc<Self>) {
        self.network.heal();
        for machine in &self.voters {
            machine.start(self);
        }
    }
}
