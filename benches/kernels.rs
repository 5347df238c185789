//! How many codes a second does each kernel compare, at each width?
//!
//! `cargo bench --bench kernels`
//!
//! One thread, a million random codes of each width in one span, at a radius that a search for the
//! ten nearest soon comes down to. From 256 bits on the codes are larger than most caches.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nearbit::index::{Kernel, Span};
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

criterion_group! {
    name = benches;
    config = Criterion::default()
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = kernels
}
criterion_main!(benches);
