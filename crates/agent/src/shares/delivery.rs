//! Records to members and back: beginnings, acquisitions, acknowledgements and releases, each a command.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_metadata::{
    AcknowledgeKind, Acknowledgements, Command, Outcome, ShareAcknowledge, ShareAcquire,
    ShareBegin, ShareRelease,
};
use alluvium_types::{ErrorCode, Millis, TopicPartition};
use tokio::time::timeout;

use crate::fetch::{Fetch, OffsetSpec};
use crate::topics::OffsetReset;

use super::settings::Settings;
use super::{COMMAND_DEADLINE, ShareFetch, ShareFetched, Shared, reading};

impl Shared {
    /// The group has a place in these partitions from here on.
    pub(super) async fn begin(
        &self,
        fetch: &Fetch,
        group: &str,
        places: &[TopicPartition],
    ) -> Result<(), ErrorCode> {
        let (mut starts, since) = self.metadata.read(|state| {
            let begins = Settings::of(&self.topics, state, group).begins;
            let known = state.group(group).map(|group| &group.shares);
            let is_new =
                |place: &TopicPartition| !known.is_some_and(|known| known.contains_key(place));
            let new = places.iter().copied().filter(is_new);
            let start = |place: TopicPartition| {
                let partition = state.partition(place)?;
                let start = match begins {
                    OffsetReset::Earliest => partition.log_start(),
                    OffsetReset::Latest | OffsetReset::Ago(_) => partition.high_watermark(),
                };
                Some((place, start))
            };
            let starts: Vec<_> = new.filter_map(start).collect();
            let since = match begins {
                OffsetReset::Ago(ago) => Some(self.clock.now().saturating_sub(ago).max(0)),
                OffsetReset::Latest | OffsetReset::Earliest => None,
            };
            (starts, since)
        });
        if starts.is_empty() {
            return Ok(());
        }
        if let Some(since) = since {
            for (place, start) in &mut starts {
                let first = fetch.list_offset(*place, OffsetSpec::Timestamp(since), false);
                let (first, _) = timeout(COMMAND_DEADLINE, first)
                    .await
                    .map_err(|_| ErrorCode::RequestTimedOut)??;
                // Where all records are older, the group begins at the end.
                if first >= 0 {
                    *start = first;
                }
            }
        }
        let group = group.to_owned();
        self.propose(Command::ShareBegin(ShareBegin { group, starts }))
            .await
            .map(|_| ())
    }

    pub(super) async fn acknowledge(
        &self,
        group: &str,
        member: &str,
        acknowledged: &[(TopicPartition, Vec<Acknowledgements>)],
    ) -> Vec<(TopicPartition, ErrorCode)> {
        let Settings { terms, renews, .. } = self.settings(group);
        let mut codes = Vec::with_capacity(acknowledged.len());
        for (partition, batches) in acknowledged {
            let mut kinds = batches.iter().flat_map(|batch| &batch.kinds);
            if !renews && kinds.any(|kind| *kind == AcknowledgeKind::Renew) {
                codes.push((*partition, ErrorCode::InvalidRecordState));
                continue;
            }
            let command = Command::ShareAcknowledge(ShareAcknowledge {
                group: group.to_owned(),
                partition: *partition,
                member: member.to_owned(),
                batches: batches.clone(),
                terms,
                at: self.clock.now(),
            });
            let code = match self.propose(command).await {
                Ok(Outcome::ShareAcknowledged(None)) => ErrorCode::None,
                Ok(Outcome::ShareAcknowledged(Some(code))) | Err(code) => code,
                Ok(_) => ErrorCode::UnknownServerError,
            };
            codes.push((*partition, code));
        }
        codes
    }

    /// Members have gone: what they acquired is free. Should it not be heard, their locks run out.
    pub(super) async fn release(&self, group: &str, members: Vec<String>) {
        let holds_any = self.metadata.read(|state| {
            let shares = state.group(group).map(|group| &group.shares);
            let mut shares = shares.into_iter().flat_map(BTreeMap::values);
            shares.any(|share| members.iter().any(|member| share.holds(member)))
        });
        if !holds_any {
            return;
        }
        let command = Command::ShareRelease(ShareRelease {
            group: group.to_owned(),
            members,
            partitions: Vec::new(),
            terms: self.settings(group).terms,
        });
        if let Err(code) = self.propose(command).await {
            tracing::debug!(%code, group, "what members of a share group held is free when its locks run out");
        }
    }

    /// Acquires and reads what there is. Returns the last partition that gave anything.
    pub(super) async fn serve(
        &self,
        fetch: &Fetch,
        asked: &ShareFetch,
        partitions: &[(TopicPartition, usize)],
        answer: &mut ShareFetched,
    ) -> Result<Option<TopicPartition>, ErrorCode> {
        let terms = self.settings(&asked.group).terms;
        let (mut records, mut bytes) = (asked.max_records, asked.max_bytes.max(1));
        let mut last = None;
        for (place, most_bytes) in partitions {
            if records == 0 || bytes == 0 {
                break;
            }
            let now = self.clock.now();
            let wanted = self.metadata.read(|state| {
                let partition = state.partition(*place)?;
                let share = state.group(&asked.group)?.shares.get(place)?;
                let end = partition.high_watermark();
                let room = bytes.min((*most_bytes).max(1));
                let fit = reading::records_that_fit(partition, share.start(), room);
                let free = share.has_free(end, terms.in_flight, now);
                free.then_some((records.min(fit), end))
            });
            let Some((most, end)) = wanted else {
                continue;
            };
            let command = Command::ShareAcquire(ShareAcquire {
                group: asked.group.clone(),
                partition: *place,
                member: asked.member.clone(),
                most,
                end,
                terms,
                at: now,
            });
            let acquired = match self.propose(command).await {
                Ok(Outcome::ShareAcquired(acquired)) => acquired,
                Ok(_) => Vec::new(),
                Err(code) => {
                    answer.partitions.entry(*place).or_default().error = Some(code);
                    continue;
                }
            };
            if acquired.is_empty() {
                continue;
            }
            let read = reading::read(fetch, *place, &acquired).await;
            let of_place = answer.partitions.entry(*place).or_default();
            match read {
                Ok(read) => {
                    let count: u64 = acquired.iter().map(reading::count).sum();
                    records = records.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                    bytes = bytes.saturating_sub(read.len());
                    of_place.records = read;
                    of_place.acquired = acquired;
                    last = Some(*place);
                }
                // They are free again when their locks run out.
                Err(code) => of_place.error = Some(code),
            }
        }
        Ok(last)
    }

    /// How long until the first lock runs out.
    pub(super) fn until_timeout(&self, group: &str, places: &[TopicPartition]) -> Duration {
        let first = self.metadata.read(|state| {
            let shares = &state.group(group)?.shares;
            let timeouts = places
                .iter()
                .filter_map(|place| shares.get(place)?.next_timeout());
            timeouts.min()
        });
        let millis: Millis = first.map_or(Millis::MAX, |at| at.saturating_sub(self.clock.now()));
        Duration::from_millis(u64::try_from(millis.max(1)).unwrap_or(u64::MAX))
    }
}
