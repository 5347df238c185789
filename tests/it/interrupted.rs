//! `snapshot create`, `snapshot restore` and `check --repair`, killed at any moment: each leaves what
//! was before or what was to come, and can be done again.
//!
//! ```text
//! cargo test --test it interrupted::                        a few kills
//! NEARBIT_KILLS=300 cargo test --test it interrupted::      many
//! ```

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nearbit::database::{find_snapshot, list_snapshots, repair, restore, verify_snapshot};
use nearbit::{Code, CollectionSettings, Database, EncoderSpec, NewRecord, Payload, Width};
use rand::RngExt as _;

use super::directory::{copy, directory};

fn kills() -> u64 {
    std::env::var("NEARBIT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(4)
}

/// Adds collections of records that say `what`.
fn fill(database: &Database, what: &str) {
    for name in ["one", "two"] {
        let spec = EncoderSpec::Codes { width: Width::new(64).unwrap() };
        let settings = CollectionSettings::new(spec);
        let collection = database.create_collection(&format!("{name}-{what}"), &settings).unwrap();
        let records = (0..3000u64).map(|i| {
            let code = Code::from_words(Width::new(64).unwrap(), &[i]).unwrap();
            let payload = format!("{{\"what\":\"{what}\",\"long\":\"{}\"}}", "x".repeat(200));
            let record = NewRecord::code(code).with_id(format!("{i}")).unwrap();
            record.with_payload(Payload::from_json(&payload).unwrap())
        });
        collection.upsert(records.collect()).unwrap();
    }
}

/// The collections, and a digest of what is in them.
fn contents(dir: &Path) -> Vec<(String, u64, String)> {
    let database = Database::open(dir).unwrap();
    assert!(database.check().unwrap().findings.is_empty());
    let mut all = Vec::new();
    for collection in database.collections() {
        let records = collection.list(None, usize::MAX).unwrap().records;
        let digest = blake3::hash(format!("{records:?}").as_bytes()).to_string();
        all.push((collection.name().to_owned(), records.len() as u64, digest));
    }
    all
}

/// Runs `nearbit`, and kills it at a random moment of the time that it took the last time.
fn run_and_kill(dir: &Path, args: &[&str], took: &mut Duration) {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_nearbit"))
        .args(args)
        .arg("--data-dir")
        .arg(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let most = took.as_micros().max(1) as u64;
    let patience = Duration::from_micros(rand::rng().random_range(0..most));
    while start.elapsed() < patience && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(50));
    }
    let ended = child.try_wait().unwrap().is_some();
    child.kill().ok();
    child.wait().unwrap();
    // Where it ended before it was killed it was quicker than thought, else perhaps slower.
    *took = if ended { start.elapsed() } else { *took + *took / 10 };
}

#[test]
fn a_snapshot_is_made_whole_or_not_at_all() {
    let root = directory();
    let dir = root.path().join("db");
    fill(&Database::open(&dir).unwrap(), "a");
    let before = contents(&dir);
    let (mut took, mut made) = (Duration::from_millis(60), 0);
    for i in 0..kills() {
        let name = format!("s{i}");
        run_and_kill(&dir, &["snapshot", "create", &name], &mut took);
        if let Ok(snapshot) = find_snapshot(&dir, &name) {
            assert_eq!(verify_snapshot(&snapshot).unwrap(), [], "kill {i}");
            made += 1;
        }
        assert_eq!(contents(&dir), before, "kill {i}");
        for entry in fs::read_dir(dir.join("snapshots")).into_iter().flatten() {
            let name = entry.unwrap().file_name();
            assert!(!name.to_string_lossy().starts_with('.'), "{name:?} stays");
        }
    }
    assert_eq!(list_snapshots(&dir).unwrap().len(), made);
    println!("{made} of {} were made", kills());
}

#[test]
fn a_restore_leaves_the_old_or_the_new() {
    let root = directory();
    let dir = root.path().join("db");
    let database = Database::open(&dir).unwrap();
    fill(&database, "a");
    database.create_snapshot("a").unwrap();
    database.delete_collection("one-a").unwrap();
    fill(&database, "b");
    database.create_snapshot("b").unwrap();
    drop(database);
    let b = contents(&dir);
    let from = find_snapshot(&dir, "a").unwrap();
    restore(&dir, &from, true).unwrap();
    let a = contents(&dir);
    assert_ne!(a, b);
    let (mut took, mut new) = (Duration::from_millis(60), 0);
    let mut now = &a;
    for i in 0..kills() {
        let (name, other) = if *now == a { ("b", &b) } else { ("a", &a) };
        run_and_kill(&dir, &["snapshot", "restore", name, "--replace"], &mut took);
        let found = contents(&dir);
        assert!(found == *now || found == *other, "kill {i}: {found:?}");
        if found == *other {
            (now, new) = (other, new + 1);
        }
        assert!(!dir.join("pending").exists() && !dir.join("pending.new").exists());
        assert_eq!(verify_snapshot(&find_snapshot(&dir, name).unwrap()).unwrap(), []);
    }
    println!("{new} of {} were restored", kills());
}

#[test]
fn a_repair_leaves_the_damaged_or_the_repaired() {
    let root = directory();
    let damaged = root.path().join("damaged");
    fill(&Database::open(&damaged).unwrap(), "a");
    for name in ["one-a", "two-a"] {
        let segment = damaged.join(format!("collections/{name}/segments/00000001.seg"));
        let mut bytes = fs::read(&segment).unwrap();
        for at in [5_000, 5_001, 200_000, 400_000] {
            bytes[at] ^= 0x55;
        }
        fs::write(segment, bytes).unwrap();
    }
    let repaired = root.path().join("repaired");
    copy(&damaged, &repaired);
    assert_eq!(repair(&repaired).unwrap().lost.len(), 6);
    let expected = contents(&repaired);
    assert_eq!(expected[0].1, 2997);
    let (mut took, mut done) = (Duration::from_millis(60), 0);
    for i in 0..kills() {
        let dir = root.path().join(format!("{i}"));
        copy(&damaged, &dir);
        run_and_kill(&dir, &["check", "--repair"], &mut took);
        let repaired_already = Database::open(&dir).unwrap().unopened().is_empty();
        if repaired_already {
            done += 1;
        } else {
            // The old one: nothing is lost that was not.
            let repaired = repair(&dir).unwrap();
            assert_eq!(repaired.lost.len(), 6, "kill {i}");
        }
        assert_eq!(contents(&dir), expected, "kill {i}");
        fs::remove_dir_all(&dir).unwrap();
    }
    println!("{done} of {} were repaired", kills());
}
