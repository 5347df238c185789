//! Metrics: what rankings by code are worth, as means over the queries.
//!
//! | name | meaning |
//! |---|---|
//! | `precision@k` | share of the k nearest that bear the query's label |
//! | `precision@k_any_order` | the same as the mean over all orders of equal distances; for codes of up to 16 bits, whose ties are many |
//! | `map`, `map@n` | mean average precision over the whole ranking, or its first n rows |
//! | `precision_radius_r` | share of the rows within distance r that bear the query's label; an empty ball counts as 0 |
//! | `empty_radius_r` | share of the queries whose ball of radius r is empty |
//! | `recall@k` | share of the k exact float neighbours that are among the k nearest codes |
//! | `k-recall@r` | share of the k exact float neighbours that are among the r nearest codes |
//!
//! Everything is in 0..1. Rows at one distance rank in the order in which they were inserted.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Serialize, Serializer};

use super::ranking::{Ranking, average_precision, precision, recall};
use crate::code::Codes;
use crate::error::{Error, Result};
use crate::numeric::Neighbours;

/// Codes of up to this many bits have their ties reported in any order too.
const MANY_TIES_BITS: usize = 16;

/// Which metrics to compute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Measures {
    /// The ks of precision@k.
    pub precision_at: Vec<usize>,
    /// The rows that average precision looks at; `None` for the whole ranking.
    pub map_at: Option<usize>,
    /// The radius of the ball whose precision is taken, in bits.
    pub radius: usize,
    /// How many exact neighbours recall looks for.
    pub recall_of: usize,
    /// Among how many of the nearest codes it looks for them.
    pub recall_at: Vec<usize>,
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            precision_at: vec![100],
            map_at: None,
            radius: 2,
            recall_of: 10,
            recall_at: vec![10, 30, 50, 100],
        }
    }
}

/// Names and values in 0..1, in the order of the table above.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Metrics(Vec<(String, f64)>);

impl Metrics {
    /// The value of the metric `name`, where it was computed.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Every name and value in turn.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    fn push(&mut self, name: impl Into<String>, value: f64) {
        self.0.push((name.into(), value));
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// The labels of the rows and of the queries, as numbers that are equal where the labels are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Labels {
    database: Vec<u32>,
    queries: Vec<u32>,
}

impl Labels {
    /// Numbers the labels of both sides. A label that only a query bears makes no row relevant.
    pub fn new(database: &[String], queries: &[String]) -> Self {
        let mut numbers = HashMap::new();
        let mut number = |label: &str| {
            let next = numbers.len() as u32;
            *numbers.entry(label.to_owned()).or_insert(next)
        };
        let database = database.iter().map(|label| number(label)).collect();
        let queries = queries.iter().map(|label| number(label)).collect();
        Self { database, queries }
    }
}

/// What is known to be right.
#[derive(Clone, Copy, Default, Debug)]
pub struct Truth<'a> {
    /// For precision and mAP.
    pub labels: Option<&'a Labels>,
    /// For recall: the exact neighbours of each query, at least `recall_of` where there are as many.
    pub neighbours: Option<&'a Neighbours>,
}

/// Ranks `database` by distance from each query and takes the means of all `measures` that the
/// truth allows. Without queries, each code of the database asks for the others.
///
/// # Errors
/// No queries, codes of two widths, or a truth for another number of rows or queries.
pub fn measure(
    database: &Codes,
    queries: Option<&Codes>,
    truth: Truth<'_>,
    measures: &Measures,
) -> Result<Metrics> {
    let asked = queries.unwrap_or(database);
    check(database, asked, truth)?;
    let each: Vec<Metrics> = (0..asked.len())
        .into_par_iter()
        .map(|query| {
            let left_out = queries.is_none().then_some(query);
            let ranking = Ranking::new(database, asked.row(query), left_out);
            let many_ties = database.width().bits() <= MANY_TIES_BITS;
            let mut metrics = Metrics::default();
            if let Some(labels) = truth.labels {
                let label = labels.queries[query];
                let relevant = |row: u32| labels.database[row as usize] == label;
                by_label(&ranking, relevant, many_ties, measures, &mut metrics);
            }
            if let Some(neighbours) = truth.neighbours {
                by_neighbours(&ranking, neighbours.of(query), measures, &mut metrics);
            }
            metrics
        })
        .collect();
    Ok(mean(&each))
}

/// Precision@k of the exact float neighbours themselves: what a code that loses nothing would reach.
///
/// # Errors
/// Labels for another number of queries.
pub fn measure_exact(neighbours: &Neighbours, labels: &Labels, ks: &[usize]) -> Result<Metrics> {
    check_rows("labels", labels.queries.len(), "queries", neighbours.queries())?;
    let each: Vec<Metrics> = (0..neighbours.queries())
        .map(|query| {
            let rows = neighbours.of(query);
            let relevant = |row: u32| labels.database[row as usize] == labels.queries[query];
            let mut metrics = Metrics::default();
            for &k in ks {
                let value = precision(&rows[..k.min(rows.len())], relevant);
                metrics.push(format!("precision@{k}"), value);
            }
            metrics
        })
        .collect();
    Ok(mean(&each))
}

fn by_label(
    ranking: &Ranking,
    relevant: impl Fn(u32) -> bool,
    many_ties: bool,
    measures: &Measures,
    metrics: &mut Metrics,
) {
    for &k in &measures.precision_at {
        metrics.push(format!("precision@{k}"), precision(ranking.nearest(k), &relevant));
        if many_ties {
            let places = k.min(ranking.len()).max(1) as f64;
            let value = ranking.expected_hits(k, &relevant) / places;
            metrics.push(format!("precision@{k}_any_order"), value);
        }
    }
    let (name, places) = match measures.map_at {
        Some(n) => (format!("map@{n}"), n),
        None => ("map".to_owned(), ranking.len()),
    };
    metrics.push(name, average_precision(ranking.nearest(places), &relevant));
    let (r, ball) = (measures.radius, ranking.within(measures.radius));
    metrics.push(format!("precision_radius_{r}"), precision(ball, &relevant));
    metrics.push(format!("empty_radius_{r}"), f64::from(u8::from(ball.is_empty())));
}

fn by_neighbours(
    ranking: &Ranking,
    neighbours: &[u32],
    measures: &Measures,
    metrics: &mut Metrics,
) {
    let k = measures.recall_of;
    let truth = &neighbours[..k.min(neighbours.len())];
    for &r in &measures.recall_at {
        let name = if r == k { format!("recall@{k}") } else { format!("{k}-recall@{r}") };
        metrics.push(name, recall(ranking.nearest(r), truth));
    }
}

/// The mean of each metric over the queries, added up in their order. All have the same names.
fn mean(each: &[Metrics]) -> Metrics {
    let mut sums = each.first().cloned().unwrap_or_default();
    for (i, (_, sum)) in sums.0.iter_mut().enumerate() {
        *sum = each.iter().map(|metrics| metrics.0[i].1).sum::<f64>() / each.len() as f64;
    }
    sums
}

fn check(database: &Codes, queries: &Codes, truth: Truth<'_>) -> Result<()> {
    if queries.is_empty() {
        return Err(Error::invalid("queries", "expected at least one query, got none"));
    }
    if queries.width() != database.width() {
        let message =
            format!("expected {} as in the database, got {}", database.width(), queries.width());
        return Err(Error::invalid("queries", message));
    }
    if let Some(labels) = truth.labels {
        check_rows("labels", labels.database.len(), "database", database.len())?;
        check_rows("labels", labels.queries.len(), "queries", queries.len())?;
    }
    if let Some(neighbours) = truth.neighbours {
        check_rows("neighbours", neighbours.queries(), "queries", queries.len())?;
    }
    Ok(())
}

/// An error where there are not as many labels or neighbours as there are rows to bear them.
fn check_rows(what: &str, got: usize, side: &str, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::invalid(side, format!("expected {what} for {expected} rows, got {got}")))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::code::Width;
    use crate::input::{Features, Matrix};
    use crate::numeric::{nearest_other_rows, nearest_rows};

    fn strings(labels: &[u32]) -> Vec<String> {
        labels.iter().map(|label| format!("label {label}")).collect()
    }

    fn random_codes(width: Width, rows: usize, rng: &mut ChaCha8Rng) -> Codes {
        let mut codes = Codes::new(width);
        let mask = !0u64 << (64 - width.bits());
        for _ in 0..rows {
            codes.push_words(&[rng.random::<u64>() & rng.random::<u64>() & mask]).unwrap();
        }
        codes
    }

    /// Every metric once more from its definition, by sorting.
    fn naive(
        database: &Codes,
        queries: &Codes,
        labels: (&[u32], &[u32]),
        truth: &Neighbours,
    ) -> Vec<(String, f64)> {
        let mut sums: Vec<(String, f64)> = Vec::new();
        for query in 0..queries.len() {
            let others = std::ptr::eq(database, queries);
            let far = |row: usize| database.get(row).distance(&queries.get(query)) as usize;
            let mut order: Vec<usize> =
                (0..database.len()).filter(|&row| !(others && row == query)).collect();
            order.sort_by_key(|&row| (far(row), row));
            let good: Vec<bool> =
                order.iter().map(|&row| labels.0[row] == labels.1[query]).collect();
            let hits = |places: &[bool]| places.iter().filter(|good| **good).count() as f64;
            let mut values = vec![
                ("precision@5", hits(&good[..5]) / 5.0),
                ("precision@40", hits(&good[..40]) / 40.0),
            ];
            let at_hits: Vec<f64> = (0..good.len())
                .filter(|&i| good[i])
                .map(|i| hits(&good[..=i]) / (i + 1) as f64)
                .collect();
            values.push(("map", at_hits.iter().sum::<f64>() / at_hits.len().max(1) as f64));
            let ball: Vec<bool> = order
                .iter()
                .filter(|&&row| far(row) <= 1)
                .map(|&row| labels.0[row] == labels.1[query])
                .collect();
            values.push(("precision_radius_1", hits(&ball) / ball.len().max(1) as f64));
            values.push(("empty_radius_1", f64::from(u8::from(ball.is_empty()))));
            for (name, r) in [("recall@4", 4), ("4-recall@20", 20)] {
                let found = truth.of(query)[..4].iter();
                let found = found.filter(|&&row| order[..r].contains(&(row as usize)));
                values.push((name, found.count() as f64 / 4.0));
            }
            if sums.is_empty() {
                sums = values.iter().map(|(name, _)| ((*name).to_owned(), 0.0)).collect();
            }
            for (sum, (_, value)) in sums.iter_mut().zip(values) {
                sum.1 += value / queries.len() as f64;
            }
        }
        sums
    }

    #[test]
    fn every_metric_is_what_its_definition_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let measures = Measures {
            precision_at: vec![5, 40],
            map_at: None,
            radius: 1,
            recall_of: 4,
            recall_at: vec![4, 20],
        };
        for bits in [17, 20, 64] {
            let width = Width::new(bits).unwrap();
            let database = random_codes(width, 150, &mut rng);
            let queries = random_codes(width, 20, &mut rng);
            let rows: Vec<u32> = (0..150).map(|_| rng.random_range(0..4)).collect();
            let asked: Vec<u32> = (0..20).map(|_| rng.random_range(0..5)).collect();
            let mut random = |rows: usize| {
                let values = (0..rows * 6).map(|_| rng.random_range(-1.0..1.0)).collect();
                Features::Dense(Matrix::new(rows, 6, values))
            };
            let (features, asked_features) = (random(150), random(20));
            let check = |queries: Option<&Codes>, asked: &[u32], neighbours: &Neighbours| {
                let labels = Labels::new(&strings(&rows), &strings(asked));
                let truth = Truth { labels: Some(&labels), neighbours: Some(neighbours) };
                let found = measure(&database, queries, truth, &measures).unwrap();
                let queries = queries.unwrap_or(&database);
                let expected = naive(&database, queries, (&rows, asked), neighbours);
                assert_eq!(found.iter().count(), expected.len());
                for ((name, value), (expected_name, expected)) in found.iter().zip(&expected) {
                    assert_eq!(name, expected_name);
                    assert!((value - expected).abs() < 1e-12, "{name}: {value}, not {expected}");
                }
            };
            let neighbours = nearest_rows(&features, &asked_features, 9).unwrap();
            check(Some(&queries), &asked, &neighbours);
            check(None, &rows, &nearest_other_rows(&features, 9).unwrap());
        }
    }

    #[test]
    fn short_codes_report_their_ties_in_any_order() {
        let width = Width::new(2).unwrap();
        let mut database = Codes::new(width);
        (0..4).for_each(|_| database.push_words(&[0]).unwrap());
        let labels = Labels::new(&strings(&[1, 2, 2, 2]), &strings(&[1]));
        let mut queries = Codes::new(width);
        queries.push_words(&[0]).unwrap();
        let truth = Truth { labels: Some(&labels), neighbours: None };
        let measures = Measures { precision_at: vec![2], map_at: Some(3), ..Measures::default() };
        let found = measure(&database, Some(&queries), truth, &measures).unwrap();
        assert_eq!(found.get("precision@2"), Some(0.5));
        assert_eq!(found.get("precision@2_any_order"), Some(0.25));
        assert_eq!(found.get("map@3"), Some(1.0));
        assert_eq!((found.get("precision_radius_2"), found.get("recall@10")), (Some(0.25), None));
    }

    #[test]
    fn exact_neighbours_have_a_precision_of_their_own() {
        let rows = Features::Dense(Matrix::new(3, 2, vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0]));
        let query = Features::Dense(Matrix::new(1, 2, vec![1.0, 0.2]));
        let neighbours = nearest_rows(&rows, &query, 3).unwrap();
        let labels = Labels::new(&strings(&[7, 8, 7]), &strings(&[8]));
        let found = measure_exact(&neighbours, &labels, &[1, 2, 9]).unwrap();
        assert_eq!(found.get("precision@1"), Some(1.0));
        assert_eq!(found.get("precision@2"), Some(0.5));
        assert_eq!(found.get("precision@9"), Some(1.0 / 3.0));
    }

    #[test]
    fn a_truth_for_other_rows_is_refused() {
        let width = Width::new(8).unwrap();
        let (none, mut one) = (Codes::new(width), Codes::new(width));
        one.push_words(&[0]).unwrap();
        let error = |database: &Codes, queries: &Codes, truth| {
            measure(database, Some(queries), truth, &Measures::default()).unwrap_err().to_string()
        };
        let labels = Labels::new(&strings(&[1, 2]), &strings(&[1]));
        let truth = Truth { labels: Some(&labels), neighbours: None };
        assert_eq!(error(&one, &one, truth), "database: expected labels for 1 rows, got 2");
        assert_eq!(error(&one, &none, truth), "queries: expected at least one query, got none");
        let wide = Codes::new(Width::new(9).unwrap());
        assert_eq!(
            error(&wide, &one, Truth::default()),
            "queries: expected 9 bits as in the database, got 8 bits"
        );
    }
}
