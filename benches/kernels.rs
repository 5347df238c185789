//! How many codes a second does each kernel compare, at each width? And how long does it take to weigh
//! what a search found, bit by bit with weights of 32 bits, and as the index does it?
//!
//! `cargo bench --bench kernels`
//!
//! One thread, a million random codes of each width in one span, at a radius that a search for the
//! ten nearest soon comes down to. From 256 bits on the codes are larger than most caches.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nearbit::index::{Index, Kernel, Span, Weights};
use nearbit::{Codes, Width};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn kernels(c: &mut Criterion) {
    const ROWS: u32 = 1_000_000;
    for words in [1, 2, 3, 4, 8, 16] {
        let mut rng = ChaCha8Rng::seed_from_u64(words as u64);
        let codes: Vec<u64> = (0..ROWS as usize * words).map(|_| rng.random()).collect();
        let query: Vec<u64> = (0..words).map(|_| rng.random()).collect();
        let span = [Span { start: 0, end: ROWS }];
        // Five standard deviations below the mean: a handful of a million lies within.
        let bits = 64.0 * words as f64;
        let radius = (bits / 2.0 - 2.5 * bits.sqrt()) as u32;

        let mut group = c.benchmark_group(format!("scan of {} bits", 64 * words));
        group.throughput(Throughput::Elements(u64::from(ROWS)));
        for kernel in Kernel::available() {
            let mut found = Vec::new();
            group.bench_function(kernel.name(), |b| {
                b.iter(|| {
                    found.clear();
                    kernel.within(black_box(&codes), &query, &span, radius, &mut found);
                    black_box(found.len())
                });
            });
        }
        group.finish();
    }
}

/// Of 300,000 codes those that a search found, which lie anywhere in the memory.
fn weigh(c: &mut Criterion) {
    const ROWS: usize = 300_000;
    for bits in [128, 384] {
        let mut rng = ChaCha8Rng::seed_from_u64(bits as u64);
        let width = Width::new(bits).expect("a width");
        let words: Vec<u64> = (0..ROWS * width.words()).map(|_| rng.random()).collect();
        let mut codes = Codes::with_capacity(width, ROWS);
        let rows = words.chunks_exact(width.words());
        rows.for_each(|row| codes.push_words(row).expect("a row of that width"));
        let query = codes.get(17);
        let values: Vec<f32> = (0..bits).map(|_| rng.random_range(-4.0..4.0)).collect();
        let weights = Weights::new(&query, &values).expect("values that are not 0");
        let index = Index::build(width, (0..ROWS as u64).collect(), codes);
        let snapshot = index.snapshot();

        let mut group = c.benchmark_group(format!("weigh {bits} bits"));
        for count in [30, 100, 1000] {
            let numbers: Vec<u64> = (0..count).map(|_| rng.random_range(0..ROWS as u64)).collect();
            group.bench_function(BenchmarkId::new("bit by bit", count), |b| {
                b.iter(|| -> f32 {
                    let codes = numbers.iter().filter_map(|&number| snapshot.code(number));
                    codes.map(|code| differing(code, query.words(), &values)).sum()
                });
            });
            group.bench_function(BenchmarkId::new("agreements", count), |b| {
                b.iter(|| snapshot.agreements(&weights, &numbers));
            });
        }
        group.finish();
    }
}

/// The weight of the bits in which two codes differ.
fn differing(a: &[u64], b: &[u64], values: &[f32]) -> f32 {
    let mut sum = 0.0;
    for ((a, b), values) in a.iter().zip(b).zip(values.chunks(64)) {
        let mut bits = a ^ b;
        while bits != 0 {
            let first = bits.leading_zeros();
            sum += values[first as usize].abs();
            bits ^= 1 << (63 - first);
        }
    }
    sum
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = kernels, weigh
}
criterion_main!(benches);
