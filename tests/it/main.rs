//! The tests that drive Nearbit from outside, one module a feature.

#[cfg(feature = "cli")]
mod check;
#[cfg(feature = "cli")]
mod cli;
mod code;
mod collection;
mod damage;
mod directory;
mod disk;
mod duplicates;
#[cfg(feature = "cli")]
mod families;
mod filters;
#[cfg(all(feature = "cli", feature = "server"))]
mod full;
mod fuzz;
mod history;
mod house;
#[cfg(feature = "cli")]
mod inspect;
#[cfg(feature = "cli")]
mod interrupted;
#[cfg(all(feature = "cli", feature = "server"))]
mod kill;
mod mutate;
#[cfg(all(feature = "cli", feature = "server"))]
mod process;
#[cfg(all(feature = "cli", feature = "server"))]
mod python;
mod rescoring;
mod scrub;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "cli")]
mod snapshots;
#[cfg(all(feature = "cli", feature = "server"))]
mod soak;
#[cfg(feature = "cli")]
mod testenv;
