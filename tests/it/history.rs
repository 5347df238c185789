//! Whatever happens to a database, it is a map and a linear scan: random histories of all that can
//! be done with one, against a `BTreeMap`, ids and order equal.
//!
//! Two collections are written to alike: one is searched in memory, one on disk. A crash is a copy of
//! the directory that is taken while the database is open, perhaps with a torn write at the end of a
//! segment; it goes on from the copy. Histories of the store alone, with small segments and lost
//! tails, are in `src/store/tests/model.rs`.
//!
//! ```text
//! NEARBIT_CASES=10000 cargo test --release --test it history::    10,000 histories of 100 steps
//! NEARBIT_SEED=1 cargo test --test it history::                   others than those of seed 0
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use nearbit::database::{find_snapshot, inspect, list_snapshots, restore, verify_snapshot};
use nearbit::{
    Code, Collection, CollectionSettings, Database, Durability, EncoderSpec, Filter, Hit,
    IndexPlace, NewRecord, Payload, Plan, Record, RecordId, Search, Width,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tempfile::TempDir;

use super::directory::{copy, directory};

const PLACES: [(&str, IndexPlace); 2] =
    [("memory", IndexPlace::Memory), ("disk", IndexPlace::Disk)];
const NAMES: u8 = 30;

#[derive(Clone, Debug)]
enum Step {
    /// Names and seeds of records, and whether they are synced at once.
    Upsert(Vec<(u8, u8)>, bool),
    Delete(Vec<u8>),
    DeleteMatching(usize),
    Search {
        center: u8,
        limit: usize,
        radius: Option<u32>,
        filter: usize,
    },
    Checkpoint,
    Compact,
    IndexField,
    Reopen,
    /// With what of a write stands behind the last whole one of each collection.
    Crash(Vec<u8>),
    /// A crash after which the hash table is gone.
    LoseTable,
    /// Makes the snapshot of this number anew.
    Snapshot(usize),
    Restore(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let names = || prop::collection::vec(0..NAMES, 1..6);
    let records = prop::collection::btree_map(0..NAMES, any::<u8>(), 1..8);
    let torn = prop::collection::vec(any::<u8>(), 0..90);
    let search = (any::<u8>(), 0usize..40, prop::option::of(0u32..9), 0..=FILTERS.len());
    prop_oneof![
        20 => (records, prop::bool::weighted(0.8))
            .prop_map(|(records, sync)| Step::Upsert(records.into_iter().collect(), sync)),
        8 => names().prop_map(Step::Delete),
        1 => (0..FILTERS.len()).prop_map(Step::DeleteMatching),
        40 => search.prop_map(|(center, limit, radius, filter)| {
            Step::Search { center, limit, radius, filter }
        }),
        6 => Just(Step::Checkpoint),
        6 => Just(Step::Compact),
        1 => Just(Step::IndexField),
        5 => Just(Step::Reopen),
        5 => torn.prop_map(Step::Crash),
        1 => Just(Step::LoseTable),
        4 => (0..3usize).prop_map(Step::Snapshot),
        3 => (0..3usize).prop_map(Step::Restore),
    ]
}

/// What a filter says of a name and a seed.
type Passes = fn(u8, u8) -> bool;

/// Filters, and the same in Rust.
const FILTERS: [(&str, Passes); 4] = [
    ("third == 1", |_, seed| seed % 3 == 1),
    ("third >= 1 and not seed < 100", |_, seed| seed % 3 >= 1 && seed >= 100),
    (r#"id in ["3", "7", "21", "nobody"]"#, |name, _| [3, 7, 21].contains(&name)),
    ("odd exists", |_, seed| seed % 2 == 1),
];

fn width() -> Width {
    Width::new(8).unwrap()
}

fn id(name: u8) -> RecordId {
    RecordId::new(name.to_string()).unwrap()
}

/// Few different codes, so that many records share one.
fn code(seed: u8) -> Code {
    Code::from_bytes(width(), &[seed & 0x5b]).unwrap()
}

/// The record of a name and a seed, as it is kept; one of sixteen has no code.
fn record(name: u8, seed: u8) -> Record {
    let odd = if seed % 2 == 1 { r#","odd":[1]"# } else { "" };
    let payload = format!(r#"{{"third":{},"seed":{seed}{odd}}}"#, seed % 3);
    Record {
        id: id(name),
        code: (seed % 16 != 5).then(|| code(seed)),
        payload: Payload::from_json(&payload).unwrap(),
        text: None,
        vector: None,
    }
}

/// What each collection holds: a name and a seed by age.
#[derive(Clone, Default, Debug)]
struct Model {
    records: BTreeMap<u64, (u8, u8)>,
    age: u64,
}

impl Model {
    /// Whether there was one.
    fn delete(&mut self, name: u8) -> bool {
        let before = self.records.len();
        self.records.retain(|_, (other, _)| *other != name);
        self.records.len() < before
    }

    /// Whether one was replaced.
    fn upsert(&mut self, name: u8, seed: u8) -> bool {
        let replaced = self.delete(name);
        self.records.insert(self.age, (name, seed));
        self.age += 1;
        replaced
    }

    /// The linear scan.
    fn search(&self, code: &Code, passes: impl Fn(u8, u8) -> bool) -> Vec<(RecordId, u32)> {
        let records = self.records.values().filter(|(name, seed)| passes(*name, *seed));
        let coded = records.filter_map(|(name, seed)| {
            let record = record(*name, *seed);
            Some((record.id, record.code?.distance(code)))
        });
        let mut hits: Vec<_> = coded.collect();
        // A stable sort: of equal distance the older one comes first.
        hits.sort_by_key(|(_, distance)| *distance);
        hits
    }

    /// Every record by list, by id, by its code and by a filter.
    fn check(&self, collection: &Collection) {
        let all: Vec<_> = self.records.values().map(|(name, seed)| record(*name, *seed)).collect();
        assert_eq!(collection.info().records, all.len() as u64);
        assert_eq!(collection.list(None, usize::MAX).unwrap().records, all);
        let ids: Vec<_> = (0..NAMES + 2).map(id).collect();
        let expected: Vec<_> =
            ids.iter().map(|id| all.iter().find(|record| record.id == *id).cloned()).collect();
        assert_eq!(collection.get(&ids).unwrap(), expected);
        for center in [0, 0xaa] {
            self.compare(collection, &code(center), 1000, None, None);
        }
        for (filter, passes) in FILTERS {
            let matching = self.records.values().filter(|(name, seed)| passes(*name, *seed));
            let filter = Filter::parse(filter).unwrap();
            assert_eq!(collection.count(&filter).unwrap(), matching.count() as u64);
        }
    }

    /// One search, by every plan and by the hash table.
    fn compare(
        &self,
        collection: &Collection,
        code: &Code,
        limit: usize,
        radius: Option<u32>,
        filter: Option<usize>,
    ) {
        let filter = filter.map(|filter| FILTERS[filter]);
        let mut expected =
            self.search(code, |name, seed| filter.is_none_or(|(_, passes)| passes(name, seed)));
        expected.retain(|(_, distance)| radius.is_none_or(|radius| *distance <= radius));
        expected.truncate(limit);
        let found = |hits: Vec<Hit>| -> Vec<_> {
            hits.into_iter().map(|hit| (hit.id, hit.distance)).collect()
        };
        let filter = filter.map(|(filter, _)| Filter::parse(filter).unwrap());
        let search = Search { radius, filter, ..Search::code(code.clone()).limit(limit) };
        for plan in [Plan::Auto, Plan::Scan, Plan::Probe] {
            let hits = collection.search(&search.clone().plan(plan)).unwrap().hits;
            assert_eq!(found(hits), expected, "{}: {plan:?} of {search:?}", collection.name());
        }
        if search.filter.is_none() {
            let hits = collection.lookup(code, radius.unwrap_or(8), limit).unwrap();
            assert_eq!(found(hits), expected, "{}: looked up {search:?}", collection.name());
        }
    }
}

/// A database, and what it should be.
struct History {
    root: TempDir,
    /// How many directories it had.
    moves: u32,
    database: Option<Database>,
    model: Model,
    /// What each snapshot holds.
    snapshots: BTreeMap<usize, Model>,
}

impl History {
    fn begin() -> Self {
        let (root, model, snapshots) = (directory(), Model::default(), BTreeMap::new());
        let mut history = Self { root, moves: 0, database: None, model, snapshots };
        history.open();
        for (name, index) in PLACES {
            let settings = CollectionSettings::new(EncoderSpec::Codes { width: width() });
            let settings = CollectionSettings { index, ..settings };
            history.database().create_collection(name, &settings).unwrap();
        }
        history
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join(self.moves.to_string())
    }

    fn open(&mut self) {
        self.database = Some(Database::open(self.dir()).unwrap());
    }

    fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    fn both(&self) -> [Collection; 2] {
        PLACES.map(|(name, _)| self.database().collection(name).unwrap())
    }

    /// Goes on, not yet open, from a copy of what stands in the directory now.
    fn crash(&mut self) {
        let old = self.dir();
        self.moves += 1;
        copy(&old, &self.dir());
        self.database = None;
        fs::remove_dir_all(old).unwrap();
    }

    /// The last that a collection's MANIFEST names is open; the others are never torn.
    fn open_segment(&self, collection: &str) -> PathBuf {
        let dir = self.dir().join("collections").join(collection);
        let mut last = String::new();
        inspect(&dir.join("MANIFEST"), &mut |item| last = item.detail).unwrap();
        let number = last.split([' ', ':']).nth(1).unwrap();
        dir.join("segments").join(format!("{number:0>8}.seg"))
    }

    fn check(&self) {
        self.both().iter().for_each(|collection| self.model.check(collection));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Upsert(records, sync) => {
                let new = |(name, seed): &(u8, u8)| {
                    let Record { code, payload, .. } = record(*name, *seed);
                    let record = NewRecord { source: None, ..NewRecord::code(self::code(0)) };
                    let record = code.map_or(record, NewRecord::code);
                    record.with_id(name.to_string()).unwrap().with_payload(payload)
                };
                let durability = match sync {
                    true => Durability::Sync,
                    // Longer than any test takes.
                    false => Durability::interval(Durability::MAX_INTERVAL_MS).unwrap(),
                };
                let expected: Vec<_> =
                    records.iter().map(|(name, seed)| self.model.upsert(*name, *seed)).collect();
                for collection in self.both() {
                    let written =
                        collection.upsert_with(records.iter().map(new).collect(), durability);
                    let replaced = written.unwrap().into_iter().map(|written| written.replaced);
                    assert_eq!(replaced.collect::<Vec<_>>(), expected);
                }
            }
            Step::Delete(names) => {
                let ids: Vec<_> = names.iter().map(|name| id(*name)).collect();
                let expected: Vec<_> = names.iter().map(|name| self.model.delete(*name)).collect();
                for collection in self.both() {
                    assert_eq!(collection.delete(&ids).unwrap(), expected);
                }
            }
            Step::DeleteMatching(filter) => {
                let (filter, passes) = FILTERS[*filter];
                let before = self.model.records.len();
                self.model.records.retain(|_, (name, seed)| !passes(*name, *seed));
                let expected = (before - self.model.records.len()) as u64;
                let filter = Filter::parse(filter).unwrap();
                for collection in self.both() {
                    assert_eq!(collection.delete_matching(&filter).unwrap(), expected);
                }
            }
            Step::Search { center, limit, radius, filter } => {
                let filter = Some(*filter).filter(|filter| *filter < FILTERS.len());
                for collection in self.both() {
                    self.model.compare(&collection, &code(*center), *limit, *radius, filter);
                }
            }
            Step::Checkpoint => self.both().iter().for_each(|c| c.checkpoint().unwrap()),
            Step::Compact => self.both().iter().for_each(|c| _ = c.compact().unwrap()),
            Step::IndexField => self.both().iter().for_each(|collection| {
                collection.index_field("third".parse().unwrap()).unwrap();
            }),
            Step::Reopen => {
                self.database = None;
                self.open();
            }
            Step::Crash(torn) => {
                self.crash();
                for (name, _) in PLACES {
                    let mut file = fs::OpenOptions::new();
                    let mut file = file.append(true).open(self.open_segment(name)).unwrap();
                    std::io::Write::write_all(&mut file, torn).unwrap();
                }
                self.open();
            }
            Step::LoseTable => {
                self.crash();
                fs::remove_dir_all(self.dir().join("table")).unwrap();
                self.open();
            }
            Step::Snapshot(number) => {
                let name = format!("s{number}");
                if self.snapshots.insert(*number, self.model.clone()).is_some() {
                    self.database().delete_snapshot(&name).unwrap();
                }
                let made = self.database().create_snapshot(&name).unwrap();
                assert_eq!(made.records, 2 * self.model.records.len() as u64);
                assert_eq!(verify_snapshot(&made.dir).unwrap(), []);
                assert_eq!(list_snapshots(&self.dir()).unwrap().len(), self.snapshots.len());
            }
            Step::Restore(number) => {
                let Some(model) = self.snapshots.get(number) else { return };
                self.model = model.clone();
                self.database = None;
                let from = find_snapshot(&self.dir(), &format!("s{number}")).unwrap();
                restore(&self.dir(), &from, true).unwrap();
                self.open();
            }
        }
        if !matches!(step, Step::Search { .. }) {
            self.check();
        }
    }
}

#[test]
fn it_is_a_map_and_a_linear_scan() {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u32>().unwrap());
    let (cases, seed) = (number("NEARBIT_CASES"), number("NEARBIT_SEED").unwrap_or(0));
    let steps = if cases.is_some() { 100..=100 } else { 1..=40 };
    let config = Config {
        cases: cases.unwrap_or(20),
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let seed = [seed; 8].map(u32::to_le_bytes).concat();
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let result = runner.run(&prop::collection::vec(step(), steps), |steps| {
        let mut history = History::begin();
        steps.iter().for_each(|step| history.step(step));
        history.step(&Step::Reopen);
        let report = history.database().check().unwrap();
        prop_assert!(report.findings.is_empty(), "{:?}", report.findings);
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}
