//! Every operation fails in turn: it is said, nothing is acknowledged after it, nothing is lost.
//!
//! ```text
//! NEARBIT_SEEDS=200 cargo test --release --lib store::tests::fault     every operation of 200 workloads
//! ```

use std::io::ErrorKind;

use rand::RngExt;

use super::super::files::recorder::{Fault, Which};
use super::workload::{Workload, compact_some, each_seed, seeds};
use super::*;

const STEPS: usize = 20;

/// Runs a workload of which operation `at` fails; false where it has fewer operations.
fn check_one(seed: u64, at: u64, error: ErrorKind, table: &Table) -> Result<bool> {
    let (mut workload, store) = Workload::new(seed, table.clone())?;
    let mut store = Some(store);
    let recorder = workload.recorder.clone();
    let at = recorder.operations() + at;
    let fault = Some(Fault { at, which: Which::One, error });
    recorder.set_fault(fault);
    for step in 0..STEPS {
        if store.is_none() || step % 5 == 4 {
            store.take().into_iter().for_each(crash);
            let mut opened = workload.place.open();
            if let [failed] = &recorder.take_failed()[..] {
                assert!(opened.is_err(), "{failed} failed, and the open did not");
                opened = workload.place.open();
            }
            let (opened, _) = opened?;
            recorder.set_fault(None);
            workload.resolve(&opened)?;
            recorder.set_fault(fault);
            store = Some(opened);
        }
        let Some(open) = &store else { return Err(Error::Interrupted) };
        if step % 4 == 3 {
            let checkpointed = open.checkpoint();
            let failed = recorder.take_failed();
            assert_eq!(checkpointed.is_err(), !failed.is_empty(), "{failed:?}: {checkpointed:?}");
            if checkpointed.is_err() {
                check_stopped(&mut workload, open, &failed[0])?;
                store.take().into_iter().for_each(crash);
            }
            continue;
        }
        if step % 3 == 1 {
            let seals = workload.rng.random_bool(0.3);
            let compacted = match seals {
                true => open.compact(|| Ok(())).map(|_| ()),
                false => compact_some(open, &mut workload.rng),
            };
            if let [failed] = &recorder.take_failed()[..] {
                let told = compacted.is_err();
                check_compaction(&mut workload, open, failed, told, seals)?;
            } else {
                compacted?;
            }
            if open.shared.poison.get().is_some() {
                store.take().into_iter().for_each(crash);
            }
            continue;
        }
        let (operations, after) = workload.group();
        workload.begin(after);
        let committed = open.commit(operations);
        let failed = recorder.take_failed();
        assert_eq!(committed.is_err(), !failed.is_empty(), "{failed:?}: {committed:?}");
        match committed {
            Ok(_) => workload.acknowledge(),
            Err(_) => {
                check_stopped(&mut workload, open, &failed[0])?;
                store.take().into_iter().for_each(crash);
            }
        }
    }
    store.into_iter().for_each(crash);
    let reached = recorder.operations() > at;
    recorder.set_fault(None);
    let (store, live) = workload.place.open()?;
    workload.resolve(&store)?;
    workload.model().check_live(&live);
    crash(store);
    Ok(reached)
}

/// After `failed` in a compaction all is as before, and writes go on, but where nobody knows which
/// MANIFEST stands, or where the open segment was to be sealed.
fn check_compaction(
    workload: &mut Workload,
    store: &Store,
    failed: &str,
    told: bool,
    seals: bool,
) -> Result<()> {
    assert!(told || failed.starts_with("remove"), "{failed} failed, and it was not said");
    assert!(workload.model().holds(&store.list(None, usize::MAX)?), "after {failed}");
    if store.shared.poison.get().is_some() {
        assert!(seals || failed == "sync directory c", "writes are refused after {failed}");
        return Ok(());
    }
    assert!(seals || failed != "sync directory c", "writes go on after {failed}");
    let (operations, after) = workload.group();
    workload.begin(after);
    store.commit(operations)?;
    workload.acknowledge();
    Ok(())
}

/// After `failed` reads go on, and writes are refused, unless it was a read or the disk was full.
fn check_stopped(workload: &mut Workload, store: &Store, failed: &str) -> Result<()> {
    assert!(workload.model().holds(&store.list(None, usize::MAX)?), "reads go on");
    let refused = store.commit(vec![Operation::Delete(id("nobody"))]);
    let (operations, _) = workload.group();
    if refused.is_err() {
        let again = store.commit(operations);
        assert!(matches!(again, Err(Error::Unavailable { .. })), "after {failed}: {again:?}");
        assert!(workload.model().holds(&store.list(None, usize::MAX)?));
    } else {
        assert!(
            failed.starts_with("read") || store.shared.poison.get().is_none(),
            "writes go on after {failed}"
        );
        let harmless = ["read", "open", "create", "ask", "look", "list"];
        assert!(harmless.iter().any(|doing| failed.starts_with(doing)), "after {failed}");
    }
    Ok(())
}

#[test]
fn every_operation_that_fails_is_surfaced_and_stops_the_writes() -> Result<()> {
    each_seed(seeds(4), |seed, table| {
        let mut at = 0;
        while check_one(seed, at, ErrorKind::Other, table)? {
            at += 1;
        }
        assert!(at > 20, "it has {at} operations");
        Ok(())
    })
}

/// From operation `at` on the disk has no room, until it has again.
fn check_full(seed: u64, at: u64, table: &Table) -> Result<bool> {
    let (mut workload, store) = Workload::new(seed, table.clone())?;
    let recorder = workload.recorder.clone();
    let at = recorder.operations() + at;
    let fault = Fault { at, which: Which::NeedingRoom, error: ErrorKind::StorageFull };
    recorder.set_fault(Some(fault));
    let mut refusals = 0;
    for step in 0..STEPS {
        let (operations, after) = workload.group();
        // A record that comes and goes in one group is written too.
        let before = workload.model();
        let is_a_write = after.next != before.next || after.records != before.records;
        workload.begin(after);
        let mut committed = store.commit(operations.clone());
        if step % 4 == 3 {
            drop(store.checkpoint());
        }
        if step % 4 == 1 {
            let compacted = store.compact(|| Ok(())).map(|_| ());
            let compacted = compacted.and_then(|()| compact_some(&store, &mut workload.rng));
            assert!(compacted.is_ok() || compacted.is_err_and(|error| error.is_full()));
        }
        if let Err(error) = &committed {
            assert!(error.is_full() && is_a_write, "{error}");
            assert!(workload.model().holds(&store.list(None, usize::MAX)?), "reads go on");
            refusals += 1;
            if refusals == 3 {
                // There is room again, and nothing else is needed.
                recorder.set_fault(None);
                committed = store.commit(operations);
                committed?;
                workload.acknowledge();
            }
        } else {
            workload.acknowledge();
        }
    }
    assert!(workload.model().holds(&store.list(None, usize::MAX)?));
    crash(store);
    recorder.set_fault(None);
    let (store, live) = workload.place.open()?;
    assert!(workload.model().holds(&store.list(None, usize::MAX)?), "after it was opened again");
    workload.model().check_live(&live);
    crash(store);
    Ok(recorder.operations() > at)
}

#[test]
fn a_disk_that_is_full_at_any_operation_refuses_writes_until_there_is_room() -> Result<()> {
    each_seed(seeds(4), |seed, table| {
        let mut at = 0;
        while check_full(seed, at, table)? {
            at += 1;
        }
        assert!(at > 20, "it has {at} operations");
        Ok(())
    })
}
