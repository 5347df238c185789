//! `nearbit delete`: deletes records by id or filter.

use nearbit::{Filter, RecordId};
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::input::{FILTERS, parse_filter};
use super::output::Fields;
use super::place::InCollection;

/// Delete records by id, or those that match a filter
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  nearbit delete article-17 article-18 --data-dir db --collection news
  nearbit delete --filter 'year < 1990' --data-dir db --collection news

{FILTERS}"))]
pub struct Args {
    /// Ids of records; where one is not there, the others are deleted and the exit code is 3
    #[arg(required_unless_present = "filter", conflicts_with = "filter")]
    ids: Vec<String>,
    /// Delete the records that match, as in 'year < 1990'
    #[arg(long, value_name = "EXPR", value_parser = parse_filter)]
    filter: Option<Filter>,
    #[command(flatten)]
    place: InCollection,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let ids = args.ids.into_iter().map(RecordId::new).collect::<Result<Vec<_>, _>>()?;
    let (_database, collection) = args.place.open_on_disk()?;
    if let Some(filter) = &args.filter {
        console.result(&Fields::new([
            ("collection", json!(collection.name())),
            ("deleted", json!(collection.delete_matching(filter)?)),
        ]))?;
        return Ok(Exit::Done);
    }
    let deleted = collection.delete(&ids)?;
    for (id, _) in ids.iter().zip(&deleted).filter(|(_, deleted)| !**deleted) {
        eprintln!("error: there is no record {:?}", id.as_str());
    }
    let count = deleted.iter().filter(|deleted| **deleted).count();
    console.result(&Fields::new([
        ("collection", json!(collection.name())),
        ("deleted", json!(count)),
    ]))?;
    Ok(if count == ids.len() { Exit::Done } else { Exit::NotFound })
}
