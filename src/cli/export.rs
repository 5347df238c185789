//! `nearbit export`: writes records as JSON lines.

use nearbit::Filter;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::get::Line;
use super::input::{FILTERS, parse_filter};
use super::place::InCollection;

/// Records that are read at a time.
const PAGE: usize = 1024;

/// Write records as JSON lines, oldest first: id, code, payload, and what is kept beside them
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  nearbit export --data-dir db --collection news > news.jsonl
  nearbit index news.jsonl --payload-field payload --data-dir db --collection copy
  nearbit export --filter 'year >= 1990' --data-dir db --collection news | head

{FILTERS}"))]
pub struct Args {
    #[command(flatten)]
    place: InCollection,
    /// Only records that match, as in 'year >= 1990'
    #[arg(long, value_name = "EXPR", value_parser = parse_filter)]
    filter: Option<Filter>,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let (_database, collection) = args.place.open_on_disk()?;
    let mut stream = console.json_stream();
    let mut after = None;
    loop {
        let page = match &args.filter {
            None => collection.list(after, PAGE)?,
            Some(filter) => collection.list_matching(filter, after, PAGE)?,
        };
        page.records.iter().try_for_each(|record| stream.json(&Line::of(record)))?;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    stream.finish()?;
    Ok(Exit::Done)
}
