//! `nearbit train`: learns a model from a file.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use nearbit::formats::{Origin, SourceKind, load};
use nearbit::model::{self, Activation, Binarize, Loss, Schedule, TrainOptions};
use nearbit::{Inputs, Width};
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::input::Reading;
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
  nearbit train train-images-idx3-ubyte.gz --bits 64 --seed 7 --model digits.safetensors")]
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
    /// What every random choice follows from
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Write a checkpoint after every epoch, and go on from it if it is there
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    reading: Reading,
}

/// Choices that the preset makes well.
#[derive(clap::Args)]
#[command(next_help_heading = "Network (the preset chooses what is not given)")]
struct Network {
    /// Passes over the rows
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Rows a step
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Adam's step size at its highest
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    /// How the step size goes down
    #[arg(long, value_name = "constant|linear|cosine")]
    schedule: Option<Schedule>,
    /// Sizes of the encoder's hidden layers, as in 512,256; "none" for a linear encoder
    #[arg(long, value_name = "SIZES", value_parser = sizes)]
    hidden: Option<Sizes>,
    /// Sizes of the decoder's hidden layers [default: the encoder's, mirrored]
    #[arg(long, value_name = "SIZES", value_parser = sizes)]
    decoder: Option<Sizes>,
    /// What hidden layers apply
    #[arg(long, value_name = "linear|relu|tanh|sigmoid|gelu")]
    activation: Option<Activation>,
    /// How a reconstruction is judged
    #[arg(long, value_name = "squared|bernoulli|multinomial")]
    loss: Option<Loss>,
    /// How the code layer is made binary: by noise that grows to this size, by rounding, by sampling
    #[arg(long, value_name = "noise[:SIZE]|round|sample", value_parser = binarize)]
    binarize: Option<Binarize>,
    /// Share of the rows that are held out to judge the training by
    #[arg(long, value_name = "SHARE")]
    validation: Option<f64>,
    /// Stop after so many epochs without a better validation loss
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// Weight of giving back the row's own features
    #[arg(long, value_name = "X")]
    reconstruction: Option<f64>,
    /// Neighbours of a row in the graph of the training rows; 0 trains a plain autoencoder
    #[arg(long, value_name = "N")]
    neighbours: Option<usize>,
    /// Steps of the random walk that leads from a row to the one it is paired with
    #[arg(long, value_name = "N")]
    walk: Option<usize>,
    /// Weight of bringing the codes of a pair together
    #[arg(long, value_name = "X")]
    contrast: Option<f64>,
    /// Smaller looks harder at the nearest wrong pairs
    #[arg(long, value_name = "X")]
    temperature: Option<f64>,
    /// The most words of a text model
    #[arg(long, value_name = "WORDS")]
    vocabulary: Option<usize>,
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

/// Sizes of layers; a type of its own, as clap takes a plain `Vec` for a repeated flag.
#[derive(Clone)]
struct Sizes(Vec<usize>);

fn sizes(text: &str) -> Result<Sizes, String> {
    if text == "none" {
        return Ok(Sizes(Vec::new()));
    }
    let size = |size: &str| size.trim().parse().map_err(|_| format!("{size:?} is no size"));
    text.split(',').map(size).collect::<Result<_, _>>().map(Sizes)
}

fn binarize(text: &str) -> Result<Binarize, String> {
    match text.split_once(':') {
        None if text == "round" => Ok(Binarize::Round),
        None if text == "sample" => Ok(Binarize::Sample),
        None if text == "noise" => Ok(Binarize::Noise { start: 0.0, end: 4.0 }),
        Some(("noise", end)) => {
            let end = end.parse().map_err(|_| format!("{end:?} is no number"))?;
            Ok(Binarize::Noise { start: 0.0, end })
        }
        _ => Err("expected noise, noise:SIZE, round or sample".to_owned()),
    }
}

impl Args {
    fn options(&self, preset: model::Preset) -> TrainOptions {
        let mut options = TrainOptions {
            bits: self.bits,
            seed: self.seed,
            checkpoint: self.checkpoint.clone(),
            ..TrainOptions::preset(preset)
        };
        let given = &self.network;
        options.epochs = given.epochs.or(options.epochs);
        set(&mut options.batch, given.batch);
        set(&mut options.learning_rate, given.learning_rate);
        set(&mut options.schedule, given.schedule);
        if let Some(Sizes(hidden)) = &given.hidden {
            // Principal components start an encoder without hidden layers only.
            options.start_from_itq &= hidden.is_empty();
            options.hidden.clone_from(hidden);
        }
        if let Some(Sizes(decoder)) = &given.decoder {
            options.decoder = Some(decoder.clone());
        }
        set(&mut options.activation, given.activation);
        set(&mut options.loss, given.loss);
        set(&mut options.binarize, given.binarize);
        set(&mut options.validation, given.validation);
        options.patience = given.patience.or(options.patience);
        if given.neighbours == Some(0) {
            // Then the reconstruction is all there is to learn from.
            options.neighbours = None;
            options.reconstruction = 1.0;
        }
        if let Some(neighbours) = &mut options.neighbours {
            set(&mut neighbours.count, given.neighbours);
            neighbours.walk = given.walk.or(neighbours.walk);
            set(&mut neighbours.contrast, given.contrast);
            set(&mut neighbours.temperature, given.temperature);
        }
        set(&mut options.reconstruction, given.reconstruction);
        set(&mut options.features.text.vocabulary, given.vocabulary);
        options
    }
}

fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *option = given;
    }
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let source = match args.preset {
        Some(Preset::Text) => Some(SourceKind::Text),
        Some(Preset::Vector) => Some(SourceKind::Vector),
        Some(Preset::Image) | None => None,
    };
    super::place::check_writable(&args.model)?;
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
    let bar = Training::new(console);
    let model = model::train(&data.inputs, &options, &mut |progress| {
        bar.show(progress);
        ControlFlow::Continue(())
    })?;
    drop(bar);
    model.save(&args.model)?;
    let info = model.info();
    let last = info.report.epochs.get(info.report.best_epoch.saturating_sub(1));
    console.result(&Fields::new([
        ("model", json!(args.model.display().to_string())),
        ("digest", json!(info.digest.to_string())),
        ("input", json!(info.input)),
        ("bits", json!(info.bits)),
        ("rows", json!(info.report.rows)),
        ("validation_rows", json!(info.report.validation_rows)),
        ("epochs", json!(info.report.epochs.len())),
        ("best_epoch", json!(info.report.best_epoch)),
        ("loss", json!(last.map(|epoch| epoch.loss))),
        ("validation_loss", json!(last.and_then(|epoch| epoch.validation_loss))),
        ("balance", json!(last.map(|epoch| epoch.balance))),
        ("seconds", json!(start.elapsed().as_secs_f64())),
    ]))?;
    let name = args.model.display();
    console.next(format!("nearbit collection create NAME --data-dir DIR --model {name}"));
    Ok(Exit::Done)
}
