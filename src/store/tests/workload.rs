//! A random workload on a medium that remembers, and what may be found after a crash at any moment
//! of it.

use std::io::ErrorKind;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::Durability;
use super::super::files::recorder::{Fault, Recorder, Which};
use super::*;

/// Names of records; few, so that they are replaced and deleted often.
const NAMES: u64 = 12;

/// The seeds to run: `short` many; as many as `NEARBIT_SEEDS` says; the one that `NEARBIT_SEED`
/// names.
pub(super) fn seeds(short: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    match (number("NEARBIT_SEED"), number("NEARBIT_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(short),
    }
}

/// Checks each seed, with a table of its own, for what sled forgets still takes room; names the
/// one that fails.
pub(super) fn each_seed(
    seeds: std::ops::Range<u64>,
    check: impl Fn(u64, &Table) -> Result<()>,
) -> Result<()> {
    for seed in seeds {
        let mut place = Place::new(SMALL)?;
        let table = place.table()?;
        let check = std::panic::AssertUnwindSafe(|| check(seed, &table));
        match std::panic::catch_unwind(check) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("NEARBIT_SEED={seed} fails: {error}"),
            Err(_) => panic!("NEARBIT_SEED={seed} fails"),
        }
    }
    Ok(())
}

/// A state of the collection, and when it may be what a crash leaves: from the moment its group
/// was begun until the moment a later one is certain.
#[derive(Debug)]
struct Version {
    model: Model,
    begun: usize,
    over: usize,
}

/// A collection under a random workload.
pub(super) struct Workload {
    pub(super) recorder: Recorder,
    pub(super) place: Place,
    pub(super) rng: ChaCha8Rng,
    versions: Vec<Version>,
    /// When it was certain that the collection exists.
    created: usize,
}

impl Workload {
    /// Makes a collection; all that follows comes from the seed.
    pub(super) fn new(seed: u64, table: Table) -> Result<(Self, Store)> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let recorder = Recorder::default();
        let limits = Limits {
            // Now and then a segment for every few groups, and now and then one for all.
            segment_bytes: [300, 900, 1 << 20][rng.random_range(0..3)],
            // A checkpoint runs when a step says so, so that a seed tells the same story again.
            checkpoint_records: u64::MAX / 8,
            hash_mask: [3, u64::MAX][rng.random_range(0..2)],
            // Few groups are small enough for the first.
            ahead_bytes: [0, 900, 3000][rng.random_range(0..3)],
            ..SMALL
        };
        let mut place = Place::on(Files::on(recorder.clone()), limits)?;
        place.table = Some(table);
        let store = place.create(64)?;
        let created = recorder.now();
        let empty = Version { model: Model::default(), begun: 0, over: usize::MAX };
        Ok((Self { recorder, place, rng, versions: vec![empty], created }, store))
    }

    /// The state that is certain now.
    pub(super) fn model(&self) -> &Model {
        let current = self.versions.iter().rfind(|version| version.over == usize::MAX);
        &current.expect("there is always a state").model
    }

    /// A random group, and the state after it.
    pub(super) fn group(&mut self) -> (Vec<Operation>, Model) {
        let count = self.rng.random_range(1..6);
        let operations: Vec<_> = (0..count).map(|_| operation(&mut self.rng)).collect();
        let mut after = self.model().clone();
        for operation in &operations {
            after.apply(operation);
        }
        (operations, after)
    }

    /// Notes that a group is begun, which leads to this state.
    pub(super) fn begin(&mut self, model: Model) {
        // Not yet certain, so never the current one.
        let version = Version { model, begun: self.recorder.now(), over: usize::MAX - 1 };
        self.versions.push(version);
    }

    /// Notes that the state after the group that was begun is certain from now on.
    pub(super) fn acknowledge(&mut self) {
        let now = self.recorder.now();
        self.versions.iter_mut().for_each(|version| version.over = version.over.min(now));
        if let Some(version) = self.versions.last_mut() {
            version.over = usize::MAX;
        }
    }

    /// Notes that the group that was begun is done, and that a power cut may still take it, and what
    /// came before it since the last sync.
    fn acknowledge_unsynced(&mut self) {
        if let Some(version) = self.versions.last_mut() {
            version.over = usize::MAX;
        }
    }

    /// Notes that the current state is certain.
    fn settle(&mut self) {
        let now = self.recorder.now();
        let current = self.versions.iter().rposition(|version| version.over == usize::MAX);
        for (i, version) in self.versions.iter_mut().enumerate() {
            if Some(i) != current {
                version.over = version.over.min(now);
            }
        }
    }

    /// Notes what became of the group that was begun, after the store was opened again.
    pub(super) fn resolve(&mut self, store: &Store) -> Result<()> {
        let (listed, next) = (store.list(None, usize::MAX)?, live_next(store));
        // Whether a group was written of which no record stays, the next number tells.
        let is_there = |model: &Model| model.next == next && model.holds(&listed);
        let begun = self.versions.last().filter(|version| version.over == usize::MAX - 1);
        if begun.is_some_and(|version| is_there(&version.model)) {
            self.acknowledge();
        } else {
            assert!(is_there(self.model()), "after a reopening: next {next}, {listed:?}");
            self.settle();
        }
        Ok(())
    }

    /// One random step; `store` is none after the process was killed.
    pub(super) fn step(&mut self, store: &mut Option<Store>) -> Result<()> {
        let Some(open) = store else {
            let (opened, live) = self.place.open()?;
            self.resolve(&opened)?;
            self.model().check_live(&live);
            *store = Some(opened);
            return Ok(());
        };
        match self.rng.random_range(0..12) {
            0 => open.checkpoint()?,
            3 | 4 => compact(open, &mut self.rng)?,
            1 => {
                drop(store.take());
            }
            // Killed at some operation of a group, of a checkpoint, of a compaction or of a
            // reopening.
            2 => {
                let at = self.recorder.operations() + self.rng.random_range(0..16);
                let fault = Fault { at, which: Which::AllFrom, error: ErrorKind::Other };
                self.recorder.set_fault(Some(fault));
                match self.rng.random_range(0..5) {
                    0 => drop(open.checkpoint()),
                    1 | 2 => drop(compact(open, &mut self.rng)),
                    3 => {
                        let (operations, after) = self.group();
                        self.begin(after);
                        if open.commit(operations).is_ok() {
                            self.acknowledge();
                        }
                    }
                    _ => {
                        crash(store.take().expect("it is open"));
                        if let Ok((opened, _)) = self.place.open() {
                            crash(opened);
                        }
                    }
                }
                store.take().into_iter().for_each(crash);
                self.recorder.set_fault(None);
            }
            5 | 6 => {
                let (operations, after) = self.group();
                self.begin(after);
                // Longer than any test takes: so that a seed tells the same story again.
                let later = Durability::interval(Durability::MAX_INTERVAL_MS)?;
                open.commit_with(operations, later)?;
                self.acknowledge_unsynced();
            }
            _ => {
                let (operations, after) = self.group();
                self.begin(after);
                open.commit(operations)?;
                self.acknowledge();
            }
        }
        Ok(())
    }

    /// Opens what a crash at the moment `end` left in `files` and compares it with what may be
    /// there; then goes on with it, and opens it once more.
    pub(super) fn check_image(&self, files: &Files, end: usize, rng: &mut impl Rng) -> Result<()> {
        let dir = self.place.collection();
        let Some(table) = &self.place.table else { return Err(Error::Interrupted) };
        let open = || Store::open_on(files, &dir, table, self.place.limits);
        if !files.exists(&dir.join("MANIFEST"))? {
            assert!(end < self.created, "the collection is gone");
            if files.exists(&dir)? {
                Store::remove_on(files, &dir, table)?;
            }
            let width = Width::new(64)?;
            let store = Store::create_on(
                files,
                &dir,
                self.place.version,
                b"settings",
                width,
                table,
                self.place.limits,
            )?;
            assert!(store.is_empty());
            crash(store);
        }
        let (store, live) = open()?;
        let listed = store.list(None, usize::MAX)?;
        let allowed = |version: &&Version| (version.begun..version.over).contains(&end);
        let found = self.versions.iter().filter(allowed).find(|v| v.model.holds(&listed));
        let Some(found) = found else {
            let allowed: Vec<_> =
                self.versions.iter().filter(allowed).map(|v| &v.model.records).collect();
            panic!("found {listed:#?}\nwhere one of these was to be: {allowed:#?}");
        };
        let mut model = found.model.clone();
        model.check_live(&live);
        if rng.random_range(0..8) == 0 {
            model.check(&store, (0..NAMES).map(id))?;
        }
        model.next = live_next(&store);
        for _ in 0..rng.random_range(0..3) {
            let operations: Vec<_> = (0..3).map(|_| operation(rng)).collect();
            let expected: Vec<_> = operations.iter().map(|o| model.apply(o)).collect();
            assert_eq!(store.commit(operations)?, expected);
        }
        if rng.random_range(0..4) == 0 {
            store.checkpoint()?;
        }
        if rng.random_range(0..4) == 0 {
            compact(&store, rng)?;
        }
        crash(store);
        let (store, live) = open()?;
        assert!(model.holds(&store.list(None, usize::MAX)?), "after it went on");
        model.check_live(&live);
        crash(store);
        Ok(())
    }
}

/// Compacts all that is worth it, or some neighbours, whether they are worth it or not.
fn compact(store: &Store, rng: &mut impl Rng) -> Result<()> {
    match rng.random_bool(0.5) {
        true => store.compact(|| Ok(())).map(|_| ()),
        false => compact_some(store, rng),
    }
}

/// Compacts some neighbours, without sealing the open segment.
pub(super) fn compact_some(store: &Store, rng: &mut impl Rng) -> Result<()> {
    let sealed = store.shared.state().segments.sealed().len();
    if sealed == 0 {
        return Ok(());
    }
    let start = rng.random_range(0..sealed);
    store.compact_only(start..rng.random_range(start..sealed.min(start + 3)) + 1)
}

/// The number that the next record gets.
fn live_next(store: &Store) -> u64 {
    store.shared.state().segments.next()
}

/// A random operation.
fn operation(rng: &mut impl Rng) -> Operation {
    let name = rng.random_range(0..NAMES);
    if rng.random_range(0..4) == 0 {
        return Operation::Delete(id(name));
    }
    let code = code(Width::new(64).expect("64 bits is a width"), rng.random_range(0..16));
    let text = rng.random_bool(0.3).then(|| "moon ".repeat(rng.random_range(0..120)));
    put(Record { text, ..record(name, Some(code)) })
}

impl Model {
    /// Whether these are its records.
    pub(super) fn holds(&self, listed: &[(u64, Record)]) -> bool {
        listed.iter().map(|(number, record)| (number, record)).eq(self.records.iter())
    }
}
