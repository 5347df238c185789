//! The table is written anew where its files have become much longer than what it holds.
//!
//! sled 0.34.7 writes blocks behind one another and gives little room back: a tree whose blocks were
//! all replaced a few times takes 2.5 times their bytes, and one that was dropped takes as many as
//! before. So all trees are copied, in order, into a new sled database beside the old one, which takes
//! its place:
//!
//! ```text
//! table       table.new              being copied, and worth nothing
//! table.old   table.new              durable by now; where it ends here the old one goes back
//! table       table.old              done, but for the old one
//! ```
//!
//! Look-ups go on: in the old one until the new one stands, and those that began in it end in it, for
//! its files are open. Writers go on too, but whoever merges into the table waits. The same can be
//! found in both, so a merge that reads the one and writes the other is none the worse for it.
//!
//! The copy is dense because sled writes each block once: a node splits at 17 entries into 9 and 8, and
//! is written again as a whole with its tenth change. So names come first, without their blocks, in
//! order, which makes nodes of 9; then the blocks, at most 9 for a node. Measured: 1.05 times the bytes
//! of the blocks, against 1.9 of blocks inserted at once; and no slower than a merge.
//!
//! A sled that could not write once, as when the disk was full, takes nothing more as long as it is open.
//! So it is replaced in the same way when there is room again: what of it can be read is copied, and a
//! collection whose part is torn finds nothing there, and fills it again from its segments.

use std::ffi::OsString;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use super::super::files::{Files, aside, room};
use super::super::lock_mutex;
use super::{Broken, Handle, Table, guarded, open_sled, sync_files};
use crate::error::{Error, Result};

/// How long its files may be: `times` the bytes of its blocks, a fraction, and so many more.
struct Allowed {
    times: (u64, u64),
    spare: u64,
}

const BY_ITSELF: Allowed = Allowed { times: (3, 2), spare: 4 << 20 };
const ON_DEMAND: Allowed = Allowed { times: (9, 8), spare: 1 << 20 };
/// By itself it is not tried again before the files have grown by this part.
const GROWN: u64 = 4;
/// Blocks that are copied at a time.
const BLOCKS: usize = 500;

/// Where the old table stands while the new one takes its place.
pub(super) fn old(dir: &Path) -> PathBuf {
    let mut name = OsString::from(dir);
    name.push(".old");
    name.into()
}

fn parent(dir: &Path) -> &Path {
    let named = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

/// Clears away what is left of a renewal that was interrupted. Nobody has the table open.
pub(super) fn settle(files: &Files, dir: &Path) -> Result<()> {
    let old = old(dir);
    if !files.exists(dir)? && files.exists(&old)? {
        files.rename(&old, dir)?;
        files.sync_dir(parent(dir))?;
    }
    files.remove_dir(&old)?;
    files.remove_dir(&aside(dir))
}

impl Table {
    /// Writes it anew where that is due. A failure is no more than a warning: nothing has changed
    /// then. `go_on` is asked now and then.
    pub(in crate::store) fn renew_if_due(&self, go_on: impl Fn() -> Result<()>) {
        let is_due = || {
            let tried = self.0.tried_at.load(Ordering::Relaxed);
            Ok(self.is_too_long(&BY_ITSELF)? && self.length()? > tried + tried / GROWN)
        };
        if let Err(error) = self.renew(is_due, go_on)
            && !matches!(error, Error::Interrupted)
        {
            tracing::warn!(table = %self.dir().display(), %error, "the table is not written anew");
        }
    }

    /// Writes it anew where there is something to gain.
    ///
    /// # Errors
    /// Whatever the operating system refuses, and what `go_on` returns, which is asked now and then.
    /// Nothing has changed then.
    pub(in crate::store) fn renew_on_demand(&self, go_on: impl Fn() -> Result<()>) -> Result<()> {
        self.renew(|| self.is_too_long(&ON_DEMAND), go_on)
    }

    /// Fails where the disk has no room for so many bytes more: a sled that finds out by itself is of no
    /// use any more.
    pub(in crate::store) fn check_room(&self, bytes: u64) -> Result<()> {
        if room(self.dir())? >= bytes {
            return Ok(());
        }
        Err(Error::io("write to", self.dir())(io::ErrorKind::StorageFull.into()))
    }

    fn is_too_long(&self, allowed: &Allowed) -> Result<bool> {
        Ok(self.length()? > self.needed(allowed))
    }

    /// The length that is allowed.
    fn needed(&self, allowed: &Allowed) -> u64 {
        // Trees that nobody has open yet take room too: what a copy did not make shorter is needed.
        let needed = self.blocks() + self.0.others.load(Ordering::Relaxed);
        needed / allowed.times.1 * allowed.times.0 + allowed.spare
    }

    /// The bytes of the blocks of all trees in use.
    fn blocks(&self) -> u64 {
        let trees = lock_mutex(&self.0.trees);
        let trees = trees.iter().filter_map(|(_, tree)| tree.upgrade());
        trees.map(|tree| tree.bytes.load(Ordering::Relaxed)).sum()
    }

    /// The names of trees in use that are torn.
    fn torn(&self) -> Vec<sled::IVec> {
        let trees = lock_mutex(&self.0.trees);
        let torn = |tree: &Weak<Handle>| tree.upgrade().is_some_and(|tree| tree.whole().is_err());
        trees
            .iter()
            .filter(|(_, tree)| torn(tree))
            .map(|(name, _)| name.as_bytes().into())
            .collect()
    }

    /// Writes it anew where `is_due` says so.
    pub(in crate::store) fn renew(
        &self,
        is_due: impl Fn() -> Result<bool>,
        go_on: impl Fn() -> Result<()>,
    ) -> Result<()> {
        {
            let _stays = self.still();
            if !is_due()? {
                return Ok(());
            }
        }
        let _alone = self.0.changes.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have done it meanwhile.
        if !is_due()? {
            return Ok(());
        }
        let files = &self.0.files;
        let renewed = self.take_notes_away().and_then(|()| self.replace(files, &go_on));
        if renewed.is_err() {
            // The next open removes what is left.
            let _ = files.remove_emptied(&aside(self.dir()));
        }
        let length = self.length()?;
        self.0.tried_at.store(length, Ordering::Relaxed);
        if renewed.is_ok() {
            let expected = self.blocks() / ON_DEMAND.times.1 * ON_DEMAND.times.0;
            self.0.others.store(length.saturating_sub(expected), Ordering::Relaxed);
        }
        renewed
    }

    /// Copies all, and goes over to the copy. Nobody changes anything meanwhile.
    fn replace(&self, files: &Files, go_on: &impl Fn() -> Result<()>) -> Result<()> {
        let (dir, new, old) = (self.dir(), aside(self.dir()), old(self.dir()));
        self.check_room(self.needed(&ON_DEMAND))?;
        files.remove_dir(&new)?;
        files.create_dir(&new)?;
        #[cfg(test)]
        if self.0.faults.stuck.load(Ordering::Relaxed) {
            return Err(refused(Broken::Failed("a test says so".to_owned())));
        }
        let db = open_sled(files, &new).map_err(refused)?;
        let from = self.0.db.load_full();
        let mut torn = self.torn();
        for name in from.tree_names() {
            if !torn.contains(&name) && !copy(&from, &db, &name, go_on)? {
                torn.push(name);
            }
        }
        for name in &torn {
            guarded(|| Ok(db.drop_tree(name)?)).map_err(refused)?;
        }
        guarded(|| Ok(db.flush()?)).map_err(refused)?;
        sync_files(files, &new)?;
        let mut trees = lock_mutex(&self.0.trees);
        trees.retain(|(name, tree)| {
            tree.strong_count() > 0 && from.tree_names().iter().any(|n| n == name.as_bytes())
        });
        let trees: Vec<_> = trees
            .iter()
            .filter_map(|(name, tree)| Some((tree.upgrade()?, name)))
            .map(|(tree, name)| {
                let torn = torn.iter().any(|torn| torn == name.as_bytes());
                guarded(|| Ok((tree, Arc::new(db.open_tree(name)?), torn)))
            })
            .collect::<Result<_, _>>()
            .map_err(refused)?;
        files.rename(dir, &old)?;
        let parent = parent(dir);
        let away = files.sync_dir(parent);
        let there =
            away.and_then(|()| files.rename(&new, dir)).and_then(|()| files.sync_dir(parent));
        if let Err(error) = there {
            // What does not go back either the next open puts right.
            let _ = files.rename(dir, &new);
            let _ = files.rename(&old, dir).and_then(|()| files.sync_dir(parent));
            return Err(error);
        }
        for (handle, tree, torn) in trees {
            handle.torn.store(torn, Ordering::Release);
            handle.tree.store(tree);
        }
        self.0.db.store(Arc::new(db));
        #[cfg(test)]
        self.0.faults.dead.store(false, Ordering::Relaxed);
        let works = guarded(|| Ok(from.flush()?)).is_ok();
        // One that does not work may never close its files.
        let removed = if works { files.remove_dir(&old) } else { files.remove_emptied(&old) };
        if let Err(error) = removed {
            tracing::warn!(%error, "the old table stays until the next open");
        }
        Ok(())
    }
}

/// Copies a tree; false where it cannot be read.
fn copy(
    from: &sled::Db,
    to: &sled::Db,
    name: &[u8],
    go_on: &impl Fn() -> Result<()>,
) -> Result<bool> {
    let to = guarded(|| Ok(to.open_tree(name)?)).map_err(refused)?;
    let mut last: Option<sled::IVec> = None;
    loop {
        go_on()?;
        let read = guarded(|| {
            let after = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let from = from.open_tree(name)?;
            let range = from.range::<&sled::IVec, _>((after, Bound::Unbounded)).take(BLOCKS);
            Ok(range.collect::<sled::Result<Vec<_>>>()?)
        });
        let items = match read {
            Ok(items) => items,
            Err(reason) => {
                tracing::warn!(%reason, "a tree of the table cannot be read, and is filled again");
                return Ok(false);
            }
        };
        let copied = guarded(|| {
            let mut blocks = sled::Batch::default();
            for (name, block) in &items {
                to.insert(name, b"")?;
                blocks.insert(name, block);
            }
            to.apply_batch(blocks)?;
            Ok(items.into_iter().next_back().map(|(name, _)| name))
        });
        last = copied.map_err(refused)?;
        if last.is_none() {
            return Ok(true);
        }
    }
}

fn refused(reason: Broken) -> Error {
    Error::Unavailable {
        what: format!("the table cannot be written anew: {reason}"),
        hint: "is there room on the disk for another one? Nothing has changed".to_owned(),
    }
}
