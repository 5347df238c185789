//! Finds: exact Hamming search in memory.
