//! `nearbit demo`: the whole way on the embedded sample, to look at.

use std::fs;
use std::io::{Write, stdout};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use nearbit::evaluate::{Baseline, Measures, Options, Side, evaluate};
use nearbit::formats::{Dataset, Origin, ReadOptions, load, open};
use nearbit::model::{Model, Preset, TrainOptions, train};
use nearbit::{
    Answer, Code, Collection, CollectionSettings, Database, EncoderSpec, Error, Inputs, NewRecord,
    Query, RecordId, Search, Width,
};

use super::console::Console;
use super::draw::{Canvas, beside};
use super::exit::{Exit, Failure};
use super::output::{Table, shorten};
use super::place;
use super::progress::Training;

const DIGITS: &[u8] = include_bytes!("../../data/digits-images.idx3-ubyte.gz");
const DIGIT_LABELS: &[u8] = include_bytes!("../../data/digits-labels.idx1-ubyte.gz");
const PARAGRAPHS: &[u8] = include_bytes!("../../data/paragraphs.jsonl");

/// One row in so many is a query; the others are learned from and searched.
const QUERY_EVERY: usize = 9;
/// Queries that are shown.
const SHOWN: usize = 3;
/// Hits of each.
const HITS: usize = 7;

/// Train on the embedded sample, index it, search it, and show what comes back
///
/// 1,797 handwritten digits, or with --text some 500 paragraphs on a dozen subjects. Everything is
/// made in a temporary directory and goes away with it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit demo
  nearbit demo --text
  nearbit demo --plain > demo.txt")]
pub struct Args {
    /// Paragraphs instead of digits
    #[arg(long)]
    text: bool,
    /// Plain ASCII without colours
    #[arg(long)]
    plain: bool,
    /// Bits of a code
    #[arg(long, default_value = "32", value_parser = place::width)]
    bits: Width,
    /// What every random choice follows from
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let start = Instant::now();
    let mut out = stdout().lock();
    let sample = Sample::load(args.text)?;
    writeln!(
        out,
        "{}: {} to learn from and to search, {} to ask with.\n",
        sample.what,
        sample.rows.len(),
        sample.queries.len()
    )?;

    let model = learn(&sample, &args, console)?;
    let report = model.info().report.epochs.last();
    writeln!(
        out,
        "An autoencoder learned {}-bit codes without seeing a label: {} epochs, bit balance {:.2}, \
         {:.1} s.",
        args.bits.bits(),
        model.info().report.epochs.len(),
        report.map_or(0.0, |epoch| epoch.balance),
        start.elapsed().as_secs_f64()
    )?;

    let place = Temporary::new()?;
    let collection = index(&sample, &model, &place)?;
    let sizes = collection.sizes();
    writeln!(
        out,
        "A database keeps them: {} records, {} bytes on disk, {} in memory.\n",
        collection.info().records,
        sizes.store.segment_bytes + sizes.store.table_bytes,
        sizes.index.total()
    )?;

    let canvas = Canvas::detect(args.plain);
    let answers = ask(&sample, &collection)?;
    for shown in sample.varied_queries() {
        let (query, answer) = (&sample.queries[shown], &answers[shown]);
        match &sample.data.inputs {
            Inputs::Images(_) => show_pictures(&mut out, canvas, &sample, *query, answer)?,
            _ => show_texts(&mut out, &sample, *query, answer)?,
        }
    }
    show_codes(&mut out, canvas, &sample, &collection, &answers[0])?;
    compare(&mut out, &sample, &model, &args)?;
    writeln!(out, "\nAll this took {:.1} s. Your turn:", start.elapsed().as_secs_f64())?;
    let other = if args.text { "nearbit demo" } else { "nearbit demo --text" };
    writeln!(out, "  {other}")?;
    writeln!(
        out,
        "  nearbit train YOUR.jsonl --model m.safetensors      (also .npy, .csv, IDX, ...)"
    )?;
    Ok(Exit::Done)
}

/// The embedded sample, parted.
struct Sample {
    what: &'static str,
    data: Dataset,
    records: Vec<NewRecord>,
    labels: Vec<String>,
    /// Numbers of the rows to learn from and to search.
    rows: Vec<usize>,
    /// Numbers of the rows to ask with.
    queries: Vec<usize>,
}

impl Sample {
    fn load(text: bool) -> Result<Self, Error> {
        let embedded = |name: &str, bytes: &'static [u8]| Origin::Bytes {
            name: name.to_owned(),
            bytes: bytes.into(),
        };
        let (what, origin, labels) = if text {
            ("Paragraphs on a dozen subjects", embedded("paragraphs.jsonl", PARAGRAPHS), None)
        } else {
            let labels = embedded("digits-labels.idx1-ubyte.gz", DIGIT_LABELS);
            let images = embedded("digits-images.idx3-ubyte.gz", DIGITS);
            ("Handwritten digits of 8 x 8 pixels", images, Some(labels))
        };
        let options = ReadOptions { labels, ..ReadOptions::default() };
        let data = load(&origin, &options)?;
        let records = open(&origin, &options)?.map(|row| row?.record).collect::<Result<_, _>>()?;
        let labels = data.labels.clone().unwrap_or_default();
        let (queries, rows) = (0..data.ids.len()).partition(|row| row % QUERY_EVERY == 0);
        Ok(Self { what, data, records, labels, rows, queries })
    }

    /// A few queries with different labels, as places in `queries`.
    fn varied_queries(&self) -> Vec<usize> {
        let label = |place: &usize| &self.labels[self.queries[*place]];
        let mut first_of_label: Vec<usize> = Vec::new();
        for place in 0..self.queries.len() {
            if first_of_label.iter().all(|first| label(first) != label(&place)) {
                first_of_label.push(place);
            }
        }
        let step = (first_of_label.len() / SHOWN).max(1);
        first_of_label.into_iter().step_by(step).take(SHOWN).collect()
    }

    /// The number of the row that is a record.
    fn row(&self, id: &RecordId) -> usize {
        self.data.ids.iter().position(|known| known == id.as_str()).unwrap_or(0)
    }

    fn labels_of(&self, rows: &[usize]) -> Vec<String> {
        rows.iter().map(|&row| self.labels[row].clone()).collect()
    }
}

fn learn(sample: &Sample, args: &Args, console: &Console) -> Result<Model, Error> {
    let preset = TrainOptions::preset(if args.text { Preset::Text } else { Preset::Image });
    let options = TrainOptions { bits: args.bits, seed: args.seed, ..preset };
    let bar = Training::new(console);
    train(&sample.data.inputs.select(&sample.rows), &options, &mut |progress| {
        bar.show(progress);
        ControlFlow::Continue(())
    })
}

/// A directory that goes away.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("nearbit-demo-{}", std::process::id()));
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn index(sample: &Sample, model: &Model, place: &Temporary) -> Result<Collection, Error> {
    let database = Database::open(&place.0)?;
    let name = database.add_model("demo", model)?;
    let settings = CollectionSettings::new(EncoderSpec::Model(name));
    let collection = database.create_collection("demo", &settings)?;
    collection.upsert(sample.rows.iter().map(|&row| sample.records[row].clone()).collect())?;
    Ok(collection)
}

fn ask(sample: &Sample, collection: &Collection) -> Result<Vec<Answer>, Error> {
    let sources = sample.queries.iter().filter_map(|&row| sample.records[row].source.clone());
    let searches: Vec<Search> =
        sources.map(|source| Search::new(Query::Source(source)).limit(HITS)).collect();
    collection.search_batch(&searches)
}

fn show_pictures(
    out: &mut impl Write,
    canvas: Canvas,
    sample: &Sample,
    query: usize,
    answer: &Answer,
) -> Result<(), Failure> {
    let Inputs::Images(images) = &sample.data.inputs else { return Ok(()) };
    let picture = |row: usize| canvas.picture(images.row(row), images.height, images.width);
    let width = 2 * images.width + 1;
    let shown = (columns() / width).max(2) - 1;
    let (mut pictures, mut below) =
        (vec![picture(query)], vec![format!("query: a {}", sample.labels[query])]);
    for hit in answer.hits.iter().take(shown) {
        let row = sample.row(&hit.id);
        let right = if sample.labels[row] == sample.labels[query] { "" } else { " (!)" };
        pictures.push(picture(row));
        below.push(format!("{} at {}{right}", sample.labels[row], bits(hit.distance)));
    }
    for line in beside(&pictures, " ") {
        writeln!(out, "{line}")?;
    }
    let below: String = below.iter().map(|text| format!("{text:<width$}")).collect();
    writeln!(out, "{}\n", below.trim_end())?;
    Ok(())
}

/// The width of the terminal, as the shell tells it, or what every terminal has.
fn columns() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    told.unwrap_or(80)
}

fn show_texts(
    out: &mut impl Write,
    sample: &Sample,
    query: usize,
    answer: &Answer,
) -> Result<(), Failure> {
    let Inputs::Texts(texts) = &sample.data.inputs else { return Ok(()) };
    writeln!(out, "query, {}: {}", sample.labels[query], shorten(&texts[query], 90))?;
    let mut table = Table::new(["", "", ""]);
    for hit in answer.hits.iter().take(4) {
        let row = sample.row(&hit.id);
        table.push([
            format!("  {}", bits(hit.distance)),
            sample.labels[row].clone(),
            shorten(&texts[row], 80),
        ]);
    }
    table.write(out)?;
    writeln!(out)?;
    Ok(())
}

/// The codes of the first query's hits, and of a record that is far away.
fn show_codes(
    out: &mut impl Write,
    canvas: Canvas,
    sample: &Sample,
    collection: &Collection,
    answer: &Answer,
) -> Result<(), Failure> {
    let query = sample.queries[0];
    let Some(source) = &sample.records[query].source else { return Ok(()) };
    let code = collection.encode_one(source)?;
    let far = sample.rows.iter().find(|&&row| sample.labels[row] != sample.labels[query]);
    let near = answer.hits.iter().take(3).map(|hit| sample.row(&hit.id));
    writeln!(out, "Their codes, a bit a cell, those that differ from the query's marked:\n")?;
    let name = |row: usize| shorten(&sample.labels[row], 13);
    writeln!(out, "{:<14}{}", "query", canvas.strip(&code, &code))?;
    for row in near.chain(far.copied()) {
        let id = RecordId::new(sample.data.ids[row].clone())?;
        let records = collection.get(&[id])?;
        let stored: Option<&Code> = records[0].as_ref().and_then(|record| record.code.as_ref());
        let Some(stored) = stored else { continue };
        let distance = stored.distance(&code);
        let strip = canvas.strip(stored, &code);
        writeln!(out, "{:<14}{strip}  {} differ", name(row), bits(distance))?;
        if canvas == Canvas::Plain && distance > 0 {
            writeln!(out, "{:<14}{}", "", Canvas::marks(stored, &code))?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn bits(count: u32) -> String {
    if count == 1 { "1 bit".to_owned() } else { format!("{count} bits") }
}

/// Precision@10 beside codes without a network.
fn compare(
    out: &mut impl Write,
    sample: &Sample,
    model: &Model,
    args: &Args,
) -> Result<(), Failure> {
    let (rows, asked) =
        (sample.data.inputs.select(&sample.rows), sample.data.inputs.select(&sample.queries));
    let (row_codes, asked_codes) = (model.encode(&rows)?, model.encode(&asked)?);
    let (row_features, asked_features) = (model.features(&rows)?, model.features(&asked)?);
    let (row_labels, asked_labels) =
        (sample.labels_of(&sample.rows), sample.labels_of(&sample.queries));
    let report = evaluate(
        Side { codes: &row_codes, features: Some(&row_features), labels: Some(&row_labels) },
        Some(Side {
            codes: &asked_codes,
            features: Some(&asked_features),
            labels: Some(&asked_labels),
        }),
        &Options {
            measures: Measures { precision_at: vec![10], ..Measures::default() },
            baselines: vec![Baseline::Itq, Baseline::Lsh],
            seed: args.seed,
        },
    )?;
    let percent = |value: Option<f64>| value.map_or("-".into(), |v| format!("{:.1} %", 100.0 * v));
    let precision = |metrics: Option<&nearbit::evaluate::Metrics>| {
        percent(metrics.and_then(|metrics| metrics.get("precision@10")))
    };
    writeln!(out, "Of the 10 nearest records, how many bear the query's label (precision@10)?\n")?;
    let mut table = Table::new(["codes", "bits", "precision@10"]);
    let width = args.bits.bits().to_string();
    let itq = report.baselines.get(&Baseline::Itq);
    let lsh = report.baselines.get(&Baseline::Lsh);
    table.push(["nearbit: learned".into(), width.clone(), precision(Some(&report.metrics))]);
    table.push(["ITQ: rotated principal components".into(), width.clone(), precision(itq)]);
    table.push(["LSH: random hyperplanes".into(), width, precision(lsh)]);
    table.push([
        "no codes: the floats themselves".into(),
        "-".into(),
        precision(report.exact.as_ref()),
    ]);
    table.write(out)?;
    Ok(())
}
