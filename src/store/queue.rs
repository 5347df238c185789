//! The queue of writers: who waits, and who leads.
//!
//! Whoever comes while nobody leads leads a round: takes what waits, which is its own, and has it
//! committed. So a writer alone waits for nobody. Where others came meanwhile, a thread of the
//! store's own leads from then on, round after round, until nobody waits: it need not be woken for
//! each round, the next of which gathers while the disk is busy with one, and no writer waits longer
//! than the others because it leads.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, Builder, JoinHandle, Thread};

use super::commit::Batch;
use super::format::GROUP_HEADER_BYTES;
use super::{Outcome, Shared, lock_mutex};
use crate::error::Result;

/// To wake so many writers takes less time than they lose by waking one another.
const FEW: usize = 8;

/// Writers that wait, and the thread that leads where there are many.
#[derive(Debug, Default)]
pub(super) struct Queue {
    line: Mutex<Line>,
    /// Told when the thread is to lead, or to end.
    called: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<(Arc<Waiter>, Batch)>,
    /// Who leads. Nobody waits where nobody does.
    leader: Leader,
    stop: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Leader {
    #[default]
    Nobody,
    Writer,
    Thread,
}

/// A writer that waits, each in a place of its own: no other is woken with it.
#[derive(Debug)]
struct Waiter {
    thread: Thread,
    served: Mutex<Option<Served>>,
}

/// What came of a batch, and those whom its writer is to tell what came of theirs.
#[derive(Debug)]
struct Served {
    result: Result<Vec<Outcome>>,
    others: Vec<(Arc<Waiter>, Result<Vec<Outcome>>)>,
}

impl Waiter {
    fn tell(&self, served: Served) {
        *lock_mutex(&self.served) = Some(served);
        self.thread.unpark();
    }

    fn wait(&self) -> Served {
        loop {
            if let Some(served) = lock_mutex(&self.served).take() {
                return served;
            }
            thread::park();
        }
    }
}

impl Shared {
    /// Has a batch committed, together with those of others who wait.
    pub(super) fn queue_up(self: &Arc<Self>, batch: Batch) -> Result<Vec<Outcome>> {
        let waiter = Arc::new(Waiter { thread: thread::current(), served: Mutex::default() });
        let leads = {
            let mut line = lock_mutex(&self.queue.line);
            line.waiting.push_back((Arc::clone(&waiter), batch));
            let leads = line.leader == Leader::Nobody;
            if leads {
                line.leader = Leader::Writer;
            }
            leads
        };
        if leads {
            while self.lead_round() && !self.call_thread() {}
        }
        let Served { result, others } = waiter.wait();
        for (waiter, result) in others {
            waiter.tell(Served { result, others: Vec::new() });
        }
        result
    }

    /// Commits what fits one group of what waits; says whether more does.
    fn lead_round(self: &Arc<Self>) -> bool {
        let (waiters, batches) = lock_mutex(&self.queue.line).take_round(self.limits.group_bytes);
        let mut round = Round { shared: self, waiters, result: None };
        round.result = Some(self.commit_group(&batches));
        drop(round);
        let mut line = lock_mutex(&self.queue.line);
        if line.waiting.is_empty() {
            line.leader = Leader::Nobody;
        }
        !line.waiting.is_empty()
    }

    /// Has the thread lead; false where none can be had.
    fn call_thread(self: &Arc<Self>) -> bool {
        let mut thread = lock_mutex(&self.queue.thread);
        if thread.is_none() {
            let shared = Arc::clone(self);
            let lead = move || shared.lead_when_called();
            *thread = Builder::new().name("nearbit-commit".to_owned()).spawn(lead).ok();
        }
        if thread.is_some() {
            lock_mutex(&self.queue.line).leader = Leader::Thread;
            self.queue.called.notify_one();
        }
        thread.is_some()
    }

    /// The work of the thread.
    fn lead_when_called(self: &Arc<Self>) {
        loop {
            let idle = |line: &mut Line| line.leader != Leader::Thread && !line.stop;
            let called = self.queue.called.wait_while(lock_mutex(&self.queue.line), idle);
            if called.unwrap_or_else(PoisonError::into_inner).stop {
                return;
            }
            // After a panic nobody waits any more, and whoever comes is refused.
            let _ = catch_unwind(AssertUnwindSafe(|| while self.lead_round() {}));
        }
    }
}

impl Queue {
    /// Ends the thread. Nobody waits any more.
    pub(super) fn stop(&self) {
        lock_mutex(&self.line).stop = true;
        self.called.notify_one();
        if let Some(thread) = lock_mutex(&self.thread).take() {
            // Its panics are caught.
            let _ = thread.join();
        }
    }

    /// The bytes that waiting writers hold, as they count for a group.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        lock_mutex(&self.line).waiting.iter().map(|(_, batch)| batch.bytes()).sum()
    }
}

impl Line {
    /// Takes the batches that fit one group, the first in any case.
    fn take_round(&mut self, group_bytes: usize) -> (Vec<Arc<Waiter>>, Vec<Batch>) {
        let mut bytes = GROUP_HEADER_BYTES;
        let fits = |(_, batch): &&(Arc<Waiter>, Batch)| {
            bytes += batch.bytes();
            bytes <= group_bytes
        };
        let count = self.waiting.iter().take_while(fits).count().max(1);
        self.waiting.drain(..count.min(self.waiting.len())).unzip()
    }
}

/// A round that somebody leads; when it is over, in whatever way, its writers are told.
struct Round<'a> {
    shared: &'a Shared,
    waiters: Vec<Arc<Waiter>>,
    /// None while it goes on, and after a panic.
    result: Option<Result<Vec<Vec<Outcome>>>>,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| {
            self.shared.poison("a thread panicked while it committed");
            let mut line = lock_mutex(&self.shared.queue.line);
            self.waiters.extend(line.waiting.drain(..).map(|(waiter, _)| waiter));
            line.leader = Leader::Nobody;
            self.shared.check_poison().map(|()| Vec::new())
        });
        let waiters = self.waiters.drain(..);
        tell(match result {
            Ok(outcomes) => waiters.zip(outcomes.into_iter().map(Ok)).collect(),
            Err(error) => waiters.map(|waiter| (waiter, Err(error.repeated()))).collect(),
        });
    }
}

/// Tells writers what came of their batches: of many one, who tells the others, so that who leads can
/// go on. In a panic all are told at once: the first may be who leads, and tells nobody any more.
fn tell(mut served: Vec<(Arc<Waiter>, Result<Vec<Outcome>>)>) {
    let tells = served.len() > FEW && !thread::panicking();
    let mut others = if tells { served.split_off(1) } else { Vec::new() };
    for (waiter, result) in served {
        waiter.tell(Served { result, others: std::mem::take(&mut others) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn in_a_panic_all_are_told_whoever_was_to_tell_them() {
        struct Leads(Vec<Arc<Waiter>>);
        impl Drop for Leads {
            fn drop(&mut self) {
                let refused = |waiter| (waiter, Err(Error::Interrupted));
                tell(self.0.drain(..).map(refused).collect());
            }
        }
        let waiter = || Arc::new(Waiter { thread: thread::current(), served: Mutex::default() });
        let waiters: Vec<_> = (0..3 * FEW).map(|_| waiter()).collect();
        let leads = Leads(waiters.clone());
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            let _leads = leads;
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        for waiter in waiters {
            let served = lock_mutex(&waiter.served).take();
            assert!(served.is_some_and(|served| served.others.is_empty()));
        }
    }
}
