//! Whether a collection's files, its table and its index agree.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Collection;
use super::finder::Finder;
use crate::error::Result;
use crate::store::{Checked, Finding};

/// Records that are named one by one.
const MAX_NAMED: usize = 20;

impl Collection {
    /// Checks the files and the table (see [`Store::check`](crate::store::Store::check)), and that
    /// an index in memory holds the code of every live record and no other.
    pub(crate) fn check_stored(&self) -> Result<Checked> {
        self.check_alive()?;
        let store = &self.inner.store;
        let mut expected = Vec::new();
        let mut checked = store.check(|number, code| expected.push((number, print(code))))?;
        if !checked.findings.is_empty() {
            return Ok(checked);
        }
        let Finder::Memory(index) = &self.inner.finder else { return Ok(checked) };
        let snapshot = index.snapshot();
        let bytes = self.width().bytes();
        let mut found: Vec<(u64, u64)> = snapshot
            .rows()
            .map(|(number, words)| {
                let code: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
                (number, print(&code[..bytes]))
            })
            .collect();
        expected.sort_unstable();
        found.sort_unstable();
        // What came after the segments were read.
        let next = expected.last().map_or(0, |(number, _)| number + 1);
        found.truncate(found.partition_point(|(number, _)| *number < next));
        let lacking = expected.iter().filter(|row| found.binary_search(row).is_err());
        // What was replaced or deleted after that.
        let lacking = lacking.filter(|(number, _)| store.is_live(*number));
        let strange = found.iter().filter(|row| expected.binary_search(row).is_err());
        let lacking = lacking.map(|(number, _)| (*number, "the index in memory lacks its code"));
        let strange = strange
            .map(|(number, _)| (*number, "the index in memory has a code that the segments lack"));
        checked.findings.extend(lacking.chain(strange).take(MAX_NAMED).map(|(number, message)| {
            Finding { numbers: number..number + 1, ..Finding::of(self.name(), message) }
        }));
        Ok(checked)
    }
}

fn print(code: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    code.hash(&mut hasher);
    hasher.finish()
}
