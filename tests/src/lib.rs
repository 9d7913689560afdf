//! Real servers, real clients and a view of the processes between them, for the chain tests.
//!
//! ```ignore
//! let server = Server::new("starttls-wrap setuidgid nobody smtpd").start();
//! let mut client = server.connect();
//! client.play("S: 220 *\nC: QUIT\nS: 221 *\n");
//! ```

pub mod client;
pub mod folder;
pub mod greylisting;
pub mod hello;
#[cfg(target_arch = "x86_64")]
pub mod inject;
pub mod peers;
pub mod postfix;
pub mod process;
pub mod programs;
pub mod scripted;
pub mod server;
pub mod session;
pub mod single;
pub mod users;
pub mod wait;

pub use client::Client;
pub use folder::Folder;
pub use process::Process;
pub use server::{CHAIN, Server};
pub use session::Session;
pub use wait::until;
