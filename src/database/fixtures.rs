//! Databases of every format version, as the program of their time wrote them, are opened for ever.
//!
//! `data/fixtures/vN/` holds a data directory `db` without its table (which is derived from the
//! segments), and `expected.json`: all that the program that wrote it could read in it. Each test
//! works on a copy. A new format version gets its fixture, before the version is released, from
//!
//! ```text
//! cargo test --lib database::fixtures -- --ignored
//! ```
//!
//! What is there already is never written again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::code::Code;
use crate::collection::{KeepVectors, Metric};
use crate::filter::Filter;
use crate::input::InputKind;
use crate::record::{NewRecord, Payload, Record, RecordId, Source};
use crate::search::{Query, Search};
use crate::store::{FORMAT_VERSION, Operation, Precision};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fixtures")
}

/// Every fixture of a database: its version, and where it is.
fn fixtures() -> Vec<(u32, PathBuf)> {
    let version = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix('v')?.parse().ok()?;
        Some((name, path))
    };
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter_map(version).collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// A copy of the data directory of a fixture.
fn copied(fixture: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture.join("db"), dir.path());
    dir
}

/// All that can be read of a database, as JSON; the queries are made of what is in it.
fn read(database: &Database) -> Result<Value> {
    let mut models = Vec::new();
    for name in database.models()? {
        let digest = database.model(&name)?.digest().to_string();
        models.push(json!({"name": name, "digest": digest}));
    }
    let collections: Result<Vec<Value>> = database.collections().iter().map(describe).collect();
    Ok(json!({"models": models, "collections": collections?}))
}

fn describe(collection: &Collection) -> Result<Value> {
    let info = collection.info();
    let (mut records, mut sources, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        // A page of one ends with the number of its record.
        let page = collection.list(after, 1)?;
        let Some(record) = page.records.first() else { break };
        assert_eq!(collection.get(std::slice::from_ref(&record.id))?, [Some(record.clone())]);
        sources.extend(record.text.clone().map(Source::Text));
        sources.extend(record.vector.clone().map(Source::Vector));
        records.push(json!({
            "number": page.next,
            "id": record.id.as_str(),
            "code": record.code.as_ref().map(Code::to_hex),
            "payload": record.payload,
            "text": record.text,
            "vector": record.vector,
        }));
        after = page.next;
    }
    let mut queries = vec![Query::Source(Source::Code(Code::zero(info.width)))];
    queries.extend(sources.into_iter().step_by(9).map(Query::Source));
    let hits = |search: Search| -> Result<Vec<Value>> {
        let hits = collection.search(&search)?.hits;
        Ok(hits.iter().map(|hit| json!([hit.id.as_str(), hit.distance])).collect())
    };
    let mut answers = Vec::new();
    for query in queries {
        let said = match &query {
            Query::Source(Source::Code(code)) => json!(code.to_hex()),
            Query::Source(Source::Text(text)) => json!(text),
            Query::Source(Source::Vector(vector)) => json!(vector),
            _ => Value::Null,
        };
        let few = Search::new(query.clone()).limit(7);
        let even = Search::new(query).limit(5).filter(Filter::parse("even == true")?);
        answers.push(json!({"query": said, "nearest": hits(few)?, "even": hits(even)?}));
    }
    let fields: Vec<String> =
        info.index_fields.iter().map(|indexed| indexed.field.to_string()).collect();
    Ok(json!({
        "name": info.name,
        "bits": info.width.bits(),
        "encoder": info.encoder.to_string(),
        "keep_text": info.keep_text,
        "keep_vectors": format!("{:?}", info.keep_vectors),
        "metric": format!("{:?}", info.metric),
        "index_fields": fields,
        "created": info.created,
        "records": records,
        "answers": answers,
    }))
}

#[test]
fn databases_of_every_version_are_read() -> Result<()> {
    let fixtures = fixtures();
    let versions: Vec<u32> = fixtures.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (store::OLDEST_READABLE..=FORMAT_VERSION).collect::<Vec<_>>());
    for (version, fixture) in fixtures {
        let expected = fs::read(fixture.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let dir = copied(&fixture);
        // Once without a table, and once with the one that the first time made.
        for time in ["first", "second"] {
            let database = Database::open(dir.path())?;
            assert_eq!(read(&database)?, expected, "version {version}, opened a {time} time");
        }
    }
    Ok(())
}

/// What is there can be gone on with.
#[test]
fn databases_of_every_version_are_written_to() -> Result<()> {
    for (_, fixture) in fixtures() {
        let dir = copied(&fixture);
        let mut expected = Vec::new();
        for time in 0..2u8 {
            let database = Database::open(dir.path())?;
            for collection in database.collections() {
                if time == 0 {
                    let mut records = collection.list(None, usize::MAX)?.records;
                    if let Some(oldest) = records.first() {
                        assert_eq!(collection.delete(std::slice::from_ref(&oldest.id))?, [true]);
                        records.remove(0);
                    }
                    let code = Code::zero(collection.width());
                    let new = NewRecord { source: None, ..NewRecord::code(code) };
                    let new = new.with_id("a new one")?.with_payload(payload(1)?);
                    collection.upsert(vec![new])?;
                    records.extend(collection.list(None, usize::MAX)?.records.pop());
                    expected.push(records);
                }
            }
            let found = database.collections();
            let found: Result<Vec<Vec<Record>>> =
                found.iter().map(|c| Ok(c.list(None, usize::MAX)?.records)).collect();
            assert_eq!(found?, expected);
        }
    }
    Ok(())
}

#[test]
fn a_directory_of_a_newer_version_is_refused_by_name() {
    let Some((_, fixture)) = fixtures().pop() else { panic!("no fixture") };
    let dir = copied(&fixture);
    let format = dir.path().join("FORMAT");
    let mut bytes = fs::read(&format).unwrap();
    bytes[8] = FORMAT_VERSION as u8 + 1;
    let crc = crc32c::crc32c(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    fs::write(&format, &bytes).unwrap();
    let error = Database::open(dir.path()).unwrap_err().to_string();
    let newer = FORMAT_VERSION + 1;
    for part in [
        format!("FORMAT: it has format version {newer}"),
        format!("reads {} to {FORMAT_VERSION}", store::OLDEST_READABLE),
        "open it with a nearbit that is newer".to_owned(),
    ] {
        assert!(error.contains(&part), "{part:?} is not in {error:?}");
    }
    assert_eq!(fs::read(&format).unwrap(), bytes);
}

fn payload(i: u64) -> Result<Payload> {
    Payload::from_json(&format!(
        r#"{{"label":"label {}","even":{},"n":{i},"x":{},"tags":["a","ü{}"],"nested":{{"deep":null}}}}"#,
        i % 5,
        i.is_multiple_of(2),
        i as f64 / 8.0,
        i % 3,
    ))
}

/// Numbers that look random and are the same for ever (splitmix64).
fn scattered(i: u64) -> u64 {
    let z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn vector(i: u64, dim: usize) -> Vec<f32> {
    (0..dim as u64).map(|j| (scattered(1000 * i + j) % 2001) as f32 / 1000.0 - 1.0).collect()
}

/// Names of every form that is kept in its own way.
fn name(i: u64) -> String {
    match i % 3 {
        0 => format!("r{i}"),
        1 => format!("{}", i * i * i),
        _ => uuid::Uuid::from_u64_pair(scattered(i), scattered(i + 1)).to_string(),
    }
}

/// Writes the records of `new` in small groups, then some of them again, and deletes a few.
fn fill(collection: &Collection, new: impl Fn(u64) -> Result<NewRecord>) -> Result<()> {
    let numbered = |i: u64| new(i)?.with_payload(payload(i)?).with_id(name(i));
    for start in (0..40).step_by(8) {
        collection.upsert((start..start + 8).map(numbered).collect::<Result<_>>()?)?;
    }
    let again = |i: u64| new(100 + i)?.with_id(name(i));
    collection.upsert([3, 11, 39].into_iter().map(again).collect::<Result<_>>()?)?;
    let gone = [0, 11, 20, 50].map(|i| RecordId::new(name(i)));
    collection.delete(&gone.into_iter().collect::<Result<Vec<_>>>()?)?;
    // One without anything to encode.
    let bare = NewRecord { source: None, ..NewRecord::text("") };
    collection.upsert(vec![bare.with_id("bare ü")?.with_payload(payload(2)?)])?;
    Ok(())
}

/// Writes the fixture of the current version.
#[test]
#[ignore = "it writes data/fixtures"]
fn write() -> Result<()> {
    let fixture = folder().join(format!("v{FORMAT_VERSION}"));
    assert!(!fixture.exists(), "{} is there already", fixture.display());
    let db = fixture.join("db");
    let database = Database::open(&db)?;
    let width = |bits| Width::new(bits);
    let planes = |input, bits| -> Result<EncoderSpec> {
        Ok(EncoderSpec::Hyperplanes { input, width: width(bits)?, seed: 7 })
    };

    let settings = CollectionSettings {
        index_fields: vec!["label".parse()?, "nested.deep".parse()?],
        ..CollectionSettings::new(planes(InputKind::Text, 64)?)
    };
    let words = ["moon", "rye", "iron", "violin", "glacier", "ledger", "harbour"];
    let text = |i: u64| {
        let word = |k: u64| words[(scattered(i * 5 + k) % 7) as usize];
        NewRecord::text(format!("the {} of the {} and a {}", word(0), word(1), word(2)))
    };
    fill(&database.create_collection("texts", &settings)?, |i| Ok(text(i)))?;

    let settings = CollectionSettings {
        keep_vectors: KeepVectors::F32,
        metric: Metric::L2,
        ..CollectionSettings::new(planes(InputKind::Vector { dim: 5 }, 100)?)
    };
    let vectors = database.create_collection("vectors-f32", &settings)?;
    fill(&vectors, |i| Ok(NewRecord::vector(vector(i, 5))))?;

    let model = Model::load(folder().join("model-1-vector.safetensors"))?;
    database.add_model("waves", &model)?;
    let settings = CollectionSettings {
        keep_vectors: KeepVectors::F16,
        ..CollectionSettings::new(EncoderSpec::Model("waves".to_owned()))
    };
    let learned = database.create_collection("vectors-f16", &settings)?;
    let Some(InputKind::Vector { dim }) = learned.input() else { panic!("a model of vectors") };
    fill(&learned, |i| Ok(NewRecord::vector(vector(i, dim))))?;

    let codes = CollectionSettings::new(EncoderSpec::Codes { width: width(64)? });
    database.create_collection("empty", &codes)?;
    database.create_collection("codes", &codes)?;
    database.create_collection("compacted", &codes)?;
    drop((database, vectors, learned));
    write_codes(&db.join("collections/codes"), &db)?;
    let compacted = db.join("collections/compacted");
    write_codes(&compacted, &db)?;
    let table = Table::open(&db.join("table"))?;
    let store = Store::open_with_small_segments(&compacted, &table)?;
    let done = store.compact(|| Ok(()))?;
    assert!(done.bytes_after < done.bytes_before, "{done:?}");
    drop((store, table));

    fs::remove_dir_all(db.join("table")).unwrap();
    fs::remove_file(db.join("LOCK")).unwrap();
    let expected = read(&Database::open(copied(&fixture).path())?)?;
    let file = fs::File::create(fixture.join("expected.json")).unwrap();
    serde_json::to_writer_pretty(file, &expected).unwrap();
    Ok(())
}

/// Fills a collection of codes: several segments, and a group that was interrupted at the end.
fn write_codes(collection: &Path, db: &Path) -> Result<()> {
    let put = |i: u64| -> Result<Operation> {
        let code = Code::from_words(Width::new(64)?, &[scattered(i % 60)])?;
        let payload = if i.is_multiple_of(3) { payload(i)? } else { Payload::default() };
        let id = RecordId::new(name(i % 90))?;
        let record = Record { id, code: Some(code), payload, text: None, vector: None };
        Ok(Operation::Put { record, vectors: Precision::F32 })
    };
    let table = Table::open(&db.join("table"))?;
    let store = Store::open_with_small_segments(collection, &table)?;
    for start in (0..130).step_by(10) {
        let mut group = (start..start + 10).map(put).collect::<Result<Vec<_>>>()?;
        group.push(Operation::Delete(RecordId::new(name(start / 3))?));
        store.commit(group)?;
    }
    drop(store);
    // What MANIFEST notes as durable stays; of one more group half reaches the disk.
    let noted = tempfile::tempdir().unwrap();
    copy(collection, noted.path());
    let store = Store::open_with_small_segments(collection, &table)?;
    let last = || store::list(&collection.join("segments")).map(|listed| listed.last().cloned());
    let segment = last()?.unwrap();
    let before = fs::read(&segment).unwrap().len();
    store.commit((130..135).map(put).collect::<Result<_>>()?)?;
    assert_eq!(last()?.as_deref(), Some(&*segment), "the interrupted group is in the last segment");
    let bytes = fs::read(&segment).unwrap();
    drop(store);
    fs::remove_dir_all(collection).unwrap();
    copy(noted.path(), collection);
    fs::write(&segment, &bytes[..before.midpoint(bytes.len())]).unwrap();
    assert!(store::list(&collection.join("segments"))?.len() > 3);
    Ok(())
}
