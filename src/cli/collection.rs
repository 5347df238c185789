//! `nearbit collection`: makes, lists, shows and deletes collections.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use nearbit::filter::Field;
use nearbit::model::Model;
use nearbit::{
    CollectionInfo, CollectionSettings, Database, Durability, EncoderSpec, Error, IndexPlace,
    InputKind, KeepVectors, Metric, Width,
};
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::output::Fields;
use super::place::{DataDir, ModelFile, durability, find, width};

/// Make, list, show and delete collections
#[derive(Subcommand)]
pub enum Command {
    Create(Create),
    List(List),
    Show(Show),
    IndexField(IndexField),
    Durability(SetDurability),
    Delete(Delete),
}

/// Make a collection, which belongs to one encoder for life
#[derive(Args)]
#[command(after_help = "\
Examples:
  nearbit collection create news --data-dir db --model news.safetensors
  nearbit collection create small --data-dir db --model nested.safetensors --bits 32
  nearbit collection create notes --data-dir db --bits 64                 texts, no training
  nearbit collection create vectors --data-dir db --bits 128 --dim 384    vectors, no training
  nearbit collection create codes --data-dir db --bits 64 --codes         codes made elsewhere")]
pub struct Create {
    /// The new collection: letters, digits, and _ - .
    name: String,
    #[command(flatten)]
    dir: DataDir,
    /// A model file, or the name of a model that the database has; the file is copied into it
    #[arg(long, value_name = "MODEL", required_unless_present = "bits",
          conflicts_with_all = ["dim", "image", "codes", "seed"])]
    model: Option<PathBuf>,
    /// Bits of a code; without a model texts are encoded by random hyperplanes, with one the first bits
    /// of its codes are taken, of a width that it was trained for with --nested
    #[arg(long, value_parser = width)]
    bits: Option<Width>,
    /// Take vectors of so many numbers
    #[arg(long, value_name = "N", requires = "bits", conflicts_with_all = ["image", "codes"])]
    dim: Option<usize>,
    /// Take grey pictures of this size
    #[arg(long, value_name = "HEIGHTxWIDTH", requires = "bits", value_parser = image_size, conflicts_with = "codes")]
    image: Option<InputKind>,
    /// Take codes that were made elsewhere
    #[arg(long, requires = "bits")]
    codes: bool,
    /// What the hyperplanes follow from
    #[arg(
        long,
        default_value_t = 0,
        value_name = "N",
        requires = "bits",
        conflicts_with = "codes"
    )]
    seed: u64,
    /// Do not keep texts beside their codes
    #[arg(long)]
    no_text: bool,
    /// Keep vectors beside their codes
    #[arg(long, value_enum, default_value = "none", value_name = "none|f16|f32")]
    keep_vectors: Keep,
    /// How kept vectors are compared [default: cosine]
    #[arg(long, value_enum, value_name = "cosine|dot|l2")]
    metric: Option<Alike>,
    /// Index this field of payloads, so that filters on it are fast: label, author.name; repeat it
    /// for several
    #[arg(long = "index-field", value_name = "FIELD", value_parser = field)]
    index_fields: Vec<Field>,
    /// When a write is durable: before it is acknowledged, or at most so many milliseconds later
    #[arg(long, default_value = "sync", value_name = "sync|interval:MS", value_parser = durability)]
    durability: Durability,
    /// Search in an index in memory, the fastest; or in the table on disk, which takes little memory
    /// and is open at once: beyond a small ball a search then takes a pass over the table
    #[arg(long, value_enum, default_value = "memory", value_name = "memory|disk")]
    index: Index,
}

/// Change when a write is durable: before it is acknowledged, or a little later
///
/// With interval:MS a write is acknowledged when the operating system has it, and synced at most so
/// many milliseconds later: a killed process loses nothing, a power cut no more than that.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nearbit collection durability news interval:200 --data-dir db
  nearbit collection durability news sync --data-dir db")]
pub struct SetDurability {
    /// The collection
    name: String,
    /// sync, or interval:MS of 1 to 60000 milliseconds
    #[arg(value_name = "sync|interval:MS", value_parser = durability)]
    durability: Durability,
    #[command(flatten)]
    dir: DataDir,
}

/// Index a field of payloads, or drop its index
///
/// Filters find the same without an index; with one they need not read payloads.
#[derive(Args)]
#[command(after_help = "\
Examples:
  nearbit collection index-field news label --data-dir db
  nearbit collection index-field news author.name --data-dir db --drop")]
pub struct IndexField {
    /// The collection
    name: String,
    /// The field, as filters write it: label, author.name
    #[arg(value_parser = field)]
    field: Field,
    #[command(flatten)]
    dir: DataDir,
    /// Drop the index of the field
    #[arg(long)]
    drop: bool,
}

/// List the collections
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    dir: DataDir,
}

/// Show one collection
#[derive(Args)]
pub struct Show {
    /// The collection
    name: String,
    #[command(flatten)]
    dir: DataDir,
}

/// Delete a collection and all its records, for good
#[derive(Args)]
pub struct Delete {
    /// The collection
    name: String,
    #[command(flatten)]
    dir: DataDir,
    /// Delete it even though it holds records
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Keep {
    None,
    F16,
    F32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Alike {
    Cosine,
    Dot,
    L2,
}

#[derive(Clone, Copy, ValueEnum)]
enum Index {
    Memory,
    Disk,
}

impl From<Index> for IndexPlace {
    fn from(index: Index) -> Self {
        match index {
            Index::Memory => Self::Memory,
            Index::Disk => Self::Disk,
        }
    }
}

impl From<Alike> for Metric {
    fn from(alike: Alike) -> Self {
        match alike {
            Alike::Cosine => Self::Cosine,
            Alike::Dot => Self::Dot,
            Alike::L2 => Self::L2,
        }
    }
}

impl From<Keep> for KeepVectors {
    fn from(keep: Keep) -> Self {
        match keep {
            Keep::None => Self::None,
            Keep::F16 => Self::F16,
            Keep::F32 => Self::F32,
        }
    }
}

fn field(text: &str) -> Result<Field, String> {
    text.parse().map_err(|error: Error| error.to_string())
}

fn image_size(text: &str) -> Result<InputKind, String> {
    let size = text.split_once('x').and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)));
    match size {
        Some((height, width)) if height > 0 && width > 0 => Ok(InputKind::Image { height, width }),
        _ => Err("expected HEIGHTxWIDTH, as in 28x28".to_owned()),
    }
}

pub fn run(command: Command, console: &Console) -> Result<Exit, Failure> {
    match command {
        Command::Create(args) => create(args, console),
        Command::List(args) => list(&args, console),
        Command::Show(args) => {
            let database = args.dir.open_on_disk()?;
            console.result(&describe(&find(&database, &args.name)?.info()))?;
            Ok(Exit::Done)
        }
        Command::IndexField(args) => index_field(&args, console),
        Command::Durability(args) => {
            let database = args.dir.open_on_disk()?;
            let collection = find(&database, &args.name)?;
            collection.set_durability(args.durability)?;
            console.result(&describe(&collection.info()))?;
            Ok(Exit::Done)
        }
        Command::Delete(args) => delete(&args, console),
    }
}

impl Create {
    /// An error where a flag says something of what a collection of such inputs (`None`: of codes) does
    /// not have.
    fn check_effect(&self, input: Option<InputKind>) -> Result<(), Failure> {
        let takes = input.map_or("codes".to_owned(), |input| input.to_string());
        let keeps = self.keep_vectors != Keep::None;
        let (texts, vectors) =
            (input == Some(InputKind::Text), matches!(input, Some(InputKind::Vector { .. })));
        let only = format!("the collection takes {takes}");
        let flags = [
            ("--no-text", self.no_text, texts, only.as_str()),
            ("--keep-vectors", keeps, vectors, &only),
            (
                "--metric",
                self.metric.is_some(),
                keeps,
                "no vectors are kept without --keep-vectors",
            ),
        ];
        match flags.into_iter().find(|(_, given, has_effect, _)| *given && !has_effect) {
            Some((flag, .., why)) => {
                Err(Failure::usage(format!("{flag} would have no effect: {why}; leave it out")))
            }
            None => Ok(()),
        }
    }
}

fn create(args: Create, console: &Console) -> Result<Exit, Failure> {
    // The model is read before anything is made.
    let find = |path| ModelSource::find(path, args.bits);
    let model = args.model.as_deref().map(find).transpose()?;
    let vector = args.dim.map(|dim| InputKind::Vector { dim });
    let input = match &model {
        Some(model) => Some(model.input(&args.dir)?),
        None if args.codes => None,
        None => Some(vector.or(args.image).unwrap_or(InputKind::Text)),
    };
    args.check_effect(input)?;
    let database = args.dir.open_or_create_on_disk()?;
    let encoder = match (model, args.bits, input) {
        (Some(model), ..) => EncoderSpec::Model(model.add_to(&database)?),
        (None, Some(width), None) => EncoderSpec::Codes { width },
        (None, Some(width), Some(input)) => {
            EncoderSpec::Hyperplanes { input, width, seed: args.seed }
        }
        (None, None, _) => return Err(Failure::usage("expected --model or --bits")),
    };
    let settings = CollectionSettings {
        keep_text: !args.no_text,
        keep_vectors: args.keep_vectors.into(),
        metric: args.metric.map(Into::into).unwrap_or_default(),
        index_fields: args.index_fields,
        durability: args.durability,
        index: args.index.into(),
        ..CollectionSettings::new(encoder)
    };
    let collection = database.create_collection(&args.name, &settings)?;
    console.result(&describe(&collection.info()))?;
    let (name, dir) = (&args.name, args.dir.data_dir.display());
    console.next(format!("nearbit index FILE --data-dir {dir} --collection {name}"));
    Ok(Exit::Done)
}

/// What `--model` names.
enum ModelSource {
    File { name: String, model: Model },
    InDatabase { name: String, bits: Option<Width> },
}

impl ModelSource {
    fn find(path: &Path, bits: Option<Width>) -> Result<Self, Failure> {
        let text = path.display().to_string();
        // What looks like a file is meant as one, so that a misspelt path is not taken for a name.
        let is_path = path.extension().is_some_and(|e| e == "safetensors") || text.contains('/');
        if !is_path && !path.exists() {
            return Ok(Self::InDatabase { name: text, bits });
        }
        let model = ModelFile { file: path.to_owned(), bits }.load()?;
        let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
        let letter = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let name: String = stem.chars().map(letter).collect();
        Ok(Self::File { name: nested_name(&name, bits), model })
    }

    /// What the model takes.
    fn input(&self, dir: &DataDir) -> Result<InputKind, Failure> {
        match self {
            Self::File { model, .. } => Ok(model.input()),
            Self::InDatabase { name, .. } if dir.check_exists().is_err() => {
                let hint =
                    "it is neither a file nor in a database; nearbit train makes a model file";
                Err(Error::not_found("model", name, hint).into())
            }
            Self::InDatabase { name, .. } => Ok(dir.open_on_disk()?.model(name)?.input()),
        }
    }

    /// The name that the model has in the database.
    fn add_to(self, database: &Database) -> Result<String, Failure> {
        match self {
            Self::File { name, model } => Ok(database.add_model(&name, &model)?),
            Self::InDatabase { name, bits: None } => Ok(name),
            Self::InDatabase { name, bits: Some(bits) } => {
                let named = |error: Error| error.within(&format!("{name}: "));
                let model = database.model(&name)?.truncated(bits).map_err(named)?;
                let plain = name.split('@').next().unwrap_or(&name);
                Ok(database.add_model(&nested_name(plain, Some(bits)), &model)?)
            }
        }
    }
}

/// The name of a model of which so many bits are taken: another model, so another name.
fn nested_name(name: &str, bits: Option<Width>) -> String {
    bits.map_or(name.to_owned(), |bits| format!("{name}-{}", bits.bits()))
}

fn list(args: &List, console: &Console) -> Result<Exit, Failure> {
    let database = args.dir.open_on_disk()?;
    let header = ["name", "records", "bits", "encoder", "index"];
    let described = database.collections().into_iter().map(|found| describe(&found.info()));
    console.results(header, described)?;
    // The rest is told; that it is not all must not go unnoticed.
    database.unopened().into_iter().next().map_or(Ok(Exit::Done), |(_, error)| Err(error.into()))
}

fn index_field(args: &IndexField, console: &Console) -> Result<Exit, Failure> {
    let database = args.dir.open_on_disk()?;
    let collection = find(&database, &args.name)?;
    match args.drop {
        false => collection.index_field(args.field.clone())?,
        true => collection.drop_field_index(&args.field)?,
    };
    console.result(&describe(&collection.info()))?;
    Ok(Exit::Done)
}

fn delete(args: &Delete, console: &Console) -> Result<Exit, Failure> {
    let database = args.dir.open_on_disk()?;
    let is_damaged = database.unopened().iter().any(|(name, _)| *name == args.name);
    let records = match args.force && is_damaged {
        true => None,
        false => Some(find(&database, &args.name)?.info().records),
    };
    if let Some(records @ 1..) = records.filter(|_| !args.force) {
        return Err(Failure::usage(format!(
            "collection {:?} holds {records} records; delete it with --force",
            args.name
        )));
    }
    database.delete_collection(&args.name)?;
    console.result(&Fields::new([
        ("name", json!(args.name)),
        ("deleted", json!(true)),
        ("records", json!(records)),
    ]))?;
    Ok(Exit::Done)
}

/// A collection as a result.
fn describe(info: &CollectionInfo) -> Fields {
    let keep_vectors = match info.keep_vectors {
        KeepVectors::None => "none",
        KeepVectors::F16 => "f16",
        KeepVectors::F32 => "f32",
    };
    let metric = match info.metric {
        Metric::Cosine => "cosine",
        Metric::Dot => "dot",
        Metric::L2 => "l2",
    };
    let index_fields: Vec<String> =
        info.index_fields.iter().map(|indexed| indexed.field.to_string()).collect();
    Fields::new([
        ("name", json!(info.name)),
        ("records", json!(info.records)),
        ("bits", json!(info.width.bits())),
        ("encoder", json!(info.encoder.to_string())),
        ("keep_text", json!(info.keep_text)),
        ("keep_vectors", json!(keep_vectors)),
        ("metric", json!(metric)),
        ("created", json!(info.created)),
        ("index_fields", json!(index_fields)),
        ("durability", json!(info.durability)),
        ("index", json!(info.index)),
    ])
}
