//! `nearbit inspect`: prints the files of a database as text.

use std::path::PathBuf;

use nearbit::database::inspect;
use nearbit::store::Item;
use serde_json::json;

use super::console::{Console, Stream};
use super::exit::{Exit, Failure};
use super::output::{Fields, Table};
use super::place::DataDir;

/// Print a data directory, a collection's directory, a segment, MANIFEST, FORMAT or model as text
///
/// Every header, group and record, with the byte that it begins at; what is damaged is shown, and
/// what is intact behind it too. Nothing is changed and nothing locked: beside a server that writes
/// to the directory, its last group may look like a torn tail, and files may come and go. Exits
/// with 8 where something is damaged.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit inspect db
  nearbit inspect db/collections/news --no-records
  nearbit inspect db/collections/news/segments/00000001.seg --output jsonl")]
pub struct Args {
    /// What to print
    path: PathBuf,
    /// Leave out intact records
    #[arg(long)]
    no_records: bool,
}

const HEADER: [&str; 6] = ["offset", "what", "bytes", "number", "id", "detail"];

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    // An empty directory of a collection is a damaged one.
    let of_collection = args.path.parent().is_some_and(|dir| dir.ends_with("collections"));
    if args.path.is_dir() && !of_collection {
        DataDir { data_dir: args.path.clone() }.check_exists()?;
    }
    let mut stream = console.stream();
    let (mut exit, mut failed) = (Exit::Done, Ok(()));
    let mut table = Table::new(HEADER);
    let mut file = PathBuf::new();
    inspect(&args.path, &mut |item| {
        if item.is_damage() {
            exit = Exit::Damaged;
        }
        if failed.is_err() || (args.no_records && matches!(item.what, "put" | "delete")) {
            return;
        }
        if !console.is_table() {
            failed = stream.json(&fields(&item));
            return;
        }
        if file != item.file {
            let done = std::mem::replace(&mut table, Table::new(HEADER));
            failed = write(&file, &done, &mut stream);
            file.clone_from(&item.file);
        }
        table.push(fields(&item).cells(HEADER));
    })?;
    failed?;
    if console.is_table() {
        write(&file, &table, &mut stream)?;
    }
    stream.finish()?;
    Ok(exit)
}

/// The table of one file, below its name.
fn write(file: &std::path::Path, table: &Table, stream: &mut Stream) -> Result<(), Failure> {
    use std::io::Write;
    if file.as_os_str().is_empty() {
        return Ok(());
    }
    writeln!(stream.text(), "{}", file.display())?;
    table.write(stream.text())?;
    Ok(writeln!(stream.text())?)
}

fn fields(item: &Item) -> Fields {
    Fields::new([
        ("file", json!(item.file.display().to_string())),
        ("offset", json!(item.offset)),
        ("what", json!(item.what)),
        ("bytes", json!(item.bytes)),
        ("number", json!(item.number)),
        ("id", json!(item.id)),
        ("detail", json!(item.detail)),
    ])
}
