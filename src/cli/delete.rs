//! `nearbit delete`: deletes records by id.

use nearbit::RecordId;
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::output::Fields;
use super::place::InCollection;

/// Delete records by id
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  nearbit delete article-17 article-18 --data-dir db --collection news")]
pub struct Args {
    /// Ids of records; where one is not there, the others are deleted and the exit code is 3
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    place: InCollection,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let ids = args.ids.into_iter().map(RecordId::new).collect::<Result<Vec<_>, _>>()?;
    let (_database, collection) = args.place.open()?;
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
