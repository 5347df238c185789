//! `nearbit model`: the models in a database.

use clap::Subcommand;
use nearbit::{Collection, EncoderInfo};
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::output::{Fields, Table};
use super::place::DataDir;

/// List and delete the models in a database
#[derive(Subcommand)]
#[command(after_help = "\
A model comes into a database with the first collection that is made with it:
nearbit collection create NAME --model FILE")]
pub enum Command {
    List(List),
    Delete(Delete),
}

/// List the models, each with what encodes with it
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit model list --data-dir db")]
pub struct List {
    #[command(flatten)]
    dir: DataDir,
}

/// Delete a model that no collection encodes with
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit model delete topics@1 --data-dir db")]
pub struct Delete {
    /// Its name and version, as in topics@1
    name: String,
    #[command(flatten)]
    dir: DataDir,
}

pub fn run(command: Command, console: &Console) -> Result<Exit, Failure> {
    match command {
        Command::List(args) => list(&args, console),
        Command::Delete(args) => {
            args.dir.open_on_disk()?.delete_model(&args.name)?;
            console.result(&Fields::new([("name", json!(args.name)), ("deleted", json!(true))]))?;
            Ok(Exit::Done)
        }
    }
}

fn list(args: &List, console: &Console) -> Result<Exit, Failure> {
    let database = args.dir.open_on_disk()?;
    let mut stream = console.stream();
    let header = ["name", "bits", "input", "collections"];
    let mut table = Table::new(header);
    for name in database.models()? {
        let model = database.model(&name)?;
        let info = model.info();
        let encodes = |collection: &&Collection| matches!(collection.info().encoder, EncoderInfo::Model { name: of, .. } if of == name);
        let collections = database.collections();
        let users: Vec<&str> = collections.iter().filter(encodes).map(Collection::name).collect();
        let fields = Fields::new([
            ("name", json!(name)),
            ("bits", json!(info.bits)),
            ("input", json!(info.input)),
            ("digest", json!(info.digest)),
            ("collections", json!(users)),
        ]);
        if console.is_table() {
            table.push(fields.cells(header));
        } else {
            stream.json(&fields)?;
        }
    }
    if console.is_table() {
        table.write(stream.text())?;
    }
    stream.finish()?;
    Ok(Exit::Done)
}
