//! Torn tails are cut, damage is reported with its place, a table that is wrong is made anew.

use proptest::prelude::*;

use super::super::check::check_with;
use super::super::hash::{HASH_BYTES, hash_key};
use super::*;

/// A collection of two segments, none of it noted as durable beyond the open of the second.
fn two_segments() -> Result<(Place, Model, Vec<Model>)> {
    let limits = Limits { segment_bytes: 400, checkpoint_records: 1000, ..SMALL };
    let mut place = Place::new(limits)?;
    let store = place.create(64)?;
    let (mut model, mut models) = (Model::default(), Vec::new());
    for name in 0..8u64 {
        let operations = vec![
            put(record(name, Some(code(store.width(), name)))),
            put(record(name / 2, Some(code(store.width(), 77)))),
        ];
        for operation in &operations {
            model.apply(operation);
        }
        store.commit(operations)?;
        models.push(model.clone());
    }
    crash(store);
    Ok((place, model, models))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(Error::io("write", path))
}

fn names() -> impl Iterator<Item = RecordId> {
    (0u64..8).map(id)
}

#[test]
fn the_last_group_cut_at_any_byte_is_no_group() -> Result<()> {
    let (mut place, _, models) = two_segments()?;
    let segment = place.last_segment()?;
    let bytes = place.files.read(&segment, 1 << 20)?;
    let manifest = place.files.read(&place.collection().join("MANIFEST"), 1 << 20)?;
    let last = bytes.windows(4).rposition(|window| window == b"ngrp").unwrap_or_default();
    assert!(last > 52, "the test wants a group before the last");
    for end in last..bytes.len() {
        write(&segment, &bytes[..end])?;
        write(&place.collection().join("MANIFEST"), &manifest)?;
        let (store, live) = place.open()?;
        models[models.len() - 2].check_live(&live);
        assert_eq!(place.files.read(&segment, 1 << 20)?.len(), last, "the tail is cut");
        // And it goes on from there.
        let again = put(record("again", None));
        let number = models[models.len() - 2].next;
        assert_eq!(store.commit(vec![again])?, [Outcome::Inserted(number)]);
        crash(store);
    }
    Ok(())
}

/// A group that did not reach the disk whole, as after a power cut: some of its pages are zeros.
#[test]
fn a_hole_in_the_last_group_is_a_torn_tail_and_one_before_is_damage() -> Result<()> {
    let (mut place, _, models) = two_segments()?;
    let segment = place.last_segment()?;
    let bytes = place.files.read(&segment, 1 << 20)?;
    let groups: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"ngrp")).collect();
    let [.., before, last] = groups[..] else { return Err(Error::Interrupted) };
    for hole in [before + 5, before + 50] {
        let mut holey = bytes.clone();
        holey[hole..hole + 10].fill(0);
        write(&segment, &holey)?;
        let refused = place.open().map(|_| ());
        assert!(
            matches!(&refused, Err(Error::Damaged { file, offset: Some(at), message })
                if *file == segment && *at == before as u64
                && message.contains(&format!("a whole group follows at byte {last}"))),
            "{refused:?}"
        );
        assert_eq!(place.files.read(&segment, 1 << 20)?, holey, "nothing is cut");
    }
    let mut holey = bytes.clone();
    holey[last + 50..].fill(0);
    write(&segment, &holey)?;
    let (store, _) = place.open()?;
    models[models.len() - 2].check(&store, names())
}

#[test]
fn a_flipped_bit_in_what_is_noted_as_durable_is_damage_with_its_place() -> Result<()> {
    let (mut place, model, _) = two_segments()?;
    drop(place.open()?);
    for segment in place.files.list(&place.collection().join("segments"))? {
        let bytes = place.files.read(&segment, 1 << 20)?;
        for bit in (0..8 * bytes.len()).step_by(5) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            write(&segment, &flipped)?;
            match place.open().map(|_| ()) {
                // The group that the bit is in begins before it; a header is named as byte 0.
                Err(Error::Damaged { file, offset: Some(at), .. }) => {
                    assert!(file == segment && at <= bit as u64 / 8, "bit {bit}: {at}");
                }
                Err(Error::Invalid { place, .. }) if place.ends_with(".seg") => {
                    assert!((8..12).contains(&(bit / 8)), "bit {bit} is not in the version");
                }
                other => panic!("bit {bit}: {other:?}"),
            }
        }
        // Cut, or one byte longer.
        for wrong in [&bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat()] {
            write(&segment, wrong)?;
            let opened = place.open();
            let longer_and_open = wrong.len() > bytes.len() && segment == place.last_segment()?;
            assert_eq!(opened.is_ok(), longer_and_open);
        }
        write(&segment, &bytes)?;
    }
    let (store, _) = place.open()?;
    model.check(&store, names())
}

/// A record whose bytes went bad while the collection is open is an error to read, and no obstacle
/// to a newer one.
#[test]
fn a_damaged_record_is_reported_and_can_be_replaced() -> Result<()> {
    let limits = Limits { hash_mask: u64::MAX, ahead_bytes: 0, ..Limits::default() };
    let mut place = Place::new(limits)?;
    let store = place.create(64)?;
    put_singly(&store, 0..5)?;
    let segment = place.last_segment()?;
    let mut bytes = place.files.read(&segment, 1 << 20)?;
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    write(&segment, &bytes)?;
    assert!(matches!(store.get(&id(4)), Err(Error::Damaged { .. })));
    assert!(matches!(store.read(4), Err(Error::Damaged { .. })));
    let both = vec![put(record(4, None)), put(record(3, None))];
    let (new, old) = (5, 4);
    let expected = [Outcome::Replaced { new, old }, Outcome::Replaced { new: 6, old: 3 }];
    assert_eq!(store.commit(both)?, expected);
    assert_eq!(store.get(&id(4))?.map(|(number, _)| number), Some(5));
    Ok(())
}

#[test]
fn a_segment_of_another_place_does_not_pass() -> Result<()> {
    let (mut place, ..) = two_segments()?;
    let segments = place.files.list(&place.collection().join("segments"))?;
    let [first, .., last] = &segments[..] else { return Err(Error::Interrupted) };
    let bytes = place.files.read(first, 1 << 20)?;
    write(last, &bytes)?;
    assert!(matches!(place.open(), Err(Error::Damaged { offset: Some(0), .. })));
    place.files.remove_file(last)?;
    assert!(matches!(place.open(), Err(Error::Io { .. })));
    Ok(())
}

#[test]
fn a_segment_that_the_manifest_does_not_name_is_removed_only_when_empty() -> Result<()> {
    let (mut place, model, _) = two_segments()?;
    let segments = place.collection().join("segments");
    let bytes = place.files.read(&place.last_segment()?, 1 << 20)?;
    let stranger = segments.join("00000099.seg");
    write(&stranger, &bytes[..52])?;
    model.check(&place.open()?.0, names())?;
    assert!(!stranger.exists());
    write(&stranger, &bytes)?;
    assert!(matches!(place.open(), Err(Error::Damaged { .. })));
    assert!(stranger.exists());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(5),
        ..ProptestConfig::default()
    })]

    /// Whatever happens to the bytes of the open segment: what is opened holds only what was
    /// written, in whole groups from the start.
    #[test]
    fn no_bytes_panic_or_invent_a_record(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        swap in any::<(prop::sample::Index, prop::sample::Index)>(),
        kind in 0..3,
    ) {
        let run = || -> Result<()> {
            let (mut place, _, models) = two_segments()?;
            let segment = place.last_segment()?;
            let mut bytes = place.files.read(&segment, 1 << 20)?;
            for (at, byte) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
            match kind {
                0 => bytes.truncate(cut.index(bytes.len())),
                1 => {
                    let (a, b) = (swap.0.index(bytes.len()), swap.1.index(bytes.len()));
                    let piece = bytes[a.min(b)..a.max(b)].to_vec();
                    let at = cut.index(bytes.len());
                    bytes.splice(at..at, piece);
                }
                _ => {}
            }
            write(&segment, &bytes)?;
            if let Ok((store, live)) = place.open() {
                let listed = store.list(None, usize::MAX)?;
                let as_written = models.iter().find(|model| {
                    listed.iter().map(|(n, r)| (n, r)).eq(model.records.iter())
                });
                assert!(as_written.is_some() || listed.is_empty(), "{listed:?}");
                if let Some(model) = as_written {
                    model.check_live(&live);
                }
            }
            Ok(())
        };
        prop_assert!(run().is_ok());
    }
}

/// A checkpointed collection, and its model.
fn checkpointed(records: u64) -> Result<(Place, Model)> {
    let mut place = Place::new(SMALL)?;
    let store = place.create(64)?;
    let mut model = Model::default();
    for name in 0..records {
        let operation = put(record(name, Some(code(store.width(), name))));
        model.apply(&operation);
        store.commit(vec![operation])?;
    }
    store.checkpoint()?;
    assert_eq!(store.stats().recent, 0);
    Ok((place, model))
}

#[test]
fn a_table_that_does_not_open_is_moved_aside_and_made_anew() -> Result<()> {
    let (mut place, model) = checkpointed(30)?;
    place.table = None;
    let dir = place.dir.path().join("table");
    for file in place.files.list(&dir)?.iter().filter(|file| file.is_file()) {
        write(file, b"garbage, and more garbage than sled has bytes in any of its headers")?;
    }
    assert!(place.table()?.rebuilt());
    assert!(place.dir.path().join("table.damaged-1").is_dir());
    let (store, live) = place.open()?;
    model.check_live(&live);
    model.check(&store, (0..30).map(id))?;
    store.checkpoint()?;
    assert_eq!(store.stats().recent, 0);
    model.check(&store, (0..30).map(id))
}

#[test]
fn a_stale_snapshot_of_sled_is_cleared() -> Result<()> {
    let (mut place, model) = checkpointed(30)?;
    place.table = None;
    write(&place.dir.path().join("table/snap.0000000000000001.generating"), b"half")?;
    let (store, _) = place.open()?;
    assert!(!place.table()?.rebuilt());
    assert_eq!(store.stats().table_reach, 30);
    model.check(&store, (0..30).map(id))
}

/// Every way in which the trees may not be what the segments say.
#[test]
fn a_table_that_disagrees_is_filled_again() -> Result<()> {
    type Harm = fn(&sled::Tree) -> sled::Result<()>;
    let harms: [(&str, Harm); 5] = [
        ("a block is lost", |tree| {
            let name = tree.range(b"B".as_slice()..).next().transpose()?.unwrap_or_default().0;
            tree.remove(name).map(|_| ())
        }),
        ("a bit is flipped", |tree| {
            let (name, block) =
                tree.range(b"B".as_slice()..).next().transpose()?.unwrap_or_default();
            let mut block = block.to_vec();
            block[9] ^= 4;
            tree.insert(name, block).map(|_| ())
        }),
        ("a block stands elsewhere", |tree| {
            let (name, block) =
                tree.range(b"B".as_slice()..).next().transpose()?.unwrap_or_default();
            let mut other = name.to_vec();
            other[1] ^= 1;
            tree.remove(name)?;
            tree.insert(other, block).map(|_| ())
        }),
        ("the mark is lost", |tree| tree.remove(b"M").map(|_| ())),
        ("everything is lost but the mark", |tree| {
            let mark = tree.get(b"M")?.unwrap_or_default();
            tree.clear()?;
            tree.insert(b"M", mark).map(|_| ())
        }),
    ];
    for kind in ["ids", "codes"] {
        for (name, harm) in harms {
            let (mut place, model) = checkpointed(30)?;
            let (store, _) = place.open()?;
            assert_eq!(store.stats().recent, 0, "the table is believed");
            let collection = super::super::lock_mutex(&store.shared.manifest).collection;
            crash(store);
            let tree = place.table()?.tree(collection, kind).map_err(|_| Error::Interrupted)?;
            harm(&tree.now()).map_err(|_| Error::Interrupted)?;
            place.limits.checkpoint_records = 1000;
            let (store, live) = place.open()?;
            assert_eq!(store.stats().recent, 30, "{kind}: {name}: the table is not believed");
            model.check_live(&live);
            model.check(&store, (0..30).map(id))?;
        }
    }
    Ok(())
}

#[test]
fn a_table_of_another_history_is_filled_again() -> Result<()> {
    let (mut place, model) = checkpointed(30)?;
    let (store, _) = place.open()?;
    // The same numbers and more, under other ids, as if the segments were an older copy.
    let trees = &store.shared.trees;
    let mut run = super::super::block::Run::new(HASH_BYTES);
    run.push(&hash_key(77), 29);
    trees.ids.merge(&run, 30, false, |_| ()).map_err(|_| Error::Interrupted)?;
    crash(store);
    place.limits.checkpoint_records = 1000;
    let (store, _) = place.open()?;
    assert_eq!(store.stats().recent, 30);
    model.check(&store, (0..30).map(id))
}

#[test]
fn a_table_of_an_older_version_is_filled_again_and_no_finding() -> Result<()> {
    let (mut place, model) = checkpointed(30)?;
    let (store, _) = place.open()?;
    let collection = super::super::lock_mutex(&store.shared.manifest).collection;
    crash(store);
    let tree = place.table()?.tree(collection, "ids").map_err(|_| Error::Interrupted)?.now();
    let mut mark = tree.get(b"M").map_err(|_| Error::Interrupted)?.unwrap_or_default().to_vec();
    assert_eq!((mark[12], usize::from(mark[13])), (2, HASH_BYTES));
    mark[12..14].copy_from_slice(&[1, 8]);
    let crc = crc32c::crc32c(&mark[4..]);
    mark[..4].copy_from_slice(&crc.to_le_bytes());
    tree.insert(b"M", mark).map_err(|_| Error::Interrupted)?;
    let table = place.table()?;
    let checked = check_with(&place.files, &place.collection(), Some(&table), place.limits)?;
    assert_eq!(checked.findings, []);
    assert!(checked.notes[0].to_string().contains("an older version wrote it"));
    place.limits.checkpoint_records = 1000;
    let (store, _) = place.open()?;
    assert_eq!(store.stats().recent, 30);
    model.check(&store, (0..30).map(id))
}

#[test]
fn an_interrupted_merge_is_noticed() -> Result<()> {
    let (mut place, mut model) = checkpointed(30)?;
    let (store, _) = place.open()?;
    let collection = super::super::lock_mutex(&store.shared.manifest).collection;
    let tree = place.table()?.tree(collection, "codes").map_err(|_| Error::Interrupted)?.now();
    let mark = tree.get(b"M").map_err(|_| Error::Interrupted)?.unwrap_or_default();
    let operation = put(record(30, Some(code(store.width(), 30))));
    model.apply(&operation);
    store.commit(vec![operation])?;
    store.checkpoint()?;
    crash(store);
    // All blocks are written, and the mark is not.
    tree.insert(b"M", mark).map_err(|_| Error::Interrupted)?;
    place.limits.checkpoint_records = 1000;
    let (store, _) = place.open()?;
    assert_eq!(store.stats().recent, 31);
    model.check(&store, (0..31).map(id))
}

#[test]
fn a_block_that_is_damaged_while_in_use_is_never_believed() -> Result<()> {
    for kind in ["ids", "codes"] {
        let (mut place, mut model) = checkpointed(30)?;
        let (store, _) = place.open()?;
        let collection = super::super::lock_mutex(&store.shared.manifest).collection;
        let tree = place.table()?.tree(collection, kind).map_err(|_| Error::Interrupted)?.now();
        for item in tree.scan_prefix(b"B") {
            let (name, block) = item.map_err(|_| Error::Interrupted)?;
            let mut block = block.to_vec();
            block[20] ^= 1;
            tree.insert(name, block).map_err(|_| Error::Interrupted)?;
        }
        let operation = put(record(3, Some(code(store.width(), 200))));
        let expected = model.apply(&operation);
        assert_eq!(store.commit(vec![operation])?, [expected]);
        model.check(&store, (0..30).map(id))?;
        store.checkpoint()?;
        model.check(&store, (0..30).map(id))?;
        drop(store);
        model.check(&place.open()?.0, (0..30).map(id))?;
    }
    Ok(())
}
