//! Constant databases in D. J. Bernstein's format, read with pread(2) and written anew.
//!
//! A reader that maps the file dies by SIGBUS when an administrator truncates it in place; this
//! one gets an error, which its callers answer as a temporary failure.

mod make;
mod read;

pub use make::{Maker, replace, replace_by};
pub use read::Cdb;

/// The 256 table pointers at the head of the file, eight bytes each.
const HEADER: u32 = 2048;

/// A position and a length, or a hash and a position: two little-endian words.
const PAIR: usize = 8;

fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |h: u32, &byte| (h << 5).wrapping_add(h) ^ u32::from(byte))
}

fn table_of(hash: u32) -> u32 {
    hash & 0xff
}

fn first_slot(hash: u32, slots: u32) -> u32 {
    (hash >> 8).checked_rem(slots).unwrap_or(0)
}
