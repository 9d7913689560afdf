//! The program itself: what it delivers, what it refuses, and what a kill or a fault leaves behind.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::expect_used, clippy::panic)]

use std::ffi::OsStr;
use std::fs;
use std::io::{PipeReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use plumb::errand::Errand;
use plumb::process::Ended;

const PROGRAM: &str = env!("CARGO_BIN_EXE_queue-maildir");
const ENVELOPE: &[u8] = b"Ffrom@client.test\0Tto@mx.test\0\0";
const MESSAGE: &[u8] = b"Subject: x\n\nbody\n";

/// A Maildir for one test.
struct Maildir(PathBuf);

impl Maildir {
    fn new() -> Maildir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("maildir-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        for folder in ["tmp", "new", "cur"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        Maildir(path)
    }

    /// Runs a program, which is queue-maildir or starts it.
    fn run(&self, program: &OsStr, message: &[u8], envelope: &[u8]) -> Ended {
        let (message_end, message_writer) = feed(message);
        let (envelope_end, envelope_writer) = feed(envelope);
        let log = fs::File::create(self.0.join("log")).unwrap();
        let variables = [
            ("MAILDIR".into(), self.0.clone().into_os_string()),
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("PROGRAM".into(), PROGRAM.into()),
        ];
        let descriptors = [(message_end.as_fd(), 0), (envelope_end.as_fd(), 1), (log.as_fd(), 2)];
        let errand = Errand::start(program, &variables, &descriptors).unwrap();
        drop((message_end, envelope_end));
        let deadline = Instant::now() + Duration::from_secs(60);
        let ended = errand.wait_until(deadline).unwrap().expect("queue-maildir hangs");
        message_writer.join().unwrap();
        envelope_writer.join().unwrap();
        ended
    }

    fn deliver(&self, message: &[u8], envelope: &[u8]) -> Ended {
        self.run(PROGRAM.as_ref(), message, envelope)
    }

    /// Runs a shell script that ends in `exec "$PROGRAM"`, or in something that does so.
    fn script(&self, text: &str) -> Ended {
        let path = self.0.join("script");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.run(path.as_os_str(), MESSAGE, ENVELOPE)
    }

    fn files(&self, folder: &str) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.0.join(folder)).into_iter().flatten();
        entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.join("log")).unwrap()
    }
}

impl Drop for Maildir {
    fn drop(&mut self) {
        if !thread::panicking() {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }
}

fn feed(bytes: &[u8]) -> (PipeReader, thread::JoinHandle<()>) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let bytes = bytes.to_vec();
    // The program may end before it has read everything.
    (reader, thread::spawn(move || drop(writer.write_all(&bytes))))
}

fn expected(message: &[u8]) -> Vec<u8> {
    [b"Return-Path: <from@client.test>\nDelivered-To: to@mx.test\n", message].concat()
}

#[test]
fn a_message_for_several_is_one_file() {
    let maildir = Maildir::new();
    let envelope = b"F\0Tone@mx.test\0Ttwo@mx.test\0\0";
    assert_eq!(maildir.deliver(b"a\0\xff\n", envelope), Ended::Code(0));
    let header = &b"Return-Path: <>\nDelivered-To: one@mx.test\nDelivered-To: two@mx.test\n"[..];
    assert_eq!(maildir.files("new"), [[header, b"a\0\xff\n"].concat()]);
    assert!(maildir.files("tmp").is_empty());
    assert_eq!(maildir.log(), "");
}

#[test]
fn messages_of_every_size_arrive_whole() {
    for size in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000] {
        let message: Vec<u8> = (0..size).map(|at: u32| (at % 251).to_le_bytes()[0]).collect();
        let maildir = Maildir::new();
        assert_eq!(maildir.deliver(&message, ENVELOPE), Ended::Code(0));
        assert!(maildir.files("new") == [expected(&message)], "{size}");
        assert!(maildir.files("tmp").is_empty());
    }
}

// qmail-queue(8): an envelope that was not finished means that the message was given up.
#[test]
fn what_was_given_up_is_not_delivered() {
    for (envelope, code) in [
        (&ENVELOPE[..ENVELOPE.len() - 1], 54),
        (&ENVELOPE[..5], 54),
        (b"", 54),
        (b"Tto@mx.test\0\0", 91),
        (b"F\0\0", 91),
    ] {
        for message in [MESSAGE, &vec![b'x'; 3_000_000]] {
            let maildir = Maildir::new();
            assert_eq!(maildir.deliver(message, envelope), Ended::Code(code));
            assert!(maildir.files("new").is_empty() && maildir.files("tmp").is_empty());
            assert!(
                maildir.log().ends_with(&format!(" exit={code}\n"))
                    || maildir.log().contains("connid=")
            );
        }
    }
    let maildir = Maildir::new();
    let long = [b"F\0T".to_vec(), vec![b'x'; 1003], b"\0\0".to_vec()].concat();
    assert_eq!(maildir.deliver(MESSAGE, &long), Ended::Code(11));
}

#[test]
fn folders_that_are_not_there() {
    let maildir = Maildir::new();
    assert_eq!(maildir.script("unset MAILDIR; exec \"$PROGRAM\""), Ended::Code(55));
    assert_eq!(maildir.script("MAILDIR=; export MAILDIR; exec \"$PROGRAM\""), Ended::Code(55));
    assert_eq!(maildir.script("MAILDIR=/nonexistent exec \"$PROGRAM\""), Ended::Code(61));
    fs::remove_dir(maildir.0.join("new")).unwrap();
    assert_eq!(maildir.deliver(MESSAGE, ENVELOPE), Ended::Code(64));
    assert!(maildir.files("tmp").is_empty());
    fs::remove_dir(maildir.0.join("tmp")).unwrap();
    assert_eq!(maildir.deliver(MESSAGE, ENVELOPE), Ended::Code(62));
    assert!(maildir.log().contains("unable to make a file in tmp: No such file"));
}

#[test]
fn arguments_are_wrong_usage() {
    assert_eq!(Maildir::new().script("exec \"$PROGRAM\" x"), Ended::Code(100));
}

#[test]
fn a_disk_that_is_full() {
    let maildir = Maildir::new();
    let ended = maildir.script("trap '' XFSZ; ulimit -f 0; exec 2>&-; exec \"$PROGRAM\"");
    assert_eq!(ended, Ended::Code(53));
    assert!(maildir.files("new").is_empty() && maildir.files("tmp").is_empty());
}

/// Runs the program under strace, which does something to one of its system calls.
fn injected(maildir: &Maildir, call: &str, what: &str) -> Ended {
    maildir.script(&format!("exec strace -qq -o /dev/null -e inject={call}:{what} \"$PROGRAM\""))
}

/// The calls that a delivery makes, in their order, and how often.
const STEPS: [(&str, u32); 8] = [
    ("openat", 6),
    ("read", 6),
    ("write", 2),
    ("fsync", 2),
    ("link,linkat", 1),
    ("unlink", 1),
    ("close", 6),
    ("exit_group", 1),
];

// A kill at any step leaves the whole message, or none and perhaps something in tmp; never a part.
#[test]
fn a_kill_at_any_step() {
    let (mut delivered, mut lost) = (0, 0);
    for (call, times) in STEPS {
        for when in 1..=times {
            let maildir = Maildir::new();
            let ended = injected(&maildir, call, &format!("signal=KILL:when={when}"));
            let new = maildir.files("new");
            match ended {
                Ended::Code(0) => assert_eq!(new, [expected(MESSAGE)], "{call} {when}"),
                _ => assert!(new.is_empty() || new == [expected(MESSAGE)], "{call} {when}"),
            }
            match new.is_empty() {
                true => lost += 1,
                false => delivered += 1,
            }
        }
    }
    assert!(delivered >= 3 && lost >= 10, "{delivered} {lost}: the kills did not fall where meant");
}

// What the system refuses at any step is told, and leaves nothing.
#[test]
fn a_fault_at_any_step() {
    for (call, error, when, code) in [
        ("write", "ENOSPC", 1, 53),
        ("write", "EIO", 2, 53),
        ("fsync", "EIO", 1, 53),
        ("link,linkat", "ENOSPC", 1, 64),
        ("fsync", "EIO", 2, 66),
    ] {
        let maildir = Maildir::new();
        let ended = injected(&maildir, call, &format!("error={error}:when={when}"));
        assert_eq!(ended, Ended::Code(code), "{call} {error}: {}", maildir.log());
        assert!(maildir.files("new").is_empty() && maildir.files("tmp").is_empty(), "{call}");
    }
}
