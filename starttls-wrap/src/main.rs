//! starttls-wrap
fn main() {}
