//! The publication in every order in which its threads can meet, by loom.
//!
//! `publication` is compiled here a second time, on loom's models of a lock and of a thread. loom
//! runs each test again and again, each time in another order, until it has run all that differ.

use std::sync::Arc;

use loom::thread::Builder;

use super::kernel::Kernel;
use super::sealed::Sealed;
use super::snapshot::Snapshot;
use crate::code::{Codes, Width};

#[path = "publication.rs"]
#[expect(clippy::duplicate_mod, reason = "the same on models")]
#[expect(dead_code, reason = "the index calls more of it")]
mod publication;

use publication::Publication;

mod sync {
    use std::sync::Arc;

    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};

    /// A pointer that is changed and read at one moment.
    pub(super) struct ArcSwap<T>(Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub(super) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(super) fn load(&self) -> Arc<T> {
            self.0.lock().unwrap().clone()
        }

        pub(super) fn load_full(&self) -> Arc<T> {
            self.load()
        }

        pub(super) fn store(&self, value: Arc<T>) {
            *self.0.lock().unwrap() = value;
        }
    }
}

/// Runs parts of a test as threads, on stacks that are large enough to sort on.
fn spawn(part: impl FnOnce() + Send + 'static) -> loom::thread::JoinHandle<()> {
    Builder::new().stack_size(1 << 20).spawn(part).unwrap()
}

fn codes(values: impl Iterator<Item = u64>) -> Codes {
    let mut codes = Codes::new(Width::new(64).unwrap());
    values.for_each(|value| codes.push_words(&[value]).unwrap());
    codes
}

/// Records 0 and 1.
fn two() -> Snapshot {
    let codes = codes(0..2);
    Snapshot::new(Kernel::portable(), Sealed::build(codes.width(), &[0, 1], codes.as_words()))
}

fn numbers(snapshot: &Snapshot) -> Vec<u64> {
    let mut numbers: Vec<u64> = snapshot.rows().map(|(number, _)| number).collect();
    numbers.sort_unstable();
    numbers
}

/// Each group replaces the two records that are there by two others, and some begin a fold. So a
/// reader must find a pair, and never an older one than before.
fn groups_are_whole_and_none_is_lost(begin: fn(&Publication) -> Option<Arc<Snapshot>>) {
    loom::model(move || {
        let publication = Arc::new(Publication::new(two(), Some(1)));
        let writer = publication.clone();
        let writer = spawn(move || {
            for pair in 1..3 {
                let (new, old) = ([2 * pair, 2 * pair + 1], [2 * pair - 2, 2 * pair - 1]);
                let then = writer.apply(&new, &codes(new.into_iter()), &old, |_| pair == 1);
                if let Some(then) = then {
                    writer.end_fold(&then, then.folded());
                }
            }
        });
        let folder = publication.clone();
        let folder = spawn(move || {
            if let Some(then) = begin(&folder) {
                folder.end_fold(&then, then.folded());
            }
        });
        let mut before = 0;
        for _ in 0..2 {
            let found = numbers(&publication.current.load());
            assert!(found[0] >= before && found[0].is_multiple_of(2), "{found:?} after {before}");
            assert_eq!(found, [found[0], found[0] + 1]);
            before = found[0];
        }
        writer.join().unwrap();
        folder.join().unwrap();
        publication.wait_for_fold();
        assert_eq!(numbers(&publication.current.load()), [4, 5]);
    });
}

#[test]
fn a_fold_that_waits_for_its_turn_loses_no_group() {
    groups_are_whole_and_none_is_lost(|publication| Some(publication.begin_fold()));
}

#[test]
fn a_fold_that_a_reader_begins_loses_no_group() {
    groups_are_whole_and_none_is_lost(|publication| {
        publication.try_begin_fold(|_| true).map(Arc::new)
    });
}
