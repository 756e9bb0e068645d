//! What groups have to make durable: taken as commands, in the order of the queue, and finished when they
//! are applied.

use std::collections::BTreeSet;
use std::sync::Arc;

use alluvium_metadata::{
    AgentOrigin, ChangeConsumerGroup, Command, CommitOffsets, GroupMember, GroupRecord, PutGroup,
};
use alluvium_types::{ErrorCode, Millis, TopicPartition};

use super::super::group::Phase;
use super::super::offsets::commit_bytes;
use super::super::settings::ENTRY_BYTES;
use super::super::work::{Done, Work};
use super::Coordinator;
use super::consumers::consumer_bytes;

/// With this many bytes, about, no more is written at once.
const WRITE_BYTES: usize = 4 << 20;

fn record_bytes(record: &GroupRecord) -> usize {
    let of_member = |member: &GroupMember| {
        let protocols = member.protocols.iter();
        let protocols: usize = protocols.map(|(name, data)| name.len() + data.len()).sum();
        protocols + member.assignment.len() + ENTRY_BYTES
    };
    record.members.iter().map(of_member).sum()
}

impl Coordinator {
    /// Whether [`Self::take_writes`] has something to give.
    pub(crate) fn has_writes(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Commands to propose, in this order, and for each what [`Self::finish`] needs. `at` is the time
    /// of day.
    pub(crate) fn take_writes(
        &mut self,
        now: Millis,
        origin: AgentOrigin,
        at: Millis,
        most: usize,
    ) -> (Vec<Command>, Vec<Done>) {
        let (mut commands, mut done) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while commands.len() < most
            && bytes < WRITE_BYTES
            && let Some(work) = self.queue.pop_front()
        {
            match work {
                Work::Commit {
                    group,
                    offsets,
                    waiter,
                    lease,
                } => {
                    bytes += group.len() + commit_bytes(&offsets);
                    commands.push(Command::CommitOffsets(CommitOffsets {
                        origin,
                        group: group.clone(),
                        offsets,
                        at,
                    }));
                    done.push(Done::Commit {
                        group,
                        waiter,
                        _lease: lease,
                    });
                }
                Work::Consumer {
                    group,
                    change,
                    told,
                } => {
                    let members = change.changed.iter();
                    bytes += members.map(consumer_bytes).sum::<usize>();
                    commands.push(Command::ChangeConsumerGroup(ChangeConsumerGroup {
                        origin,
                        group: group.to_string(),
                        epoch: change.epoch,
                        removed: change.removed,
                        changed: change.changed,
                        at,
                    }));
                    done.push(Done::Consumer { group, told });
                }
                Work::Forget {
                    group,
                    partitions,
                    waiter,
                } => {
                    bytes += partitions.len() * size_of::<TopicPartition>();
                    commands.push(Command::RemoveOffsets {
                        origin,
                        group: group.clone(),
                        partitions,
                    });
                    done.push(Done::Commit {
                        group,
                        waiter,
                        _lease: None,
                    });
                }
                Work::Delete { group, waiter } => {
                    commands.push(Command::RemoveGroup {
                        origin,
                        group: group.to_string(),
                    });
                    done.push(Done::Delete { group, waiter });
                }
                Work::Record(id) => {
                    self.tokens += 1;
                    let token = self.tokens;
                    let record = self.with(now, &id, |group, _| {
                        group.queued = false;
                        let record = if group.dirty { group.record(at) } else { None };
                        group.dirty = false;
                        if record.is_some() {
                            group.writing = Some((token, group.generation));
                        }
                        record
                    });
                    if let Some(record) = record.flatten() {
                        bytes += record_bytes(&record);
                        let group = id.to_string();
                        commands.push(Command::PutGroup(PutGroup {
                            origin,
                            group,
                            record,
                        }));
                        done.push(Done::Record { group: id, token });
                    }
                }
            }
        }
        (commands, done)
    }

    /// A command of [`Self::take_writes`] was applied, or not. When the quorum says that another
    /// coordinates the group, nothing of it is held any more.
    pub(crate) fn finish(&mut self, now: Millis, done: Done, result: Result<(), ErrorCode>) {
        if result == Err(ErrorCode::NotCoordinator) {
            let ids = BTreeSet::from([Arc::from(done.group())]);
            self.abandon(now, &ids, ErrorCode::NotCoordinator);
            return done.answer(result);
        }
        match done {
            Done::Record { group, token } => {
                self.with(now, &group, |group, env| group.written(env, token, result));
            }
            Done::Delete { group, waiter } => {
                if let Some(Phase::Dead) = self.groups.get(&group).map(|group| &group.phase) {
                    self.forget(now, &group, ErrorCode::CoordinatorNotAvailable);
                }
                waiter.answer(result.err().unwrap_or_default());
            }
            Done::Consumer { group, told } => self.consumer_written(now, group, told, result),
            done @ Done::Commit { .. } => done.answer(result),
        }
    }
}
