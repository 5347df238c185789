//! The whole answer to one query: every row of the database by distance, ties by row number.

use crate::code::{Codes, distance};

/// All rows in the order of their distance from one query; rows at one distance ascend, which is
/// the order in which they were inserted.
pub struct Ranking {
    rows: Vec<u32>,
    /// Rows at distance `d` are `starts[d]..starts[d + 1]` of `rows`; `d` runs to the width.
    starts: Vec<usize>,
}

impl Ranking {
    /// Ranks all codes of `database` around `query`, given as words of the same width; the row
    /// `left_out` is passed over.
    ///
    /// A distance is one of few numbers, so counting sorts, in one pass over the rows.
    pub fn new(database: &Codes, query: &[u64], left_out: Option<usize>) -> Self {
        let distances: Vec<u16> = database.rows().map(|row| distance(row, query) as u16).collect();
        let ranked = || distances.iter().enumerate().filter(|(row, _)| Some(*row) != left_out);
        let mut starts = vec![0; database.width().bits() + 2];
        ranked().for_each(|(_, &d)| starts[usize::from(d) + 1] += 1);
        for d in 1..starts.len() {
            starts[d] += starts[d - 1];
        }
        let mut next = starts.clone();
        let mut rows = vec![0; ranked().count()];
        for (row, &d) in ranked() {
            let place = &mut next[usize::from(d)];
            rows[*place] = row as u32;
            *place += 1;
        }
        Self { rows, starts }
    }

    /// The `k` nearest rows, or all where there are fewer.
    pub fn nearest(&self, k: usize) -> &[u32] {
        &self.rows[..k.min(self.rows.len())]
    }

    /// The rows within `radius`.
    pub fn within(&self, radius: usize) -> &[u32] {
        &self.rows[..self.starts[(radius + 1).min(self.starts.len() - 1)]]
    }

    /// The number of rows that are ranked.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The k nearest, and where a cut after `k` parts rows of one distance: (the rows that are
    /// nearer, the rows of that distance).
    fn cut(&self, k: usize) -> (&[u32], &[u32]) {
        let k = k.min(self.rows.len());
        // The last distance that begins at or before k.
        let d = self.starts.partition_point(|&start| start <= k) - 1;
        let end = self.starts.get(d + 1).copied().unwrap_or(self.rows.len());
        (&self.rows[..self.starts[d]], &self.rows[self.starts[d]..end])
    }

    /// How many of the `k` nearest rows are `relevant`, as the mean over all orders of rows at
    /// one distance: what a ranking is worth beyond the luck of its ties.
    pub fn expected_hits(&self, k: usize, relevant: impl Fn(u32) -> bool) -> f64 {
        let (nearer, tied) = self.cut(k);
        let hits = |rows: &[u32]| rows.iter().filter(|&&row| relevant(row)).count() as f64;
        let open = (k.min(self.rows.len()) - nearer.len()) as f64;
        hits(nearer) + if tied.is_empty() { 0.0 } else { open * hits(tied) / tied.len() as f64 }
    }
}

/// The share of `rows` that are relevant; 0 where there is no row.
pub fn precision(rows: &[u32], relevant: impl Fn(u32) -> bool) -> f64 {
    let hits = rows.iter().filter(|&&row| relevant(row)).count();
    if rows.is_empty() { 0.0 } else { hits as f64 / rows.len() as f64 }
}

/// The mean, over the relevant among `rows`, of the precision of the rows up to there; 0 where none
/// is relevant.
///
/// Over a whole ranking this is the textbook's average precision. Over the first N it divides by
/// the relevant rows found there, as the papers on hashing do, not by all that exist.
pub fn average_precision(rows: &[u32], relevant: impl Fn(u32) -> bool) -> f64 {
    let (mut hits, mut sum) = (0u32, 0.0);
    for (i, &row) in rows.iter().enumerate() {
        if relevant(row) {
            hits += 1;
            sum += f64::from(hits) / (i + 1) as f64;
        }
    }
    if hits == 0 { 0.0 } else { sum / f64::from(hits) }
}

/// The share of `truth` that is among `rows`; 0 where there is no truth.
pub fn recall(rows: &[u32], truth: &[u32]) -> f64 {
    let mut truth = truth.to_vec();
    truth.sort_unstable();
    let hits = rows.iter().filter(|row| truth.binary_search(row).is_ok()).count();
    if truth.is_empty() { 0.0 } else { hits as f64 / truth.len() as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::code::{Code, Width};

    fn codes(width: Width, rows: &[&str]) -> Codes {
        let mut codes = Codes::new(width);
        rows.iter().for_each(|row| codes.push(&Code::parse(row, width).unwrap()).unwrap());
        codes
    }

    /// Distances from 0b0000: 2, 0, 1, 4, 1, 2.
    fn six() -> Ranking {
        let width = Width::new(4).unwrap();
        let rows = ["0b0011", "0b0000", "0b0100", "0b1111", "0b0001", "0b1100"];
        Ranking::new(&codes(width, &rows), Code::zero(width).words(), None)
    }

    #[test]
    fn rows_stand_by_distance_and_ties_by_number() {
        let ranking = six();
        assert_eq!(ranking.nearest(99), [1, 2, 4, 0, 5, 3]);
        assert_eq!(ranking.nearest(2), [1, 2]);
        assert_eq!(ranking.within(0), [1]);
        assert_eq!(ranking.within(1), [1, 2, 4]);
        assert_eq!(ranking.within(3), [1, 2, 4, 0, 5]);
        assert_eq!(ranking.within(4), ranking.nearest(6));
        assert_eq!(ranking.within(1000), ranking.nearest(6));
    }

    #[test]
    fn measures_by_hand() {
        // Relevant rows stand at the places 1, 3 and 6 of 1, 2, 4, 0, 5, 3.
        let ranking = six();
        let relevant = |row: u32| [1, 4, 3].contains(&row);
        assert_eq!(precision(ranking.nearest(3), relevant), 2.0 / 3.0);
        assert_eq!(precision(ranking.nearest(4), relevant), 0.5);
        assert_eq!(precision(&[], relevant), 0.0);
        let whole = (1.0 / 1.0 + 2.0 / 3.0 + 3.0 / 6.0) / 3.0;
        assert_eq!(average_precision(ranking.nearest(6), relevant), whole);
        let first_four = (1.0 / 1.0 + 2.0 / 3.0) / 2.0;
        assert_eq!(average_precision(ranking.nearest(4), relevant), first_four);
        assert_eq!(average_precision(ranking.nearest(6), |_| false), 0.0);
        assert_eq!(recall(ranking.nearest(3), &[4, 0]), 0.5);
        assert_eq!(recall(ranking.nearest(3), &[]), 0.0);
    }

    #[test]
    fn ties_count_by_their_share() {
        let ranking = six();
        // After two rows, one of the two at distance 1 is in; row 4 is relevant, row 2 is not.
        assert_eq!(ranking.expected_hits(2, |row| row == 4), 0.5);
        assert_eq!(ranking.expected_hits(3, |row| row == 4), 1.0);
        assert_eq!(ranking.expected_hits(4, |row| row == 5), 0.5);
        assert_eq!(ranking.expected_hits(0, |_| true), 0.0);
        assert_eq!(ranking.expected_hits(99, |_| true), 6.0);
    }

    fn some_codes() -> impl Strategy<Value = (usize, Vec<u64>)> {
        (1usize..=130).prop_flat_map(|bits| {
            let words = 120 * bits.div_ceil(64);
            (Just(bits), proptest::collection::vec(any::<u64>(), 0..words))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 128,
            rng_seed: RngSeed::Fixed(4),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_ranking_is_a_stable_sort(
            (bits, random) in some_codes(),
            radius in 0usize..140,
            left_out in proptest::option::of(0usize..60),
        ) {
            let width = Width::new(bits).unwrap();
            let mut codes = Codes::new(width);
            for words in random.chunks_exact(width.words()) {
                // Few different codes, so that ties are many.
                let mut code = Code::zero(width);
                (0..bits.min(5)).filter(|i| words[0] >> i & 1 == 1).for_each(|i| code.flip(i));
                codes.push(&code).unwrap();
            }
            let query = Code::zero(width);
            let ranking = Ranking::new(&codes, query.words(), left_out);
            let far = |row: &u32| codes.get(*row as usize).distance(&query) as usize;
            let mut expected: Vec<u32> = (0..codes.len() as u32).collect();
            expected.retain(|&row| Some(row as usize) != left_out);
            expected.sort_by_key(far);
            prop_assert_eq!(ranking.nearest(usize::MAX), &expected[..]);
            expected.retain(|row| far(row) <= radius);
            prop_assert_eq!(ranking.within(radius), &expected[..]);
        }

        #[test]
        fn expected_hits_add_up_the_chances_of_rows(
            k in 0usize..12,
            rows in proptest::collection::vec((0u64..4, any::<bool>()), 0..9),
        ) {
            let width = Width::new(2).unwrap();
            let mut codes = Codes::new(width);
            rows.iter().for_each(|(code, _)| codes.push_words(&[code << 62]).unwrap());
            // In a random order of ties, of the k places some are taken by nearer rows, and the
            // tied rows share the rest.
            let chance = |code: u64| {
                let nearer = rows.iter().filter(|row| row.0.count_ones() < code.count_ones()).count();
                let tied = rows.iter().filter(|row| row.0.count_ones() == code.count_ones()).count();
                ((k as f64 - nearer as f64) / tied as f64).clamp(0.0, 1.0)
            };
            let expected: f64 = rows.iter().filter(|row| row.1).map(|row| chance(row.0)).sum();
            let ranking = Ranking::new(&codes, &[0], None);
            let found = ranking.expected_hits(k, |row| rows[row as usize].1);
            prop_assert!((found - expected).abs() < 1e-9, "{} for {}", found, expected);
        }
    }
}
