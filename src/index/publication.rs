//! The publication: how one state of the index follows another, while readers read and a fold is
//! under way.

use std::sync::{Arc, PoisonError, TryLockError};

use super::sync::{ArcSwap, Condvar, Mutex, MutexGuard};
use crate::code::{Codes, Width};
use crate::index::{Kernel, Snapshot};

pub(super) struct Publication {
    /// What readers see: an `ArcSwap`, so that they never wait for a writer.
    pub(super) current: ArcSwap<Snapshot>,
    /// Held while the next snapshot is made, so that no group is lost.
    writer: Mutex<Writer>,
    /// Told when a fold has ended.
    folded: Condvar,
}

struct Writer {
    /// The last number that was added.
    newest: Option<u64>,
    /// While a fold is under way, the numbers removed since it began: it has to bury them again.
    /// At most one is under way.
    removed: Option<Vec<u64>>,
}

impl Publication {
    /// The first state; `newest` is the last number in it.
    pub(super) fn new(snapshot: Snapshot, newest: Option<u64>) -> Self {
        let writer = Mutex::new(Writer { newest, removed: None });
        Self { current: ArcSwap::from_pointee(snapshot), writer, folded: Condvar::new() }
    }

    /// The same records, searched by another kernel.
    pub(super) fn set_kernel(&self, kernel: Kernel) {
        self.update(|snapshot, _| snapshot.kernel = kernel);
    }

    /// Shows one group of writes. Where a fold `is_due` then, and none is under way, one begins:
    /// the caller has to end it, from the state that it gets.
    ///
    /// # Panics
    /// Where the group is not as [`Index::apply`](crate::index::Index::apply) wants it. All is then
    /// as it was.
    pub(super) fn apply(
        &self,
        numbers: &[u64],
        codes: &Codes,
        removed: &[u64],
        is_due: impl Fn(&Snapshot) -> bool,
    ) -> Option<Snapshot> {
        self.update(|snapshot, writer| {
            check_group(snapshot.width(), writer.newest, numbers, codes);
            snapshot.apply(numbers, codes, removed);
            writer.newest = numbers.last().copied().or(writer.newest);
            if let Some(since) = &mut writer.removed {
                since.extend_from_slice(removed);
                return None;
            }
            let begins = is_due(snapshot);
            writer.removed = begins.then(Vec::new);
            begins.then(|| snapshot.clone())
        })
    }

    /// Begins a fold where it `is_due`, none is under way, and nobody writes at this moment; the
    /// caller has to end it.
    pub(super) fn try_begin_fold(&self, is_due: impl Fn(&Snapshot) -> bool) -> Option<Snapshot> {
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(writer)) => writer.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let now = self.current.load();
        let begins = writer.removed.is_none() && is_due(&now);
        begins.then(|| {
            writer.removed = Some(Vec::new());
            Snapshot::clone(&now)
        })
    }

    /// Begins a fold, after the one that is under way; the caller has to end it.
    pub(super) fn begin_fold(&self) -> Arc<Snapshot> {
        let mut writer = self.settled();
        writer.removed = Some(Vec::new());
        self.current.load_full()
    }

    /// Ends the fold that began when `then` was current: `folded` has the same records.
    pub(super) fn end_fold(&self, then: &Snapshot, mut folded: Snapshot) {
        self.update(|now, writer| {
            folded.kernel = now.kernel;
            folded.catch_up(then, now, &writer.removed.take().unwrap_or_default());
            *now = folded;
        });
        self.folded.notify_all();
    }

    /// Waits for the end of the fold that is under way.
    pub(super) fn wait_for_fold(&self) {
        drop(self.settled());
    }

    /// The writer's state is changed last, so it is whole even where a writer panicked.
    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's state while no fold is under way.
    fn settled(&self) -> MutexGuard<'_, Writer> {
        let mut writer = self.lock();
        while writer.removed.is_some() {
            writer = self.folded.wait(writer).unwrap_or_else(PoisonError::into_inner);
        }
        writer
    }

    /// Makes the next snapshot out of the current one and publishes it.
    fn update<T>(&self, change: impl FnOnce(&mut Snapshot, &mut Writer) -> T) -> T {
        let mut writer = self.lock();
        let mut next = Snapshot::clone(&self.current.load());
        let result = change(&mut next, &mut writer);
        self.current.store(Arc::new(next));
        result
    }
}

pub(super) fn check_group(width: Width, newest: Option<u64>, numbers: &[u64], codes: &Codes) {
    assert_eq!(codes.width(), width, "the codes have another width than the index");
    assert_eq!(codes.len(), numbers.len(), "there must be one code for each number");
    let ascends = newest.iter().chain(numbers).is_sorted_by(|a, b| a < b);
    assert!(ascends, "record numbers must ascend, from group to group too");
}
