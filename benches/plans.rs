//! Which plan finds the ten nearest of a million codes sooner, and does `auto` choose it?
//!
//! `cargo bench --bench plans`
//!
//! One thread, codes of 64 and of 128 bits that are clustered as learned ones are, uniform (the
//! worst case for a hash table), or clustered with nine of ten equal to another. Each measurement
//! runs over 200 queries in turn. The percentiles of single queries are printed first, with the
//! share of them that `auto` answered by probing.

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::Spread;
use criterion::{Criterion, criterion_group, criterion_main};
use nearbit::Code;
use nearbit::index::{Index, Plan, Query};

const ROWS: usize = 1_000_000;
const PLANS: [Plan; 3] = [Plan::Auto, Plan::Probe, Plan::Scan];

fn plans(c: &mut Criterion) {
    for bits in [64, 128] {
        for spread in Spread::ALL {
            let (codes, queries) = spread.make(bits, ROWS, 200);
            let begun = Instant::now();
            let index = Index::build(codes.width(), (0..ROWS as u64).collect(), codes);
            let title = format!("10 nearest of 1M x {bits} bits, {spread:?}");
            println!(
                "{title}: built in {:.3} s, {:.1} bytes a record",
                begun.elapsed().as_secs_f64(),
                index.memory().total() as f64 / ROWS as f64
            );
            PLANS.iter().for_each(|&plan| print_percentiles(&index, &queries, plan));

            let mut group = c.benchmark_group(title);
            for plan in PLANS {
                let mut queries = queries.iter().cycle();
                group.bench_function(plan.name(), |b| {
                    b.iter(|| {
                        let Some(code) = queries.next() else { return };
                        black_box(index.search(&Query { plan, ..Query::nearest(code, 10) }));
                    });
                });
            }
            group.finish();
        }
    }
}

fn print_percentiles(index: &Index, queries: &[Code], plan: Plan) {
    let (mut times, mut probed) = (Vec::new(), 0);
    for code in queries.iter().cycle().take(5 * queries.len()) {
        let begun = Instant::now();
        let answer = index.search(&Query { plan, ..Query::nearest(code, 10) });
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        probed += usize::from(answer.stats.plan == Plan::Probe);
    }
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "  {:5}  p50 {:6.1} us  p99 {:6.1} us  probed {:3.0} %",
        plan.name(),
        at(50),
        at(99),
        100.0 * probed as f64 / times.len() as f64
    );
}

criterion_group! {
    name = benches;
    config = common::quick();
    targets = plans
}
criterion_main!(benches);
