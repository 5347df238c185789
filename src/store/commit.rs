//! Commits: one atomic group on disk for all writers that wait, one sync for all of them.
//!
//! A writer prepares its records and queues (`queue`). Who leads a round takes what waits, looks the
//! ids up, writes one group, syncs it, makes it visible, tells those who listen, and then the writers.
//! Meanwhile the next round gathers. So under load a sync serves many writers.
//!
//! Memory: a writer that waits holds its own group, ready to be written, instead of the operations
//! that it came with, at most [`Limits::group_bytes`](super::Limits); beside those there is one
//! buffer for the group that is being written, of the same size. What is written stays in memory
//! until a checkpoint took it over; writers wait for one that lags behind (`checkpoint`). So who
//! bounds the writers bounds the memory; the server does it by `max_write_bytes`.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use super::durability::Durability;
use super::format::{Body, Kind, Layout, write_delete_body, write_put};
use super::segment::Place;
use super::table::Broken;
use super::{Committed, Operation, Outcome, Shared, Store, lock_mutex};
use crate::code::{Code, Width};
use crate::error::{Error, Result};

/// More than a record takes beside its body.
const RECORD_OVERHEAD: usize = 32;

/// The operations of one caller, ready to be written.
#[derive(Debug)]
pub(super) struct Batch {
    durability: Durability,
    items: Vec<Item>,
    bodies: Vec<u8>,
}

#[derive(Debug)]
struct Item {
    kind: Kind,
    parts: u8,
    hash: u64,
    /// Where in `bodies` the bytes of the record stand that are known before its number is.
    body: Range<usize>,
    code: Option<Code>,
}

impl Batch {
    /// The bytes that it takes in a group, at most.
    pub(super) fn bytes(&self) -> usize {
        self.bodies.len() + RECORD_OVERHEAD * self.items.len()
    }

    fn pending(&self) -> impl Iterator<Item = Pending<'_>> {
        self.items.iter().map(|item| Pending {
            kind: item.kind,
            parts: item.parts,
            hash: item.hash,
            body: &self.bodies[item.body.clone()],
            code: item.code.as_ref(),
        })
    }
}

/// An operation that is to be written.
pub(super) struct Pending<'a> {
    pub(super) kind: Kind,
    pub(super) parts: u8,
    pub(super) hash: u64,
    pub(super) body: &'a [u8],
    pub(super) code: Option<&'a Code>,
}

impl Pending<'_> {
    fn id(&self, width: Width) -> String {
        Body::read(self.parts, self.body, width)
            .map_or_else(String::new, |body| body.id.text().to_string())
    }
}

/// Those who are told of each group.
#[derive(Default)]
pub(super) struct Listeners(RwLock<Vec<Listener>>);

type Listener = Box<dyn Fn(&Committed) + Send + Sync>;

impl Listeners {
    fn tell(&self, committed: &Committed) {
        let listeners = self.0.read().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().for_each(|listener| listener(committed));
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listeners")
    }
}

impl Store {
    /// Does all of `operations` or nothing, in their order, and returns what came of each once all
    /// of it is durable.
    ///
    /// Callers that wait together are served together.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a code of another width or more than one group can hold,
    /// [`Error::Io`] where a write failed (see [`Error::is_full`]: then it may be tried again),
    /// [`Error::Unavailable`] after an earlier failure. Nothing of `operations` is done then.
    pub fn commit(&self, operations: Vec<Operation>) -> Result<Vec<Outcome>> {
        self.commit_with(operations, Durability::Sync)
    }

    /// The same, durable when `durability` says. Callers that are served together have the earliest
    /// durability of all of them.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn commit_with(
        &self,
        operations: Vec<Operation>,
        durability: Durability,
    ) -> Result<Vec<Outcome>> {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let batch = self.prepare(operations, durability)?;
        self.shared.queue_up(batch)
    }

    /// Has `listener` told of each group from now on: after the sync, before any of the callers whose
    /// operations are in it returns, and in the order of the commits. It must not call the store, which
    /// waits for it.
    pub fn on_commit(&self, listener: impl Fn(&Committed) + Send + Sync + 'static) {
        let mut listeners = self.shared.listeners.0.write().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Box::new(listener));
    }

    /// Checks the operations and makes of them what can be made before the numbers are known.
    fn prepare(&self, operations: Vec<Operation>, durability: Durability) -> Result<Batch> {
        let Shared { width, hasher, limits, .. } = &*self.shared;
        let layout = Layout::of(self.version());
        let mut bodies = Vec::new();
        let mut items = Vec::with_capacity(operations.len());
        for (i, operation) in operations.into_iter().enumerate() {
            let start = bodies.len();
            let (kind, id, parts, code) = match operation {
                Operation::Delete(id) => {
                    write_delete_body(id.as_str(), &mut bodies);
                    (Kind::Delete, id, 0, None)
                }
                Operation::Put { record, vectors } => {
                    if let Some(code) = record.code.as_ref().filter(|code| code.width() != *width) {
                        let message = format!("expected {width}, got {}", code.width());
                        return Err(Error::invalid(format!("records[{i}].code"), message));
                    }
                    let parts = write_put(&record, vectors, layout, &mut bodies)
                        .map_err(|flaw| Error::invalid(format!("records[{i}]"), flaw))?;
                    (Kind::Put, record.id, parts, record.code)
                }
            };
            let hash = hasher.hash(id.as_str().as_bytes());
            items.push(Item { kind, parts, hash, body: start..bodies.len(), code });
        }
        let batch = Batch { durability, items, bodies };
        if batch.bytes() > limits.group_bytes {
            let (most, got) = (limits.group_bytes, batch.bytes());
            let message =
                format!("expected at most {most} bytes in one commit, got {got}: split it");
            return Err(Error::invalid("records", message));
        }
        Ok(batch)
    }
}

impl Shared {
    /// Writes one group for all of `batches`, and makes it visible.
    pub(super) fn commit_group(self: &Arc<Self>, batches: &[Batch]) -> Result<Vec<Vec<Outcome>>> {
        let mut buffer = lock_mutex(&self.writer);
        self.check_poison()?;
        self.make_room(&mut buffer)?;
        let pending: Vec<_> = batches.iter().flat_map(Batch::pending).collect();
        let killed = self.resolve(&pending, &mut buffer)?;
        let mut next = self.state().segments.next();
        let durability = batches.iter().map(|batch| batch.durability).min().unwrap_or_default();
        if let Some(written) = self.write(&pending, &killed, durability, &mut buffer)? {
            self.listeners.tell(&self.show(&pending, &killed, &written));
            if let Durability::Interval(interval) = durability
                && !self.sync_within(interval)
            {
                self.sync_open()?;
            }
            self.checkpoint_if_due();
            self.compact_if_due();
        } else if durability == Durability::Sync {
            // Nothing was to be done, perhaps because of a write that is not synced yet.
            self.sync_open()?;
        }
        let mut outcomes = pending.iter().zip(&killed).map(|(pending, killed)| {
            let number = next;
            next += u64::from(pending.kind == Kind::Put);
            match (pending.kind, *killed) {
                (Kind::Put, None) => Outcome::Inserted(number),
                (Kind::Put, Some(old)) => Outcome::Replaced { new: number, old },
                (Kind::Delete, Some(old)) => Outcome::Deleted(old),
                (Kind::Delete, None) => Outcome::Missing,
            }
        });
        let mut of = |batch: &Batch| outcomes.by_ref().take(batch.items.len()).collect();
        Ok(batches.iter().map(&mut of).collect())
    }

    /// The number of the record that each operation replaces or deletes.
    ///
    /// Ids are looked up in the order of their hashes, which is that of the table, so that a block
    /// is read once. Operations of one hash are then gone through in their own order, since the
    /// same id may come more than once.
    fn resolve(&self, pending: &[Pending], buffer: &mut Vec<u8>) -> Result<Vec<Option<u64>>> {
        let mut order: Vec<(u64, u32)> =
            pending.iter().zip(0..).map(|(pending, i)| (pending.hash, i)).collect();
        order.sort_unstable();
        let mut hashes: Vec<u64> = order.iter().map(|(hash, _)| *hash).collect();
        hashes.dedup();
        let mut found = self.find_all(&hashes, buffer)?.into_iter().peekable();
        let mut next = self.state().segments.next();
        let number = |pending: &Pending| {
            let number = next;
            next += u64::from(pending.kind == Kind::Put);
            number
        };
        let numbers: Vec<u64> = pending.iter().map(number).collect();
        let mut killed = vec![None; pending.len()];
        for same in order.chunk_by(|a, b| a.0 == b.0) {
            let mut known: Vec<(String, Option<u64>)> = Vec::new();
            while let Some((_, place)) = found.next_if(|(hash, _)| *hash == same[0].0) {
                let id = place.read(self.width, |record| Ok(record.body.id.text().to_string()));
                let id = match id {
                    // That 40 bits of a keyed hash agree leaves hardly a doubt that it is this id,
                    // and a record that cannot be read is no loss.
                    Err(error @ Error::Damaged { .. }) => {
                        tracing::warn!(%error, "a damaged record is replaced or deleted");
                        pending[same[0].1 as usize].id(self.width)
                    }
                    id => id?,
                };
                known.push((id, Some(place.number)));
            }
            if known.is_empty() && same.len() == 1 {
                continue;
            }
            for i in same.iter().map(|(_, i)| *i as usize) {
                let put = (pending[i].kind == Kind::Put).then_some(numbers[i]);
                let id = pending[i].id(self.width);
                match known.iter_mut().find(|(known, _)| *known == id) {
                    Some((_, number)) => killed[i] = std::mem::replace(number, put),
                    None => known.push((id, put)),
                }
            }
        }
        Ok(killed)
    }

    /// The live records whose ids have one of these hashes, which ascend; in the same order.
    fn find_all(&self, hashes: &[u64], buffer: &mut Vec<u8>) -> Result<Vec<(u64, Place)>> {
        let find = || -> Result<_, Broken> {
            // In memory first: what moves from there to the table meanwhile is found twice.
            let mut found = Vec::new();
            let state = self.state();
            let known = |hash: &u64| state.known_ids.may_hold(*hash);
            let hashes: Vec<u64> = hashes.iter().copied().filter(known).collect();
            for hash in &hashes {
                found.extend(state.find_recent(*hash).map(|number| (*hash, number)));
            }
            drop(state);
            self.trees.find_ids(&hashes, |i, number| found.push((hashes[i], number)))?;
            Ok(found)
        };
        let found = match find() {
            Err(reason) => {
                self.rebuild_table(buffer, reason)?;
                find()
            }
            found => found,
        };
        let mut found = found.map_err(|broken| self.table.error(broken))?;
        found.sort_unstable();
        found.dedup();
        let state = self.state();
        let place = |(hash, number)| Some((hash, state.segments.locate(number)?));
        Ok(found.into_iter().filter_map(place).collect())
    }
}
