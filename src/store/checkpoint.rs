//! Checkpoints: what came since the last one is merged into the table, in the order of the table.
//!
//! What is being merged stays in memory, under `merging`, until the table has it; look-ups go
//! through both. Nothing depends on a checkpoint being done: at the next open all that the table
//! lacks is read from the segments. Dead entries are dropped from the blocks that a merge writes
//! anyway, and from all once they are a quarter of the table.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::block::Run;
use super::bloom::Bloom;
use super::contents;
use super::hash::hash_of;
use super::recent::Recent;
use super::table::Broken;
use super::{Shared, Store, lock_mutex};
use crate::error::Result;

/// A checkpoint is due when there is more in memory than this share of the table: so that a large
/// table is not rewritten for a few records, and memory stays a small part of what is kept.
pub(super) const DUE_SHARE: u64 = 8;
/// Writers wait while there is this many times more in memory than makes a checkpoint due.
pub(super) const WAIT_FACTOR: u64 = 4;
/// After one that failed none begins by itself for so long.
const PATIENCE: Duration = Duration::from_secs(5);

impl Store {
    /// Merges all that is in memory into the table. Needed for nothing; the next open is quicker.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) where the table fails and could not be filled
    /// again.
    pub fn checkpoint(&self) -> Result<()> {
        self.shared.checkpointer.join();
        self.shared.run_checkpoint()?;
        let broken = self.shared.state().broken.clone();
        if let Some(reason) = broken {
            self.shared.rebuild_table(&mut lock_mutex(&self.shared.writer), reason)?;
            self.shared.run_checkpoint()?;
            if let Some(reason) = self.shared.state().broken.clone() {
                return Err(self.shared.table.error(reason));
            }
        }
        self.shared.table.renew_if_due(|| Ok(()));
        Ok(())
    }

    /// Puts all that there is into the table, so that closing tells it nothing more: what another
    /// collection leaves when it is closed stays true then.
    ///
    /// # Errors
    /// As [`Store::checkpoint`].
    pub fn settle(&self) -> Result<()> {
        if self.shared.poison.get().is_some() {
            return Ok(());
        }
        self.sync()?;
        let noted = lock_mutex(&self.shared.manifest).segments.last().copied();
        let merged = {
            let state = self.shared.state();
            let merged = state.reach == state.segments.next();
            merged && noted == Some(state.segments.open().known)
        };
        if !merged {
            self.checkpoint()?;
        }
        if self.shared.leaves_closed() { self.shared.stamp() } else { Ok(()) }
    }

    /// Writes nothing from now on, because the files are about to be removed. Reads go on.
    pub fn retire(&self) {
        let no_writer = lock_mutex(&self.shared.writer);
        // Where it was set before, writes are refused already.
        let _ = self.shared.poison.set("the collection was deleted".to_owned());
        drop(no_writer);
        self.join_background();
        drop(lock_mutex(&self.shared.compacting));
        // And whoever notes something in the MANIFEST came before, or is refused.
        drop(lock_mutex(&self.shared.manifest));
    }

    /// Waits for what goes on beside the writers.
    pub(super) fn join_background(&self) {
        self.shared.checkpointer.join();
        self.shared.compactor.join();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.queue.stop();
        self.shared.syncer.stop();
        self.join_background();
        if self.shared.check_poison().is_err() {
            // The disk failed: leave it as it is.
            return;
        }
        let cut_ahead = || {
            let _writer = lock_mutex(&self.shared.writer);
            self.shared.cut_ahead()
        };
        if let Err(error) = self.sync().and_then(|()| cut_ahead()) {
            tracing::error!(%error, "the last sync failed: what was not synced may be lost");
            return;
        }
        if let Err(error) = self.settle() {
            tracing::warn!(%error, "the last checkpoint failed; the next open reads more");
        }
        if let Err(error) = self.shared.leave_closed() {
            tracing::warn!(%error, "the next open reads the segments");
        }
    }
}

impl Shared {
    /// Starts a checkpoint in a thread of its own, where one is due and none runs.
    pub(super) fn checkpoint_if_due(self: &Arc<Self>) {
        let (due, recent) = self.due();
        let patient = || lock_mutex(&self.patient_until).is_none_or(|t| t < Instant::now());
        if recent < due || !patient() {
            return;
        }
        self.checkpointer.start(|| {
            let shared = Arc::clone(self);
            move || {
                if let Err(error) = shared.run_checkpoint() {
                    tracing::warn!(%error, "a checkpoint failed; it will be tried again");
                    *lock_mutex(&shared.patient_until) = Some(Instant::now() + PATIENCE);
                }
                shared.table.renew_if_due(|| shared.check_stop());
            }
        });
    }

    /// Called by the writer before a round: fills a broken table again, and waits for the running
    /// checkpoint where too much is in memory.
    pub(super) fn make_room(&self, writer: &mut Vec<u8>) -> Result<()> {
        let broken = self.state().broken.clone();
        if let Some(reason) = broken {
            self.rebuild_table(writer, reason)?;
        }
        let (due, recent) = self.due();
        if recent >= due.saturating_mul(WAIT_FACTOR) && !self.trees.given_up() {
            self.checkpointer.join();
        }
        Ok(())
    }

    /// Empties the table and puts everything into memory, for the next checkpoint to merge; or fills it
    /// at once, where memory is not to hold so much. Who calls this holds the writer, so that the
    /// segments do not grow.
    pub(super) fn rebuild_table(&self, _writer: &mut Vec<u8>, reason: impl Display) -> Result<()> {
        let _alone = lock_mutex(&self.checkpointing);
        tracing::warn!(
            collection = %self.dir.display(), %reason,
            "the table failed; it is filled again from the segments"
        );
        if self.lean {
            match self.refill()? {
                Ok(()) => return Ok(()),
                Err(reason) => tracing::warn!(%reason, "it is put into memory instead"),
            }
        }
        let files = self.state().segments.files();
        let contents = contents::read_again(&files, self.hasher, self.width)?;
        // Before the state is taken, for it may take its time.
        let change = self.table.change();
        // Nobody may look between the moment when the table is empty and that when memory is full.
        let mut state = self.state_mut();
        let cleared = change.and_then(|change| self.trees.clear(&change));
        self.trees.given_up.store(cleared.is_err(), Ordering::Release);
        self.trees.set_filling(false);
        if let Err(reason) = cleared {
            tracing::error!(%reason, "sled does not work; until it does all is kept in memory");
        }
        state.recent = contents.recent(&state.segments, 0);
        state.merging = None;
        state.broken = None;
        state.reach = 0;
        state.moves += 1;
        Ok(())
    }

    /// From how many records in memory on a checkpoint is due, and how many there are.
    fn due(&self) -> (u64, u64) {
        let due = self.limits.checkpoint_records.max(self.trees.ids.counts().entries / DUE_SHARE);
        (due, self.state().recent.len() as u64)
    }

    /// Merges what is in memory into the table. Where the table fails that is noted in `broken`.
    ///
    /// # Errors
    /// A full disk: nothing was begun then.
    pub(super) fn run_checkpoint(&self) -> Result<()> {
        let _alone = lock_mutex(&self.checkpointing);
        let sweep = {
            let state = self.state();
            if state.broken.is_some() {
                return Ok(());
            }
            let in_table = self.trees.ids.counts().entries;
            let live = state.segments.live().saturating_sub(state.recent.len() as u64);
            let sweep = in_table.saturating_sub(live) * 4 > in_table;
            self.table.check_room(self.trees.merge_bytes(state.recent.len() as u64, sweep))?;
            sweep
        };
        if self.trees.given_up() {
            // All is in memory.
            self.trees.empty(&self.table)?;
            let collection = self.dir.display();
            tracing::info!(%collection, "sled works again; the table is filled");
        }
        let (recent, reach) = {
            let mut state = self.state_mut();
            if state.merging.is_some() {
                // What it holds would be forgotten.
                let panicked = || Broken::Failed("a checkpoint panicked".to_owned());
                state.broken.get_or_insert_with(panicked);
            }
            // A look-up may have found out meanwhile.
            if state.broken.is_some() {
                return Ok(());
            }
            let reach = state.segments.next();
            let recent = std::mem::replace(&mut state.recent, Recent::new(self.width));
            let recent = Arc::new(recent);
            state.merging = Some(Arc::clone(&recent));
            (recent, reach)
        };
        let prune = |run: &mut Run| {
            let state = self.state();
            run.retain(|number| state.segments.is_live(number));
        };
        let merged = self.trees.merge(&recent, reach, sweep, prune);
        let merged = merged.and_then(|()| self.widen_known_ids(&recent));
        {
            let mut state = self.state_mut();
            match merged {
                Ok(()) => {
                    state.merging = None;
                    state.reach = reach;
                    state.moves += 1;
                }
                Err(broken) => state.broken = Some(broken),
            }
        }
        self.note_length()
    }

    /// Makes room for more ids where there is little, from the table and what is in memory.
    fn widen_known_ids(&self, merged: &Recent) -> Result<(), Broken> {
        let (room, held) = {
            let state = self.state();
            (state.known_ids.room(), state.known_ids.held())
        };
        if room > merged.len() {
            return Ok(());
        }
        let held = held + merged.len();
        let mut larger = Bloom::with_room(if self.lean { held + held / 8 } else { 2 * held });
        self.trees.ids.each_block(|_, block| {
            block.iter().for_each(|(key, _)| larger.insert(hash_of(key)));
            Ok(())
        })?;
        let mut state = self.state_mut();
        state.recent.hashes().for_each(|hash| larger.insert(hash));
        state.known_ids = larger;
        Ok(())
    }

    /// Notes in the MANIFEST how much of the open segment is durable: damage there can then not
    /// pass for a torn tail.
    fn note_length(&self) -> Result<()> {
        let mut manifest = lock_mutex(&self.manifest);
        let known = self.state().segments.open().known;
        if manifest.segments.last() == Some(&known) {
            return Ok(());
        }
        let longer = manifest.clone().with_open(known);
        self.write_manifest(&mut manifest, longer).map_err(|error| self.judge(error))
    }
}
