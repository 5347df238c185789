//! Stores that need no codes in memory: what a clean close leaves is believed where it agrees with
//! all else, and only there.

use std::fs;

use super::*;

/// A place with a closed collection of a few segments, some records dead, and what it holds.
fn closed() -> Result<(Place, Model)> {
    let mut place = Place::new(Limits { hash_mask: u64::MAX, hits: 45, ..SMALL })?;
    drop(place.create(64)?);
    let store = place.open_lean()?;
    let mut model = Model::default();
    for name in (0..40u64).chain([3, 7, 30]) {
        let operation = put(record(name, Some(code(store.width(), name))));
        model.apply(&operation);
        store.commit(vec![operation])?;
    }
    let delete = Operation::Delete(id(11));
    model.apply(&delete);
    store.commit(vec![delete])?;
    drop(store);
    Ok((place, model))
}

fn names() -> impl Iterator<Item = RecordId> {
    (0..42u64).map(id)
}

fn copy_dir(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry?.file_name()));
        if path.is_dir() { copy_dir(&path, &to)? } else { _ = fs::copy(&path, &to)? }
    }
    Ok(())
}

#[test]
fn a_clean_close_spares_the_next_open_the_segments() -> Result<()> {
    let (mut place, model) = closed()?;
    let segment = Segment::path(&place.collection(), 1);
    let mut bytes = fs::read(&segment).map_err(Error::io("read", &segment))?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&segment, &bytes).map_err(Error::io("write", &segment))?;
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_some());
    assert_eq!(store.len(), model.records.len() as u64);
    // What is damaged is an error when it is read, and all else is there.
    let read: Vec<_> = names().map(|name| store.get(&name)).collect();
    assert_eq!(read.iter().filter(|read| read.is_err()).count(), 1);
    assert!(read.iter().all(|read| matches!(read, Ok(_) | Err(Error::Damaged { .. }))));
    drop(store);
    // Who reads the segments refuses them.
    assert!(matches!(place.open(), Err(Error::Damaged { .. })));
    bytes[last] ^= 1;
    fs::write(&segment, &bytes).map_err(Error::io("write", &segment))?;
    // The open that failed has changed nothing, so that the note still holds.
    model.check(&place.open_lean()?, names())
}

#[test]
fn a_collection_that_became_small_leaves_no_note() -> Result<()> {
    let mut place = Place::new(Limits { closed_records: 30, ..SMALL })?;
    let store = place.create(64)?;
    put_singly(&store, 0..40)?;
    drop(store);
    let notes = ["CLOSED", "CLOSED.in-use"].map(|name| place.collection().join(name));
    assert!(notes[0].exists());
    let (store, _) = place.open()?;
    store.commit((0..20u64).map(|name| Operation::Delete(id(name))).collect())?;
    drop(store);
    assert!(!notes.iter().any(|note| note.exists()));
    Ok(())
}

#[test]
fn a_crash_after_a_write_costs_the_note_and_nothing_else() -> Result<()> {
    let (mut place, mut model) = closed()?;
    crash(place.open_lean()?);
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_some(), "who only reads may be killed");
    let operation = put(record(41, Some(code(store.width(), 41))));
    model.apply(&operation);
    store.commit(vec![operation])?;
    crash(store);
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_none(), "a record was written");
    model.check(&store, names())?;
    drop(store);
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_some());
    store.shared.run_checkpoint()?;
    crash(store);
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_none(), "sled was told something");
    model.check(&store, names())?;
    drop(store);
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_some());
    model.check(&store, names())
}

#[test]
fn no_flipped_bit_and_no_cut_of_the_note_changes_an_answer() -> Result<()> {
    let (place, model) = closed()?;
    check_note(place, &model)
}

/// Where compaction left gaps between the numbers, the note also says how wide they are.
#[test]
fn nor_of_the_note_of_segments_with_gaps() -> Result<()> {
    let (mut place, model) = closed()?;
    let store = place.open_lean()?;
    store.compact(|| Ok(()))?;
    let gaps =
        store.shared.state().segments.iter().any(|segment| !segment.numbers().steps().is_empty());
    assert!(gaps);
    drop(store);
    check_note(place, &model)
}

/// Damages the note everywhere, and opens what it belongs to.
fn check_note(mut place: Place, model: &Model) -> Result<()> {
    let note = place.collection().join("CLOSED");
    let good = fs::read(&note).map_err(Error::io("read", &note))?;
    let check = |place: &mut Place, bytes: &[u8]| -> Result<()> {
        fs::write(&note, bytes).map_err(Error::io("write", &note))?;
        let store = place.open_lean()?;
        assert!(store.shared.opened_as.is_none());
        model.check(&store, names().take(3))
    };
    // The filter of ids is nearly all of it; what follows is read with more care.
    let most = 8 * good.len();
    for bit in (0..most).step_by(499).chain((most.saturating_sub(8 * 1200)..most).step_by(5)) {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&mut place, &bytes)?;
    }
    for end in (0..good.len()).step_by(499) {
        check(&mut place, &good[..end])?;
    }
    Ok(())
}

/// Compaction changes the segments and tells the table nothing.
#[test]
fn a_compaction_leaves_a_note_too() -> Result<()> {
    let (mut place, model) = closed()?;
    let store = place.open_lean()?;
    let compacted = store.compact(|| Ok(()))?;
    assert!(compacted.bytes_after < compacted.bytes_before);
    drop(store);
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_some());
    model.check(&store, names())
}

/// What sled is told for one collection takes the notes of all away, until they are closed.
#[test]
fn another_collection_that_changes_the_table_costs_the_note_for_a_while() -> Result<()> {
    let (mut place, model) = closed()?;
    let note = place.collection().join("CLOSED");
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_some() && note.exists());
    let (table, other) = (place.table()?, place.dir.path().join("collections/other"));
    let another =
        Store::create_on(&place.files, &other, FORMAT_VERSION, b"", store.width(), &table, SMALL)?;
    assert!(!note.exists(), "there are two new trees");
    put_singly(&another, 0..3)?;
    another.settle()?;
    drop(store);
    drop(another);
    assert!(note.exists(), "nothing was told to sled after it was closed");
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_some());
    model.check(&store, names())
}

/// A note and a table of two times, in both ways, and a note of another state of the segments.
#[test]
fn a_table_of_another_time_is_noticed() -> Result<()> {
    let (mut place, mut model) = closed()?;
    let (table, other) = (place.dir.path().join("table"), place.dir.path().join("other"));
    let note = place.collection().join("CLOSED");
    place.table = None;
    copy_dir(&table, &other).map_err(Error::io("copy", &table))?;
    let old = fs::read(&note).map_err(Error::io("read", &note))?;

    // A record is replaced by itself: as many records and as many bytes of table as before.
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_some());
    let operation = put(record(5, Some(code(store.width(), 5))));
    model.apply(&operation);
    store.commit(vec![operation])?;
    drop(store);
    let new = fs::read(&note).map_err(Error::io("read", &note))?;
    fs::write(&note, &old).map_err(Error::io("write", &note))?;
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_none(), "an old note");
    model.check(&store, names())?;
    drop(store);

    place.table = None;
    fs::remove_dir_all(&table).map_err(Error::io("remove", &table))?;
    copy_dir(&other, &table).map_err(Error::io("copy", &other))?;
    fs::write(&note, &new).map_err(Error::io("write", &note))?;
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_none(), "an old table");
    model.check(&store, names())?;
    drop(store);

    place.table = None;
    fs::remove_dir_all(&table).map_err(Error::io("remove", &table))?;
    let store = place.open_lean()?;
    assert!(store.shared.opened_as.is_none(), "no table");
    model.check(&store, names())
}

#[test]
fn what_is_too_much_is_refused_by_name() -> Result<()> {
    let (mut place, _) = closed()?;
    let store = place.open_lean()?;
    let zero = Code::zero(store.width());
    let search = |way, deadline| {
        let (code, limit, radius, only) = (&zero, 99, None, &|_| true);
        store.nearest(&Nearby { code, limit, radius, only, way, deadline })
    };
    let refused = search(Way::Rings, None).map_err(|error| error.to_string());
    assert!(refused.is_err_and(|error| error.contains("more than 200 look-ups; narrow")));
    let now = Some(std::time::Instant::now());
    assert!(matches!(search(Way::Auto, now), Err(Error::Timeout)));
    assert_eq!(search(Way::Auto, None)?.hits.len(), 39);
    put_singly(&store, 50..57)?;
    let refused = search(Way::Scan, None).map_err(|error| error.to_string());
    assert!(refused.is_err_and(|error| error.contains("more than 45 records are within 64 bits")));
    Ok(())
}
