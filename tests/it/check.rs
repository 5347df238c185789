//! `nearbit check`, on copies of the fixture of format version 1.

use std::fs;
use std::path::{Path, PathBuf};

use nearbit::{
    Code, CollectionSettings, Database, EncoderSpec, Error, NewRecord, RecordId, Search, Width,
};

use super::inspect::fixture;
use super::testenv::TestEnv;

fn change(env: &TestEnv, file: &str, change: impl Fn(&mut Vec<u8>)) {
    let path = env.path("db").join(file);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Every file below a directory and its bytes.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn an_intact_database_is_found_intact_and_is_not_touched() {
    let env = fixture();
    // With a table, of which a part is not merged yet.
    let database = Database::open(env.path("db")).unwrap();
    database.collection("codes").unwrap().checkpoint().unwrap();
    assert!(database.check().unwrap().findings.is_empty());
    drop(database);
    let before = contents(&env.path("db"));
    let summary = env.ok("check --data-dir db").pop().unwrap();
    assert_eq!(summary["damaged"], 0);
    assert_eq!((&summary["collections"], &summary["records"]), (&5.into(), &203.into()));
    assert!(summary["table_entries"].as_u64().unwrap() > 300, "{summary}");
    assert_eq!(env.run("check --data-dir db --repair").code, Some(0));
    assert!(contents(&env.path("db")) == before, "something was changed");
    env.fails(3, "check --data-dir nowhere", &["there is no data directory"]);
}

#[test]
fn a_database_in_use_is_not_checked_from_outside() {
    let env = fixture();
    let _held = Database::open(env.path("db")).unwrap();
    env.fails(5, "check --data-dir db", &["in use by another process"]);
    env.fails(5, "check --data-dir db --repair", &["in use by another process"]);
}

/// A collection that is damaged harms no other, and who asks for it is told.
#[test]
fn one_damaged_collection_locks_nobody_out_of_the_others() {
    let env = fixture();
    let segment = "collections/codes/segments/00000002.seg";
    change(&env, segment, |bytes| bytes[60] ^= 1);
    let damaged = contents(&env.path("db/collections/codes"));
    let database = Database::open(env.path("db")).unwrap();
    assert_eq!(database.collections().len(), 4);
    let [(name, _)] = &database.unopened()[..] else { panic!("{:?}", database.unopened()) };
    assert_eq!(name, "codes");
    let refused = database.collection("codes").unwrap_err();
    assert!(
        matches!(&refused, Error::Damaged { file, .. } if file.ends_with(segment)),
        "{refused}"
    );
    let settings = CollectionSettings::new(EncoderSpec::Codes { width: Width::new(64).unwrap() });
    let taken = database.create_collection("codes", &settings);
    assert!(matches!(taken, Err(Error::Exists { .. })), "{taken:?}");
    let missing = database.collection("other").unwrap_err().to_string();
    assert!(missing.contains("codes"), "{missing}");
    // A snapshot would lack it.
    assert!(matches!(database.create_snapshot("all"), Err(Error::Damaged { .. })));
    assert!(database.snapshots().unwrap().is_empty());
    assert_eq!(database.check().unwrap().findings.len(), 1);
    // The others are read and written.
    let texts = database.collection("texts").unwrap();
    assert_eq!(texts.search(&Search::text("the moon").limit(3)).unwrap().hits.len(), 3);
    texts.upsert(vec![NewRecord::text("a new one").with_id("new").unwrap()]).unwrap();
    drop((texts, database));
    assert!(contents(&env.path("db/collections/codes")) == damaged);

    env.ok("get --data-dir db --collection texts new");
    env.fails(8, "get --data-dir db --collection codes c1", &["00000002.seg", "is damaged"]);
    let listed = env.run("collection list --data-dir db");
    assert_eq!((listed.code, listed.stdout.lines().count()), (Some(8), 4), "{listed:?}");
    assert!(listed.stderr.contains("00000002.seg"), "{listed:?}");

    // It may be deleted, and its name is free then.
    env.fails(8, "collection delete codes --data-dir db", &["00000002.seg"]);
    env.ok("collection delete codes --data-dir db --force");
    let database = Database::open(env.path("db")).unwrap();
    assert!(database.unopened().is_empty());
    database.create_collection("codes", &settings).unwrap();
    database.create_snapshot("all").unwrap();
}

/// Hits are read many at a time; where one cannot be, the others of them can.
#[test]
fn of_a_ball_the_damaged_record_alone_is_an_error() {
    let env = fixture();
    let database = Database::open(env.path("db")).unwrap();
    let codes = database.collection("codes").unwrap();
    // The payload of c69.
    change(&env, "collections/codes/segments/00000004.seg", |bytes| bytes[600] ^= 1);
    let all = Search::code(Code::zero(codes.width())).radius(64).limit(usize::MAX);
    let (read, damaged): (Vec<_>, Vec<_>) = codes.ball(&all).unwrap().partition(Result::is_ok);
    assert_eq!((read.len(), damaged.len()), (88, 1));
    let distances = read.into_iter().map(|hit| hit.unwrap().distance);
    assert!(distances.is_sorted());
}

#[test]
fn every_kind_of_damage_is_found_and_repaired() {
    let env = fixture();
    let intact = Database::open(env.path("db")).unwrap();
    let ids = |database: &Database, name: &str| -> Vec<String> {
        let records = database.collection(name).unwrap().list(None, usize::MAX).unwrap().records;
        records.into_iter().map(|record| record.id.to_string()).collect()
    };
    let before = ids(&intact, "codes");
    let texts = ids(&intact, "texts");
    drop(intact);
    change(&env, "FORMAT", |bytes| bytes[3] ^= 1);
    change(&env, "models/waves@1.safetensors", |bytes| bytes[2000] ^= 1);
    change(&env, "collections/texts/MANIFEST", |bytes| bytes.truncate(50));
    // The payload of c69, in its last group but one.
    let segment = "collections/codes/segments/00000004.seg";
    change(&env, segment, |bytes| bytes[600] ^= 1);
    // sled takes what is no table at all for an empty one; this it does not open.
    fs::remove_file(env.path("db/table/conf")).unwrap();
    fs::create_dir(env.path("db/table/conf")).unwrap();
    let damaged = contents(&env.path("db"));
    assert!(Database::open(env.path("db")).is_err());

    let run = env.run("check --data-dir db");
    assert_eq!(run.code, Some(8), "{run:?}");
    assert!(run.stderr.contains("next: nearbit check --data-dir db --repair"), "{run:?}");
    for part in
        ["db/FORMAT", "waves@1", "texts/MANIFEST", segment, "db/table", "c69", "\"offset\":534"]
    {
        assert!(run.stdout.contains(part), "{part} is not named: {run:#?}");
    }
    assert!(contents(&env.path("db")) == damaged, "a check changed something");

    let run = env.run("check --data-dir db --repair --output table");
    assert_eq!(run.code, Some(8), "something is lost: {run:?}");
    for part in [
        "done: wrote FORMAT anew",
        "done: took out the model waves@1",
        "done: wrote codes anew with 88 records",
        "done: wrote texts anew with 38 records",
        "done: texts is a collection of codes now, without encoder",
        "done: wrote vectors-f16 anew with 38 records",
        "done: took out the hash table",
        "a record is damaged, record 69, id \"c69\"",
        "the damaged files are in db/lost+found/1",
    ] {
        assert!(run.stdout.contains(part), "{part}: {run:#?}");
    }
    for kept in ["FORMAT", segment, "models/waves@1.safetensors", "collections/texts/MANIFEST"] {
        let original = damaged.iter().find(|(path, _)| path.ends_with(kept)).unwrap();
        assert_eq!(fs::read(env.path("db/lost+found/1").join(kept)).unwrap(), original.1);
    }
    let summary = env.ok("check --data-dir db").pop().unwrap();
    assert_eq!((&summary["damaged"], &summary["records"]), (&0.into(), &202.into()));

    let database = Database::open(env.path("db")).unwrap();
    let expected: Vec<String> = before.into_iter().filter(|id| id != "c69").collect();
    assert_eq!(ids(&database, "codes"), expected);
    assert_eq!(ids(&database, "texts"), texts);
    let vectors = database.collection("vectors-f16").unwrap();
    let found = vectors.get(&[RecordId::new("r5").unwrap()]).unwrap();
    let record = found[0].as_ref().unwrap();
    assert!(record.vector.is_some(), "what was kept beside the codes is there");
    let search = Search::code(record.code.clone().unwrap()).limit(1);
    assert_eq!(vectors.search(&search).unwrap().hits[0].distance, 0);
    assert!(database.check().unwrap().findings.is_empty());
    let new = NewRecord::code(Code::zero(vectors.width())).with_id("new").unwrap();
    vectors.upsert(vec![new]).unwrap();
}

#[test]
fn a_collection_without_its_model_can_be_opened_again() {
    let env = fixture();
    fs::remove_file(env.path("db/models/waves@1.safetensors")).unwrap();
    let run = env.run("check --data-dir db --output table");
    assert_eq!(run.code, Some(8), "{run:?}");
    assert!(run.stdout.contains("waves@1.safetensors: it is missing"), "{run:?}");
    let run = env.run("check --data-dir db --repair --output table");
    assert!(
        run.stdout.contains("lost: db/models/waves@1.safetensors: the model is missing"),
        "{run:?}"
    );
    assert!(run.stdout.contains("done: vectors-f16 is a collection of codes now"), "{run:?}");
    assert_eq!(Database::open(env.path("db")).unwrap().collections().len(), 5);
    assert_eq!(env.run("check --data-dir db").code, Some(0));
}

/// A collection of which nothing tells anything is taken out; the others open.
#[test]
fn what_nothing_can_be_read_of_is_kept_aside() {
    let env = fixture();
    change(&env, "collections/texts/MANIFEST", |bytes| bytes.fill(0));
    change(&env, "collections/texts/segments/00000001.seg", |bytes| bytes.fill(0));
    let run = env.run("check --data-dir db --repair --output table");
    assert_eq!(run.code, Some(8), "{run:?}");
    assert!(run.stdout.contains("done: took out texts, of which nothing can be read"), "{run:?}");
    let database = Database::open(env.path("db")).unwrap();
    assert!(database.collection("texts").is_err());
    assert_eq!(database.collections().len(), 4);
    assert!(env.path("db/lost+found/1/collections/texts/MANIFEST").exists());
}

#[test]
fn a_newer_version_is_not_repaired_away() {
    let env = fixture();
    change(&env, "FORMAT", |bytes| {
        bytes[8] = 99;
        let crc = crc32c::crc32c(&bytes[..12]);
        bytes[12..].copy_from_slice(&crc.to_le_bytes());
    });
    let before = contents(&env.path("db"));
    env.fails(1, "check --data-dir db --repair", &["it has format version 99"]);
    let unlocked = |files: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
        files.into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
    };
    assert!(unlocked(contents(&env.path("db"))) == before);
}
