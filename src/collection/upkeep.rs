//! Upkeep: room that is given back, when writes are durable, and the format that a collection is
//! written in.

use std::sync::PoisonError;

use super::Collection;
use crate::error::Result;
use crate::store::{Compaction, Durability};

impl Collection {
    /// Gives back the room on disk of records that were replaced or deleted. That goes on by itself
    /// whenever it is due; this does it at once, and more thoroughly. Searches and writes go on
    /// meanwhile.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::RecordId;
    ///
    /// notes.delete(&[RecordId::new("moon")?])?;
    /// let done = notes.compact()?;
    /// assert!(done.bytes_after < done.bytes_before && done.left_alone.is_empty());
    /// assert_eq!(notes.sizes().store.dead, 0);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A database of an older format, which [`Database::upgrade`](crate::Database::upgrade) makes
    /// new; a disk that does not answer or is full. Nothing is lost then, and writes go on.
    pub fn compact(&self) -> Result<Compaction> {
        self.compact_while(|| Ok(()))
    }

    /// The same, which asks now and then whether it is to go on; what was done until then stays
    /// done.
    pub(crate) fn compact_while(&self, go_on: impl Fn() -> Result<()>) -> Result<Compaction> {
        self.check_alive()?;
        self.inner.store.compact(go_on)
    }

    /// When a write is durable that does not say so itself.
    pub(super) fn durability(&self) -> Durability {
        // A value that is whole even after a panic.
        *self.inner.durability.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes when a write is durable that does not say so itself.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::Durability;
    ///
    /// notes.set_durability(Durability::interval(100)?)?;
    /// assert_eq!(notes.info().durability.to_string(), "interval:100");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A disk that does not answer.
    pub fn set_durability(&self, durability: Durability) -> Result<()> {
        let _one_at_a_time = self.check_alive().map(|()| self.changing())?;
        self.keep_settings(&self.inner.fields.names(), durability)?;
        *self.inner.durability.lock().unwrap_or_else(PoisonError::into_inner) = durability;
        if durability == Durability::Sync { self.sync() } else { Ok(()) }
    }

    /// Makes all that was acknowledged durable.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// notes.sync()?;
    /// assert_eq!(notes.sizes().store.unsynced_bytes, 0);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A sync that fails, now or earlier: then what was acknowledged since the last one may be lost
    /// in a power cut, and writes are refused.
    pub fn sync(&self) -> Result<()> {
        self.check_alive()?;
        self.inner.store.sync()
    }

    /// Prepares for being closed: see [`Store::settle`](crate::store::Store::settle).
    pub(crate) fn settle(&self) -> Result<()> {
        self.inner.store.settle()
    }

    /// Verifies all checksums, at the pace of who asks for it (see
    /// [`Store::scrub`](crate::store::Store::scrub)).
    pub(crate) fn scrub(&self, mut pace: impl FnMut(u64) -> bool) -> Result<bool> {
        self.check_alive()?;
        self.inner.store.scrub(|bytes| pace(bytes) && self.check_alive().is_ok())
    }

    /// Goes over to the newest format.
    pub(crate) fn upgrade(&self) -> Result<()> {
        self.inner.store.upgrade()
    }
}
