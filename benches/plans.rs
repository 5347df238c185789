//! How much sooner than a scan does an index find the nearest of a million codes?
//!
//! `cargo bench --bench plans` takes some minutes; `cargo bench --bench plans -- 64 Clustered` only
//! does codes of 64 bits in clusters, and a number beyond every width is how many codes there are:
//! `-- 64 Clustered 10000000`.
//!
//! One thread, codes of 64, 128 and 256 bits that are clustered as learned ones are, uniform (no
//! index can help), or clustered with nine of ten equal to another. Of each query the best of five
//! times counts, which leaves out what the rest of the machine does; the percentiles are over the
//! queries. The measure is a plain scan for as many nearest of the same codes by the same kernel,
//! without an index.

mod common;

use std::time::Instant;

use common::{Spread, Times};
use nearbit::index::{Found, Index, Kernel, Plan, Query, Span};
use nearbit::numbers::Numbers;
use nearbit::{Code, Codes, Width};

const ROWS: usize = 1_000_000;
const QUERIES: usize = 500;

fn main() {
    let given = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let is_rows = |arg: &String| arg.parse().is_ok_and(|number: usize| number > Width::MAX);
    let (rows, wanted): (Vec<String>, Vec<String>) = given.partition(is_rows);
    let rows = rows.iter().find_map(|rows| rows.parse().ok()).unwrap_or(ROWS);
    for bits in [64, 128, 256] {
        for spread in Spread::ALL {
            let names = [bits.to_string(), format!("{spread:?}")];
            if wanted.iter().all(|wanted| names.contains(wanted)) {
                measure(rows, bits, spread);
            }
        }
    }
}

fn measure(rows: usize, bits: usize, spread: Spread) {
    let (codes, queries) = spread.make(bits, rows, QUERIES);
    let numbers: Vec<u64> = (0..rows as u64).collect();
    let begun = Instant::now();
    let index = Index::build(codes.width(), numbers, codes.clone());
    println!(
        "{rows} x {bits} bits, {spread:?}: built in {:.3} s, {:.1} bytes a record",
        begun.elapsed().as_secs_f64(),
        index.memory().total() as f64 / rows as f64
    );
    let plain = |limit| Times::of(&queries, |code| plain_scan(&codes, code, limit).len());
    for limit in [10, 100] {
        let plain = plain(limit);
        println!("  {limit:3} nearest, a plain scan  {plain}");
        for plan in [Plan::Auto, Plan::Scan] {
            let search = |code: &Code| index.search(&Query { plan, ..Query::nearest(code, limit) });
            let ours = Times::of(&queries, |code| search(code).neighbours.len());
            let mut compared: Vec<u64> =
                queries.iter().map(|code| search(code).stats.compared).collect();
            compared.sort_unstable();
            println!(
                "  {limit:3} nearest, {:12}  {ours}, {}, compares {} codes",
                plan.name(),
                ours.beside(&plain),
                compared[QUERIES / 2]
            );
        }
    }
    let plain = plain(10);
    for percent in [1, 10, 50] {
        let hash = |number: &u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let chosen = |number: &u64| hash(number) % 100 < percent;
        let only: Numbers = (0..rows as u64).filter(chosen).collect();
        let ours = Times::of(&queries, |code| {
            index.search(&Query { only: Some(&only), ..Query::nearest(code, 10) }).neighbours.len()
        });
        println!("   10 nearest of {percent:2} %        {ours}, {}", ours.beside(&plain));
    }
    let scans = |code| Query { plan: Plan::Scan, ..Query::nearest(code, 10) };
    let scans: Vec<Query<'_>> = queries.iter().map(scans).collect();
    let begun = Instant::now();
    index.search_batch(&scans);
    let codes_a_second = (rows * scans.len()) as f64 / begun.elapsed().as_secs_f64();
    println!("  a batch of scans: {:.1} billion codes a second", codes_a_second / 1e9);
}

/// What an index has to beat: the nearest of all codes, as row and distance. The kernel takes them
/// block by block, each with the radius that those before it left.
fn plain_scan(codes: &Codes, code: &Code, limit: usize) -> Vec<Found> {
    let kernel = Kernel::detect();
    let (mut radius, mut nearer) = (code.width().bits(), 0);
    let mut counts = vec![0; radius + 1];
    let (mut best, mut found) = (Vec::new(), Vec::new());
    let (mut start, rows) = (0, codes.len() as u32);
    while start < rows {
        let end = rows.min(start + start.clamp(64, 32 * 1024));
        let span = [Span { start, end }];
        kernel.within(codes.as_words(), code.words(), &span, radius as u32, &mut found);
        for found in found.drain(..) {
            let distance = found.distance as usize;
            if distance < radius {
                nearer += 1;
                counts[distance] += 1;
                while nearer >= limit {
                    radius -= 1;
                    nearer -= counts[radius];
                }
            }
            best.push(found);
        }
        start = end;
    }
    best.retain(|found| found.distance as usize <= radius);
    best.sort_unstable_by_key(|found| (found.distance, found.row));
    best.truncate(limit);
    best
}
