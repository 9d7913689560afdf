//! The recorder in front of real programs, and Debian's recordio beside it: what the one promises and the other lacks.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::thread;

use chain_tests::client::End;
use chain_tests::server::Builder;
use chain_tests::{Client, Process, Server, programs, until};

const OURS: &str = "recordio-tls";
const THEIRS: &str = "recordio";

/// A server that says what it should, for every verb that a session here needs.
const MX: &str = r#"#!/usr/bin/python3 -I
import sys, os, socket
out, lines = sys.stdout.buffer, sys.stdin.buffer

def say(text):
    out.write(text.encode() + b'\r\n')
    out.flush()

say('220 mx')
for line in lines:
    words = line.decode('latin-1').split()
    verb = words[0].upper() if words else ''
    if verb == 'EHLO':
        say('250-mx\r\n250-AUTH PLAIN LOGIN CRAM-MD5\r\n250 CHUNKING')
    elif verb == 'AUTH':
        prompts = {'PLAIN': [''], 'LOGIN': ['VXNlcm5hbWU6', 'UGFzc3dvcmQ6']}.get(words[1].upper(), ['Y2hhbGxlbmdl'])
        answer = b''
        for prompt in prompts[len(words) - 2:]:
            say('334 ' + prompt)
            answer = lines.readline().strip()
            if answer == b'*':
                break
        say('501 cancelled' if answer == b'*' else '535 5.7.8 not ' + (words + [answer.decode()])[-1])
    elif verb == 'DATA':
        say('354 go')
        while lines.readline() != b'.\r\n':
            pass
        say('250 queued')
    elif verb == 'BDAT':
        lines.read(int(words[1]))
        say('250 ok')
    elif verb == 'QUIT':
        say('221 bye')
        break
    else:
        say('250 ok')
"#;

/// The program in this chain's folder, under the recorder and its options.
fn recorded(recorder: &str, script: &str) -> Builder {
    let server = Server::new(&format!("{recorder} ./program"));
    server.folder.script("program", script);
    server
}

/// Ends a session, and the connection.
fn quit(mut client: Client) {
    client.expect("QUIT", "221");
    client.closed();
}

/// The log once it holds the end of a session.
fn whole_log(server: &Server) -> String {
    server.idle();
    server.log()
}

/// Pseudo-random bytes (xorshift), the same in every run.
fn random_bytes(length: usize, mut seed: u64) -> Vec<u8> {
    let words = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// Sends and receives at once, as fast as both sides can.
fn exchange(client: &Client, sent: &[u8]) -> Vec<u8> {
    let (mut input, mut output) = (client.stream(), client.stream());
    let mut heard = Vec::new();
    thread::scope(|scope| {
        scope.spawn(move || {
            output.write_all(sent).expect("send");
            output.shutdown(Shutdown::Write).expect("end the sending");
        });
        input.read_to_end(&mut heard).expect("receive");
    });
    heard
}

// "20 MB of random bytes each way unchanged", whatever they look like at the start.
#[test]
fn twenty_megabytes_of_anything_pass_unchanged() {
    const ANY: usize = 20_000_000;
    for (options, begins) in [
        ("", &b""[..]),
        ("-B -p smtp", b""),
        ("-B", b"220 mx\r\n"),
        ("-b", b"+OK \r\n"),
        ("-c -B", b"* OK \r\n"),
        ("", b"\x16\x03\x01\x02\x00\x01\x00"),
        ("-e", b"\x16\x03"),
    ] {
        let server = Server::new(&format!("{OURS} {options} cat")).start();
        let sent = [begins, &random_bytes(ANY, 7)].concat();
        let heard = exchange(&server.connect(), &sent);
        assert!(heard == sent, "{options} {}: {} bytes", begins.escape_ascii(), heard.len());
        let log = whole_log(&server);
        assert!(log.bytes().all(|byte| matches!(byte, b'\n' | b'\r' | b' '..=b'~')));
    }
}

/// OpenSSL bound to descriptor 0 alone, as SSL_set_fd(ssl, 0) does it.
const TLS_ON_0: &str = r#"#!/usr/bin/python3 -I
import os, socket, ssl
os.write(1, b'220 go\r\n')
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.environ['CERTFILE'], os.environ['KEYFILE'])
tls = context.wrap_socket(socket.socket(fileno=0), server_side=True)
tls.sendall(b'250 inside\r\n')
"#;

// A program that writes to descriptor 0 works behind a socket; behind recordio's pipes it does not.
#[test]
fn a_program_that_writes_to_descriptor_0_works() {
    let server = recorded(OURS, TLS_ON_0).start();
    let mut client = server.connect();
    assert_eq!(client.reply(), "220 go");
    client.handshake();
    assert_eq!(client.reply(), "250 inside");
    drop(client);

    let server = recorded(THEIRS, TLS_ON_0).start();
    let mut client = server.connect();
    assert_eq!(client.reply(), "220 go");
    assert!(client.try_handshake().is_err());
}

/// A server that does TLS in a process of its own, on the client's socket, when the program says so (UCSPI-TLS); in place of TLS it says
/// how much of the first 503 bytes it got.
const UCSPI_TLS: &str = r#"#!/usr/bin/python3 -I
import os, socket, sys
control, theirs = socket.socketpair()
wake = {'SSLCTLFD': theirs, 'SSLREADFD': theirs, 'SSLWRITEFD': theirs}
if os.fork() == 0:
    theirs.set_inheritable(True)
    for name in wake:
        os.environ[name] = str(theirs.fileno())
    os.execvp(sys.argv[1], sys.argv[1:])
theirs.close()
if control.recv(1) == b'y':
    client = socket.socket(fileno=0)
    client.settimeout(20)
    got = b''
    while len(got) < 503:
        part = client.recv(503 - len(got))
        if not part:
            break
        got += part
    client.sendall(b'%d bytes\r\n' % len(got))
    client.shutdown(socket.SHUT_WR)
    client.recv(1)
"#;

/// Asks for TLS in the manner of s/qmail, and leaves the client's socket alone from then on.
const ASKS_FOR_TLS: &str = r#"#!/usr/bin/python3 -I
import os, sys
os.write(1, b'220 mx\r\n')
while os.read(0, 1000) != b'STARTTLS\r\n':
    os.write(1, b'250 ok\r\n')
os.write(1, b'220 go\r\n')
os.close(0)
os.close(1)
os.write(int(os.environ['SSLCTLFD']), b'y')
"#;

/// How many ClientHellos of so many reach the process they are meant for.
fn hellos_that_arrive(recorder: &str, runs: usize) -> usize {
    let server = Server::new(&format!("./outer {recorder} ./program"));
    server.folder.script("outer", UCSPI_TLS);
    server.folder.script("program", ASKS_FOR_TLS);
    let server = server.start();
    let hello = [&b"\x16\x03\x01\x01\xf2"[..], &[7; 498]].concat();
    let arrives = |_: &usize| {
        let mut client = server.connect();
        client.reply();
        client.expect("STARTTLS", "220 go");
        client.try_send(&hello);
        client.half_close();
        client.rest() == b"503 bytes\r\n"
    };
    (0..runs).filter(arrives).count()
}

// With UCSPI-TLS the client's bytes behind the 220 belong to another process.
#[test]
fn no_client_hello_is_stolen_from_ucspi_tls() {
    const RUNS: usize = 100;
    assert_eq!(hellos_that_arrive(OURS, RUNS), RUNS);
    assert_eq!(hellos_that_arrive("env", 5), 5, "the test itself");
    println!("recordio: {} of 20 ClientHellos arrive", hellos_that_arrive(THEIRS, 20));
}

/// Reads no more, waits until told, then has a last word.
const LAST_WORD: &str = r#"#!/usr/bin/python3 -I
import os, socket, stat, time
os.write(1, b'220 mx\r\n')
os.read(0, 6)
if stat.S_ISSOCK(os.fstat(0).st_mode):
    socket.socket(fileno=os.dup(0)).shutdown(socket.SHUT_RD)
os.close(0)
open('deaf', 'w').close()
while not os.path.exists('speak'):
    time.sleep(0.01)
os.write(1, b'421 enough\r\n')
"#;

fn last_word(recorder: &str) -> Vec<u8> {
    let server = recorded(recorder, LAST_WORD).start();
    let mut client = server.connect();
    client.reply();
    client.send("NOOP\r\n");
    until("a program that reads no more", || server.folder.path("deaf").exists().then_some(()));
    // More than any buffer between holds: the recorder must have met the program's deafness.
    let recorder_is_there = || server.sessions().len() > 1;
    for _ in 0..1000 {
        if !client.try_send([b'x'; 4096]) || !recorder_is_there() {
            break;
        }
    }
    server.folder.write("speak", "");
    client.rest()
}

// A reply behind a closed descriptor 0 arrives; recordio ends with the first failed write.
#[test]
fn the_last_word_of_a_deaf_program_arrives() {
    assert_eq!(last_word(OURS), b"421 enough\r\n");
    assert_eq!(last_word(THEIRS), b"");
}

/// Becomes the rest of the chain with a descriptor 2 that is a pipe which nobody reads.
const STALLED_LOG: &str = r#"#!/usr/bin/python3 -I
import os, sys
reader, writer = os.pipe()
os.set_inheritable(reader, True)
os.dup2(writer, 2)
os.execvp(sys.argv[1], sys.argv[1:])
"#;

fn stalled(recorder: &str) -> Server {
    let server = Server::new(&format!("./stalled {recorder} ./program"));
    server.folder.script("stalled", STALLED_LOG);
    server.folder.script("program", MX);
    server.start()
}

// A log that nobody reads does not stall the session; recordio's child waits in write(2) to it for good.
#[test]
fn a_stalled_log_does_not_stall_the_session() {
    let server = stalled(OURS);
    let mut client = server.connect();
    client.reply();
    for _ in 0..200 {
        client.send("NOOP\r\n".repeat(100));
        (0..100).for_each(|_| assert_eq!(client.reply(), "250 ok"));
    }
    quit(client);

    let server = stalled(THEIRS);
    let client = server.connect();
    let mut writer = client.stream();
    let noops = "NOOP\r\n".repeat(10_000);
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(noops.as_bytes()));
        until("a recordio that waits for its log", || {
            let waits = |process: &Process| {
                let call = fs::read_to_string(format!("/proc/{}/syscall", process.pid));
                call.is_ok_and(|call| call.starts_with(&format!("{} 0x2 ", libc::SYS_write)))
            };
            server.sessions().iter().any(waits).then_some(())
        });
        client.stream().shutdown(Shutdown::Both).expect("shut down");
        // It will never see that.
        server.sessions().iter().for_each(kill);
    });
}

fn kill(process: &Process) {
    let pid = nix::unistd::Pid::from_raw(process.pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill");
}

// What does not fit the queue is counted, and the story goes on when somebody reads again.
#[test]
fn lost_lines_are_counted() {
    const NOOPS: usize = 20_000;
    let server = Server::new(&format!("./fifo {OURS} ./program"));
    server.folder.script("fifo", "#!/bin/sh\nexec \"$@\" 2>log.fifo\n");
    server.folder.script("program", MX);
    let path = server.folder.path("log.fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o666)).expect("mkfifo");
    let fifo = OpenOptions::new().read(true).write(true).open(&path).expect("open the FIFO");
    let server = server.start();
    let mut client = server.connect();
    client.reply();
    for _ in 0..NOOPS / 100 {
        client.send("NOOP\r\n".repeat(100));
        (0..100).for_each(|_| drop(client.reply()));
    }
    let mut lines = BufReader::new(fifo).lines().map(|line| line.expect("a line of ASCII"));
    let (mut seen, mut lost) = (0, 0);
    // Half of a FIFO is still full when the first line is lost; more is said until the count comes.
    while lost == 0 {
        let line = lines.next().expect("a line");
        match line.split_once("[LOST ") {
            Some((_, count)) => lost = count.trim_end_matches(']').parse().expect("a number"),
            None => seen += usize::from(!line.contains("- [")),
        }
        if seen % 1000 == 0 {
            client.expect("RSET", "250");
        }
    }
    assert!(lost > 0 && seen + lost > 2 * NOOPS, "{seen} {lost}");
    quit(client);
    assert!(lines.by_ref().any(|line| line.contains("> 221 bye")));
}

/// Twelve exchanges, and what must not be seen of them.
const EXCHANGES: [(&str, &[&str]); 12] = [
    ("AUTH PLAIN AHRlc3QAc2VjcmV0", &["535"]),
    ("AUTH PLAIN\r\nAHRlc3QAc2VjcmV0", &["334", "535"]),
    ("auth\tplain  AHRlc3QAc2VjcmV0", &["535"]),
    ("AuTh LoGiN\r\ndGVzdA==\r\nc2VjcmV0", &["334", "334", "535"]),
    ("AUTH LOGIN dGVzdA==\r\nc2VjcmV0", &["334", "535"]),
    ("AUTH CRAM-MD5\r\ndGVzdCBkZWFkYmVlZg==", &["334", "535"]),
    ("AUTH LOGIN\r\n*", &["334", "501"]),
    ("AUTH PLAIN\r\n*", &["334", "501"]),
    ("AUTH XOAUTH2 c2VjcmV0", &["535"]),
    ("AUTH SCRAM-SHA-256 c2VjcmV0", &["535"]),
    ("AUTH c2VjcmV0\r\nc2VjcmV0", &["334", "535"]),
    ("c2VjcmV0", &["250"]),
];
const SECRETS: [&str; 6] =
    ["c2VjcmV0", "AHRlc3QA", "dGVzdA==", "dGVzdCBkZWFk", "Y2hhbGxlbmdl", "VjcmV0"];

fn log_of_exchanges(recorder: &str, pipelined: bool) -> String {
    let server = recorded(recorder, MX).start();
    let mut client = server.connect();
    client.reply();
    for (lines, codes) in EXCHANGES {
        if pipelined {
            client.send_singly(format!("{lines}\r\n"));
        }
        let mut lines = lines.split("\r\n");
        for code in codes {
            let line = lines.next().expect("a line");
            if !pipelined {
                client.send(format!("{line}\r\n"));
            }
            assert!(client.reply().starts_with(code));
        }
    }
    quit(client);
    whole_log(&server)
}

// No AUTH octet of twelve exchanges is in the log, lockstep or pipelined byte by byte.
#[test]
fn no_secret_is_in_the_log() {
    let seen = |log: &str| SECRETS.into_iter().filter(|secret| log.contains(secret)).count();
    for options in ["", " -B", " -c -B", " -u"] {
        for pipelined in [false, true] {
            let log = log_of_exchanges(&format!("{OURS}{options}"), pipelined);
            assert!(log.contains("< AUTH PLAIN [redacted 16"), "{log}");
            assert!(log.contains("> 221 bye"), "{log}");
            assert_eq!(seen(&log), 0, "{log}");
        }
    }
    assert_eq!(seen(&log_of_exchanges(THEIRS, false)), SECRETS.len());
}

/// Lines that paint terminals, and bytes that some of them take for control sequences.
const PAINT: &[u8] = b"NOOP \x1b[2J\x1b]0;title\x07\x9b31m\x00\x7f\xc2\x9b\xff\t\x08\r\n";

fn log_of_paint(recorder: &str) -> Vec<u8> {
    let server = recorded(recorder, MX).start();
    let mut client = server.connect();
    client.reply();
    client.send(PAINT);
    client.reply();
    client.expect("DATA", "354");
    client.send([PAINT, b"[EOF]\r\n.\r\n"].concat());
    client.reply();
    quit(client);
    server.idle();
    fs::read(server.folder.path("log")).expect("read the log")
}

// No byte below 0x20 (LF apart) and none of 0x7f to 0xff is in the output; markers cannot be forged.
#[test]
fn no_control_byte_is_in_the_log() {
    for options in ["", " -b", " -B", " -c", " -c -B"] {
        let log = log_of_paint(&format!("{OURS}{options}"));
        let plain = |byte: &u8| {
            // recordio's grammar has the CR at the end of lines.
            matches!(byte, b' '..=b'~' | b'\n') || *byte == b'\r' && options.contains("-c")
        };
        assert!(log.iter().all(plain), "{}", log.escape_ascii());
    }
    let log = String::from_utf8(log_of_paint(&format!("{OURS} -B"))).expect("ASCII");
    assert!(log.contains("< \\x5bEOF]\\r ") && !log.contains("< [EOF]"), "{log}");
    assert!(log_of_paint(THEIRS).windows(2).any(|pair| pair == b"\x1b["));
}

/// Sessions without secrets and oddities; each `C:` line goes out at once.
const PLAIN_SESSIONS: [&str; 3] = [
    "S: 220 mx
     C: EHLO client.test
     S: 250-mx
     S: 250-AUTH PLAIN LOGIN CRAM-MD5
     S: 250 CHUNKING
     C: MAIL FROM:<a@b.test> SIZE=100
     S: 250 ok
     C: RCPT TO:<c@d.test>
     S: 250 ok
     C: DATA
     S: 354 go
     C: Subject: one \\ two
     C: To: you
     C: .
     S: 250 queued
     C: RSET
     S: 250 ok
     C: QUIT
     S: 221 bye",
    "S: 220 mx
     C: HELO x
     S: 250 ok
     C: VRFY postmaster
     S: 250 ok
     C: HELP
     S: 250 ok
     C: EXPN list
     S: 250 ok
     C: QUIT
     S: 221 bye",
    "S: 220 mx
     C: EHLO x
     S: 250-mx
     S: 250-AUTH PLAIN LOGIN CRAM-MD5
     S: 250 CHUNKING
     C: BDAT 7 LAST
     C: ab: c
     S: 250 ok
     C: QUIT
     S: 221 bye",
];

fn log_of_plain_sessions(recorder: &str) -> Vec<String> {
    let server = recorded(recorder, MX).start();
    let logs = PLAIN_SESSIONS.iter().map(|session| {
        let before = server.log().len();
        let mut client = server.connect();
        client.play(session);
        client.closed();
        drop(client);
        let log = whole_log(&server)[before..].to_owned();
        let pid = log.split(' ').next().expect("a pid").to_owned();
        assert!(pid.parse::<u32>().is_ok(), "{log}");
        assert!(log.lines().all(|line| line.starts_with(&format!("{pid} "))), "{log}");
        log.replace(&format!("{pid} "), "PID ")
    });
    logs.collect()
}

// `-c` is recordio's own grammar: the same bytes on plain sessions in lockstep.
#[test]
fn recordios_grammar_is_recordios() {
    let ours = log_of_plain_sessions(&format!("{OURS} -c -B"));
    let theirs = log_of_plain_sessions(THEIRS);
    assert_eq!(ours, theirs);
}

// What Debian's recordio makes of sessions in which ours has one line for a command, the mail's size, and the facts of the handshake.
#[test]
fn what_recordio_makes_of_the_same_sessions() {
    let server = recorded(THEIRS, MX).start();
    let mut client = server.connect();
    client.reply();
    for part in ["NO", "OP forged", "\n[EOF]\r\n"] {
        client.send(part);
        let seen = part.trim_matches(['\n', '\r']);
        server.logged(&format!("< {seen}"));
    }
    client.reply();
    client.reply();
    quit(client);
    let log = whole_log(&server);
    assert!(log.contains("< NO+\n") && log.contains("< OP forged+\n"), "{log}");
    assert!(log.contains("< [EOF]\r \n"), "{log}");
    assert!(log_of_plain_sessions(THEIRS)[0].contains("Subject: one"));

    let server = Server::new("recordio starttls-wrap setuidgid nobody smtpd").start();
    let mut client = server.connect();
    client.reply();
    client.starttls();
    client.expect("QUIT", "221");
    drop(client);
    server.idle();
    let log = fs::read(server.folder.path("log")).expect("read the log");
    assert!(log.iter().filter(|byte| **byte > 0x7f).count() > 100);
}

/// Says something, ends its own direction, and goes on listening.
const HALF_CLOSES: &str = r#"#!/usr/bin/python3 -I
import os, socket
os.write(1, b'220 no more from here\r\n')
socket.socket(fileno=os.dup(1)).shutdown(socket.SHUT_WR)
with open('heard', 'wb') as heard:
    heard.write(os.read(0, 100))
os.rename('heard', 'heard.all')
"#;

// Half-closes pass in both directions, and an end is not a reset.
#[test]
fn half_closes_pass_and_resets_are_told_from_ends() {
    let server = recorded(OURS, MX).start();
    let mut client = server.connect();
    client.reply();
    client.send("NOOP\r\n");
    client.half_close();
    assert_eq!(client.rest(), b"250 ok\r\n");
    assert_eq!(client.end(), Some(End::Clean));
    let log = whole_log(&server);
    assert!(log.contains("< [EOF]") && log.contains("> [EOF]") && !log.contains("RST"), "{log}");

    let server = recorded(OURS, HALF_CLOSES).start();
    let mut client = server.connect();
    client.reply();
    client.closed();
    client.send("NOOP heard\r\n");
    until("what the program heard", || server.folder.path("heard.all").exists().then_some(()));
    let heard = fs::read(server.folder.path("heard.all")).expect("read it");
    assert_eq!(heard, b"NOOP heard\r\n");

    for (recorder, marker) in [(OURS, "< [RST]"), (THEIRS, "< [EOF]")] {
        let server = recorded(recorder, MX).start();
        let mut client = server.connect();
        client.reply();
        client.reset();
        let log = whole_log(&server);
        assert!(log.contains(marker), "{log}");
    }
}

// The program keeps recordio's pid, its exit code is the chain's, and the log names it.
#[test]
fn pid_and_exit_code_are_the_programs() {
    for script in ["exit 7", "kill -9 $$"] {
        let mut child = Command::new(programs::folder().join(OURS))
            .args(["sh", "-c", &format!("echo 220 $$; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the recorder");
        let pid = child.id();
        let mut said = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("read");
        assert_eq!(said, format!("220 {pid}\n"));
        let mut log = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut log).expect("read");
        assert!(log.contains(&format!("recordio-tls: {pid}: ")), "{log}");
        let status = child.wait().expect("wait");
        match script {
            "exit 7" => assert_eq!(status.code(), Some(7)),
            _ => assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9)),
        }
    }
}

/// Most memory that the recorder of the only session has ever had, in kB.
fn peak(server: &Server) -> u64 {
    let recorder = server.sessions().into_iter().find(|process| process.name == OURS);
    let text = recorder.expect("a recorder").status("VmHWM").expect("its memory");
    text.trim_end_matches(" kB").parse().expect("a number")
}

// Memory stays flat on 1 GB without a line feed, in a command, in a body, or in nobody knows what.
#[test]
fn memory_stays_flat_without_a_line_feed() {
    /// A relay's buffers, the log's queue, and what a process is anyway.
    const FLAT: u64 = 12_000;
    const SINK: &str = "#!/bin/sh\nprintf '220 mx\\r\\n354 go\\r\\n'\nexec cat >/dev/null\n";
    let block = vec![b'x'; 1_000_000];
    for (options, first) in
        [("", "NOOP "), ("-B", "DATA\r\n"), ("-b", "DATA\r\nx: "), ("-p pop3", "")]
    {
        let server = recorded(&format!("{OURS} {options}"), SINK).start();
        let mut client = server.connect();
        client.reply();
        client.send(first);
        let mut stream = client.stream();
        (0..1_000).for_each(|_| stream.write_all(&block).expect("send"));
        let peak = peak(&server);
        assert!(peak < FLAT, "{options} {first}: {peak} kB");
        File::create(server.folder.path("log")).expect("empty the log");
        drop(client);
        server.idle();
    }
}
