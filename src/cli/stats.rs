//! `nearbit stats`: how healthy the codes of a collection are, and what it takes.

use std::io::Write;

use nearbit::Collection;
use nearbit::evaluate::Health;
use nearbit::store::StoreStats;
use serde_json::{Value, json};

use super::console::Console;
use super::exit::{Exit, Failure};
use super::output::Fields;
use super::place::InCollection;

/// The longest bar, in characters.
const BAR: u64 = 50;

/// Sizes of buckets that have a line of their own.
const BUCKETS: usize = 10;

/// Bit balance, entropy, correlation, bucket sizes, distances, and bytes of a collection
///
/// Bits that are always 0, bits that say the same, and buckets that hold half of all records waste
/// width. No labels are needed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit stats --data-dir db --collection news
  nearbit stats --data-dir db --collection news --output json

A server counts the damage that searches and its scrubs meet:
  grpcurl -plaintext -d '{\"name\": \"news\"}' 127.0.0.1:7450 nearbit.v1.CollectionService/GetCollection")]
pub struct Args {
    #[command(flatten)]
    place: InCollection,
    /// What draws the pairs of codes whose distances are counted
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let (_database, collection) = args.place.open()?;
    let health = Health::of(&collection.codes()?, args.seed);
    let buckets = collection.bucket_sizes()?;
    if console.is_table() {
        let mut stream = console.stream();
        table(&collection, &health, stream.text())?;
        stream.finish()?;
        return Ok(Exit::Done);
    }
    let sizes = sizes(&collection);
    console.result(&Fields::new([
        ("collection", json!(collection.name())),
        ("records", json!(collection.info().records)),
        ("index", json!(collection.info().index)),
        ("health", json!(health)),
        // Bucket size -> number of buckets.
        ("buckets", json!(buckets)),
        ("sizes", sizes),
    ]))?;
    Ok(Exit::Done)
}

fn sizes(collection: &Collection) -> Value {
    let sizes = collection.sizes();
    json!({
        "segments": sizes.store.segments,
        "segment_bytes": sizes.store.segment_bytes,
        "live_bytes": sizes.store.live_bytes,
        "table_bytes": sizes.store.table_bytes,
        "dead_records": sizes.store.dead,
        "damaged": sizes.store.left_alone.iter().map(|left| &left.reason).collect::<Vec<_>>(),
        "damaged_places": sizes.store.damaged,
        "memory_bytes": sizes.index.total(),
    })
}

fn table(collection: &Collection, health: &Health, out: &mut impl Write) -> Result<(), Failure> {
    let sizes = collection.sizes();
    let per_code = |bytes: f64| bytes / health.codes.max(1) as f64;
    let of_bits = |value: f64| format!("{value:.2} of {}", health.bits);
    Fields::new([
        ("collection", json!(collection.name())),
        ("records", json!(collection.info().records)),
        ("index", json!(collection.info().index)),
        ("codes", json!(health.codes)),
        ("different codes", json!(health.distinct)),
        ("largest bucket", json!(health.largest_bucket)),
        ("entropy", json!(of_bits(health.entropy))),
        ("effective bits", json!(of_bits(health.effective_bits))),
        ("imbalance", json!(format!("{:.4} (0 is best, 0.5 is worst)", health.imbalance))),
        (
            "correlation",
            json!(format!(
                "{:.4} mean, {:.4} largest",
                health.mean_correlation, health.max_correlation
            )),
        ),
        ("damaged", json!(damaged(&sizes.store))),
        ("bytes on disk", json!(sizes.store.segment_bytes + sizes.store.table_bytes)),
        ("bytes in memory", json!(sizes.index.total())),
        ("memory per code", json!(format!("{:.1} bytes", per_code(sizes.index.total() as f64)))),
    ])
    .write_table(out)?;
    writeln!(out, "\nshare of ones, bit by bit (best is 0.5)")?;
    for (row, ones) in health.ones.chunks(16).enumerate() {
        let shares: Vec<String> = ones.iter().map(|share| format!("{share:.2}")).collect();
        writeln!(out, "{:>5}  {}", 16 * row, shares.join(" "))?;
    }
    writeln!(out, "\nbits of each share of ones")?;
    let mut shares = [0u64; 11];
    health
        .ones
        .iter()
        .for_each(|share| shares[(share * 10.0).round().clamp(0.0, 10.0) as usize] += 1);
    bars(
        out,
        (0..=10).zip(shares).map(|(tenths, bits)| (format!("{:.1}", tenths as f64 / 10.0), bits)),
    )?;
    writeln!(out, "\nbuckets of each size")?;
    bars(out, smallest(collection.bucket_sizes()?, BUCKETS))?;
    writeln!(out, "\ndistances of random pairs, in bits")?;
    let distances = health.distances.iter().enumerate().filter(|(_, count)| **count > 0);
    bars(out, distances.map(|(distance, &count)| (distance.to_string(), count)))
}

/// What is known to be damaged, in words.
fn damaged(store: &StoreStats) -> String {
    let left_alone = store.left_alone.iter().map(|left| format!("; {}", left.reason));
    match store.damaged + store.left_alone.len() as u64 {
        0 => "no place was met; nearbit check looks for one".to_owned(),
        _ => {
            let places = store.damaged;
            format!(
                "{places} places were met; nearbit check names all{}",
                left_alone.collect::<String>()
            )
        }
    }
}

/// The `most` smallest buckets by size, and all that are larger together.
fn smallest(
    buckets: impl IntoIterator<Item = (usize, usize)>,
    most: usize,
) -> impl Iterator<Item = (String, u64)> {
    let mut buckets: Vec<(usize, usize)> = buckets.into_iter().collect();
    let larger: usize = buckets.iter().skip(most).map(|(_, count)| count).sum();
    buckets.truncate(most);
    let last =
        buckets.last().filter(|_| larger > 0).map(|(size, _)| (format!(">{size}"), larger as u64));
    buckets.into_iter().map(|(size, count)| (size.to_string(), count as u64)).chain(last)
}

/// A line for each label: its count, the share that it is of all, and a bar.
fn bars(out: &mut impl Write, counts: impl Iterator<Item = (String, u64)>) -> Result<(), Failure> {
    let counts: Vec<(String, u64)> = counts.collect();
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let all = counts.iter().map(|(_, count)| *count).sum::<u64>().max(1);
    for (label, count) in counts {
        let bar = "#".repeat((count * BAR).div_ceil(most) as usize);
        let share = 100.0 * count as f64 / all as f64;
        writeln!(out, "{label:>5}  {count:>9}  {share:>5.1} %  {bar}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_buckets_are_of_all_of_them() {
        let lines =
            |sizes: usize| smallest((1..=sizes).map(|size| (size, 2)), 3).collect::<Vec<_>>();
        let line = |label: &str, count: u64| (label.to_owned(), count);
        assert_eq!(lines(3), [line("1", 2), line("2", 2), line("3", 2)]);
        assert_eq!(lines(7)[3..], [line(">3", 8)]);
        assert_eq!(lines(0), []);
    }
}
