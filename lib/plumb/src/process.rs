//! Processes: fork, wait, signals, and what every program does first.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::die::{Doing, Result, TEMPORARY};
use crate::log;

pub use crate::program::Program;
pub use nix::unistd::Pid;

/// Which of the two processes this is after a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old process, and the new one's pid.
    Parent(Pid),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(u8),
    /// This signal killed it.
    Signal(i32),
}

/// What every program does first: no core or ptrace, SIGCHLD as exec'd programs expect it, no log into the client's socket.
pub fn begin() -> Result<()> {
    undumpable().doing("become undumpable")?;
    default_sigchld().doing("reset SIGCHLD")?;
    log::hide_from_client().doing("open /dev/null")
}

/// Starts a copy of this process, which must have no other threads.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: these programs have no threads, so the child's memory is in order; what a threaded test does in a child is the test's duty.
    match Errno::result(unsafe { libc::fork() })? {
        0 => {
            forget_sigterm();
            Ok(Fork::Child)
        }
        pid => Ok(Fork::Parent(Pid::from_raw(pid))),
    }
}

/// Waits until a child has ended.
pub fn wait(pid: Pid) -> io::Result<Ended> {
    loop {
        if let Some(ended) = reap(pid, 0)? {
            return Ok(ended);
        }
    }
}

/// How a child has ended, or None while it runs.
pub fn try_wait(pid: Pid) -> io::Result<Option<Ended>> {
    reap(pid, libc::WNOHANG)
}

/// Gives SIGCHLD its default action: where it is ignored, waitpid(2) knows no children.
pub fn default_sigchld() -> io::Result<()> {
    set_action(Signal::SIGCHLD, SigHandler::SigDfl)
}

/// Makes a write to a closed pipe an error and not a death; exec gives the program the default back.
pub fn ignore_sigpipe() -> io::Result<()> {
    set_action(Signal::SIGPIPE, SigHandler::SigIgn)
}

/// Lets no other process of the same uid attach to this one, and leaves no core.
pub fn undumpable() -> io::Result<()> {
    Ok(prctl::set_dumpable(false)?)
}

/// Sets the largest core to nothing, for this process and all that it starts.
pub fn no_core() -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}

/// Makes SIGTERM shut down a socket, so that whoever reads from it sees the end; the socket must stay open as long as the process runs.
///
/// A child of fork() has the default action again, and so has an exec'd program.
pub fn shutdown_on_sigterm(socket: impl AsFd) -> io::Result<()> {
    SHUT.store(socket.as_fd().as_raw_fd(), Ordering::SeqCst);
    set_action(Signal::SIGTERM, SigHandler::Handler(shut))?;
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    Ok(term.thread_unblock()?)
}

/// Ends this process at once, without destructors and exit handlers: the last call of a forked child.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) does not return and touches nothing of the process.
    unsafe { libc::_exit(i32::from(code)) }
}

impl Ended {
    /// The exit code to pass on: the program's own, or 111 where a signal killed it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(_) => TEMPORARY,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "exit={code}"),
            Self::Signal(signal) => write!(out, "signal={signal}"),
        }
    }
}

fn reap(pid: Pid, flags: libc::c_int) -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: the status is written to a local; nix's own refuses real-time signals.
    let result = Errno::result(unsafe { libc::waitpid(pid.as_raw(), &raw mut status, flags) });
    match result {
        Err(Errno::EINTR) | Ok(0) => Ok(None),
        Err(other) => Err(other.into()),
        Ok(_) if libc::WIFSIGNALED(status) => Ok(Some(Ended::Signal(libc::WTERMSIG(status)))),
        Ok(_) => {
            Ok(Some(Ended::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(TEMPORARY))))
        }
    }
}

fn set_action(signal: Signal, handler: SigHandler) -> io::Result<()> {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the only handler of this crate is `shut`, which is async-signal-safe.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// A child's descriptors differ: the number may be another socket there.
fn forget_sigterm() {
    if SHUT.swap(NOTHING, Ordering::SeqCst) != NOTHING {
        // sigaction(2) fails only for signals that do not exist.
        set_action(Signal::SIGTERM, SigHandler::SigDfl).ok();
    }
}

extern "C" fn shut(_: libc::c_int) {
    let errno = Errno::last();
    // SAFETY: shutdown(2) is async-signal-safe and takes only numbers; that of nothing fails.
    unsafe { libc::shutdown(SHUT.load(Ordering::SeqCst), libc::SHUT_RDWR) };
    errno.set();
}

static SHUT: AtomicI32 = AtomicI32::new(NOTHING);
const NOTHING: i32 = -1;
