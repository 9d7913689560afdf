//! Where the key is and where it never is, and who holds what.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::Command;

use chain_tests::folder::{Key, NAME};
use chain_tests::programs::needs_root;
use chain_tests::session::{self, holds};
use chain_tests::{CHAIN, Client, Process, Server, Session, until};
use rustls::ClientConnection;

/// What a key file holds, in every form in which a process could have it.
#[derive(Debug)]
struct Secrets {
    /// The private numbers, as in files and as limbs of a little-endian machine.
    numbers: Vec<Vec<u8>>,
    /// The PEM text, line by line, and what it says in DER.
    texts: Vec<Vec<u8>>,
}

impl Secrets {
    fn of(server: &Server, file: &str) -> Secrets {
        let path = server.folder.path(file);
        let shown =
            output(Command::new("openssl").args(["pkey", "-noout", "-text", "-in"]).arg(&path));
        let shown = String::from_utf8(shown).unwrap();
        let mut numbers = Vec::new();
        for name in ["priv:", "privateExponent:", "prime1:", "prime2:"] {
            let Some((_, after)) = shown.split_once(name) else { continue };
            let digits: String =
                after.lines().skip(1).take_while(|line| line.starts_with(' ')).collect();
            let digits =
                digits.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| !word.is_empty());
            let bytes: Vec<u8> = digits
                .map(|pair| u8::from_str_radix(pair, 16).unwrap())
                .skip_while(|byte| *byte == 0)
                .collect();
            numbers.push(bytes.iter().rev().copied().collect());
            numbers.push(bytes);
        }
        assert!(!numbers.is_empty() && numbers.iter().all(|number| number.len() > 28), "{shown}");
        let pem = fs::read_to_string(&path).unwrap();
        let mut texts: Vec<Vec<u8>> = pem
            .lines()
            .filter(|line| line.len() > 30 && !line.starts_with('-'))
            .map(|line| line.as_bytes().to_vec())
            .collect();
        assert!(texts.len() > 1, "{pem}");
        texts.push(output(
            Command::new("openssl").args(["pkey", "-outform", "DER", "-in"]).arg(&path),
        ));
        Secrets { numbers, texts }
    }

    /// Which of them a process has in its memory.
    fn remembered(&self, process: &Process) -> BTreeSet<usize> {
        let all: Vec<&[u8]> = self.numbers.iter().chain(&self.texts).map(Vec::as_slice).collect();
        process.remembered(&all)
    }
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("openssl");
    assert!(output.status.success(), "{}", output.stderr.escape_ascii());
    output.stdout
}

/// Sends the ClientHello and waits until the server has answered, which takes its signature.
fn half_a_handshake(client: &mut Client) -> ClientConnection {
    let (tls, hello) = client.hello();
    client.stream().write_all(&hello).unwrap();
    client.stream().peek(&mut [0]).unwrap();
    tls
}

/// Requires that a monitor holds this: others may hear from what it has started before it has closed its own copies.
fn will_hold(monitor: &Process, expected: &str) {
    until(&format!("a monitor that holds {expected}"), || {
        (holds(monitor) == expected).then_some(())
    });
}

// DESIGN 2: what a taken-over net can do: it gets no key. "net's memory and open files never contain it".
#[test]
fn the_key_is_in_no_process_but_its_own() {
    if !needs_root() {
        return;
    }
    for kind in [Key::P256, Key::Rsa] {
        let server = Server::new(CHAIN);
        server.folder.certificate("cert", kind, &[NAME]);
        let server = server.start();
        let secrets = Secrets::of(&server, "cert.key");
        let nowhere_else = |phase: &str| {
            let now = Session::of(&server);
            for process in [&now.monitor, &now.net].into_iter().chain(&now.programs) {
                let found = secrets.remembered(process);
                assert!(found.is_empty(), "{kind:?} {phase}: {found:?} in {process:?}");
                let files = process.descriptors();
                assert!(!files.values().any(|file| file.contains("cert")), "{phase}: {files:?}");
            }
            now
        };
        let mut client = server.connect();
        client.reply();
        let clear = nowhere_else("in clear");
        assert!(clear.key.is_none());
        client.expect("STARTTLS", "220");
        // Nobody can look into a process that is just ending.
        let first = clear.program().pid;
        until("the end of the first program", || session::gone(first).then_some(()));
        let key = nowhere_else("before the handshake").key().clone();
        assert!(!secrets.remembered(&key).is_empty(), "the needles are wrong");
        let tls = half_a_handshake(&mut client);
        nowhere_else("inside the handshake");
        client.finish_handshake(tls).unwrap();
        client.expect("EHLO client.test", "250");
        assert!(nowhere_else("inside TLS").key.is_none());
        assert!(session::gone(key.pid));
    }
}

// DESIGN 2, "Who holds what", line by line.
#[test]
fn every_process_holds_what_the_table_says() {
    if !needs_root() {
        return;
    }
    let server = Server::new(CHAIN).start();
    let program = "0 program, 1 program, 2 log";
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO client.test", "250");
    let clear = Session::of(&server);
    will_hold(&clear.monitor, "0 /dev/null, 1 /dev/null, 2 log, channel, program");
    assert_eq!(holds(&clear.net), "0 client, 1 client, 2 log, channel, program, program");
    assert_eq!(holds(clear.program()), program);
    assert_eq!(clear.key, None);

    client.expect("STARTTLS", "220");
    let tls = half_a_handshake(&mut client);
    let shaking = Session::of(&server);
    will_hold(&shaking.monitor, "0 /dev/null, 1 /dev/null, 2 log, channel, program");
    assert_eq!(holds(&shaking.net), "0 client, 1 client, 2 log, channel, program");
    assert_eq!(holds(shaking.key()), "0 /dev/null, 1 /dev/null, 2 log, channel");
    let channel = session::number(shaking.key(), "channel");
    assert!(session::shares(shaking.key(), channel, &shaking.monitor));
    assert!(!session::shares(shaking.key(), channel, &shaking.net));
    until("the end of the first program", || session::gone(clear.program().pid).then_some(()));

    client.finish_handshake(tls).unwrap();
    client.expect("EHLO client.test", "250");
    let inside = Session::of(&server);
    will_hold(&inside.monitor, "0 /dev/null, 1 /dev/null, 2 log, channel");
    assert_eq!(holds(&inside.net), "0 client, 1 client, 2 log, channel, program");
    assert_eq!(holds(inside.program()), program);
    assert_ne!(inside.program().pid, clear.program().pid);
    assert_eq!((inside.monitor.pid, inside.net.pid), (clear.monitor.pid, clear.net.pid));
    assert_eq!(inside.key, None);
}

// The same table: with CERTDIR key has a channel of its own to the monitor, until it has been given the files of a name.
#[test]
fn with_certdir_key_can_ask_for_files_once() {
    if !needs_root() {
        return;
    }
    let server = Server::new(CHAIN);
    server.folder.issue("mx.test", Key::P256, "mx.test.crt", "mx.test.key");
    let certs = server.folder.text("certs");
    let server = server.env("CERTDIR", &certs).start();
    let mut client = server.connect();
    client.reply();
    client.expect("STARTTLS", "220");
    let before = Session::of(&server);
    assert_eq!(
        holds(&before.monitor),
        "0 /dev/null, 1 /dev/null, 2 log, channel, channel, program"
    );
    assert_eq!(holds(before.key()), "0 /dev/null, 1 /dev/null, 2 log, channel, channel");
    let tls = half_a_handshake(&mut client);
    assert_eq!(holds(before.key()), "0 /dev/null, 1 /dev/null, 2 log, channel");
    will_hold(&before.monitor, "0 /dev/null, 1 /dev/null, 2 log, channel, program");
    client.finish_handshake(tls).unwrap();
    client.expect("QUIT", "221");
}

// DESIGN 2: where there is only one program, nobody holds a second one's side; no key before the client's first byte.
#[test]
fn without_starttls_there_is_one_program() {
    if !needs_root() {
        return;
    }
    let server = Server::new(CHAIN).env("DENY_TLS", "1").start();
    let mut client = server.connect();
    client.reply();
    let now = Session::of(&server);
    will_hold(&now.monitor, "0 /dev/null, 1 /dev/null, 2 log, channel");
    assert_eq!(holds(&now.net), "0 client, 1 client, 2 log, channel, program");

    let server = Server::new(CHAIN).env("SSL", "1").start();
    let mut client = server.connect();
    let now = Session::of(&server);
    let before = || {
        let monitor = holds(&now.monitor);
        (monitor == "0 /dev/null, 1 /dev/null, 2 log, channel, program").then_some(())
    };
    until("a monitor that waits", before);
    until("a net that is locked in", || now.net.status("Seccomp").filter(|mode| mode == "2"));
    assert_eq!(holds(&now.net), "0 client, 1 client, 2 log, channel, program");
    assert_eq!((Session::of(&server).key, now.programs.len()), (None, 0));
    client.handshake();
    client.reply();
    let now = Session::of(&server);
    will_hold(&now.monitor, "0 /dev/null, 1 /dev/null, 2 log, channel");
    assert_eq!(holds(now.program()), "0 program, 1 program, 2 log");
}

// DESIGN 2: "every process closes the rest with close_range".
#[test]
fn what_somebody_in_front_left_open_reaches_nobody() {
    if !needs_root() {
        return;
    }
    let server = Server::new("./leak starttls-wrap setuidgid nobody smtpd");
    server.folder.script("leak", "#!/bin/sh\nexec 7</etc/passwd 9</etc/group \"$@\"\n");
    let server = server.start();
    let mut client = server.connect();
    client.reply();
    let now = Session::of(&server);
    will_hold(&now.monitor, "0 /dev/null, 1 /dev/null, 2 log, channel, program");
    assert_eq!(holds(&now.net), "0 client, 1 client, 2 log, channel, program, program");
    assert_eq!(holds(now.program()), "0 program, 1 program, 2 log");
}

// DESIGN 2: "-k keeps the one program".
#[test]
fn a_kept_program_is_the_same_inside_tls() {
    if !needs_root() {
        return;
    }
    let server = Server::new("starttls-wrap -k setuidgid nobody smtpd").start();
    let mut client = server.connect();
    client.reply();
    let clear = Session::of(&server);
    will_hold(&clear.monitor, "0 /dev/null, 1 /dev/null, 2 log, channel");
    assert_eq!(holds(&clear.net), "0 client, 1 client, 2 log, channel, program");
    client.starttls();
    client.expect("EHLO client.test", "250");
    let inside = Session::of(&server);
    assert_eq!(holds(&inside.net), "0 client, 1 client, 2 log, channel, program");
    assert_eq!(inside.program().pid, clear.program().pid);
}
