//! The whole ball, ring by ring: everything within a radius, read from the store as it is asked for.

use std::time::Instant;
use std::vec;

use super::Collection;
use super::search::check;
use super::selection::{READS_PER_LOOK, check_deadline};
use crate::error::{Error, Result};
use crate::index::Neighbour;
use crate::search::{Hit, Search};
use crate::store::{Head, Hold};

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
    /// Hits that were read together, in order.
    read: vec::IntoIter<Result<Hit>>,
    /// So that what was found can be read.
    _hold: Hold,
    payload: bool,
    deadline: Option<Instant>,
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
        let query = prepared.query(search, search.limit);
        let found = selection.nearest(&self.inner.store, query)?.neighbours;
        let found = prepared.others(found, search.limit);
        Ok(Ball {
            collection: self.clone(),
            found: found.into_iter(),
            read: Vec::new().into_iter(),
            _hold: selection.hold,
            payload: search.payload,
            deadline: search.deadline,
        })
    }
}

impl Ball {
    /// Reads some hits; those that can be where others cannot.
    fn read_some(&self, found: &[Neighbour]) -> Vec<Result<Hit>> {
        let bits = self.collection.width().bits() as f32;
        let numbers: Vec<u64> = found.iter().map(|neighbour| neighbour.number).collect();
        let heads = match self.collection.heads(&numbers, self.payload) {
            Ok(heads) => heads.into_iter().map(Ok).collect(),
            Err(error) if found.len() == 1 => vec![Err(error)],
            Err(_) => return found.chunks(1).flat_map(|one| self.read_some(one)).collect(),
        };
        let hit = |(neighbour, head): (&Neighbour, Result<Head>)| {
            let (id, payload) = head?;
            let distance = neighbour.distance;
            let score = 1.0 - distance as f32 / bits;
            Ok(Hit { id, distance, score, group: None, payload })
        };
        found.iter().zip(heads).map(hit).collect()
    }
}

impl Iterator for Ball {
    /// # Errors
    /// Damaged bytes, a disk that does not answer, a deadline that passed.
    type Item = Result<Hit>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.as_slice().is_empty() {
            let found: Vec<Neighbour> = self.found.by_ref().take(READS_PER_LOOK).collect();
            if !found.is_empty()
                && let Err(error) = check_deadline(self.deadline)
            {
                return Some(Err(error));
            }
            self.read = self.read_some(&found).into_iter();
        }
        self.read.next()
    }
}
