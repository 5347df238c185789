//! `nearbit serve`: the gRPC server on a data directory.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::process;
use std::thread;
use std::time::Duration;

use nearbit::server::{Listeners, ServerOptions, serve_blocking};
use nearbit::{Database, Error, Scrub};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::place::DataDir;

/// Serve a data directory over gRPC, until SIGTERM or Ctrl-C
///
/// What is in flight is then finished; a second signal ends at once.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit serve --data-dir db
  nearbit serve --data-dir db --listen 127.0.0.1:0        a free port, told on standard error
  nearbit serve --data-dir db --metrics 127.0.0.1:7451    for Prometheus
  nearbit serve --data-dir db --scrub 10                  and verify all bytes once a day
  grpcurl -plaintext 127.0.0.1:7450 list")]
pub struct Args {
    #[command(flatten)]
    dir: DataDir,
    /// The address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:7450", value_name = "ADDRESS:PORT", value_parser = address)]
    listen: SocketAddr,
    /// Show metrics to Prometheus at http://ADDRESS:PORT/metrics: calls by status and their times, and
    /// what each collection holds
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    metrics: Option<SocketAddr>,
    /// Seconds that calls in flight have to finish after the signal
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    drain: u64,
    /// Verify all checksums in the background, reading so many megabytes a second at most; what is
    /// damaged is named in the log and counted
    #[arg(long, value_name = "MB_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    scrub: Option<u32>,
    /// Seconds from the end of one such pass to the beginning of the next
    #[arg(long, default_value_t = 86_400, value_name = "SECONDS", requires = "scrub")]
    scrub_pause: u64,
}

pub fn run(args: Args, _console: &Console) -> Result<Exit, Failure> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    super::allocator::give_back_what_is_free();
    let mut signals =
        Signals::new([SIGTERM, SIGINT]).map_err(Error::io("listen for", "signals"))?;
    let database = Database::open(&args.dir.data_dir)?;
    if let Some(megabytes) = args.scrub {
        let bytes_per_second = u64::from(megabytes) * 1_000_000;
        let pause = Duration::from_secs(args.scrub_pause);
        database.scrub(Scrub { bytes_per_second, pause })?;
    }
    let (grpc, address) = listen("--listen", args.listen)?;
    let metrics = args.metrics.map(|address| listen("--metrics", address)).transpose()?;
    let options = ServerOptions {
        drain_timeout: Duration::from_secs(args.drain),
        ..ServerOptions::default()
    };
    // Scripts wait for these lines, so --quiet does not silence them.
    if let Some((_, address)) = &metrics {
        eprintln!("metrics at http://{address}/metrics");
    }
    eprintln!("listening on {address}");
    let listeners = Listeners { grpc, metrics: metrics.map(|(listener, _)| listener) };
    serve_blocking(listeners, database, options, move || {
        signals.forever().next();
        thread::spawn(move || {
            if signals.forever().next().is_some() {
                process::exit(Exit::Failed as i32);
            }
        });
    })?;
    Ok(Exit::Done)
}

/// An address, or the first that a name has, for clap.
fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected ADDRESS:PORT, as in 127.0.0.1:7450 or localhost:7450";
    let mut found = text.to_socket_addrs().map_err(|error| format!("{expected}: {error}"))?;
    found.next().ok_or_else(|| format!("{expected}: the name has no address"))
}

fn listen(flag: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => Error::Unavailable {
            what: format!("{address} is in use by another process"),
            hint: format!("name another with {flag}, or port 0 for a free one"),
        },
        _ => Error::io("listen on", address.to_string())(error),
    };
    let listener = TcpListener::bind(address).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}
