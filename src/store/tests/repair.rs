//! What a check finds in damaged files, and what a salvage saves of them.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;

use super::super::block::Run;
use super::super::check::check_with;
use super::super::format::Kind;
use super::super::hash::{HASH_BYTES, hash_key};
use super::super::manifest::Known;
use super::super::salvage::{Salvaged, salvage_with};
use super::super::walk::{Hints, Piece, walk};
use super::super::{FORMAT_VERSION, Finding, Precision};
use super::*;

/// A closed collection of several segments, all of it noted as durable, and every form that a record
/// ever had.
struct Original {
    place: Place,
    model: Model,
    written: Vec<Record>,
    /// The files, and where in them each live record stands.
    files: Vec<(PathBuf, Vec<u8>)>,
    live: Vec<(u64, PathBuf, Range<usize>)>,
}

/// Versions whose records are laid out in different ways, and whether compaction wrote segments again.
const LAYOUTS: [(u32, bool); 3] = [(2, false), (FORMAT_VERSION, false), (FORMAT_VERSION, true)];

fn original(layout: (u32, bool)) -> Result<Original> {
    let (version, compacted) = layout;
    let limits = Limits { segment_bytes: 900, checkpoint_records: 1000, ..SMALL };
    let mut place = Place { version, ..Place::new(limits)? };
    let store = place.create(64)?;
    let (mut model, mut written) = (Model::default(), Vec::new());
    for step in 0..16u64 {
        let put = |n: u64, i: u64| {
            let payload =
                format!("{{\"step\":{step},\"long\":\"{}\"}}", "x".repeat(i as usize * 9));
            let vector = (i == 1).then(|| vec![step as f32, 0.5]);
            let code = (i != 2).then(|| code(store.width(), n << 8 | step));
            let record =
                Record { vector, payload: Payload::from_json(&payload)?, ..record(name(n), code) };
            Ok(Operation::Put { record, vectors: Precision::F16 })
        };
        let mut operations = vec![put(step, 0)?, put(step + 100, step % 4)?, put(step / 3, 1)?];
        if step % 4 == 3 {
            operations.push(Operation::Delete(id(name(step + 98))));
        }
        for operation in &operations {
            model.apply(operation);
            if let Operation::Put { record, .. } = operation {
                written.push(record.clone());
            }
        }
        store.commit(operations)?;
        if compacted && step == 7 {
            store.compact(|| Ok(()))?;
        }
    }
    drop(store);
    let manifest = Manifest::read(&place.files, &place.collection())?;
    let path = |known: &Known| Segment::path(&place.collection(), known.segment);
    let segments: Vec<PathBuf> = manifest.segments.iter().map(path).collect();
    assert!(segments.len() >= 3);
    assert_eq!(segments.is_sorted(), !compacted, "names in the order of the records");
    let (mut files, mut live, mut next) = (Vec::new(), Vec::new(), 0);
    for path in segments {
        let bytes = place.files.read(&path, 1 << 20)?;
        let hints = Hints { first: Some(next), gaps: compacted, ..Hints::NONE };
        next = walk(&bytes, hints, &mut |piece| match piece {
            Piece::Record { range, record } if record.kind == Kind::Put => {
                let number = record.number;
                let range = range.start as usize..range.end as usize;
                if model.records.contains_key(&number) {
                    live.push((number, path.clone(), range));
                }
            }
            Piece::Damage(damage) => panic!("{damage:?}"),
            Piece::Torn { range, flaw } => panic!("{range:?}: {flaw}"),
            _ => {}
        });
        files.push((path, bytes));
    }
    assert_eq!(live.len(), model.records.len());
    let manifest = place.collection().join("MANIFEST");
    files.push((manifest.clone(), place.files.read(&manifest, 1 << 20)?));
    Ok(Original { place, model, written, files, live })
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(Error::io("write", path))
}

impl Original {
    fn check(&mut self) -> Result<Vec<Finding>> {
        let table = self.place.table()?;
        let (files, dir) = (&self.place.files, self.place.collection());
        Ok(check_with(files, &dir, Some(&table), self.place.limits)?.findings)
    }

    /// What is saved, in order, and what is said to be lost.
    fn salvage(&mut self) -> Result<(Vec<Record>, Salvaged)> {
        let (table, to) = (self.place.table()?, self.place.dir.path().join("saved"));
        let (files, dir, limits) = (&self.place.files, self.place.collection(), self.place.limits);
        files.remove_dir(&to)?;
        let settings = |known: Option<&[u8]>, _| known.unwrap_or(b"other settings").to_vec();
        let salvaged = salvage_with(files, &dir, &to, FORMAT_VERSION, &table, limits, settings)?;
        let (store, _) = Store::open_on(files, &to, &table, limits)?;
        let saved = store.list(None, usize::MAX)?;
        assert_eq!(saved.len() as u64, salvaged.records);
        let found = store.check(|_, _| ())?;
        assert_eq!((found.findings, found.records), (Vec::new(), salvaged.records));
        crash(store);
        Ok((saved.into_iter().map(|(_, record)| record).collect(), salvaged))
    }
}

#[test]
fn nothing_is_found_in_what_is_intact_and_all_of_it_is_saved() -> Result<()> {
    for layout in LAYOUTS {
        let mut original = original(layout)?;
        assert_eq!(original.check()?, []);
        let (saved, salvaged) = original.salvage()?;
        let expected: Vec<Record> = original.model.records.values().cloned().collect();
        assert_eq!(saved, expected);
        assert_eq!(salvaged.lost, []);
    }
    Ok(())
}

/// Without MANIFEST the records are all there still, and only the settings are not.
#[test]
fn a_collection_without_its_manifest_is_saved() -> Result<()> {
    for layout in LAYOUTS {
        let mut original = original(layout)?;
        let manifest = original.place.collection().join("MANIFEST");
        original.place.files.remove_file(&manifest)?;
        assert!(!original.check()?.is_empty());
        // No open takes it for what a crash left.
        let table = original.place.table()?;
        let refused = Store::remove_leftover(&original.place.collection(), &table);
        assert!(matches!(refused, Err(Error::Damaged { file, .. }) if file == manifest));
        let (saved, salvaged) = original.salvage()?;
        let expected: Vec<Record> = original.model.records.values().cloned().collect();
        assert_eq!(saved, expected);
        assert_eq!(salvaged.lost.len(), 1, "{:?}", salvaged.lost);
    }
    Ok(())
}

#[test]
fn a_table_that_holds_something_else_is_found_by_number() -> Result<()> {
    let mut original = original((FORMAT_VERSION, false))?;
    let (store, _) = original.place.open()?;
    store.checkpoint()?;
    assert_eq!(store.check(|_, _| ())?.findings, []);
    let (next, trees) = (store.next_number(), &store.shared.trees);
    let mut stray = Run::new(HASH_BYTES);
    stray.push(&hash_key(7), next - 1);
    trees
        .ids
        .merge(&stray, next, false, |_| ())
        .map_err(|broken| store.shared.table.error(broken))?;
    let gone = |run: &mut Run| run.retain(|number| number != next - 1);
    let merged = trees.codes.merge(&Run::new(8), next, true, gone);
    merged.map_err(|broken| store.shared.table.error(broken))?;
    let found: Vec<String> =
        store.check(|_, _| ())?.findings.iter().map(ToString::to_string).collect();
    let named = format!(", record {}", next - 1);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("the tree of ids has what the segments do not have"), "{found:?}");
    assert!(found[1].contains("the tree of codes lacks a record"), "{found:?}");
    assert!(found.iter().all(|finding| finding.ends_with(&named)), "{found:?}");
    crash(store);
    assert_eq!(original.check()?.len(), 2, "the same where it is not open");
    Ok(())
}

/// A way to damage bytes.
#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Zero(prop::sample::Index, usize),
    Cut(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index, usize),
    Double(prop::sample::Index, usize),
}

fn damages() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    let len = || prop::sample::select(vec![1usize, 16, 64, 300]);
    prop_oneof![
        3 => (at(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        2 => (at(), len()).prop_map(|(at, len)| Damage::Zero(at, len)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), at(), len()).prop_map(|(a, b, len)| Damage::Swap(a, b, len)),
        1 => (at(), len()).prop_map(|(at, len)| Damage::Double(at, len)),
    ]
}

impl Damage {
    /// Damages `bytes`; whether what is not damaged stands where it stood.
    fn apply(&self, bytes: &mut Vec<u8>) -> bool {
        let size = bytes.len();
        match self {
            Self::Flip(at, bits) => bytes[at.index(size)] ^= bits,
            Self::Zero(at, len) => {
                let at = at.index(size);
                bytes[at..(at + len).min(size)].fill(0);
            }
            Self::Cut(at) => bytes.truncate(at.index(size)),
            Self::Swap(a, b, len) => {
                let len = (*len).min(size / 2);
                let (a, b) = (a.index(size - len), b.index(size - len));
                let (first, second) = (bytes[a..a + len].to_vec(), bytes[b..b + len].to_vec());
                bytes[b..b + len].copy_from_slice(&first);
                bytes[a..a + len].copy_from_slice(&second);
            }
            Self::Double(at, len) => {
                let at = at.index(size);
                let doubled = bytes[at..(at + len).min(size)].to_vec();
                bytes.splice(at..at, doubled);
                return false;
            }
        }
        true
    }
}

fn holds(finding: &Finding, number: u64, name: &RecordId, path: &Path, offset: usize) -> bool {
    finding.numbers.contains(&number)
        || finding.id.as_deref() == Some(name.as_str())
        || (finding.file == path && finding.offset.is_none_or(|at| at <= offset as u64))
}

fn check_case(
    original: &mut Original,
    file: &prop::sample::Index,
    damages: &[Damage],
) -> Result<()> {
    original.files.iter().try_for_each(|(path, bytes)| write(path, bytes))?;
    let (path, intact) = original.files[file.index(original.files.len())].clone();
    let mut bytes = intact.clone();
    let mut in_place = true;
    for damage in damages {
        in_place &= bytes.is_empty() || damage.apply(&mut bytes);
    }
    write(&path, &bytes)?;
    let found = original.check()?;
    // What stands behind the last segment is an interrupted write.
    let last = &original.files[original.files.len() - 2].0;
    let longer = bytes.starts_with(&intact) && path == *last;
    assert_eq!(found.is_empty(), bytes == intact || longer, "{found:?}");
    let (saved, salvaged) = original.salvage()?;
    let expected: BTreeSet<&str> = original.model.records.values().map(|r| r.id.as_str()).collect();
    for record in &saved {
        assert!(original.written.contains(record), "never written: {record:?}");
    }
    let names: BTreeSet<&str> = saved.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(names.len(), saved.len(), "an id stands twice");
    for (number, live_path, range) in &original.live {
        let record = &original.model.records[number];
        let there = saved.contains(record);
        let untouched = *live_path != path
            || in_place && bytes.get(range.clone()) == Some(&intact[range.clone()]);
        let lost = &salvaged.lost;
        let named = |finding| holds(finding, *number, &record.id, live_path, range.start);
        assert!(there || !untouched, "{number} at {range:?} is intact and not saved: {lost:#?}");
        assert!(
            there || lost.iter().any(named),
            "{number} {} is lost unsaid: {lost:#?}",
            record.id
        );
    }
    // What was replaced or deleted comes back only where something is lost.
    if saved.iter().any(|record| !expected.contains(record.id.as_str())) {
        assert!(!salvaged.lost.is_empty());
    }
    Ok(())
}

/// `NEARBIT_SEED=1 NEARBIT_CASES=20000 cargo test --release --lib store::tests::repair` runs many.
#[test]
fn what_is_intact_is_saved_and_what_is_lost_is_said() -> Result<()> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let (cases, seed) =
        (number("NEARBIT_CASES").unwrap_or(300), number("NEARBIT_SEED").unwrap_or(8));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: cases as u32,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    });
    let originals = LAYOUTS.into_iter().map(original).collect::<Result<Vec<_>>>()?;
    let state = std::cell::RefCell::new((originals, 0));
    let damages = prop::collection::vec(damages(), 1..5);
    let cases = (0..LAYOUTS.len(), any::<prop::sample::Index>(), damages);
    let run = runner.run(&cases, |(layout, file, damages)| {
        let (originals, done) = &mut *state.borrow_mut();
        let original = &mut originals[layout];
        let mut case = || {
            // sled never gives back the space of a tree: a place serves a few hundred cases.
            *done += 1;
            if *done % 500 == 0 {
                *original = self::original(LAYOUTS[layout])?;
            }
            check_case(original, &file, &damages)
        };
        case().map_err(|error: Error| TestCaseError::fail(error.to_string()))
    });
    assert!(run.is_ok(), "seed {seed}: {run:?}");
    Ok(())
}
