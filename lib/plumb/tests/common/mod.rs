//! What the tests of processes share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use plumb::process::{Ended, Fork, Pid, exit_now, fork, wait};

/// Runs `body` in a forked child, whose exit code it gives.
pub fn child(body: impl FnOnce() -> u8) -> Pid {
    match fork().unwrap() {
        // A panic must not unwind into the test harness, of which this is a copy.
        Fork::Child => exit_now(catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED)),
        Fork::Parent(pid) => pid,
    }
}

/// Runs `body` in a forked child and waits for its end.
pub fn in_child(body: impl FnOnce() -> u8) -> Ended {
    wait(child(body)).unwrap()
}

/// All that comes from a descriptor until its end.
pub fn read_all(from: OwnedFd) -> String {
    let mut text = String::new();
    File::from(from).read_to_string(&mut text).unwrap();
    text
}

/// The value of a line `Name:\tvalue` of /proc/PID/status.
pub fn status(pid: impl std::fmt::Display, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether this test runs as root; says so where it is skipped.
pub fn root_or_skip(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: needs root");
    }
    root
}

/// Makes this process' kernel one that does not know some system calls.
pub fn without(calls: &[i64]) {
    let instruction = |code: u32, k: u32, jf: u8| libc::sock_filter {
        code: code.try_into().unwrap(),
        jt: 0,
        jf,
        k,
    };
    let ret = |verdict| instruction(libc::BPF_RET | libc::BPF_K, verdict, 0);
    let unknown = ret(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs());
    // The number is the first field of struct seccomp_data.
    let mut filter = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for call in calls {
        let number = u32::try_from(*call).unwrap();
        filter.extend([instruction(libc::BPF_JMP | libc::BPF_JEQ, number, 1), unknown]);
    }
    filter.push(ret(libc::SECCOMP_RET_ALLOW));
    let len = filter.len().try_into().unwrap();
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    nix::sys::prctl::set_no_new_privs().unwrap();
    // SAFETY: the instructions live until the call has returned.
    let set = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    assert_eq!(set, 0);
}

/// SIGSYS kills what calls a forbidden system call.
pub const FORBIDDEN: Ended = Ended::Signal(libc::SIGSYS);

/// No body ends with it.
const PANICKED: u8 = 101;
