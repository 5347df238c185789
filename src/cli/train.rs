//! `nearbit train`: learns a model from a file.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::ValueEnum;
use nearbit::formats::{Dataset, Origin, ReadOptions, SourceKind, load, load_spread, open};
use nearbit::model::{self, Memory, Model, Stage, TrainOptions};
use nearbit::{Error, InputKind, Width};
use serde_json::json;
use signal_hook::consts::SIGINT;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::input::Reading;
use super::network::Network;
use super::output::Fields;
use super::place::{check_apart, check_writable};
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
  nearbit train articles.jsonl.gz --bits 128 --nested 16,32,64 --model nested.safetensors
  nearbit train a-billion.npy --bits 128 --memory 8GiB --model m.safetensors

INPUT is read two or three times, some rows at a time; what is kept in memory are its features: 4 bytes
a number of a vector or pixel, 8 a word of a text. --memory limits them. Rows that need more are read, in
each epoch, from a scratch file beside the model, which has no name and goes with the process: in blocks in
random order, of which half of the memory holds a window whose rows are in random order too. Neighbours,
and what a training starts from, are then those of a sample of at most 20,000 rows; as many are held out
at most. The model depends on the limit where it is exceeded.")]
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
    /// Memory for the rows, as in 4GiB or 500MB: more of them are streamed from a scratch file beside
    /// the model [default: as much as they need]
    #[arg(long, value_name = "SIZE", value_parser = super::size::bytes)]
    memory: Option<u64>,
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
    fn options(&self, preset: model::Preset, kind: InputKind) -> Result<TrainOptions, Failure> {
        let mut options = TrainOptions {
            bits: self.bits,
            nested: self.nested.clone(),
            seed: self.seed,
            checkpoint: self.checkpoint.clone(),
            memory: self.memory.map(|bytes| Memory { bytes, scratch: Some(self.folder()) }),
            ..TrainOptions::preset(preset)
        };
        self.network.change(&mut options, kind)?;
        Ok(options)
    }

    /// The folder of the model.
    fn folder(&self) -> PathBuf {
        match self.model.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
            _ => ".".into(),
        }
    }
}

/// What to learn from.
enum Rows {
    /// A file or a folder: it is read again for each look at its rows.
    Again(Origin, ReadOptions),
    /// What can be read once, and is in memory.
    Once(Dataset),
}

impl Rows {
    fn new(origin: Origin, options: ReadOptions, args: &Args) -> Result<Self, Failure> {
        let is_pipe = match &origin {
            Origin::Path(path) => path.exists() && !path.is_file() && !path.is_dir(),
            _ => true,
        };
        if !is_pipe {
            return Ok(Self::Again(origin, options));
        }
        if args.memory.is_some() {
            let message = "rows that may be streamed are read more than once, and this input can be \
                           read once only; write it to a file, or leave --memory out";
            return Err(Error::invalid(args.input.display().to_string(), message).into());
        }
        Ok(Self::Once(load(&origin, &options)?))
    }

    /// The kind of all rows, and how many there are, where that is known.
    fn kind(&self) -> Result<(InputKind, Option<u64>), Failure> {
        match self {
            Self::Once(data) => Ok((data.inputs.kind(), Some(data.ids.len() as u64))),
            Self::Again(origin, options) => {
                let mut rows = open(origin, options)?;
                match rows.next_rows(1)? {
                    Some(first) => Ok((first.inputs.kind(), rows.total_rows())),
                    None => Err(Error::invalid(rows.name(), "the file holds no rows").into()),
                }
            }
        }
    }

    fn train(
        &self,
        options: &TrainOptions,
        progress: &mut dyn FnMut(&model::Progress) -> ControlFlow<()>,
    ) -> Result<Model, Error> {
        match self {
            Self::Once(data) => model::train(&data.inputs, options, progress),
            Self::Again(origin, how) => {
                model::train_from(&|| Ok(open(origin, how)?.into_inputs()), options, progress)
            }
        }
    }

    /// The page about `model`.
    fn page(&self, model: &Model) -> Result<String, Error> {
        let report = &model.info().report;
        let rows = report.rows + report.validation_rows;
        let spread;
        let data = match self {
            Self::Once(data) => data,
            Self::Again(origin, how) => {
                spread = load_spread(origin, how, rows, super::page::POINTS)?;
                &spread
            }
        };
        super::page::page(model, &data.inputs, &data.ids)
    }
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let source = match args.preset {
        Some(Preset::Text) => Some(SourceKind::Text),
        Some(Preset::Vector) => Some(SourceKind::Vector),
        Some(Preset::Image) | None => None,
    };
    let written = [&args.model].into_iter().chain(&args.checkpoint).chain(&args.report);
    check_apart(written, [&args.input])?;
    check_writable(&args.model)?;
    args.report.iter().try_for_each(|report| check_writable(report))?;
    let start = Instant::now();
    let rows = Rows::new(Origin::from(args.input.as_path()), args.reading.options(source), &args)?;
    let (kind, count) = rows.kind()?;
    let preset = match (args.preset, kind) {
        (Some(preset), _) => preset.into(),
        (None, InputKind::Text) => model::Preset::Text,
        (None, InputKind::Vector { .. }) => model::Preset::Vector,
        (None, InputKind::Image { .. }) => model::Preset::Image,
    };
    let count = count.map_or_else(String::new, |count| format!("{count} "));
    console.note(format!("learning {} from {count}rows of {kind}", args.bits));
    let options = args.options(preset, kind)?;
    let mut stop = None;
    let bar = Training::new(console);
    let mut is_streamed = false;
    let trained = rows.train(&options, &mut |progress| {
        bar.show(progress);
        if progress.scratch_bytes > 0 && !is_streamed {
            is_streamed = true;
            let (bytes, folder) = (indicatif::DecimalBytes(progress.scratch_bytes), args.folder());
            let folder = folder.display();
            bar.note(console, &format!("rows are streamed: {bytes} in a scratch file in {folder}"));
        }
        if progress.stage != Stage::Network {
            return ControlFlow::Continue(());
        }
        match stop.get_or_insert_with(stop_on_interrupt) {
            Ok(stop) if !stop.load(Ordering::Relaxed) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    });
    drop(bar);
    if let Some(Err(failure)) = stop {
        return Err(failure);
    }
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
        let page = rows.page(&model)?;
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
        ("members", json!(info.options.members())),
        ("rows", json!(info.report.rows)),
        ("validation_rows", json!(info.report.validation_rows)),
        ("sample_rows", json!(info.report.sample_rows)),
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

/// Whether Ctrl-C was pressed from now on. Pressed again, it ends the program at once, as it does before
/// the first epoch, when nothing is there to be kept.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    // The exit code that shells give to a program that was interrupted.
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&stop))
        .and_then(|_| signal_hook::flag::register(SIGINT, Arc::clone(&stop)))
        .map_err(Error::io("listen for", "Ctrl-C"))?;
    Ok(stop)
}
