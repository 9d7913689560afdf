//! Descriptors, processes, sandboxes and exit codes: the only home of unsafe code.

pub mod child;
pub mod die;
pub mod end;
pub mod errand;
pub mod fds;
pub mod log;
pub mod middle;
pub mod privs;
pub mod process;
pub mod random;
pub mod relay;
pub mod sandbox;
pub mod ucspi;
pub mod wait;

mod landlock;
mod packet;
mod program;
mod seccomp;

pub use die::{Doing, Error, Result};
