//! The command line: flags become options of the library here and nowhere else.
//!
//! One file a subcommand, each with its flags and a `run`. Data goes to standard output, messages
//! and progress to standard error, after <https://clig.dev>.

#[cfg(all(feature = "server", target_os = "linux", target_env = "gnu"))]
mod allocator;
mod check;
mod collection;
mod compact;
mod console;
mod count;
mod decode;
mod dedup;
mod delete;
mod demo;
mod draw;
mod encode;
mod eval;
mod exit;
mod export;
mod get;
mod index;
mod input;
mod inspect;
mod model;
mod network;
mod output;
mod page;
mod place;
mod progress;
mod score;
mod search;
#[cfg(feature = "server")]
mod serve;
mod size;
mod snapshot;
mod stats;
mod train;

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::console::Console;
use self::exit::{Exit, Failure};
use self::output::Output;

/// Learn short binary codes for texts, vectors and images; keep them; find neighbours exactly.
#[derive(Parser)]
#[command(name = "nearbit", version, max_term_width = 100, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// How to write results [default: table on a terminal, jsonl elsewhere]
    #[arg(long, global = true, value_enum, value_name = "FORM")]
    output: Option<Output>,

    /// Neither progress nor messages, only results and errors
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    // Far more flags than the others have.
    Train(Box<train::Args>),
    Encode(encode::Args),
    Decode(decode::Args),
    Score(score::Args),
    #[command(subcommand)]
    Collection(collection::Command),
    #[command(subcommand)]
    Model(model::Command),
    Index(index::Args),
    Search(search::Args),
    Get(get::Args),
    Count(count::Args),
    Export(export::Args),
    Delete(delete::Args),
    Compact(compact::Args),
    Dedup(dedup::Args),
    Eval(eval::Args),
    Stats(stats::Args),
    Inspect(inspect::Args),
    Check(check::Args),
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    #[cfg(feature = "server")]
    Serve(serve::Args),
}

/// Parses, runs, prints the error, chooses the exit code.
pub fn main() -> ExitCode {
    let matches = taking_negative_numbers(Cli::command()).get_matches();
    let Cli { command, output, quiet } =
        Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    log_to_stderr(quiet);
    let console = Console::new(output, quiet);
    let exit = run(command, &console).unwrap_or_else(|failure| failure.report());
    exit.into()
}

/// A number below zero is a value that is out of range, and no flag that is unknown.
fn taking_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| match arg.get_action().takes_values() {
            true => arg.allow_negative_numbers(true),
            false => arg,
        })
        .mut_subcommands(taking_negative_numbers)
}

fn run(command: Command, console: &Console) -> Result<Exit, Failure> {
    match command {
        Command::Demo(args) => demo::run(args, console),
        Command::Train(args) => train::run(*args, console),
        Command::Encode(args) => encode::run(args, console),
        Command::Decode(args) => decode::run(args, console),
        Command::Score(args) => score::run(args, console),
        Command::Collection(command) => collection::run(command, console),
        Command::Model(command) => model::run(command, console),
        Command::Index(args) => index::run(args, console),
        Command::Search(args) => search::run(args, console),
        Command::Get(args) => get::run(args, console),
        Command::Count(args) => count::run(args, console),
        Command::Export(args) => export::run(args, console),
        Command::Delete(args) => delete::run(args, console),
        Command::Compact(args) => compact::run(args, console),
        Command::Dedup(args) => dedup::run(args, console),
        Command::Eval(args) => eval::run(args, console),
        Command::Stats(args) => stats::run(args, console),
        Command::Check(args) => check::run(args, console),
        Command::Snapshot(command) => snapshot::run(command, console),
        Command::Inspect(args) => inspect::run(args, console),
        #[cfg(feature = "server")]
        Command::Serve(args) => serve::run(args, console),
    }
}

/// Warnings of the library are shown, unless all is to be quiet, and not what sled says, as the store
/// says it better; `NEARBIT_LOG` asks for more, as in `NEARBIT_LOG=info`.
fn log_to_stderr(quiet: bool) {
    let usual = if quiet { "error,sled=off" } else { "warn,sled=off" };
    let filter = EnvFilter::try_from_env("NEARBIT_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        // Where nobody reads them any more, to say so is to panic.
        .log_internal_errors(false)
        .init();
}
