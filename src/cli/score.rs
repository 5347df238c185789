//! `nearbit score`: how unlike the training rows each row of a file is.

use std::path::PathBuf;

use nearbit::Error;
use nearbit::formats::{Origin, open};
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::input::Reading;
use super::output::{Fields, Table};
use super::place::{ModelFile, source_kind};
use super::progress;

/// Rows that are scored together.
const BATCH: usize = 4096;

/// Tell how badly a model gives back each row from its code: high for rows that are unlike those it
/// learned from
///
/// JSON has every row in order; a table has those that score highest.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit score requests.jsonl --model m.safetensors --top 20 --output table
  nearbit score new.npy --model m.safetensors --output jsonl > scores.jsonl")]
pub struct Args {
    /// What to score; - for standard input
    input: PathBuf,
    #[command(flatten)]
    model: ModelFile,
    /// Only the N rows that score highest, the highest first [default: 20 in a table, else all]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    #[command(flatten)]
    reading: Reading,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let model = args.model.load()?;
    let options = args.reading.options(source_kind(model.input()));
    let mut rows = open(&Origin::from(args.input.as_path()), &options)?;
    let mut bar = progress::Reading::new(console, "scoring", &rows);
    let top = args.top.or(console.is_table().then_some(20));
    let mut stream = console.stream();
    let mut highest: Vec<(String, f64)> = Vec::new();
    let (mut count, mut sum) = (0u64, 0.0);
    while let Some(batch) = rows.next_rows(BATCH)? {
        let place = |error: Error| error.within(&format!("{}: ", rows.name()));
        let scores = model.score(&batch.inputs).map_err(place)?;
        let done = scores.len() as u64;
        count += done;
        sum += scores.iter().sum::<f64>();
        let scored = batch.ids.into_iter().map(|id| id.to_string()).zip(scores);
        match top {
            Some(top) => {
                highest.extend(scored);
                // A stable sort: of equal scores the earlier row is the first.
                highest.sort_by(|(_, a), (_, b)| b.total_cmp(a));
                highest.truncate(top);
            }
            None => {
                for (id, score) in scored {
                    stream.json(&Fields::new([("id", json!(id)), ("score", json!(score))]))?;
                }
            }
        }
        bar.advance(done);
    }
    drop(bar);
    if console.is_table() {
        let mut table = Table::new(["id", "score"]);
        highest.into_iter().for_each(|(id, score)| table.push([id, format!("{score:.4}")]));
        table.write(stream.text())?;
    } else {
        for (id, score) in highest {
            stream.json(&Fields::new([("id", json!(id)), ("score", json!(score))]))?;
        }
    }
    stream.finish()?;
    console.note(format!("{count} rows, mean score {:.4}", sum / count.max(1) as f64));
    Ok(Exit::Done)
}
