//! The search: the query becomes a code, the index finds numbers among those that match, the store
//! turns them into hits.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::Collection;
use super::group::Group;
use super::rescore::{Candidate, Prepared, SIEVE};
use super::selection::{Found, READS_PER_LOOK, Selection, check_deadline};
use crate::code::Code;
use crate::error::{Error, Result};
use crate::filter::{Filter, Value};
use crate::index::{self, Neighbour, Plan};
use crate::record::Record;
use crate::search::{Answer, Diversity, GroupBy, Hit, Query, Rescore, Search, SearchStats};
use crate::store::Head;

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
        check(search)?;
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
    /// An error of one of them, its place preceded by `searches[3].`.
    pub fn search_batch(&self, searches: &[Search]) -> Result<Vec<Answer>> {
        self.check_alive()?;
        let place = |i: usize| move |e: Error| e.within(&format!("searches[{i}]."));
        // A filter is answered once, however many searches share it.
        let mut selections: Vec<(Option<&Filter>, Selection, Duration)> = Vec::new();
        let mut of_search = Vec::with_capacity(searches.len());
        for (i, search) in searches.iter().enumerate() {
            check(search).map_err(place(i))?;
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
        let start = Instant::now();
        let codes = self.query_codes(searches).map_err(|(i, error)| place(i)(error))?;
        let share = start.elapsed() / codes.iter().flatten().count().max(1) as u32;
        let prepare = |(i, (search, code)): (usize, (&Search, Option<Code>))| {
            let start = Instant::now();
            let shared = if code.is_some() { share } else { Duration::ZERO };
            let prepared = self.prepare(search, code).map_err(place(i))?;
            Ok((prepared, shared + start.elapsed()))
        };
        let prepared: Vec<(Prepared, Duration)> =
            searches.par_iter().zip(codes).enumerate().map(prepare).collect::<Result<_>>()?;
        // Those that one question to the index answers are asked together.
        let mut found: Vec<Option<(Result<Found>, Duration)>> = Vec::new();
        found.resize_with(searches.len(), || None);
        for (of, (_, selection, _)) in selections.iter().enumerate() {
            let together = |&i: &usize| of_search[i] == of && searches[i].group_by.is_none();
            let rows: Vec<usize> = (0..searches.len()).filter(together).collect();
            let queries = rows.iter().map(|&i| query(&prepared[i].0, &searches[i])).collect();
            let start = Instant::now();
            for (i, answer) in rows.into_iter().zip(selection.nearest_of_all(queries)) {
                found[i] = Some((answer, start.elapsed()));
            }
        }
        let answer = |(i, found): (usize, Option<(Result<Found>, Duration)>)| {
            let (_, selection, filtering) = &selections[of_search[i]];
            let (prepared, encoding) = &prepared[i];
            let found = found.map(|(found, took)| Ok((found?, took))).transpose();
            let answer =
                found.and_then(|found| self.answer(selection, &searches[i], prepared, found));
            let mut answer = answer.map_err(place(i))?;
            (answer.stats.filtering, answer.stats.encoding) = (*filtering, *encoding);
            Ok(answer)
        };
        found.into_par_iter().enumerate().map(answer).collect()
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
        let _hold = self.inner.store.hold();
        let found = self.inner.store.within(code, radius, limit)?;
        let bits = self.width().bits() as f32;
        let candidate = |(number, distance)| {
            let score = 1.0 - distance as f32 / bits;
            (None, Candidate { number, distance, score, record: None })
        };
        self.hits(found.into_iter().map(candidate), &Search::code(code.clone()))
    }

    /// The codes of the queries that are sources: many are encoded in far less time together than
    /// one by one.
    ///
    /// # Errors
    /// A source that does not fit, by the number of its search.
    fn query_codes(&self, searches: &[Search]) -> Result<Vec<Option<Code>>, (usize, Error)> {
        let (mut rows, mut sources) = (Vec::new(), Vec::new());
        for (i, search) in searches.iter().enumerate() {
            if let Query::Source(source) = &search.query {
                rows.push(i);
                sources.push(source);
            }
        }
        let encoded = self.inner.encoder.encode(&sources);
        let encoded = encoded.map_err(|(row, error)| (rows[row], error.within("query.")))?;
        let mut codes = vec![None; searches.len()];
        rows.into_iter().zip(encoded).for_each(|(i, code)| codes[i] = Some(code));
        Ok(codes)
    }

    /// Searches among records that were selected; `filtering` is left to the caller.
    fn search_among(&self, selection: &Selection, search: &Search) -> Result<Answer> {
        let start = Instant::now();
        let prepared = self.prepare(search, None)?;
        let encoding = start.elapsed();
        let mut answer = self.answer(selection, search, &prepared, None)?;
        answer.stats.encoding = encoding;
        Ok(answer)
    }

    /// Answers a search that is prepared, from what was `found` in a time, or asks for it.
    fn answer(
        &self,
        selection: &Selection,
        search: &Search,
        prepared: &Prepared,
        found: Option<(Found, Duration)>,
    ) -> Result<Answer> {
        let start = Instant::now();
        let mut stats = SearchStats::none();
        if let Some(by) = &search.group_by {
            let grouped = self.group(selection, prepared, search, by)?;
            stats.found(&grouped.stats, grouped.tested);
            stats.searching = start.elapsed();
            let hits = grouped.groups.into_iter().flat_map(|Group { value, candidates }| {
                candidates.into_iter().map(move |candidate| (Some(value.clone()), candidate))
            });
            let hits = self.hits(hits, search)?;
            stats.reading = start.elapsed() - stats.searching;
            return Ok(Answer { hits, complete: true, stats });
        }
        let (found, searching) = match found {
            Some(found) => found,
            None => {
                let found = selection.nearest(&self.inner.store, query(prepared, search))?;
                (found, start.elapsed())
            }
        };
        stats.searching = searching;
        stats.found(&found.stats, found.tested);
        let start = Instant::now();
        let candidates = self.choose(selection, prepared, search, found, &mut stats)?;
        stats.rescoring = start.elapsed();
        let hits = self.hits(candidates.into_iter().map(|candidate| (None, candidate)), search)?;
        stats.reading = start.elapsed() - stats.rescoring;
        Ok(Answer { hits, complete: true, stats })
    }

    /// Of what was found the nearest records, in their final order.
    fn choose(
        &self,
        selection: &Selection,
        prepared: &Prepared,
        search: &Search,
        found: Found,
        stats: &mut SearchStats,
    ) -> Result<Vec<Candidate>> {
        let Wanted { chosen_from, scored, found: wanted } = Wanted::of(prepared, search);
        let mut others = prepared.others(found.neighbours, wanted);
        let (scorer, view) = (&prepared.scorer, &selection.view);
        if let Some(sieve) = &prepared.sieve {
            let weighed = self.score(sieve, view, &others, search)?;
            let best = weighed.into_iter().take(scored);
            let neighbour = |c: Candidate| Neighbour { distance: c.distance, number: c.number };
            others = best.map(neighbour).collect();
        }
        let mut candidates = self.score(scorer, view, &others, search)?;
        if search.rescore.is_some() || search.diversity.is_some() {
            stats.rescored = candidates.len() as u64;
        }
        if let Some(diversity) = search.diversity {
            candidates.truncate(chosen_from);
            candidates =
                self.diversify(candidates, search.limit, diversity.weight, scorer, view)?;
        }
        candidates.truncate(search.limit);
        Ok(candidates)
    }

    /// Candidates as hits.
    fn hits(
        &self,
        mut candidates: impl Iterator<Item = (Option<Value>, Candidate)>,
        search: &Search,
    ) -> Result<Vec<Hit>> {
        let mut hits = Vec::new();
        loop {
            let some: Vec<_> = candidates.by_ref().take(READS_PER_LOOK).collect();
            if some.is_empty() {
                return Ok(hits);
            }
            check_deadline(search.deadline)?;
            let unread = some.iter().filter(|(_, candidate)| candidate.record.is_none());
            let unread: Vec<u64> = unread.map(|(_, candidate)| candidate.number).collect();
            let mut unread = self.heads(&unread, search.payload)?.into_iter();
            for (group, Candidate { distance, score, record, .. }) in some {
                let head =
                    record.map(|record| (record.id, search.payload.then_some(record.payload)));
                let head = head.or_else(|| unread.next());
                hits.extend(head.map(|(id, payload)| Hit { id, distance, score, group, payload }));
            }
        }
    }

    /// The record of a number that was found.
    pub(super) fn record(&self, number: u64) -> Result<Record> {
        self.inner.store.read(number)?.ok_or_else(|| self.no_record(number))
    }

    /// The ids of numbers that were found, and the payloads where they are wanted.
    pub(super) fn heads(&self, numbers: &[u64], payloads: bool) -> Result<Vec<Head>> {
        let heads = self.inner.store.heads(numbers, payloads)?.into_iter().zip(numbers);
        heads.map(|(head, number)| head.ok_or_else(|| self.no_record(*number))).collect()
    }

    fn no_record(&self, number: u64) -> Error {
        let message = format!("the index has record number {number}, the store has not");
        Error::damaged(self.name(), None, message)
    }
}

/// How many records a search wants at each of its stages.
struct Wanted {
    /// Among which the most diverse are chosen.
    chosen_from: usize,
    scored: usize,
    found: usize,
}

impl Wanted {
    fn of(prepared: &Prepared, search: &Search) -> Self {
        let chosen_from = search.diversity.map_or(search.limit, |d| d.candidates.max(search.limit));
        let oversampling = search.rescore.map_or(1, |rescore| rescore.oversampling);
        let scored = chosen_from.saturating_mul(oversampling);
        let found = match prepared.sieve {
            Some(_) => scored.saturating_mul(SIEVE),
            None => scored,
        };
        Self { chosen_from, scored, found }
    }
}

/// What a search asks the index.
fn query<'a>(prepared: &'a Prepared, search: &Search) -> index::Query<'a> {
    prepared.query(search, Wanted::of(prepared, search).found)
}

/// An error where a search asks for what does not go, or not together.
pub(super) fn check(search: &Search) -> Result<()> {
    if let Some(filter) = &search.filter {
        filter.check()?;
    }
    let most = Rescore::MAX_OVERSAMPLING;
    match search.rescore {
        Some(Rescore { oversampling, .. }) if !(1..=most).contains(&oversampling) => {
            let message = format!("expected 1 to {most}, got {oversampling}");
            return Err(Error::invalid("rescore.oversampling", message));
        }
        _ => {}
    }
    match search.diversity {
        Some(Diversity { weight, .. }) if !(0.0..=1.0).contains(&weight) => {
            let message = format!("expected 0 to 1, got {weight}");
            return Err(Error::invalid("diversity.weight", message));
        }
        _ => {}
    }
    match &search.group_by {
        Some(GroupBy { size: 0, .. }) => {
            Err(Error::invalid("group_by.size", "expected 1 or more, got 0"))
        }
        Some(_) if search.rescore.is_some() || search.diversity.is_some() => Err(Error::invalid(
            "group_by",
            "expected a search without rescoring and diversity: groups are formed by distance",
        )),
        _ => Ok(()),
    }
}

impl SearchStats {
    fn none() -> Self {
        Self {
            plan: Plan::Auto,
            kernel: "",
            radius: 0,
            probes: 0,
            compared: 0,
            tested: 0,
            rescored: 0,
            filtering: Duration::ZERO,
            encoding: Duration::ZERO,
            searching: Duration::ZERO,
            rescoring: Duration::ZERO,
            reading: Duration::ZERO,
        }
    }

    /// Notes what the index says of its search.
    fn found(&mut self, stats: &index::Stats, tested: u64) {
        self.plan = stats.plan;
        self.kernel = stats.kernel;
        self.radius = stats.radius;
        self.probes = stats.probes;
        self.compared = stats.compared;
        self.tested = tested;
    }
}
