//! What a taken-over net or key could do: code in them is played by ptrace.
#![cfg(target_arch = "x86_64")]

use std::fs;

use chain_tests::folder::ORDINARY;
use chain_tests::inject::{Captive, Outcome};
use chain_tests::programs::needs_root;
use chain_tests::session::number;
use chain_tests::{CHAIN, Client, Process, Server, Session, until};
use nix::sys::signal::Signal;

/// What DESIGN 2 promises, and what else a shell would need.
const FORBIDDEN: [(&str, i64); 10] = [
    ("open", libc::SYS_open),
    ("openat", libc::SYS_openat),
    ("socket", libc::SYS_socket),
    ("connect", libc::SYS_connect),
    ("execve", libc::SYS_execve),
    ("ptrace", libc::SYS_ptrace),
    ("clone", libc::SYS_clone),
    ("kill", libc::SYS_kill),
    ("prctl", libc::SYS_prctl),
    ("setuid", libc::SYS_setuid),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Clear,
    Handshake,
    Inside,
}

fn reach(phase: Phase, client: &mut Client) {
    client.reply();
    client.expect("EHLO client.test", "250");
    match phase {
        Phase::Clear => {}
        Phase::Handshake => drop(client.expect("STARTTLS", "220")),
        Phase::Inside => {
            client.starttls();
            client.expect("EHLO client.test", "250");
        }
    }
}

fn try_all(phase: Phase, who: fn(&Session) -> &Process, line: &str) {
    let server = Server::new(CHAIN).start();
    for (count, (name, call)) in (1..).zip(FORBIDDEN) {
        let mut client = server.connect();
        reach(phase, &mut client);
        let now = Session::of(&server);
        let outcome = Captive::take(who(&now).pid).call(call, [0; 3]);
        assert_eq!(outcome, Outcome::Killed(Signal::SIGSYS), "{phase:?} {name}");
        if phase == Phase::Handshake && who(&now) == now.key() {
            assert!(client.try_handshake().is_err());
        }
        client.rest();
        drop(client);
        // No process of the session is left: the program has seen the end.
        server.idle();
        let lines = || server.log().lines().filter(|logged| logged.contains(line)).count();
        until("a log line for each", || (lines() >= count).then_some(()));
        assert_eq!(lines(), count, "{}", server.log());
    }
}

// "a net that tries open, socket, exec or ptrace after the handshake is stopped".
#[test]
fn a_net_that_tries_more_than_it_may_is_stopped() {
    if !needs_root() {
        return;
    }
    for phase in [Phase::Clear, Phase::Handshake, Phase::Inside] {
        try_all(phase, |session| &session.net, "net killed signal=31");
    }
}

// DESIGN 2: key is "sandboxed before it parses the PEM".
#[test]
fn a_key_that_tries_more_than_it_may_is_stopped() {
    if needs_root() {
        try_all(Phase::Handshake, Session::key, "key killed signal=31");
    }
}

/// The messages of net, by hand.
mod message {
    pub const PREPARE: &[u8] = b"p";
    pub const RELEASE: &[u8] = b"r";

    pub fn certify() -> Vec<u8> {
        [&b"c\0\x07mx.test\0\x02"[..], &ECDSA].concat()
    }

    pub fn sign(text: &[u8]) -> Vec<u8> {
        [&b"s"[..], &ECDSA, &u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
    }

    pub fn transcript() -> Vec<u8> {
        [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat()
    }

    const ECDSA: [u8; 2] = [4, 3];
}

/// The first letters of what a taken-over net is answered; an empty question is not sent, `RELEASE` is not answered.
fn answers(server: &Server, questions: &[&[u8]]) -> String {
    let mut client = server.connect();
    client.reply();
    let net = Session::of(server).net;
    let channel = number(&net, "channel");
    let mut net = Captive::take(net.pid);
    let mut ask = |question: &&[u8]| {
        let sent = net.write(channel, question);
        assert_eq!(sent, Outcome::Returned(question.len().try_into().unwrap()));
        let answer = match *question {
            message::RELEASE => b".".to_vec(),
            _ => net.read(channel),
        };
        char::from(answer[0])
    };
    questions.iter().map(&mut ask).collect()
}

// DESIGN 2: "one signature a session", also for a net that asks for a new key process; "it gets no key".
#[test]
fn a_taken_over_net_gets_one_signature_of_a_transcript() {
    use message::{PREPARE, RELEASE, certify, sign, transcript};
    if !needs_root() {
        return;
    }
    let server = Server::new(CHAIN).start();
    let (certify, good, foreign) = (certify(), sign(&transcript()), sign(b"pay to the bearer"));
    for (questions, expected) in [
        (&[PREPARE, &certify, &good, &good, RELEASE, PREPARE, &certify, &good][..], "RCSN.UNN"),
        (&[PREPARE, &certify, RELEASE, PREPARE], "RC.U"),
        (&[PREPARE, &certify, &foreign, &good], "RCNN"),
        (&[PREPARE, &good, &certify, &good], "RNCS"),
        (&[&good, &certify, PREPARE], "NNR"),
        (&[PREPARE, PREPARE], "RN"),
    ] {
        assert_eq!(answers(&server, questions), expected, "{}", server.log());
        server.idle();
    }
    server.logged("tls key refused a second handshake");
    server.logged("tls key refused what is no transcript of a server");
}

// DESIGN 2: the monitor owns the names; what is no message of net's ends the talk with it.
#[test]
fn a_monitor_does_not_listen_on_after_what_is_no_message() {
    if !needs_root() {
        return;
    }
    let server = Server::new(CHAIN).start();
    for junk in [&b"?"[..], b"pp", b"t\x03\x04", b"c\xff\xff"] {
        let mut client = server.connect();
        client.reply();
        let net = Session::of(&server).net;
        let channel = number(&net, "channel");
        Captive::take(net.pid).write(channel, junk);
        until("a monitor that only reaps, without root", || {
            (Session::of(&server).monitor.uid() > 0).then_some(())
        });
        server.logged("net sent a malformed message");
        assert!(Session::of(&server).key.is_none());
        client.expect("QUIT", "221");
        client.closed();
        server.idle();
    }
}

/// The lines of /proc/PID/status that tell of privileges.
fn privileges(process: &Process) -> String {
    ["Seccomp", "NoNewPrivs", "CapEff", "CapPrm", "Groups"]
        .map(|field| format!("{field}={}", process.status(field).unwrap()))
        .join(" ")
}

const LOCKED_IN: &str = "Seccomp=2 NoNewPrivs=1 CapEff=0000000000000000 CapPrm=0000000000000000";

fn entries_of_root(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/root", process.pid)).unwrap().count()
}

// DESIGN 2: "own uid, empty root, seccomp + Landlock"; "no resource limit and no no_new_privs in the monitor"; uids by variable or own.
#[test]
fn each_process_has_a_uid_of_its_own_and_no_privileges() {
    if !needs_root() {
        return;
    }
    let own = |process: &Process| (2_100_000_000..2_104_194_304).contains(&process.uid());
    let plain = |process: &Process| {
        let status = |field| process.status(field).unwrap();
        (status("NoNewPrivs"), status("Seccomp")) == ("0".to_owned(), "0".to_owned())
    };
    let server = Server::new(CHAIN).start();
    let mut client = server.connect();
    client.reply();
    let clear = Session::of(&server);
    assert_eq!(clear.monitor.uid(), 0);
    client.expect("STARTTLS", "220");
    let key = Session::of(&server).key().clone();
    for process in [&clear.net, &key] {
        assert!(own(process), "{}", process.uid());
        assert_eq!(privileges(process), format!("{LOCKED_IN} Groups="));
        assert_eq!(entries_of_root(process), 0);
        assert_eq!(process.owner(), Some(0), "dumpable");
    }
    assert_ne!(clear.net.uid(), key.uid());
    client.handshake();
    client.expect("EHLO client.test", "250");
    let inside = Session::of(&server);
    until("a monitor without root", || own(&inside.monitor).then_some(()));
    assert_ne!(inside.monitor.uid(), inside.net.uid());
    assert_eq!(inside.monitor.status("CapPrm").unwrap(), "0000000000000000");
    assert_eq!(inside.monitor.owner(), Some(0), "dumpable");
    assert!(plain(&inside.monitor) && plain(inside.program()));
    assert_eq!(inside.program().uid(), ORDINARY);

    let server = Server::new(CHAIN)
        .env("TLS_UID", "1001")
        .env("TLS_GID", "1002")
        .env("KEY_UID", "1003")
        .env("KEY_GID", "1004")
        .start();
    let mut client = server.connect();
    client.reply();
    client.expect("STARTTLS", "220");
    let now = Session::of(&server);
    let ids = |process: &Process| (process.uid(), process.status("Gid").unwrap());
    assert_eq!(ids(&now.net), (1001, "1002\t1002\t1002\t1002".to_owned()));
    assert_eq!(ids(now.key()), (1003, "1004\t1004\t1004\t1004".to_owned()));
    client.handshake();
    client.expect("EHLO client.test", "250");
    let environment = Session::of(&server).program().environment();
    assert!(!environment.keys().any(|name| name.ends_with("_UID") || name.ends_with("_GID")));
}

// DESIGN 2: "Started by an ordinary user: the same processes under one uid, still with seccomp and Landlock".
#[test]
fn an_ordinary_user_has_the_same_processes_locked_in() {
    if !needs_root() {
        return;
    }
    let server = Server::new(CHAIN).ordinary().start();
    let mut client = server.connect();
    client.reply();
    client.expect("STARTTLS", "220");
    let now = Session::of(&server);
    for process in [&now.net, now.key()] {
        assert!(privileges(process).starts_with(LOCKED_IN), "{}", privileges(process));
        assert_eq!(process.uid(), now.monitor.uid());
    }
    client.handshake();
    client.expect("EHLO client.test", "250");
    let reply = client.deliver("Subject: ordinary\r\n\r\nhello\r\n");
    assert!(reply.starts_with("250"), "{}", client.transcript());
    let program = Session::of(&server).program().clone();
    assert_eq!(program.status("NoNewPrivs").unwrap(), "0");
    assert_eq!(server.mails().len(), 1);
    let outcome = Captive::take(now.net.pid).call(libc::SYS_openat, [0; 3]);
    assert_eq!(outcome, Outcome::Killed(Signal::SIGSYS));
    server.logged("net killed signal=31");
}
