//! How much longer does a search take while others write?
//!
//! `cargo bench --bench writes`
//!
//! A million clustered codes of 64 bits. One thread asks for the ten nearest, again and again; beside
//! it another replaces 50,000 records a second, in groups of 500, so that the index folds every few
//! seconds. It needs two cores that do nothing else.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Spread, percentile};
use nearbit::index::Index;
use nearbit::{Code, Codes};

const ROWS: usize = 1_000_000;
const RATE: usize = 50_000;
const GROUP: usize = 500;
const TIME: Duration = Duration::from_secs(10);

fn main() {
    let (codes, queries) = Spread::Clustered.make(64, ROWS + ROWS / 2, 2000);
    let mut first = Codes::with_capacity(codes.width(), ROWS);
    (0..ROWS).for_each(|row| first.push(&codes.get(row)).expect("a code of the same width"));
    let index = Index::build(codes.width(), (0..ROWS as u64).collect(), first);

    let idle = search(&index, &queries);
    println!("idle              {}", line(&idle));
    let done = AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&index, &codes, &done));
        let busy = search(&index, &queries);
        done.store(true, Ordering::Relaxed);
        let written = writer.join().expect("a writer that ends");
        println!("{:.0} writes a second", written as f64 / TIME.as_secs_f64());
        busy
    });
    println!("beside the writer {}", line(&busy));
    let ratio = |percent| percentile(&busy, percent) / percentile(&idle, percent);
    println!("ratio             p50 {:7.2}     p99 {:7.2}", ratio(50), ratio(99));
}

/// The times of searches one after the other, in microseconds.
fn search(index: &Index, queries: &[Code]) -> Vec<f64> {
    let end = Instant::now() + TIME;
    let mut times = Vec::new();
    for code in queries.iter().cycle() {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        std::hint::black_box(index.nearest(code, 10));
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    times
}

/// Replaces the oldest records, at the rate, until it is told to end; says how many.
fn write(index: &Index, codes: &Codes, done: &AtomicBool) -> usize {
    let begun = Instant::now();
    let mut written = 0;
    while !done.load(Ordering::Relaxed) {
        let mut group = Codes::with_capacity(codes.width(), GROUP);
        let next = ROWS + written;
        for number in next..next + GROUP {
            group.push(&codes.get(number % codes.len())).expect("a code of the same width");
        }
        let numbers: Vec<u64> = (next as u64..(next + GROUP) as u64).collect();
        let removed: Vec<u64> = (written as u64..(written + GROUP) as u64).collect();
        index.apply(&numbers, &group, &removed);
        written += GROUP;
        let due = begun + Duration::from_secs_f64(written as f64 / RATE as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    written
}

fn line(times: &[f64]) -> String {
    let [median, tail] = [50, 99].map(|percent| percentile(times, percent));
    format!("p50 {median:7.1} us  p99 {tail:7.1} us  of {} searches", times.len())
}
