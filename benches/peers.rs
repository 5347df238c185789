//! How do searches compare with those of other libraries, on the same codes?
//!
//! ```text
//! cargo bench --bench peers                                  a million codes of 64 bits, made here
//! cargo bench --bench peers -- 64 codes.npy queries.npy      codes and queries of two files
//! ```
//!
//! A file holds u8 rows. The peers are those that the Python of `PYTHON` (else `python3`) can import,
//! of faiss and usearch: `benches/peers.py` runs them on the same files, as this does: one thread,
//! one query at a time, of each query the best of five times; then all queries in one batch on all
//! threads. Whatever anyone finds is compared with a plain loop over all codes; recall is the share
//! of what should be found that was, where ties count as right.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{Spread, Times};
use nearbit::formats::{NpyWriter, Origin, load_codes};
use nearbit::index::{Index, Neighbour, Query};
use nearbit::{Code, Codes, Result, Width};
use serde_json::{Value, json};

const LIMITS: [usize; 2] = [10, 100];
const RADII: [u32; 4] = [0, 1, 2, 3];

fn main() -> Result<()> {
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [bits, codes, queries] = &given[..] {
        let width = Width::new(bits.parse().expect("the first argument is the number of bits"))?;
        return compare(width, Path::new(codes), Path::new(queries));
    }
    assert!(given.is_empty(), "expected BITS CODES.npy QUERIES.npy or nothing, got {given:?}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for spread in [Spread::Clustered, Spread::Uniform] {
        println!("{spread:?}:");
        let (codes, queries) = spread.make(64, 1_000_000, 500);
        let [codes_file, queries_file] =
            ["codes.npy", "queries.npy"].map(|name| folder.path().join(name));
        let asked: Vec<u8> = queries.iter().flat_map(Code::to_bytes).collect();
        write(&codes_file, codes.width(), &codes.to_bytes())?;
        write(&queries_file, codes.width(), &asked)?;
        compare(codes.width(), &codes_file, &queries_file)?;
    }
    Ok(())
}

fn write(path: &Path, width: Width, bytes: &[u8]) -> Result<()> {
    let mut file = NpyWriter::<u8>::create(path, width.bytes())?;
    file.write(bytes)?;
    file.finish().map(drop)
}

/// Runs all searches, ours first, and prints the times of others as multiples of ours.
fn compare(width: Width, codes_file: &Path, queries_file: &Path) -> Result<()> {
    let load = |path: &Path| load_codes(&Origin::from(path), width, &Default::default());
    let (codes, queries) = (load(codes_file)?, load(queries_file)?);
    let queries: Vec<Code> = (0..queries.len()).map(|row| queries.get(row)).collect();
    println!("  {} codes of {width}, {} queries", codes.len(), queries.len());
    let truth: Vec<Vec<usize>> = queries.iter().map(|query| histogram(&codes, query)).collect();
    let ours = measure(&codes, &queries, &truth);
    let theirs = peers(codes_file, queries_file, &truth);
    for line in &ours {
        let task = line["task"].as_str().unwrap_or_default();
        println!("  {task}");
        let same = |other: &&Value| other["task"] == line["task"];
        for other in std::iter::once(line).chain(theirs.iter().filter(same)) {
            let number = |key: &str| other[key].as_f64();
            let times = |key: &str| Some(number(key)? / line[key].as_f64()?);
            let figure = |key: &str, unit: &str| {
                number(key).zip(times(key)).map_or(String::new(), |(value, times)| {
                    format!("{value:10.2} {unit} x{times:<8.2}")
                })
            };
            println!(
                "    {:34} {}{}{}recall {:.4}",
                other["peer"].as_str().unwrap_or_default(),
                figure("p50_us", "us p50"),
                figure("p99_us", "us p99"),
                figure("per_second", "a second"),
                number("recall").unwrap_or_default(),
            );
        }
    }
    Ok(())
}

/// How many codes are at each distance from a query, by the plainest loop.
fn histogram(codes: &Codes, query: &Code) -> Vec<usize> {
    let mut counts = vec![0; codes.width().bits() + 1];
    for code in codes.rows() {
        let differing = code.iter().zip(query.words()).map(|(a, b)| (a ^ b).count_ones());
        counts[differing.sum::<u32>() as usize] += 1;
    }
    counts
}

/// The distance of the nearest `limit`, the last of them.
fn reach(histogram: &[usize], limit: usize) -> u32 {
    let mut left = limit;
    let within = |&&count: &&usize| {
        let more = count < left;
        left = left.saturating_sub(count);
        more
    };
    histogram.iter().take_while(within).count() as u32
}

fn measure(codes: &Codes, queries: &[Code], truth: &[Vec<usize>]) -> Vec<Value> {
    let begun = Instant::now();
    let index = Index::build(codes.width(), (0..codes.len() as u64).collect(), codes.clone());
    let built = begun.elapsed().as_secs_f64();
    let mut lines = vec![];
    for limit in LIMITS {
        let times = Times::of(queries, |code| index.nearest(code, limit).len());
        for (code, histogram) in queries.iter().zip(truth) {
            let found = index.nearest(code, limit);
            let last = found.last().map(|found| found.distance);
            assert_eq!(found.len(), limit.min(codes.len()));
            assert_eq!(last, Some(reach(histogram, limit)), "{code}");
            check(codes, code, &found);
        }
        lines.push(json!({"task": format!("{limit} nearest"), "p50_us": times.at(50), "p99_us": times.at(99)}));
    }
    for radius in RADII {
        let times = Times::of(queries, |code| index.within(code, radius).len());
        for (code, histogram) in queries.iter().zip(truth) {
            let found = index.within(code, radius);
            assert_eq!(found.len(), histogram[..=radius as usize].iter().sum::<usize>(), "{code}");
            check(codes, code, &found);
        }
        lines.push(json!({"task": format!("ball of {radius}"), "p50_us": times.at(50), "p99_us": times.at(99)}));
    }
    let batch: Vec<Query<'_>> = queries.iter().map(|code| Query::nearest(code, 10)).collect();
    let seconds = (0..3).map(|_| {
        let begun = Instant::now();
        std::hint::black_box(index.search_batch(&batch));
        begun.elapsed().as_secs_f64()
    });
    let best = seconds.fold(f64::INFINITY, f64::min);
    lines.push(json!({"task": "batch, 10 nearest", "per_second": queries.len() as f64 / best}));
    let bytes = index.memory().total() as f64 / codes.len() as f64;
    let peer = format!("nearbit, {built:.2} s, {bytes:.1} bytes a code");
    lines.iter_mut().for_each(|line| {
        line["peer"] = json!(peer);
        line["recall"] = json!(1.0);
    });
    lines
}

/// What was found is where it is said to be.
fn check(codes: &Codes, query: &Code, found: &[Neighbour]) {
    for found in found {
        assert_eq!(codes.get(found.number as usize).distance(query), found.distance);
    }
}

/// The lines of those peers that are installed.
fn peers(codes: &Path, queries: &Path, truth: &[Vec<usize>]) -> Vec<Value> {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers.py");
    let within = |radius: u32| {
        truth.iter().map(move |counts| counts[..=radius as usize].iter().sum::<usize>())
    };
    let task = json!({
        "codes": codes,
        "queries": queries,
        "reach": LIMITS.map(|limit| {
            (limit, truth.iter().map(|counts| reach(counts, limit)).collect::<Vec<_>>())
        }),
        "within": RADII.map(|radius| (radius, within(radius).collect::<Vec<_>>())),
    });
    let run = || -> std::io::Result<Vec<u8>> {
        let mut child = Command::new(&python)
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        serde_json::to_writer(child.stdin.take().expect("a pipe"), &task)?;
        Ok(child.wait_with_output()?.stdout)
    };
    let output = run().unwrap_or_else(|error| {
        println!("  no peers: {} cannot be run: {error}", python.display());
        Vec::new()
    });
    let lines = serde_json::Deserializer::from_slice(&output).into_iter();
    lines.map_while(std::result::Result::ok).collect()
}
