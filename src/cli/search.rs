//! `nearbit search`: finds the nearest records.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{ArgGroup, ValueEnum};
use nearbit::filter::Field;
use nearbit::formats::{BitOrder, Origin, Row, SourceKind, open};
use nearbit::{
    Answer, Code, Collection, Diversity, Error, Filter, GroupBy, Hit, Payload, Plan, Query,
    RecordId, Rescore, Search, Source,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::console::{Console, Stream};
use super::exit::{Exit, Failure};
use super::input::{FILTERS, Order, Reading, parse_filter, up_to};
use super::output::{Fields, Table, shorten};
use super::place::{InCollection, source_kind};

/// Queries that are answered together.
const BATCH: usize = 256;

/// Hits of one query that are found on disk.
const FEW: usize = 1000;

/// The most hits of one query.
const MOST: usize = 1_000_000;

/// Find the records nearest to a text, a code, a record, or each row of a file
#[derive(clap::Args)]
#[command(
    group = ArgGroup::new("query").required(true).args(["text", "code", "id", "input"]),
    after_help = format!("\
Examples:
  nearbit search --data-dir db -c news --text \"the far side of the moon\" --limit 5
  nearbit search --data-dir db -c news --id article-17 --radius 8
  nearbit search --data-dir db -c news --text moon --filter 'label == \"space\" and year >= 1990'
  nearbit search --data-dir db -c codes --code 0f1e2d3c4b5a6978 --explain
  nearbit search --data-dir db -c questions --input queries.npy --output jsonl > hits.jsonl

{FILTERS}")
)]
pub struct Args {
    #[command(flatten)]
    place: InCollection,
    /// The neighbours of a text
    #[arg(long)]
    text: Option<String>,
    /// The neighbours of a code: hex, base64, or 0b and binary digits
    #[arg(long)]
    code: Option<String>,
    /// The neighbours of a stored record, which is itself left out
    #[arg(long)]
    id: Option<String>,
    /// The neighbours of each row of a file; - for standard input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// At most so many hits a query, 1 to 1000000
    #[arg(long, default_value_t = 10, value_name = "K", value_parser = up_to::<MOST>)]
    limit: usize,
    /// Only hits that differ in at most so many bits
    #[arg(long, value_name = "R")]
    radius: Option<u32>,
    /// Only records that match, as in 'label == "space" and year >= 1990'
    #[arg(long, value_name = "EXPR", value_parser = parse_filter)]
    filter: Option<Filter>,
    /// Look more closely at what is near by code: asymmetric compares what the query's code was
    /// made from with stored codes, vector compares stored vectors
    #[arg(long, value_enum, default_value = "none")]
    rescore: Closer,
    /// Look so closely at X times as many records as hits are wanted, 1 to 1000 [default: 4]
    #[arg(long, value_name = "X", value_parser = up_to::<{ Rescore::MAX_OVERSAMPLING }>)]
    oversampling: Option<usize>,
    /// Hits that differ from one another: 0 is nearness only, 1 difference only
    #[arg(long, value_name = "WEIGHT", conflicts_with = "group_by")]
    diversity: Option<f32>,
    /// Choose the hits that differ from the N nearest
    #[arg(long, value_name = "N", default_value_t = 100, requires = "diversity",
          value_parser = up_to::<MOST>)]
    candidates: usize,
    /// The nearest of each value of a field of payloads; --limit counts values then
    #[arg(long, value_name = "FIELD")]
    group_by: Option<Field>,
    /// Hits of each value
    #[arg(long, value_name = "N", default_value_t = 1, requires = "group_by",
          value_parser = up_to::<MOST>)]
    group_size: usize,
    /// How to go about it; the hits are the same
    #[arg(long, value_enum, default_value = "auto")]
    plan: Way,
    /// Hits without their payload
    #[arg(long)]
    no_payload: bool,
    /// Say how each answer was found
    #[arg(long)]
    explain: bool,
    /// Give up a query after so many seconds; the exit code is then 7
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// The order of the bits in the bytes of a file of codes [default: msb]
    #[arg(long, value_enum)]
    bit_order: Option<Order>,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Clone, Copy, ValueEnum)]
enum Closer {
    /// By code only
    None,
    /// By the values of the query's code
    Asymmetric,
    /// By vectors
    Vector,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// What should cost least
    Auto,
    /// Look into the clusters that can hold something near
    Probe,
    /// Compare every code
    Scan,
}

impl From<Way> for Plan {
    fn from(way: Way) -> Self {
        match way {
            Way::Auto => Self::Auto,
            Way::Probe => Self::Probe,
            Way::Scan => Self::Scan,
        }
    }
}

impl Args {
    fn search(&self, query: Query, timeout: Option<Duration>) -> Search {
        Search {
            limit: self.limit,
            radius: self.radius,
            filter: self.filter.clone(),
            rescore: match self.rescore {
                Closer::None => None,
                Closer::Asymmetric => Some(Rescore::asymmetric()),
                Closer::Vector => Some(Rescore::vector()),
            }
            .map(|rescore| self.oversampling.map_or(rescore, |times| rescore.of(times))),
            diversity: self
                .diversity
                .map(|weight| Diversity { weight, candidates: self.candidates }),
            group_by: self.group_by.clone().map(|field| GroupBy { field, size: self.group_size }),
            plan: self.plan.into(),
            payload: !self.no_payload,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            ..Search::new(query)
        }
    }
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let timeout = match args.timeout {
        Some(seconds) => Some(Duration::try_from_secs_f64(seconds).map_err(|_| {
            Failure::usage(format!("expected --timeout in seconds, 0 or more, got {seconds}"))
        })?),
        None => None,
    };
    if args.oversampling.is_some() && matches!(args.rescore, Closer::None) {
        return Err(Failure::usage("--oversampling goes with --rescore asymmetric or vector"));
    }
    if args.bit_order.is_some() && args.input.is_none() {
        return Err(Failure::usage("--bit-order goes with --input"));
    }
    // One query is answered on disk before a large index would be in memory.
    let is_one = args.input.is_none() && matches!(args.plan, Way::Auto) && args.limit <= FEW;
    let (_database, collection) =
        if is_one { args.place.open_on_disk()? } else { args.place.open()? };
    let mut answers = Answers {
        collection: &collection,
        console,
        args: &args,
        stream: console.stream(),
        next: 0,
    };
    if let Some(path) = &args.input {
        let bit_order: BitOrder = args.bit_order.map(Into::into).unwrap_or_default();
        let source = match collection.input() {
            Some(input) if args.reading.code_field.is_none() => source_kind(input),
            _ => Some(SourceKind::Code { width: collection.width(), bit_order }),
        };
        let mut rows = open(&Origin::from(path.as_path()), &args.reading.options(source))?;
        loop {
            let batch: Vec<Row> = rows.by_ref().take(BATCH).collect::<Result<_, _>>()?;
            if batch.is_empty() {
                break;
            }
            answers.file(batch, timeout)?;
        }
    } else {
        let query = query(&args, &collection)?;
        let answer = collection.search(&args.search(query, timeout))?;
        answers.write(&answer)?;
    }
    answers.stream.finish()?;
    Ok(Exit::Done)
}

/// The single query that the flags name.
fn query(args: &Args, collection: &Collection) -> Result<Query, Failure> {
    Ok(match (&args.text, &args.code, &args.id) {
        (Some(text), ..) => Query::Source(Source::Text(text.clone())),
        (_, Some(code), _) => Query::Source(Source::Code(Code::parse(code, collection.width())?)),
        (.., Some(id)) => Query::Id(RecordId::new(id.clone())?),
        _ => return Err(Failure::usage("expected --text, --code, --id or --input")),
    })
}

/// Writes answers in the order of their queries.
struct Answers<'a> {
    collection: &'a Collection,
    console: &'a Console,
    args: &'a Args,
    stream: Stream,
    /// The number of the next query.
    next: u64,
}

impl Answers<'_> {
    fn file(&mut self, batch: Vec<Row>, timeout: Option<Duration>) -> Result<(), Failure> {
        let mut places = Vec::with_capacity(batch.len());
        let mut searches = Vec::with_capacity(batch.len());
        for row in batch {
            let place = row.place.to_string();
            let source = row.record?.source;
            let source = source.ok_or_else(|| Error::invalid(&place, "expected a source"))?;
            searches.push(self.args.search(Query::Source(source), timeout));
            places.push(place);
        }
        let answers = self.collection.search_batch(&searches).map_err(|e| named(e, &places))?;
        answers.iter().try_for_each(|answer| self.write(answer))
    }

    fn write(&mut self, answer: &Answer) -> Result<(), Failure> {
        let query = self.next;
        self.next += 1;
        if self.console.is_table() {
            return self.table(query, answer);
        }
        self.stream.json(&Line {
            query,
            hits: answer.hits.iter().map(HitLine::of).collect(),
            complete: answer.complete,
            stats: self.args.explain.then(|| stats(answer)),
        })
    }

    fn table(&mut self, query: u64, answer: &Answer) -> Result<(), Failure> {
        // Texts that are kept say more than ids.
        let ids: Vec<RecordId> = answer.hits.iter().map(|hit| hit.id.clone()).collect();
        let records = self.collection.get(&ids)?;
        let mut table = Table::new(["distance", "score", "id", "payload", "text"]);
        for (hit, record) in answer.hits.iter().zip(records) {
            let payload = hit.payload.as_ref().filter(|payload| !payload.is_empty());
            let text = record.and_then(|record| record.text).unwrap_or_default();
            table.push([
                hit.distance.to_string(),
                format!("{:.3}", hit.score),
                hit.id.to_string(),
                payload.map(|payload| shorten(&payload.to_json(), 40)).unwrap_or_default(),
                shorten(&text, 60),
            ]);
        }
        let out = self.stream.text();
        if self.args.input.is_some() {
            writeln!(out, "query {query}")?;
        }
        table.write(out)?;
        if self.args.explain {
            stats(answer).write_table(out)?;
        }
        Ok(())
    }
}

/// The answer to one query, as JSON.
#[derive(Serialize)]
struct Line<'a> {
    query: u64,
    hits: Vec<HitLine<'a>>,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Fields>,
}

#[derive(Serialize)]
struct HitLine<'a> {
    id: &'a str,
    distance: u32,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Payload>,
}

impl<'a> HitLine<'a> {
    fn of(hit: &'a Hit) -> Self {
        let payload = hit.payload.as_ref().filter(|payload| !payload.is_empty());
        // A value is written as JSON.
        let group =
            hit.group.as_ref().and_then(|group| serde_json::from_str(&group.to_string()).ok());
        Self { id: hit.id.as_str(), distance: hit.distance, score: hit.score, group, payload }
    }
}

fn stats(answer: &Answer) -> Fields {
    let stats = &answer.stats;
    Fields::new([
        ("plan", json!(stats.plan.name())),
        ("kernel", json!(stats.kernel)),
        ("radius", json!(stats.radius)),
        ("probes", json!(stats.probes)),
        ("compared", json!(stats.compared)),
        ("tested", json!(stats.tested)),
        ("rescored", json!(stats.rescored)),
        ("filtering_seconds", json!(stats.filtering.as_secs_f64())),
        ("encoding_seconds", json!(stats.encoding.as_secs_f64())),
        ("searching_seconds", json!(stats.searching.as_secs_f64())),
        ("rescoring_seconds", json!(stats.rescoring.as_secs_f64())),
        ("reading_seconds", json!(stats.reading.as_secs_f64())),
    ])
}

/// An error of a batch, `searches[3].query.vector`, as an error of a file, `q.npy row 3: vector`.
fn named(error: Error, places: &[String]) -> Error {
    let Error::Invalid { place, message } = error else { return error };
    let split = place.strip_prefix("searches[").and_then(|rest| rest.split_once(']'));
    let found = split.and_then(|(i, field)| Some((places.get(i.parse::<usize>().ok()?)?, field)));
    match found {
        Some((row, field)) => {
            Error::invalid(format!("{row}: {}", field.trim_start_matches(".query.")), message)
        }
        None => Error::Invalid { place, message },
    }
}
