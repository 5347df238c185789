//! The whole ball, ring by ring: everything within a radius, read from the store as it is asked for.

use std::time::Instant;
use std::vec;

use super::Collection;
use super::search::check;
use super::selection::{READS_PER_LOOK, check_deadline};
use crate::error::{Error, Result};
use crate::index::{self, Neighbour};
use crate::search::{Hit, Search};
use crate::store::Hold;

/// The hits of a ball from the centre outwards; made by [`Collection::ball`].
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::Search;
///
/// let ball = notes.ball(&Search::text("rye bread").radius(64).limit(usize::MAX))?;
/// let hits = ball.collect::<nearbit::Result<Vec<_>>>()?;
/// assert_eq!(hits[0].id.as_str(), "bread"); // from the centre outwards
/// # Ok::<(), nearbit::Error>(())
/// ```
pub struct Ball {
    collection: Collection,
    found: vec::IntoIter<Neighbour>,
    /// So that what was found can be read.
    _hold: Hold,
    payload: bool,
    deadline: Option<Instant>,
    /// Hits that were read so far.
    read: usize,
}

impl Collection {
    /// Everything within `search.radius`, at most `search.limit` hits, nearest first. The index is
    /// asked at once, and a hit is read when it is its turn: of a ball however large only sixteen
    /// bytes a record are held. While a ball is held, so is the room on disk of what it may read.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::Search;
    ///
    /// let search = Search::text("the far side of the moon").radius(64).limit(usize::MAX);
    /// for hit in notes.ball(&search)? {
    ///     println!("{}", hit?.id);
    /// }
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Collection::search`]; a search without a radius, or with rescoring, diversity or
    /// groups, which need to see all hits first.
    pub fn ball(&self, search: &Search) -> Result<Ball> {
        self.check_alive()?;
        check(search)?;
        if search.radius.is_none() {
            return Err(Error::invalid("radius", "expected a radius, got none"));
        }
        if search.rescore.is_some() || search.diversity.is_some() || search.group_by.is_some() {
            let message = "expected neither rescoring nor diversity nor groups for a whole ball";
            return Err(Error::invalid("search", message));
        }
        let selection = self.select(search.filter.as_ref(), search.deadline)?;
        let prepared = self.prepare(search, None)?;
        let query = index::Query {
            limit: search.limit.saturating_add(usize::from(prepared.itself.is_some())),
            radius: search.radius,
            plan: search.plan,
            deadline: search.deadline,
            ..index::Query::nearest(&prepared.code, 0)
        };
        let mut found = selection.nearest(&self.inner.store, query)?.neighbours;
        found.retain(|neighbour| Some(neighbour.number) != prepared.itself);
        found.truncate(search.limit);
        Ok(Ball {
            collection: self.clone(),
            found: found.into_iter(),
            _hold: selection.hold,
            payload: search.payload,
            deadline: search.deadline,
            read: 0,
        })
    }
}

impl Iterator for Ball {
    /// # Errors
    /// Damaged bytes, a disk that does not answer, a deadline that passed.
    type Item = Result<Hit>;

    fn next(&mut self) -> Option<Self::Item> {
        let Neighbour { number, distance } = self.found.next()?;
        let looks = self.read.is_multiple_of(READS_PER_LOOK);
        self.read += 1;
        if looks && let Err(error) = check_deadline(self.deadline) {
            return Some(Err(error));
        }
        let bits = self.collection.width().bits() as f32;
        Some(self.collection.record(number).map(|record| Hit {
            id: record.id,
            distance,
            score: 1.0 - distance as f32 / bits,
            group: None,
            payload: self.payload.then_some(record.payload),
        }))
    }
}
