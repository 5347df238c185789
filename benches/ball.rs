//! How long does a probe take for the whole ball of a small radius, and a scan for the same?
//!
//! `cargo bench --bench ball`
//!
//! One thread, a million codes of 32, 64 and 128 bits, spread in three ways; each measurement runs
//! over 200 queries in turn. At 128 bits the radii are 8, 12 and 16.

mod common;

use std::hint::black_box;

use common::Spread;
use criterion::{Criterion, criterion_group, criterion_main};
use nearbit::index::{Index, Plan, Query};

fn ball(c: &mut Criterion) {
    const ROWS: usize = 1_000_000;
    for (bits, spread) in [32, 64, 128].into_iter().flat_map(|bits| Spread::ALL.map(|s| (bits, s)))
    {
        let (codes, queries) = spread.make(bits, ROWS, 200);
        let index = Index::build(codes.width(), (0..ROWS as u64).collect(), codes);
        let mut group = c.benchmark_group(format!("ball in 1M x {bits} bits, {spread:?}"));
        let radii: &[u32] = if bits == 128 { &[8, 12, 16] } else { &[0, 1, 2, 3] };
        for &radius in radii {
            for plan in [Plan::Probe, Plan::Scan] {
                let mut queries = queries.iter().cycle();
                group.bench_function(format!("radius {radius}, {}", plan.name()), |b| {
                    b.iter(|| {
                        let Some(code) = queries.next() else { return };
                        black_box(index.search(&Query { plan, ..Query::within(code, radius) }));
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = common::quick();
    targets = ball
}
criterion_main!(benches);
