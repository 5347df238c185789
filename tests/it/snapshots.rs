//! Snapshots: made beside writers, carried elsewhere, damaged, gone back to.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nearbit::database::{find_snapshot, restore, verify_snapshot};
use nearbit::{
    Code, CollectionSettings, Database, Durability, EncoderSpec, Error, NewRecord, RecordId, Width,
};

use super::directory::copy;
use super::inspect::fixture;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// All records of a database, as text.
fn everything(database: &Database) -> String {
    assert!(database.unopened().is_empty());
    let mut all = String::new();
    for collection in database.collections() {
        let records = collection.list(None, usize::MAX).unwrap().records;
        all += &format!("{:?} {records:?}\n", collection.info());
    }
    all + &format!("{:?}", database.models().unwrap())
}

#[test]
fn the_command_line_makes_lists_verifies_restores_and_deletes() {
    let env = fixture();
    let before = everything(&Database::open(env.path("db")).unwrap());
    let made = env.one("snapshot create monday --data-dir db");
    assert_eq!((&made["records"], &made["collections"]["codes"]), (&203.into(), &89.into()));
    assert_eq!(env.one("snapshot list --data-dir db"), made);
    assert_eq!(env.one("snapshot verify monday --data-dir db")["damaged"], 0);
    env.fails(1, "snapshot create monday --data-dir db", &["\"monday\" exists already"]);
    for name in ["../monday", "Monday", ".monday", "a..b", "a/b"] {
        env.fails(
            1,
            &format!("snapshot create {name} --data-dir db"),
            &["expected a name of 1 to 64"],
        );
    }
    env.fails(3, "snapshot verify tuesday --data-dir db", &["there are monday"]);
    env.fails(2, "snapshot restore --data-dir db", &[]);

    // What came after is gone again; what was there before is back.
    env.ok("collection delete texts --data-dir db --force");
    env.ok("collection create new --data-dir db --bits 8 --codes");
    env.fails(1, "snapshot restore monday --data-dir db", &["--replace"]);
    env.ok("snapshot restore monday --data-dir db --replace");
    assert_eq!(everything(&Database::open(env.path("db")).unwrap()), before);
    assert_eq!(env.one("snapshot list --data-dir db"), made, "snapshots stay");

    // On another machine, as a directory or as one file.
    copy(&env.path("db/snapshots/monday"), &env.path("carried"));
    env.ok("snapshot pack monday --data-dir db --out monday.tar.zst");
    env.fails(1, "snapshot pack monday --data-dir db --out monday.tar.zst", &["exists already"]);
    let unpacked = env.one("snapshot unpack monday.tar.zst --out unpacked");
    assert_eq!((&unpacked["records"], &unpacked["name"]), (&made["records"], &made["name"]));
    env.fails(2, "snapshot restore --from monday.tar.zst --data-dir new", &["snapshot unpack"]);
    env.ok("snapshot restore --from unpacked --data-dir new");
    assert_eq!(everything(&Database::open(env.path("new")).unwrap()), before);
    env.ok("snapshot delete monday --data-dir db");
    assert!(env.ok("snapshot list --data-dir db").is_empty());
    env.fails(3, "snapshot delete monday --data-dir db", &["there are none yet"]);
    env.ok("snapshot verify --from carried");
    env.ok("snapshot restore --from carried --data-dir elsewhere");
    let restored = Database::open(env.path("elsewhere")).unwrap();
    assert_eq!(everything(&restored), before);
    assert!(restored.check().unwrap().findings.is_empty());
    env.fails(5, "snapshot restore --from carried --data-dir elsewhere --replace", &["in use"]);
    fs::create_dir(env.path("strange")).unwrap();
    fs::write(env.path("strange/file"), b"").unwrap();
    env.fails(1, "snapshot restore --from carried --data-dir strange", &["holds other files"]);
}

/// What is acknowledged is in a snapshot, be it synced already or not.
#[test]
fn it_holds_what_was_acknowledged_before_its_sync() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path().join("db")).unwrap();
    let width = Width::new(16).unwrap();
    let settings = CollectionSettings {
        durability: Durability::interval(60_000).unwrap(),
        ..CollectionSettings::new(EncoderSpec::Codes { width })
    };
    let codes = database.create_collection("codes", &settings).unwrap();
    for i in 0..10 {
        let record = NewRecord::code(Code::zero(width)).with_id(i.to_string()).unwrap();
        codes.upsert(vec![record]).unwrap();
    }
    let made = database.create_snapshot("now").unwrap();
    assert_eq!(made.collections, [("codes".to_owned(), 10)]);
    assert!(database.verify_snapshot("now").unwrap().is_empty());
}

/// Sealed segments of a snapshot are the same files, and a restored database shares none.
#[test]
#[cfg(unix)]
fn what_is_sealed_is_linked_and_what_is_restored_is_not() {
    use std::os::unix::fs::MetadataExt;
    let env = fixture();
    let inode = |path: &str| fs::metadata(env.path(path)).unwrap().ino();
    env.ok("snapshot create s --data-dir db");
    let segment = |n: u32| format!("collections/codes/segments/0000000{n}.seg");
    for n in 1..7 {
        assert_eq!(
            inode(&format!("db/{}", segment(n))),
            inode(&format!("db/snapshots/s/{}", segment(n)))
        );
    }
    assert_ne!(
        inode(&format!("db/{}", segment(7))),
        inode(&format!("db/snapshots/s/{}", segment(7)))
    );
    env.ok("snapshot restore s --data-dir db --replace");
    for n in 1..8 {
        assert_ne!(
            inode(&format!("db/{}", segment(n))),
            inode(&format!("db/snapshots/s/{}", segment(n)))
        );
    }
}

#[test]
fn damage_of_every_file_is_found_and_refuses_the_restore() {
    let env = fixture();
    let database = Database::open(env.path("db")).unwrap();
    let snapshot = database.create_snapshot("s").unwrap();
    drop(database);
    let before = files(&env.path("db"));
    assert!(verify_snapshot(&snapshot.dir).unwrap().is_empty());
    let all = files(&snapshot.dir);
    assert!(all.len() > 12);
    let refused = |what: &str| {
        let found = verify_snapshot(&snapshot.dir).unwrap();
        assert!(!found.is_empty(), "{what}");
        let error = restore(&env.path("db"), &snapshot.dir, true).unwrap_err();
        let told = matches!(error, Error::Damaged { .. } | Error::Io { .. });
        assert!(told, "{what}: {error}");
        let error = restore(&env.path("new"), &snapshot.dir, false).unwrap_err();
        assert!(error.to_string().contains("snapshots"), "{what}: {error}");
    };
    for path in &all {
        let bytes = fs::read(path).unwrap();
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            // Linked segments are the database's too, so a damaged one is another file.
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::remove_file(path).unwrap();
            fs::write(path, &damaged).unwrap();
            refused(&format!("{} at {at}", path.display()));
        }
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        refused(&format!("{} is cut", path.display()));
        fs::remove_file(path).unwrap();
        refused(&format!("{} is gone", path.display()));
        fs::write(path, &bytes).unwrap();
    }
    fs::write(snapshot.dir.join("collections/stray"), b"x").unwrap();
    refused("a file more");
    fs::remove_file(snapshot.dir.join("collections/stray")).unwrap();
    assert!(verify_snapshot(&snapshot.dir).unwrap().is_empty());
    assert_eq!(files(&env.path("db")), before, "a refused restore leaves all as it was");
    restore(&env.path("new"), &snapshot.dir, false).unwrap();
}

/// Each writer puts groups of two records that say the same; a snapshot has whole groups, all of
/// those that were acknowledged before, and none from after a gap.
#[test]
fn snapshots_beside_writers_hold_whole_groups_and_all_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path().join("db")).unwrap();
    let spec = EncoderSpec::Codes { width: Width::new(64).unwrap() };
    let collection = database.create_collection("c", &CollectionSettings::new(spec)).unwrap();
    let done = AtomicBool::new(false);
    let acknowledged = [const { std::sync::atomic::AtomicU64::new(0) }; 3];
    std::thread::scope(|scope| {
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let (collection, done) = (&collection, &done);
            scope.spawn(move || {
                for n in 0u64.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let record = |half: &str| {
                        let code = Code::from_words(Width::new(64).unwrap(), &[n]).unwrap();
                        NewRecord::code(code).with_id(format!("{writer}/{n}/{half}")).unwrap()
                    };
                    collection.upsert(vec![record("a"), record("b")]).unwrap();
                    acknowledged.store(n + 1, Ordering::Release);
                }
            });
        }
        for round in 0..6 {
            let name = format!("s{round}");
            let before: Vec<u64> =
                acknowledged.iter().map(|count| count.load(Ordering::Acquire)).collect();
            let snapshot = database.create_snapshot(&name).unwrap();
            assert!(database.verify_snapshot(&name).unwrap().is_empty());
            let restored = dir.path().join(&name);
            restore(&restored, &snapshot.dir, false).unwrap();
            let restored = Database::open(restored).unwrap();
            let copied = restored.collection("c").unwrap();
            assert_eq!(copied.info().records, snapshot.records);
            for (writer, before) in before.iter().enumerate() {
                let there = |n: u64| {
                    let ids = ["a", "b"]
                        .map(|half| RecordId::new(format!("{writer}/{n}/{half}")).unwrap());
                    let found = copied.get(&ids).unwrap();
                    assert_eq!(found[0].is_some(), found[1].is_some(), "half a group");
                    found[0].is_some()
                };
                let count = (0..).take_while(|n| there(*n)).count() as u64;
                assert!(count >= *before, "{before} were acknowledged, {count} are there");
                assert!((count..count + 50).all(|n| !there(n)), "a group after a gap");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_snapshot_outlives_what_it_was_made_of() {
    let env = fixture();
    let database = Database::open(env.path("db")).unwrap();
    database.create_snapshot("s").unwrap();
    for collection in database.collections() {
        database.delete_collection(collection.name()).unwrap();
    }
    assert!(database.verify_snapshot("s").unwrap().is_empty());
    let from = find_snapshot(database.dir(), "s").unwrap();
    drop(database);
    restore(&env.path("db"), &from, true).unwrap();
    assert_eq!(Database::open(env.path("db")).unwrap().collections().len(), 5);
}
