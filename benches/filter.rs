//! What does a filter cost, at 1, 10 and 50 % of the records, with an index of its field and without?
//! How long until a million records are in the index of a field, and how much memory does it take?
//!
//! ```text
//! cargo bench --bench filter                  a million records of 64-bit clustered codes
//! cargo bench --bench filter -- 100000        another number
//! ```
//!
//! Medians over 100 queries for the 10 nearest, one after the other on one thread, in microseconds:
//! the whole call, and of it what the filter, the search and the reading of the hits took. Tested are
//! the payloads that were read for the filter.

mod common;

use std::time::{Duration, Instant};

use common::Spread;
use nearbit::{
    Code, Collection, CollectionSettings, Database, EncoderSpec, Filter, NewRecord, Payload,
    Result, Search, Width,
};

const RECORDS: usize = 1_000_000;
const QUERIES: usize = 100;
const GROUP: usize = 10_000;

/// Multiples of it, modulo 2^64, are distinct, lie evenly and are in no order.
const SHUFFLE: i64 = 0x9e37_79b9_7f4a_7c15_u64 as i64;

/// The fields that are indexed: one of 100 values; two of as many as there are
/// records, in their order and in none.
const FIELDS: [&str; 3] = ["percent", "serial", "shuffled"];

fn main() -> Result<()> {
    // `cargo bench` adds flags of its own.
    let records = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(RECORDS);
    let dir = tempfile::tempdir().map_err(nearbit::Error::io("create", "a directory"))?;
    let (codes, queries) = Spread::Clustered.make(64, records, QUERIES);
    {
        let database = Database::open(dir.path())?;
        let settings = CollectionSettings::new(EncoderSpec::Codes { width: Width::new(64)? });
        let collection = database.create_collection("c", &settings)?;
        for start in (0..records).step_by(GROUP) {
            let record = |i: usize| -> Result<NewRecord> {
                // Which records match has nothing to do with their codes.
                let percent = i.wrapping_mul(0x9e37_79b9) / 7 % 100;
                let shuffled = (i as i64).wrapping_mul(SHUFFLE);
                let payload = format!(
                    r#"{{"percent":{percent},"plain":{percent},"serial":{i},"shuffled":{shuffled}}}"#
                );
                Ok(NewRecord::code(codes.get(i)).with_payload(Payload::from_json(&payload)?))
            };
            let group = (start..records.min(start + GROUP)).map(record).collect::<Result<_>>()?;
            collection.upsert(group)?;
        }
    }
    let start = Instant::now();
    let database = Database::open(dir.path())?;
    println!("{records} records: open in {:.2} s", start.elapsed().as_secs_f64());
    let collection = database.collection("c")?;
    for field in FIELDS {
        let (start, before) = (Instant::now(), resident());
        collection.index_field(field.parse()?)?;
        while !collection.info().index_fields.iter().all(|indexed| indexed.complete) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let bytes = (resident() - before) / records as f64;
        let seconds = start.elapsed().as_secs_f64();
        println!("{field} indexed in {seconds:.2} s, {bytes:.0} bytes a record");
    }
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "filter", "call", "filter", "search", "read", "tested"
    );
    let (half, most) = (records / 2, records / 10 * 9);
    let filters = [
        None,
        Some("percent < 1".to_owned()),
        Some("percent < 10".to_owned()),
        Some("percent < 50".to_owned()),
        Some("percent != 7".to_owned()),
        Some(format!("serial < {half}")),
        Some(format!("serial < {most}")),
        Some(format!("serial >= {most} and percent < 50")),
        Some(format!("shuffled < {}", i64::MIN / 5 * 4)),
        Some("shuffled < 0".to_owned()),
        Some(format!("shuffled > {}", i64::MIN / 5 * 4)),
        Some(format!("shuffled > {} and shuffled < {}", i64::MIN / 4, i64::MAX / 4)),
        Some("plain < 50".to_owned()),
        Some("plain < 1".to_owned()),
        Some("percent < 10 and plain < 5".to_owned()),
    ];
    filters.iter().try_for_each(|filter| measure(&collection, &queries, filter.as_deref()))
}

/// The memory of this process, in bytes; nothing where the system does not tell.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib * 1024.0)
}

fn measure(collection: &Collection, queries: &[Code], filter: Option<&str>) -> Result<()> {
    let parsed = filter.map(Filter::parse).transpose()?;
    let mut times: [Vec<f64>; 5] = Default::default();
    for query in queries {
        let search = Search { filter: parsed.clone(), ..Search::code(query.clone()) };
        let start = Instant::now();
        let stats = collection.search(&search)?.stats;
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        let row = [
            micros(start.elapsed()),
            micros(stats.filtering),
            micros(stats.searching),
            micros(stats.reading),
            stats.tested as f64,
        ];
        times.iter_mut().zip(row).for_each(|(times, value)| times.push(value));
    }
    let [call, filtering, searching, reading, tested] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let name = filter.unwrap_or("(none)");
    println!(
        "{name:<34} {call:>9.1} {filtering:>9.1} {searching:>9.1} {reading:>9.1} {tested:>8.0}"
    );
    Ok(())
}
