//! Log lines: one write each, never waiting, never to the client.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use common::{child, in_child, read_all};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use plumb::Error;
use plumb::fds;
use plumb::log::{LINE_MAX, Log, hide_from_client};
use plumb::process::{Ended, wait};

// DESIGN 3: "`program: pid: event key=value ...` on descriptor 2".
#[test]
fn a_line_is_one_write() {
    let packets = packets_on_stderr(|| {
        let mut log = Log::new("smtpd", 42, "6a.7");
        log.line("accept ip=192.0.2.1");
        log.line(format_args!("end bytes={}", 17));
        Log::new("smtpd", 42, "").line("no id");
    });
    let expected = [
        "smtpd: 42: accept ip=192.0.2.1 connid=6a.7\n",
        "smtpd: 42: end bytes=17 connid=6a.7\n",
        "smtpd: 42: no id\n",
    ];
    assert_eq!(packets, expected);
}

// DESIGN 3: "at most 4,000 bytes"; what follows the event survives the cut.
#[test]
fn a_long_line_is_cut_before_the_connid() {
    let packets = packets_on_stderr(|| Log::new("smtpd", 42, "6a.7").line("x".repeat(10_000)));
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].len(), LINE_MAX);
    assert!(packets[0].ends_with("xxx connid=6a.7\n"));
}

#[test]
fn no_event_makes_a_second_line() {
    let packets =
        packets_on_stderr(|| Log::new("smtpd", 42, "").line("a\nsmtpd: 1: forged\r\0\x1b\u{e9}"));
    assert_eq!(packets, ["smtpd: 42: a\\x0asmtpd: 1: forged\\x0d\\x00\\x1b\\xc3\\xa9\n"]);
}

// DESIGN 3: "never blocking the session (what does not fit is counted: `lost=n`)".
#[test]
fn what_does_not_fit_is_counted() {
    for full in [full_pipe, full_fifo] {
        let (mut reader, writer) = full();
        let (mut go, mut wait_for_it) = pair_of_files();
        let pid = child(|| {
            fds::move_to(writer.try_clone().unwrap(), 2).unwrap();
            let mut log = Log::new("smtpd", 42, "6a.7");
            log.line("one");
            log.line("two");
            wait_for_it.write_all(b"x").unwrap();
            wait_for_it.read_exact(&mut [0]).unwrap();
            log.line("three");
            log.line("four");
            0
        });
        drop(writer);
        go.read_exact(&mut [0]).unwrap();
        let mut filling = vec![0; FILLING];
        reader.read_exact(&mut filling).unwrap();
        go.write_all(b"x").unwrap();
        assert_eq!(wait(pid).unwrap(), Ended::Code(0));
        let mut lines = String::new();
        reader.read_to_string(&mut lines).unwrap();
        assert_eq!(lines, "smtpd: 42: three connid=6a.7 lost=2\nsmtpd: 42: four connid=6a.7\n");
    }
}

#[test]
fn a_file_takes_every_line() {
    let path = std::env::temp_dir().join(format!("plumb-log-{}", std::process::id()));
    let file = File::create(&path).unwrap();
    let ended = in_child(|| {
        fds::move_to(file.into(), 2).unwrap();
        (0..3).for_each(|n| Log::new("smtpd", 42, "").line(n));
        0
    });
    let lines = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        (ended, lines.as_str()),
        (Ended::Code(0), "smtpd: 42: 0\nsmtpd: 42: 1\nsmtpd: 42: 2\n")
    );
}

// DESIGN 3: "If 2 is the client's own socket (inetd, systemd without StandardError), nothing is written there."
#[test]
fn the_client_never_reads_the_log() {
    for (on_0, on_1, heard) in [
        (true, true, ""),
        (true, false, ""),
        (false, true, ""),
        (false, false, "smtpd: 42: one\nsmtpd: fatal: no me file\nsomeone else\n"),
    ] {
        let (client, server) = fds::socketpair().unwrap();
        let ended = in_child(|| {
            fds::null_stdio(&[0, 1]).unwrap();
            for (n, wanted) in [(0, on_0), (1, on_1), (2, true)] {
                if wanted {
                    fds::move_to(server.try_clone().unwrap(), n).unwrap();
                }
            }
            Log::new("smtpd", 42, "").line("one");
            let _ = Error::permanent("no me file").report("smtpd");
            hide_from_client().unwrap();
            nix::unistd::write(std::io::stderr(), b"someone else\n").unwrap();
            0
        });
        drop(server);
        assert_eq!((ended, read_all(client).as_str()), (Ended::Code(0), heard));
    }
}

#[test]
fn a_report_is_one_write_and_a_closed_stderr_is_no_panic() {
    let packets = packets_on_stderr(|| {
        let _ = Error::permanent("two\nlines").report("smtpd");
    });
    assert_eq!(packets, ["smtpd: fatal: two\\x0alines\n"]);
    let ended = in_child(|| {
        fds::close_all_but(&[0, 1]).unwrap();
        Log::new("smtpd", 42, "").line("one");
        let _ = Error::temporary("x").report("smtpd");
        7
    });
    assert_eq!(ended, Ended::Code(7));
}

#[test]
fn a_report_is_possible_from_the_sandbox() {
    let packets = packets_on_stderr(|| {
        plumb::sandbox::lock_in(plumb::sandbox::Profile::relay(), true).unwrap();
        let _ = Error::temporary("lost the key").report("starttls-wrap");
    });
    assert_eq!(packets, ["starttls-wrap: fatal: lost the key\n"]);
}

/// What a child writes on descriptor 2, write by write.
fn packets_on_stderr(body: impl FnOnce()) -> Vec<String> {
    let (reader, writer) = fds::packetpair().unwrap();
    let ended = in_child(|| {
        fds::move_to(writer.try_clone().unwrap(), 2).unwrap();
        body();
        0
    });
    drop(writer);
    assert_eq!(ended, Ended::Code(0));
    let mut buffer = vec![0; 2 * LINE_MAX];
    let mut packets = Vec::new();
    while let Some((length, _)) = fds::recv_packet(&reader, &mut buffer, None).unwrap() {
        packets.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    packets
}

/// A pipe without room for a line: the kernel can be asked not to wait (Linux 6.4).
fn full_pipe() -> (File, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    filled(File::from(OwnedFd::from(reader)), writer.into())
}

/// A FIFO with a name, where poll(2) must be asked first.
fn full_fifo() -> (File, OwnedFd) {
    let path = std::env::temp_dir().join(format!("plumb-fifo-{}", std::process::id()));
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let both = File::options().read(true).write(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    let writer = File::options().write(true).open(&path).unwrap();
    drop(both);
    std::fs::remove_file(&path).unwrap();
    filled(reader, writer.into())
}

fn filled(reader: File, writer: OwnedFd) -> (File, OwnedFd) {
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(i32::try_from(FILLING).unwrap())).unwrap();
    let mut writer = File::from(writer);
    writer.write_all(&vec![b'-'; FILLING]).unwrap();
    assert!(
        !OFlag::from_bits_retain(fcntl(&writer, FcntlArg::F_GETFL).unwrap())
            .contains(OFlag::O_NONBLOCK)
    );
    (reader, writer.into())
}

fn pair_of_files() -> (File, File) {
    let (a, b) = fds::socketpair().unwrap();
    (a.into(), b.into())
}

/// What fills the pipes of the tests.
const FILLING: usize = 65_536;
