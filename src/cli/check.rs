//! `nearbit check`: verifies a database, and repairs it.

use nearbit::database::{Repaired, Report, check, repair};
use nearbit::store::Finding;
use serde_json::json;

use super::console::{Console, Stream};
use super::exit::{Exit, Failure};
use super::output::Fields;
use super::place::DataDir;

/// Verify every checksum, and that the hash table holds what the segments hold
///
/// Nothing is changed without --repair. No other process may have the directory open; a server checks
/// its own when it is asked over gRPC. Exits with 8 where something is damaged, and after a repair
/// where something is lost.
///
/// A repair keeps what is intact, and says what is lost, by id where the id can be read. A damaged
/// collection is written anew beside the old one; then the new one takes its place, and the damaged
/// files are kept in the directory lost+found. A deletion or replacement that is lost may bring an
/// older form of a record back.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit check --data-dir db
  nearbit check --data-dir db --repair")]
pub struct Args {
    #[command(flatten)]
    dir: DataDir,
    /// Repair what is damaged
    #[arg(long)]
    repair: bool,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    args.dir.check_exists()?;
    let dir = &args.dir.data_dir;
    let repaired = match args.repair {
        true => repair(dir)?,
        false => Repaired { report: check(dir)?, ..Repaired::default() },
    };
    let Repaired { report, done, lost, kept_in } = &repaired;
    let mut stream = console.stream();
    let mut tell =
        |what: &'static str, finding: &Finding| tell(console, &mut stream, what, finding);
    report.findings.iter().try_for_each(|finding| tell("damage", finding))?;
    report.notes.iter().try_for_each(|finding| tell("note", finding))?;
    lost.iter().try_for_each(|finding| tell("lost", finding))?;
    for deed in done {
        say(console, &mut stream, &format!("done: {deed}"), || {
            Fields::new([("what", json!("done")), ("message", json!(deed))])
        })?;
    }
    let kept = kept_in.as_ref().map(|dir| dir.display().to_string());
    let summary = summary(report, lost.len(), kept.as_deref());
    say(console, &mut stream, &words(report, kept.as_deref()), || summary)?;
    stream.finish()?;
    if !args.repair && !report.findings.is_empty() {
        console.next(format!("nearbit check --data-dir {} --repair", dir.display()));
    }
    let bad = if args.repair { !lost.is_empty() } else { !report.findings.is_empty() };
    Ok(if bad { Exit::Damaged } else { Exit::Done })
}

fn say(
    console: &Console,
    stream: &mut Stream,
    words: &str,
    fields: impl FnOnce() -> Fields,
) -> Result<(), Failure> {
    use std::io::Write;
    match console.is_table() {
        true => Ok(writeln!(stream.text(), "{words}")?),
        false => stream.json(&fields()),
    }
}

fn tell(
    console: &Console,
    stream: &mut Stream,
    what: &'static str,
    finding: &Finding,
) -> Result<(), Failure> {
    say(console, stream, &format!("{what}: {finding}"), || {
        Fields::new([
            ("what", json!(what)),
            ("file", json!(finding.file.display().to_string())),
            ("offset", json!(finding.offset)),
            ("first_number", json!((!finding.numbers.is_empty()).then_some(finding.numbers.start))),
            ("numbers", json!(finding.numbers.end.saturating_sub(finding.numbers.start))),
            ("id", json!(finding.id)),
            ("message", json!(finding.message)),
        ])
    })
}

fn words(report: &Report, kept: Option<&str>) -> String {
    let kept = kept.map_or(String::new(), |dir| format!("; the damaged files are in {dir}"));
    format!(
        "{} collections with {} records in {} bytes, {} models, {} table entries: {} damaged{kept}",
        report.collections,
        report.records,
        report.bytes,
        report.models,
        report.table_entries,
        report.findings.len()
    )
}

fn summary(report: &Report, lost: usize, kept: Option<&str>) -> Fields {
    Fields::new([
        ("what", json!("summary")),
        ("collections", json!(report.collections)),
        ("models", json!(report.models)),
        ("records", json!(report.records)),
        ("bytes", json!(report.bytes)),
        ("table_entries", json!(report.table_entries)),
        ("damaged", json!(report.findings.len())),
        ("lost", json!(lost)),
        ("kept_in", json!(kept)),
    ])
}
