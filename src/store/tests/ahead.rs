//! Zeros that are laid ahead of small groups, and what is made of them at open, at close, and where
//! they are not what they seem.

use std::io::ErrorKind;

use super::super::durability::Durability;
use super::super::files::recorder::{Fault, Recorder, Which};
use super::super::lock_mutex;
use super::super::walk::{Hints, Piece, walk};
use super::*;

/// Zeros are laid ahead of groups of at most 125 bytes: of one or two records.
const LIMITS: Limits = Limits {
    segment_bytes: 1 << 20,
    checkpoint_records: 1000,
    hash_mask: u64::MAX,
    ahead_bytes: 1000,
    ..SMALL
};

/// The bytes of groups in the file that is written to, and those of zeros behind them; nothing else
/// stands there.
fn lengths(place: &Place, store: &Store) -> Result<(u64, u64)> {
    let bytes = place.files.read(&place.last_segment()?, 1 << 20)?;
    let (mut end, mut zeros) = (52, 0);
    walk(&bytes, Hints::NONE, &mut |piece| match piece {
        Piece::Group { range, .. } => end = range.end,
        Piece::Ahead { range } => zeros = range.end - range.start,
        Piece::Torn { .. } | Piece::Damage(_) => panic!("{piece:?}"),
        Piece::Header(_) | Piece::Record { .. } => {}
    });
    assert_eq!(end, store.shared.state().segments.open().length);
    assert_eq!(end + zeros, bytes.len() as u64);
    Ok((end, zeros))
}

fn put_together(store: &Store, names: std::ops::Range<u64>) -> Result<()> {
    let operations = names.map(|name| put(record(name, Some(code(store.width(), name)))));
    store.commit(operations.collect()).map(|_| ())
}

#[test]
fn small_groups_take_the_place_of_zeros() -> Result<()> {
    let mut place = Place::new(LIMITS)?;
    let store = place.create(64)?;
    put_singly(&store, 0..1)?;
    let (first, zeros) = lengths(&place, &store)?;
    assert_eq!(zeros, 1000);
    put_singly(&store, 1..11)?;
    let (end, zeros) = lengths(&place, &store)?;
    assert!(end > first + 500 && end + zeros == first + 1000, "{end} and {zeros}");
    put_singly(&store, 11..22)?;
    let (end, zeros) = lengths(&place, &store)?;
    assert!(end > first + 1000 && zeros > 0, "laid again: {end} and {zeros}");
    // A large group gets as far as it has to.
    put_together(&store, 22..100)?;
    assert_eq!(lengths(&place, &store)?.1, 0);
    put_singly(&store, 100..101)?;
    assert_eq!(lengths(&place, &store)?.1, 1000);

    // What a killed process leaves of them is cut without a word.
    crash(store);
    let (store, live) = place.open()?;
    assert_eq!(live.numbers, (0..101).collect::<Vec<u64>>());
    assert_eq!(lengths(&place, &store)?.1, 0);
    put_singly(&store, 101..102)?;
    assert_eq!(lengths(&place, &store)?.1, 1000);
    Ok(())
}

/// The lengths of segments are compared when they are opened.
#[test]
fn a_close_leaves_none_nor_does_a_sealed_segment() -> Result<()> {
    let mut place = Place::new(LIMITS)?;
    let store = place.create(64)?;
    put_singly(&store, 0..1)?;
    let sealed = (place.last_segment()?, lengths(&place, &store)?.0);
    let writer = lock_mutex(&store.shared.writer);
    store.shared.roll()?;
    drop(writer);
    put_singly(&store, 1..2)?;
    let open = (place.last_segment()?, lengths(&place, &store)?.0);
    drop(store);
    for (segment, length) in [open, sealed] {
        assert_eq!(place.files.open(&segment)?.len()?, length, "{}", segment.display());
    }
    assert_eq!(place.open()?.1.numbers, [0, 1]);
    Ok(())
}

/// Where there is no room for them the write is refused, and what was laid before is forgotten.
#[test]
fn where_the_disk_is_full_nothing_is_left_of_them() -> Result<()> {
    let recorder = Recorder::default();
    let mut place = Place::on(Files::on(recorder.clone()), LIMITS)?;
    let store = place.create(64)?;
    let fail = |which| {
        let (at, error) = (recorder.operations(), ErrorKind::StorageFull);
        recorder.set_fault(Some(Fault { at, which, error }));
    };
    put_singly(&store, 0..1)?;
    // Some file systems want room for what takes the place of zeros too.
    fail(Which::One);
    assert!(put_singly(&store, 1..2).is_err_and(|error| error.is_full()));
    assert_eq!(recorder.take_failed(), ["write 00000001.seg"]);
    assert_eq!(lengths(&place, &store)?.1, 0);
    put_singly(&store, 1..2)?;
    assert_eq!(lengths(&place, &store)?.1, 1000);
    fail(Which::NeedingRoom);
    // The zeros have their room already.
    put_singly(&store, 2..10)?;
    let refused = put_singly(&store, 10..30);
    assert!(refused.is_err_and(|error| error.is_full()));
    let (_, zeros) = lengths(&place, &store)?;
    assert_eq!(zeros, 0);
    recorder.set_fault(None);
    let written = store.len();
    put_singly(&store, written..40)?;
    assert!(lengths(&place, &store)?.1 > 0);
    crash(store);
    assert_eq!(place.open()?.1.numbers, (0..40).collect::<Vec<u64>>());
    Ok(())
}

/// Whichever bit is flipped, what is found is what is found where no zeros follow.
#[test]
fn zeros_behind_damage_change_nothing_of_what_is_found() -> Result<()> {
    let mut place = Place::new(LIMITS)?;
    let store = place.create(64)?;
    put_singly(&store, 0..3)?;
    put_together(&store, 3..5)?;
    let (end, zeros) = lengths(&place, &store)?;
    assert!(zeros > 0);
    let bytes = place.files.read(&place.last_segment()?, 1 << 20)?;
    let pieces = |bytes: &[u8], durable| {
        let mut pieces = Vec::new();
        walk(bytes, Hints { durable, ..Hints::NONE }, &mut |piece| match piece {
            Piece::Ahead { .. } => {}
            // It takes all that follows.
            Piece::Torn { range, flaw } => pieces.push(format!("torn at {}: {flaw}", range.start)),
            piece => pieces.push(format!("{piece:?}")),
        });
        pieces
    };
    for bit in 0..end * 8 {
        let mut bytes = bytes.clone();
        bytes[bit as usize / 8] ^= 1 << (bit % 8);
        let alone = &bytes[..end as usize];
        assert_eq!(pieces(&bytes, end), pieces(alone, end), "bit {bit}");
        // Without the segment's header nothing can be told from zeros either.
        if bit >= 52 * 8 {
            assert_eq!(pieces(&bytes, 0), pieces(alone, 0), "bit {bit}, where nothing is known");
        }
    }
    Ok(())
}

/// Zeros in the place of a group that is known are damage, however much they look like those ahead.
#[test]
fn a_known_group_that_became_zeros_is_damage() -> Result<()> {
    let later = Durability::interval(Durability::MAX_INTERVAL_MS)?;
    for (lean, durability) in [(false, Durability::Sync), (true, Durability::Sync), (false, later)]
    {
        let mut place = Place::new(LIMITS)?;
        let mut store = place.create(64)?;
        if lean {
            drop(store);
            store = place.open_lean()?;
        }
        put_singly(&store, 0..3)?;
        let before = lengths(&place, &store)?.0;
        store.commit_with(vec![put(record(3, None))], durability)?;
        let zeros = vec![0; (lengths(&place, &store)?.0 - before) as usize];
        place.files.open(&place.last_segment()?)?.write_at(&zeros, before)?;
        let refilled =
            store.shared.rebuild_table(&mut lock_mutex(&store.shared.writer), "a test says so");
        assert!(matches!(refilled, Err(Error::Damaged { .. })), "{refilled:?}");
        assert!(matches!(store.get(&id(3)), Err(Error::Damaged { .. })));
        crash(store);
    }
    // After a clean close MANIFEST knows it.
    let mut place = Place::new(LIMITS)?;
    let store = place.create(64)?;
    put_singly(&store, 0..3)?;
    let before = lengths(&place, &store)?.0;
    put_singly(&store, 3..4)?;
    let zeros = vec![0; (lengths(&place, &store)?.0 - before) as usize];
    let segment = place.last_segment()?;
    drop(store);
    place.files.open(&segment)?.write_at(&zeros, before)?;
    assert!(matches!(place.open(), Err(Error::Damaged { file, .. }) if file == segment));
    Ok(())
}
