//! Keeps: segments, and the sled table derived from them.
