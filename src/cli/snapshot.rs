//! `nearbit snapshot`: makes, lists, verifies, packs, restores and deletes snapshots.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nearbit::database::{
    Snapshot, describe_snapshot, find_snapshot, list_snapshots, pack_snapshot, restore,
    unpack_snapshot, verify_snapshot,
};
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::output::Fields;
use super::place::DataDir;

/// Make, list, verify, pack, restore and delete snapshots of a database
#[derive(Subcommand)]
pub enum Command {
    Create(Named),
    List(List),
    Verify(Verify),
    Pack(Pack),
    Unpack(Unpack),
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

/// Put a snapshot into one file, a tar archive compressed with zstd
#[derive(Args)]
#[command(after_help = "\
Examples:
  nearbit snapshot pack monday --data-dir db --out monday.tar.zst
  nearbit snapshot pack --from /backup/monday --out monday.tar.zst")]
pub struct Pack {
    #[command(flatten)]
    which: Which,
    /// The data directory
    #[arg(long, value_name = "DIR", required_unless_present = "from")]
    data_dir: Option<PathBuf>,
    /// The archive, which does not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Make a snapshot of an archive again, to restore from
///
/// The archive may come from anywhere: what it does not name, names twice, or tells another length or
/// checksum of is refused, and so is what is no plain file; nothing is left then.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nearbit snapshot unpack monday.tar.zst --out monday
  nearbit snapshot restore --from monday --data-dir new-db")]
pub struct Unpack {
    /// The archive
    archive: PathBuf,
    /// The directory of the snapshot, which does not exist yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
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
            (_, Some(from), _) if from.is_file() => Err(Failure::usage(format!(
                "expected the directory of a snapshot, got the file {}: `nearbit snapshot unpack` \
                 makes one of an archive",
                from.display()
            ))),
            (_, Some(from), _) => Ok(from.clone()),
            (Some(name), None, Some(dir)) => Ok(find_snapshot(dir, name)?),
            _ => Err(Failure::usage("expected the name of a snapshot and --data-dir, or --from")),
        }
    }
}

pub fn run(command: Command, console: &Console) -> Result<Exit, Failure> {
    match command {
        Command::Create(args) => {
            let snapshot = args.dir.open_on_disk()?.create_snapshot(&args.name)?;
            console.result(&describe(&snapshot))?;
            let dir = snapshot.dir.display();
            console.next(format!("nearbit snapshot verify --from {dir}"));
        }
        Command::List(args) => {
            args.dir.check_exists()?;
            list(&args.dir.data_dir, console)?;
        }
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
        Command::Pack(args) => {
            let from = args.which.find(args.data_dir.as_deref())?;
            let bytes = pack_snapshot(&from, &args.out)?;
            let out = args.out.display().to_string();
            console.next(format!("nearbit snapshot unpack {out} --out DIR"));
            let snapshot = json!(from.display().to_string());
            console.result(&Fields::new([
                ("snapshot", snapshot),
                ("archive", json!(out)),
                ("bytes", json!(bytes)),
            ]))?;
        }
        Command::Unpack(args) => {
            console.result(&describe(&unpack_snapshot(&args.archive, &args.out)?))?;
            let from = args.out.display();
            console.next(format!("nearbit snapshot restore --from {from} --data-dir DIR"));
        }
        Command::Restore(args) => {
            let from = args.which.find(Some(&args.dir.data_dir))?;
            // Refused before anything is copied.
            describe_snapshot(&from)?;
            let snapshot = restore(&args.dir.data_dir, &from, args.replace)?;
            console.result(&describe(&snapshot))?;
        }
        Command::Delete(args) => {
            args.dir.open_on_disk()?.delete_snapshot(&args.name)?;
            let name = ("name", json!(args.name));
            console.result(&Fields::new([name, ("deleted", json!(true))]))?;
        }
    }
    Ok(Exit::Done)
}

fn list(dir: &Path, console: &Console) -> Result<(), Failure> {
    let header = ["name", "created", "records", "files", "bytes"];
    console.results(header, list_snapshots(dir)?.iter().map(describe))
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
