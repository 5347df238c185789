//! Which records are live; what may change of a collection: its settings, and its format version.

use super::manifest::Manifest;
use super::{FORMAT_VERSION, Store, lock_mutex};
use crate::error::Result;

impl Store {
    /// The number that the next record gets; all that there are have smaller ones.
    pub fn next_number(&self) -> u64 {
        self.shared.state().segments.next()
    }

    /// Those of `numbers` whose records are live, and all live ones from `end` on, at one moment.
    pub fn live(&self, numbers: impl IntoIterator<Item = u64>, end: u64) -> Vec<u64> {
        let state = self.shared.state();
        let numbers = numbers.into_iter().chain(end..state.segments.next());
        numbers.filter(|number| state.segments.is_live(*number)).collect()
    }

    /// The settings that the collection has.
    pub fn settings(&self) -> Vec<u8> {
        lock_mutex(&self.shared.manifest).settings.clone()
    }

    /// Keeps other settings from now on, durably.
    ///
    /// # Errors
    /// Whatever the operating system refuses; then the old ones or the new ones are kept.
    pub fn set_settings(&self, settings: &[u8]) -> Result<()> {
        let mut manifest = lock_mutex(&self.shared.manifest);
        let changed = Manifest { settings: settings.to_vec(), ..manifest.clone() };
        self.shared.write_manifest(&mut manifest, changed)
    }

    /// The version of the format that the collection is written in.
    pub fn version(&self) -> u32 {
        lock_mutex(&self.shared.manifest).version
    }

    /// Writes [`FORMAT_VERSION`] from now on. A program that knows older versions only will refuse
    /// the collection; so the data directory must be marked with that version before
    /// ([`create_format`](super::create_format)).
    ///
    /// # Errors
    /// Whatever the operating system refuses; then the old version or the new one is written.
    pub fn upgrade(&self) -> Result<()> {
        let mut manifest = lock_mutex(&self.shared.manifest);
        if manifest.version == FORMAT_VERSION {
            return Ok(());
        }
        let newer = Manifest { version: FORMAT_VERSION, ..manifest.clone() };
        self.shared.write_manifest(&mut manifest, newer)
    }
}
