//! The real program in a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A directory in which `nearbit` is run.
pub struct TestEnv {
    dir: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl TestEnv {
    pub fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.path(name), content).unwrap();
        self
    }

    /// The program with its arguments, as one line of words.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearbit"));
        command.current_dir(self.dir.path()).args(words(line)).env_remove("NEARBIT_LOG");
        command
    }

    pub fn run(&self, line: &str) -> Run {
        self.run_with(line, "")
    }

    /// Runs with `input` on standard input.
    pub fn run_with(&self, line: &str, input: impl AsRef<[u8]>) -> Run {
        // A file instead of a pipe: the program may stop reading whenever it likes.
        let stdin = self.path(".stdin");
        fs::write(&stdin, input).unwrap();
        let stdin = fs::File::open(stdin).unwrap();
        let output = self.command(line).stdin(Stdio::from(stdin)).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs what should succeed; its results.
    #[track_caller]
    pub fn ok(&self, line: &str) -> Vec<Value> {
        let run = self.run(line);
        assert_eq!(run.code, Some(0), "{line}: {run:#?}");
        run.lines()
    }

    /// Runs what should succeed with one result.
    #[track_caller]
    pub fn one(&self, line: &str) -> Value {
        let mut lines = self.ok(line);
        assert_eq!(lines.len(), 1, "{line}: {lines:?}");
        lines.remove(0)
    }

    /// Runs what should fail with an exit code and a message that holds all `parts`.
    #[track_caller]
    pub fn fails(&self, code: i32, line: &str, parts: &[&str]) {
        let run = self.run(line);
        assert_eq!(run.code, Some(code), "{line}: {run:#?}");
        for part in parts {
            assert!(run.stderr.contains(part), "expected {part:?} from {line}: {run:#?}");
        }
        assert!(!run.stderr.contains("panicked"), "{line}: {run:#?}");
    }
}

impl Run {
    /// The results, a JSON value a line.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let line = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.stdout.lines().map(line).collect()
    }
}

/// Words between blanks; '...' holds blanks together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// A .npy file of numpy's type `descr`.
pub fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{header:<117}\n").bytes());
    bytes.extend(data);
    bytes
}

/// The little-endian bytes of f32 numbers.
pub fn f32s(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A file of the embedded sample.
pub fn sample(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name).display().to_string()
}
