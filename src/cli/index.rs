//! `nearbit index`: reads files into a collection.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nearbit::formats::{
    BitOrder, ColumnType, Origin, Place, ReadOptions, Row, Rows, SourceKind, open,
};
use nearbit::{Collection, Durability, Error, InputKind, NewRecord, RecordId, Source, Width};
use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::input::{Labels, Order, Reading};
use super::output::Fields;
use super::place::{InCollection, check_apart, durability, source_kind, width};
use super::progress;

/// A group is written and synced together once it has so many records, or so many bytes.
const GROUP_RECORDS: usize = 8192;
const GROUP_BYTES: usize = 8 << 20;

/// Read files into a collection
///
/// Fields that are neither id nor source become the payload. A record whose id is there already is
/// replaced; of two rows with the same id the later one stays. Rows without ids are named by their
/// row number, which goes on from file to file; where such a record is there already, they are refused
/// unless --replace, --resume or --first-id says what is meant.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit index articles.jsonl.gz --data-dir db --collection news
  nearbit index embeddings.npy --labels questions.jsonl.gz --data-dir db -c questions
  nearbit index codes.npy --data-dir db -c codes --bit-order lsb
  nearbit index more-codes.npy --data-dir db -c codes --first-id 1000000
  nearbit index books.csv --field-type year=integer --data-dir db -c books
  zcat big.jsonl.gz | nearbit index - --data-dir db -c news --rejects bad.jsonl
  jq -r .line bad.jsonl > mended.jsonl                    the rejected lines, to be mended and indexed")]
pub struct Args {
    /// Files: JSONL, CSV, TSV, .npy, .fvecs, .bvecs, IDX, folders of texts; - for standard input
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    place: InCollection,
    /// The field with the payload, an object, as in what nearbit export writes [default: all
    /// fields that are neither id nor source]
    #[arg(long, value_name = "FIELD")]
    payload_field: Option<String>,
    /// What a column of CSV or TSV holds, as in year=integer: integer, number or bool (an empty cell is
    /// then no field), or text; repeat it for several [default: text]
    #[arg(long = "field-type", value_name = "COLUMN=TYPE", value_parser = column_type)]
    column_types: Vec<(String, ColumnType)>,
    /// Read and check every row, but write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write rows that are refused to this file, as JSON lines of the place, the error and the line as it
    /// was read (null where it is no text), and go on; the exit code is then 4
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Pass over rows whose id is stored already, to go on after an interruption
    #[arg(long)]
    resume: bool,
    /// Replace the records that rows without ids have the numbers of
    #[arg(long, conflicts_with = "resume")]
    replace: bool,
    /// The number of the first row, where rows have no ids [default: 0]
    #[arg(long, value_name = "N")]
    first_id: Option<u64>,
    /// When a group is durable, whatever the collection has: before the next one is written, or at
    /// most so many milliseconds later; at the end all is synced
    #[arg(long, value_name = "sync|interval:MS", value_parser = durability)]
    durability: Option<Durability>,
    /// Bits of a code in the file, to be checked against the collection's
    #[arg(long, value_parser = width)]
    bits: Option<Width>,
    /// The order of the bits in the bytes of a file of codes
    #[arg(long, value_enum, default_value = "msb")]
    bit_order: Order,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    labels: Labels,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let start = Instant::now();
    if args.labels.labels.is_some() && args.inputs.len() > 1 {
        return Err(Failure::usage("--labels belongs to one input, got several"));
    }
    check_apart(&args.rejects, args.inputs.iter().chain(&args.labels.labels))?;
    let (_database, collection) = args.place.open()?;
    let input = collection.input();
    let source = wanted(&args, &collection, input)?;
    let options = ReadOptions {
        payload_field: args.payload_field.clone(),
        column_types: args.column_types.clone(),
        ..args.labels.add_to(args.reading.options(source))
    };
    if args.inputs.len() > 1 {
        args.inputs.iter().try_for_each(|path| check_opens(path, &options))?;
    }
    let mut indexing = Indexing {
        collection: &collection,
        durability: args.durability.unwrap_or(collection.info().durability),
        dry_run: args.dry_run,
        resume: args.resume,
        replace: args.replace,
        is_renumbered: args.first_id.is_some(),
        may_collide: collection.info().records > 0,
        rejects: args.rejects.as_deref().map(Rejects::create).transpose()?,
        group: Group::default(),
        counts: Counts::default(),
    };
    let mut next_row = args.first_id.unwrap_or(0);
    for path in &args.inputs {
        let options = ReadOptions { first_row: next_row, ..options.clone() };
        let done = indexing.file(path, &options, &mut next_row, console);
        if let Err(failure) = done {
            // What came before the fault is good, and is written.
            let kept = indexing.write();
            let records = indexing.counts.written;
            if records > 0 && !args.dry_run {
                console.note(format!("{records} records before the fault were indexed"));
            }
            kept?;
            return Err(failure);
        }
    }
    indexing.write()?;
    let rejects = match indexing.rejects {
        Some(rejects) => rejects.finish()?,
        None => 0,
    };
    if !args.dry_run {
        collection.sync()?;
        collection.checkpoint()?;
    }
    let counts = indexing.counts;
    let seconds = start.elapsed().as_secs_f64();
    console.result(&Fields::new([
        ("collection", json!(collection.name())),
        ("rows", json!(counts.rows)),
        ("indexed", json!(counts.written)),
        ("replaced", json!(counts.replaced)),
        ("skipped", json!(counts.skipped)),
        ("rejected", json!(rejects)),
        ("dry_run", json!(args.dry_run)),
        ("seconds", json!(seconds)),
        ("rows_per_second", json!(counts.rows as f64 / seconds.max(1e-9))),
    ]))?;
    if let (true, Some(path)) = (rejects > 0, &args.rejects) {
        console.note(format!("{rejects} rows were rejected; see {}", path.display()));
        return Ok(Exit::Rejected);
    }
    let (dir, name) = (args.place.dir.data_dir.display(), collection.name());
    let query = match input {
        Some(InputKind::Text) => "--text \"...\"",
        Some(_) => "--input QUERIES",
        None => "--code HEX",
    };
    console.next(format!("nearbit search --data-dir {dir} --collection {name} {query}"));
    Ok(Exit::Done)
}

/// What rows of the files have to be.
fn wanted(
    args: &Args,
    collection: &Collection,
    input: Option<InputKind>,
) -> Result<Option<SourceKind>, Failure> {
    let (given, width) = (args.bits.unwrap_or(collection.width()), collection.width());
    if given != width {
        let message = format!("the collection's codes have {width}, got --bits {}", given.bits());
        return Err(Error::invalid("bits", message).into());
    }
    let bit_order: BitOrder = args.bit_order.into();
    let codes_in_file = args.bits.is_some() || args.reading.code_field.is_some();
    Ok(match input {
        Some(input) if !codes_in_file => source_kind(input),
        _ => Some(SourceKind::Code { width, bit_order }),
    })
}

/// The type of a column, for clap.
fn column_type(text: &str) -> Result<(String, ColumnType), String> {
    let (column, kind) = text.rsplit_once('=').ok_or("expected COLUMN=TYPE, as in year=integer")?;
    let kind = kind.parse().map_err(|error: Error| error.to_string())?;
    Ok((column.to_owned(), kind))
}

/// An error where an input cannot be opened: before those in front of it are written.
fn check_opens(path: &Path, options: &ReadOptions) -> Result<(), Error> {
    // What a pipe holds can be read once.
    let is_other = path.metadata().is_ok_and(|metadata| !metadata.is_file());
    match Origin::from(path) {
        Origin::Path(_) if !is_other => open(&Origin::from(path), options).map(drop),
        _ => Ok(()),
    }
}

/// Reads rows, checks them, writes them in groups.
struct Indexing<'a> {
    collection: &'a Collection,
    durability: Durability,
    dry_run: bool,
    resume: bool,
    replace: bool,
    /// Whether --first-id is given.
    is_renumbered: bool,
    /// Whether a record may have an id that is the number of a row to come: those of one run differ.
    may_collide: bool,
    rejects: Option<Rejects>,
    group: Group,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    rows: u64,
    written: u64,
    replaced: u64,
    skipped: u64,
}

/// Records that will be written together.
#[derive(Default)]
struct Group {
    records: Vec<NewRecord>,
    /// Where each stands in its file.
    places: Vec<Place>,
    ids: HashSet<RecordId>,
    /// Which of them are named by the numbers of their rows.
    numbered: Vec<usize>,
    bytes: usize,
}

impl Indexing<'_> {
    fn file(
        &mut self,
        path: &Path,
        options: &ReadOptions,
        next_row: &mut u64,
        console: &Console,
    ) -> Result<(), Failure> {
        let mut rows = open(&Origin::from(path), options)?;
        let mut bar = progress::Reading::new(console, "indexing", &rows);
        let mut unshown = 0;
        while let Some(row) = rows.next().transpose()? {
            *next_row = row.number + 1;
            self.counts.rows += 1;
            let Row { number, place, is_numbered, record } = row;
            let checked = record.and_then(|record| match self.collection.check(&record) {
                Ok(()) => Ok(record),
                Err(error) => Err(error.within(&format!("{place}: "))),
            });
            match checked {
                Ok(_) if self.is_renumbered && !is_numbered => {
                    let message =
                        "the row has an id, and --first-id would have no effect; leave it out";
                    return Err(Error::invalid(place.to_string(), message).into());
                }
                Ok(record) => {
                    self.may_collide |= !is_numbered;
                    // Within a group an id may stand once; the later row replaces the earlier.
                    if record.id.as_ref().is_some_and(|id| self.group.ids.contains(id)) {
                        self.write()?;
                    }
                    self.group.push(record, place, is_numbered);
                }
                Err(error) => self.reject(number, &place, error, &rows)?,
            }
            if self.group.records.len() >= GROUP_RECORDS || self.group.bytes >= GROUP_BYTES {
                self.write()?;
            }
            unshown += 1;
            if unshown == 1024 {
                bar.advance(unshown);
                unshown = 0;
            }
        }
        bar.advance(unshown);
        Ok(())
    }

    /// Sets a bad row aside, or gives up where there is no place for it.
    fn reject(
        &mut self,
        number: u64,
        place: &Place,
        error: Error,
        rows: &Rows,
    ) -> Result<(), Failure> {
        match &mut self.rejects {
            Some(rejects) => rejects.push(number, place, &error, rows.text()),
            None => Err(match error {
                Error::Invalid { place, message } => Error::invalid(
                    place,
                    format!("{message} (--rejects FILE sets bad rows aside and goes on)"),
                ),
                other => other,
            }
            .into()),
        }
    }

    /// An error where the number of a row is the id of a record. Row 7 of a file says nothing of row 7
    /// of another, so that to replace it would be to lose it.
    fn check_numbers(
        &self,
        records: &[NewRecord],
        places: &[Place],
        numbered: &[usize],
    ) -> Result<(), Failure> {
        let ids: Vec<RecordId> = numbered.iter().filter_map(|&i| records[i].id.clone()).collect();
        let stored = self.collection.get(&ids)?;
        let Some(found) = stored.iter().position(Option::is_some) else { return Ok(()) };
        let message = format!(
            "the row has no id, and record {:?}, which its number would name, is there already; name \
             the field of the ids with --id-field, number these rows from another number on with \
             --first-id (the collection holds {} records), go on after an interruption with --resume, \
             or replace such records with --replace",
            ids[found].as_str(),
            self.collection.info().records
        );
        Err(Error::invalid(places[numbered[found]].to_string(), message).into())
    }

    /// Writes the group.
    fn write(&mut self) -> Result<(), Failure> {
        let Group { mut records, places, numbered, .. } = std::mem::take(&mut self.group);
        if self.may_collide && !self.resume && !self.replace {
            self.check_numbers(&records, &places, &numbered)?;
        }
        if self.resume {
            let ids: Vec<RecordId> = records.iter().filter_map(|r| r.id.clone()).collect();
            let stored = self.collection.get(&ids)?;
            let mut is_new = stored.iter().map(Option::is_none);
            records.retain(|_| is_new.next().unwrap_or(true));
            self.counts.skipped += (ids.len() - records.len()) as u64;
        }
        if records.is_empty() {
            return Ok(());
        }
        if self.dry_run {
            self.counts.written += records.len() as u64;
            return Ok(());
        }
        let upserted = self
            .collection
            .upsert_with(records, self.durability)
            .map_err(|e| relocated(e, &places))?;
        self.counts.written += upserted.len() as u64;
        self.counts.replaced += upserted.iter().filter(|record| record.replaced).count() as u64;
        Ok(())
    }
}

impl Group {
    fn push(&mut self, record: NewRecord, place: Place, is_numbered: bool) {
        self.bytes += match &record.source {
            Some(Source::Text(text)) => text.len(),
            Some(Source::Vector(vector)) => 4 * vector.len(),
            Some(Source::Image(image)) => image.pixels.len(),
            Some(Source::Code(_)) | None => 64,
        };
        if !record.payload.is_empty() {
            self.bytes += record.payload.to_json().len();
        }
        self.ids.extend(record.id.clone());
        if is_numbered {
            self.numbered.push(self.records.len());
        }
        self.records.push(record);
        self.places.push(place);
    }
}

/// An error of a group, `records[3].vector`, as an error of a file, `x.jsonl:4: vector`.
fn relocated(error: Error, places: &[Place]) -> Error {
    let Error::Invalid { place, message } = error else { return error };
    let split = place.strip_prefix("records[").and_then(|rest| rest.split_once(']'));
    let found = split.and_then(|(i, field)| Some((places.get(i.parse::<usize>().ok()?)?, field)));
    match found {
        Some((row, field)) => {
            Error::invalid(format!("{row}: {}", field.trim_start_matches('.')), message)
        }
        None => Error::Invalid { place, message },
    }
}

/// The file of rejected rows.
struct Rejects {
    path: PathBuf,
    file: BufWriter<File>,
    count: u64,
}

impl Rejects {
    fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        Ok(Self { path: path.to_path_buf(), file: BufWriter::new(file), count: 0 })
    }

    fn push(
        &mut self,
        row: u64,
        place: &Place,
        error: &Error,
        line: Option<String>,
    ) -> Result<(), Failure> {
        self.count += 1;
        let (place, error) = (place.to_string(), error.to_string());
        let reject = json!({ "row": row, "place": place, "error": error, "line": line });
        Ok(writeln!(self.file, "{reject}").map_err(Error::io("write", &self.path))?)
    }

    fn finish(mut self) -> Result<u64, Failure> {
        self.file.flush().map_err(Error::io("write", &self.path))?;
        Ok(self.count)
    }
}
