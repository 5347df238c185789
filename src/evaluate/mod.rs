//! Quality: what codes are worth, beside other codes of the same width.
//!
//! [`evaluate`] takes the codes of a database and of queries, and, where there are any, the labels
//! and the float features that the codes were made from. Labels give precision and mAP, features
//! give recall against exact neighbours and the [`Baseline`]s. Nothing here knows how the codes
//! were learned.

mod baselines;
mod health;
mod metrics;
mod ranking;

use std::collections::BTreeMap;

use serde::Serialize;

pub use baselines::{Baseline, LinearHash};
pub use health::Health;
pub use metrics::{Labels, Measures, Metrics, Truth, measure, measure_exact};
pub use ranking::{Ranking, average_precision, precision, recall};

use crate::code::Codes;
use crate::error::{Error, Result};
use crate::input::Features;
use crate::numeric::{nearest_other_rows, nearest_rows};

/// One side of an evaluation, the database or the queries; row i of each part is the same record.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The codes to judge.
    pub codes: &'a Codes,
    /// The floats that they were made from.
    pub features: Option<&'a Features>,
    /// What the records are about.
    pub labels: Option<&'a [String]>,
}

/// What to evaluate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The metrics.
    pub measures: Measures,
    /// The codes to compare with; they need features.
    pub baselines: Vec<Baseline>,
    /// The seed of the baselines and of samples.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { measures: Measures::default(), baselines: Baseline::ALL.to_vec(), seed: 0 }
    }
}

/// The result of an evaluation. As JSON it is one object; all metrics are in 0..1.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// What was judged.
    pub model: Judged,
    /// The metrics of the same data under other codes of the same width.
    pub baselines: BTreeMap<Baseline, Metrics>,
    /// The baselines that these features or this width do not allow, and why.
    pub left_out: BTreeMap<Baseline, String>,
    /// Precision@k of the exact float neighbours, by cosine, where there are features and labels.
    pub exact: Option<Metrics>,
    /// The metrics of the codes that were judged.
    pub metrics: Metrics,
}

/// What was judged.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Judged {
    /// The width of the codes.
    pub bits: usize,
    /// Records in the database.
    pub database: usize,
    /// Queries.
    pub queries: usize,
    /// The health of the database's codes.
    pub health: Health,
}

/// Evaluates codes beside baselines of the same width. Without queries, each record of the database
/// asks for the others.
///
/// The baselines learn from the features of the database, as the model does, and never see a label.
///
/// ```
/// use nearbit::evaluate::{Options, Side, evaluate};
/// use nearbit::{Codes, Width};
///
/// let width = Width::new(8)?;
/// let rows = Codes::from_bytes(width, &[0x00, 0x01, 0xff, 0xfe])?;
/// let labels = ["low", "low", "high", "high"].map(String::from);
/// let database = Side { codes: &rows, features: None, labels: Some(&labels) };
/// let query = Codes::from_bytes(width, &[0x03])?;
/// let queries = Side { codes: &query, features: None, labels: Some(&labels[..1]) };
/// let report = evaluate(database, Some(queries), &Options::default())?;
/// assert_eq!(report.metrics.get("map"), Some(1.0));
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// Labels or features on one side only, parts of different lengths, no queries, codes of two
/// widths, features that cannot be compared.
pub fn evaluate(
    database: Side<'_>,
    queries: Option<Side<'_>>,
    options: &Options,
) -> Result<Report> {
    let measures = &options.measures;
    let asked = queries.unwrap_or(database);
    let labels = both("labels", database.labels, asked.labels)?;
    let labels = labels.map(|(database, queries)| Labels::new(database, queries));
    let features = both("features", database.features, asked.features)?;
    let neighbours = match features {
        None => None,
        Some((rows, asked_rows)) => {
            check_features("database", rows, database.codes)?;
            check_features("queries", asked_rows, asked.codes)?;
            let k = measures.precision_at.iter().fold(measures.recall_of, |a, &b| a.max(b));
            Some(match queries {
                Some(_) => nearest_rows(rows, asked_rows, k)?,
                None => nearest_other_rows(rows, k)?,
            })
        }
    };
    let truth = Truth { labels: labels.as_ref(), neighbours: neighbours.as_ref() };
    let query_codes = queries.map(|queries| queries.codes);
    let metrics = measure(database.codes, query_codes, truth, measures)?;
    let exact = match (&neighbours, &labels) {
        (Some(neighbours), Some(labels)) => {
            Some(measure_exact(neighbours, labels, &measures.precision_at)?)
        }
        _ => None,
    };
    let (mut baselines, mut left_out) = (BTreeMap::new(), BTreeMap::new());
    for &baseline in &options.baselines {
        let Some((rows, asked_rows)) = features else {
            left_out.insert(baseline, "there are no features to learn from".to_owned());
            continue;
        };
        match LinearHash::fit(baseline, rows, database.codes.width(), options.seed) {
            Ok(hash) => {
                let codes = hash.encode(rows)?;
                let query_codes = queries.map(|_| hash.encode(asked_rows)).transpose()?;
                let metrics = measure(&codes, query_codes.as_ref(), truth, measures)?;
                baselines.insert(baseline, metrics);
            }
            Err(error) => {
                left_out.insert(baseline, error.to_string());
            }
        }
    }
    let model = Judged {
        bits: database.codes.width().bits(),
        database: database.codes.len(),
        queries: asked.codes.len(),
        health: Health::of(database.codes, options.seed),
    };
    Ok(Report { model, baselines, left_out, exact, metrics })
}

/// What both sides have or neither.
fn both<T>(what: &str, database: Option<T>, queries: Option<T>) -> Result<Option<(T, T)>> {
    let missing = match (database, queries) {
        (Some(database), Some(queries)) => return Ok(Some((database, queries))),
        (None, None) => return Ok(None),
        (None, Some(_)) => "database",
        (Some(_), None) => "queries",
    };
    let message = format!("expected {what}, as on the other side; give both sides {what} or none");
    Err(Error::invalid(missing, message))
}

fn check_features(side: &str, features: &Features, codes: &Codes) -> Result<()> {
    if features.rows() == codes.len() {
        return Ok(());
    }
    let message = format!("expected features for {} codes, got {}", codes.len(), features.rows());
    Err(Error::invalid(side, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Width;
    use crate::input::Matrix;
    use crate::numeric::gaussian;

    /// Rows around three centres, their number as label.
    fn clusters(rows: usize, seed: u64) -> (Features, Vec<String>) {
        let (centres, mut values) = (gaussian(3, 12, 1), gaussian(rows, 12, seed));
        for i in 0..rows {
            let centre = centres.row(i % 3);
            values.row_mut(i).iter_mut().zip(centre).for_each(|(v, c)| *v = 0.5 * *v + 2.0 * c);
        }
        (Features::Dense(values), (0..rows).map(|i| (i % 3).to_string()).collect())
    }

    #[test]
    fn a_report_has_every_part() {
        let (rows, row_labels) = clusters(300, 2);
        let (asked, asked_labels) = clusters(30, 3);
        let width = Width::new(12).unwrap();
        let hash = LinearHash::fit(Baseline::Itq, &rows, width, 0).unwrap();
        let (codes, asked_codes) = (hash.encode(&rows).unwrap(), hash.encode(&asked).unwrap());
        let database = Side { codes: &codes, features: Some(&rows), labels: Some(&row_labels) };
        let queries =
            Side { codes: &asked_codes, features: Some(&asked), labels: Some(&asked_labels) };
        let report = evaluate(database, Some(queries), &Options::default()).unwrap();
        assert_eq!(report.metrics, report.baselines[&Baseline::Itq]);
        assert_eq!(report.baselines.len(), 4);
        let exact = report.exact.as_ref().and_then(|exact| exact.get("precision@100")).unwrap();
        let (itq, map) =
            (report.metrics.get("precision@100").unwrap(), report.metrics.get("map").unwrap());
        assert!(exact > 0.9 && itq > 0.8 && map > 0.8, "{exact}, {itq}, {map}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["metrics"]["precision@100"], itq);
        assert_eq!(json["baselines"]["itq"]["map"], map);
        assert_eq!(json["model"]["bits"], 12);
        assert_eq!(json["model"]["health"]["ones"].as_array().unwrap().len(), 12);
        assert_eq!(report, evaluate(database, Some(queries), &Options::default()).unwrap());
    }

    #[test]
    fn a_baseline_that_does_not_fit_is_left_out_with_a_reason() {
        let (rows, labels) = clusters(60, 4);
        let codes = Codes::from_bytes(Width::new(16).unwrap(), &[0; 120]).unwrap();
        let side = Side { codes: &codes, features: Some(&rows), labels: Some(&labels) };
        let report = evaluate(side, Some(side), &Options::default()).unwrap();
        let left_out: Vec<&str> = report.left_out.keys().map(|baseline| baseline.name()).collect();
        assert_eq!(left_out, ["sign", "pca", "itq"]);
        assert!(report.left_out[&Baseline::Itq].contains("at most the 12 columns, got 16"));
        assert!(report.baselines.contains_key(&Baseline::Lsh));
        let side = Side { features: None, ..side };
        let report = evaluate(side, Some(side), &Options::default()).unwrap();
        assert_eq!((report.left_out.len(), report.exact), (4, None));
        assert_eq!(report.metrics.get("recall@10"), None);
    }

    #[test]
    fn without_queries_no_record_finds_itself() {
        // Two labels, each borne by one of two records with the same code and the same direction.
        let features = Features::Dense(Matrix::new(2, 2, vec![1.0, 0.5, 2.0, 1.0]));
        let labels = ["a", "b"].map(String::from);
        let codes = Codes::from_bytes(Width::new(8).unwrap(), &[7, 7]).unwrap();
        let side = Side { codes: &codes, features: Some(&features), labels: Some(&labels) };
        let options = Options { baselines: vec![Baseline::Lsh], ..Options::default() };
        let report = evaluate(side, None, &options).unwrap();
        assert_eq!(report.metrics.get("precision@100"), Some(0.0));
        assert_eq!(report.metrics.get("recall@10"), Some(1.0));
        assert_eq!(report.baselines[&Baseline::Lsh].get("map"), Some(0.0));
        assert_eq!(report.exact.unwrap().get("precision@100"), Some(0.0));
        assert_eq!(report.model.queries, 2);
    }

    #[test]
    fn sides_that_do_not_match_are_refused() {
        let (rows, labels) = clusters(6, 5);
        let codes = Codes::from_bytes(Width::new(8).unwrap(), &[0; 6]).unwrap();
        let side = Side { codes: &codes, features: Some(&rows), labels: Some(&labels) };
        let error = |database, queries| {
            evaluate(database, Some(queries), &Options::default()).unwrap_err().to_string()
        };
        let unlabelled = Side { labels: None, ..side };
        assert!(error(side, unlabelled).starts_with("queries: expected labels, as on the other"));
        assert!(error(unlabelled, side).starts_with("database: expected labels"));
        let few = Side { labels: Some(&labels[..2]), ..side };
        assert_eq!(error(side, few), "queries: expected labels for 6 rows, got 2");
        let other = Features::Dense(Matrix::zeros(5, 12));
        let short = Side { features: Some(&other), ..side };
        assert_eq!(error(short, side), "database: expected features for 6 codes, got 5");
    }
}
