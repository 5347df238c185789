//! `nearbit snapshot`: makes, lists, verifies, restores and deletes snapshots.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nearbit::database::{
    Snapshot, describe_snapshot, find_snapshot, list_snapshots, restore, verify_snapshot,
};
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::output::{Fields, Table};
use super::place::DataDir;

/// Make, list, verify, restore and delete snapshots of a database
#[derive(Subcommand)]
pub enum Command {
    Create(Named),
    List(List),
    Verify(Verify),
    Restore(Restore),
    Delete(Named),
}

/// Make, or delete, one snapshot
#[derive(Args)]
#[command(after_help = "\
A snapshot is the directory DIR/snapshots/NAME; copy it elsewhere as a whole. Sealed segments in it
are hard links where the file system allows, so it takes little room. A server makes snapshots of
its own directory when it is asked over gRPC.")]
pub struct Named {
    /// The name: a-z, 0-9, and . _ -
    name: String,
    #[command(flatten)]
    dir: DataDir,
}

/// List the snapshots
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    dir: DataDir,
}

/// Which snapshot: by its name in a data directory, or as a directory.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The name of a snapshot of the data directory
    name: Option<String>,
    /// The directory of a snapshot, which may come from another machine
    #[arg(long, value_name = "SNAPSHOT")]
    from: Option<PathBuf>,
}

/// Verify that a snapshot is what was made; exits with 8 where it is not
#[derive(Args)]
#[command(after_help = "\
Examples:
  nearbit snapshot verify monday --data-dir db
  nearbit snapshot verify --from /backup/monday")]
pub struct Verify {
    #[command(flatten)]
    which: Which,
    /// The data directory
    #[arg(long, value_name = "DIR", required_unless_present = "from")]
    data_dir: Option<PathBuf>,
}

/// Make a data directory what a snapshot holds
///
/// The snapshot is copied aside and verified before anything is replaced; where that fails, or is
/// interrupted, all stays as it was. No process may have the data directory open.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nearbit snapshot restore monday --data-dir db --replace
  nearbit snapshot restore --from /backup/monday --data-dir new-db")]
pub struct Restore {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    dir: DataDir,
    /// Replace all collections and models that are there
    #[arg(long)]
    replace: bool,
}

impl Which {
    fn find(&self, dir: Option<&Path>) -> Result<PathBuf, Failure> {
        match (&self.name, &self.from, dir) {
            (_, Some(from), _) => Ok(from.clone()),
            (Some(name), None, Some(dir)) => Ok(find_snapshot(dir, name)?),
            _ => Err(Failure::usage("expected the name of a snapshot and --data-dir, or --from")),
        }
    }
}

pub fn run(command: Command, console: &Console) -> Result<Exit, Failure> {
    match command {
        Command::Create(args) => {
            let snapshot = args.dir.open()?.create_snapshot(&args.name)?;
            console.result(&describe(&snapshot))?;
            let dir = snapshot.dir.display();
            console.next(format!("nearbit snapshot verify --from {dir}"));
        }
        Command::List(args) => list(&args.dir.data_dir, console)?,
        Command::Verify(args) => {
            let dir = args.which.find(args.data_dir.as_deref())?;
            let findings = verify_snapshot(&dir)?;
            findings.iter().for_each(|finding| console.note(format!("damage: {finding}")));
            let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
            console.result(&Fields::new([
                ("snapshot", json!(dir.display().to_string())),
                ("damaged", json!(found.len())),
                ("findings", json!(found)),
            ]))?;
            return Ok(if findings.is_empty() { Exit::Done } else { Exit::Damaged });
        }
        Command::Restore(args) => {
            let from = args.which.find(Some(&args.dir.data_dir))?;
            // Refused before anything is copied.
            describe_snapshot(&from)?;
            let snapshot = restore(&args.dir.data_dir, &from, args.replace)?;
            console.result(&describe(&snapshot))?;
        }
        Command::Delete(args) => {
            args.dir.open()?.delete_snapshot(&args.name)?;
            let name = ("name", json!(args.name));
            console.result(&Fields::new([name, ("deleted", json!(true))]))?;
        }
    }
    Ok(Exit::Done)
}

fn list(dir: &Path, console: &Console) -> Result<(), Failure> {
    let mut stream = console.stream();
    let header = ["name", "created", "records", "files", "bytes"];
    let mut table = Table::new(header);
    for snapshot in list_snapshots(dir)? {
        let described = describe(&snapshot);
        match console.is_table() {
            true => table.push(described.cells(header)),
            false => stream.json(&described)?,
        }
    }
    if console.is_table() {
        table.write(stream.text())?;
    }
    stream.finish()
}

/// A snapshot as a result.
fn describe(snapshot: &Snapshot) -> Fields {
    let collections: serde_json::Map<String, serde_json::Value> =
        snapshot.collections.iter().map(|(name, records)| (name.clone(), json!(records))).collect();
    Fields::new([
        ("name", json!(snapshot.name)),
        ("created", json!(snapshot.created)),
        ("dir", json!(snapshot.dir.display().to_string())),
        ("records", json!(snapshot.records)),
        ("files", json!(snapshot.files)),
        ("bytes", json!(snapshot.bytes)),
        ("collections", json!(collections)),
    ])
}
