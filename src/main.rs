//! The program `nearbit`: the command line of the crate of that name.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
