//! Upkeep: room that is given back, and the format that a collection is written in.

use super::Collection;
use crate::error::Result;
use crate::store::Compaction;

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

    /// Goes over to the newest format.
    pub(crate) fn upgrade(&self) -> Result<()> {
        self.inner.store.upgrade()
    }
}
