//! Codes to measure with, uniform ones and such as learned ones are, in clusters; and times of
//! searches.

// No bench uses all of it.
#![allow(dead_code)]

use std::fmt;
use std::time::{Duration, Instant};

use criterion::Criterion;
use nearbit::{Code, Codes, Width};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution, LogNormal, weighted::WeightedAliasIndex};

/// How often each query is timed.
const REPEATS: usize = 5;

/// Short measurements: there are many, and their medians are steady.
pub fn quick() -> Criterion {
    let criterion = Criterion::default().without_plots().sample_size(20);
    criterion.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}

/// How codes are spread.
#[derive(Clone, Copy, Debug)]
pub enum Spread {
    /// Independent fair bits: the worst case for a hash table.
    Uniform,
    /// 64 families of topics, each with bits of its own bias; topics that differ from their family in
    /// a fifth of the bits; sizes of topics far from equal; records that differ from their topic in
    /// 2 to 12 % of the bits, more in some topics than in others.
    Clustered,
    /// Clustered, with nine of ten records a copy of one of the rest.
    Duplicates,
}

impl Spread {
    /// Every spread.
    pub const ALL: [Self; 3] = [Self::Clustered, Self::Uniform, Self::Duplicates];

    /// `rows` codes, and queries: `queries` of them with 3 % of the bits flipped.
    pub fn make(self, bits: usize, rows: usize, queries: usize) -> (Codes, Vec<Code>) {
        let width = Width::new(bits).expect("a width within 1..=1024");
        let mut rng = ChaCha8Rng::seed_from_u64(rows as u64);
        let codes = match self {
            Self::Uniform => {
                let mut codes = Codes::with_capacity(width, rows);
                (0..rows).for_each(|_| push(&mut codes, random(width, &mut rng, |_| 0.5)));
                codes
            }
            Self::Clustered => clustered(width, rows, &mut rng),
            Self::Duplicates => {
                let distinct = clustered(width, rows / 10, &mut rng);
                let mut codes = distinct.clone();
                (codes.len()..rows)
                    .for_each(|_| push(&mut codes, distinct.get(rng.random_range(0..rows / 10))));
                codes
            }
        };
        let queries = (0..queries)
            .map(|_| disturbed(&codes.get(rng.random_range(0..rows)), 0.03, &mut rng))
            .collect();
        (codes, queries)
    }
}

fn clustered(width: Width, rows: usize, rng: &mut impl Rng) -> Codes {
    let beta = Beta::new(2.0, 2.0).expect("a valid distribution");
    let bias: Vec<f64> = (0..width.bits()).map(|_| beta.sample(rng)).collect();
    let families: Vec<Code> = (0..64).map(|_| random(width, rng, |bit| bias[bit])).collect();
    let topics: Vec<(Code, f64)> = (0..(rows / 500).max(1000))
        .map(|_| {
            let family = &families[rng.random_range(0..families.len())];
            (disturbed(family, 0.2, rng), rng.random_range(0.02..0.12))
        })
        .collect();
    let sizes = LogNormal::new(0.0, 1.5).expect("a valid distribution");
    let sizes = WeightedAliasIndex::new((0..topics.len()).map(|_| sizes.sample(rng)).collect());
    let sizes = sizes.expect("positive sizes");
    let mut codes = Codes::with_capacity(width, rows);
    for _ in 0..rows {
        let (topic, share) = &topics[sizes.sample(rng)];
        push(&mut codes, disturbed(topic, *share, rng));
    }
    codes
}

fn random(width: Width, rng: &mut impl Rng, one: impl Fn(usize) -> f64) -> Code {
    let mut code = Code::zero(width);
    (0..width.bits()).filter(|&bit| rng.random_bool(one(bit))).for_each(|bit| code.flip(bit));
    code
}

fn disturbed(code: &Code, share: f64, rng: &mut impl Rng) -> Code {
    let mut code = code.clone();
    (0..code.width().bits()).filter(|_| rng.random_bool(share)).for_each(|bit| code.flip(bit));
    code
}

fn push(codes: &mut Codes, code: Code) {
    codes.push(&code).expect("a code of the same width");
}

/// The percentile of sorted times.
pub fn percentile(times: &[f64], percent: usize) -> f64 {
    times[(times.len() - 1) * percent / 100]
}

/// The best of some times of each query, sorted, in microseconds.
pub struct Times(Vec<f64>);

impl Times {
    /// Of searches one by one.
    pub fn of(queries: &[Code], search: impl Fn(&Code) -> usize) -> Self {
        let mut best = vec![Duration::MAX; queries.len()];
        for _ in 0..REPEATS {
            for (best, code) in best.iter_mut().zip(queries) {
                let begun = Instant::now();
                std::hint::black_box(search(code));
                *best = begun.elapsed().min(*best);
            }
        }
        let mut times: Vec<f64> = best.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// The percentile.
    pub fn at(&self, percent: usize) -> f64 {
        percentile(&self.0, percent)
    }

    /// As multiples of other times: the median and the 99th percentile.
    pub fn beside(&self, plain: &Self) -> String {
        let ratio = |percent| self.at(percent) / plain.at(percent);
        format!("of the plain scan {:.2} and {:.2}", ratio(50), ratio(99))
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:7.1} us  p99 {:7.1} us", self.at(50), self.at(99))
    }
}
