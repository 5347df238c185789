//! What threads meet at, named in one place: `interleavings` puts its own models there.

pub(super) use std::sync::{Condvar, Mutex, MutexGuard};

pub(super) use arc_swap::ArcSwap;
