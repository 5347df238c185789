//! The store as a whole, against a map and a linear scan, and against damage.

mod ahead;
mod closed;
mod compact;
mod crash;
mod damage;
mod durability;
mod failure;
mod fault;
mod fuzz;
mod model;
mod repair;
mod scrub;
mod table;
mod together;
mod workload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::files::Files;
use super::manifest::Manifest;
use super::segment::Segment;
use super::{
    FORMAT_VERSION, Limits, Live, Nearby, Operation, Outcome, Precision, Store, Table, Way,
};
use crate::code::{Code, Width};
use crate::error::{Error, Result};
use crate::record::{Payload, Record, RecordId};

/// Small limits, so that a few records make segments roll, checkpoints run and hashes collide.
/// Compaction is left to the tests that ask for it.
const SMALL: Limits = Limits {
    segment_bytes: 700,
    group_bytes: 4096,
    checkpoint_records: 8,
    hash_mask: 3,
    spare_bytes: u64::MAX / 8,
    ahead_bytes: 0,
    look_ups: 200,
    hits: 1000,
    closed_records: 0,
};

/// A directory in memory where there is room for it: a sync then takes no time.
fn directory() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    if room > 4 << 30 { TempDir::new_in(memory) } else { TempDir::new() }
}

/// A data directory with one collection.
struct Place {
    dir: TempDir,
    table: Option<Table>,
    limits: Limits,
    files: Files,
    /// The format that `create` uses.
    version: u32,
}

impl Place {
    fn new(limits: Limits) -> Result<Self> {
        Self::on(Files::disk(), limits)
    }

    /// The collection is on `files`; the table is always in a real directory.
    fn on(files: Files, limits: Limits) -> Result<Self> {
        let dir = directory().map_err(Error::io("create", "a directory for a test"))?;
        Ok(Self { dir, table: None, limits, files, version: FORMAT_VERSION })
    }

    fn table(&mut self) -> Result<Table> {
        if self.table.is_none() {
            self.table = Some(Table::open(&self.dir.path().join("table"))?);
        }
        self.table.clone().ok_or(Error::Interrupted)
    }

    fn collection(&self) -> PathBuf {
        self.dir.path().join("collections/c")
    }

    fn create(&mut self, width: usize) -> Result<Store> {
        let (dir, table) = (self.collection(), self.table()?);
        let width = Width::new(width)?;
        let (files, version, limits) = (&self.files, self.version, self.limits);
        Store::create_on(files, &dir, version, b"settings", width, &table, limits)
    }

    fn open(&mut self) -> Result<(Store, Live)> {
        let table = self.table()?;
        Store::open_on(&self.files, &self.collection(), &table, self.limits)
    }

    fn open_lean(&mut self) -> Result<Store> {
        let table = self.table()?;
        Store::open_lean_on(&self.files, &self.collection(), &table, self.limits)
    }

    /// The file of the segment that is written to.
    fn last_segment(&self) -> Result<PathBuf> {
        let dir = self.collection();
        let segments = Manifest::read(&self.files, &dir)?.segments;
        let last = segments.last().ok_or(Error::Interrupted)?;
        Ok(Segment::path(&dir, last.segment))
    }
}

/// Drops a store as a killed process would: without a last checkpoint.
fn crash(store: Store) {
    store.join_background();
    store.shared.poison("the test stops here");
}

fn id(name: impl ToString) -> RecordId {
    RecordId::new(name.to_string()).unwrap_or_else(|_| RecordId::generate())
}

/// Names that make ids of every form: numbers, UUIDs and others.
fn name(n: u64) -> String {
    match n % 3 {
        0 => n.to_string(),
        1 => format!("0199e3c4-0000-7000-8000-{n:012x}"),
        _ => format!("name {n}"),
    }
}

/// A record of a code and perhaps more.
fn record(name: impl ToString, code: Option<Code>) -> Record {
    Record { id: id(name), code, payload: Payload::default(), text: None, vector: None }
}

fn put(record: Record) -> Operation {
    Operation::Put { record, vectors: Precision::F32 }
}

fn code(width: Width, value: u64) -> Code {
    let mut code = Code::zero(width);
    (0..width.bits().min(64)).filter(|i| value >> i & 1 == 1).for_each(|i| code.flip(i));
    code
}

/// Puts `count` records of a code each, named by their number, one commit each.
fn put_singly(store: &Store, names: std::ops::Range<u64>) -> Result<()> {
    for name in names {
        let operation = put(record(name, Some(code(store.width(), name))));
        store.commit(vec![operation])?;
    }
    Ok(())
}

/// What a store should hold: the oracle.
#[derive(Clone, Default, Debug)]
struct Model {
    records: BTreeMap<u64, Record>,
    next: u64,
}

impl Model {
    fn number_of(&self, id: &RecordId) -> Option<u64> {
        self.records.iter().find(|(_, record)| record.id == *id).map(|(number, _)| *number)
    }

    fn apply(&mut self, operation: &Operation) -> Outcome {
        match operation {
            Operation::Delete(id) => match self.number_of(id) {
                None => Outcome::Missing,
                Some(old) => {
                    self.records.remove(&old);
                    Outcome::Deleted(old)
                }
            },
            Operation::Put { record, .. } => {
                let (new, old) = (self.next, self.number_of(&record.id));
                self.next += 1;
                self.records.insert(new, record.clone());
                match old {
                    None => Outcome::Inserted(new),
                    Some(old) => {
                        self.records.remove(&old);
                        Outcome::Replaced { new, old }
                    }
                }
            }
        }
    }

    fn within(&self, code: &Code, radius: u32, limit: usize) -> Vec<(u64, u32)> {
        let coded = self.records.iter().filter_map(|(n, r)| Some((*n, r.code.as_ref()?)));
        let mut hits: Vec<_> = coded.map(|(n, other)| (n, code.distance(other))).collect();
        hits.retain(|(_, distance)| *distance <= radius);
        hits.sort_by_key(|(number, distance)| (*distance, *number));
        hits.truncate(limit);
        hits
    }

    /// Compares everything that a store says.
    fn check(&self, store: &Store, names: impl Iterator<Item = RecordId>) -> Result<()> {
        assert_eq!(store.len(), self.records.len() as u64);
        let listed: Vec<_> = self.records.iter().map(|(n, r)| (*n, r.clone())).collect();
        assert_eq!(store.list(None, usize::MAX)?, listed);
        let numbers: Vec<u64> = self.records.keys().copied().collect();
        assert_eq!(store.live(0..self.next + 3, self.next + 3), numbers);
        assert!(numbers.last().is_none_or(|last| *last < store.next_number()));
        let mut asked: Vec<u64> = numbers.into_iter().rev().collect();
        asked.push(self.next + 3);
        for payloads in [false, true] {
            let head = |r: &Record| (r.id.clone(), payloads.then(|| r.payload.clone()));
            let expected: Vec<_> = asked.iter().map(|n| self.records.get(n).map(head)).collect();
            assert_eq!(store.heads(&asked, payloads)?, expected);
        }
        for name in names {
            let expected = self.number_of(&name).map(|n| (n, self.records[&n].clone()));
            assert_eq!(store.get(&name)?, expected, "{name}");
        }
        for center in [0, 0b11, 0b1011_0110] {
            let center = code(store.width(), center);
            for (radius, limit) in [(0, 100), (1, 100), (3, 2), (2000, 5), (2000, 100), (9, 0)] {
                let expected = self.within(&center, radius, limit);
                for way in [Way::Auto, Way::Rings, Way::Scan] {
                    let (code, only, deadline) = (&center, &|_| true, None);
                    let radius = Some(radius).filter(|radius| *radius < 2000);
                    let near = store.nearest(&Nearby { code, limit, radius, only, way, deadline });
                    if way == Way::Rings && matches!(near, Err(Error::Exhausted { .. })) {
                        continue;
                    }
                    assert_eq!(near?.hits, expected, "{way:?} {radius:?} of {code}, {limit}");
                }
            }
            let even = |number: u64| number.is_multiple_of(2);
            let (code, radius, only) = (&center, None, &even);
            let (limit, way, deadline) = (3, Way::Auto, None);
            let near = store.nearest(&Nearby { code, limit, radius, only, way, deadline })?;
            let mut expected = self.within(&center, 2000, usize::MAX);
            expected.retain(|(number, _)| even(*number));
            expected.truncate(limit);
            assert_eq!(near.hits, expected);
        }
        Ok(())
    }

    fn check_live(&self, live: &Live) {
        let expected: Vec<_> =
            self.records.iter().filter_map(|(n, r)| Some((*n, r.code.clone()?))).collect();
        assert_eq!(live.numbers, expected.iter().map(|(n, _)| *n).collect::<Vec<_>>());
        let codes: Vec<_> = (0..live.codes.len()).map(|row| live.codes.get(row)).collect();
        assert_eq!(codes, expected.into_iter().map(|(_, code)| code).collect::<Vec<_>>());
    }
}
