//! Work that goes on beside the writers, in a thread of its own, one piece at a time.

use std::sync::Mutex;
use std::thread::{Builder, JoinHandle};

use super::lock_mutex;

/// The thread of the last piece of work.
#[derive(Debug)]
pub(super) struct Background {
    name: &'static str,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, thread: Mutex::default() }
    }

    /// Begins the work that `work` makes, unless some is under way.
    pub(super) fn start<W: FnOnce() + Send + 'static>(&self, work: impl FnOnce() -> W) {
        let mut thread = lock_mutex(&self.thread);
        if thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        thread.take().into_iter().for_each(|thread| self.end(thread));
        // Where no thread can be had the work stays due until there is one.
        *thread = Builder::new().name(format!("nearbit-{}", self.name)).spawn(work()).ok();
    }

    /// Waits for the work that is under way.
    pub(super) fn join(&self) {
        // Nobody waits for the lock meanwhile.
        let thread = lock_mutex(&self.thread).take();
        thread.into_iter().for_each(|thread| self.end(thread));
    }

    fn end(&self, thread: JoinHandle<()>) {
        if thread.join().is_err() {
            tracing::error!("a {} panicked", self.name);
        }
    }
}
