//! Compaction: what it must keep and may leave out, the room that it gives back, who reads and
//! writes meanwhile, and what it does with damage.

use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;

use super::super::files::memory::Memory;
use super::super::format::{GROUP_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use super::super::lock_mutex;
use super::*;

/// Small segments, and ids that differ in their hashes.
const LIMITS: Limits = Limits { hash_mask: u64::MAX, checkpoint_records: 100_000, ..SMALL };

impl Store {
    /// Compacts these segments, counted from the oldest.
    pub(super) fn compact_only(&self, range: std::ops::Range<usize>) -> Result<()> {
        let _alone = lock_mutex(&self.shared.compacting);
        self.shared.compact_range(range, &|| Ok(())).map(|_| ())
    }

    /// Goes on with a new segment.
    fn seal(&self) -> Result<()> {
        let _writer = lock_mutex(&self.shared.writer);
        self.shared.roll()
    }

    /// How many bytes the groups of each segment have.
    fn group_bytes(&self) -> Vec<u64> {
        self.shared.state().segments.iter().map(|segment| segment.length - 52).collect()
    }
}

fn commit(store: &Store, model: &mut Model, operations: Vec<Operation>) -> Result<()> {
    let expected: Vec<_> = operations.iter().map(|operation| model.apply(operation)).collect();
    assert_eq!(store.commit(operations)?, expected);
    Ok(())
}

fn put_code(store: &Store, name: impl ToString, value: u64) -> Operation {
    put(record(name, Some(code(store.width(), value))))
}

/// Three segments, each with its own version of one record, which is deleted in a fourth.
fn versions_of_one_record() -> Result<(Place, Store, Model)> {
    let mut place = Place::new(LIMITS)?;
    let store = place.create(64)?;
    let mut model = Model::default();
    for round in 0..3 {
        let operations =
            vec![put_code(&store, format!("stays {round}"), round), put_code(&store, "x", round)];
        commit(&store, &mut model, operations)?;
        store.seal()?;
    }
    commit(&store, &mut model, vec![Operation::Delete(id("x"))])?;
    store.seal()?;
    Ok((place, store, model))
}

fn check_reopened(mut place: Place, store: Store, model: &Model) -> Result<(Place, Store)> {
    let names = || ["x", "stays 0", "stays 1", "stays 2"].into_iter().map(id);
    model.check(&store, names())?;
    crash(store);
    let (store, live) = place.open()?;
    model.check_live(&live);
    model.check(&store, names())?;
    Ok((place, store))
}

#[test]
fn a_death_is_kept_as_long_as_the_dead_stands() -> Result<()> {
    // In every order of the four segments, each followed by a crash.
    for order in 0..24 {
        let (mut place, mut store, model) = versions_of_one_record()?;
        let mut left: Vec<u64> = vec![1, 2, 3, 4];
        let mut rest = order;
        while !left.is_empty() {
            let next = left.remove(rest % left.len());
            rest /= left.len() + 1;
            let find = |store: &Store| {
                let state = store.shared.state();
                // By its first number, as the names of segments change.
                state.segments.sealed().iter().position(|s| s.header.first == (next - 1) * 2)
            };
            if let Some(index) = find(&store) {
                store.compact_only(index..index + 1)?;
            }
            (place, store) = check_reopened(place, store, &model)?;
        }
        // Each put says who was before it, which is needed by nobody now.
        store.compact(|| Ok(()))?;
        let (_place, store) = check_reopened(place, store, &model)?;
        assert_eq!(store.stats().dead, 0);
    }
    Ok(())
}

#[test]
fn a_delete_goes_once_its_record_is_gone() -> Result<()> {
    let (_place, store, _) = versions_of_one_record()?;
    // The delete of x is all that the fourth segment holds, and x stands in the third.
    let before = store.group_bytes();
    store.compact_only(3..4)?;
    assert_eq!(store.group_bytes()[3], before[3]);
    assert_eq!(store.shared.state().segments.sealed()[3].spare_bytes(|_| true), 40, "a header");
    store.compact_only(2..3)?;
    // In the place of the version of x in the third stands the word that the second died.
    assert!(store.group_bytes()[2] < before[2]);
    store.compact_only(3..4)?;
    let state = store.shared.state();
    let sealed: Vec<u64> = state.segments.sealed().iter().map(|s| s.header.first).collect();
    assert_eq!(sealed, [0, 2, 4], "nothing was left of the fourth");
    Ok(())
}

#[test]
fn on_demand_all_room_comes_back_and_small_neighbours_become_one() -> Result<()> {
    let mut place = Place::new(Limits { segment_bytes: 10_000, ..LIMITS })?;
    let store = place.create(64)?;
    let mut model = Model::default();
    for round in 0..60u64 {
        let operations = (0..20).map(|name| put_code(&store, name, round * 20 + name)).collect();
        commit(&store, &mut model, operations)?;
    }
    let before = store.stats();
    assert!(before.segments > 2 && before.dead == 59 * 20);
    let files = |place: &Place| place.files.list(&place.collection().join("segments"));
    let done = store.compact(|| Ok(()))?;
    let after = store.stats();
    assert_eq!((done.bytes_before, done.bytes_after), (before.segment_bytes, after.segment_bytes));
    assert_eq!((done.segments_before, done.segments_after), (before.segments, 2));
    assert_eq!((after.dead, after.left_alone), (0, Vec::new()));
    assert_eq!(files(&place)?.len(), 2, "one segment and the open one");
    // Twenty records of 8 bytes of code, 3 of id and 11 or 12 more; three headers.
    assert!(done.bytes_after < 20 * 24 + 2 * 52 + 40, "{done:?}");
    assert_eq!(store.compact(|| Ok(()))?.bytes_before, done.bytes_after, "nothing is left to do");
    model.check(&store, (0..20).map(id))?;
    crash(store);
    let (store, live) = place.open()?;
    model.check_live(&live);
    model.check(&store, (0..20).map(id))?;
    // Deleted, and then nothing is left.
    let all = (0..20).map(|name| Operation::Delete(id(name))).collect();
    commit(&store, &mut model, all)?;
    store.compact(|| Ok(()))?;
    assert_eq!((store.stats().segments, store.stats().segment_bytes), (1, 52));
    drop(store);
    let (store, live) = place.open()?;
    model.check_live(&live);
    commit(&store, &mut model, vec![put_code(&store, "after", 7)])?;
    model.check(&store, [id("after"), id(3)].into_iter())
}

/// The promise: at most 1.5 times the bytes of the live records, by itself.
#[test]
fn overwriting_the_same_ids_for_ever_takes_half_as_much_room_again() -> Result<()> {
    const IDS: u64 = 10_000;
    let limits =
        Limits { segment_bytes: 64 << 10, group_bytes: 32 << 10, spare_bytes: 16 << 10, ..LIMITS };
    let mut place = Place::new(limits)?;
    let store = place.create(64)?;
    let mut random = 11u64;
    let mut worst: f64 = 0.0;
    for round in 0..800u64 {
        let operations = (0..200)
            .map(|i| {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                // At first each once, so that all are there; then some more often than others.
                let name = if round < 50 { round * 200 + i } else { random >> 33 & random >> 48 };
                put_code(&store, name % IDS, random)
            })
            .collect();
        store.commit(operations)?;
        if round % 25 == 24 {
            store.shared.compactor.join();
            let stats = store.stats();
            let segments = place.files.list(&place.collection().join("segments"))?;
            let len = |path: &PathBuf| fs::metadata(path).map(|file| file.len()).unwrap_or(0);
            let on_disk: u64 = segments.iter().map(len).sum();
            assert_eq!(on_disk, stats.segment_bytes, "no file is forgotten");
            worst = worst.max(on_disk as f64 / stats.live_bytes as f64);
        }
    }
    let stats = store.stats();
    assert_eq!(stats.records, IDS);
    assert!(worst <= 1.5, "{worst} times the live bytes: {stats:?}");
    assert!(stats.segments <= 2 * SMALL_FILES * stats.live_bytes / limits.segment_bytes + 2);
    // `live_bytes` is about what the same records take when they are written at once.
    let mut other = Place::new(Limits { segment_bytes: 64 << 20, ..limits })?;
    let copy = other.create(64)?;
    for page in store.list(None, usize::MAX)?.chunks(400) {
        copy.commit(page.iter().map(|(_, record)| put(record.clone())).collect())?;
    }
    let anew = copy.stats().segment_bytes as f64;
    assert!((stats.live_bytes as f64 / anew - 1.0).abs() < 0.1, "{anew}: {stats:?}");
    Ok(())
}

/// What is copied stands twice until its old files are gone, and that has to be within the bound too.
#[test]
fn a_copy_under_way_takes_a_small_part_of_what_may_be_spare() -> Result<()> {
    // What may be spare is the same for the first, and a share of what lives for the second.
    for (ids, spare_bytes, full) in [(2_000, 32 << 10, 64 << 10), (10_000, 1 << 10, 64 << 10)] {
        let memory = Memory::default();
        let limits =
            Limits { segment_bytes: full, group_bytes: full as usize, spare_bytes, ..LIMITS };
        let mut place = Place::on(Files::on(memory.clone()), limits)?;
        let store = place.create(64)?;
        let (mut random, mut live) = (3u64, 0);
        for round in 0..ids / 5 {
            let operations = (0..20).map(|i| {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let all_are_there = round * 20 >= ids;
                let name = if all_are_there { random >> 33 } else { round * 20 + i };
                put_code(&store, name % ids, random)
            });
            store.commit(operations.collect())?;
            // Its victims are gone before the next write, so that no more than was due is spare.
            store.shared.compactor.join();
            live = live.max(store.stats().live_bytes);
        }
        let spare = store.shared.spare_allowed(&store.shared.state().segments);
        // The open segment, and the copy; a group more of each, and the headers of all.
        let most = live + spare + 2 * (spare / 4) + live / 32 + 5_000;
        assert!(memory.most_bytes() > live + spare, "compacted: {:?}", store.stats());
        let got = memory.most_bytes();
        assert!(got <= most, "{got} bytes, expected {most} at most: {:?}", store.stats());
    }
    Ok(())
}

/// Neighbours become one as long as they hold no more than this part of a full segment.
const SMALL_FILES: u64 = 8;

#[test]
fn who_holds_reads_on_and_nobody_else() -> Result<()> {
    let (place, store, _) = versions_of_one_record()?;
    let x = store.read(5)?;
    assert!(x.is_some(), "dead, and its bytes are there");
    let early = store.hold();
    store.compact(|| Ok(()))?;
    let late = store.hold();
    assert_eq!(place.files.list(&place.collection().join("segments"))?.len(), 2);
    assert_eq!(store.read(5)?, x);
    drop(late);
    assert_eq!(store.read(5)?, x);
    assert_eq!(store.heads(&[5], false)?, [x.map(|x| (x.id, None))]);
    drop(early);
    assert_eq!(store.read(5)?, None);
    assert_eq!(store.heads(&[5], false)?, [None]);
    Ok(())
}

#[test]
fn readers_and_writers_go_on_while_segments_are_replaced() -> Result<()> {
    let limits = Limits { spare_bytes: 500, checkpoint_records: 40, hash_mask: 15, ..SMALL };
    let mut place = Place::new(limits)?;
    let store = place.create(64)?;
    put_singly(&store, 0..30)?;
    let width = store.width();
    let done = AtomicBool::new(false);
    let read = || -> Result<()> {
        while !done.load(Acquire) {
            let _hold = store.hold();
            let near = store.within(&code(width, 0), 64, 99)?;
            assert_eq!(near.len(), 30);
            for (number, _) in near {
                assert!(store.read(number)?.is_some(), "{number}");
            }
            for name in 0..30u64 {
                let found = store.get(&id(name))?;
                assert_eq!(found.and_then(|(_, record)| record.code), Some(code(width, name)));
            }
            // One that is replaced meanwhile may be listed in both forms.
            assert!(store.list(None, usize::MAX)?.len() >= 30);
        }
        Ok(())
    };
    let compact = || -> Result<()> {
        while !done.load(Acquire) {
            store.compact(|| Ok(()))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads = [scope.spawn(read), scope.spawn(read), scope.spawn(compact)];
        let written = (0..40).try_for_each(|_| put_singly(&store, 0..30));
        done.store(true, Release);
        threads.into_iter().try_for_each(|t| t.join().unwrap_or(Err(Error::Interrupted)))?;
        written
    })?;
    let numbers = store.live([], 0);
    assert_eq!(numbers.len(), 30);
    crash(store);
    assert_eq!(place.open()?.1.numbers, numbers);
    Ok(())
}

/// One that is asked to stop has changed nothing, and leaves nothing.
#[test]
fn it_can_be_given_up() -> Result<()> {
    let (place, store, model) = versions_of_one_record()?;
    let before = store.stats();
    assert!(matches!(store.compact(|| Err(Error::Timeout)), Err(Error::Timeout)));
    assert_eq!(store.stats(), before);
    let segments = place.files.list(&place.collection().join("segments"))?;
    assert_eq!(segments.len() as u64, before.segments);
    check_reopened(place, store, &model).map(|_| ())
}

#[test]
fn a_damaged_segment_is_left_alone_with_a_reason() -> Result<()> {
    let (mut place, store, model) = versions_of_one_record()?;
    let damaged = place.collection().join("segments/00000002.seg");
    let mut bytes = place.files.read(&damaged, 1 << 20)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&damaged, &bytes).map_err(Error::io("write", &damaged))?;
    let done = store.compact(|| Ok(()))?;
    let [left] = &done.left_alone[..] else { panic!("{done:?}") };
    assert!(left.file == damaged && left.reason.contains("is damaged: expected the checksum"));
    assert_eq!(store.stats().left_alone, done.left_alone);
    assert_eq!(place.files.read(&damaged, 1 << 20)?, bytes, "it is as it was");
    // The others were rewritten, and the death of what stands in it is still told.
    assert!(done.bytes_after < done.bytes_before);
    assert_eq!(store.compact(|| Ok(()))?.bytes_before, done.bytes_after, "and not tried again");
    model.check(&store, ["x", "stays 0", "stays 1", "stays 2"].into_iter().map(id))?;
    crash(store);
    assert!(matches!(place.open(), Err(Error::Damaged { file, .. }) if file == damaged));
    // With the damage undone it is all there.
    bytes[last] ^= 1;
    fs::write(&damaged, &bytes).map_err(Error::io("write", &damaged))?;
    let (store, live) = place.open()?;
    model.check_live(&live);
    assert_eq!(store.compact(|| Ok(()))?.left_alone, []);
    check_reopened(place, store, &model).map(|_| ())
}

#[test]
fn what_a_crash_leaves_of_a_compaction_is_removed() -> Result<()> {
    let (mut place, store, model) = versions_of_one_record()?;
    let segment = |number: u64| place.collection().join(format!("segments/{number:08}.seg"));
    let old = place.files.read(&segment(1), 1 << 20)?;
    store.compact(|| Ok(()))?;
    let next = lock_mutex(&store.shared.manifest).next;
    crash(store);
    // One that was replaced, and one whose number was noted before it was to be written.
    let (first, last) = (segment(1), segment(next - 1));
    for stranger in [&first, &last] {
        if !stranger.exists() {
            fs::write(stranger, &old).map_err(Error::io("write", stranger))?;
        }
    }
    let (store, live) = place.open()?;
    model.check_live(&live);
    assert!(!first.exists());
    assert_eq!(
        place.files.list(&place.collection().join("segments"))?.len() as u64,
        store.stats().segments
    );
    crash(store);
    // What MANIFEST never heard of and holds records is newer than it.
    let stranger = place.collection().join(format!("segments/{next:08}.seg"));
    fs::write(&stranger, &old).map_err(Error::io("write", &stranger))?;
    assert!(matches!(place.open(), Err(Error::Damaged { file, .. }) if file == stranger));
    Ok(())
}

#[test]
fn version_1_is_written_until_it_is_upgraded() -> Result<()> {
    let mut place = Place::new(LIMITS)?;
    let (dir, table, width) = (place.collection(), place.table()?, Width::new(64)?);
    let store = Store::create_on(&place.files, &dir, 1, b"s", width, &table, place.limits)?;
    let mut model = Model::default();
    let round = |store: &Store, model: &mut Model| -> Result<()> {
        (0..20).try_for_each(|name| commit(store, model, vec![put_code(store, name, name)]))
    };
    let versions = |place: &Place| -> Result<Vec<u8>> {
        let segments = place.files.list(&place.collection().join("segments"))?;
        let files = [place.collection().join("MANIFEST")].into_iter().chain(segments);
        files.map(|file| Ok(place.files.read(&file, 1 << 20)?[8])).collect()
    };
    // Whether the first record of each segment that has any is one that older programs do not know.
    let new = |place: &Place| -> Result<Vec<bool>> {
        let kind = SEGMENT_HEADER_BYTES + GROUP_HEADER_BYTES + 5;
        let segments = place.files.list(&place.collection().join("segments"))?;
        let segments = segments.iter().map(|file| place.files.read(file, 1 << 20));
        let kinds: Result<Vec<_>> = segments.map(|bytes| Ok(bytes?.get(kind).copied())).collect();
        Ok(kinds?.into_iter().flatten().map(|kind| kind > 127).collect())
    };
    round(&store, &mut model)?;
    round(&store, &mut model)?;
    let refused = store.compact(|| Ok(())).map_err(|error| error.to_string());
    assert!(refused.is_err_and(|message| message.contains("nearbit compact --upgrade")));
    store.shared.compact_if_due();
    crash(store);
    let (store, live) = place.open()?;
    model.check_live(&live);
    round(&store, &mut model)?;
    assert!(versions(&place)?.iter().all(|version| *version == 1) && store.version() == 1);
    store.upgrade()?;
    assert_eq!(
        (u32::from(versions(&place)?[0]), store.version()),
        (FORMAT_VERSION, FORMAT_VERSION)
    );
    let before = versions(&place)?;
    assert!(before[1..].iter().all(|version| *version == 1), "old segments are read as they are");
    assert!(!new(&place)?.contains(&true));
    round(&store, &mut model)?;
    crash(store);
    let (store, live) = place.open()?;
    model.check_live(&live);
    store.compact(|| Ok(()))?;
    assert_eq!(versions(&place)?, [FORMAT_VERSION as u8; 3]);
    assert!(!new(&place)?.contains(&false));
    model.check(&store, (0..20).map(id))
}

/// The table keeps an entry of a record that was deleted and taken out after its checkpoint.
#[test]
fn what_was_taken_out_and_is_in_the_table_still_is_no_damage() -> Result<()> {
    let mut place = Place::new(LIMITS)?;
    let store = place.create(64)?;
    let mut model = Model::default();
    let operations = vec![put_code(&store, "x", 1), put_code(&store, "stays 0", 2)];
    commit(&store, &mut model, operations)?;
    store.checkpoint()?;
    store.seal()?;
    commit(&store, &mut model, vec![Operation::Delete(id("x"))])?;
    store.seal()?;
    store.compact_only(0..2)?;
    assert_eq!(store.group_bytes().len(), 2, "one that is rewritten, and the open one");
    assert_eq!(store.check(|_, _| ())?.findings, []);
    let (place, store) = check_reopened(place, store, &model)?;
    assert_eq!(store.check(|_, _| ())?.findings, []);
    drop((store, place));
    Ok(())
}
