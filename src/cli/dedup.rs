//! `nearbit dedup`: finds near duplicates.

use nearbit::RecordId;
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::output::{Fields, Table};
use super::place::InCollection;

/// Find records whose codes are nearly alike, in groups
///
/// Two records belong together where their codes differ in at most R bits, directly or through
/// others of the group. Nothing is deleted: `nearbit delete` takes the ids.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit dedup --radius 3 --data-dir db --collection news
  nearbit dedup --radius 0 --data-dir db -c news --output jsonl | jq -r '.ids[1:][]' > copies.txt")]
pub struct Args {
    #[command(flatten)]
    place: InCollection,
    /// Codes that differ in at most so many bits belong together
    #[arg(long, value_name = "R")]
    radius: u32,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let (_database, collection) = args.place.open()?;
    let groups = collection.near_duplicates(args.radius)?;
    let mut stream = console.stream();
    let mut table = Table::new(["group", "records", "ids"]);
    for (i, ids) in groups.iter().enumerate() {
        let ids: Vec<&str> = ids.iter().map(RecordId::as_str).collect();
        match console.is_table() {
            true => table.push([i.to_string(), ids.len().to_string(), ids.join(" ")]),
            false => stream.json(&Fields::new([("group", json!(i)), ("ids", json!(ids))]))?,
        }
    }
    if console.is_table() {
        table.write(stream.text())?;
    }
    stream.finish()?;
    let copies: usize = groups.iter().map(|ids| ids.len() - 1).sum();
    console.note(format!("{} groups; {copies} records beyond the oldest of each", groups.len()));
    Ok(Exit::Done)
}
