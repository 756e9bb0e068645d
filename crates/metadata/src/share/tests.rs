use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const TERMS: ShareTerms = ShareTerms {
    lock: 100,
    deliveries: 2,
    in_flight: 50,
};

fn ranges(acquired: &[Acquired]) -> Vec<(Offset, Offset, u16)> {
    acquired
        .iter()
        .map(|it| (it.first, it.last, it.deliveries))
        .collect()
}

fn take(
    share: &mut SharePartition,
    member: &str,
    most: u32,
    at: Millis,
) -> Vec<(Offset, Offset, u16)> {
    let acquired = share.acquire(member, (most, 100), TERMS, at);
    share.check().unwrap();
    ranges(&acquired)
}

fn tell(
    share: &mut SharePartition,
    member: &str,
    (first, last): (Offset, Offset),
    kinds: &[AcknowledgeKind],
    at: Millis,
) -> Result<(), ErrorCode> {
    let batch = Acknowledgements {
        first,
        last,
        kinds: kinds.to_vec(),
    };
    let done = share.acknowledge(member, &[batch], TERMS, at);
    share.check().unwrap();
    done
}

#[test]
fn every_record_is_one_members_until_it_is_done_with() {
    use AcknowledgeKind::{Accept, Gap, Reject, Release};
    let mut share = SharePartition::new(10);
    assert_eq!(take(&mut share, "a", 5, 0), [(10, 14, 1)]);
    assert_eq!(take(&mut share, "b", 5, 0), [(15, 19, 1)]);
    assert_eq!(
        tell(&mut share, "b", (12, 12), &[Accept], 1),
        Err(ErrorCode::InvalidRecordState)
    );
    assert_eq!(
        tell(&mut share, "a", (20, 20), &[Accept], 1),
        Err(ErrorCode::InvalidRecordState)
    );
    assert_eq!(
        tell(&mut share, "a", (11, 13), &[Accept, Release, Reject], 1),
        Ok(())
    );
    assert_eq!((share.start(), share.end(), share.archived()), (10, 20, 1));
    // What was released comes first, and is counted.
    assert_eq!(take(&mut share, "c", 3, 2), [(12, 12, 2), (20, 21, 1)]);
    assert_eq!(tell(&mut share, "a", (10, 10), &[Gap], 3), Ok(()));
    assert_eq!((share.start(), share.done()), (12, 1));
    // The second delivery was the last one that is allowed.
    assert_eq!(tell(&mut share, "c", (12, 12), &[Release], 3), Ok(()));
    assert_eq!((share.start(), share.archived()), (14, 2));
}

#[test]
fn locks_run_out_unless_they_are_renewed_and_members_that_go_let_go() {
    use AcknowledgeKind::{Accept, Renew};
    let mut share = SharePartition::new(0);
    take(&mut share, "a", 4, 0);
    assert_eq!(share.next_timeout(), Some(100));
    assert_eq!(tell(&mut share, "a", (0, 1), &[Renew], 90), Ok(()));
    assert!(!share.has_free(4, 50, 99) && share.has_free(4, 50, 100));
    assert_eq!(take(&mut share, "b", 2, 100), [(2, 3, 2)]);
    assert_eq!(
        tell(&mut share, "a", (2, 3), &[Accept], 101),
        Err(ErrorCode::InvalidRecordState)
    );
    assert_eq!(tell(&mut share, "a", (0, 1), &[Accept], 189), Ok(()));
    assert_eq!(share.start(), 2);
    share.release(&["b".to_owned()], TERMS);
    assert_eq!((share.start(), share.archived()), (4, 2));
    assert!(!share.holds("b"));
}

#[test]
fn the_window_is_bounded_and_follows_the_log() {
    let mut share = SharePartition::new(0);
    assert_eq!(take(&mut share, "a", 1000, 0), [(0, 49, 1)]);
    assert!(take(&mut share, "b", 10, 0).is_empty());
    share.forget_below(20);
    share.check().unwrap();
    assert_eq!(take(&mut share, "b", 1000, 0), [(50, 69, 1)]);
    share.forget_below(500);
    assert_eq!((share.start(), share.end()), (500, 500));
    share.check().unwrap();
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    use AcknowledgeKind::Accept;
    let mut share = SharePartition::new(0);
    take(&mut share, "a", 10, 0);
    let before = share.clone();
    for (batch, kinds) in [
        ((5, 4), vec![Accept]),
        ((0, 3), vec![Accept; 2]),
        ((0, 3), vec![]),
        ((i64::MIN, i64::MAX), vec![Accept]),
    ] {
        assert_eq!(
            tell(&mut share, "a", batch, &kinds, 1),
            Err(ErrorCode::InvalidRequest)
        );
    }
    let batch = |first, last| Acknowledgements {
        first,
        last,
        kinds: vec![Accept],
    };
    let overlapping = [batch(0, 3), batch(3, 4)];
    assert_eq!(
        share.acknowledge("a", &overlapping, TERMS, 1),
        Err(ErrorCode::InvalidRequest)
    );
    let one_is_not_its_own = [batch(0, 3), batch(8, 12)];
    let refused = share.acknowledge("a", &one_is_not_its_own, TERMS, 1);
    assert_eq!(refused, Err(ErrorCode::InvalidRecordState));
    assert_eq!(share, before);
}

/// What one record has gone through.
#[derive(Clone, Debug, Default)]
struct Known {
    holder: Option<(String, Millis)>,
    deliveries: u16,
    done: bool,
}

proptest! {
    /// Beside a model that keeps every record by itself.
    #[test]
    fn no_record_is_given_to_two_or_too_often_or_lost(
        steps in prop::collection::vec((0u8..4, 0u8..3, 0i64..40, 1i64..12, 0i64..60), 1..80)
    ) {
        let mut share = SharePartition::new(0);
        let mut model: BTreeMap<Offset, Known> = (0..100).map(|offset| (offset, Known::default())).collect();
        let mut at = 0;
        let let_go = |known: &mut Known| {
            known.holder = None;
            known.done = known.deliveries >= TERMS.deliveries;
        };
        for (what, member, first, length, wait) in steps {
            at += wait;
            let member = format!("m{member}");
            let held = |known: &Known| known.holder.as_ref().is_some_and(|(who, until)| *who == member && *until > at);
            match what {
                0 | 1 => {
                    for known in model.values_mut() {
                        if known.holder.as_ref().is_some_and(|(_, until)| *until <= at) {
                            let_go(known);
                        }
                    }
                    let acquired = share.acquire(&member, (u32::try_from(length).unwrap(), 100), TERMS, at);
                    let mut count = 0;
                    for Acquired { first, last, deliveries } in acquired {
                        for offset in first..=last {
                            let known = model.get_mut(&offset).unwrap();
                            prop_assert!(known.holder.is_none() && !known.done, "{offset} {known:?}");
                            known.deliveries += 1;
                            prop_assert_eq!(known.deliveries, deliveries);
                            prop_assert!(deliveries <= TERMS.deliveries);
                            known.holder = Some((member.clone(), at + 100));
                            count += 1;
                        }
                    }
                    prop_assert!(count <= length);
                }
                2 => {
                    let kinds = [AcknowledgeKind::Accept, AcknowledgeKind::Release, AcknowledgeKind::Reject, AcknowledgeKind::Renew];
                    let kind = kinds[usize::try_from(first % 4).unwrap()];
                    let last = first + length - 1;
                    let batch = Acknowledgements { first, last, kinds: vec![kind] };
                    let is_its_own = (first..=last).all(|offset| held(&model[&offset]));
                    let told = share.acknowledge(&member, &[batch], TERMS, at);
                    prop_assert_eq!(told.is_ok(), is_its_own);
                    if is_its_own {
                        for offset in first..=last {
                            let known = model.get_mut(&offset).unwrap();
                            match kind {
                                AcknowledgeKind::Release => let_go(known),
                                AcknowledgeKind::Renew => known.holder = Some((member.clone(), at + 100)),
                                _ => { known.holder = None; known.done = true; }
                            }
                        }
                    }
                }
                _ => {
                    share.release(std::slice::from_ref(&member), TERMS);
                    for known in model.values_mut().filter(|known| known.holder.as_ref().is_some_and(|(who, _)| *who == member)) {
                        let_go(known);
                    }
                }
            }
            share.check().unwrap();
            let first_open = model.iter().find(|(_, known)| !known.done).map_or(100, |(offset, _)| *offset);
            prop_assert_eq!(share.start(), first_open);
        }
    }
}
