//! The house rules that `src/lib.rs` states, read from the `use` lines of the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file under `src`, as (path from `src` with forward slashes, text).
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                sources.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(sources.len() > 20, "only {} sources found", sources.len());
    sources
}

/// The room a file belongs to: its first folder, or its name at the top.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// The lines of code: without comments, and without the doc tests in them.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

/// Fails where a file outside `rooms` mentions `word` in a line of code.
fn only(rooms: &[&str], words: &[&str]) {
    for (file, text) in sources() {
        if rooms.iter().any(|allowed| file.starts_with(allowed)) {
            continue;
        }
        for line in code_lines(&text) {
            for word in words {
                assert!(!line.contains(word), "only {rooms:?} may know {word:?}: {file}: {line}");
            }
        }
    }
}

/// Fails where a file of `from` reaches into one of `to`.
fn never(from: &[&str], to: &[&str]) {
    for (file, text) in sources() {
        if !from.contains(&room(&file)) {
            continue;
        }
        for line in code_lines(&text) {
            for target in to.iter().filter(|target| **target != room(&file)) {
                let reaches = line.contains(&format!("crate::{target}"))
                    || line.contains(&format!("nearbit::{target}"));
                assert!(!reaches, "{} must not import {target}: {file}: {line}", room(&file));
            }
        }
    }
}

const MACHINES: [&str; 3] = ["model", "index", "store"];
const VOCABULARY: [&str; 7] = ["code", "record", "numbers", "filter", "input", "error", "numeric"];
const ROOMS: [&str; 5] = ["encoder", "search", "collection", "database", "evaluate"];
const FACES: [&str; 3] = ["server", "cli", "main"];

#[test]
fn model_index_and_store_never_meet() {
    never(&MACHINES, &MACHINES);
}

#[test]
fn arrows_point_down() {
    never(&VOCABULARY, &MACHINES);
    never(&VOCABULARY, &ROOMS);
    never(&MACHINES, &ROOMS);
    never(&["formats"], &MACHINES);
    never(&["formats"], &ROOMS);
    for floor in [&VOCABULARY[..], &MACHINES, &ROOMS, &["formats"]] {
        never(floor, &FACES);
    }
}

#[test]
fn each_foreign_crate_has_one_room() {
    only(&["server"], &["tonic", "prost", "tokio"]);
    only(&["cli", "main"], &["clap", "indicatif", "println!", "process::exit"]);
    only(&["model"], &["candle"]);
    only(&["store"], &["sled::"]);
}

#[test]
fn unsafe_stands_only_in_the_kernels() {
    only(&["index/kernel"], &["unsafe {", "unsafe fn", "unsafe impl"]);
}

/// The index computes; what it is asked it can answer.
#[test]
fn the_index_does_no_io_and_cannot_fail() {
    for (file, text) in sources().iter().filter(|(file, _)| room(file) == "index") {
        for line in code_lines(text.split("#[cfg(test)]").next().unwrap_or_default()) {
            for word in ["std::fs", "std::io", "std::net", "Result<", "crate::error"] {
                assert!(!line.contains(word), "the index must not know {word:?}: {file}: {line}");
            }
        }
    }
}

/// The files beside `file`, in the same folder, that its `use` lines name.
fn neighbours_used(file: &str, text: &str) -> Vec<String> {
    let Some((folder, _)) = file.rsplit_once('/') else { return Vec::new() };
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let statements = code.split("\nuse super::").skip(1);
    let names = statements.flat_map(|rest| {
        let statement = rest.split(';').next().unwrap_or_default();
        statement.trim_matches(['{', '}']).split(',').map(|name| {
            let name = name.trim().split("::").next().unwrap_or_default();
            format!("{folder}/{name}.rs")
        })
    });
    names.filter(|used| used != file).collect()
}

/// Within a folder too: a file and those it uses can be read from the bottom up.
#[test]
fn files_make_no_circles() {
    let sources: std::collections::BTreeMap<String, String> = sources().into_iter().collect();
    for first in sources.keys() {
        let (mut reached, mut open) = (Vec::new(), vec![first.clone()]);
        while let Some(file) = open.pop() {
            let Some(text) = sources.get(&file) else { continue };
            for used in neighbours_used(&file, text) {
                assert!(used != *first, "{first} and {file} use one another, perhaps by others");
                if !reached.contains(&used) {
                    reached.push(used.clone());
                    open.push(used);
                }
            }
        }
    }
}

/// What only makes sense where it was written does not belong in the project.
#[test]
fn no_unfinished_marks() {
    for (file, text) in sources() {
        for word in ["todo!(", "unimplemented!(", "dbg!("] {
            assert!(!text.contains(word), "{file} has {word:?}");
        }
    }
}
