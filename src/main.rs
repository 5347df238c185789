//! The program `nearbit`: the command line of the crate of that name.

mod cli;

/// The system's allocator keeps what each of many threads gave back for that thread alone: under a
/// mixed load of writes, searches and snapshots a server's memory grew to four times what it held.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
