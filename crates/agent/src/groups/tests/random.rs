//! Whatever clients, connections, writes and restarts do: generations only rise, all shares told in
//! one generation come from one assignment, whoever waits is answered, and nothing is left behind.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::groups::work::Done;

#[derive(Clone, Copy, Debug)]
enum Step {
    Join(usize),
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    LoseConnection(usize),
    ForgetId(usize),
    Advance(Millis),
    /// Takes what is queued to the quorum, which takes its time.
    Propose,
    Answer(Fate),
    Restart(Fate),
}

/// What became of the commands that were proposed last.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Applied,
    Lost,
    /// They were applied, but the answer was lost.
    Unheard,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        8 => client.clone().prop_map(Step::Join),
        8 => client.clone().prop_map(Step::Sync),
        4 => client.clone().prop_map(Step::Heartbeat),
        1 => client.clone().prop_map(Step::Leave),
        1 => client.clone().prop_map(Step::LoseConnection),
        1 => client.prop_map(Step::ForgetId),
        3 => (1..20_000i64).prop_map(Step::Advance),
        8 => Just(Step::Propose),
        8 => fate().prop_map(Step::Answer),
        1 => fate().prop_map(Step::Restart),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![8 => Just(Fate::Applied), 1 => Just(Fate::Lost), 1 => Just(Fate::Unheard)]
}

const CLIENTS: usize = 5;

/// The last two are static members.
#[derive(Default)]
struct Client {
    member_id: String,
    joined: Option<Joined>,
    joining: Option<Receiver<JoinAnswer>>,
    syncing: Option<(i32, Receiver<SyncAnswer>)>,
}

struct World {
    bench: Bench,
    clients: Vec<Client>,
    /// Commands under way, one batch at a time.
    proposed: Option<(Vec<Command>, Vec<Done>)>,
    /// Which assignment was told in a generation.
    told: BTreeMap<i32, Bytes>,
    highest: i32,
    assignments: u32,
}

impl World {
    fn new() -> Self {
        Self {
            bench: Bench::new(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            proposed: None,
            told: BTreeMap::new(),
            highest: 0,
            assignments: 0,
        }
    }

    fn instance(client: usize) -> Option<&'static str> {
        [None, None, None, Some("a"), Some("b")][client]
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Join(at) if self.idle(at) => {
                let id = self.clients[at].member_id.clone();
                let answer = self.bench.send_join(request(&id, Self::instance(at)));
                self.clients[at].joining = Some(answer);
            }
            Step::Sync(at) if self.idle(at) => self.sync(at),
            Step::Heartbeat(at) => {
                let client = &self.clients[at];
                let generation = client
                    .joined
                    .as_ref()
                    .map_or(-1, |joined| joined.generation);
                let id = client.member_id.clone();
                self.bench.heartbeat(&id, generation);
            }
            Step::Leave(at) if self.idle(at) => {
                let id = std::mem::take(&mut self.clients[at].member_id);
                self.bench.leave(&id);
                self.clients[at] = Client::default();
            }
            Step::LoseConnection(at) => {
                self.clients[at].joining = None;
                self.clients[at].syncing = None;
            }
            Step::ForgetId(at) => self.clients[at] = Client::default(),
            Step::Advance(millis) => self.bench.advance(millis),
            Step::Propose if self.proposed.is_none() => {
                let origin = AgentOrigin {
                    agent: AgentId(1),
                    epoch: AgentEpoch(1),
                };
                let now = self.bench.now;
                self.proposed = Some(self.bench.coordinator.take_writes(now, origin, 0, 2));
            }
            Step::Answer(fate) => self.answer(fate),
            Step::Restart(fate) => {
                self.answer(fate);
                self.bench.restart();
                // What is not durable may be counted again, but was never told.
                self.highest = 0;
            }
            Step::Propose => {}
            Step::Join(_) | Step::Sync(_) | Step::Leave(_) => {}
        }
        self.collect();
        self.check();
    }

    fn idle(&self, at: usize) -> bool {
        self.clients[at].joining.is_none() && self.clients[at].syncing.is_none()
    }

    fn sync(&mut self, at: usize) {
        let Some(joined) = self.clients[at].joined.clone() else {
            return;
        };
        self.assignments += 1;
        let share = format!("assignment {}", self.assignments);
        let shares: Vec<(&str, &str)> = joined
            .members
            .iter()
            .filter(|_| !joined.skip_assignment)
            .map(|member| (member.member_id.as_str(), share.as_str()))
            .collect();
        let answer = self
            .bench
            .sync(&joined.member_id, joined.generation, &shares);
        self.clients[at].syncing = Some((joined.generation, answer));
    }

    fn answer(&mut self, fate: Fate) {
        let (commands, done) = self.proposed.take().unwrap_or_default();
        for (command, done) in commands.into_iter().zip(done) {
            if !matches!(fate, Fate::Lost) {
                self.bench.quorum.apply(command);
            }
            let result = match fate {
                Fate::Applied => Ok(()),
                Fate::Lost | Fate::Unheard => Err(ErrorCode::CoordinatorNotAvailable),
            };
            self.bench.coordinator.finish(self.bench.now, done, result);
        }
    }

    /// Clients take their answers.
    fn collect(&mut self) {
        for client in &mut self.clients {
            if let Some(answer) = &mut client.joining {
                match answer.try_recv() {
                    Err(TryRecvError::Empty) => {}
                    Ok(Ok(joined)) => {
                        client.member_id.clone_from(&joined.member_id);
                        client.joined = Some(joined);
                        client.joining = None;
                    }
                    Ok(Err(refused)) => {
                        client.member_id = match refused.code {
                            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                                String::new()
                            }
                            _ => refused.member_id,
                        };
                        client.joining = None;
                    }
                    // A coordinator that was restarted.
                    Err(TryRecvError::Closed) => client.joining = None,
                }
            }
            if let Some((generation, answer)) = &mut client.syncing {
                match answer.try_recv() {
                    Err(TryRecvError::Empty) => continue,
                    Ok(Ok(synced)) if !synced.assignment.is_empty() => {
                        let known = self
                            .told
                            .entry(*generation)
                            .or_insert(synced.assignment.clone());
                        assert_eq!(
                            *known, synced.assignment,
                            "two assignments in one generation"
                        );
                    }
                    Ok(_) | Err(TryRecvError::Closed) => {}
                }
                client.syncing = None;
            }
        }
    }

    fn check(&mut self) {
        let durable = self
            .bench
            .quorum
            .group("g")
            .and_then(|group| group.classic)
            .map_or(0, |record| record.generation);
        if let Some((&told, _)) = self.told.last_key_value() {
            assert!(
                durable >= told,
                "generation {told} was told and is not durable"
            );
        }
        if let Some(group) = self.bench.coordinator.group("g") {
            assert!(group.generation >= self.highest, "the generation went back");
            assert!(group.generation >= durable.min(self.highest));
            self.highest = group.generation;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn groups_keep_their_promises(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        // Everybody falls silent. With nothing but time, all are answered and all are gone.
        for _ in 0..120 {
            world.take(Step::Advance(10_000));
            world.take(Step::Propose);
            world.take(Step::Answer(Fate::Applied));
        }
        for client in &world.clients {
            prop_assert!(client.joining.is_none() && client.syncing.is_none(), "left waiting");
        }
        prop_assert_eq!(world.bench.state(), "-");
        prop_assert_eq!(world.bench.coordinator.timers().len(), 0);
        prop_assert_eq!(world.bench.coordinator.bytes(), 0);
    }
}
