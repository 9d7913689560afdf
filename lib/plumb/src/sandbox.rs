//! Locking a process in: own uid, empty root, Landlock, and a list of system calls beyond which lies death.

use std::os::fd::OwnedFd;

use nix::sys::prctl;

use crate::die::{Doing, Error, Result};
use crate::log;
use crate::privs::{Identity, empty_root};
use crate::process::undumpable;

/// What a locked-in process may still do.
#[derive(Debug)]
pub struct Profile {
    calls: Vec<i64>,
    folders: Vec<OwnedFd>,
}

impl Profile {
    /// Reading, writing and waiting on descriptors that are open, memory that is not code, random bytes, the clock, and the end.
    pub fn relay() -> Self {
        Self { calls: RELAY.to_vec(), folders: Vec::new() }
    }

    /// Besides, reading files that are open.
    pub fn reader() -> Self {
        Self::relay().with(FILES)
    }

    /// Besides, making, reading, writing and locking the files beneath an open folder, as a database does.
    pub fn database(folder: OwnedFd) -> Self {
        Self::reader().with(DATABASE).beneath(folder)
    }

    /// Allows more system calls, by number (libc::SYS_...).
    #[must_use]
    pub fn with(mut self, calls: &[i64]) -> Self {
        self.calls.extend_from_slice(calls);
        self
    }

    /// Leaves what lies beneath an open folder to Landlock's grace; the calls that open files must be allowed too.
    #[must_use]
    pub fn beneath(mut self, folder: OwnedFd) -> Self {
        self.folders.push(folder);
        self
    }
}

/// Gives up root where there is one (empty root folder, own ids) and locks this process in for good.
///
/// Returns what this machine lacks, for one log line; with `required` (-S) a lack is an error (100).
pub fn confine(identity: &Identity, profile: Profile, required: bool) -> Result<Vec<&'static str>> {
    let mut lacking = Vec::new();
    if *identity != Identity::Unchanged && empty_root().is_err() {
        lacking.push(EMPTY_ROOT);
        refuse(&lacking, required)?;
    }
    identity.assume()?;
    lacking.extend(lock_in(profile, required)?);
    Ok(lacking)
}

/// Locks this process in for good: no core or ptrace, no new privileges, Landlock, system calls by `profile` only.
///
/// Returns what the kernel lacks, for one log line; with `required` (-S) a lack is an error (100).
pub fn lock_in(profile: Profile, required: bool) -> Result<Vec<&'static str>> {
    let mut lacking = Vec::new();
    log::remember_stderr();
    undumpable().doing("become undumpable")?;
    prctl::set_no_new_privs().doing("set no_new_privs")?;
    if crate::landlock::deny_all(&profile.folders).is_err() {
        lacking.push(LANDLOCK);
    }
    refuse(&lacking, required)?;
    drop(profile.folders);
    if crate::seccomp::allow_only(&profile.calls).is_err() {
        lacking.push(SECCOMP);
    }
    refuse(&lacking, required)?;
    Ok(lacking)
}

fn refuse(lacking: &[&str], required: bool) -> Result<()> {
    if required && !lacking.is_empty() {
        return Err(Error::permanent(format!("this machine lacks {}", lacking.join(", "))));
    }
    Ok(())
}

/// Of sockets, memory and time, what a process needs that opens nothing; for fcntl, mmap and mprotect see `allow_only`.
const RELAY: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pwritev2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_getpid,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What std calls to read a file that is open.
const FILES: &[i64] =
    &[libc::SYS_fstat, libc::SYS_statx, libc::SYS_newfstatat, libc::SYS_lseek, libc::SYS_pread64];

/// What SQLite calls besides, in WAL mode and where it must roll back or recover.
const DATABASE: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_fcntl,
    libc::SYS_pwrite64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fchmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    libc::SYS_faccessat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_geteuid,
    libc::SYS_clock_nanosleep,
];

const EMPTY_ROOT: &str = "empty-root";
const LANDLOCK: &str = "landlock";
const SECCOMP: &str = "seccomp";
