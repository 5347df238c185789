//! `nearbit get`: reads records by id.

use nearbit::{Code, Payload, Record, RecordId};
use serde::Serialize;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::output::{Table, shorten};
use super::place::InCollection;

/// Read records by id
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  nearbit get article-17 article-18 --data-dir db --collection news")]
pub struct Args {
    /// Ids of records; where one is not there, the exit code is 3
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    place: InCollection,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let ids = args.ids.into_iter().map(RecordId::new).collect::<Result<Vec<_>, _>>()?;
    let (_database, collection) = args.place.open_on_disk()?;
    let mut exit = Exit::Done;
    let mut stream = console.stream();
    let mut table = Table::new(["id", "code", "payload", "text"]);
    for (id, record) in ids.iter().zip(collection.get(&ids)?) {
        match record {
            Some(record) if console.is_table() => table.push([
                record.id.to_string(),
                record.code.as_ref().map(ToString::to_string).unwrap_or_default(),
                shorten(&record.payload.to_json(), 60),
                shorten(record.text.as_deref().unwrap_or_default(), 60),
            ]),
            Some(record) => stream.json(&Line::of(&record))?,
            None => {
                eprintln!("error: there is no record {:?}", id.as_str());
                exit = Exit::NotFound;
            }
        }
    }
    if console.is_table() {
        table.write(stream.text())?;
    }
    stream.finish()?;
    Ok(exit)
}

/// A record as JSON; what is not kept is left out.
#[derive(Serialize)]
pub struct Line<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    payload: &'a Payload,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<&'a [f32]>,
}

impl<'a> Line<'a> {
    pub fn of(record: &'a Record) -> Self {
        Self {
            id: record.id.as_str(),
            code: record.code.as_ref().map(Code::to_hex),
            payload: &record.payload,
            text: record.text.as_deref(),
            vector: record.vector.as_deref(),
        }
    }
}
