//! Records by filter, near or far: counting, listing and deleting those that match.

use std::time::Instant;

use rayon::prelude::*;

use super::selection::{READS_PER_LOOK, check_deadline};
use super::{Collection, Page};
use crate::error::Result;
use crate::filter::Filter;
use crate::record::{Record, RecordId};

/// Records that are read between two looks at the clock, and deleted in one group.
const CHUNK: usize = 4096;

impl Collection {
    /// The number of records that match.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::Filter;
    ///
    /// assert_eq!(notes.count(&Filter::parse(r#"label == "space""#)?)?, 1);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A filter that is too deep, damaged bytes, or a disk that does not answer.
    pub fn count(&self, filter: &Filter) -> Result<u64> {
        self.count_before(filter, None)
    }

    /// The same, which gives up at a deadline.
    pub(crate) fn count_before(&self, filter: &Filter, deadline: Option<Instant>) -> Result<u64> {
        self.check_alive()?;
        filter.check()?;
        // What is live at one moment is read as it was then.
        let _hold = self.inner.store.hold();
        let (bounds, end, _) = self.bounds(filter, deadline)?;
        let live = self.inner.store.live(bounds.maybe.iter(), end);
        let (sure, unsure): (Vec<u64>, Vec<u64>) =
            live.into_iter().partition(|number| bounds.sure.contains(*number));
        let mut count = sure.len();
        for chunk in unsure.chunks(CHUNK) {
            check_deadline(deadline)?;
            let matching = chunk.par_iter().map(|&number| self.read_matching(filter, number));
            count += matching
                .filter_map(Result::transpose)
                .map(|r| r.map(|_| 1))
                .try_reduce(|| 0, |a, b| Ok(a + b))?;
        }
        Ok(count as u64)
    }

    /// A page of at most `limit` records that match, oldest first, after the place where another
    /// page ended.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::Filter;
    ///
    /// let page = notes.list_matching(&Filter::parse(r#"label != "space""#)?, None, 10)?;
    /// assert_eq!(page.records[0].id.as_str(), "bread");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A filter that is too deep, damaged bytes, or a disk that does not answer.
    pub fn list_matching(&self, filter: &Filter, after: Option<u64>, limit: usize) -> Result<Page> {
        self.list_matching_before(filter, after, limit, None)
    }

    /// The same, which gives up at a deadline.
    pub(crate) fn list_matching_before(
        &self,
        filter: &Filter,
        after: Option<u64>,
        limit: usize,
        deadline: Option<Instant>,
    ) -> Result<Page> {
        self.check_alive()?;
        filter.check()?;
        let store = &self.inner.store;
        let _hold = store.hold();
        let (mut bounds, mut end, _) = self.bounds(filter, deadline)?;
        if let Some(after) = after {
            bounds.maybe.remove_range(0..after.saturating_add(1));
            end = end.max(after.saturating_add(1));
        }
        let mut page = Page { records: Vec::new(), next: None };
        // What is replaced before its turn comes has a newer number then; all of them at one moment.
        let newer = std::iter::once_with(|| store.live([], end)).flatten();
        for (i, number) in bounds.maybe.iter().chain(newer).enumerate() {
            if page.records.len() == limit {
                return Ok(page);
            }
            if i % READS_PER_LOOK == 0 {
                check_deadline(deadline)?;
            }
            if number < end && !store.is_live(number) {
                continue;
            }
            let record = match bounds.sure.contains(number) {
                true => store.read(number)?,
                false => self.read_matching(filter, number)?,
            };
            // What is replaced after its turn stands here already.
            let stands =
                |id: &RecordId| number >= end && page.records.iter().any(|known| known.id == *id);
            let record = record.filter(|record| !stands(&record.id));
            page.records.extend(record);
            page.next = Some(number);
        }
        if page.records.len() < limit {
            page.next = None;
        }
        Ok(page)
    }

    /// Deletes the records that match, and tells how many there were. They go group by group, so
    /// that after an error some may be left; one that is replaced while this runs may be deleted in
    /// its new form.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::Filter;
    ///
    /// assert_eq!(notes.delete_matching(&Filter::parse(r#"label == "space""#)?)?, 1);
    /// assert_eq!(notes.info().records, 1);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A filter that is too deep, a store that refuses writes since one failed, damaged bytes, or
    /// a disk that does not answer.
    pub fn delete_matching(&self, filter: &Filter) -> Result<u64> {
        self.delete_matching_before(filter, None)
    }

    /// The same, which gives up at a deadline, between two groups too.
    pub(crate) fn delete_matching_before(
        &self,
        filter: &Filter,
        deadline: Option<Instant>,
    ) -> Result<u64> {
        let (mut deleted, mut after) = (0, None);
        loop {
            let page = self.list_matching_before(filter, after, CHUNK, deadline)?;
            let ids: Vec<RecordId> = page.records.into_iter().map(|record| record.id).collect();
            deleted += self.delete(&ids)?.into_iter().filter(|deleted| *deleted).count() as u64;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(deleted),
            }
        }
    }

    /// Reads a record, which may match.
    fn read_matching(&self, filter: &Filter, number: u64) -> Result<Option<Record>> {
        let record = self.inner.store.read(number)?;
        Ok(record.filter(|record| filter.matches(&record.id, &record.payload)))
    }
}
