//! The table written anew: what it takes on disk, and that nobody notices.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use super::super::files::watched::Watched;
use super::super::lock_mutex;
use super::*;

/// Few records make a checkpoint due; all else is as in use.
fn limits() -> Limits {
    Limits { checkpoint_records: 4096, ..Limits::default() }
}

/// Records of wide codes, named by their number, in few commits.
fn put_wide(store: &Store, names: std::ops::Range<u64>, round: u64) -> Result<()> {
    let names: Vec<u64> = names.collect();
    for some in names.chunks(4000) {
        let wide = |name: &u64| {
            let words: Vec<u64> = (0..16).map(|i| (name << 20 | round << 8 | i) * 0x9e37).collect();
            let code = Code::from_words(store.width(), &words[..store.width().bits() / 64]);
            Ok(put(record(name, Some(code?))))
        };
        store.commit(some.iter().map(wide).collect::<Result<_>>()?)?;
    }
    Ok(())
}

fn bytes_allowed(store: &Store) -> u64 {
    store.stats().table_bytes * 3 / 2 + (4 << 20)
}

fn check_whole(store: &Store, records: u64) -> Result<()> {
    let checked = store.check(|_, _| ())?;
    assert_eq!((checked.findings, checked.records), (vec![], records));
    assert_eq!(checked.table_entries, 2 * records, "ids and codes");
    Ok(())
}

fn renew(table: &Table) -> Result<()> {
    table.renew(|| Ok(true), || Ok(()))
}

#[test]
fn a_table_whose_blocks_are_replaced_again_and_again_stays_short() -> Result<()> {
    const RECORDS: u64 = 16_000;
    let mut place = Place::new(limits())?;
    let (store, table) = (place.create(1024)?, place.table()?);
    for round in 0..6 {
        put_wide(&store, 0..RECORDS, round)?;
        store.checkpoint()?;
        let (bytes, allowed) = (table.bytes()?, bytes_allowed(&store));
        assert!(bytes <= allowed, "round {round}: expected at most {allowed} bytes, got {bytes}");
    }
    check_whole(&store, RECORDS)?;
    let done = store.compact(|| Ok(()))?;
    assert_eq!(done.table_bytes_after, table.bytes()?);
    let least = store.stats().table_bytes * 9 / 8 + (1 << 20);
    assert!(done.table_bytes_after <= least, "{done:?}, {least}");
    drop((store, table));
    place.table = None;
    let (store, live) = place.open()?;
    assert_eq!((live.numbers.len() as u64, store.stats().recent), (RECORDS, 0));
    check_whole(&store, RECORDS)
}

#[test]
fn a_collection_that_is_removed_gives_its_part_of_the_table_back() -> Result<()> {
    let mut place = Place::new(limits())?;
    let store = place.create(64)?;
    put_wide(&store, 0..3000, 0)?;
    let (table, other) = (place.table()?, place.dir.path().join("collections/other"));
    let big = Store::create_on(
        &place.files,
        &other,
        FORMAT_VERSION,
        b"",
        Width::new(1024)?,
        &table,
        limits(),
    )?;
    put_wide(&big, 0..40_000, 0)?;
    big.checkpoint()?;
    store.checkpoint()?;
    assert!(table.bytes()? > 6 << 20, "{}", table.bytes()?);
    drop(big);
    Store::remove_on(&place.files, &other, &table)?;
    assert!(table.bytes()? < bytes_allowed(&store), "{}", table.bytes()?);
    check_whole(&store, 3000)
}

/// Each look-up finds what was there before it began, whenever the table is replaced.
#[test]
fn readers_and_writers_go_on_while_it_is_written_anew() -> Result<()> {
    const RECORDS: u64 = 400;
    let mut place = Place::new(Limits { hash_mask: u64::MAX, ..SMALL })?;
    let (store, table) = (place.create(64)?, place.table()?);
    put_singly(&store, 0..RECORDS)?;
    store.checkpoint()?;
    let over = AtomicBool::new(false);
    let renewals = thread::scope(|scope| {
        let read = |from: u64| {
            let mut name = from;
            while !over.load(Ordering::Relaxed) {
                name = (name + 7) % RECORDS;
                let found = store.get(&id(name))?;
                assert!(found.is_some_and(|(_, record)| record.id == id(name)), "{name}");
                let near = store.within(&code(store.width(), name), 0, 10)?;
                assert_eq!(near.len(), 1, "the code of {name}");
            }
            Ok(())
        };
        let readers = [scope.spawn(move || read(0)), scope.spawn(move || read(3))];
        let writer = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                // The same codes again, and new ones.
                let again: Vec<_> = (0..20)
                    .map(|i| (rounds * 20 + i) % RECORDS)
                    .map(|name| put(record(name, Some(code(store.width(), name)))))
                    .collect();
                store.commit(again)?;
                put_singly(&store, RECORDS + rounds..RECORDS + rounds + 1)?;
                rounds += 1;
            }
            Result::Ok(rounds)
        });
        let renewed = (0..20).try_for_each(|_| renew(&table));
        over.store(true, Ordering::Relaxed);
        let join = |reader: thread::ScopedJoinHandle<Result<()>>| {
            reader.join().map_err(|_| Error::Interrupted)?
        };
        readers.into_iter().try_for_each(join)?;
        let rounds = writer.join().map_err(|_| Error::Interrupted)??;
        renewed.map(|()| rounds)
    })?;
    store.checkpoint()?;
    check_whole(&store, RECORDS + renewals)
}

/// The states that `table/renew.rs` draws, as a crash leaves them.
#[test]
fn it_is_whole_wherever_a_renewal_was_interrupted() -> Result<()> {
    let mut place = Place::new(SMALL)?;
    let store = place.create(64)?;
    put_singly(&store, 0..50)?;
    drop(store);
    place.table = None;
    let at = |name: &str| place.dir.path().join(name);
    let (table, new, old) = (at("table"), at("table.new"), at("table.old"));
    let copy = |from: &Path, to: &Path| -> Result<()> {
        place.files.create_dir(to)?;
        for path in place.files.list(from)?.iter().filter(|path| path.is_file()) {
            let file = place.files.open(path)?;
            place.files.copy(&file, file.len()?, &to.join(path.file_name().unwrap_or_default()))?;
        }
        Ok(())
    };
    type Interrupt<'a> = &'a dyn Fn() -> Result<()>;
    let half = || {
        copy(&table, &new)?;
        place.files.open(&new.join("db"))?.truncate(1000)
    };
    let durable = || copy(&table, &new);
    let away = || copy(&table, &new).and_then(|()| place.files.rename(&table, &old));
    let there = || copy(&table, &old);
    let states: [Interrupt; 4] = [&half, &durable, &away, &there];
    for (i, interrupt) in states.into_iter().enumerate() {
        interrupt()?;
        let opened = Table::open(&table)?;
        assert!(!opened.rebuilt() && !new.exists() && !old.exists(), "state {i}");
        let (store, live) =
            Store::open_on(&place.files, &place.collection(), &opened, place.limits)?;
        assert_eq!((live.numbers.len(), store.stats().table_reach), (50, 50), "state {i}");
        check_whole(&store, 50)?;
    }
    Ok(())
}

#[test]
fn a_renewal_that_fails_or_is_stopped_changes_nothing() -> Result<()> {
    let mut place = Place::new(SMALL)?;
    let (store, table) = (place.create(64)?, place.table()?);
    put_singly(&store, 0..50)?;
    store.checkpoint()?;
    let stopped = table.renew(|| Ok(true), || Err(Error::Interrupted));
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert!(!place.dir.path().join("table.new").exists());
    // Something stands where the old one was to go.
    let in_the_way = place.dir.path().join("table.old");
    std::fs::write(&in_the_way, b"").map_err(Error::io("write", &in_the_way))?;
    assert!(matches!(renew(&table), Err(Error::Io { .. })));
    check_whole(&store, 50)?;
    put_singly(&store, 50..60)?;
    store.checkpoint()?;
    std::fs::remove_file(&in_the_way).map_err(Error::io("remove", &in_the_way))?;
    renew(&table)?;
    check_whole(&store, 60)?;
    drop((store, table));
    place.table = None;
    assert_eq!(place.open()?.0.stats().table_reach, 60);
    Ok(())
}

/// A collection whose table is on a disk that is watched.
fn watched_place() -> Result<(Place, Store, Watched)> {
    let mut place = Place::new(SMALL)?;
    let watched = Watched::new(place.dir.path());
    let files = Files::on(watched.clone());
    place.table = Some(Table::open_on(&files, &place.dir.path().join("table"))?);
    let store = place.create(64)?;
    put_singly(&store, 0..50)?;
    store.checkpoint()?;
    Ok((place, store, watched))
}

/// What only a power cut would show.
#[test]
fn a_renewal_is_durable_before_it_takes_the_place_of_the_old_one() -> Result<()> {
    let (mut place, _store, watched) = watched_place()?;
    watched.watch(None);
    renew(&place.table()?)?;
    let done = watched.done();
    let moved = done.iter().position(|step| step.starts_with("rename")).unwrap_or_default();
    let (copied, rest) = done.split_at(moved);
    for synced in ["sync table.new/db", "sync table.new/conf", "sync directory table.new"] {
        assert!(copied.iter().any(|step| step == synced), "{synced} in {copied:?}");
    }
    let swapped =
        ["rename table table.old", "sync directory ", "rename table.new table", "sync directory "];
    assert_eq!(rest[..4], swapped);
    assert!(rest[4..].iter().any(|step| step == "remove table.old"), "{rest:?}");
    Ok(())
}

#[test]
fn a_renewal_of_which_any_step_fails_leaves_one_or_the_other() -> Result<()> {
    let (mut place, mut store, watched) = watched_place()?;
    for step in 0.. {
        watched.watch(Some(step));
        let renewed = place.table().and_then(|table| renew(&table));
        let failed = watched.done().get(step).cloned();
        let Some(failed) = failed else { break };
        watched.watch(None);
        let told = renewed.is_err();
        assert!(told || failed.starts_with("remove"), "{failed} failed, and it was not said");
        check_whole(&store, 50)?;
        put_singly(&store, 0..10)?;
        store.checkpoint()?;
        check_whole(&store, 50)?;
        drop(store);
        place.table = None;
        let files = Files::on(watched.clone());
        let table = Table::open_on(&files, &place.dir.path().join("table"))?;
        assert!(!table.rebuilt(), "after {failed}");
        place.table = Some(table);
        store = place.open()?.0;
        assert_eq!(store.stats().recent, 0, "after {failed}");
        let names: Vec<_> = place.files.list(place.dir.path())?;
        assert_eq!(names.len(), 2, "after {failed}: {names:?}");
        check_whole(&store, 50)?;
    }
    Ok(())
}

/// After a write that failed sled takes nothing more, and of the last change it may have done a part.
#[test]
fn a_sled_that_cannot_write_is_replaced_as_soon_as_it_can_be() -> Result<()> {
    for lean in [false, true] {
        let mut place = Place::new(Limits { hash_mask: u64::MAX, ..SMALL })?;
        let mut store = place.create(64)?;
        if lean {
            drop(store);
            store = place.open_lean()?;
        }
        put_singly(&store, 0..500)?;
        store.checkpoint()?;
        let table = place.table()?;
        let other = |name: &str| {
            let dir = place.dir.path().join(name);
            Store::create_on(
                &place.files,
                &dir,
                FORMAT_VERSION,
                b"",
                store.width(),
                &table,
                place.limits,
            )
        };
        let (other, torn) = (other("other")?, other("torn")?);
        for store in [&other, &torn] {
            put_singly(store, 0..20)?;
            store.checkpoint()?;
        }
        let moves = other.shared.state().moves;
        let check_all = |store: &Store, records: u64| -> Result<()> {
            for name in 0..records {
                assert!(store.get(&id(name))?.is_some(), "{name} of {records}, lean: {lean}");
                let near = store.within(&code(store.width(), name), 0, 10)?;
                assert_eq!(near.len(), 1, "the code of {name}, lean: {lean}");
            }
            Ok(())
        };
        put_singly(&store, 500..505)?;
        let faults = table.faults();
        faults.dead.store(true, Ordering::Relaxed);
        faults.stuck.store(true, Ordering::Relaxed);
        put_singly(&torn, 20..22)?;
        for store in [&store, &torn] {
            store.shared.run_checkpoint()?;
            assert!(store.shared.state().broken.is_some(), "it failed");
        }
        check_all(&store, 505)?;
        assert!(store.checkpoint().is_err() && store.shared.trees.given_up());
        put_singly(&store, 505..510)?;
        check_all(&store, 510)?;
        check_all(&other, 20)?;
        // By itself it is tried again, but not at once.
        store.join_background();
        faults.stuck.store(false, Ordering::Relaxed);
        let now = |store: &Store| *lock_mutex(&store.shared.patient_until) = None;
        assert!(
            lock_mutex(&store.shared.patient_until).is_some_and(|until| until > Instant::now())
        );
        now(&store);
        put_singly(&store, 510..511)?;
        store.join_background();
        assert!(!store.shared.trees.given_up());
        check_all(&store, 511)?;
        store.checkpoint()?;
        let stats = store.stats();
        assert_eq!((stats.recent, stats.table_reach), (0, 511), "memory was given back");
        check_whole(&store, 511)?;
        assert_eq!(other.shared.state().moves, moves, "its part was copied");
        check_all(&torn, 22)?;
        for store in [&other, &torn] {
            put_singly(store, 20..25)?;
            store.checkpoint()?;
            check_whole(store, 25)?;
        }
        // As a database does: what one of them tells sled takes the notes of all away.
        [&store, &other, &torn].into_iter().try_for_each(Store::settle)?;
        drop((store, other, torn, table));
        place.table = None;
        let store = place.open_lean()?;
        assert!(store.shared.opened_as.is_some(), "it was closed as ever");
        assert_eq!(store.stats().recent, 0);
        check_whole(&store, 511)?;
    }
    Ok(())
}

/// `CLOSED` says that the table is durable, and of which time it is.
#[test]
fn what_a_close_left_is_taken_away_before_it_is_written_anew() -> Result<()> {
    let mut place = Place::new(SMALL)?;
    let store = place.create(64)?;
    put_singly(&store, 0..50)?;
    drop(store);
    drop(place.open_lean()?);
    let closed = place.collection().join("CLOSED");
    for crashes in [true, false] {
        let store = place.open_lean()?;
        assert!(closed.exists(), "a clean close left it");
        renew(&place.table()?)?;
        assert!(!closed.exists(), "it was said of the old one");
        check_whole(&store, 50)?;
        if crashes {
            crash(store)
        } else {
            drop(store)
        }
        assert_eq!(closed.exists(), !crashes);
        place.table = None;
        let store = place.open_lean()?;
        assert_eq!(store.shared.opened_as.is_some(), !crashes, "the segments were not read");
        check_whole(&store, 50)?;
    }
    Ok(())
}

/// Without codes in memory the table is filled piece by piece at open, whatever it lacks.
#[test]
fn who_needs_no_codes_has_the_table_filled_in_pieces() -> Result<()> {
    let limits = Limits { hash_mask: u64::MAX, hits: 300, ..SMALL };
    for lost in ["nothing", "the end of the table", "a block", "the table"] {
        let mut place = Place::new(limits)?;
        drop(place.create(64)?);
        let mut store = place.open_lean()?;
        let mut model = Model::default();
        let mut operations: Vec<_> =
            (0..200u64).map(|name| put(record(name, Some(code(store.width(), name))))).collect();
        operations.extend((0..200).step_by(3).map(|name| put(record(name, None))));
        operations.extend((0..200).step_by(7).map(|name| Operation::Delete(id(name))));
        for (i, operation) in operations.into_iter().enumerate() {
            if i == 100 && lost == "the end of the table" {
                store.checkpoint()?;
                crash(store);
                place.limits.checkpoint_records = u64::MAX / 8;
                store = place.open_lean()?;
                place.limits = limits;
            }
            model.apply(&operation);
            store.commit(vec![operation])?;
        }
        if lost == "a block" {
            store.checkpoint()?;
            remove_a_block(&mut place)?;
        }
        crash(store);
        if lost == "the table" {
            place.table = None;
            place.files.remove_dir(&place.dir.path().join("table"))?;
        }
        let store = place.open_lean()?;
        assert!(store.shared.opened_as.is_none(), "the segments were read");
        let in_memory = store.stats().recent;
        assert!(in_memory <= 32, "{in_memory} records in memory");
        model.check(&store, (0..210).map(id))?;
        store.checkpoint()?;
        let checked = store.check(|_, _| ())?;
        let coded = model.records.values().filter(|record| record.code.is_some()).count();
        let (records, entries) = (model.records.len(), model.records.len() + coded);
        let got = (checked.findings, checked.records as usize, checked.table_entries as usize);
        assert_eq!(got, (vec![], records, entries), "after {lost} was lost");
        model.check(&store, (0..210).map(id))?;
    }
    Ok(())
}

/// So it is when it fails while the store is open; and who looks meanwhile waits, and finds everything.
#[test]
fn who_needs_no_codes_has_a_table_that_failed_filled_in_pieces() -> Result<()> {
    const RECORDS: u64 = 300;
    let mut place = Place::new(Limits { hash_mask: u64::MAX, ..SMALL })?;
    drop(place.create(64)?);
    let store = place.open_lean()?;
    put_singly(&store, 0..RECORDS)?;
    store.commit((0..RECORDS).step_by(5).map(|name| Operation::Delete(id(name))).collect())?;
    store.checkpoint()?;
    let (over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let read = |from: u64| {
            let mut name = from;
            while !over.load(Ordering::Relaxed) {
                name = (name + 7) % RECORDS;
                let lives = !name.is_multiple_of(5);
                assert_eq!(store.get(&id(name))?.is_some(), lives, "{name}");
                let near = store.within(&code(store.width(), name), 0, 10)?;
                assert_eq!(near.len(), usize::from(lives), "the code of {name}");
                assert_eq!(store.codes()?.len() as u64, RECORDS / 5 * 4);
                looks.fetch_add(1, Ordering::Relaxed);
            }
            Result::Ok(())
        };
        let readers = [scope.spawn(move || read(0)), scope.spawn(move || read(3))];
        let scrub = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                store.scrub(|_| true)?;
            }
            Ok(())
        });
        let refill = || -> Result<()> {
            // Where other processes are busy a look may take longer than twenty times that.
            let unseen = || {
                let looking = readers.iter().all(|reader| !reader.is_finished());
                looking && looks.load(Ordering::Relaxed) == 0
            };
            for _ in (0..).take_while(|round| *round < 20 || unseen()) {
                store
                    .shared
                    .rebuild_table(&mut lock_mutex(&store.shared.writer), "a test says so")?;
                let stats = store.stats();
                assert!(stats.recent <= 32, "{} records in memory", stats.recent);
                assert!(stats.table_reach > RECORDS / 2, "{}", stats.table_reach);
            }
            Ok(())
        };
        let refilled = refill();
        over.store(true, Ordering::Relaxed);
        scrub.join().unwrap_or(Err(Error::Interrupted))?;
        readers.into_iter().try_for_each(|r| r.join().unwrap_or(Err(Error::Interrupted)))?;
        refilled
    })?;
    let looks = looks.into_inner();
    assert!(looks > 0 && store.stats().damaged == 0, "{looks} looks");
    store.checkpoint()?;
    check_whole(&store, RECORDS / 5 * 4)?;
    crash(store);
    check_whole(&place.open_lean()?, RECORDS / 5 * 4)
}

/// A table that sled cannot even empty any more is written anew, at open too.
#[test]
fn a_table_that_cannot_be_emptied_does_not_keep_a_store_from_opening() -> Result<()> {
    for lean in [false, true] {
        let mut place = Place::new(Limits { hash_mask: u64::MAX, ..SMALL })?;
        let store = place.create(64)?;
        put_singly(&store, 0..200)?;
        store.checkpoint()?;
        remove_a_block(&mut place)?;
        crash(store);
        place.table()?.faults().dead.store(true, Ordering::Relaxed);
        let store = if lean { place.open_lean()? } else { place.open()?.0 };
        store.checkpoint()?;
        check_whole(&store, 200)?;
    }
    Ok(())
}

/// A segment that is damaged leaves the table as it is: what is in it is still found.
#[test]
fn a_table_is_not_emptied_where_a_segment_cannot_be_read() -> Result<()> {
    let mut place = Place::new(Limits { hash_mask: u64::MAX, ..SMALL })?;
    drop(place.create(64)?);
    let store = place.open_lean()?;
    put_singly(&store, 0..100)?;
    store.checkpoint()?;
    let file = place.files.open(&place.last_segment()?)?;
    let last = file.len()? - 1;
    let mut byte = [0];
    file.read_at(&mut byte, last)?;
    file.write_at(&[!byte[0]], last)?;
    let refilled =
        store.shared.rebuild_table(&mut lock_mutex(&store.shared.writer), "a test says so");
    assert!(matches!(refilled, Err(Error::Damaged { .. })), "{refilled:?}");
    for name in 0..99 {
        assert!(store.get(&id(name))?.is_some(), "{name}");
        assert_eq!(store.within(&code(store.width(), name), 0, 10)?.len(), 1, "{name}");
    }
    Ok(())
}

/// Removes a block of codes behind the store's back.
fn remove_a_block(place: &mut Place) -> Result<()> {
    let tree = place.table()?.tree(tree_collection(place)?, "codes").map(|tree| tree.now());
    let removed = tree.map(|tree| {
        let block = tree.range(b"B".as_slice()..b"C".as_slice()).keys().next();
        block.map(|name| tree.remove(name?))
    });
    assert!(matches!(removed, Ok(Some(Ok(Some(_))))), "there was one");
    Ok(())
}

fn tree_collection(place: &Place) -> Result<[u8; 16]> {
    Ok(Manifest::read(&place.files, &place.collection())?.collection)
}
