//! `nearbit eval`: what a model's codes are worth, beside codes without a network.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nearbit::evaluate::{Baseline, Measures, Metrics, Options, Report, Side, evaluate};
use nearbit::formats::{Dataset, Origin, load};
use nearbit::model::Model;
use nearbit::{Codes, Error, Features};
use serde_json::{Value, json};

use super::console::Console;
use super::exit::{Exit, Failure};
use super::input::{Labels, Reading};
use super::output::{Fields, Table};
use super::place::{ModelFile, source_kind};

/// Judge a model's codes, beside LSH, sign, PCA and ITQ codes of the same width
///
/// Labels give precision and mAP, the float features give recall of their exact neighbours. The
/// baselines learn from the database, as the model should have, and nothing here learns from
/// labels. All metrics are between 0 and 1.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit eval --model m.safetensors --database train.jsonl.gz --queries test.jsonl.gz --k 100
  nearbit eval --model m.safetensors --database db.npy --labels db.jsonl.gz \\
               --queries q.npy --query-labels q.jsonl.gz --k 10,100 --output json")]
pub struct Args {
    #[command(flatten)]
    model: ModelFile,
    /// The records to be found
    #[arg(long, value_name = "FILE")]
    database: PathBuf,
    /// The records to ask with [default: each of the database, which is itself left out]
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// The ks of precision@k
    #[arg(long, value_name = "K,...", value_delimiter = ',', default_value = "100")]
    k: Vec<usize>,
    /// Take the average precision of the first N rows [default: of the whole ranking]
    #[arg(long, value_name = "N")]
    map_at: Option<usize>,
    /// The radius of the ball whose precision is taken, in bits
    #[arg(long, value_name = "R", default_value_t = 2)]
    radius: usize,
    /// How many exact neighbours recall looks for [default: 10]
    #[arg(long, value_name = "K", conflicts_with = "labels_only")]
    recall_of: Option<usize>,
    /// Codes to compare with: lsh, sign, pca, itq, or none
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "lsh,sign,pca,itq")]
    baselines: Vec<String>,
    /// Neither recall nor baselines: only the model's codes and the labels
    #[arg(long)]
    labels_only: bool,
    /// What the baselines and samples follow from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    labels: Labels,
    /// The second file of the queries, as --labels is that of the database
    #[arg(long, value_name = "FILE", help_heading = "Labels", requires = "queries")]
    query_labels: Option<PathBuf>,
}

impl Args {
    fn options(&self) -> Result<Options, Failure> {
        let names = self.baselines.iter().filter(|name| *name != "none" && !self.labels_only);
        let baselines: Result<Vec<Baseline>, Error> = names.map(|name| name.parse()).collect();
        let recall_of = self.recall_of.unwrap_or(10);
        let mut recall_at = vec![10, 30, 50, 100, recall_of];
        recall_at.retain(|at| *at >= recall_of);
        recall_at.sort_unstable();
        recall_at.dedup();
        if self.k.contains(&0) || recall_of == 0 || self.map_at == Some(0) {
            return Err(Failure::usage(
                "expected --k, --map-at and --recall-of of 1 or more, got 0",
            ));
        }
        Ok(Options {
            measures: Measures {
                precision_at: self.k.clone(),
                map_at: self.map_at,
                radius: self.radius,
                recall_of,
                recall_at,
            },
            baselines: baselines.map_err(|error| Failure::usage(error.to_string()))?,
            seed: self.seed,
        })
    }
}

/// One side of the evaluation.
struct Loaded {
    data: Dataset,
    codes: Codes,
    features: Option<Features>,
}

impl Loaded {
    fn new(
        args: &Args,
        model: &Model,
        path: &Path,
        labels: Option<&Path>,
    ) -> Result<Self, Failure> {
        let options = args.labels.add_to(args.reading.options(source_kind(model.input())));
        let options = nearbit::formats::ReadOptions { labels: labels.map(Origin::from), ..options };
        let data = load(&Origin::from(path), &options)?;
        let named = |error: Error| error.within(&format!("{}: ", path.display()));
        let codes = model.encode(&data.inputs).map_err(named)?;
        let features = match args.labels_only {
            true => None,
            false => Some(model.features(&data.inputs).map_err(named)?),
        };
        Ok(Self { data, codes, features })
    }

    fn side(&self) -> Side<'_> {
        Side {
            codes: &self.codes,
            features: self.features.as_ref(),
            labels: self.data.labels.as_deref(),
        }
    }
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let start = Instant::now();
    let options = args.options()?;
    let model = args.model.load()?;
    let database = Loaded::new(&args, &model, &args.database, args.labels.labels.as_deref())?;
    let queries = match &args.queries {
        Some(path) => Some(Loaded::new(&args, &model, path, args.query_labels.as_deref())?),
        None => None,
    };
    let asking = queries.as_ref().unwrap_or(&database);
    // A record does not find itself.
    let found = database.codes.len() - usize::from(queries.is_none());
    if let Some(wanted) = args.recall_of.filter(|wanted| *wanted > found) {
        return Err(Failure::usage(format!(
            "expected --recall-of 1 to {found}, as many as there are records to be found, got {wanted}"
        )));
    }
    let labelled = database.data.labels.is_some() && asking.data.labels.is_some();
    if !labelled && args.labels_only {
        return Err(Failure::usage("--labels-only needs labels on both sides"));
    }
    if !labelled {
        console.note(
            "without labels there is neither precision nor mAP: name their field with \
             --label-field, or files with --labels and --query-labels",
        );
    }
    console.note(format!(
        "judging {} by {} queries in {} records",
        model.width(),
        asking.codes.len(),
        database.codes.len()
    ));
    // Labels of one side only answer no question.
    let side = |loaded| {
        let side: Side<'_> = Loaded::side(loaded);
        Side { labels: side.labels.filter(|_| labelled), ..side }
    };
    let report = evaluate(side(&database), queries.as_ref().map(side), &options)?;
    if console.is_table() {
        table(&report, console)?;
    } else {
        let mut judged = json!(report.model);
        judged["file"] = json!(args.model.file.display().to_string());
        judged["digest"] = json!(model.digest().to_string());
        console.result(&Fields::new([
            ("model", judged),
            ("baselines", json!(report.baselines)),
            ("left_out", json!(report.left_out)),
            ("exact", json!(report.exact)),
            ("metrics", json!(report.metrics)),
            ("seconds", json!(start.elapsed().as_secs_f64())),
        ]))?;
    }
    Ok(Exit::Done)
}

/// A row a way to make codes, a column a metric.
fn table(report: &Report, console: &Console) -> Result<(), Failure> {
    let names: Vec<&str> = report.metrics.iter().map(|(name, _)| name).collect();
    let cells = |who: &str, metrics: &Metrics| -> Vec<String> {
        let value = |name: &&str| metrics.get(name).map_or("-".to_owned(), |x| format!("{x:.4}"));
        std::iter::once(who.to_owned()).chain(names.iter().map(value)).collect()
    };
    let mut table = Table::new(std::iter::once("codes").chain(names.iter().copied()));
    table.push(cells("model", &report.metrics));
    for (baseline, metrics) in report.baselines.iter().rev() {
        table.push(cells(baseline.name(), metrics));
    }
    if let Some(exact) = &report.exact {
        table.push(cells("floats", exact));
    }
    let mut stream = console.stream();
    let out = stream.text();
    table.write(out)?;
    for (baseline, reason) in &report.left_out {
        writeln!(out, "{baseline} is left out: {reason}")?;
    }
    writeln!(out)?;
    let health = &report.model.health;
    Fields::new([
        ("entropy", json!(format!("{:.2} of {} bits", health.entropy, health.bits))),
        ("effective bits", json!(health.effective_bits)),
        ("imbalance", json!(health.imbalance)),
        ("mean correlation", json!(health.mean_correlation)),
        ("different codes", Value::from(health.distinct)),
    ])
    .write_table(out)?;
    stream.finish()
}
