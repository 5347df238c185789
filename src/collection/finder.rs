//! What finds the records near a code: the index in memory, or the table on disk.
//!
//! The two give the same records in the same order. A view of the index is one state of it and
//! stays as it is; the table is as it is when a search ends, so that of its hits those that came
//! after the filter was asked are still to be tested.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Collection, IndexPlace};
use crate::code::{Code, Codes};
use crate::error::{Error, Result};
use crate::index::{self, Answer, Index, Memory, Neighbour, Plan, Snapshot, Stats, Weights};
use crate::store::{Committed, Live, Nearby, Store, Way};

/// What stands for a kernel where the table is searched.
const TABLE: &str = "table";

/// What finds records by their codes.
pub(super) enum Finder {
    Memory(Arc<Index>),
    Disk,
}

/// What a search looks into.
pub(super) enum View {
    Memory(Arc<Snapshot>),
    Disk {
        /// Records below this number were there when the view was taken.
        end: u64,
    },
}

impl Finder {
    /// The index of a store that was opened, in memory, where each group is shown from now on; the
    /// table, which is there already, is told by the store.
    pub(super) fn in_memory(store: &Store, live: Live) -> Self {
        let index = Arc::new(Index::open(store.width(), live.numbers, live.codes));
        let shown = Arc::clone(&index);
        store.on_commit(move |Committed { added, removed }| {
            shown.apply(&added.numbers, &added.codes, removed);
        });
        Self::Memory(index)
    }

    pub(super) fn view(&self, store: &Store) -> View {
        match self {
            Self::Memory(index) => View::Memory(index.snapshot()),
            Self::Disk => View::Disk { end: store.next_number() },
        }
    }

    /// The bytes of the index.
    pub(super) fn memory(&self) -> Memory {
        match self {
            Self::Memory(index) => index.memory(),
            Self::Disk => Memory::default(),
        }
    }
}

impl View {
    /// Whether the view stays as it is.
    pub(super) fn is_still(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// Finds neighbours; on disk also such that are younger than the view, whatever `query.only`
    /// says.
    pub(super) fn search(&self, store: &Store, query: &index::Query) -> Result<Answer> {
        match self {
            Self::Disk { end } => search_table(store, query, *end),
            Self::Memory(snapshot) => in_time(snapshot.search(query)),
        }
    }

    /// Answers many queries together; none where there is no index in memory.
    pub(super) fn search_batch(&self, queries: &[index::Query]) -> Vec<Result<Answer>> {
        match self {
            Self::Disk { .. } => Vec::new(),
            Self::Memory(snapshot) => {
                snapshot.search_batch(queries).into_iter().map(in_time).collect()
            }
        }
    }

    /// Whether a record with a code can be found.
    pub(super) fn shows(&self, number: u64) -> bool {
        match self {
            Self::Memory(snapshot) => snapshot.code(number).is_some(),
            Self::Disk { .. } => true,
        }
    }
}

fn in_time(answer: Answer) -> Result<Answer> {
    if answer.complete { Ok(answer) } else { Err(Error::Timeout) }
}

fn search_table(store: &Store, query: &index::Query, end: u64) -> Result<Answer> {
    let only = |number| query.only.is_none_or(|only| number >= end || only.contains(number));
    let near = store.nearest(&Nearby {
        code: query.code,
        limit: query.limit,
        radius: query.radius,
        only: &only,
        way: match query.plan {
            Plan::Auto => Way::Auto,
            Plan::Probe => Way::Rings,
            Plan::Scan => Way::Scan,
        },
        deadline: query.deadline,
    })?;
    let neighbour = |(number, distance)| Neighbour { distance, number };
    Ok(Answer {
        neighbours: near.hits.into_iter().map(neighbour).collect(),
        complete: true,
        stats: Stats {
            plan: if near.way == Way::Scan { Plan::Scan } else { Plan::Probe },
            kernel: TABLE,
            radius: near.radius,
            probes: near.probes,
            compared: near.compared,
            listed: false,
        },
    })
}

impl Collection {
    /// The index in memory, for what only that can do.
    pub(super) fn index_in_memory(&self, what: &str) -> Result<&Index> {
        match &self.inner.finder {
            Finder::Memory(index) => Ok(index),
            Finder::Disk => {
                let hint = match self.inner.settings.index {
                    IndexPlace::Memory => "open the database with Database::open",
                    IndexPlace::Disk => {
                        "copy its records into a collection whose index is in memory"
                    }
                };
                let name = self.name();
                let message =
                    format!("{what} needs an index in memory, and {name} is open on disk; {hint}");
                Err(Error::invalid("collection", message))
            }
        }
    }

    /// The code of a record that was found.
    pub(super) fn code_of(&self, view: &View, number: u64) -> Result<Code> {
        let code = match view {
            View::Memory(snapshot) => snapshot
                .code(number)
                .map(|words| Code::from_words(self.width(), words))
                .transpose()?,
            View::Disk { .. } => self.record(number)?.code,
        };
        code.ok_or_else(|| self.no_code(number))
    }

    fn no_code(&self, number: u64) -> Error {
        Error::damaged(self.name(), None, format!("no code of record number {number}"))
    }

    /// How well the codes of records that were found agree with a query's.
    pub(super) fn agreements(
        &self,
        view: &View,
        weights: &Weights,
        numbers: &[u64],
    ) -> Result<Vec<f32>> {
        if let View::Memory(snapshot) = view {
            let found = snapshot.agreements(weights, numbers).into_iter().zip(numbers);
            return found.map(|(found, &n)| found.ok_or_else(|| self.no_code(n))).collect();
        }
        let mut codes = Codes::with_capacity(self.width(), numbers.len());
        numbers.iter().try_for_each(|&number| codes.push(&self.code_of(view, number)?))?;
        Ok(weights.agreements(&codes))
    }

    /// The code of every record that has one, in no particular order. All of them are held in
    /// memory, also where the index is on disk.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(notes.codes()?.len(), 2);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A collection that was deleted; where the index is on disk, a table that fails.
    pub fn codes(&self) -> Result<Codes> {
        self.check_alive()?;
        let Finder::Memory(index) = &self.inner.finder else { return self.inner.store.codes() };
        let snapshot = index.snapshot();
        let mut codes = Codes::with_capacity(snapshot.width(), snapshot.len());
        snapshot.rows().try_for_each(|(_, words)| codes.push_words(words))?;
        Ok(codes)
    }

    /// How many records stand in buckets of each size: bucket size -> number of buckets.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(notes.bucket_sizes()?[&1], 2); // two codes with one record each
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Collection::codes`].
    pub fn bucket_sizes(&self) -> Result<BTreeMap<usize, usize>> {
        if let Finder::Memory(index) = &self.inner.finder {
            self.check_alive()?;
            return Ok(index.sorted_snapshot().bucket_sizes());
        }
        let codes = self.codes()?;
        let mut rows: Vec<&[u64]> = codes.rows().collect();
        rows.sort_unstable();
        let mut sizes = BTreeMap::new();
        for bucket in rows.chunk_by(|a, b| a == b) {
            *sizes.entry(bucket.len()).or_default() += 1;
        }
        Ok(sizes)
    }
}
