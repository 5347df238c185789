//! Many threads at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::*;

#[test]
fn writers_share_syncs_and_what_is_acknowledged_is_there() -> Result<()> {
    let mut place = Place::new(Limits { checkpoint_records: 50, ..SMALL })?;
    let store = place.create(64)?;
    let published = Mutex::new(Vec::new());
    let rounds = AtomicU64::new(0);
    let writer = |writer: u64| -> Result<Vec<(RecordId, u64)>> {
        let mut acknowledged = Vec::new();
        for i in 0..40 {
            let name = id(format!("{writer}-{i}"));
            let operation = put(record(&name, Some(code(store.width(), writer * 100 + i))));
            let outcomes = store.commit(vec![operation], |committed| {
                rounds.fetch_add(1, Ordering::Relaxed);
                super::super::lock_mutex(&published).extend(committed.added.numbers.clone());
                // As if it were a slow sync: the others gather meanwhile.
                thread::sleep(Duration::from_micros(200));
            })?;
            let [Outcome::Inserted(number)] = outcomes[..] else { panic!("{outcomes:?}") };
            assert!(super::super::lock_mutex(&published).contains(&number), "published first");
            acknowledged.push((name, number));
        }
        Ok(acknowledged)
    };
    let acknowledged: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|i| scope.spawn(move || writer(i))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::Interrupted))).collect()
    });
    let rounds = rounds.into_inner();
    assert!(rounds < 320, "{rounds} syncs for 320 commits");
    let published = published.into_inner().unwrap_or_default();
    assert_eq!(published, (0..320).collect::<Vec<u64>>(), "in the order of the commits");
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
