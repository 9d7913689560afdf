//! The parent becomes the program, the child relays.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use common::{child, in_child, read_all, status};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::dup;
use plumb::child::{Ends, split, split_if};
use plumb::fds;
use plumb::process::{Ended, Pid, Program, exit_now, wait};

/// The program prints what it was given: pid, descriptors, signals, and a line that it read.
const SHOW: &str = "echo pid $$; for fd in /proc/$$/fd/*; do \
    test -e $fd && printf 'fd %s -> ' ${fd##*/} && readlink $fd; done; \
    grep SigIgn /proc/self/status; read line; echo read $line";

// DESIGN 2: "the parent becomes the next program (its pid names the session in every log)".
#[test]
fn the_program_keeps_the_pid_and_gets_only_its_socket() {
    let (client, pid) = session(|| {
        relay(split(shell(SHOW)));
    });
    let shown = talk(client, b"over\n");
    assert_eq!(wait(pid).unwrap(), Ended::Code(0));
    let ours = u64::from_str_radix(&status("self", "SigIgn"), 16).unwrap();
    assert!(ours & SIGPIPE != 0, "Rust ignores SIGPIPE at start");
    let expected = format!(
        "pid {pid}\nfd 0 -> socket\nfd 1 -> socket\nfd 2 -> /dev/null\n\
         SigIgn:\t{:016x}\nread over\nrelay saw the end\n",
        ours & !SIGPIPE,
    );
    assert_eq!(shown, expected);
}

// DESIGN 3, exit codes: "Relays end with the program's own code".
#[test]
fn the_programs_exit_code_is_the_sessions() {
    let (client, pid) = session(|| relay(split(shell("exit 42"))));
    assert_eq!(read_all(client), "relay saw the end\n");
    assert_eq!(wait(pid).unwrap(), Ended::Code(42));
}

#[test]
fn a_program_that_is_missing_is_an_error_in_the_parent_and_the_end_in_the_child() {
    let (client, pid) = session(|| relay(split(Program::new(&["/nowhere/smtpd".into()]).unwrap())));
    assert_eq!(read_all(client), "relay saw the end\n");
    assert_eq!(wait(pid).unwrap(), Ended::Code(111));
}

// DESIGN 2: "tells its parent with one byte to relay or to exec without it (300 ms, then without it)".
#[test]
fn split_if_relays_after_the_word() {
    let (client, pid) = session(|| {
        relay(split_if(shell(SHOW), LONG, unreachable).map(|(ends, word)| {
            assert!(word.relay());
            ends
        }));
    });
    let shown = talk(client, b"over\n");
    assert_eq!(wait(pid).unwrap(), Ended::Code(0));
    assert!(shown.ends_with("read over\nrelay saw the end\n"), "{shown}");
    assert!(shown.contains("fd 1 -> socket\nfd 2 -> /dev/null\nSigIgn"), "{shown}");
}

#[test]
fn split_if_does_without_a_relay_that_stands_aside() {
    let (client, pid) = session(|| {
        relay(split_if(shell(SHOW), LONG, unreachable).map(|(_, word)| {
            word.stand_aside();
            exit_now(0)
        }));
    });
    let shown = talk(client, b"straight\n");
    assert_eq!(wait(pid).unwrap(), Ended::Code(0));
    assert!(shown.ends_with("read straight\n"), "{shown}");
}

#[test]
fn split_if_does_without_a_relay_that_dies_and_says_so() {
    let (client, pid) =
        session(|| relay(split_if(shell(SHOW), LONG, || print("unheard\n")).map(|_| exit_now(0))));
    let shown = talk(client, b"straight\n");
    assert_eq!(wait(pid).unwrap(), Ended::Code(0));
    assert!(shown.starts_with("unheard\n") && shown.ends_with("read straight\n"), "{shown}");
}

#[test]
fn split_if_does_without_a_relay_that_is_late_and_lets_it_know() {
    let (go, start) = fds::socketpair().unwrap();
    let (verdict, told) = fds::socketpair().unwrap();
    let (go, verdict) = (File::from(go), verdict);
    let (start, told) = (File::from(start), File::from(told));
    let keep = [start.as_raw_fd(), told.as_raw_fd()];
    let (client, pid) = session_keeping(&keep, move || {
        let (mut start, mut told) = (start, told);
        let program = shell("echo alone; read line; echo read $line");
        relay(split_if(program, Duration::ZERO, || print("late\n")).map(|(_, word)| {
            start.read_exact(&mut [0]).unwrap();
            told.write_all(if word.relay() { b"relays" } else { b"knows" }).unwrap();
            exit_now(0)
        }));
    });
    let mut client = File::from(client);
    let mut first = [0; 11];
    client.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"late\nalone\n");
    // Only now, with the program running, the relay says that it is ready.
    (&go).write_all(b"x").unwrap();
    drop(go);
    assert_eq!(read_all(verdict), "knows");
    assert_eq!(talk(client.into(), b"straight\n"), "read straight\n");
    assert_eq!(wait(pid).unwrap(), Ended::Code(0));
}

const LONG: Duration = Duration::from_secs(60);

fn unreachable() {
    print("unheard\n");
}

fn print(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}

#[test]
fn close_others_leaves_the_relay_its_ends() {
    let ended = in_child(|| {
        fds::null_stdio(&[0, 1, 2]).unwrap();
        let stray = dup(std::io::stdin()).unwrap();
        let kept = dup(std::io::stdin()).unwrap();
        let program = dup(std::io::stdin()).unwrap();
        let ends = Ends {
            from_client: fds::adopt(0).unwrap(),
            to_client: fds::adopt(1).unwrap(),
            program,
        };
        ends.close_others(&[kept.as_raw_fd()]).unwrap();
        let closed = fds::set_cloexec(stray.as_raw_fd()).is_err();
        std::mem::forget(stray);
        u8::from(
            !closed || fds::set_cloexec(kept.as_raw_fd()).is_err() || fds::set_cloexec(2).is_err(),
        )
    });
    assert_eq!(ended, Ended::Code(0));
}

fn shell(script: &str) -> Program {
    Program::new(&["sh", "-c", script].map(OsString::from)).unwrap()
}

/// SIGPIPE in the masks of /proc/PID/status.
const SIGPIPE: u64 = 1 << 12;

/// The client's end of a session whose process runs `body` with a socket on 0 and 1, /dev/null on 2 and nothing else open.
fn session(body: impl FnOnce()) -> (OwnedFd, Pid) {
    session_keeping(&[], body)
}

fn session_keeping(keep: &[i32], body: impl FnOnce()) -> (OwnedFd, Pid) {
    let (client, server) = fds::socketpair().unwrap();
    let pid = child(|| {
        fds::move_to(server.try_clone().unwrap(), 0).unwrap();
        fds::move_to(server, 1).unwrap();
        fds::null_stdio(&[2]).unwrap();
        fds::close_all_but(&[&[0, 1, 2], keep].concat()).unwrap();
        body();
        99
    });
    (client, pid)
}

/// Copies both ways until the program has ended; in the parent, the program could not be started.
fn relay(ends: plumb::Result<Ends>) {
    let ends = match ends {
        Ok(ends) => ends,
        Err(error) => exit_now(error.exit_code()),
    };
    let mut client = File::from(ends.from_client);
    let (mut program, mut out) = (File::from(ends.program), File::from(ends.to_client));
    loop {
        let mut asked = [&program, &client].map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        poll(&mut asked, PollTimeout::NONE).unwrap();
        let [from_program, from_client] = asked.map(|end| end.any().unwrap());
        if from_program && !copy(&mut program, &mut out) {
            out.write_all(b"relay saw the end\n").unwrap();
            exit_now(0);
        }
        if from_client {
            copy(&mut client, &mut program);
        }
    }
}

/// One read and one write; false at the end.
fn copy(from: &mut File, to: &mut File) -> bool {
    let mut buffer = [0; 4_096];
    let length = from.read(&mut buffer).unwrap_or(0);
    to.write_all(&buffer[..length]).unwrap();
    length > 0
}

/// Says `line`, then reads to the end; the numbers of sockets are left out.
fn talk(client: OwnedFd, line: &[u8]) -> String {
    let mut client = File::from(client);
    client.write_all(line).unwrap();
    let shown = read_all(client.into());
    shown.lines().flat_map(|line| [line.split(":[").next().unwrap_or(line), "\n"]).collect()
}
