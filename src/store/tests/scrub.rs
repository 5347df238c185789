//! Scrubs find what was damaged under an open store, and count each place once.

use std::fs;

use super::*;

fn flip(path: &Path, byte: usize) -> Result<()> {
    let mut bytes = fs::read(path).map_err(Error::io("read", path))?;
    bytes[byte] ^= 1;
    fs::write(path, bytes).map_err(Error::io("write", path))
}

/// Numbers of what was found damaged, and of whole passes.
fn counted(store: &Store) -> (u64, u64) {
    (store.stats().damaged, store.stats().scrubs)
}

#[test]
fn a_flipped_byte_is_found_and_counted_once() -> Result<()> {
    let mut place = Place::new(Limits { hash_mask: u64::MAX, ..SMALL })?;
    let store = place.create(64)?;
    put_singly(&store, 0..60)?;
    store.checkpoint()?;
    assert!(store.scrub(|_| true)?);
    assert_eq!(counted(&store), (0, 1));
    assert!(store.stats().scrubbed_bytes > store.stats().table_bytes);

    let first = Segment::path(&place.collection(), 1);
    flip(&first, 200)?;
    for passes in [2, 3] {
        assert!(store.scrub(|_| true)?);
        assert_eq!(counted(&store), (1, passes));
    }
    // Another place of the same file, and one of another file.
    flip(&first, 500)?;
    flip(&Segment::path(&place.collection(), 3), 300)?;
    assert!(store.scrub(|_| true)?);
    assert_eq!(counted(&store), (3, 4));

    // What is not durable yet is not looked at, and nothing is where it is told to stop.
    let asked = std::cell::Cell::new(0);
    let stop = |_| {
        asked.set(asked.get() + 1);
        false
    };
    assert!(!store.scrub(stop)?);
    assert_eq!((asked.get(), counted(&store)), (1, (3, 4)));
    Ok(())
}

/// Files of the collection that are open and have no name any more.
#[cfg(target_os = "linux")]
fn nameless(place: &Place) -> usize {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let named = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let deleted = |path: &PathBuf| path.to_string_lossy().ends_with(" (deleted)");
    named.filter(|path| path.starts_with(place.collection()) && deleted(path)).count()
}

/// A pass may take days, and does not keep all that long what was replaced meanwhile.
#[test]
#[cfg(target_os = "linux")]
fn a_scrub_keeps_one_replaced_segment_at_most() -> Result<()> {
    let mut place = Place::new(SMALL)?;
    let store = place.create(64)?;
    put_singly(&store, 0..60)?;
    put_singly(&store, 0..60)?;
    let (mut most, mut compacted) = (0, false);
    assert!(store.scrub(|_| {
        most = most.max(nameless(&place));
        if !std::mem::replace(&mut compacted, true) {
            compacted = store.compact(|| Ok(())).is_ok_and(|done| done.segments_before > 10);
        }
        true
    })?);
    assert_eq!((compacted, most), (true, 0));
    Ok(())
}

#[test]
fn what_a_reader_comes_upon_is_counted_too() -> Result<()> {
    let mut place = Place::new(Limits { hash_mask: u64::MAX, ..SMALL })?;
    let store = place.create(64)?;
    put_singly(&store, 0..20)?;
    flip(&Segment::path(&place.collection(), 1), 100)?;
    let failed = (0..20).filter(|number| store.read(*number).is_err()).count();
    assert_eq!((failed, store.stats().damaged), (1, 1));
    Ok(())
}

/// A damaged block is no loss, nor is one that is gone: the tree is filled again.
#[test]
fn a_damaged_table_is_filled_again() -> Result<()> {
    for gone in [false, true] {
        let mut place = Place::new(SMALL)?;
        let store = place.create(64)?;
        put_singly(&store, 0..60)?;
        store.checkpoint()?;
        let collection = super::super::lock_mutex(&store.shared.manifest).collection;
        let tree = place.table()?.tree(collection, "codes").map_err(|_| Error::Interrupted)?.now();
        let block = tree.range(b"B".as_slice()..).next().and_then(std::result::Result::ok);
        let (name, mut block) = block.ok_or(Error::Interrupted)?;
        block[30] ^= 1;
        let harmed = if gone { tree.remove(name) } else { tree.insert(name, block) };
        harmed.map_err(|_| Error::Interrupted)?;

        assert!(store.scrub(|_| true)?);
        assert_eq!(counted(&store), (1, 1));
        assert_eq!(store.within(&Code::zero(store.width()), 64, 99)?.len(), 60);
        assert!(store.scrub(|_| true)?);
        assert_eq!(counted(&store), (1, 2));
    }
    Ok(())
}
