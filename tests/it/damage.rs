//! Damage in every kind of file: it is reported or mended, and never returned as data.
//!
//! A database with every kind of file is made once and closed. Then, for each seed, one file of a
//! copy is damaged: bits flipped, a page zeroed, the tail cut off, two blocks swapped or one
//! doubled. What is opened must hold all that was written, or else say what is wrong.
//!
//! ```text
//! NEARBIT_SEEDS=10000 cargo test --release --test it damage::     10,000 damaged databases
//! NEARBIT_SEED=17 cargo test --test it damage::                   that of one seed again
//! ```

use std::fs;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use nearbit::model::{Model, Preset, TrainOptions, train};
use nearbit::{
    Code, CollectionSettings, Database, EncoderSpec, Hit, InputKind, Inputs, KeepVectors,
    NewRecord, Payload, Record, RecordId, Result, Search, Width,
};
use rand::{Rng, RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::directory::{copy, directory};

/// All that can be read of a database.
#[derive(PartialEq, Debug)]
struct Everything {
    collections: Vec<Contents>,
    models: Vec<(String, String)>,
}

/// All that can be read of a collection.
#[derive(PartialEq, Debug)]
struct Contents {
    name: String,
    records: Vec<Record>,
    /// What is near a code in the index, and in the table.
    near: [Vec<Hit>; 2],
}

impl Everything {
    fn of(database: &Database) -> Result<Self> {
        if let Some((_, error)) = database.unopened().into_iter().next() {
            return Err(error);
        }
        let mut collections = Vec::new();
        for collection in database.collections() {
            let records = collection.list(None, usize::MAX)?.records;
            for record in &records {
                let got = collection.get(std::slice::from_ref(&record.id))?;
                assert_eq!(got, [Some(record.clone())]);
            }
            let zero = Code::zero(collection.width());
            let hits = collection.search(&Search::code(zero.clone()).limit(20))?.hits;
            let looked_up = collection.lookup(&zero, collection.width().bits() as u32, 1000)?;
            let name = collection.name().to_owned();
            collections.push(Contents { name, records, near: [hits, looked_up] });
        }
        let mut models = Vec::new();
        for name in database.models()? {
            let digest = database.model(&name)?.digest().to_string();
            models.push((name, digest));
        }
        Ok(Self { collections, models })
    }
}

/// A tiny model, and texts to train it with.
fn model() -> Result<Model> {
    let texts: Vec<String> =
        (0..40).map(|i| format!("word{} word{} word{}", i % 7, i % 5, i % 3)).collect();
    let options = TrainOptions {
        epochs: Some(1),
        bits: Width::new(16)?,
        ..TrainOptions::preset(Preset::Text)
    };
    train(&Inputs::Texts(texts), &options, &mut |_| ControlFlow::Continue(()))
}

/// Makes a database with every kind of file in it.
fn make(dir: &Path) -> Result<()> {
    let database = Database::open(dir)?;
    database.add_model("words", &model()?)?;
    let learned = CollectionSettings::new(EncoderSpec::Model("words".to_owned()));
    let texts = database.create_collection("texts", &learned)?;
    let spec = EncoderSpec::Hyperplanes {
        input: InputKind::Vector { dim: 4 },
        width: Width::new(64)?,
        seed: 3,
    };
    let keep_vectors = KeepVectors::F32;
    let planes = CollectionSettings { keep_vectors, ..CollectionSettings::new(spec) };
    let vectors = database.create_collection("vectors", &planes)?;
    for group in 0..10u32 {
        let name = |i| format!("{}", (group * 7 + i) % 40);
        let text = (0..8u32).map(|i| {
            let record = NewRecord::text(format!("word{} word{}", i, group)).with_id(name(i))?;
            Ok(record.with_payload(Payload::from_json(&format!("{{\"group\":{group}}}"))?))
        });
        texts.upsert(text.collect::<Result<_>>()?)?;
        let vector = (0..8u32)
            .map(|i| NewRecord::vector(vec![i as f32, group as f32, 1.0, -0.5]).with_id(name(i)));
        vectors.upsert(vector.collect::<Result<_>>()?)?;
        if group == 5 {
            texts.checkpoint()?;
        }
    }
    texts.delete(&[RecordId::new("3")?])?;
    Ok(())
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Damages bytes in one of the ways; says in which.
fn damage(bytes: &mut Vec<u8>, rng: &mut impl Rng) -> &'static str {
    let len = bytes.len();
    let block = [16, 64, 512, 4096][rng.random_range(0..4)].min(len / 2).max(1);
    let at = |rng: &mut dyn Rng| rng.next_u64() as usize % (len / block).max(1) * block;
    match rng.random_range(0..6) {
        0 | 1 => {
            bytes[rng.random_range(0..len)] ^= 1 << rng.random_range(0..8);
            "a bit is flipped"
        }
        2 => {
            let at = at(rng);
            bytes[at..(at + block).min(len)].fill(0);
            "a block is zeroed"
        }
        3 => {
            bytes.truncate(rng.random_range(0..len));
            "the tail is cut off"
        }
        4 => {
            let (a, b) = (at(rng), at(rng));
            let first = bytes[a..(a + block).min(len)].to_vec();
            let second = bytes[b..(b + block).min(len)].to_vec();
            let shared = first.len().min(second.len());
            bytes[b..b + shared].copy_from_slice(&first[..shared]);
            bytes[a..a + shared].copy_from_slice(&second[..shared]);
            "two blocks are swapped"
        }
        _ => {
            let at = at(rng);
            let doubled = bytes[at..(at + block).min(len)].to_vec();
            bytes.splice(at..at, doubled);
            "a block is doubled"
        }
    }
}

#[test]
fn a_damaged_file_is_reported_or_mended_and_never_returned() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match (number("NEARBIT_SEED"), number("NEARBIT_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(60),
    };
    let original = directory();
    make(original.path()).unwrap();
    let expected = Everything::of(&Database::open(original.path()).unwrap()).unwrap();
    assert!(expected.collections.iter().all(|contents| contents.records.len() > 30));
    let files: Vec<PathBuf> =
        files(original.path()).into_iter().filter(|file| !file.ends_with("LOCK")).collect();
    let relative = |file: &Path| file.strip_prefix(original.path()).unwrap().to_path_buf();
    let (mut reported, mut mended) = (0, 0);
    for seed in seeds {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let file = relative(&files[rng.random_range(0..files.len())]);
        let dir = directory();
        copy(original.path(), dir.path());
        let path = dir.path().join(&file);
        let mut bytes = fs::read(&path).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let how = damage(&mut bytes, &mut rng);
        fs::write(&path, &bytes).unwrap();
        let read = || Database::open(dir.path()).and_then(|database| Everything::of(&database));
        let what = format!("NEARBIT_SEED={seed}: {how} in {}", file.display());
        match catch_unwind(AssertUnwindSafe(read)) {
            Err(_) => panic!("{what}: a panic"),
            Ok(Err(_)) => reported += 1,
            Ok(Ok(found)) => {
                assert!(found == expected, "{what}: found {found:#?}");
                mended += 1;
            }
        }
    }
    println!("{reported} reported, {mended} mended or harmless");
}
