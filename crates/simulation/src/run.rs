//! One seed from beginning to end.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Once};
use std::time::Duration;

use alluvium_agent::produce::Acks;
use alluvium_checker::{Anomaly, Counts, Figures};
use alluvium_types::random;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::burn;
use crate::clients::{self, Client, TOPICS};
use crate::cluster::Cluster;
use crate::faults::{self, Taste};
use crate::recorder::{Judged, relevant};
use crate::trace::Trace;

/// Longest time, virtual, until a healthy cluster stands.
const FORMING: Duration = Duration::from_secs(60);

/// Longest time, virtual, until producers have their answers once everything is healed.
const SETTLING: Duration = Duration::from_secs(150);

/// Longest time, virtual, until other clients have ended.
const ENDING: Duration = Duration::from_secs(90);

/// Time, virtual, in which agents that are back store again what only they had.
const RECLAIMED: Duration = Duration::from_secs(10);

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// How a simulation runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long things break, in virtual time.
    pub duration: Duration,
    /// Keep every line of the trace.
    pub keep_trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(20),
            keep_trace: false,
        }
    }
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// What clients saw that no log may show.
    pub anomalies: Vec<Anomaly>,
    /// What else went wrong: somebody hung, was refused for no reason, or panicked.
    pub failures: Vec<String>,
    /// The hash over everything that happened, and of how many things.
    pub trace: (u64, u64),
    /// What was judged.
    pub counts: Counts,
    /// Rates and silences, in virtual time.
    pub figures: Figures,
    /// What clients were refused with and lived with.
    pub refusals: BTreeMap<String, u64>,
    /// The entries of the history that explain the first anomaly, a line each.
    pub history: Vec<String>,
    /// The trace's lines, if they were asked for.
    pub lines: Vec<String>,
}

impl Report {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.anomalies.is_empty() && self.failures.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hash, events) = self.trace;
        writeln!(
            f,
            "seed {}: {} acked, {} unknown, {} there, {} read, {} listed, {} committed, {events} \
             events, trace {hash:016x}",
            self.seed,
            self.counts.acked,
            self.counts.unknown,
            self.counts.there,
            self.counts.read,
            self.counts.listed,
            self.counts.committed,
        )?;
        for line in &self.history {
            writeln!(f, "  {line}")?;
        }
        for anomaly in self.anomalies.iter().take(10) {
            writeln!(f, "ANOMALY {anomaly}")?;
        }
        for failure in self.failures.iter().take(10) {
            writeln!(f, "FAILURE {failure}")?;
        }
        if !self.is_clean() {
            let seed = self.seed;
            writeln!(
                f,
                "repeat: cargo run -p alluvium-simulation -- --seed {seed}"
            )?;
        }
        Ok(())
    }
}

/// Counts panics of this thread's tasks, which would otherwise end in silence.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            before(info);
        }));
    });
    PANICS.with(|panics| panics.set(0));
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    count_panics();
    let seeded = random::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let mut report = match runtime {
        Ok(runtime) => runtime.block_on(simulate(seed, options)),
        Err(error) => {
            let mut report = Report::empty(seed);
            report.failures.push(format!("no runtime: {error}"));
            report
        }
    };
    drop(seeded);
    let panics = PANICS.with(Cell::get);
    if panics > 0 {
        report.failures.push(format!("{panics} panics, see above"));
    }
    report
}

impl Report {
    fn empty(seed: u64) -> Self {
        Self {
            seed,
            anomalies: Vec::new(),
            failures: Vec::new(),
            trace: (0, 0),
            counts: Counts::default(),
            figures: Figures::default(),
            refusals: BTreeMap::new(),
            history: Vec::new(),
            lines: Vec::new(),
        }
    }
}

async fn simulate(seed: u64, options: &Options) -> Report {
    let trace = Arc::new(Trace::new(options.keep_trace));
    let voters = if random::range(0..6) == 0 { 1 } else { 3 };
    let cluster = Cluster::new(&trace, voters, random::range(2..=4));
    let stop = CancellationToken::new();
    if timeout(FORMING, form(&cluster, &stop)).await.is_err() {
        let what = "the cluster did not form".to_owned();
        cluster.recorder.failed(what);
    } else {
        load(&cluster, &stop, options.duration).await;
    }
    let report = report(seed, &cluster, &trace);
    cluster
        .agents
        .iter()
        .for_each(|machine| machine.crash(&cluster));
    cluster
        .voters
        .iter()
        .for_each(|machine| machine.wipe(&cluster));
    cluster.network.close();
    report
}

async fn form(cluster: &Arc<Cluster>, stop: &CancellationToken) {
    cluster.start();
    let admin = Client::new(cluster, 0, stop);
    for (name, partitions, lane) in TOPICS {
        let id = clients::make_topic(&admin, name, partitions, lane).await;
        cluster.add_topic(name, id);
    }
}

async fn load(cluster: &Arc<Cluster>, stop: &CancellationToken, duration: Duration) {
    let mut numbers = 1..;
    let mut client = || Client::new(cluster, numbers.next().unwrap_or(0), stop);
    let mut producers = JoinSet::new();
    for _ in 0..random::range(2..=4) {
        producers.spawn(clients::produce(client()));
    }
    for _ in 0..3 {
        producers.spawn(clients::transact(client()));
    }
    let mut others = JoinSet::new();
    others.spawn(clients::follow_committed(client()));
    others.spawn(clients::produce_once(client(), Acks::All));
    others.spawn(clients::produce_once(client(), Acks::One));
    others.spawn(clients::follow(client()));
    others.spawn(clients::list(client()));
    others.spawn(clients::churn(client()));
    for member in 0..3 {
        others.spawn(clients::member(client(), member == 0));
    }
    let reader = client();
    faults::drive(Arc::clone(cluster), Taste::draw(), duration).await;

    cluster.heal();
    cluster.recorder.tell("healed".to_owned());
    cluster.start();
    if !faults::all_there(cluster, SETTLING).await {
        let what = "the quorum is not whole although everything works".to_owned();
        cluster.recorder.failed(what);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.cancel();
    if timeout(SETTLING, ended(&mut producers)).await.is_err() {
        let what = "producers have no answers although everything works".to_owned();
        cluster.recorder.failed(what);
    }
    if timeout(ENDING, ended(&mut others)).await.is_err() {
        cluster.recorder.failed("clients do not end".to_owned());
    }
    // What agents alone had kept, and lost with their registrations, is stored again by now.
    tokio::time::sleep(RECLAIMED).await;
    if random::range(0..2) == 0 {
        burn::burn_and_restore(cluster).await;
        tokio::time::sleep(RECLAIMED).await;
    }
    clients::close_all(&reader).await;
    for (topic, partitions, _) in TOPICS {
        for partition in 0..partitions {
            clients::read_all(&reader, topic, partition).await;
            clients::read_all_committed(&reader, topic, partition).await;
        }
    }
}

async fn ended(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

fn report(seed: u64, cluster: &Cluster, trace: &Trace) -> Report {
    let Judged {
        verdict,
        figures,
        failures,
        refusals,
        entries,
    } = cluster.recorder.finish();
    let (hash, events, lines) = trace.finish();
    let history = verdict.anomalies.first().map(|anomaly| {
        let entries = relevant(&entries, anomaly);
        let from = entries.len().saturating_sub(120);
        let shown = entries.get(from..).unwrap_or_default();
        let line = |entry: &&alluvium_checker::Entry| {
            format!("{:>9} c{} {:?}", entry.at, entry.client, entry.event)
        };
        shown.iter().map(line).collect()
    });
    Report {
        seed,
        anomalies: verdict.anomalies,
        failures,
        trace: (hash, events),
        counts: verdict.counts,
        figures,
        refusals,
        history: history.unwrap_or_default(),
        lines,
    }
}
