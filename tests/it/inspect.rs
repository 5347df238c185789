//! `nearbit inspect` on copies of the fixture of format version 1, intact and damaged.

use std::fs;
use std::path::Path;

use super::directory::copy;
use super::testenv::{Run, TestEnv, sample};

/// A copy of the data directory of the fixture, as `db`.
pub fn fixture() -> TestEnv {
    let env = TestEnv::new();
    copy(Path::new(&sample("fixtures/v1/db")), &env.path("db"));
    env
}

fn shown(run: &Run) -> String {
    assert_eq!(run.stderr, "");
    format!("exit {:?}\n{}", run.code, run.stdout)
}

#[test]
fn a_data_directory_without_its_records() {
    let run = fixture().run("inspect db --no-records --output table");
    insta::assert_snapshot!("data_directory", shown(&run));
}

#[test]
fn a_segment_record_by_record() {
    let env = fixture();
    let segment = "inspect db/collections/texts/segments/00000001.seg";
    insta::assert_snapshot!("segment", shown(&env.run(&format!("{segment} --output table"))));
    let vectors = env.run("inspect db/collections/vectors-f16 --output jsonl");
    insta::assert_snapshot!("vectors_as_json_lines", shown(&vectors));
}

#[test]
fn what_is_damaged_is_shown_and_what_is_behind_it_too() {
    let env = fixture();
    let change = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = env.path("db").join(file);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    change("FORMAT", &|bytes| bytes[3] ^= 1);
    change("models/waves@1.safetensors", &|bytes| bytes[2000] ^= 1);
    change("collections/vectors-f32/MANIFEST", &|bytes| bytes.truncate(50));
    let segment = |n| format!("collections/codes/segments/0000000{n}.seg");
    // A header; the header of a group; the payload of one record; the length of another; a
    // group that stands twice; a group that is missing.
    change(&segment(1), &|bytes| bytes[9] ^= 4);
    change(&segment(2), &|bytes| bytes[60] ^= 1);
    change(&segment(3), &|bytes| bytes[140] ^= 1);
    change(&segment(4), &|bytes| bytes[92] ^= 7);
    let groups = |bytes: &[u8]| -> Vec<usize> {
        (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"ngrp")).collect()
    };
    change(&segment(5), &|bytes| {
        let groups = groups(bytes);
        let twice = bytes[groups[0]..groups[1]].to_vec();
        bytes.splice(groups[1]..groups[1], twice);
    });
    change(&segment(6), &|bytes| {
        let groups = groups(bytes);
        bytes.drain(groups[0]..groups[1]);
    });
    fs::remove_file(env.path("db").join(segment(7))).unwrap();
    let run = env.run("inspect db --output table --no-records");
    assert_eq!(run.code, Some(8));
    insta::assert_snapshot!("damaged", shown(&run));
    let run = env.run(&format!("inspect db/{} --output table", segment(4)));
    insta::assert_snapshot!("damaged_segment", shown(&run));
}

#[test]
fn nothing_is_changed_or_locked_and_what_is_not_there_is_not_found() {
    let env = fixture();
    let held = nearbit::Database::open(env.path("db")).unwrap();
    let segment = env.path("db/collections/codes/segments/00000007.seg");
    let before = fs::read(&segment).unwrap();
    env.ok("inspect db");
    drop(held);
    assert_eq!(fs::read(&segment).unwrap(), before);
    env.fails(3, "inspect nowhere", &["there is no file \"nowhere\""]);
}
