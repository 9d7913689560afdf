//! The recorder's log as an administrator keeps it: stamped, on a descriptor of its own, without a gap.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use chain_tests::{Client, Process, Server, programs, until};

const CHAIN: &str = "setuidgid nobody smtpd";

/// A short session; what the log holds at its end.
fn recorded(options: &str) -> String {
    let server = Server::new(&format!("recordio-tls {options} {CHAIN}")).start();
    short(server.connect());
    server.idle();
    server.log()
}

fn short(mut client: Client) {
    client.reply();
    client.expect("NOOP", "250");
    client.expect("QUIT", "221");
    client.closed();
}

/// Without the first word of each line.
fn unstamped(log: &str) -> Vec<&str> {
    log.lines().map(|line| line.split_once(' ').expect("a stamp").1).collect()
}

fn ours(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.contains("recordio-tls: "))
}

// multilog(8): `t` inserts an @, a precise timestamp, and a space in front of each line; tai64nlocal(1) turns them into local time.
#[test]
fn tai64nlocal_reads_the_stamps() {
    let log = recorded("-t");
    assert!(ours(&log).count() >= 8, "{log}");
    let mut reader = Command::new("tai64nlocal")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start tai64nlocal");
    reader.stdin.take().expect("a pipe").write_all(log.as_bytes()).expect("write to it");
    let read = reader.wait_with_output().expect("wait for it").stdout;
    let read = String::from_utf8(read).expect("text");
    let today = |seconds: u64| {
        let date = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%F"]).output();
        String::from_utf8(date.expect("date").stdout).expect("text").trim_end().to_owned()
    };
    let days = [today(now().as_secs()), today(now().as_secs().saturating_sub(600))];
    for line in ours(&read) {
        assert!(days.iter().any(|day| line.starts_with(&format!("{day} "))), "{line}");
    }
}

// RFC 3339 5.6, with six digits behind the second; in recordio's grammar, too, what follows the stamp is as it is without one.
#[test]
fn iso_stamps_and_recordios_grammar() {
    let log = recorded("-i");
    for line in ours(&log) {
        let stamp = line.split(' ').next().expect("a stamp");
        let shape: String =
            stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
    }
    let plain = recorded("-c");
    let without_pid = |lines: Vec<&str>| {
        let lines = lines.into_iter().map(|line| line.split_once(' ').expect("a pid").1.to_owned());
        lines.collect::<Vec<_>>()
    };
    for options in ["-c -i", "-c -t"] {
        let stamped = recorded(options);
        assert_eq!(without_pid(unstamped(&stamped)), without_pid(plain.lines().collect()));
    }
}

/// The chain with a FIFO as descriptor 2, which nobody reads before the test does.
fn behind_a_fifo(options: &str) -> (Server, File) {
    let server = Server::new(&format!("./fifo recordio-tls {options} {CHAIN}"));
    server.folder.script("fifo", "#!/bin/sh\nexec \"$@\" 2>log.fifo\n");
    let path = server.folder.path("log.fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o666)).expect("mkfifo");
    let fifo = OpenOptions::new().read(true).write(true).open(&path).expect("open the FIFO");
    (server.start(), fifo)
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock")
}

/// Sends NOOPs in blocks of a hundred.
fn noops(client: &mut Client, blocks: usize) {
    for _ in 0..blocks {
        client.send("NOOP\r\n".repeat(100));
        (0..100).for_each(|_| assert!(client.reply().starts_with("250")));
    }
}

// The stamp is the time when the line was seen, not when it was written.
#[test]
fn a_line_that_waited_has_the_stamp_of_its_own_time() {
    let (server, fifo) = behind_a_fifo("-t");
    let mut client = server.connect();
    client.reply();
    let after_greeting = now();
    // More than the FIFO holds waits in the recorder's queue.
    noops(&mut client, 10);
    let before_reading = now();
    let mut lines = BufReader::new(fifo).lines().map(|line| line.expect("a line of ASCII"));
    for _ in 0..2000 {
        let line = lines.next().expect("a line");
        let label = line.split(['@', ' ']).nth(1).expect("a label");
        let seconds = u64::from_str_radix(&label[..16], 16).expect("hex") - ((1 << 62) + 10);
        let nanos = u32::from_str_radix(&label[16..], 16).expect("hex");
        let stamp = std::time::Duration::new(seconds, nanos);
        assert!(stamp <= before_reading, "{line}");
        assert!(stamp >= after_greeting || !line.contains("NOOP"), "{line}");
    }
    short(server.connect());
    client.expect("QUIT", "221");
    client.closed();
}

// -w: no line is lost; the session waits for whoever reads the log, as behind recordio.
#[test]
fn the_session_waits_for_the_log_where_that_was_asked_for() {
    const BLOCKS: usize = 100;
    let (server, fifo) = behind_a_fifo("-w");
    let mut client = server.connect();
    client.reply();
    let mut seen = 0;
    let served = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            noops(&mut client, BLOCKS);
            served.store(true, Ordering::SeqCst);
            client.expect("QUIT", "221");
            client.closed();
        });
        until("a session that waits", || {
            let recorder =
                server.sessions().into_iter().find(|process| process.name == "recordio-tls")?;
            // poll(2) for one descriptor: the log, and not client and program.
            let call = fs::read_to_string(format!("/proc/{}/syscall", recorder.pid)).ok()?;
            let words: Vec<&str> = call.split(' ').collect();
            let polls = [libc::SYS_poll, libc::SYS_ppoll].map(|number| number.to_string());
            (polls.contains(&words.first()?.to_string()) && words.get(2) == Some(&"0x1"))
                .then_some(())
        });
        assert!(
            !served.load(Ordering::SeqCst),
            "the log waits for its reader, and the session does not"
        );
        for line in BufReader::new(fifo).lines() {
            let line = line.expect("a line of ASCII");
            assert!(!line.contains("[LOST"), "{line}");
            seen += usize::from(line.ends_with("< NOOP\\r "));
            if line.contains("> 221") {
                break;
            }
        }
    });
    assert_eq!(seen, 100 * BLOCKS);
}

// -f: another descriptor, which the program does not get, whether there is a recorder or not; recordio-tls.8, EXAMPLES: a file for each session.
#[test]
fn a_file_for_each_session() {
    const OWN: &str = "#!/bin/sh
umask 77; exec 5>>\"record/$$\"; umask 22; exec recordio-tls -i -f 5 \"$@\"
";
    for switch in ["1", "0"] {
        let server = Server::new(&format!("./own {CHAIN}")).env("RECORDIO", switch);
        server.folder.script("own", OWN);
        fs::create_dir(server.folder.path("record")).expect("make a folder");
        let server = server.start();
        let mut clients = [server.connect(), server.connect()];
        for client in &mut clients {
            client.reply();
            let programs = until("the program", || {
                let programs: Vec<_> = server
                    .sessions()
                    .into_iter()
                    .filter(|process| process.name == "smtpd")
                    .collect();
                (!programs.is_empty()).then_some(programs)
            });
            let held = |program: &Process| program.descriptors().into_values().collect::<String>();
            assert!(programs.iter().all(|program| !held(program).contains("/record/")));
        }
        for client in &mut clients {
            client.expect("QUIT", "221");
            client.closed();
        }
        drop(clients);
        server.idle();
        assert!(!server.log().contains("recordio-tls: "), "{}", server.log());
        let files: Vec<_> = fs::read_dir(server.folder.path("record"))
            .expect("read the folder")
            .map(|file| file.expect("read the folder").path())
            .collect();
        assert_eq!(files.len(), 2);
        for file in files {
            assert_eq!(fs::metadata(&file).expect("stat").permissions().mode() & 0o777, 0o600);
            let record = fs::read_to_string(&file).expect("read a record");
            assert_eq!(record.matches("> 221 ").count(), usize::from(switch == "1"), "{record}");
        }
    }
}

// Wrong usage: a descriptor that is none, and options that contradict each other.
#[test]
fn options_that_cannot_be_followed() {
    for (arguments, says) in [
        (&["-f", "77", "true"][..], "descriptor 77 is not open"),
        (&["-f", "1", "true"], "-f takes a number from 2 on"),
        (&["-f", "log", "true"], "-f takes a number from 2 on"),
        (&["-i", "-t", "true"], "-i and -t contradict each other"),
        (&["-ew", "true"], "-e and -w contradict each other"),
    ] {
        let output = Command::new(programs::folder().join("recordio-tls"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("start the recorder");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(100), "{arguments:?} {log}");
        assert!(log.contains(says), "{log}");
    }
}
