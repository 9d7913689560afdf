//! What comes behind STARTTLS and is not TLS: CVE-2011-0411, and what reopened it elsewhere (CVE-2022-28220: decide by state, not by
//! whether a buffer happens to be empty).

use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use chain_tests::{CHAIN, Client, Server};

const INJECTED: &str = "NOOP INJECTED\r\n";

fn scripted() -> Server {
    Server::new("starttls-wrap setuidgid nobody ./scripted").scripted().start()
}

/// A client that has seen the greeting and the reply to EHLO.
fn greeted(server: &Server) -> Client {
    let mut client = server.connect();
    client.play("S: 220 scripted\nC: EHLO client.test\nS: 250-scripted\nS: 250-STARTTLS");
    client.play("S: 250-PIPELINING\nS: 250 ");
    client
}

/// Requires that after STARTTLS came one refusal or one 220, then at most alerts of TLS, then the end.
fn refused(client: &mut Client) {
    let rest = client.rest();
    let at = rest.windows(2).position(|pair| pair == b"\r\n").expect("a reply to STARTTLS");
    let (reply, behind) = rest.split_at(at + 2);
    let shown = rest.escape_ascii();
    match &reply[..4] {
        b"503 " => assert_eq!(behind, b"", "{shown}"),
        // RFC 8446 5.1: 21 is the content type of an alert.
        b"220 " => assert!(behind.is_empty() || behind[0] == 21 && behind.len() == 7, "{shown}"),
        _ => panic!("{shown}"),
    }
}

/// Requires that nothing of what was injected came to the program, before TLS or after it.
fn nothing_ran(server: &Server) {
    server.idle();
    let log = server.log();
    assert!(log.contains("saw <EHLO client.test>"), "{log}");
    assert!(!log.contains("INJECTED") && !log.contains("tls=TLS"), "{log}");
}

// CVE-2011-0411; DESIGN 5: bytes that follow STARTTLS before our 220 are refused (503 5.5.1, closed).
#[test]
fn nothing_behind_starttls_in_its_segment_is_run_or_answered() {
    let server = scripted();
    let (_, hello) = server.connect().hello();
    let behind: [&[u8]; 12] = [
        INJECTED.as_bytes(),
        b"NOOP INJECTED\n",
        b"NOOP INJ",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"STARTTLS\r\n",
        b"EHLO INJECTED\r\nMAIL FROM:<INJECTED@client.test>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\n",
        &[b"NOOP INJECTED\r\n".as_slice(), &hello].concat(),
        &[hello.as_slice(), b"NOOP INJECTED\r\n"].concat(),
        // RFC 3207 4: the client begins the handshake only after the 220.
        &hello,
    ];
    for starttls in
        ["STARTTLS\r\n", "starttls \r\n", " STARTTLS\r\n", "NOOP before\r\nSTARTTLS\r\n"]
    {
        for behind in behind {
            let mut client = greeted(&server);
            client.send([starttls.as_bytes(), behind].concat());
            if starttls.starts_with("NOOP") {
                assert_eq!(client.line().as_deref(), Some("250 NOOP before"));
            }
            let reply = client.reply();
            assert!(reply.starts_with("503 5.5.1 "), "{}", client.transcript());
            client.closed();
        }
    }
    nothing_ran(&server);
    assert_eq!(server.log().matches("bytes behind STARTTLS refused").count(), 48);
}

#[test]
fn nothing_that_comes_a_little_later_is_run_or_answered() {
    let server = scripted();
    scope(|scope| {
        for delay in [0, 1, 50, 500] {
            for behind in
                [INJECTED, "NOOP INJECTED\n", "\r\nNOOP INJECTED\r\n", "EHLO INJECTED\r\n"]
            {
                let server = &server;
                scope.spawn(move || {
                    let mut client = greeted(server);
                    client.send("STARTTLS\r\n");
                    // The delay is the attack.
                    sleep(Duration::from_millis(delay));
                    // Where the refusal was quicker, nobody takes it.
                    client.try_send(behind);
                    refused(&mut client);
                });
            }
        }
    });
    nothing_ran(&server);
}

// The client's own handshake, behind what somebody in the middle put before it, must not succeed.
#[test]
fn a_handshake_behind_injected_bytes_fails() {
    let server = scripted();
    for injected in [INJECTED, "\r\n", "N"] {
        let mut client = greeted(&server);
        client.expect("STARTTLS", "220");
        let (tls, hello) = client.hello();
        client.try_send([injected.as_bytes(), &hello].concat());
        assert!(client.finish_handshake(tls).is_err(), "{injected:?}");
    }
    nothing_ran(&server);
    assert_eq!(server.log().matches("tls failed from=server").count(), 3, "{}", server.log());
}

#[test]
fn starttls_cut_in_the_middle_of_a_word_is_the_same_starttls() {
    let server = scripted();
    let whole = format!("STARTTLS\r\n{INJECTED}");
    for at in 1..whole.len() {
        let mut client = greeted(&server);
        client.send(&whole[..at]);
        // Two segments, read one after the other.
        sleep(Duration::from_millis(2));
        client.try_send(&whole[at..]);
        refused(&mut client);
    }
    nothing_ran(&server);
}

#[test]
fn a_partial_command_left_behind_is_not_completed() {
    let server = scripted();
    for (left, rest) in
        [("NOOP INJ", "ECTED\r\n"), ("NOOP INJECTED\r", "\n"), ("\r", "\nNOOP INJECTED\r\n")]
    {
        let mut client = greeted(&server);
        client.send(format!("STARTTLS\r\n{left}"));
        client.try_send(rest);
        refused(&mut client);
        let mut client = greeted(&server);
        client.expect("STARTTLS", "220");
        client.try_send(left);
        client.try_send(rest);
        let rest = client.rest();
        assert!(rest.first().is_none_or(|&byte| byte == 21), "{}", rest.escape_ascii());
    }
    nothing_ran(&server);
}

// RFC 5321 2.3.8: only CRLF ends a line. Readers could disagree on whether this was STARTTLS, and so on what is behind it.
#[test]
fn a_starttls_that_ends_otherwise_is_refused_and_nothing_behind_it_is_run_or_answered() {
    let server = scripted();
    for starttls in ["STARTTLS\n", "STARTTLS\r", "STARTTLS\n\r", "STARTTLS\0\r\n", "starttls \n"] {
        let mut client = greeted(&server);
        client.send(format!("{starttls}{INJECTED}"));
        let reply = client.reply();
        assert!(reply.starts_with("500 5.5.2 "), "{}", client.transcript());
        client.closed();
    }
    nothing_ran(&server);
}

// Predecessors: of tlswrapper's sessions with a quick ClientHello some were lost under load, since it read it as clear text.
#[test]
fn of_1000_sessions_under_full_load_none_is_lost() {
    let _load: Vec<Busy> = (0..4).map(|_| Busy::start()).collect();
    let server = Server::new(CHAIN).start();
    let done = AtomicUsize::new(0);
    scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while done.fetch_add(1, Ordering::Relaxed) < 1000 {
                    let mut client = server.connect();
                    client.reply();
                    // The ClientHello leaves as soon as the 220 is read.
                    client.starttls();
                    client.expect("EHLO client.test", "250");
                    client.expect("QUIT", "221");
                    client.closed();
                }
            });
        }
    });
    assert_eq!(server.log().matches("tls ok version=TLSv1.3").count(), 1000);
}

/// A process that does nothing, as fast as it can.
struct Busy(Child);

impl Busy {
    fn start() -> Busy {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"])
            .spawn();
        Busy(child.expect("sh"))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.kill().expect("end a busy process");
        self.0.wait().expect("wait for a busy process");
    }
}
