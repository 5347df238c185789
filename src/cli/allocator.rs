//! What a process that lives long asks of glibc's allocator.
//!
//! By itself it keeps up to eight arenas a core, each as large as the most that its threads ever
//! held at once, and takes ever larger buffers from them after the first large one is freed. A
//! server that folds, checks and sends large things now on this thread, now on that one, would grow
//! for minutes to several times what it uses. One arena a core, and large buffers that go back to
//! the kernel, keep it flat (see `tests/it/soak.rs`). Trainings are faster as it is by itself, so
//! only `nearbit serve` asks.

use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// Bytes from which a buffer has pages of its own: those of requests stay below, those of folds
/// and of what is read from files above.
const LARGE: &str = "262144";
const ARENAS: &str = "MALLOC_ARENA_MAX";
const LARGE_FROM: &str = "MALLOC_MMAP_THRESHOLD_";
/// Tells that this process asked already: in programs with capabilities of their own, the variables
/// above are taken out of the environment.
const ASKED: &str = "NEARBIT_ALLOCATOR";

/// Runs this program again, in the same process, with what glibc reads at its start; where the
/// user asked for something already, or it can't be done, returns and leaves all as it is.
///
/// To be called before anything is opened and any thread runs.
pub fn give_back_what_is_free() {
    if !is_set_already()
        && let Err(error) = run_again()
    {
        tracing::debug!(%error, "the allocator stays as it is");
    }
}

fn is_set_already() -> bool {
    let tuned = env::var_os("GLIBC_TUNABLES");
    [ASKED, ARENAS, LARGE_FROM].iter().any(|name| env::var_os(name).is_some())
        || tuned.is_some_and(|all| all.to_string_lossy().contains("glibc.malloc"))
}

/// Returns only where it fails.
fn run_again() -> io::Result<()> {
    let program = env::current_exe()?;
    let mut args = env::args_os();
    let name = args.next().unwrap_or_default();
    // Under another name it may be the loader that runs, or an emulator, with this program as what
    // it is given.
    if program.file_name() != Path::new(&name).file_name() {
        return Err(io::Error::other("the program has another name than its file"));
    }
    let arenas = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    Err(Command::new(program)
        .arg0(name)
        .args(args)
        .env(ARENAS, arenas.to_string())
        .env(LARGE_FROM, LARGE)
        .env(ASKED, "set")
        .exec())
}
