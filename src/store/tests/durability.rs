//! Writes that are acknowledged before they are synced.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::super::Durability;
use super::super::files::recorder::{Fault, Recorder, Which};
use super::*;

const LIMITS: Limits = Limits { hash_mask: u64::MAX, ..SMALL };

fn recorded() -> Result<(Place, Recorder, Store)> {
    let recorder = Recorder::default();
    let mut place = Place::on(Files::on(recorder.clone()), LIMITS)?;
    let store = place.create(64)?;
    Ok((place, recorder, store))
}

/// Puts a record that need not be durable for the next `millis`.
fn put_within(store: &Store, name: &str, millis: u32) -> Result<()> {
    let durability = Durability::interval(millis)?;
    store.commit_with(vec![put(record(name, None))], durability).map(|_| ())
}

/// Which of the records power cuts at this moment leave: all that one does, or that no one does.
fn left(place: &mut Place, recorder: &Recorder, names: &[&str]) -> Result<Vec<Vec<bool>>> {
    let table = place.table()?;
    let mut found = Vec::new();
    for seed in 0..60 {
        let image = recorder.image(recorder.now(), &mut ChaCha8Rng::seed_from_u64(seed));
        let files = Files::on(image);
        let (store, _) = Store::open_on(&files, &place.collection(), &table, place.limits)?;
        let there = names.iter().map(|name| Ok(store.get(&id(name))?.is_some()));
        found.push(there.collect::<Result<_>>()?);
        crash(store);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

#[test]
fn a_power_cut_takes_whole_groups_from_the_last_one_back() -> Result<()> {
    let (mut place, recorder, store) = recorded()?;
    store.commit(vec![put(record("synced", None))])?;
    put_within(&store, "a", 60_000)?;
    put_within(&store, "b", 60_000)?;
    assert!(store.get(&id("b"))?.is_some() && store.stats().unsynced_bytes > 0);
    let names = ["synced", "a", "b"];
    let expected = vec![vec![true, false, false], vec![true, true, false], vec![true, true, true]];
    assert_eq!(left(&mut place, &recorder, &names)?, expected);
    // A write that is synced takes along what came before it.
    store.commit(vec![put(record("c", None))])?;
    assert_eq!(store.stats().unsynced_bytes, 0);
    assert_eq!(left(&mut place, &recorder, &["a", "b", "c"])?, [[true; 3]]);
    crash(store);
    Ok(())
}

#[test]
fn closing_syncs_and_so_does_asking() -> Result<()> {
    let (mut place, recorder, store) = recorded()?;
    put_within(&store, "a", 60_000)?;
    store.sync()?;
    assert_eq!(left(&mut place, &recorder, &["a"])?, [[true]]);
    put_within(&store, "b", 60_000)?;
    drop(store);
    assert_eq!(left(&mut place, &recorder, &["a", "b"])?, [[true; 2]]);
    Ok(())
}

/// That there is nothing to delete may be so only because of a write that is not synced.
#[test]
fn what_changes_nothing_is_durable_too() -> Result<()> {
    let (mut place, recorder, store) = recorded()?;
    store.commit(vec![put(record("a", None))])?;
    let delete = || vec![Operation::Delete(id("a"))];
    store.commit_with(delete(), Durability::interval(60_000)?)?;
    assert_eq!(store.commit(delete())?, [Outcome::Missing]);
    assert_eq!(left(&mut place, &recorder, &["a"])?, [[false]]);
    crash(store);
    Ok(())
}

#[test]
fn sealing_a_segment_and_compaction_sync_first() -> Result<()> {
    let (mut place, recorder, store) = recorded()?;
    put_within(&store, "a", 60_000)?;
    store.compact(|| Ok(()))?;
    assert_eq!(store.stats().segments, 2, "it was sealed");
    assert_eq!(left(&mut place, &recorder, &["a"])?, [[true]]);
    // The delete is not synced, and what it deletes is compacted away: then it is.
    let delete = vec![Operation::Delete(id("a")), put(record("b", None))];
    store.commit_with(delete, Durability::interval(60_000)?)?;
    store.compact_only(0..1)?;
    assert_eq!(store.stats().unsynced_bytes, 0);
    assert_eq!(left(&mut place, &recorder, &["a", "b"])?, [[false, true]]);
    crash(store);
    Ok(())
}

/// Waits until something is so; a minute is for ever.
fn wait_until(so: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if so() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("it never came");
}

#[test]
fn it_is_synced_when_its_time_has_come() -> Result<()> {
    let (mut place, recorder, store) = recorded()?;
    for name in ["a", "b", "c"] {
        put_within(&store, name, 2)?;
        wait_until(|| store.stats().unsynced_bytes == 0);
    }
    // The earlier of two times counts.
    put_within(&store, "d", 60_000)?;
    put_within(&store, "e", 1)?;
    wait_until(|| store.stats().unsynced_bytes == 0);
    assert_eq!(left(&mut place, &recorder, &["a", "b", "c", "d", "e"])?, [[true; 5]]);
    crash(store);
    Ok(())
}

#[test]
fn a_sync_that_fails_in_the_background_is_told_to_everybody_after() -> Result<()> {
    let (mut place, recorder, store) = recorded()?;
    store.commit(vec![put(record("synced", None))])?;
    // The write comes first.
    let at = recorder.operations() + 1;
    recorder.set_fault(Some(Fault { at, which: Which::One, error: ErrorKind::Other }));
    put_within(&store, "a", 1)?;
    wait_until(|| store.shared.poison.get().is_some());
    assert_eq!(recorder.take_failed(), ["sync 00000001.seg"]);
    for durability in [Durability::Sync, Durability::interval(1)?] {
        let refused = store.commit_with(vec![put(record("b", None))], durability);
        assert!(matches!(refused, Err(Error::Unavailable { what, .. }) if what.contains("sync")));
    }
    assert!(matches!(store.sync(), Err(Error::Unavailable { .. })));
    assert!(store.get(&id("a"))?.is_some(), "reads go on");
    drop(store);
    assert_eq!(left(&mut place, &recorder, &["synced", "a"])?, [[true, false], [true, true]]);
    Ok(())
}

#[test]
fn intervals_have_limits() {
    for (text, good) in [
        ("sync", true),
        ("interval:1", true),
        ("interval:60000", true),
        ("interval:0", false),
        ("interval:60001", false),
        ("interval:-1", false),
        ("interval", false),
        ("fsync", false),
        ("", false),
    ] {
        let read = text.parse::<Durability>();
        assert_eq!(read.is_ok(), good, "{text}: {read:?}");
        if let Ok(durability) = read {
            assert_eq!(durability.to_string(), text);
        }
    }
    assert_eq!(
        [Durability::interval(7).ok(), Some(Durability::Sync)].iter().min(),
        Some(&Some(Durability::Sync))
    );
}

/// A checkpoint may take records into the table that are not synced yet.
#[test]
fn a_check_meanwhile_takes_nothing_that_is_not_synced_for_damage() -> Result<()> {
    let mut place = Place::new(SMALL)?;
    let store = place.create(64)?;
    put_singly(&store, 0..5)?;
    let later = put(record(5, Some(code(store.width(), 5))));
    store.commit_with(vec![later], Durability::interval(60_000)?)?;
    store.shared.run_checkpoint()?;
    assert!(store.stats().unsynced_bytes > 0);
    let checked = store.check(|_, _| ())?;
    assert_eq!((checked.findings, checked.records, checked.table_entries), (vec![], 6, 12));
    Ok(())
}
