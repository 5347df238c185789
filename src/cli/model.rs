//! `nearbit model`: the models in a database.

use clap::Subcommand;
use nearbit::{Collection, EncoderInfo};
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::output::Fields;
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
    let collections = database.collections();
    let describe = |name: String| -> Result<Fields, Failure> {
        let model = database.model(&name)?;
        let info = model.info();
        let encodes = |collection: &&Collection| matches!(collection.info().encoder, EncoderInfo::Model { name: of, .. } if of == name);
        let users: Vec<&str> = collections.iter().filter(encodes).map(Collection::name).collect();
        Ok(Fields::new([
            ("name", json!(name)),
            ("bits", json!(info.bits)),
            ("input", json!(info.input)),
            ("digest", json!(info.digest)),
            ("collections", json!(users)),
        ]))
    };
    let described = database.models()?.into_iter().map(describe).collect::<Result<Vec<_>, _>>()?;
    console.results(["name", "bits", "input", "collections"], described)?;
    Ok(Exit::Done)
}
