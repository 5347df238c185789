//! `nearbit train`: learns a model from a file.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::ValueEnum;
use nearbit::formats::{Origin, SourceKind, load};
use nearbit::model::{self, TrainOptions};
use nearbit::{Error, Inputs, Width};
use serde_json::json;
use signal_hook::consts::SIGINT;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::input::Reading;
use super::network::Network;
use super::output::Fields;
use super::progress::Training;

/// Learn a model from texts, vectors or images
///
/// Labels are never read. The same seed and number of threads give the same file, byte for byte.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit train articles.jsonl.gz --model articles.safetensors
  nearbit train embeddings.npy --preset vector --bits 128 --model m.safetensors
  nearbit train train-images-idx3-ubyte.gz --bits 64 --seed 7 --model digits.safetensors
  nearbit train articles.jsonl.gz --bits 128 --nested 16,32,64 --model nested.safetensors")]
pub struct Args {
    /// What to learn from: JSONL, CSV, .npy, .fvecs, IDX, a folder of texts; - for standard input
    input: PathBuf,
    /// The model file to write
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Options that are good for one kind of rows [default: by the kind of INPUT]
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Bits of a code
    #[arg(long, default_value = "64", value_parser = super::place::width)]
    bits: Width,
    /// Widths whose codes are to be the first bits of the code; --bits of other commands takes them
    #[arg(long, value_name = "BITS,...", value_delimiter = ',')]
    nested: Vec<usize>,
    /// What every random choice follows from
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Write a checkpoint after every epoch, and go on from it if it is there; Ctrl-C keeps the last
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Write a report to look at: curves, bits, reconstructions, a map of the codes, in one page
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// Running texts
    Text,
    /// Dense vectors from another model
    Vector,
    /// Grey pictures
    Image,
}

impl From<Preset> for model::Preset {
    fn from(preset: Preset) -> Self {
        match preset {
            Preset::Text => Self::Text,
            Preset::Vector => Self::Vector,
            Preset::Image => Self::Image,
        }
    }
}

impl Args {
    fn options(&self, preset: model::Preset) -> TrainOptions {
        let mut options = TrainOptions {
            bits: self.bits,
            nested: self.nested.clone(),
            seed: self.seed,
            checkpoint: self.checkpoint.clone(),
            ..TrainOptions::preset(preset)
        };
        self.network.change(&mut options);
        options
    }
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let source = match args.preset {
        Some(Preset::Text) => Some(SourceKind::Text),
        Some(Preset::Vector) => Some(SourceKind::Vector),
        Some(Preset::Image) | None => None,
    };
    super::place::check_writable(&args.model)?;
    if let Some(report) = &args.report {
        super::place::check_writable(report)?;
    }
    let start = Instant::now();
    let data = load(&Origin::from(args.input.as_path()), &args.reading.options(source))?;
    let preset = match (args.preset, &data.inputs) {
        (Some(preset), _) => preset.into(),
        (None, Inputs::Texts(_)) => model::Preset::Text,
        (None, Inputs::Vectors(_)) => model::Preset::Vector,
        (None, Inputs::Images(_)) => model::Preset::Image,
    };
    console.note(format!(
        "learning {} from {} rows of {}",
        args.bits,
        data.ids.len(),
        data.inputs.kind()
    ));
    let options = args.options(preset);
    let stop = stop_on_interrupt()?;
    let bar = Training::new(console);
    let trained = model::train(&data.inputs, &options, &mut |progress| {
        bar.show(progress);
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    drop(bar);
    if let (Err(Error::Interrupted), Some(checkpoint)) = (&trained, &args.checkpoint)
        && checkpoint.exists()
    {
        console.note(format!(
            "{} holds the epochs that were finished; the same command goes on from there",
            checkpoint.display()
        ));
    }
    let model = trained?;
    model.save(&args.model)?;
    if let Some(path) = &args.report {
        let ids: Vec<String> = data.ids.iter().map(ToString::to_string).collect();
        let page = super::page::page(&model, &data.inputs, &ids)?;
        std::fs::write(path, page).map_err(Error::io("write", path))?;
    }
    let info = model.info();
    // The weights of the start belong to no epoch.
    let taken = info.report.best_epoch.checked_sub(1);
    let last = taken.and_then(|epoch| info.report.epochs.get(epoch));
    console.result(&Fields::new([
        ("model", json!(args.model.display().to_string())),
        ("digest", json!(info.digest.to_string())),
        ("input", json!(info.input)),
        ("bits", json!(info.bits)),
        ("nested", json!(info.options.nested)),
        ("rows", json!(info.report.rows)),
        ("validation_rows", json!(info.report.validation_rows)),
        ("epochs", json!(info.report.epochs.len())),
        ("best_epoch", json!(info.report.best_epoch)),
        ("loss", json!(last.map(|epoch| epoch.loss))),
        ("validation_loss", json!(last.and_then(|epoch| epoch.validation_loss))),
        ("recall", json!(last.map_or(info.report.start_recall, |epoch| epoch.recall))),
        ("start_recall", json!(info.report.start_recall)),
        ("balance", json!(last.map(|epoch| epoch.balance))),
        ("seconds", json!(start.elapsed().as_secs_f64())),
    ]))?;
    let name = args.model.display();
    console.next(format!("nearbit collection create NAME --data-dir DIR --model {name}"));
    Ok(Exit::Done)
}

/// Whether Ctrl-C was pressed. Pressed again, it ends the program at once.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    // The exit code that shells give to a program that was interrupted.
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&stop))
        .and_then(|_| signal_hook::flag::register(SIGINT, Arc::clone(&stop)))
        .map_err(Error::io("listen for", "Ctrl-C"))?;
    Ok(stop)
}
