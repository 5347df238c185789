//! The search: the query becomes a code, the index finds numbers among those that match, the store
//! turns them into hits.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::Collection;
use super::selection::{READS_PER_LOOK, Selection, check_deadline};
use crate::code::Code;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::index;
use crate::record::{Hit, Record};
use crate::search::{Answer, Query, Search, SearchStats};

impl Collection {
    /// Finds the nearest records.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::{Filter, RecordId, Search};
    ///
    /// let answer = notes.search(&Search::text("the dark side of the moon").limit(1))?;
    /// assert_eq!(answer.hits[0].id.as_str(), "moon");
    /// println!("{} bits away, by {}", answer.hits[0].distance, answer.stats.plan.name());
    ///
    /// // A search by id leaves the record itself out.
    /// let others = notes.search(&Search::id(RecordId::new("moon")?))?;
    /// assert_eq!(others.hits[0].id.as_str(), "bread");
    ///
    /// // A filter is asked before the nearest are taken.
    /// let food = Filter::parse(r#"label == "food""#)?;
    /// let answer = notes.search(&Search::text("the far side of the moon").limit(1).filter(food))?;
    /// assert_eq!(answer.hits[0].id.as_str(), "bread");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A query that the encoder does not take, an id that is not there, a deadline that passed.
    pub fn search(&self, search: &Search) -> Result<Answer> {
        self.check_alive()?;
        let start = Instant::now();
        let selection = self.select(search.filter.as_ref(), search.deadline)?;
        let filtering = start.elapsed();
        let mut answer = self.search_among(&selection, search)?;
        answer.stats.filtering = filtering;
        Ok(answer)
    }

    /// Answers many searches, on all cores. Those with the same filter see the same records.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::Search;
    ///
    /// let answers = notes.search_batch(&[Search::text("the moon"), Search::text("rye bread")])?;
    /// assert_eq!(answers[1].hits[0].id.as_str(), "bread");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first error among them, its place preceded by `searches[3].`.
    pub fn search_batch(&self, searches: &[Search]) -> Result<Vec<Answer>> {
        self.check_alive()?;
        let place = |i: usize| move |e: Error| e.within(&format!("searches[{i}]."));
        // A filter is answered once, however many searches share it.
        let mut selections: Vec<(Option<&Filter>, Selection, Duration)> = Vec::new();
        let mut of_search = Vec::with_capacity(searches.len());
        for (i, search) in searches.iter().enumerate() {
            let filter = search.filter.as_ref();
            let known = selections.iter().rposition(|(known, ..)| *known == filter);
            of_search.push(match known {
                Some(known) => known,
                None => {
                    let start = Instant::now();
                    let selection = self.select(filter, search.deadline).map_err(place(i))?;
                    selections.push((filter, selection, start.elapsed()));
                    selections.len() - 1
                }
            });
        }
        let answer = |(i, search): (usize, &Search)| {
            let (_, selection, filtering) = &selections[of_search[i]];
            let mut answer = self.search_among(selection, search).map_err(place(i))?;
            answer.stats.filtering = *filtering;
            Ok(answer)
        };
        searches.par_iter().enumerate().map(answer).collect()
    }

    /// Everything within `radius` bits of `code`, looked up in the hash table on disk instead of
    /// the index in memory: the same hits in the same order.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::{Search, Source};
    ///
    /// let code = notes.encode_one(&Source::Text("the far side of the moon".to_owned()))?;
    /// let on_disk = notes.lookup(&code, 2, usize::MAX)?;
    /// assert_eq!(on_disk[0].id.as_str(), "moon");
    /// assert_eq!(on_disk, notes.search(&Search::code(code).radius(2))?.hits);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A code of another width, damaged bytes, or a disk that does not answer.
    pub fn lookup(&self, code: &Code, radius: u32, limit: usize) -> Result<Vec<Hit>> {
        self.check_alive()?;
        let found = self.inner.store.within(code, radius, limit)?;
        let hit = |(number, distance)| Ok(self.hit(self.record(number)?, distance, true));
        found.into_iter().map(hit).collect()
    }

    /// Searches among records that were selected; `filtering` is left to the caller.
    fn search_among(&self, selection: &Selection, search: &Search) -> Result<Answer> {
        let start = Instant::now();
        let (code, itself) = self.query_code(&search.query)?;
        let encoded = Instant::now();
        let query = index::Query {
            // One more, where the record that was asked about will be taken out again.
            limit: search.limit.saturating_add(usize::from(itself.is_some())),
            radius: search.radius,
            plan: search.plan,
            deadline: search.deadline,
            ..index::Query::nearest(&code, 0)
        };
        let found = selection.nearest(&self.inner.store, query)?;
        let searched = Instant::now();
        let neighbours = found.neighbours.iter().filter(|n| Some(n.number) != itself);
        let mut hits = Vec::new();
        for (i, neighbour) in neighbours.take(search.limit).enumerate() {
            if i % READS_PER_LOOK == 0 {
                check_deadline(search.deadline)?;
            }
            let record = self.record(neighbour.number)?;
            hits.push(self.hit(record, neighbour.distance, search.payload));
        }
        Ok(Answer {
            hits,
            complete: true,
            stats: SearchStats {
                plan: found.stats.plan,
                kernel: found.stats.kernel,
                radius: found.stats.radius,
                probes: found.stats.probes,
                compared: found.stats.compared,
                tested: found.tested,
                filtering: Duration::ZERO,
                encoding: encoded - start,
                searching: searched - encoded,
                reading: searched.elapsed(),
            },
        })
    }

    /// The query's code; and the record's number where the query is a stored record.
    fn query_code(&self, query: &Query) -> Result<(Code, Option<u64>)> {
        match query {
            Query::Source(source) => {
                self.encode_one(source).map(|code| (code, None)).map_err(|e| e.within("query."))
            }
            Query::Id(id) => {
                let (number, record) = self.inner.store.get(id)?.ok_or_else(|| {
                    Error::not_found("record", id.as_str(), "ask for an id that was stored")
                })?;
                let code = record.code.ok_or_else(|| {
                    Error::invalid("query.id", format!("record {id} was stored without a source"))
                })?;
                Ok((code, Some(number)))
            }
        }
    }

    /// The record of a number that was found.
    fn record(&self, number: u64) -> Result<Record> {
        self.inner.store.read(number)?.ok_or_else(|| {
            let message = format!("the index has record number {number}, the store has not");
            Error::damaged(self.name(), None, message)
        })
    }

    fn hit(&self, record: Record, distance: u32, payload: bool) -> Hit {
        let bits = self.width().bits() as f32;
        Hit {
            id: record.id,
            distance,
            score: 1.0 - distance as f32 / bits,
            payload: payload.then_some(record.payload),
        }
    }
}
