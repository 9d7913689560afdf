//! smtpd
fn main() {}
