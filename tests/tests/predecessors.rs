//! What programs of the same kind do wrong, asked of ours: those rows of SECURITY.md's table that belong to no other file.

use std::fs;
use std::io::{Read, Write};

use chain_tests::programs::{self, debian};
use chain_tests::{CHAIN, Client, Server, Session, client::End, until};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

fn greeted(server: &Server, tls: bool) -> Client {
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO client.test", "250");
    if tls {
        client.starttls();
        client.expect("EHLO client.test", "250");
    }
    client
}

// tlswrapper-smtp compared only as many letters as were typed: an empty line or "Q" ended the session. RFC 5321 4.1.1: a verb is a word.
#[test]
fn neither_an_empty_line_nor_a_part_of_a_verb_is_a_command() {
    let verbs = ["HELO", "EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "EXPN"];
    let verbs = verbs.into_iter().chain(["HELP", "QUIT", "AUTH", "STARTTLS", "quit", "starttls"]);
    let server = Server::new(CHAIN).start();
    for tls in [false, true] {
        for verb in verbs.clone() {
            let mut client = greeted(&server, tls);
            for length in 0..verb.len() {
                client.expect(&verb[..length], "500 5.5.2");
            }
            client.expect(&format!("{verb}X"), "500 5.5.2");
            client.expect("NOOP", "250");
            client.expect("QUIT", "221");
            client.closed();
        }
    }
    server.idle();
    let verbs = server.log().matches("tls ok").count();
    assert_eq!(verbs, 16, "a part of STARTTLS began TLS: {}", server.log());
}

/// What a process waits for in poll(2), in milliseconds; none while it does something else.
#[cfg(target_arch = "x86_64")]
fn patience(pid: i32) -> Option<u64> {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let words: Vec<&str> = call.split_whitespace().collect();
    // proc(5): the number of the system call, then its arguments.
    let is_poll = words.first()?.parse() == Ok(nix::libc::SYS_poll);
    is_poll.then(|| u64::from_str_radix(words[3].trim_start_matches("0x"), 16).ok()).flatten()
}

// tlswrapper-smtp gave the client and the program 15 seconds each, so that a slow scanner meant the same mail again and again.
// RFC 5321 4.5.3.2.6: 10 minutes for the reply after the dot; 4.5.3.2.7: 5 minutes for the next command.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_scanner_may_take_its_time_and_so_may_a_client() {
    if !programs::needs_root() {
        return;
    }
    let server = Server::new(CHAIN);
    let scanner = "#!/bin/sh\ncat >/dev/null; echo scanning >&2; read -r x <hold; exec true\n";
    let scanner = server.folder.script("scanner", scanner);
    let hold = server.folder.path("hold");
    mkfifo(&hold, Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(&hold, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let server = server.env("QMAILQUEUE", &scanner).start();
    for (count, tls) in [(1, false), (2, true)] {
        let mut client = greeted(&server, tls);
        let net = Session::of(&server).net.pid;
        let smtpd = Session::of(&server).program().pid;
        for pid in [net, smtpd] {
            let idle = until("a process that waits for a command", || patience(pid));
            assert!(idle >= 290_000, "{idle} ms");
        }
        client.expect("MAIL FROM:<a@client.test>", "250");
        client.expect("RCPT TO:<postmaster@mx.test>", "250");
        client.expect("DATA", "354");
        client.send("slow\r\n.\r\n");
        until("a scanner", || (server.log().matches("scanning").count() == count).then_some(()));
        let scanning = until("net that waits for the scanner", || patience(net));
        assert!(scanning >= 600_000, "{scanning} ms");
        fs::write(&hold, "go\n").unwrap();
        assert!(client.reply().starts_with("250 "), "{}", client.transcript());
        client.expect("QUIT", "221");
        drop(client);
        server.idle();
    }
}

// stunnel's SMTP service waited for EHLO, answered it itself, and did not answer QUIT at all.
#[test]
fn quit_may_be_the_first_command() {
    let server = Server::new(CHAIN).start();
    server.connect().play("S: 220 mx.test ESMTP\nC: QUIT\nS: 221 *\n-- end");
    server.connect().play("C: QUIT\nS: 220 *\nS: 221 *\n-- end");
    server.connect().play("S: 220 *\nC: STARTTLS\nS: 220 *\n-- TLS\nC: QUIT\nS: 221 *\n-- end");
    let server = Server::new("starttls-wrap -i setuidgid nobody smtpd").start();
    server.connect().play("-- TLS\nC: QUIT\nS: 220 *\nS: 221 *\n-- end");
}

// s6-tlsd sent no close_notify; OpenSMTPD reset the connection after the 221, since the client's close_notify lay there unread.
// RFC 8446 6.1: "Each party MUST send a close_notify alert before closing its write side".
#[test]
fn a_session_inside_tls_ends_with_close_notify_and_without_a_reset() {
    let server = Server::new(CHAIN).start();
    for behind in ["", "NOOP\r\n", &"NOOP\r\n".repeat(3_000)] {
        let mut client = greeted(&server, true);
        // As many clients do: QUIT, and close_notify without waiting for the answer.
        client.send(format!("QUIT\r\n{behind}"));
        client.half_close();
        assert_eq!(client.rest(), b"221 2.0.0 mx.test\r\n", "{}", client.transcript());
        assert_eq!(client.end(), Some(End::Clean), "{}", client.transcript());
        // Nothing but the end, and no ECONNRESET.
        assert_eq!(client.stream().read(&mut [0; 1]).unwrap(), 0);
    }
    server.idle();
    assert!(!server.log().contains("client lost"), "{}", server.log());
}

// sslserver with OpenSSL 3: a client that closed TCP without close_notify left a process that took all of a processor for ever.
#[test]
fn a_client_that_closes_without_close_notify_leaves_nothing_that_spins() {
    let server = Server::new(CHAIN).start();
    let begin = |said: &str| {
        let mut client = greeted(&server, true);
        client.send(said);
        client
    };
    let transaction =
        "MAIL FROM:<a@client.test>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\nhalf a li";
    for said in ["", "NOO", "NOOP\r\n", transaction] {
        drop(begin(said));
        begin(said).reset();
        // FIN in the middle of a record.
        let client = begin(said);
        client.stream().write_all(&[23, 3, 3, 1, 0, 7]).unwrap();
        drop(client);
        // FIN alone, while the client still reads.
        let mut client = begin(said);
        client.stream().shutdown(std::net::Shutdown::Write).unwrap();
        client.rest();
    }
    server.idle();
    assert_eq!(server.mails().len(), 0);
    let mut client = greeted(&server, true);
    client.expect("QUIT", "221");
}

// Small writes that wait for the client's delayed acknowledgement cost 40 ms each: TCP_NODELAY, by whoever holds the client's socket.
#[test]
fn no_reply_waits_for_an_acknowledgement() {
    if !programs::needs_root() || !debian("strace", "strace") {
        return;
    }
    for chain in ["starttls-wrap setuidgid nobody smtpd", "smtpd"] {
        let traced = format!("strace -f -o trace -e trace=setsockopt {chain}");
        let server = Server::new(&traced).start();
        let mut client = server.connect();
        client.reply();
        client.expect("QUIT", "221");
        client.closed();
        server.idle();
        let trace = fs::read_to_string(server.folder.path("trace")).unwrap();
        let set = ", SOL_TCP, TCP_NODELAY, [1], 4) = 0";
        let once = trace.lines().filter(|line| line.ends_with(set)).count();
        assert_eq!(once, 1, "{chain}: {trace}");
    }
}
