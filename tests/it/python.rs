//! A client that is not in Rust: Python's grpcio, over stubs made from our .proto files, finds
//! what the command line finds.
//!
//! It needs python3 and, the first time, the package index. Where they are not to be had the test
//! says so and passes, unless `NEARBIT_REQUIRE_PYTHON=1` is set.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

const GRPCIO: &str = "1.85.1";
const BYTES: usize = 8;
const LIMIT: usize = 10;

#[test]
fn a_python_client_finds_what_the_command_line_finds() {
    let python = match python_with_grpcio() {
        Ok(python) => python,
        Err(why) if std::env::var_os("NEARBIT_REQUIRE_PYTHON").is_some_and(|v| v == "1") => {
            panic!("NEARBIT_REQUIRE_PYTHON=1, but {why}")
        }
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let stubs = dir.path().join("stubs");
    generate_stubs(&python, &stubs);

    // 2,000 codes of 64 bits around 40 centers, and 50 queries among them.
    let codes = clustered_codes(2050);
    let (stored, queries) = codes.split_at(2000);
    write_npy(&dir.path().join("codes.npy"), stored);
    write_npy(&dir.path().join("queries.npy"), queries);
    nearbit(dir.path(), "collection create codes --data-dir db --codes --bits 64");
    nearbit(dir.path(), "index codes.npy --data-dir db --collection codes");
    let search = "search --data-dir db --collection codes --input queries.npy";
    let search = format!("{search} --limit {LIMIT} --output jsonl");
    let expected = hits(&nearbit(dir.path(), &search));
    assert_eq!(expected.len(), queries.len());
    assert!(expected.iter().all(|hits| hits.len() == LIMIT));

    let mut server = Server::start(dir.path());
    let mut client = Command::new(&python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/client.py"))
        .args([&server.address, "codes", &LIMIT.to_string()])
        .env("PYTHONPATH", &stubs)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = queries.iter().map(|code| hex(code)).collect();
    client.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "the client failed: {}", output.status);
    assert_eq!(hits(&String::from_utf8(output.stdout).unwrap()), expected);
    server.stop();
}

/// `nearbit serve` on a free port.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_nearbit"))
            .args(["serve", "--data-dir", "db", "--listen", "127.0.0.1:0"])
            .current_dir(dir)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let mut address = None;
        let mut line = String::new();
        while address.is_none() && stderr.read_line(&mut line).unwrap() > 0 {
            address = line.trim().strip_prefix("listening on ").map(str::to_owned);
            line.clear();
        }
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::stderr()));
        Self { process, address: address.expect("a line `listening on ADDRESS`") }
    }

    fn stop(&mut self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert_eq!(self.process.wait().unwrap().code(), Some(0), "exit after SIGTERM");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Runs `nearbit` with the words of `command` and returns what it wrote.
fn nearbit(dir: &Path, command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_nearbit"))
        .args(command.split(' '))
        .current_dir(dir)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nearbit {command}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The (id, distance) pairs of each line.
fn hits(lines: &str) -> Vec<Vec<(String, u64)>> {
    let pair =
        |hit: &Value| (hit["id"].as_str().unwrap().to_owned(), hit["distance"].as_u64().unwrap());
    let line = |(i, line): (usize, &str)| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["query"], i);
        line["hits"].as_array().unwrap().iter().map(pair).collect()
    };
    lines.lines().enumerate().map(line).collect()
}

/// A Python that has grpcio, in a virtual environment under `target` that is made once.
fn python_with_grpcio() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let venv = target.join(format!("python-client-{GRPCIO}"));
    let python = venv.join("bin/python");
    // Written last, so that a half made environment is made again.
    let ready = venv.join("ready");
    if ready.exists() {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args([format!("grpcio=={GRPCIO}"), format!("grpcio-tools=={GRPCIO}")]))?;
    fs::write(ready, "").map_err(|e| e.to_string())?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("could not run {command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)))
}

fn generate_stubs(python: &Path, stubs: &Path) {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = ["collection", "filter", "record", "search"];
    fs::create_dir(stubs).unwrap();
    run(Command::new(python)
        .args(["-m", "grpc_tools.protoc"])
        .arg(format!("--proto_path={}", proto.display()))
        .arg(format!("--python_out={}", stubs.display()))
        .arg(format!("--grpc_python_out={}", stubs.display()))
        .args(files.map(|file| format!("nearbit/v1/{file}.proto"))))
    .unwrap();
}

fn clustered_codes(count: usize) -> Vec<[u8; BYTES]> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let centers: Vec<u64> = (0..40).map(|_| rng.next_u64()).collect();
    (0..count)
        .map(|i| {
            // Four random numbers anded: one bit in sixteen is turned over.
            let noise = (0..4).fold(u64::MAX, |noise, _| noise & rng.next_u64());
            (centers[i % centers.len()] ^ noise).to_be_bytes()
        })
        .collect()
}

/// A matrix of shape (rows, 8) of u8, as numpy's format 1.0 has it.
fn write_npy(file: &Path, rows: &[[u8; BYTES]]) {
    let header =
        format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({}, {BYTES}), }}", rows.len());
    // Magic, version and length take 10 bytes; the whole is filled up to a multiple of 64.
    let filled =
        format!("{header:<width$}\n", width = (10 + header.len() + 1).next_multiple_of(64) - 11);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((filled.len() as u16).to_le_bytes());
    bytes.extend(filled.as_bytes());
    bytes.extend(rows.concat());
    fs::write(file, bytes).unwrap();
}

fn hex(code: &[u8]) -> String {
    code.iter().map(|byte| format!("{byte:02x}")).collect()
}
