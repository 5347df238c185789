//! Many threads at once.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::super::checkpoint::{DUE_SHARE, WAIT_FACTOR};
use super::super::files::recorder::Recorder;
use super::super::lock_mutex;
use super::super::walk::{Hints, Piece, walk};
use super::*;

#[test]
fn writers_share_syncs_and_what_is_acknowledged_is_there() -> Result<()> {
    let mut place = Place::new(Limits { checkpoint_records: 50, ..SMALL })?;
    let store = place.create(64)?;
    let groups = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&groups);
    store.on_commit(move |committed| {
        lock_mutex(&told).push(committed.added.numbers.clone());
        // As if it were a slow sync: the others gather meanwhile.
        thread::sleep(Duration::from_micros(200));
    });
    let told = || lock_mutex(&groups).concat();
    let writer = |writer: u64| -> Result<Vec<(RecordId, u64)>> {
        let mut acknowledged = Vec::new();
        for i in 0..40 {
            let name = id(format!("{writer}-{i}"));
            let operation = put(record(&name, Some(code(store.width(), writer * 100 + i))));
            let outcomes = store.commit(vec![operation])?;
            let [Outcome::Inserted(number)] = outcomes[..] else { panic!("{outcomes:?}") };
            assert!(told().contains(&number), "told first");
            acknowledged.push((name, number));
        }
        Ok(acknowledged)
    };
    let acknowledged: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|i| scope.spawn(move || writer(i))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::Interrupted))).collect()
    });
    let rounds = lock_mutex(&groups).len();
    assert!(rounds < 320, "{rounds} syncs for 320 commits");
    assert_eq!(told(), (0..320).collect::<Vec<u64>>(), "in the order of the commits");
    crash(store);
    let (store, live) = place.open()?;
    assert_eq!(live.numbers, (0..320).collect::<Vec<u64>>());
    for (name, number) in acknowledged
        .into_iter()
        .flat_map(|result: Result<Vec<_>>| result.unwrap_or_else(|error| panic!("{error}")))
    {
        assert_eq!(store.get(&name)?.map(|(number, _)| number), Some(number));
    }
    Ok(())
}

/// While records are replaced and checkpoints run, every id has exactly one record.
#[test]
fn readers_see_each_record_once() -> Result<()> {
    let mut place = Place::new(Limits { checkpoint_records: 20, hash_mask: 15, ..SMALL })?;
    let store = place.create(64)?;
    put_singly(&store, 0..30)?;
    let width = store.width();
    let done = std::sync::atomic::AtomicBool::new(false);
    let read = || -> Result<()> {
        while !done.load(Ordering::Acquire) {
            for name in 0..30u64 {
                let found = store.get(&id(name))?;
                assert_eq!(found.and_then(|(_, record)| record.code), Some(code(width, name)));
                let near = store.within(&code(width, name), 0, 9)?;
                assert_eq!(near.len(), 1, "{name}: {near:?}");
            }
            assert_eq!(store.within(&code(width, 0), 64, 99)?.len(), 30);
            // Whatever dies meanwhile, the nearest are the nearest.
            let zero = code(width, 0);
            for way in [Way::Auto, Way::Scan] {
                let (code, limit, radius, only, deadline) = (&zero, 5, None, &|_| true, None);
                let near = store.nearest(&Nearby { code, limit, radius, only, way, deadline })?;
                let distances = near.hits.iter().map(|(_, distance)| *distance);
                assert_eq!(distances.collect::<Vec<_>>(), [0, 1, 1, 1, 1]);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read)];
        for _ in 0..10 {
            put_singly(&store, 0..30)?;
        }
        done.store(true, Ordering::Release);
        readers.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(Error::Interrupted)))
    })
}

/// However many write, and however slow the disk is: what waits is what the writers came with, a
/// group is no longer than one may be, and what no checkpoint took over stays within its limit.
#[test]
fn a_slow_disk_makes_writers_wait_and_not_memory_grow() -> Result<()> {
    const WRITERS: u64 = 16;
    const RECORDS: u64 = 3;
    let limits =
        Limits { segment_bytes: 1 << 20, checkpoint_records: 20, hash_mask: u64::MAX, ..SMALL };
    let recorder = Recorder::default();
    let mut place = Place::on(Files::on(recorder.clone()), limits)?;
    let store = place.create(64)?;
    // Checkpoints replace the MANIFEST: one of them takes as long as all groups together.
    recorder.set_slowness(Duration::from_millis(1), Duration::from_millis(150));
    let batch = |writer: u64, group: u64| -> Vec<Operation> {
        let record = |i: u64| {
            let name = (writer * 1000 + group) * 10 + i;
            let text = Some("x".repeat(400));
            put(Record { text, ..record(name, Some(code(store.width(), name))) })
        };
        (0..RECORDS).map(record).collect()
    };
    let (mut most_waiting, mut most_recent) = (0, 0);
    thread::scope(|scope| -> Result<()> {
        let write = |writer: u64| -> Result<()> {
            (0..12).try_for_each(|group| store.commit(batch(writer, group)).map(drop))
        };
        let writers: Vec<_> = (0..WRITERS).map(|i| scope.spawn(move || write(i))).collect();
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            most_waiting = most_waiting.max(store.shared.queue.held_bytes());
            let recent = store.stats().recent;
            let due =
                limits.checkpoint_records.max(store.shared.trees.ids.counts().entries / DUE_SHARE);
            let most = due * WAIT_FACTOR + WRITERS * RECORDS;
            // As much again may be on its way into the table.
            assert!(
                recent <= 2 * most,
                "{recent} records in memory, expected {most} twice at most"
            );
            most_recent = most_recent.max(recent);
            thread::sleep(Duration::from_micros(100));
        }
        writers.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(Error::Interrupted)))
    })?;
    let bytes = batch(9, 9).len() * 450;
    assert!(most_waiting > limits.group_bytes, "{most_waiting} bytes waited at most");
    assert!(most_waiting <= WRITERS as usize * bytes, "{most_waiting} bytes waited");
    assert!(most_recent > 2 * limits.checkpoint_records, "{most_recent} records in memory at most");
    assert_eq!(store.shared.queue.held_bytes(), 0);
    assert_eq!(store.len(), WRITERS * 12 * RECORDS);
    let segment = place.files.read(&place.last_segment()?, 1 << 20)?;
    let mut groups = Vec::new();
    walk(&segment, Hints::NONE, &mut |piece| {
        if let Piece::Group { range, .. } = piece {
            groups.push(range.end - range.start);
        }
    });
    let longest = groups.iter().copied().max().unwrap_or(0);
    assert!(longest <= limits.group_bytes as u64, "a group of {longest} bytes");
    assert!(longest > 2 * bytes as u64, "no group is of several writers: {longest} bytes");
    Ok(())
}
