//! The next program of the chain: replaces this process, or runs as its child.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;

use crate::die::{Doing, Error, Result};
use crate::process::Pid;

/// A program with its arguments, found by PATH, started with SIGPIPE at its default and no signal blocked.
#[derive(Debug)]
pub struct Program {
    command: Command,
}

impl Program {
    /// The first of `argv` is the program; no argument at all is wrong usage (100).
    pub fn new(argv: &[OsString]) -> Result<Self> {
        let (name, arguments) =
            argv.split_first().ok_or_else(|| Error::permanent("no program to run"))?;
        let mut command = Command::new(name);
        command.args(arguments);
        Ok(Self { command })
    }

    /// Puts one socket on both descriptor 0 and descriptor 1.
    pub fn stdio(mut self, socket: OwnedFd) -> io::Result<Self> {
        self.command.stdin(socket.as_fd().try_clone_to_owned()?).stdout(socket);
        Ok(self)
    }

    /// Sets a variable for the program alone.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes a variable from the program alone.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Becomes the program; returns only where that failed (111), and then descriptors 0 and 1 may already be the program's.
    pub fn exec(mut self) -> Error {
        match unblock_signals() {
            Ok(()) => Error::unable(self.doing(), &self.command.exec()),
            Err(cause) => Error::unable("unblock signals", &cause),
        }
    }

    /// Starts the program as a child, without a copy of this process' memory.
    pub fn spawn(mut self) -> Result<Pid> {
        unblock_signals().doing("unblock signals")?;
        let child = self.command.spawn().doing(self.doing())?;
        Ok(Pid::from_raw(child.id().cast_signed()))
    }

    fn doing(&self) -> String {
        format!("run {}", self.command.get_program().display())
    }
}

/// std resets SIGPIPE, but since 1.66 leaves the mask as it is.
fn unblock_signals() -> io::Result<()> {
    Ok(SigSet::empty().thread_set_mask()?)
}
