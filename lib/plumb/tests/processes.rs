//! Ends, signals, and the programs that are started.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use common::{child, in_child, read_all};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use plumb::die::{CONFIGURATION, TEMPORARY};
use plumb::fds;
use plumb::process::{self, Ended, Fork, Program, exit_now, fork, try_wait, wait};

#[test]
fn wait_tells_codes_from_signals() {
    assert_eq!(in_child(|| 0), Ended::Code(0));
    assert_eq!(in_child(|| 255), Ended::Code(255));
    let by_signal = |signal: i32| {
        in_child(move || {
            // SAFETY: raises a signal in a child made for it.
            unsafe { libc::raise(signal) };
            0
        })
    };
    assert_eq!(by_signal(libc::SIGKILL), Ended::Signal(libc::SIGKILL));
    assert_eq!(by_signal(libc::SIGRTMIN() + 3), Ended::Signal(libc::SIGRTMIN() + 3));
}

// DESIGN 2, ends: "with that program's exit code (killed by a signal: 111)".
#[test]
fn a_killed_program_is_a_temporary_failure() {
    assert_eq!(Ended::Code(31).exit_code(), 31);
    assert_eq!(Ended::Signal(9).exit_code(), TEMPORARY);
    assert_eq!(Ended::Signal(9).to_string(), "signal=9");
}

#[test]
fn try_wait_does_not_wait() {
    let (near, far) = UnixStream::pair().unwrap();
    let pid = child(|| u8::try_from((&far).read(&mut [0; 9]).unwrap()).unwrap());
    assert_eq!(try_wait(pid).unwrap(), None);
    (&near).write_all(b"four").unwrap();
    assert_eq!(wait(pid).unwrap(), Ended::Code(4));
    assert!(try_wait(pid).is_err(), "it is known no more");
}

// DESIGN 2: "SIGCHLD default at start; waits for known pids only".
#[test]
fn an_ignored_sigchld_is_put_right() {
    let ended = in_child(|| {
        // SAFETY: sets an action, not a handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        process::begin().unwrap();
        u8::from(in_child(|| 5) != Ended::Code(5))
    });
    assert_eq!(ended, Ended::Code(0));
}

#[test]
fn begin_makes_undumpable_and_no_core_means_none() {
    let ended = in_child(|| {
        process::begin().unwrap();
        process::no_core().unwrap();
        let core =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE).unwrap();
        u8::from(nix::sys::prctl::get_dumpable().unwrap() || core != (0, 0))
    });
    assert_eq!(ended, Ended::Code(0));
}

// DESIGN 2, ends: "SIGTERM to the monitor is passed to net".
#[test]
fn sigterm_shuts_the_socket_down() {
    let (near, far) = UnixStream::pair().unwrap();
    let pid = child(|| {
        process::shutdown_on_sigterm(&far).unwrap();
        (&far).write_all(b"x").unwrap();
        let ours = (&far).read(&mut [0]).unwrap();
        u8::try_from(ours).unwrap()
    });
    drop(far);
    (&near).read_exact(&mut [0]).unwrap();
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!((&near).read(&mut [0]).unwrap(), 0, "the other side sees the end");
    assert_eq!(wait(pid).unwrap(), Ended::Code(0));
}

#[test]
fn a_child_does_not_inherit_the_handler() {
    let ended = in_child(|| {
        let (_near, far) = UnixStream::pair().unwrap();
        process::shutdown_on_sigterm(&far).unwrap();
        match fork().unwrap() {
            Fork::Child => {
                raise(Signal::SIGTERM).unwrap();
                exit_now(0)
            }
            Fork::Parent(pid) => u8::from(wait(pid).unwrap() != Ended::Signal(libc::SIGTERM)),
        }
    });
    assert_eq!(ended, Ended::Code(0));
}

#[test]
fn a_spawned_program_gets_its_socket_and_environment() {
    let (near, far) = fds::socketpair().unwrap();
    let script = "echo $WORD ${HOME-gone}; exit 3";
    let program = shell(script).env("WORD", "said").env_remove("HOME").stdio(far).unwrap();
    assert_eq!(wait(program.spawn().unwrap()).unwrap(), Ended::Code(3));
    assert_eq!(read_all(near), "said gone\n");
}

// DESIGN 2: the chain gets the signals that it would get without us (not by way of sh, which unblocks them itself).
#[test]
fn programs_start_with_no_signal_blocked_and_sigpipe_at_its_default() {
    for start in [|program: Program| program.exec().exit_code(), spawned] {
        let (near, far) = fds::socketpair().unwrap();
        let ended = in_child(|| {
            SigSet::all().thread_block().unwrap();
            process::ignore_sigpipe().unwrap();
            let grep = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"].map(OsString::from);
            start(Program::new(&grep).unwrap().stdio(far).unwrap())
        });
        let shown = read_all(near);
        let mask = |line: &str| u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap();
        let [blocked, ignored] = [0, 1].map(|line| mask(shown.lines().nth(line).unwrap()));
        assert_eq!((ended, blocked, ignored & SIGPIPE), (Ended::Code(0), 0, 0));
    }
}

#[test]
fn exec_changes_the_environment_of_the_program() {
    let (near, far) = fds::socketpair().unwrap();
    let ended =
        in_child(|| shell("echo $WORD").env("WORD", "said").stdio(far).unwrap().exec().exit_code());
    assert_eq!((ended, read_all(near).as_str()), (Ended::Code(0), "said\n"));
}

#[test]
fn a_missing_program_is_temporary_and_no_program_is_wrong_usage() {
    let missing = || Program::new(&["/nowhere/smtpd".into()]).unwrap();
    for error in [missing().exec(), missing().spawn().unwrap_err()] {
        assert_eq!(error.to_string(), "unable to run /nowhere/smtpd: No such file or directory");
        assert_eq!(error.exit_code(), TEMPORARY);
    }
    assert_eq!(Program::new(&[]).unwrap_err().exit_code(), CONFIGURATION);
}

fn spawned(program: Program) -> u8 {
    wait(program.spawn().unwrap()).unwrap().exit_code()
}

fn shell(script: &str) -> Program {
    Program::new(&["sh", "-c", script].map(OsString::from)).unwrap()
}

/// SIGPIPE in the masks of /proc/PID/status.
const SIGPIPE: u64 = 1 << 12;
