//! The health of codes: whether their bits say as much as bits can.
//!
//! A bit that is always 0, two bits that always agree, or a bucket that holds half of all codes
//! waste width. None of this needs labels or queries.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::code::{Codes, distance};

/// The most codes that correlations are counted over, spread evenly over all.
const CORRELATION_ROWS: usize = 1 << 16;
/// The pairs of codes that the distances are sampled from.
const DISTANCE_PAIRS: usize = 100_000;

/// What can be said of codes alone.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Health {
    /// The width.
    pub bits: usize,
    /// The number of codes.
    pub codes: usize,
    /// For each bit, the share of codes in which it is 1. Best is 0.5.
    pub ones: Vec<f64>,
    /// The mean over bits of |share of ones - 0.5|: 0 where all are balanced, 0.5 where no bit ever
    /// changes.
    pub imbalance: f64,
    /// The sum of the bits' entropies, in bits: at most the width.
    pub entropy: f64,
    /// The mean |correlation| of two bits; 0 is best. A constant bit correlates with none.
    pub mean_correlation: f64,
    /// The largest |correlation| of two bits: 1 where two say the same.
    pub max_correlation: f64,
    /// How many independent balanced bits vary as the covariance matrix C does: (tr C)^2 / |C|^2, the
    /// participation ratio of its eigenvalues. Counts directions; how balanced they are is the entropy's.
    pub effective_bits: f64,
    /// The number of different codes.
    pub distinct: usize,
    /// The codes in the fullest bucket.
    pub largest_bucket: usize,
    /// Entry `d`: how many of the sampled pairs of codes are at distance `d`. Length: bits + 1.
    pub distances: Vec<u64>,
}

impl Health {
    /// Examines `codes`; `seed` draws the pairs for the distances.
    pub fn of(codes: &Codes, seed: u64) -> Self {
        let bits = codes.width().bits();
        let ones = shares_of_ones(codes);
        let (distinct, largest_bucket) = buckets(codes);
        let covariance = Covariance::of(codes);
        Self {
            bits,
            codes: codes.len(),
            imbalance: ones.iter().map(|p| (p - 0.5).abs()).sum::<f64>() / bits as f64,
            entropy: ones.iter().map(|&p| entropy(p)).sum(),
            ones,
            mean_correlation: covariance.mean_correlation,
            max_correlation: covariance.max_correlation,
            effective_bits: covariance.effective_bits,
            distinct,
            largest_bucket,
            distances: sampled_distances(codes, seed),
        }
    }
}

fn shares_of_ones(codes: &Codes) -> Vec<f64> {
    let mut counts = vec![0u64; codes.width().bits()];
    for row in codes.rows() {
        for (i, count) in counts.iter_mut().enumerate() {
            *count += row[i / 64] >> (63 - i % 64) & 1;
        }
    }
    counts.into_iter().map(|count| count as f64 / codes.len().max(1) as f64).collect()
}

/// The entropy of a bit that is 1 with probability `p`, in bits.
fn entropy(p: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    term(p) + term(1.0 - p)
}

/// The number of different codes, and of codes in the fullest bucket.
fn buckets(codes: &Codes) -> (usize, usize) {
    let mut rows: Vec<&[u64]> = codes.rows().collect();
    rows.par_sort_unstable();
    let runs = rows.chunk_by(|a, b| a == b).map(<[_]>::len);
    runs.fold((0, 0), |(distinct, largest), len| (distinct + 1, largest.max(len)))
}

/// What the covariances of all pairs of bits come to.
struct Covariance {
    mean_correlation: f64,
    max_correlation: f64,
    effective_bits: f64,
}

impl Covariance {
    fn of(codes: &Codes) -> Self {
        let bits = codes.width().bits();
        let columns = bit_columns(codes);
        let rows = codes.len().clamp(1, CORRELATION_ROWS) as f64;
        let count = |words: &[u64]| words.iter().map(|w| f64::from(w.count_ones())).sum::<f64>();
        let shares: Vec<f64> = columns.iter().map(|column| count(column) / rows).collect();
        let variance = |i: usize| shares[i] * (1.0 - shares[i]);
        // Per bit: the sums over later bits of |correlation| and of covariance^2, and the largest.
        let sums: Vec<(f64, f64, f64)> = (0..bits)
            .into_par_iter()
            .map(|i| {
                let (mut correlations, mut squares, mut largest) = (0.0, 0.0, 0.0f64);
                for j in i + 1..bits {
                    let both: u32 =
                        columns[i].iter().zip(&columns[j]).map(|(a, b)| (a & b).count_ones()).sum();
                    let covariance = f64::from(both) / rows - shares[i] * shares[j];
                    let scale = (variance(i) * variance(j)).sqrt();
                    let correlation = if scale > 0.0 { (covariance / scale).abs() } else { 0.0 };
                    correlations += correlation;
                    squares += covariance * covariance;
                    largest = largest.max(correlation);
                }
                (correlations, squares, largest)
            })
            .collect();
        let pairs = (bits * (bits - 1) / 2).max(1) as f64;
        let trace: f64 = (0..bits).map(variance).sum();
        let squares: f64 = (0..bits).map(|i| variance(i).powi(2)).sum::<f64>()
            + 2.0 * sums.iter().map(|sum| sum.1).sum::<f64>();
        Self {
            mean_correlation: sums.iter().map(|sum| sum.0).sum::<f64>() / pairs,
            max_correlation: sums.iter().map(|sum| sum.2).fold(0.0, f64::max),
            effective_bits: if squares > 0.0 { trace * trace / squares } else { 0.0 },
        }
    }
}

/// The codes seen from the side: for each bit its values in all (or CORRELATION_ROWS) codes, packed.
fn bit_columns(codes: &Codes) -> Vec<Vec<u64>> {
    let rows = codes.len().min(CORRELATION_ROWS);
    let mut columns = vec![vec![0u64; rows.div_ceil(64)]; codes.width().bits()];
    for n in 0..rows {
        let row = codes.row(n * codes.len() / rows);
        for (i, column) in columns.iter_mut().enumerate() {
            column[n / 64] |= (row[i / 64] >> (63 - i % 64) & 1) << (n % 64);
        }
    }
    columns
}

fn sampled_distances(codes: &Codes, seed: u64) -> Vec<u64> {
    let mut counts = vec![0; codes.width().bits() + 1];
    if codes.len() >= 2 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..DISTANCE_PAIRS {
            let a = rng.random_range(0..codes.len());
            let step = rng.random_range(1..codes.len());
            let b = (a + step) % codes.len();
            counts[distance(codes.row(a), codes.row(b)) as usize] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{Code, Width};

    fn codes(rows: &[&str]) -> Codes {
        let width = Width::new(rows[0].len() - 2).unwrap();
        let mut codes = Codes::new(width);
        rows.iter().for_each(|row| codes.push(&Code::parse(row, width).unwrap()).unwrap());
        codes
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn four_codes_by_hand() {
        // Bit 0 is balanced, bit 1 is its opposite, bit 2 is independent of both, bit 3 is 0.
        let health = Health::of(&codes(&["0b0100", "0b0110", "0b1000", "0b1010"]), 1);
        assert_eq!((health.bits, health.codes), (4, 4));
        assert_eq!(health.ones, [0.5, 0.5, 0.5, 0.0]);
        assert!(near(health.imbalance, 0.125));
        assert!(near(health.entropy, 3.0));
        assert!(near(health.max_correlation, 1.0));
        assert!(near(health.mean_correlation, 1.0 / 6.0));
        // C has eigenvalues 1/2, 1/4, 0, 0: (3/4)^2 / (1/4 + 1/16).
        assert!(near(health.effective_bits, 9.0 / 5.0));
        assert_eq!((health.distinct, health.largest_bucket), (4, 1));
        assert_eq!(health.distances.iter().sum::<u64>(), 100_000);
        // Of the six pairs two differ in one bit, two in two and two in three.
        assert_eq!((health.distances[0], health.distances[4]), (0, 0));
        for d in 1..=3 {
            assert!((health.distances[d] as f64 / 100_000.0 - 1.0 / 3.0).abs() < 0.01);
        }
    }

    #[test]
    fn equal_codes_share_a_bucket_and_vary_in_nothing() {
        let health = Health::of(&codes(&["0b101"; 5]), 2);
        assert_eq!((health.distinct, health.largest_bucket), (1, 5));
        assert_eq!((health.entropy, health.effective_bits), (0.0, 0.0));
        assert_eq!(health.imbalance, 0.5);
        assert_eq!(health.distances, [100_000, 0, 0, 0]);
    }

    #[test]
    fn random_codes_are_healthy() {
        let width = Width::new(70).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut random = Codes::new(width);
        for _ in 0..20_000 {
            random.push_words(&[rng.random(), rng.random::<u64>() & 0x3f << 58]).unwrap();
        }
        let health = Health::of(&random, 4);
        assert!(health.entropy > 69.98 && health.effective_bits > 69.0);
        assert!(health.max_correlation < 0.05 && health.imbalance < 0.01);
        let mean: f64 =
            health.distances.iter().enumerate().map(|(d, &n)| d as f64 * n as f64).sum();
        assert!((mean / 100_000.0 - 35.0).abs() < 0.2);
    }

    #[test]
    fn no_codes_and_one_code() {
        let none = Health::of(&Codes::new(Width::new(8).unwrap()), 0);
        assert_eq!((none.codes, none.distinct, none.largest_bucket), (0, 0, 0));
        assert_eq!(none.distances, [0; 9]);
        let one = Health::of(&codes(&["0b1"]), 0);
        assert_eq!((one.distinct, one.max_correlation), (1, 0.0));
    }
}
