//! The records that a search may find, at one state of the index.
//!
//! A filter is answered by the indexes of its fields where they can, and by payloads where they
//! cannot. Where few payloads are in question they are read at once, and the search gets the set
//! of all that match. Where many are, the search goes on without them, and of what it finds, in
//! order, those payloads are read until there are enough hits.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Collection;
use super::finder::View;
use crate::error::{Error, Result};
use crate::filter::{Bounds, Filter, Known};
use crate::index::{self, Neighbour};
use crate::record::RecordId;
use crate::store::{Hold, Store};

/// So many payloads are read before the search: less work than to search twice.
const READ_FIRST: u64 = 256;

/// Where payloads are read afterwards, the search asks for so many times as many as are wanted,
/// and for at least so many; and for as many times more where that was too few.
const ASK_TIMES: usize = 8;
const ASK_LEAST: usize = 64;

/// Records that are read between two looks at the clock.
pub(super) const READS_PER_LOOK: usize = 32;

/// See the module.
pub(super) struct Selection<'a> {
    pub(super) view: View,
    /// So that what the view shows can be read.
    pub(super) hold: Hold,
    filter: Option<&'a Filter>,
    bounds: Bounds,
    /// Whether the search can be told whom it may find; otherwise everyone is asked for.
    narrow: bool,
    /// Whether nothing is left to be read.
    exact: bool,
    /// What payloads said; shared by the searches of a batch.
    read: Mutex<HashMap<u64, bool>>,
    /// Payloads that were read before the search.
    read_first: u64,
}

/// What the index found, less what does not match.
pub(super) struct Found {
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) stats: index::Stats,
    /// Payloads that were read for the filter.
    pub(super) tested: u64,
}

impl Collection {
    /// The records that match `filter`.
    pub(super) fn select<'a>(
        &self,
        filter: Option<&'a Filter>,
        deadline: Option<Instant>,
    ) -> Result<Selection<'a>> {
        let hold = self.inner.store.hold();
        let Some(filter) = filter else {
            return Ok(Selection {
                view: self.inner.finder.view(&self.inner.store),
                hold,
                filter: None,
                bounds: Bounds::none(),
                narrow: false,
                exact: true,
                read: Mutex::default(),
                read_first: 0,
            });
        };
        let (bounds, end, view) = self.bounds(filter, deadline)?;
        let mut selection = Selection {
            view,
            hold,
            filter: Some(filter),
            narrow: bounds.maybe.len() < end,
            exact: false,
            bounds,
            read: Mutex::default(),
            read_first: 0,
        };
        let unsure = selection.bounds.unsure();
        selection.exact = unsure.is_empty();
        if !selection.exact && unsure.len() <= READ_FIRST {
            for number in unsure.iter() {
                check_deadline(deadline)?;
                if selection.test(&self.inner.store, number)? {
                    selection.bounds.sure.insert(number);
                }
            }
            selection.bounds.maybe = selection.bounds.sure.clone();
            (selection.narrow, selection.exact) = (true, true);
            selection.read_first = unsure.len();
        }
        Ok(selection)
    }

    /// What the indexes of fields can say of a filter; the number that the next record gets; and a
    /// view of the records that they know of.
    pub(super) fn bounds(
        &self,
        filter: &Filter,
        deadline: Option<Instant>,
    ) -> Result<(Bounds, u64, View)> {
        let names = filter.ids();
        loop {
            let ids = self.numbers_of(&names)?;
            // Under one hold of the indexes: a record that dies in this state is forgotten by them
            // later, and what it shows was given a number before.
            let indexes = self.inner.fields.read();
            let view = self.inner.finder.view(&self.inner.store);
            let end = self.inner.store.next_number();
            let known = Known { fields: &indexes.by_field, ids: &ids.numbers, end };
            let bounds = Bounds::of(filter, &known);
            drop(indexes);
            // A record that is being replaced may be in this state under its old number, or under
            // one that is newer still: then another look is needed.
            let shown = ids.coded.iter().all(|number| view.shows(*number));
            if names.is_empty() || (shown && self.numbers_of(&names)?.numbers == ids.numbers) {
                return Ok((bounds, end, view));
            }
            check_deadline(deadline)?;
            std::thread::yield_now();
        }
    }

    fn numbers_of(&self, ids: &[&RecordId]) -> Result<Numbered> {
        let mut numbered = Numbered::default();
        for id in ids {
            if let Some((number, record)) = self.inner.store.get(id)? {
                numbered.numbers.insert((*id).clone(), number);
                numbered.coded.extend(record.code.map(|_| number));
            }
        }
        Ok(numbered)
    }
}

/// The records with certain ids.
#[derive(Default)]
struct Numbered {
    numbers: HashMap<RecordId, u64>,
    /// Those that have a code.
    coded: Vec<u64>,
}

impl Selection<'_> {
    /// The nearest records of the selection. `query.only` is set here.
    pub(super) fn nearest(&self, store: &Store, query: index::Query) -> Result<Found> {
        let query = self.narrowed(query);
        if self.exact && (self.filter.is_none() || self.view.is_still()) {
            return Ok(self.found(self.view.search(store, &query)?));
        }
        let mut tested = self.read_first;
        let mut ask = query.limit.saturating_mul(ASK_TIMES).max(ASK_LEAST);
        let (mut probes, mut compared) = (0, 0);
        loop {
            let answer = self.view.search(store, &index::Query { limit: ask, ..query })?;
            let mut stats = answer.stats;
            probes += stats.probes;
            compared += stats.compared;
            (stats.probes, stats.compared) = (probes, compared);
            let all = answer.neighbours.len() < ask;
            let mut neighbours = Vec::new();
            for (i, neighbour) in answer.neighbours.into_iter().enumerate() {
                if neighbours.len() == query.limit {
                    break;
                }
                if i % READS_PER_LOOK == 0 {
                    check_deadline(query.deadline)?;
                }
                if self.admits(store, neighbour.number, &mut tested)? {
                    neighbours.push(neighbour);
                }
            }
            if all || neighbours.len() == query.limit {
                return Ok(Found { neighbours, stats, tested });
            }
            ask = ask.saturating_mul(ASK_TIMES);
        }
    }

    /// The nearest records of the selection to each of many queries, one after the other; nothing
    /// where one question to an index in memory does not answer a query.
    pub(super) fn nearest_of_all(
        &self,
        queries: Vec<index::Query>,
    ) -> impl Iterator<Item = Result<Found>> {
        let queries: Vec<_> = queries.into_iter().map(|query| self.narrowed(query)).collect();
        let answers = if self.exact { self.view.search_batch(&queries) } else { Vec::new() };
        answers.into_iter().map(|answer| answer.map(|answer| self.found(answer)))
    }

    fn narrowed<'a>(&'a self, query: index::Query<'a>) -> index::Query<'a> {
        index::Query { only: self.narrow.then_some(&self.bounds.maybe), ..query }
    }

    fn found(&self, answer: index::Answer) -> Found {
        Found { neighbours: answer.neighbours, stats: answer.stats, tested: self.read_first }
    }

    /// Whether a record that may match does; counts it where its payload is read.
    fn admits(&self, store: &Store, number: u64, tested: &mut u64) -> Result<bool> {
        if self.bounds.sure.contains(number) {
            return Ok(true);
        }
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied();
        match known {
            Some(known) => Ok(known),
            None => {
                *tested += 1;
                self.test(store, number)
            }
        }
    }

    /// Reads whether a record matches.
    fn test(&self, store: &Store, number: u64) -> Result<bool> {
        let Some(filter) = self.filter else { return Ok(true) };
        let record = store.read(number)?;
        let matches = record.is_some_and(|record| filter.matches(&record.id, &record.payload));
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(number, matches);
        Ok(matches)
    }
}

/// An error where the deadline has passed.
pub(super) fn check_deadline(deadline: Option<Instant>) -> Result<()> {
    match deadline {
        Some(deadline) if Instant::now() >= deadline => Err(Error::Timeout),
        _ => Ok(()),
    }
}
