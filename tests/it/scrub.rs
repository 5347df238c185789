//! Scrubs in the background of an open database.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nearbit::{
    Code, CollectionSettings, Database, EncoderSpec, Error, IndexPlace, NewRecord, Scrub, Width,
};
use tempfile::TempDir;

/// A database with two collections, searched in memory and on disk, whose records lie on the disk.
fn database(dir: &Path) -> Database {
    let database = Database::open(dir).unwrap();
    let width = Width::new(64).unwrap();
    for (name, index) in [("memory", IndexPlace::Memory), ("disk", IndexPlace::Disk)] {
        let encoder = EncoderSpec::Codes { width };
        let settings = CollectionSettings { index, ..CollectionSettings::new(encoder) };
        let collection = database.create_collection(name, &settings).unwrap();
        let record = |i: u64| NewRecord::code(Code::from_words(width, &[i << 40 | i]).unwrap());
        collection.upsert((0..500).map(record).collect()).unwrap();
        collection.checkpoint().unwrap();
    }
    database
}

/// Waits until it is so.
fn wait_for(so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never came to be so");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn damage_under_an_open_database_is_found() {
    let dir = TempDir::new().unwrap();
    let database = database(dir.path());
    let scrub = Scrub { bytes_per_second: u64::MAX, pause: Duration::from_millis(1) };
    database.scrub(scrub).unwrap();
    let stats = |name: &str| database.collection(name).unwrap().sizes().store;
    for name in ["memory", "disk"] {
        wait_for(|| stats(name).scrubs >= 2);
        assert_eq!(stats(name).damaged, 0);
        let segment = dir.path().join(format!("collections/{name}/segments/00000001.seg"));
        // Where it stands: a scrub that met a file cut short would count that too.
        let bytes = fs::read(&segment).unwrap();
        // Behind the groups zeros are laid for those to come.
        let middle = stats(name).segment_bytes as usize / 2;
        let file = fs::File::options().write(true).open(&segment).unwrap();
        file.write_all_at(&[bytes[middle] ^ 1], middle as u64).unwrap();
        wait_for(|| stats(name).damaged == 1);
    }
    // A collection may be deleted meanwhile, and the database closed and opened again at once.
    database.delete_collection("memory").unwrap();
    drop(database);
    let opened = Database::open(dir.path());
    assert!(!matches!(opened, Err(Error::Unavailable { .. })), "{opened:?}");
}

#[test]
fn a_slow_scrub_ends_with_the_database() {
    let dir = TempDir::new().unwrap();
    let database = database(dir.path());
    let slow = Scrub { bytes_per_second: 1, pause: Duration::ZERO };
    database.scrub(slow).unwrap();
    database.scrub(slow).unwrap();
    let start = Instant::now();
    drop(database);
    assert!(start.elapsed() < Duration::from_secs(30), "it has a day of work left");
    let none = Scrub { bytes_per_second: 0, ..slow };
    let refused = Database::open(dir.path()).unwrap().scrub(none).unwrap_err().to_string();
    assert_eq!(refused, "scrub.bytes_per_second: expected 1 or more, got 0");
}
