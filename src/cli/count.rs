//! `nearbit count`: counts records.

use nearbit::Filter;
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::input::{FILTERS, parse_filter};
use super::output::Fields;
use super::place::InCollection;

/// Count records, all of them or those that match a filter
#[derive(clap::Args)]
#[command(after_help = format!("\
Example:
  nearbit count --filter 'label == \"sci.space\"' --data-dir db --collection news

{FILTERS}"))]
pub struct Args {
    #[command(flatten)]
    place: InCollection,
    /// Count only records that match, as in 'year >= 1990'
    #[arg(long, value_name = "EXPR", value_parser = parse_filter)]
    filter: Option<Filter>,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let (_database, collection) = args.place.open_on_disk()?;
    let count = match &args.filter {
        None => collection.info().records,
        Some(filter) => collection.count(filter)?,
    };
    console.result(&Fields::new([
        ("collection", json!(collection.name())),
        ("count", json!(count)),
    ]))?;
    Ok(Exit::Done)
}
