//! Writes that fail, and what is refused.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::super::files::recorder::{Fault, Recorder, Which};
use super::super::recent::Recent;
use super::*;

/// Small limits, and ids that differ in their hashes: so a commit begins with its write.
const UNLIKE: Limits = Limits { hash_mask: u64::MAX, ..SMALL };

/// A collection whose next operation can be made to fail.
fn breakable(limits: Limits) -> Result<(Place, Recorder)> {
    let recorder = Recorder::default();
    let place = Place::on(Files::on(recorder.clone()), limits)?;
    Ok((place, recorder))
}

/// Lets operation `skip` from now on fail.
fn fail(recorder: &Recorder, skip: u64, which: Which, error: ErrorKind) {
    recorder.set_fault(Some(Fault { at: recorder.operations() + skip, which, error }));
}

#[test]
fn a_full_disk_refuses_a_group_and_takes_the_next() -> Result<()> {
    let (mut place, recorder) = breakable(UNLIKE)?;
    let store = place.create(64)?;
    put_singly(&store, 0..3)?;
    fail(&recorder, 0, Which::One, ErrorKind::StorageFull);
    let refused = store.commit(vec![put(record("full", None))]);
    assert!(refused.as_ref().is_err_and(Error::is_full), "{refused:?}");
    assert_eq!(recorder.take_failed(), ["write 00000001.seg"]);
    assert_eq!(store.len(), 3);
    assert_eq!(store.commit(vec![put(record("next", None))])?, [Outcome::Inserted(3)]);
    crash(store);
    let (store, _) = place.open()?;
    assert_eq!(store.get(&id("full"))?, None);
    assert_eq!(store.len(), 4);
    Ok(())
}

/// What was killed where there was no room can be read again before there is some.
#[test]
fn a_full_disk_is_opened_and_read() -> Result<()> {
    for lean in [false, true] {
        let (mut place, recorder) = breakable(UNLIKE)?;
        let store = place.create(64)?;
        put_singly(&store, 0..3)?;
        crash(store);
        fail(&recorder, 0, Which::NeedingRoom, ErrorKind::StorageFull);
        let store = if lean { place.open_lean()? } else { place.open()?.0 };
        assert_eq!(recorder.take_failed().len(), 1, "to note how much is durable");
        assert_eq!(store.get(&id(2))?.map(|(number, _)| number), Some(2));
        assert_eq!(store.within(&Code::zero(store.width()), 64, 9)?.len(), 3);
        let refused = store.commit(vec![put(record("full", None))]);
        assert!(refused.as_ref().is_err_and(Error::is_full), "{refused:?}");
        recorder.set_fault(None);
        put_singly(&store, 3..5)?;
        crash(store);
        assert_eq!(place.open()?.0.len(), 5);
    }
    Ok(())
}

#[test]
fn after_a_failed_write_or_sync_writes_are_refused_and_reads_go_on() -> Result<()> {
    for (skip, doing, kind) in [
        (0, "write to", ErrorKind::Other),
        (1, "sync", ErrorKind::Other),
        (1, "sync", ErrorKind::StorageFull),
    ] {
        let (mut place, recorder) = breakable(UNLIKE)?;
        let store = place.create(64)?;
        put_singly(&store, 0..3)?;
        fail(&recorder, skip, Which::One, kind);
        let told = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&told);
        store.on_commit(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let lost = store.commit(vec![put(record("lost", None))]);
        assert!(matches!(lost, Err(Error::Io { doing: at, .. }) if at == doing));
        let refused = store.commit(vec![put(record("later", None))]);
        assert!(
            matches!(&refused, Err(Error::Unavailable { what, hint })
                if what.contains(doing) && hint.contains("reopen")),
            "{refused:?}"
        );
        assert_eq!(told.load(Ordering::Relaxed), 0);
        assert_eq!(store.get(&id(2))?.map(|(number, _)| number), Some(2));
        assert_eq!(store.within(&Code::zero(store.width()), 64, 9)?.len(), 3);
        drop(store);
        let (store, _) = place.open()?;
        assert_eq!(store.len(), 3);
        assert_eq!(store.commit(vec![put(record("later", None))])?, [Outcome::Inserted(3)]);
    }
    Ok(())
}

#[test]
fn a_writer_that_panics_leaves_an_error_not_a_hang() -> Result<()> {
    let mut place = Place::new(SMALL)?;
    let store = place.create(64)?;
    store.on_commit(|_| panic!("on purpose"));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.commit(vec![put(record("a", None))])
    }));
    assert!(panicked.is_err());
    let refused = store.commit(vec![put(record("b", None))]);
    assert!(matches!(refused, Err(Error::Unavailable { .. })));
    // It was durable before it was published.
    assert_eq!(store.len(), 1);
    Ok(())
}

/// What a checkpoint was at work on when it panicked is not forgotten by the next one.
#[test]
fn a_checkpoint_that_panicked_loses_nothing() -> Result<()> {
    let mut place = Place::new(Limits { checkpoint_records: 100, ..SMALL })?;
    let store = place.create(64)?;
    put_singly(&store, 0..10)?;
    {
        let mut state = store.shared.state_mut();
        let recent = std::mem::replace(&mut state.recent, Recent::new(store.width()));
        state.merging = Some(recent.into());
    }
    put_singly(&store, 10..20)?;
    store.checkpoint()?;
    for name in 0..20u64 {
        assert!(store.get(&id(name))?.is_some(), "{name}");
    }
    assert_eq!(store.stats().recent, 0);
    assert_eq!(store.check(|_, _| ())?.findings, []);
    Ok(())
}

/// So does one while the thread of the store leads, to those of its group and to those behind it.
#[test]
fn a_panic_while_many_wait_leaves_errors_not_hangs() -> Result<()> {
    const GOOD: u64 = 20;
    const WRITERS: u64 = 8;
    // Two records of those below, so that there are always some who wait.
    let mut place = Place::new(Limits { group_bytes: 400, ..SMALL })?;
    let store = place.create(64)?;
    let told = AtomicU64::new(0);
    store.on_commit(move |_| {
        // As if it were a slow sync: the others gather meanwhile.
        thread::sleep(Duration::from_millis(2));
        assert!(told.fetch_add(1, Ordering::Relaxed) < GOOD, "on purpose");
    });
    // So that none is done before the others begin.
    let together = Barrier::new(WRITERS as usize);
    let write = |writer: u64| {
        together.wait();
        let text = Some("x".repeat(100));
        let record = |i| Record { text: text.clone(), ..record(format!("{writer}-{i}"), None) };
        let put = |i| store.commit(vec![put(record(i))]);
        (0..).find_map(|i| put(i).err().map(|error| (i, error))).expect("it is refused some day")
    };
    let refused: Vec<_> = thread::scope(|scope| {
        let write = &write;
        let writers: Vec<_> = (0..WRITERS).map(|i| scope.spawn(move || write(i))).collect();
        writers.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let mut acknowledged = 0;
    for refused in refused {
        let (count, error) = refused.expect("none of the writers leads, so none panics");
        assert!(matches!(&error, Error::Unavailable { .. }), "{error}");
        acknowledged += count;
    }
    assert!(acknowledged > GOOD, "no group was of several: {acknowledged} records");
    assert!(store.commit(vec![put(record("later", None))]).is_err());
    assert!(store.len() >= acknowledged);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let mut place = Place::new(SMALL)?;
    let store = place.create(64)?;
    let other = put(record("a", Some(Code::zero(Width::new(32)?))));
    let refused = store.commit(vec![put(record("b", None)), other]);
    let message = refused.map_err(|error| error.to_string());
    assert_eq!(message, Err("records[1].code: expected 64 bits, got 32 bits".to_owned()));
    let text = Some("x".repeat(5000));
    let refused = store.commit(vec![put(Record { text, ..record("a", None) })]);
    let message = refused.map_err(|error| error.to_string());
    assert!(message.is_err_and(|m| m.contains("expected at most 4096 bytes in one commit")));
    assert!(store.within(&Code::zero(Width::new(32)?), 1, 1).is_err());
    assert!(store.is_empty());
    assert_eq!(store.commit(vec![Operation::Delete(id("a"))])?, [Outcome::Missing]);
    Ok(())
}

#[test]
fn a_collection_is_made_once_and_removed_whole() -> Result<()> {
    let mut place = Place::new(SMALL)?;
    let store = place.create(64)?;
    put_singly(&store, 0..20)?;
    store.checkpoint()?;
    drop(store);
    assert!(matches!(place.create(64), Err(Error::Exists { .. })));
    let table = place.table()?;
    Store::remove(&place.collection(), &table)?;
    assert!(!Store::exists(&place.collection())? && !place.collection().exists());
    // What a crash in the middle of an earlier creation left is no obstacle.
    let segments = place.collection().join("segments");
    place.files.create_dir(&segments)?;
    place.files.write_atomically(&segments.join("00000001.seg"), b"half")?;
    let store = place.create(32)?;
    assert!(store.is_empty() && store.within(&Code::zero(Width::new(32)?), 32, 9)?.is_empty());
    Ok(())
}

#[test]
fn a_data_directory_of_a_newer_format_is_refused() -> Result<()> {
    let place = Place::new(SMALL)?;
    let dir = place.dir.path();
    crate::store::create_format(dir)?;
    crate::store::check_format(dir)?;
    let path = dir.join("FORMAT");
    let good = place.files.read(&path, 16)?;
    let mut bytes = good.clone();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    place.files.write_atomically(&path, &bytes)?;
    let refused = crate::store::check_format(dir).map_err(|error| error.to_string());
    assert!(refused.is_err_and(|message| message.contains("it has format version 9")));
    bytes = good;
    bytes[14] ^= 1;
    place.files.write_atomically(&path, &bytes)?;
    assert!(matches!(crate::store::check_format(dir), Err(Error::Damaged { .. })));
    Ok(())
}
