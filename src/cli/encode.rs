//! `nearbit encode`: turns a file into a matrix of codes; no database is needed.

use std::path::PathBuf;
use std::time::Instant;

use nearbit::Error;
use nearbit::formats::{NpyWriter, Origin, open};
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::input::Reading;
use super::output::Fields;
use super::place::{ModelFile, check_apart, source_kind};
use super::progress;

/// Rows that are encoded together.
const BATCH: usize = 4096;

/// Write the code of each row to a .npy file
///
/// The file is a u8 array of shape (rows, ceil(bits / 8)); bit i is bit 7 - i % 8 of byte i / 8, as
/// in numpy.packbits.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit encode articles.jsonl.gz --model articles.safetensors --out codes.npy
  nearbit encode queries.npy --model m.safetensors --out q.npy --activations values.npy
  nearbit encode queries.npy --model nested.safetensors --bits 32 --out q32.npy")]
pub struct Args {
    /// What to encode; - for standard input
    input: PathBuf,
    #[command(flatten)]
    model: ModelFile,
    /// Where to write the codes
    #[arg(long, value_name = "FILE.npy")]
    out: PathBuf,
    /// Where to write the code layer's real values too: f32, (rows, bits), 0 to 1
    #[arg(long, value_name = "FILE.npy")]
    activations: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let start = Instant::now();
    let written = [&args.out].into_iter().chain(&args.activations);
    check_apart(written, [&args.input, &args.model.file])?;
    let model = args.model.load()?;
    let options = args.reading.options(source_kind(model.input()));
    let mut rows = open(&Origin::from(args.input.as_path()), &options)?;
    let mut bar = progress::Reading::new(console, "encoding", &rows);
    let width = model.width();
    let mut codes = NpyWriter::<u8>::create(&args.out, width.bytes())?;
    let mut activations = match &args.activations {
        Some(path) => Some(NpyWriter::<f32>::create(path, width.bits())?),
        None => None,
    };
    while let Some(batch) = rows.next_rows(BATCH)? {
        let place = |error: Error| error.within(&format!("{}: ", rows.name()));
        codes.write(&model.encode(&batch.inputs).map_err(place)?.to_bytes())?;
        if let Some(activations) = &mut activations {
            activations.write(model.activations(&batch.inputs).map_err(place)?.values())?;
        }
        bar.advance(batch.ids.len() as u64);
    }
    drop(bar);
    let count = codes.finish()?;
    if let Some(activations) = activations {
        activations.finish()?;
    }
    console.result(&Fields::new([
        ("out", json!(args.out.display().to_string())),
        ("rows", json!(count)),
        ("bits", json!(width.bits())),
        ("seconds", json!(start.elapsed().as_secs_f64())),
    ]))?;
    console.next(format!(
        "nearbit collection create NAME --data-dir DIR --codes --bits {}, then nearbit index {}",
        width.bits(),
        args.out.display()
    ));
    Ok(Exit::Done)
}
