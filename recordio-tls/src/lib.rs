//! recordio-tls: see a session without spilling it.

mod escape;
mod exchange;
pub mod hello;
pub mod imap;
mod literal;
pub mod message;
pub mod names;
pub mod pop3;
pub mod queue;
pub mod recorder;
pub mod records;
pub mod redact;
pub mod sink;
pub mod smtp;
pub mod stamp;
pub mod story;
pub mod talk;
pub mod tlsview;
pub mod watch;
