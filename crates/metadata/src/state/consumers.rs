//! Consumer groups of the newer protocol (KIP-848): the durable part of their membership.

use alluvium_types::ErrorCode;

use super::{State, groups, refusal};
use crate::command::{Change, ChangeConsumerGroup, Outcome, Refusal};

pub(super) fn change(
    state: &mut State,
    command: ChangeConsumerGroup,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let ChangeConsumerGroup {
        origin,
        group: id,
        epoch,
        removed,
        changed,
        at,
    } = command;
    groups::admit(state, origin, &id)?;
    let current = state.groups.get(&id).map_or(0, groups::Group::epoch);
    if current > epoch {
        return Err(refusal(
            ErrorCode::FencedMemberEpoch,
            format!("Group '{id}' is at epoch {current}, it cannot go back to {epoch}."),
        ));
    }
    groups::change(state, id, |group| {
        group.record = None;
        let record = group.consumer.get_or_insert_default();
        record.epoch = epoch;
        record.at = at;
        for member in removed {
            record.members.remove(&member);
        }
        for member in changed {
            record.members.insert(member.member_id.clone(), member);
        }
    });
    changes.push(Change::Groups);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, ConsumerMember, GroupRecord, PutGroup};
    use crate::testing::{Cluster, ORIGIN, claim};

    fn member(id: &str, epoch: i32) -> ConsumerMember {
        ConsumerMember {
            member_id: id.to_owned(),
            epoch,
            ..ConsumerMember::default()
        }
    }

    fn step(epoch: i32, removed: &[&str], changed: Vec<ConsumerMember>) -> Command {
        Command::ChangeConsumerGroup(ChangeConsumerGroup {
            origin: ORIGIN,
            group: "g".to_owned(),
            epoch,
            removed: removed.iter().map(|id| (*id).to_owned()).collect(),
            changed,
            at: 1,
        })
    }

    fn classic(generation: i32) -> Command {
        Command::PutGroup(PutGroup {
            origin: ORIGIN,
            group: "g".to_owned(),
            record: GroupRecord {
                generation,
                ..GroupRecord::default()
            },
        })
    }

    #[test]
    fn members_come_change_and_go_and_the_group_stays() {
        let mut cluster = Cluster::new(1);
        cluster.apply(claim(ORIGIN, "g"));
        cluster.apply(step(1, &[], vec![member("a", 1), member("b", 1)]));
        cluster.apply(step(2, &["a"], vec![member("b", 2)]));
        let record = || cluster.state.group("g").unwrap().consumer.clone().unwrap();
        assert_eq!(record().epoch, 2);
        assert_eq!(record().members.into_keys().collect::<Vec<_>>(), ["b"]);
        let back = cluster.apply(step(1, &["b"], vec![]));
        assert!(
            matches!(back, Outcome::Refused(refusal) if refusal.code == ErrorCode::FencedMemberEpoch)
        );
        cluster.apply(step(3, &["b"], vec![]));
        let group = cluster.state.group("g").unwrap();
        assert!(group.consumer.as_ref().unwrap().members.is_empty());
    }

    #[test]
    fn a_group_changes_its_protocol_and_its_epochs_go_on() {
        let mut cluster = Cluster::new(1);
        cluster.apply(claim(ORIGIN, "g"));
        cluster.apply(classic(5));
        let back = cluster.apply(step(4, &[], vec![]));
        assert!(matches!(back, Outcome::Refused(_)), "{back:?}");
        cluster.apply(step(6, &[], vec![member("a", 6)]));
        assert_eq!(cluster.state.group("g").unwrap().record, None);
        let back = cluster.apply(classic(5));
        assert!(matches!(back, Outcome::Refused(_)), "{back:?}");
        cluster.apply(classic(6));
        let group = cluster.state.group("g").unwrap();
        assert_eq!((group.epoch(), group.consumer.is_none()), (6, true));
    }
}
