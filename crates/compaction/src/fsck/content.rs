//! What an object holds, beside what manifests say that it holds.

use alluvium_objects::{Footer, HEADER_BYTES, Header, RunEntry, TRAILER_BYTES, key};
use alluvium_protocol::batch::{self, BatchHeader};
use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::limits::BATCH_HEADER_BYTES;
use alluvium_types::{ObjectId, Offset};
use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

use super::finding::Problem;
use super::manifest::Claim;

/// Bytes read at once.
const PIECE_BYTES: u64 = 4 << 20;

/// The end of an object, read first to find its footer.
const TAIL_BYTES: u64 = 64 << 10;

/// Something that is not right, and which run is concerned; none for the object as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) claim: Option<Claim>,
    pub(super) problem: Problem,
}

/// What became of reading an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Examined {
    /// There is no such object.
    Gone,
    /// It was read, and this is wrong.
    Read(Vec<Damage>),
}

/// Reads an object whole, a few MiB at a time, and checks all of it: header, footer, checksums of runs
/// and batches, and that the runs of manifests are whole batches with as many offsets as they say.
pub(super) async fn examine(
    bucket: &Bucket,
    (object, bytes): (ObjectId, u64),
    claims: &[Claim],
) -> Result<Examined, BucketError> {
    let key = key(object);
    let mut walk = Walk::new(claims);
    match read(bucket, (&key, object, bytes), &mut walk).await {
        Ok(()) => {}
        Err(Stop::Bucket(BucketError::NotFound { .. })) => return Ok(Examined::Gone),
        Err(Stop::Bucket(BucketError::Denied { reason, .. })) | Err(Stop::Unreadable(reason)) => {
            walk.blame(None, Problem::Unreadable { reason });
        }
        Err(Stop::Bucket(error)) => return Err(error),
    }
    Ok(Examined::Read(walk.damages))
}

/// Why reading goes no further.
enum Stop {
    Bucket(BucketError),
    Unreadable(String),
}

impl From<BucketError> for Stop {
    fn from(error: BucketError) -> Self {
        Self::Bucket(error)
    }
}

fn unreadable(reason: impl ToString) -> Stop {
    Stop::Unreadable(reason.to_string())
}

async fn read(
    bucket: &Bucket,
    (key, object, bytes): (&str, ObjectId, u64),
    walk: &mut Walk<'_>,
) -> Result<(), Stop> {
    if bytes < HEADER_BYTES + TRAILER_BYTES {
        return Err(unreadable(format!("{bytes} bytes are too few")));
    }
    let head = bucket.read(key, 0..HEADER_BYTES).await?;
    let header = Header::parse(&head).map_err(unreadable)?;
    if header.object != object {
        return Err(unreadable(format!("it is named {} inside", header.object)));
    }
    let footer = footer(bucket, key, bytes).await?;
    for run in &footer.runs {
        walk.begin(run);
        let end = run.position.saturating_add(run.length);
        let mut position = run.position;
        while position < end {
            let piece_end = end.min(position + PIECE_BYTES);
            walk.feed(&bucket.read(key, position..piece_end).await?);
            position = piece_end;
        }
        walk.end(run);
    }
    walk.finish();
    Ok(())
}

async fn footer(bucket: &Bucket, key: &str, bytes: u64) -> Result<Footer, Stop> {
    let start = bytes.saturating_sub(TAIL_BYTES);
    let mut tail = bucket.read(key, start..bytes).await?;
    let trailer = usize::try_from(TRAILER_BYTES).unwrap_or(usize::MAX);
    let trailer = tail.slice(tail.len().saturating_sub(trailer)..);
    let wanted = Footer::tail_bytes(&trailer, bytes).map_err(unreadable)?;
    if wanted > bytes - start {
        tail = bucket.read(key, bytes - wanted..bytes).await?;
    }
    Footer::parse(&tail, bytes).map_err(unreadable)
}

/// Goes through the batches of an object in the order of its bytes, beside the runs that manifests
/// have there. These may span several of the object's own runs, or lie within one.
struct Walk<'a> {
    claims: &'a [Claim],
    /// The claim that is compared.
    claim: usize,
    /// The first offset of that claim that no batch has taken yet.
    offset: Offset,
    /// Something was said of that claim already.
    is_blamed: bool,
    run: Option<InRun>,
    damages: Vec<Damage>,
}

/// The run of the object that is read.
struct InRun {
    place: alluvium_types::TopicPartition,
    digest: Digest,
    /// The beginning of a batch whose end is not read yet.
    carry: BytesMut,
    /// Where it is in the object.
    position: u64,
    end: u64,
    batches: u32,
    /// Batches can be told apart no more.
    is_lost: bool,
}

impl<'a> Walk<'a> {
    fn new(claims: &'a [Claim]) -> Self {
        Self {
            claims,
            claim: 0,
            offset: claims.first().map_or(0, |claim| claim.base_offset),
            is_blamed: false,
            run: None,
            damages: Vec::new(),
        }
    }

    fn begin(&mut self, run: &RunEntry) {
        self.run = Some(InRun {
            place: run.partition,
            digest: Digest::new(CrcAlgorithm::Crc32Iscsi),
            carry: BytesMut::new(),
            position: run.position,
            end: run.position.saturating_add(run.length),
            batches: 0,
            is_lost: false,
        });
    }

    fn feed(&mut self, piece: &Bytes) {
        let Some(mut run) = self.run.take() else {
            return;
        };
        run.digest.update(piece);
        if !run.is_lost {
            run.carry.extend_from_slice(piece);
            self.batches(&mut run);
        }
        self.run = Some(run);
    }

    /// Takes the whole batches that are there.
    fn batches(&mut self, run: &mut InRun) {
        while run.carry.len() >= BATCH_HEADER_BYTES {
            let header = match BatchHeader::parse(&run.carry) {
                Ok(header) => header,
                Err(error) => return self.lose(run, &error.to_string()),
            };
            let bytes = u64::try_from(header.bytes).unwrap_or(u64::MAX);
            if bytes > run.end.saturating_sub(run.position) {
                return self.lose(run, "a batch is longer than what is left of its run");
            }
            if header.bytes > run.carry.len() {
                return;
            }
            let batch = run.carry.split_to(header.bytes);
            self.batch(run, &header, bytes);
            if let Err(error) = batch::check_crc(&batch) {
                let reason = format!("batch at byte {}: {error}", run.position);
                let claim = self.claims.get(self.claim).copied();
                let claim = claim.filter(|claim| claim.position <= run.position);
                self.blame(claim, Problem::Damaged { reason });
            }
            run.position += bytes;
            run.batches += 1;
        }
    }

    /// From here on the batches of a run are not known.
    fn lose(&mut self, run: &mut InRun, reason: &str) {
        let reason = format!("batch at byte {}: {reason}", run.position);
        run.is_lost = true;
        run.carry = BytesMut::new();
        let concerned = |claim: &&Claim| claim.position < run.end && claim.end() > run.position;
        let claim = self.claims.iter().find(concerned).copied();
        self.blame(claim, Problem::Damaged { reason });
        // What lies behind it in this run cannot be compared.
        while let Some(claim) = self.claims.get(self.claim) {
            if claim.position >= run.end {
                break;
            }
            self.is_blamed = true;
            if claim.end() > run.end {
                break;
            }
            self.next_claim();
        }
    }

    /// Compares a batch with the claim that it lies in, if it does.
    fn batch(&mut self, run: &InRun, header: &BatchHeader, bytes: u64) {
        let (start, end) = (run.position, run.position.saturating_add(bytes));
        while self
            .claims
            .get(self.claim)
            .is_some_and(|it| it.end() <= start)
        {
            self.next_claim();
        }
        let Some(claim) = self.claims.get(self.claim).filter(|it| it.position < end) else {
            // Nobody's any more, or of another attempt: refused, a duplicate, below a log start.
            return;
        };
        if self.is_blamed {
            return;
        }
        let records = Offset::from(header.last_offset_delta) + 1;
        let (base, past) = if claim.sparse {
            let base = header.base_offset;
            (base, base.saturating_add(records))
        } else {
            (self.offset, self.offset.saturating_add(records))
        };
        let reason = if start < claim.position {
            format!("no batch begins at byte {}", claim.position)
        } else if end > claim.end() {
            format!("a batch goes on past byte {}", claim.end())
        } else if claim.place != run.place {
            format!(
                "bytes {start} to {end} are of partition {} of topic {}",
                run.place.partition, run.place.topic
            )
        } else if base < self.offset || past > claim.end_offset || records < 1 {
            format!(
                "the batch at byte {start} has offsets {base} to {past}, of which {} to {} are free",
                self.offset, claim.end_offset
            )
        } else {
            self.offset = past;
            return;
        };
        let claim = *claim;
        self.is_blamed = true;
        self.blame(Some(claim), Problem::NotAsNamed { reason });
    }

    /// All batches of a claim were seen.
    fn next_claim(&mut self) {
        if let Some(claim) = self.claims.get(self.claim).copied()
            && !self.is_blamed
        {
            let is_short = !claim.sparse && self.offset != claim.end_offset;
            let is_empty = self.offset == claim.base_offset;
            if is_short || is_empty {
                let reason = format!(
                    "bytes {} to {} hold the offsets up to {}, not up to {}",
                    claim.position,
                    claim.end(),
                    self.offset,
                    claim.end_offset
                );
                self.blame(Some(claim), Problem::NotAsNamed { reason });
            }
        }
        self.claim += 1;
        self.is_blamed = false;
        let next = self.claims.get(self.claim);
        self.offset = next.map_or(0, |claim| claim.base_offset);
    }

    fn end(&mut self, run: &RunEntry) {
        let Some(mut read) = self.run.take() else {
            return;
        };
        if !read.is_lost && (!read.carry.is_empty() || read.batches != run.batches) {
            let reason = format!("it ends within a batch, or has not {} of them", run.batches);
            self.lose(&mut read, &reason);
        }
        let is_known = self
            .damages
            .iter()
            .any(|damage| matches!(damage.problem, Problem::Damaged { .. }));
        if read.digest.finalize() != u64::from(run.crc) && !is_known {
            let reason = format!(
                "bytes {} to {} do not match their checksum",
                run.position, read.end
            );
            let inside = |claim: &&Claim| claim.position < read.end && claim.end() > run.position;
            let claim = self.claims.iter().find(inside).copied();
            self.blame(claim, Problem::Damaged { reason });
        }
    }

    fn finish(&mut self) {
        while self.claim < self.claims.len() {
            self.next_claim();
        }
    }

    fn blame(&mut self, claim: Option<Claim>, problem: Problem) {
        self.damages.push(Damage { claim, problem });
    }
}
