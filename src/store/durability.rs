//! When a write is durable: before it is acknowledged, or a little later.
//!
//! A write with [`Durability::Interval`] is acknowledged when the operating system has it: it survives
//! a killed process, and what a power cut may take of it is the last of it, in whole groups, as far
//! back as the last sync. A thread of the collection syncs when the interval of the oldest such write
//! is over; a write that is synced, sealing a segment, compaction, and closing sync them too. The
//! thread holds the writer, so that nobody is told "done" of a write behind bytes whose sync failed.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Shared, Store, lock_mutex};
use crate::error::{Error, Result};

/// When a write is durable.
///
/// ```
/// use nearbit::Durability;
///
/// let soon: Durability = "interval:250".parse()?;
/// assert_eq!(soon, Durability::interval(250)?);
/// assert_eq!(Durability::default().to_string(), "sync");
/// let error = Durability::interval(0).unwrap_err().to_string();
/// assert_eq!(error, "durability: expected an interval of 1 to 60000 ms, got 0");
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Durability {
    /// Before it is acknowledged: it survives a power cut.
    #[default]
    Sync,
    /// So much later at most: until then it survives a killed process, and not a power cut.
    Interval(Interval),
}

/// The time between a write and its sync; made by [`Durability::interval`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Interval(u16);

impl Interval {
    /// The time in milliseconds.
    pub fn millis(self) -> u32 {
        u32::from(self.0)
    }
}

impl Durability {
    /// The longest interval, in milliseconds.
    pub const MAX_INTERVAL_MS: u32 = 60_000;

    /// Durable so many milliseconds later at most.
    ///
    /// # Errors
    /// [`Error::Invalid`] for less than 1 or more than [`Durability::MAX_INTERVAL_MS`].
    pub fn interval(millis: u32) -> Result<Self> {
        match u16::try_from(millis) {
            Ok(short) if (1..=Self::MAX_INTERVAL_MS).contains(&millis) => {
                Ok(Self::Interval(Interval(short)))
            }
            _ => {
                let most = Self::MAX_INTERVAL_MS;
                let message = format!("expected an interval of 1 to {most} ms, got {millis}");
                Err(Error::invalid("durability", message))
            }
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync => f.write_str("sync"),
            Self::Interval(interval) => write!(f, "interval:{}", interval.millis()),
        }
    }
}

impl From<Durability> for String {
    fn from(durability: Durability) -> Self {
        durability.to_string()
    }
}

impl TryFrom<String> for Durability {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Durability {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let millis = text.strip_prefix("interval:").map(str::parse);
        match (text, millis) {
            ("sync", _) => Ok(Self::Sync),
            (_, Some(Ok(millis))) => Self::interval(millis),
            _ => {
                let message = format!("expected sync or interval:MILLISECONDS, got {text:?}");
                Err(Error::invalid("durability", message))
            }
        }
    }
}

/// Syncs what was acknowledged before it was synced, when its time has come.
#[derive(Debug, Default)]
pub(super) struct Syncer {
    due: Mutex<Due>,
    /// Told when `due` changes.
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Due {
    at: Option<Instant>,
    stop: bool,
}

impl Store {
    /// Makes all that was acknowledged durable.
    ///
    /// # Errors
    /// [`Error::Io`] where the sync fails, and [`Error::Unavailable`] where an earlier one did: what
    /// was acknowledged since the sync before may be lost in a power cut, and writes are refused.
    pub fn sync(&self) -> Result<()> {
        let _writer = lock_mutex(&self.shared.writer);
        self.shared.check_poison()?;
        self.shared.sync_open()
    }
}

impl Shared {
    /// Makes the open segment durable. The caller holds the writer.
    pub(super) fn sync_open(&self) -> Result<()> {
        let file = {
            let state = self.state();
            let open = state.segments.open();
            if open.is_synced() {
                return Ok(());
            }
            Arc::clone(&open.file)
        };
        file.sync().map_err(|error| self.fail(error))?;
        self.state_mut().segments.open_mut().note_synced();
        Ok(())
    }

    /// Has the open segment synced when `interval` is over, or earlier; false where nobody can.
    pub(super) fn sync_within(self: &Arc<Self>, interval: Interval) -> bool {
        let at = Instant::now() + Duration::from_millis(interval.millis().into());
        let mut thread = lock_mutex(&self.syncer.thread);
        if thread.is_none() {
            let shared = Arc::clone(self);
            let name = "nearbit-sync".to_owned();
            *thread = Builder::new().name(name).spawn(move || shared.sync_when_due()).ok();
        }
        let mut due = lock_mutex(&self.syncer.due);
        due.at = Some(due.at.map_or(at, |earlier| earlier.min(at)));
        self.syncer.changed.notify_all();
        thread.is_some()
    }

    /// The work of the thread.
    fn sync_when_due(&self) {
        let mut due = lock_mutex(&self.syncer.due);
        while !due.stop {
            let left = due.at.map(|at| at.saturating_duration_since(Instant::now()));
            due = match left {
                None => self.syncer.changed.wait(due).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    due.at = None;
                    drop(due);
                    let writer = lock_mutex(&self.writer);
                    if self.check_poison().is_ok() {
                        // Where it fails all further writes are refused, with its reason.
                        let _ = self.sync_open();
                    }
                    drop(writer);
                    lock_mutex(&self.syncer.due)
                }
                Some(left) => {
                    let waited = self.syncer.changed.wait_timeout(due, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Syncer {
    /// Ends the thread, which syncs nothing any more.
    pub(super) fn stop(&self) {
        lock_mutex(&self.due).stop = true;
        self.changed.notify_all();
        if let Some(thread) = lock_mutex(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("a background sync panicked");
        }
    }
}
