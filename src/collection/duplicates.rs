//! Near duplicates: the groups that the index finds, by id.

use super::Collection;
use crate::error::Result;
use crate::record::RecordId;

impl Collection {
    /// Groups of two records or more within `radius` bits of one another, directly or through
    /// others: the oldest record of a group first, and the group with the oldest record first.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::NewRecord;
    ///
    /// let copy = NewRecord::text("the far side of the moon").with_id("moon-2")?;
    /// notes.upsert(vec![copy])?;
    /// let groups = notes.near_duplicates(2)?;
    /// assert_eq!(groups.len(), 1);
    /// assert_eq!((groups[0][0].as_str(), groups[0][1].as_str()), ("moon", "moon-2"));
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A collection whose index is on disk, damaged bytes, or a disk that does not answer.
    pub fn near_duplicates(&self, radius: u32) -> Result<Vec<Vec<RecordId>>> {
        self.check_alive()?;
        let _hold = self.inner.store.hold();
        let index = self.index_in_memory("to find near duplicates")?;
        let groups = index.sorted_snapshot().groups(radius);
        let ids = |group: &Vec<u64>| {
            Ok(self.heads(group, false)?.into_iter().map(|(id, _)| id).collect())
        };
        groups.iter().map(ids).collect()
    }
}
