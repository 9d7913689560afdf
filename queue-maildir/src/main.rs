//! queue-maildir
fn main() {}
