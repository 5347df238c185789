//! Diversity: hits that are near the query, and not all alike.
//!
//! Maximal marginal relevance (Carbonell, Goldstein: *The use of MMR, diversity-based reranking*,
//! SIGIR 1998): hits are chosen one after the other, each time the candidate with the greatest
//!
//! ```text
//! (1 - weight) * score - weight * (its greatest similarity to a hit that is chosen already)
//! ```
//!
//! of equals the one that stands first by score. Similarity is measured as the score is: by the
//! vectors where they are rescored, otherwise by the share of bits that agree.

use super::Collection;
use super::finder::View;
use super::rescore::{Candidate, Scorer};
use crate::code::Code;
use crate::error::Result;

impl Collection {
    /// Chooses `limit` of the candidates, in the order in which they are chosen.
    pub(super) fn diversify(
        &self,
        candidates: Vec<Candidate>,
        limit: usize,
        weight: f32,
        scorer: &Scorer,
        view: &View,
    ) -> Result<Vec<Candidate>> {
        let codes: Vec<Code> = candidates
            .iter()
            .map(|candidate| self.code_of(view, candidate.number))
            .collect::<Result<_>>()?;
        let similarity = |a: usize, b: usize| match scorer {
            Scorer::Vector { metric, .. } => match (vector(&candidates[a]), vector(&candidates[b]))
            {
                (Some(a), Some(b)) => metric.similarity(a, b),
                // What has no vector is like nothing.
                _ => 0.0,
            },
            Scorer::Bits(_) | Scorer::Weights(_) => {
                1.0 - codes[a].distance(&codes[b]) as f32 / self.width().bits() as f32
            }
        };
        let scores: Vec<f32> = candidates.iter().map(|candidate| candidate.score).collect();
        let places = choose(&scores, limit, weight, similarity);
        let mut slots: Vec<Option<Candidate>> = candidates.into_iter().map(Some).collect();
        Ok(places.into_iter().filter_map(|place| slots[place].take()).collect())
    }
}

fn vector(candidate: &Candidate) -> Option<&[f32]> {
    candidate.record.as_ref()?.vector.as_deref()
}

/// The places of those that are chosen, in order.
fn choose(
    scores: &[f32],
    limit: usize,
    weight: f32,
    similarity: impl Fn(usize, usize) -> f32,
) -> Vec<usize> {
    let mut left: Vec<usize> = (0..scores.len()).collect();
    // The greatest similarity of each to one that is chosen.
    let mut nearest = vec![f32::NEG_INFINITY; scores.len()];
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < limit && !left.is_empty() {
        let value = |place: usize| match chosen.is_empty() {
            true => scores[place],
            false => (1.0 - weight) * scores[place] - weight * nearest[place],
        };
        let mut best = 0;
        for i in 1..left.len() {
            if value(left[i]) > value(left[best]) {
                best = i;
            }
        }
        let next = left.remove(best);
        chosen.push(next);
        for &place in &left {
            nearest[place] = nearest[place].max(similarity(place, next));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::choose;

    /// Two that are alike near the query, and two others farther away.
    const SCORES: [f32; 4] = [1.0, 0.9, 0.6, 0.5];

    fn similarity(a: usize, b: usize) -> f32 {
        if a.min(b) == 0 && a.max(b) == 1 { 0.95 } else { 0.1 }
    }

    #[test]
    fn weight_turns_likeness_into_diversity() {
        assert_eq!(choose(&SCORES, 4, 0.0, similarity), [0, 1, 2, 3]);
        assert_eq!(choose(&SCORES, 3, 0.5, similarity), [0, 2, 3]);
        assert_eq!(choose(&SCORES, 9, 1.0, similarity), [0, 2, 3, 1]);
        assert_eq!(choose(&SCORES, 0, 0.5, similarity), [0usize; 0]);
    }

    #[test]
    fn equals_stay_in_order() {
        assert_eq!(choose(&[0.5; 5], 5, 0.5, |_, _| 0.3), [0, 1, 2, 3, 4]);
    }
}
