//! `nearbit compact`: gives back the room of records that are gone, in segments and in the table.

use nearbit::store::FORMAT_VERSION;
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::output::Fields;
use super::place::InCollection;

/// Give back the room of records that were replaced or deleted
///
/// A collection does this by itself while it is written to; this does it at once, and more
/// thoroughly. Damaged segments are named and left alone, and the exit code is then 8.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit compact --data-dir db --collection news
  nearbit compact --data-dir db --collection news --upgrade    a directory of an older version")]
pub struct Args {
    #[command(flatten)]
    place: InCollection,
    /// First go over to the newest format, for good: an older nearbit will refuse the directory
    #[arg(long)]
    upgrade: bool,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let (database, collection) = args.place.open_on_disk()?;
    if args.upgrade && database.format_version() < FORMAT_VERSION {
        database.upgrade()?;
        console.note(format!("the data directory has format version {FORMAT_VERSION} from now on"));
    }
    let done = collection.compact()?;
    for left in &done.left_alone {
        eprintln!("error: left alone, for it is damaged: {}", left.reason);
    }
    console.result(&Fields::new([
        ("collection", json!(collection.name())),
        ("bytes_before", json!(done.bytes_before)),
        ("bytes_after", json!(done.bytes_after)),
        ("segments_before", json!(done.segments_before)),
        ("segments_after", json!(done.segments_after)),
        ("table_bytes_before", json!(done.table_bytes_before)),
        ("table_bytes_after", json!(done.table_bytes_after)),
        ("left_alone", json!(done.left_alone.len())),
    ]))?;
    Ok(if done.left_alone.is_empty() { Exit::Done } else { Exit::Damaged })
}
