//! Ends: processes that are killed or told to end, at each step of a session.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use chain_tests::client::End;
use chain_tests::programs::needs_root;
use chain_tests::server::Builder;
use chain_tests::{CHAIN, Client, Process, Server, Session, session, until};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use rustls::ClientConnection;

/// Where a session stands; what comes after `Handshake` is inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The program has not greeted.
    Started,
    /// EHLO has been answered.
    Ehlo,
    /// STARTTLS has got its 220.
    Granted,
    /// The server has sent its part of the handshake.
    Handshake,
    Inside,
    /// Inside TLS, in the middle of a message.
    Body,
}

/// A client, with the handshake that it has begun.
struct Caller {
    client: Client,
    begun: Option<ClientConnection>,
}

impl Caller {
    fn at(phase: Phase, server: &Server) -> Caller {
        let mut caller = Caller { client: server.connect(), begun: None };
        let client = &mut caller.client;
        match phase {
            Phase::Started => return caller,
            Phase::Inside | Phase::Body => {
                client.reply();
                client.starttls();
                client.expect("EHLO client.test", "250");
            }
            Phase::Ehlo | Phase::Granted | Phase::Handshake => {
                client.reply();
                client.expect("EHLO client.test", "250");
            }
        }
        match phase {
            Phase::Granted => drop(client.expect("STARTTLS", "220")),
            Phase::Handshake => {
                client.expect("STARTTLS", "220");
                let (tls, hello) = client.hello();
                client.stream().write_all(&hello).unwrap();
                client.stream().peek(&mut [0]).unwrap();
                caller.begun = Some(tls);
            }
            Phase::Body => begin_message(client),
            _ => {}
        }
        caller
    }

    /// Goes on until the end, and gives the last words.
    fn rest(mut self, phase: Phase) -> String {
        let shaken = match (self.begun.take(), phase) {
            (Some(tls), _) => self.client.finish_handshake(tls),
            (None, Phase::Granted) => self.client.try_handshake(),
            _ => Ok(()),
        };
        match shaken {
            Err(_) => "no handshake".to_owned(),
            Ok(()) => String::from_utf8(self.client.rest()).unwrap(),
        }
    }
}

fn signal(process: &Process, signal: Signal) {
    kill(Pid::from_raw(process.pid), signal).unwrap();
}

fn begin_message(client: &mut Client) {
    client.expect("MAIL FROM:<sender@client.test>", "250");
    client.expect("RCPT TO:<postmaster@mx.test>", "250");
    client.expect("DATA", "354");
    client.send("Subject: half a message\r\n\r\nhello\r\n");
}

/// A named pipe in the server's folder at which a script waits.
struct Gate(PathBuf);

impl Gate {
    /// Makes `./gated`, which becomes the rest of its words once the gate is open.
    fn new(server: &Builder) -> Gate {
        let path = server.folder.path("gate");
        mkfifo(&path, Mode::from_bits_truncate(0o644)).unwrap();
        let script = format!("#!/bin/sh\nread -r open <{}\nexec \"$@\"\n", path.display());
        server.folder.script("gated", &script);
        Gate(path)
    }

    /// Waits until somebody waits at the gate.
    fn reached(&self) -> File {
        let mut options = File::options();
        let options = options.write(true).custom_flags(libc::O_NONBLOCK);
        // fifo(7): ENXIO where nobody reads.
        until("somebody at the gate", || options.open(&self.0).ok())
    }
}

fn open(mut gate: File) {
    gate.write_all(b"open\n").unwrap();
}

/// Kills one process of a session with SIGKILL, opens the gate for a program that waits there, and requires the client's last words, a log line, and that
/// nothing is left.
fn killed(
    server: &Server,
    phase: Phase,
    who: &str,
    (words, line): (&str, &str),
    gate: Option<&Gate>,
) {
    let logged_before = server.log().len();
    let caller = Caller::at(phase, server);
    let gate = gate.map(Gate::reached);
    let victim = until("the victim", || {
        let session = Session::of(server);
        match who {
            "monitor" => Some(session.monitor),
            "net" => Some(session.net),
            "key" => session.key,
            _ => session.programs.last().cloned(),
        }
    });
    signal(&victim, Signal::SIGKILL);
    if let Some(gate) = gate.filter(|_| who != "program") {
        open(gate);
    }
    let said = caller.rest(phase);
    assert!(
        said.starts_with(words) && said.is_empty() == words.is_empty(),
        "{phase:?} {who}: {said}"
    );
    server.idle();
    let line = || server.log()[logged_before..].contains(line).then_some(());
    until(&format!("{phase:?} {who} in the log:\n{}", server.log()), line);
}

// DESIGN 2, "Ends": net killed: the program sees EOF, the monitor logs the signal; program gone where a reply is due: 421 4.3.0.
#[test]
fn whoever_is_killed_nobody_is_left_and_the_next_session_is_served() {
    if !needs_root() {
        return;
    }
    // One slot: the next session shows that the last one has left it.
    let server = Server::new(CHAIN).slots(1).start();
    for (phase, who, words, line) in [
        (Phase::Ehlo, "monitor", "421 4.3.2 ", "terminated"),
        (Phase::Ehlo, "net", "", "net killed signal=9"),
        (Phase::Ehlo, "program", "", "program killed signal=9"),
        (Phase::Granted, "monitor", "421 4.3.", "the program is gone"),
        (Phase::Granted, "net", "no handshake", "net killed signal=9"),
        (Phase::Granted, "key", "no handshake", "key killed signal=9"),
        (Phase::Handshake, "monitor", "421 4.3.", "the program is gone"),
        (Phase::Handshake, "net", "", "net killed signal=9"),
        (Phase::Handshake, "key", "421 4.3.2", "key killed signal=9"),
        (Phase::Inside, "monitor", "421 4.3.2 ", "terminated"),
        (Phase::Inside, "net", "", "net killed signal=9"),
        (Phase::Inside, "program", "", "program killed signal=9"),
        (Phase::Body, "monitor", "421 4.3.2 ", "terminated"),
        (Phase::Body, "net", "", "net killed signal=9"),
        (Phase::Body, "program", "421 4.3.0 ", "program killed signal=9"),
    ] {
        killed(&server, phase, who, (words, line), None);
    }
    assert_eq!(server.mails().len(), 0);
    let mut client = server.connect();
    client.reply();
    client.starttls();
    client.expect("EHLO client.test", "250");
    assert!(client.deliver("Subject: still there\r\n\r\n").starts_with("250 "));
}

#[test]
fn whoever_is_killed_before_the_greeting_nobody_is_left() {
    if !needs_root() {
        return;
    }
    let server = Server::new("starttls-wrap ./gated setuidgid nobody smtpd").slots(1);
    let gate = Gate::new(&server);
    let server = server.start();
    for (who, words, line) in [
        ("program", "421 4.3.0 ", "program killed signal=9"),
        ("net", "", "net killed signal=9"),
        ("monitor", "220 ", "terminated"),
    ] {
        killed(&server, Phase::Started, who, (words, line), Some(&gate));
    }
}

// RFC 5321 3.8: 421 before a shutdown; DESIGN 2: "SIGTERM to the monitor is passed to net, which says 421 between replies and ends".
#[test]
fn sigterm_is_a_421_between_replies() {
    if !needs_root() {
        return;
    }
    let server = Server::new(CHAIN).slots(1).start();
    for phase in [Phase::Ehlo, Phase::Inside, Phase::Body] {
        let mut caller = Caller::at(phase, &server);
        signal(&Session::of(&server).monitor, Signal::SIGTERM);
        assert_eq!(caller.client.reply(), "421 4.3.2 shutting down", "{phase:?}");
        caller.client.closed();
        assert_eq!(caller.client.end(), Some(End::Clean), "{phase:?}");
        drop(caller);
        server.idle();
    }
    assert_eq!(server.mails().len(), 0);
}

// DESIGN 2, "Ends": where nothing can be said, SIGTERM is the end.
#[test]
fn sigterm_in_a_handshake_is_the_end() {
    if !needs_root() {
        return;
    }
    let server = Server::new(CHAIN).slots(1).start();
    let immediate = Server::new(CHAIN).slots(1).env("SSL", "1").start();
    for (server, phase) in
        [(&server, Phase::Granted), (&server, Phase::Handshake), (&immediate, Phase::Started)]
    {
        let caller = Caller::at(phase, server);
        signal(&locked_in(server).monitor, Signal::SIGTERM);
        caller.client.stream().read_to_end(&mut Vec::new()).ok();
        server.logged("tls failed from=server reason=terminated");
        // The client has not ended its side.
        server.idle();
    }
    assert_eq!(server.log().matches("tls failed ").count(), 2, "{}", server.log());
}

/// The session whose net has begun to wait for the client, and whose monitor waits for net.
fn locked_in(server: &Server) -> Session {
    until("a net that is locked in", || {
        let session = Session::of(server);
        let monitor = session::holds(&session.monitor).starts_with("0 /dev/null");
        (monitor && session.net.status("Seccomp")? == "2").then_some(session)
    })
}

// DESIGN 2: "a program is never killed (it may be inside qmail-queue)".
#[test]
fn sigterm_lets_a_queue_that_runs_finish() {
    if !needs_root() {
        return;
    }
    let server = Server::new(CHAIN);
    let gate = Gate::new(&server);
    let queue = "#!/bin/sh\nexec ./gated queue-maildir\n";
    let queue = server.folder.script("queue", queue);
    let server = server.env("QMAILQUEUE", &queue).start();
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO client.test", "250");
    begin_message(&mut client);
    client.send(".\r\n");
    let gate = gate.reached();
    let monitor = Session::of(&server).monitor;
    signal(&monitor, Signal::SIGTERM);
    // It gives up root when it has seen the end of its channel, and so has net.
    until("a monitor that only reaps", || (monitor.uid() > 0).then_some(()));
    open(gate);
    assert!(client.reply().starts_with("250 2.0.0 ok "), "{}", client.transcript());
    assert_eq!(client.reply(), "421 4.3.2 shutting down");
    client.closed();
    drop(client);
    server.idle();
    assert_eq!(server.mails().len(), 1);
}
