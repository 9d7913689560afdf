//! The recorder's place in a chain: what it holds, who it is, what it may do, and when it is not there.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use chain_tests::programs::needs_root;
use chain_tests::session::holds;
use chain_tests::{Process, Server, programs, until};

const RECORDER: &str = "recordio-tls";

/// The recorder of the only session, and the program behind it.
fn session(server: &Server) -> (Process, Process) {
    until("a recorder and its program", || {
        let all = server.sessions();
        let recorder = all.iter().find(|process| process.name == RECORDER)?.clone();
        // It is locked in before it relays the first byte.
        recorder.status("Seccomp").filter(|mode| mode == "2")?;
        let program = all.into_iter().find(|process| process.pid == recorder.parent)?;
        (program.name != RECORDER).then_some((recorder, program))
    })
}

// DESIGN 2: relay child: 0, 1 the client's side, 2 the log, the program's side, nothing else; the parent becomes the program.
#[test]
fn the_recorder_is_the_programs_child_and_holds_two_sockets() {
    // /proc shows what a locked-in process holds to root only.
    if !needs_root() {
        return;
    }
    for ordinary in [false, true] {
        let server = Server::new("recordio-tls setuidgid nobody smtpd");
        let server = if ordinary { server.ordinary() } else { server }.start();
        let mut client = server.connect();
        client.reply();
        let (recorder, program) = session(&server);
        assert_eq!(program.name, "smtpd");
        assert_eq!(program.parent, server.process().pid);
        assert_eq!(holds(&recorder), "0 client, 1 client, 2 log, program");
        // Behind these may stand what the server's own parent left open.
        assert!(holds(&program).starts_with("0 program, 1 program, 2 log"), "{}", holds(&program));
        assert_eq!(recorder.status("NoNewPrivs").as_deref(), Some("1"));
        assert_eq!(program.status("NoNewPrivs").as_deref(), Some("0"));
        assert_eq!(recorder.owner(), Some(0), "it is not dumpable");
        assert_ne!(recorder.uid(), 0);
        assert_eq!(recorder.uid() == program.uid(), ordinary);
        client.expect("QUIT", "221");
    }
}

// DESIGN 2: RECORDIO_UID, numeric, removed before exec; unset and root: a uid of its own for each process.
#[test]
fn the_recorders_uid() {
    if !needs_root() {
        return;
    }
    let chain = "recordio-tls setuidgid nobody smtpd";
    let given = Server::new(chain).env("RECORDIO_UID", "4711").env("RECORDIO_GID", "4712").start();
    let mut client = given.connect();
    client.reply();
    let (recorder, program) = session(&given);
    assert_eq!(recorder.uid(), 4711);
    assert_eq!(recorder.status("Gid").as_deref(), Some("4712\t4712\t4712\t4712"));
    assert!(!program.environment().keys().any(|name| name.starts_with("RECORDIO_")));

    let own = Server::new(chain).start();
    let mut clients = [own.connect(), own.connect()];
    clients.iter_mut().for_each(|client| drop(client.reply()));
    let uids: BTreeMap<_, _> = until("two recorders of their own", || {
        let recorders = own.sessions().into_iter().filter(|process| process.name == RECORDER);
        let uids: BTreeMap<_, _> = recorders
            .filter(|process| process.alive())
            .map(|process| (process.uid(), ()))
            .collect();
        (uids.len() == 2 && !uids.contains_key(&0)).then_some(uids)
    });
    assert!(uids.keys().all(|uid| *uid > 2_000_000_000), "{uids:?}");

    for (name, value) in [("RECORDIO_UID", "0"), ("RECORDIO_UID", "nobody"), ("RECORDIO_GID", "7")]
    {
        let (code, log) = started(&[(name, value)], &["true"]);
        assert_eq!(code, Some(100), "{log}");
        assert!(log.contains("RECORDIO_"), "{log}");
    }
}

#[cfg(target_arch = "x86_64")]
// DESIGN 2: the relay's child is locked in; what it may not do ends it, and the program sees the end.
#[test]
fn a_taken_over_recorder_is_stopped() {
    use chain_tests::inject::{Captive, Outcome};
    use nix::sys::signal::Signal;

    if !needs_root() {
        return;
    }
    let server = Server::new("recordio-tls setuidgid nobody smtpd").start();
    for (name, call) in [
        ("openat", libc::SYS_openat),
        ("socket", libc::SYS_socket),
        ("execve", libc::SYS_execve),
        ("ptrace", libc::SYS_ptrace),
        ("kill", libc::SYS_kill),
        ("clone", libc::SYS_clone),
    ] {
        let mut client = server.connect();
        client.reply();
        let (recorder, _) = session(&server);
        let outcome = Captive::take(recorder.pid).call(call, [0; 3]);
        assert_eq!(outcome, Outcome::Killed(Signal::SIGSYS), "{name}");
        client.rest();
        drop(client);
        server.idle();
    }
}

/// Starts the recorder with these variables and arguments, nothing on descriptor 0; its exit code, and what it logged.
fn started(environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(programs::folder().join(RECORDER))
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("start the recorder");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

// DESIGN 3: 100 wrong usage, 111 temporary system failure; one line that says what.
#[test]
fn wrong_usage_and_missing_programs() {
    for (arguments, code, says) in [
        (
            &[][..],
            100,
            "usage: recordio-tls [-bBceiStuw] [-f descriptor] [-p smtp|pop3|imap] program ...",
        ),
        (&["-x", "true"], 100, "usage: "),
        (&["-p"], 100, "usage: "),
        (&["-p", "http", "true"], 100, "-p takes smtp, pop3 or imap"),
        (&["/nonexistent"], 111, "unable to run /nonexistent: No such file or directory"),
    ] {
        let (exit, log) = started(&[], arguments);
        assert_eq!(exit, Some(code), "{arguments:?} {log}");
        let told = log.lines().filter(|line| line.contains("fatal")).collect::<Vec<_>>();
        assert!(told.len() == 1 && told[0].contains(says), "{log}");
    }
    // What follows the program's name is the program's.
    let (exit, _) = started(&[], &["sh", "-c", "exit 3", "-x"]);
    assert_eq!(exit, Some(3));
}

// DESIGN 5: RECORDIO=0 (from tcprules) switches it off for a client: exec, zero cost.
#[test]
fn recordio_0_leaves_nothing_behind() {
    // /proc shows what a locked-in process holds to root only.
    if !needs_root() {
        return;
    }
    for (value, on) in [("0", false), ("00", false), ("", true), ("1", true)] {
        let server =
            Server::new("recordio-tls setuidgid nobody smtpd").env("RECORDIO", value).start();
        let mut client = server.connect();
        client.reply();
        if on {
            session(&server);
        } else {
            let all = server.sessions();
            assert_eq!(all.len(), 1, "{all:?}");
            assert!(holds(&all[0]).starts_with("0 client, 1 client, 2 log"));
        }
        client.expect("QUIT", "221");
        client.closed();
        drop(client);
        server.idle();
        assert_eq!(server.log().contains("recordio-tls: "), on, "{}", server.log());
    }
}

// `-e` keeps the story, and tells it only if the session ends badly.
#[test]
fn only_bad_ends_are_told() {
    let server = Server::new("recordio-tls -e setuidgid nobody smtpd").start();
    let told = || {
        server.idle();
        let lines = server.log();
        fs::write(server.folder.path("log"), "").expect("empty the log");
        lines.lines().filter(|line| line.starts_with("recordio-tls: ")).count()
    };
    let mut client = server.connect();
    client.play("S: 220 *\nC: EHLO x\nS: 250-*\nS: 250-*\nS: 250-*\nS: 250-*\nS: 250-*\nS: 250-*\nS: 250 *\nC: QUIT\nS: 221 *\n");
    client.closed();
    drop(client);
    assert_eq!(told(), 0);

    let mut client = server.connect();
    client.play("S: 220 *\nC: BOGUS\nS: 500 *\nC: QUIT\nS: 221 *\n");
    client.closed();
    drop(client);
    assert_eq!(told(), 8, "start, 220, BOGUS, 500, QUIT, 221, EOF, end");

    let mut client = server.connect();
    client.reply();
    client.reset();
    assert!(told() > 0);
}

// DESIGN 3: if 2 is the client's own socket, nothing is written there; CONNID and the peer come from the socket where nobody set them.
#[test]
fn under_systemd_nothing_reaches_the_client() {
    if !programs::debian("systemd-socket-activate", "systemd") {
        return;
    }
    let server = Server::new("recordio-tls ./environment").systemd();
    server.folder.script(
        "environment",
        "#!/bin/sh\necho \"220 $TCPREMOTEIP $PROTO\"\necho \"250 $CONNID\"\n",
    );
    let server = server.start();
    let client = &mut server.connect();
    let heard = String::from_utf8(client.rest()).expect("ASCII");
    let mut lines = heard.lines();
    assert_eq!(lines.next(), Some("220 127.0.0.1 TCP"));
    let id = lines.next().and_then(|line| line.strip_prefix("250 ")).expect("a CONNID");
    assert!(id.split_once('.').is_some_and(|(time, _)| u64::from_str_radix(time, 16).is_ok()));
    assert_eq!(lines.next(), None);
}
