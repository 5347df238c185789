//! Random operations, compaction, reopening and crashes among them, against the model.
//!
//! ```text
//! NEARBIT_CASES=10000 cargo test --release --lib store::tests::model    many sequences
//! ```

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<u8>)>),
    Checkpoint,
    Compact,
    Reopen,
    /// A killed process, and perhaps this share of the bytes lost that no MANIFEST calls durable.
    Crash(Option<f64>),
    LoseTable,
    Upgrade,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // A name, and a seed of the record; none deletes.
    let operation = (0u8..14, prop::option::weighted(0.75, any::<u8>()));
    let step = prop_oneof![
        12 => prop::collection::vec(operation, 0..6).prop_map(Step::Commit),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        2 => prop::option::of(0.0..1.0).prop_map(Step::Crash),
        1 => Just(Step::LoseTable),
        1 => Just(Step::Upgrade),
    ];
    prop::collection::vec(step, 1..40)
}

fn operation(width: Width, n: u8, seed: Option<u8>) -> Result<Operation> {
    let name = name(n.into());
    let Some(seed) = seed else { return Ok(Operation::Delete(id(name))) };
    let has = |part: u8| seed >> part & 1 == 1;
    // Few different codes, so that many records share one.
    let code = (seed % 8 != 7).then(|| code(width, u64::from(seed % 8) * 0x1_0000_0000_0043));
    let mut record = record(name, code);
    if has(3) {
        record.payload = Payload::from_json(&format!("{{\"seed\":{seed},\"deep\":[1,{{}}]}}"))?;
    }
    record.text = has(4).then(|| "Über ".repeat(usize::from(seed % 40)));
    record.vector = has(5).then(|| vec![0.5, -2.0, f32::from(seed)]);
    let vectors = if has(6) { Precision::F16 } else { Precision::F32 };
    Ok(Operation::Put { record, vectors })
}

/// Opens the store again, with codes in memory or without.
fn open(place: &mut Place, lean: bool, model: &Model) -> Result<Store> {
    if lean {
        return place.open_lean();
    }
    let (store, live) = place.open()?;
    model.check_live(&live);
    Ok(store)
}

/// Runs the steps; after each the store and the model agree.
fn run(width: usize, limits: Limits, lean: bool, version: u32, steps: &[Step]) -> Result<()> {
    let mut place = Place { version, ..Place::new(limits)? };
    drop(place.create(width)?);
    let mut model = Model::default();
    let mut store = open(&mut place, lean, &model)?;
    // The model after each commit, by the file and the length of it that hold the commit.
    let mut history = vec![(place.last_segment()?, 0, model.clone())];
    let names = || (0..14).map(name).map(id);
    for step in steps {
        match step {
            Step::Commit(operations) => {
                let operations =
                    operations.iter().map(|(name, seed)| operation(store.width(), *name, *seed));
                let operations: Vec<_> = operations.collect::<Result<_>>()?;
                let expected: Vec<_> = operations.iter().map(|o| model.apply(o)).collect();
                assert_eq!(store.commit(operations)?, expected);
                let segment = place.last_segment()?;
                let length =
                    std::fs::metadata(&segment).map_err(Error::io("read", &segment))?.len();
                history.push((segment, length, model.clone()));
            }
            Step::Checkpoint => store.checkpoint()?,
            Step::Compact => {
                store.compact(|| Ok(()))?;
            }
            Step::Reopen => {
                let settings = format!("settings {}", model.next).into_bytes();
                store.set_settings(&settings)?;
                assert_eq!(store.settings(), settings);
                drop(store);
                store = open(&mut place, lean, &model)?;
                assert_eq!(store.settings(), settings);
                assert!(store.shared.opened_as.is_some(), "after a clean close");
            }
            Step::Crash(lost) => {
                store.join_background();
                let noted =
                    super::super::lock_mutex(&store.shared.manifest).segments.last().copied();
                crash(store);
                let segment = place.last_segment()?;
                let file = place.files.open(&segment)?;
                let (length, noted) = (file.len()?, noted.map_or(0, |known| known.length));
                if let Some(share) = lost {
                    let kept = noted + ((length - noted) as f64 * (1.0 - share)) as u64;
                    file.truncate(kept)?;
                    history.retain(|(at, length, _)| *at != segment || *length <= kept);
                    model = history.last().map(|(_, _, model)| model.clone()).unwrap_or_default();
                }
                store = open(&mut place, lean, &model)?;
            }
            Step::Upgrade => {
                store.upgrade()?;
                assert_eq!(store.version(), FORMAT_VERSION);
            }
            Step::LoseTable => {
                crash(store);
                place.table = None;
                place.files.remove_dir(&place.dir.path().join("table"))?;
                store = open(&mut place, lean, &model)?;
            }
        }
        model.check(&store, names())?;
    }
    Ok(())
}

fn check(width: usize, limits: Limits, lean: bool, cases: u32) {
    let cases = std::env::var("NEARBIT_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[width as u8; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    // Those of version 1 are not compacted.
    let result = runner.run(&(2..=FORMAT_VERSION, steps()), |(version, steps)| {
        run(width, limits, lean, version, &steps)
            .map_err(|error| TestCaseError::fail(error.to_string()))
    });
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn it_is_a_map_and_a_linear_scan_with_64_bits() {
    check(64, SMALL, false, 60);
}

#[test]
fn it_is_a_map_and_a_linear_scan_with_11_bits() {
    check(11, SMALL, false, 30);
}

#[test]
fn it_is_a_map_and_a_linear_scan_with_1024_bits() {
    check(1024, SMALL, false, 30);
}

#[test]
fn it_is_a_map_and_a_linear_scan_while_it_compacts_by_itself() {
    check(64, Limits { spare_bytes: 300, ..SMALL }, false, 60);
}

#[test]
fn it_is_a_map_and_a_linear_scan_without_codes_in_memory() {
    check(64, SMALL, true, 30);
    check(11, Limits { spare_bytes: 300, ..SMALL }, true, 30);
}

/// Enough records for many blocks, replaced and deleted until blocks shrink again.
#[test]
fn many_blocks() -> Result<()> {
    let limits = Limits { checkpoint_records: 500, hash_mask: u64::MAX, ..Limits::default() };
    let mut place = Place::new(limits)?;
    let store = place.create(64)?;
    let mut numbers = BTreeMap::new();
    let mut next = 0;
    // A multiplicative generator is random enough to spread codes and to mix the names up.
    let mut random = 7u64;
    for round in 0..40u64 {
        let operations: Vec<_> = (0..250)
            .map(|_| {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let name = random >> 40 & 0xfff;
                let delete = round > 25 && random >> 33 & 3 != 0;
                if delete {
                    numbers.remove(&name);
                    return Operation::Delete(id(name));
                }
                numbers.insert(name, (next, random));
                next += 1;
                put(record(name, Some(code(store.width(), random))))
            })
            .collect();
        store.commit(operations)?;
    }
    store.checkpoint()?;
    let check = |store: &Store| -> Result<()> {
        assert_eq!(store.stats().recent, 0);
        assert_eq!(store.len(), numbers.len() as u64);
        for name in 0..0x1000 {
            let found = store.get(&id(name))?.map(|(number, record)| (number, record.code));
            let expected = numbers.get(&name).map(|(n, c)| (*n, Some(code(store.width(), *c))));
            assert_eq!(found, expected, "{name}");
        }
        let mut all: Vec<u64> = numbers.values().map(|(number, _)| *number).collect();
        all.sort_unstable();
        for (number, value) in numbers.values().take(200) {
            let center = code(store.width(), value ^ 1 << 7);
            assert!(store.within(&center, 1, 10)?.contains(&(*number, 1)));
        }
        let mut found: Vec<_> =
            store.within(&Code::zero(store.width()), 64, usize::MAX)?.iter().map(|h| h.0).collect();
        found.sort_unstable();
        assert_eq!(found, all);
        Ok(())
    };
    check(&store)?;
    drop(store);
    let (store, _) = place.open()?;
    assert_eq!(store.stats().table_reach, next);
    check(&store)
}
