//! Scrubs in the background: pass after pass over all collections, never faster than allowed.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::{Collections, Database};
use crate::error::{Error, Result};

/// How stored bytes are verified while a database is open.
///
/// ```
/// use std::time::Duration;
/// use nearbit::Scrub;
///
/// let gently = Scrub { bytes_per_second: 5_000_000, pause: Duration::from_secs(3600) };
/// assert_eq!(Scrub::default().pause, Duration::from_secs(24 * 3600));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scrub {
    /// The most that is read, in bytes a second.
    pub bytes_per_second: u64,
    /// From the end of a pass over all collections to the beginning of the next.
    pub pause: Duration,
}

impl Default for Scrub {
    /// 10 MB a second, a pass a day.
    fn default() -> Self {
        Self { bytes_per_second: 10_000_000, pause: Duration::from_secs(24 * 3600) }
    }
}

impl Database {
    /// Verifies all checksums in the background from now on, pass after pass, until the database is
    /// closed; a scrub that goes on already takes the new pace. What is damaged is warned of in the
    /// log, with file and byte, and counted in
    /// [`StoreStats::damaged`](crate::store::StoreStats::damaged).
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// database.scrub(nearbit::Scrub::default())?;
    /// assert_eq!(notes.sizes().store.damaged, 0);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A pace of nothing, or no thread to be had.
    pub fn scrub(&self, scrub: Scrub) -> Result<()> {
        if scrub.bytes_per_second == 0 {
            return Err(Error::invalid("scrub.bytes_per_second", "expected 1 or more, got 0"));
        }
        let started = Scrubber::start(scrub, Arc::clone(&self.inner.collections))?;
        let mut scrubber = self.inner.scrubber.lock().unwrap_or_else(PoisonError::into_inner);
        drop(scrubber.replace(started));
        Ok(())
    }
}

/// A scrub in a thread of its own, which ends when this is dropped.
pub(super) struct Scrubber {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    told: Condvar,
}

impl Scrubber {
    fn start(scrub: Scrub, collections: Arc<Collections>) -> Result<Self> {
        let stop = Arc::new(Stop::default());
        let told = Arc::clone(&stop);
        let work = move || run(scrub, &collections, &told);
        let thread = Builder::new().name("nearbit-scrub".to_owned()).spawn(work);
        let thread = thread.map_err(Error::io("begin", "a thread to scrub with"))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        *self.stop.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.told.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a scrub panicked");
        }
    }
}

impl Stop {
    /// Waits; false where it is to stop.
    fn wait(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(stopped, time, |stopped| !*stopped);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

fn run(scrub: Scrub, collections: &Collections, stop: &Stop) {
    loop {
        let names: Vec<String> = collections.load().keys().cloned().collect();
        for name in names {
            // One by one, so that one that is deleted meanwhile is closed.
            let Some(collection) = collections.load().get(&name).cloned() else { continue };
            let (start, mut read) = (Instant::now(), 0);
            let pace = |bytes| {
                read += bytes;
                let due = Duration::from_secs_f64(read as f64 / scrub.bytes_per_second as f64);
                stop.wait(due.saturating_sub(start.elapsed()))
            };
            if let Err(error) = collection.scrub(pace) {
                tracing::warn!(collection = collection.name(), %error, "the scrub goes on elsewhere");
            }
        }
        if !stop.wait(scrub.pause) {
            return;
        }
    }
}
