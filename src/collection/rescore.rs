//! Rescoring: those that are near by code are looked at more closely and put in a better order.
//!
//! A code says of each bit only on which side of zero a value lay. *Asymmetric*: of the query more
//! is known than its code, namely the values. A bit whose value is large is sure, one near zero
//! could as well be the other; so a bit that differs costs as much as its value is large (Dong,
//! Charikar, Li: *Asymmetric distance estimation with sketches for similarity search*, SIGIR 2008).
//! For a model these values are log odds, and then the cost is exactly how much less likely the
//! stored code is than the query's own, where bits are independent; it is kept in a byte a bit, see
//! [`Weights`]. *Vector*: the vectors that are kept are compared by the collection's metric. To read
//! a vector costs far more than to weigh a code, so the vectors that are read are those of the best
//! by weight among [`SIEVE`] times as many.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use super::finder::View;
use super::selection::{READS_PER_LOOK, check_deadline};
use super::{Collection, KeepVectors, Metric};
use crate::code::{Code, Width};
use crate::error::{Error, Result};
use crate::index::{self, Neighbour, Weights};
use crate::record::{Record, RecordId, Source};
use crate::search::{Query, RescoreBy, Search};

/// So many times as many as vectors are to be read are weighed first. Of the exact ten nearest of
/// 19,000 sentence embeddings the first 30 by a 384-bit ITQ code hold 90.6 %, the best 30 by weight
/// of the first 60, 120 and 480 hold 96.0, 97.0 and 97.2 %.
pub(super) const SIEVE: usize = 4;

/// What hits are scored with.
pub(super) enum Scorer {
    /// The share of bits that agree.
    Bits(Width),
    /// The share of the query's weight on bits that agree.
    Weights(Weights),
    /// The similarity of vectors.
    Vector { metric: Metric, vector: Vec<f32> },
}

/// A record that may become a hit.
pub(super) struct Candidate {
    pub(super) number: u64,
    pub(super) distance: u32,
    pub(super) score: f32,
    /// Where it was read already.
    pub(super) record: Option<Record>,
}

/// A query that is ready to be searched with.
pub(super) struct Prepared {
    pub(super) code: Code,
    /// The number of the record that was asked about, which is no hit.
    pub(super) itself: Option<u64>,
    /// What says which of [`SIEVE`] times as many are worth scoring, where scoring is expensive.
    pub(super) sieve: Option<Scorer>,
    pub(super) scorer: Scorer,
}

impl Prepared {
    /// What a search asks the index, of which `limit` others are wanted.
    pub(super) fn query(&self, search: &Search, limit: usize) -> index::Query<'_> {
        index::Query {
            // One more, where the record that was asked about will be taken out again.
            limit: limit.saturating_add(usize::from(self.itself.is_some())),
            radius: search.radius,
            plan: search.plan,
            deadline: search.deadline,
            ..index::Query::nearest(&self.code, 0)
        }
    }

    /// At most `limit` of what the index found, without the record that was asked about.
    pub(super) fn others(&self, found: Vec<Neighbour>, limit: usize) -> Vec<Neighbour> {
        let others = found.into_iter().filter(|found| Some(found.number) != self.itself);
        others.take(limit).collect()
    }
}

impl Collection {
    /// The query's code, where it is not known yet, and what hits are to be scored with.
    pub(super) fn prepare(&self, search: &Search, code: Option<Code>) -> Result<Prepared> {
        let by = search.rescore.map(|rescore| rescore.by);
        let asked = match &search.query {
            Query::Source(source) => Asked::Source(source),
            Query::Id(id) => {
                let (number, record) = self.inner.store.get(id)?.ok_or_else(|| {
                    Error::not_found("record", id.as_str(), "ask for an id that was stored")
                })?;
                Asked::Record(id, number, record)
            }
        };
        let code = match (&asked, code) {
            (_, Some(code)) => code,
            (Asked::Source(source), _) => {
                self.encode_one(source).map_err(|e| e.within("query."))?
            }
            (Asked::Record(id, _, record), _) => record.code.clone().ok_or_else(|| {
                Error::invalid("query.id", format!("record {id} was stored without a source"))
            })?,
        };
        let itself = match &asked {
            Asked::Source(_) => None,
            Asked::Record(_, number, _) => Some(*number),
        };
        let (sieve, scorer) = match by {
            None => (None, Scorer::Bits(self.width())),
            Some(RescoreBy::Asymmetric) => (None, self.weights(asked, &code)?),
            Some(RescoreBy::Vector) => {
                let vector = self.vector(asked)?;
                let sieve = self.weigh(&Source::Vector(vector.clone()), &code)?;
                (Some(sieve), Scorer::Vector { metric: self.inner.settings.metric, vector })
            }
        };
        Ok(Prepared { code, itself, sieve, scorer })
    }

    fn weights(&self, asked: Asked, code: &Code) -> Result<Scorer> {
        if self.inner.encoder.input().is_none() {
            return Err(Error::invalid(
                "rescore",
                "expected a collection with an encoder: where records and queries bring their \
                 codes, nothing more than the code is known of a query",
            ));
        }
        let source = match asked {
            Asked::Source(Source::Code(_)) => {
                return Err(Error::invalid(
                    "rescore",
                    "expected a query by its source: of a code nothing more is known; ask by text, \
                     vector or image, or without asymmetric rescoring",
                ));
            }
            Asked::Source(source) => source.clone(),
            Asked::Record(id, _, Record { text, vector, .. }) => {
                let kept = text.map(Source::Text).or(vector.map(Source::Vector));
                let fitting = kept.filter(|source| self.inner.encoder.check(source).is_ok());
                fitting.ok_or_else(|| {
                    let message = format!(
                        "expected a query whose source is known, and of record {id} only the code \
                         is kept; ask by its source, or without asymmetric rescoring"
                    );
                    Error::invalid("rescore", message)
                })?
            }
        };
        self.weigh(&source, code)
    }

    /// The weights of the bits of `code`, which is that of `source`.
    fn weigh(&self, source: &Source, code: &Code) -> Result<Scorer> {
        let values = self.inner.encoder.values(source).map_err(|e| e.within("query."))?;
        // Where all values are 0, all bits count alike.
        let weights = Weights::new(code, &values).map(Scorer::Weights);
        Ok(weights.unwrap_or(Scorer::Bits(self.width())))
    }

    /// The query's vector.
    fn vector(&self, asked: Asked) -> Result<Vec<f32>> {
        if self.inner.settings.keep_vectors == KeepVectors::None {
            return Err(Error::invalid(
                "rescore",
                "expected a collection that keeps vectors, and this one keeps none: create it with \
                 vectors kept as f16 or f32, or rescore asymmetrically",
            ));
        }
        match asked {
            Asked::Source(Source::Vector(vector)) => Ok(vector.clone()),
            Asked::Source(source) => {
                let message = format!(
                    "expected a query by vector or by the id of a record, got a query by {}",
                    source.kind()
                );
                Err(Error::invalid("rescore", message))
            }
            Asked::Record(id, _, record) => record.vector.ok_or_else(|| {
                let message = format!("expected a record with a vector, and {id} came without");
                Error::invalid("rescore", message)
            }),
        }
    }

    /// Scores what was found and puts it in order: the highest score first, then the older record.
    pub(super) fn score(
        &self,
        scorer: &Scorer,
        view: &View,
        found: &[Neighbour],
        search: &Search,
    ) -> Result<Vec<Candidate>> {
        let candidate = |Neighbour { distance, number }, score, record| Candidate {
            number,
            distance,
            score,
            record,
        };
        let mut candidates = Vec::new();
        for chunk in found.chunks(READS_PER_LOOK) {
            check_deadline(search.deadline)?;
            match scorer {
                Scorer::Bits(width) => candidates.extend(chunk.iter().map(|&found| {
                    let score = 1.0 - found.distance as f32 / width.bits() as f32;
                    candidate(found, score, None)
                })),
                Scorer::Weights(weights) => {
                    let numbers: Vec<u64> = chunk.iter().map(|found| found.number).collect();
                    let scores = self.agreements(view, weights, &numbers)?;
                    for (&found, score) in chunk.iter().zip(scores) {
                        candidates.push(candidate(found, score, None));
                    }
                }
                Scorer::Vector { metric, vector } => {
                    for &found in chunk {
                        let record = self.record(found.number)?;
                        let kept = record.vector.as_deref();
                        let score = kept
                            .map_or(f32::NEG_INFINITY, |other| metric.similarity(vector, other));
                        candidates.push(candidate(found, score, Some(record)));
                    }
                }
            }
        }
        // By code they are in order already.
        if !matches!(scorer, Scorer::Bits(_)) {
            candidates.sort_by(rank);
        }
        Ok(candidates)
    }
}

/// The highest score first, then the older record.
fn rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(a.number.cmp(&b.number))
}

/// What a query is, and what is known of it.
enum Asked<'a> {
    Source(&'a Source),
    Record(&'a RecordId, u64, Record),
}

impl Metric {
    /// How alike two vectors of one length are; more is nearer. Always finite where they are.
    pub(super) fn similarity(self, a: &[f32], b: &[f32]) -> f32 {
        let is_sure = |square: &f32| SURE_SQUARES.contains(square);
        let quick = match self {
            Self::Dot => Some(dot(a, b)).filter(|sum| sum.is_finite()),
            Self::Cosine => {
                let squares = [dot(a, a), dot(b, b)];
                let sure = squares.iter().all(is_sure);
                sure.then(|| dot(a, b) / (squares[0] * squares[1]).sqrt())
            }
            Self::L2 => {
                let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
                Some(dot(&difference, &difference)).filter(is_sure).map(|square| -square.sqrt())
            }
        };
        quick.unwrap_or_else(|| self.wide_similarity(a, b))
    }

    /// The same in twice as many bits, of which no sum or square of numbers of 32 bits takes too many.
    fn wide_similarity(self, a: &[f32], b: &[f32]) -> f32 {
        let sum = |term: fn(f64, f64) -> f64| -> f64 {
            a.iter().zip(b).map(|(a, b)| term(f64::from(*a), f64::from(*b))).sum()
        };
        let similarity = match self {
            Self::Dot => sum(|a, b| a * b),
            Self::Cosine => {
                let lengths = sum(|a, _| a * a).sqrt() * sum(|_, b| b * b).sqrt();
                if lengths > 0.0 { sum(|a, b| a * b) / lengths } else { 0.0 }
            }
            Self::L2 => -sum(|a, b| (a - b) * (a - b)).sqrt(),
        };
        similarity.clamp(f32::MIN.into(), f32::MAX.into()) as f32
    }
}

/// Squares of lengths whose products have all the bits that 32 can have.
const SURE_SQUARES: RangeInclusive<f32> = 1e-18..=1e18;

/// Sums in eight lanes, in one order on every machine.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
    }
    lanes.iter_mut().zip(a_rest.iter().zip(b_rest)).for_each(|(lane, (a, b))| *lane += a * b);
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn metrics_are_what_their_names_say(
            pairs in proptest::collection::vec((-9.0f32..9.0, -9.0f32..9.0), 1..40),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let sum = |f: fn(f64, f64) -> f64| {
                pairs.iter().map(|(a, b)| f(f64::from(*a), f64::from(*b))).sum::<f64>()
            };
            let (product, squares) = (sum(|a, b| a * b), sum(|a, _| a * a) * sum(|_, b| b * b));
            let near = |got: f32, expected: f64| (f64::from(got) - expected).abs() < 1e-3;
            prop_assert!(near(Metric::Dot.similarity(&a, &b), product));
            prop_assert!(near(Metric::L2.similarity(&a, &b), -sum(|a, b| (a - b) * (a - b)).sqrt()));
            prop_assume!(squares > 1e-6);
            prop_assert!(near(Metric::Cosine.similarity(&a, &b), product / squares.sqrt()));
        }
    }

    /// However large or small the numbers are.
    #[test]
    fn scores_do_not_depend_on_the_scale() {
        let (a, b) = ([3.0, 4.0, 0.0f32], [4.0, -3.0, 0.0]);
        for scale in [1e-30, 1e-15, 1e-12, 1.0, 1e10, 1e12, 1e30] {
            let [a, b] = [a, b].map(|vector| vector.map(|x| x * scale));
            let same = Metric::Cosine.similarity(&a, &a);
            assert!((same - 1.0).abs() < 1e-6, "{scale}: {same}");
            assert!(Metric::Cosine.similarity(&a, &b).abs() < 1e-6, "{scale}");
            let (near, far) = (Metric::L2.similarity(&a, &a), Metric::L2.similarity(&a, &b));
            assert!(near == 0.0 && far < 0.0 && far.is_finite(), "{scale}: {near}, {far}");
            assert!(Metric::Dot.similarity(&a, &a).is_finite(), "{scale}");
        }
        // Sums that pass through infinity.
        let product = Metric::Dot.similarity(&[3e38, 3e38], &[3e38, -3e38]);
        assert_eq!(product, 0.0);
    }

    #[test]
    fn a_vector_of_zeros_is_like_none() {
        assert_eq!(Metric::Cosine.similarity(&[0.0, 0.0], &[1.0, 2.0]), 0.0);
    }
}
