//! Exact nearest neighbours of float rows, by cosine.
//!
//! The simplest true version: for every query compute the cosine with every row of the database,
//! sort by falling cosine, cut after `k`. What stands beside it here gives the same rows in the
//! same order, only sooner: dense rows through blocked matrix products (`dense`), sparse rows
//! through inverted lists (`sparse`).
//!
//! A cosine is dot(x, y) / (|x| |y|) of the stored f32 values, computed in f64; where a row is all
//! zeros it is 0. Equal cosines stand in the order of the rows, so an answer depends on nothing
//! but the rows: not on blocks, threads or kernels.

mod best;
mod dense;
mod sparse;

use crate::error::{Error, Result};
use crate::input::Features;

/// The rows nearest to each query, best first: shape (queries, k).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbours {
    k: usize,
    queries: usize,
    rows: Vec<u32>,
}

impl Neighbours {
    fn new(k: usize, lists: Vec<Vec<u32>>) -> Self {
        debug_assert!(lists.iter().all(|list| list.len() == k));
        Self { k, queries: lists.len(), rows: lists.concat() }
    }

    /// `k` rows a query, query after query.
    pub(crate) fn from_flat(k: usize, rows: Vec<u32>) -> Self {
        debug_assert_eq!(rows.len() % k.max(1), 0);
        Self { k, queries: rows.len() / k.max(1), rows }
    }

    /// The neighbours of each query: what was asked for, or fewer where the database is smaller.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The number of queries.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// The row numbers of query `query`'s neighbours, nearest first; `k()` of them.
    ///
    /// # Panics
    /// Where `query` is not below `queries()`, as indexing a slice does.
    pub fn of(&self, query: usize) -> &[u32] {
        assert!(query < self.queries, "query {query} of {}", self.queries);
        &self.rows[query * self.k..(query + 1) * self.k]
    }

    /// All row numbers, query after query.
    pub fn as_flat(&self) -> &[u32] {
        &self.rows
    }
}

/// The `k` rows of `database` nearest to each row of `queries` by cosine, ties by row number.
///
/// ```
/// use nearbit::numeric::nearest_rows;
/// use nearbit::{Features, Matrix};
///
/// let database = Features::Dense(Matrix::new(3, 2, vec![1.0, 0.0, 0.0, 1.0, 2.0, 2.0]));
/// let queries = Features::Dense(Matrix::new(1, 2, vec![3.0, 1.0]));
/// assert_eq!(nearest_rows(&database, &queries, 2)?.of(0), [0, 2]);
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// Dense rows on one side and sparse rows on the other, different numbers of columns, a value that
/// is not finite, 2^32 rows or more.
pub fn nearest_rows(database: &Features, queries: &Features, k: usize) -> Result<Neighbours> {
    check(database, "database")?;
    check(queries, "queries")?;
    search(database, queries, k, false)
}

/// The `k` other rows nearest to each row: the k-nearest-neighbour graph of `rows`, by cosine, ties
/// by row number. A copy of a row is a neighbour of it; only the row itself is left out.
///
/// # Errors
/// A value that is not finite, 2^32 rows or more.
pub fn nearest_other_rows(rows: &Features, k: usize) -> Result<Neighbours> {
    check(rows, "rows")?;
    search(rows, rows, k, true)
}

/// `others`: the queries are the database, and each leaves itself out.
fn search(database: &Features, queries: &Features, k: usize, others: bool) -> Result<Neighbours> {
    let (cols, expected) = (queries.cols(), database.cols());
    if cols != expected {
        let message = format!("expected {expected} columns as in the database, got {cols}");
        return Err(Error::invalid("queries", message));
    }
    let k = k.min(database.rows().saturating_sub(usize::from(others)));
    let lists = match (database, queries) {
        _ if k == 0 || cols == 0 => {
            // Without columns every cosine is 0: the first rows, in order.
            (0..queries.rows()).map(|query| first_rows(k, others.then_some(query))).collect()
        }
        (Features::Dense(database), Features::Dense(queries)) => {
            dense::search(database, queries, k, others)
        }
        (Features::Sparse(database), Features::Sparse(queries)) => {
            sparse::search(database, queries, k, others)
        }
        _ => {
            let message = "the database and the queries must both be dense or both be sparse; \
                           encode them with one feature pipeline";
            return Err(Error::invalid("queries", message));
        }
    };
    Ok(Neighbours::new(k, lists))
}

fn first_rows(k: usize, left_out: Option<usize>) -> Vec<u32> {
    (0..).filter(|&row| Some(row as usize) != left_out).take(k).collect()
}

fn check(features: &Features, place: &str) -> Result<()> {
    if u32::try_from(features.rows()).is_err() {
        let message = format!("expected fewer than 2^32 rows, got {}", features.rows());
        return Err(Error::invalid(place, message));
    }
    let bad = match features {
        Features::Dense(rows) => rows.iter().position(has_infinite),
        Features::Sparse(rows) => (0..rows.rows()).position(|i| has_infinite(rows.row(i).1)),
    };
    match bad {
        Some(row) => {
            let message = "a value is not finite; remove the row or correct it";
            Err(Error::invalid(format!("{place}: row {row}"), message))
        }
        None => Ok(()),
    }
}

fn has_infinite(values: &[f32]) -> bool {
    !values.iter().all(|value| value.is_finite())
}

/// 1 / |x|, or 0 for a row of zeros, which makes its cosines 0.
fn inverse_norm(values: &[f32]) -> f64 {
    let square: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    if square > 0.0 { square.sqrt().recip() } else { 0.0 }
}

#[cfg(test)]
mod tests;
