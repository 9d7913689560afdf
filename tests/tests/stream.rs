//! What passes through: bytes unchanged, replies in order, and every way in which either side can end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use chain_tests::client::End;
use chain_tests::server::Builder;
use chain_tests::{CHAIN, Client, Folder, Server, Session, until};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

fn scripted(arms: &str) -> Builder {
    Server::new("starttls-wrap setuidgid nobody ./scripted").scripted_with(arms)
}

/// A server whose program is this shell script.
fn program(script: &str) -> Builder {
    let server = Server::new("starttls-wrap setuidgid nobody ./program");
    server.folder.script("program", &format!("#!/bin/sh\n{script}\n"));
    server
}

/// A client that has been greeted, in clear or inside TLS.
fn greeted(server: &Server, tls: bool) -> Client {
    let mut client = server.connect();
    client.reply();
    if tls {
        client.starttls();
    }
    client
}

// DESIGN 5: bodies pass byte for byte: NUL, 8-bit, lines of any length.
// Predecessors: tlswrapper-smtp made LF of NUL and died of 4,096 bytes; dotls took any read that ended in ".CRLF" for the end.
#[test]
fn bodies_arrive_byte_for_byte() {
    let all: Vec<u8> = (0..=255).cycle().take(2560).collect();
    let long: Vec<u8> =
        (0..=255).cycle().filter(|byte| !b"\r\n".contains(byte)).take(10_000_000).collect();
    for body in [
        b"".to_vec(),
        b"..\r\n.x\r\n...\r\n .\r\ntext.\r\n.\0x\r\n\r\n\r\n\n\r\r\n\nlast.\r\n".to_vec(),
        [&all, &b"\r\n"[..]].concat(),
        [&long, &b"\r\n"[..]].concat(),
        random_lines(100_000_000),
    ] {
        for tls in [false, true] {
            arrives(&[&body, &b".\r\n"[..]].concat(), tls);
        }
    }
}

fn arrives(body: &[u8], tls: bool) {
    let server = Server::new("starttls-wrap ./taker").env("SIZE", &body.len().to_string());
    server.folder.script("taker", TAKER);
    let server = server.start();
    let mut client = greeted(&server, tls);
    client.expect("DATA", "354");
    client.send(body);
    assert_eq!(client.reply(), "250 taken");
    client.expect("QUIT", "221");
    client.closed();
    let taken = fs::read(server.folder.path("body")).expect("read the body");
    assert!(taken == body, "{} of {} bytes, tls: {tls}", taken.len(), body.len());
}

/// Takes one body of SIZE bytes.
const TAKER: &str = r#"#!/bin/sh
say() { printf '%s\r\n' "$@"; }
say '220 taker'
read -r line
say '354 go'
head -c "$SIZE" >body
say '250 taken'
read -r line
say '221 bye'
"#;

/// Lines of random bytes and random lengths, none of them a dot alone.
fn random_lines(size: usize) -> Vec<u8> {
    let mut state: u64 = 42;
    let mut bytes = Vec::with_capacity(size + 4096);
    while bytes.len() < size {
        let start = bytes.len();
        let words = next(&mut state) % 250;
        for _ in 0..words {
            bytes.extend(
                next(&mut state)
                    .to_le_bytes()
                    .map(|byte| if b"\r\n".contains(&byte) { b'.' } else { byte }),
            );
        }
        if words == 0 {
            bytes.extend(*b"..");
        }
        if bytes[start] == b'.' {
            bytes[start + 1] = b'.';
        }
        bytes.extend(*b"\r\n");
    }
    bytes
}

/// xorshift64: the same numbers in every run.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Right and wrong commands, two messages, chunks.
/// Predecessors: an empty line or "Q" ended tlswrapper-smtp's session like QUIT; dotls went into its body when DATA was refused.
const COMMANDS: &str = "EHLO client.test\r\n\r\nQ\r\nD\r\nDATA\r\nNOOP\r\nNO\0OP\r\nNOOP\nNOOP x\r\nXYZZY a b c\r\nSTARTTLS now\r\n\
    RCPT TO:<postmaster@mx.test>\r\nMAIL FROM:<a@client.test>\r\nMAIL FROM:<b@client.test>\r\nRCPT TO:<x@elsewhere.test>\r\n\
    RCPT TO:<postmaster@mx.test>\r\nDATA\r\nSubject: one\r\n\r\n..\r\nQUIT\r\n.\r\nVRFY x\r\nHELP\r\nRSET\r\n\
    BDAT 5\r\nQUIT\nBDAT 0 LAST\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster@mx.test>\r\nBDAT 7\r\nhello\r\nBDAT 5 LAST\r\n\r\n.\r\nNOOP\r\n\
    MAIL FROM:<a@client.test>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\nbare\nline\r\n.\r\nAUTH PLAIN\r\nEXPN x\r\nQUIT\r\nNOOP\r\n";

const CODES: &str = "250 500 500 500 503 250 500 500 250 500 501 503 250 503 553 250 354 250 252 214 250 503 503 250 250 250 250 250 \
    250 250 354 550 AUTH 502 221";

// RFC 2920 3.2: replies in the order of the commands, and the same however the input comes.
#[test]
fn replies_are_the_same_in_one_segment_and_byte_by_byte() {
    let server = Server::new(CHAIN).start();
    for tls in [false, true] {
        let session = |cuts: &[usize]| {
            let mut client = greeted(&server, tls);
            client.send_cut(COMMANDS, cuts);
            let replies = String::from_utf8(client.rest()).expect("ASCII");
            assert_eq!(client.end(), Some(End::Clean));
            // The second and the number of the queue's process differ.
            let code = |line: &str| line.split(" ok 17").next().unwrap_or_default().to_owned();
            replies.lines().map(code).collect::<Vec<_>>()
        };
        let whole = session(&[]);
        let codes = whole.iter().filter(|line| !line.starts_with("250-")).map(|line| &line[..3]);
        let auth = if tls { "503" } else { "538" };
        assert_eq!(codes.collect::<Vec<_>>().join(" "), CODES.replace("AUTH", auth));
        assert_eq!(session(&(1..COMMANDS.len()).collect::<Vec<_>>()), whole);
        let mut state = 7;
        for _ in 0..20 {
            let mut cuts: Vec<_> =
                (0..10).map(|_| 1 + next(&mut state) as usize % (COMMANDS.len() - 1)).collect();
            cuts.sort_unstable();
            cuts.dedup();
            assert_eq!(session(&cuts), whole, "{cuts:?}");
        }
    }
}

// DESIGN 6.2: full queues stop the reading, never the session. Predecessor: smtpd-starttls-proxy ended with 16 commands under way.
#[test]
fn ten_thousand_pipelined_commands() {
    let server = scripted("").start();
    let commands: String = (0..10_000).map(|number| format!("NOOP {number}\r\n")).collect();
    let replies: String = (0..10_000).map(|number| format!("250 NOOP {number}\r\n")).collect();
    for tls in [false, true] {
        let mut client = greeted(&server, tls);
        client.send(format!("{commands}QUIT\r\n"));
        let rest = client.rest();
        assert!(rest == format!("{replies}221 bye\r\n").as_bytes(), "{tls} {}", rest.len());
    }
    let server = Server::new(CHAIN).start();
    for tls in [false, true] {
        let mut client = greeted(&server, tls);
        client.send(format!("{commands}QUIT\r\n"));
        let rest = client.rest();
        assert_eq!(rest.iter().filter(|&&byte| byte == b'\n').count(), 10_001);
        assert!(rest.starts_with(b"250 2.0.0 ok\r\n250 2.0.0 ok\r\n"));
    }
}

// RFC 5321 4.2.1: replies of several lines; 4.1.1.1: EHLO may fail, and its reply may have one line. DESIGN 5: at most 100 lines.
#[test]
fn greetings_and_ehlo_replies_of_all_kinds() {
    let server = program(
        "say() { printf '%s\\r\\n' \"$@\"; }
         say 220-mx.test '220-no spam' 220
         while read -r line; do
           case $line in
             *one*) say '250 mx.test' ;;
             *bare*) say 250 ;;
             *fail*) say 502-never '502 ever' ;;
             *feed*) printf '250-mx.test\\n250-starttls\\n250-Auth=LOGIN\\n250 SIZE 1\\n' ;;
             *only*) say 250-mx.test '250 STARTTLS' ;;
             *hundred*) say 250-mx.test; yes 250-X | head -n 98 | while read -r x; do say \"$x\"; done; say '250 X' ;;
             *many*) yes 250-X | head -n 101 | while read -r x; do say \"$x\"; done; say '250 X' ;;
             *) say '250 ok' ;;
           esac
         done",
    );
    let server = server.start();
    let greeting = "S: 220-mx.test\nS: 220-no spam\nS: 220\n";
    let script = "
        C: EHLO one
        S: 250-mx.test
        S: 250 STARTTLS
        C: EHLO bare
        S: 250-
        S: 250 STARTTLS
        C: EHLO fail
        S: 502-never
        S: 502 ever
        C: EHLO feed
        S: 250-mx.test
        S: 250-STARTTLS
        S: 250 SIZE 1
        C: EHLO only
        S: 250-mx.test
        S: 250 STARTTLS
        C: HELO fail
        S: 502-never
        S: 502 ever
        C: HELO one
        S: 250 mx.test";
    server.connect().play_in_pieces(&format!("{greeting}{script}"), 1);
    let mut client = server.connect();
    client.play(&format!("{greeting}{script}"));
    assert_eq!(client.ask("EHLO hundred").lines().count(), 101);
    client.starttls();
    // The second greeting has as many lines, and none of them is shown.
    client.play("C: EHLO one\nS: 250 mx.test\nC: EHLO feed\nS: 250-mx.test\nS: 250-Auth=LOGIN\nS: 250 SIZE 1");
    client.expect("EHLO many", "421 4.3.0 ");
    client.closed();
    server.logged("unexplained words of the program: an EHLO reply too long");
}

// RFC 5321 4.5.3.1.4, RFC 4954 4: AUTH lines of 12,288 octets pass; longer than any is 500, and the session goes on.
#[test]
fn long_lines() {
    let server = scripted("").env("ALLOW_INSECURE_AUTH", "1").start();
    for tls in [false, true] {
        let mut client = greeted(&server, tls);
        let line = format!("NOOP {}", "x".repeat(12_288 - 7));
        assert_eq!(client.ask(&line), format!("250 {line}"));
        for length in [16 * 1024, 100_000, 3_000_000] {
            assert!(client.ask(&"x".repeat(length)).starts_with("500 5.5.6 "));
        }
        assert_eq!(client.ask("NOOP"), "250 NOOP");
    }
    server.idle();
    assert!(!server.log().contains("saw <xxx"));
}

// DESIGN 2: program gone where a reply is due: 421 4.3.0; where none is due, just the end. RFC 5321 3.8: its own 421 passes.
#[test]
fn programs_that_die() {
    let gone = "421 4.3.0 service not available\r\n";
    for (script, said, heard, line) in [
        ("exit 0", "", gone, "the program is gone"),
        ("printf 220-half; exit", "", gone, "the program is gone"),
        (
            "printf '220-half\\r\\n'; exit",
            "",
            &format!("220-half\r\n{gone}"),
            "the program is gone",
        ),
        ("printf '220 mx\\r\\n'; exit", "", "220 mx\r\n", ""),
        (
            "printf '220 mx\\r\\n'; read -r x",
            "NOOP\r\n",
            &format!("220 mx\r\n{gone}"),
            "the program is gone",
        ),
        (
            "printf '220 mx\\r\\n'; read -r x; kill -9 $$",
            "NOOP\r\n",
            &format!("220 mx\r\n{gone}"),
            "the program is gone",
        ),
        (
            "printf '220 mx\\r\\n'; read -r x; printf '250-'; exit",
            "EHLO x\r\n",
            &format!("220 mx\r\n{gone}"),
            "the program is gone",
        ),
        (
            "printf '220 mx\\r\\n'; read -r x; printf '354 go\\r\\n'; read -r x",
            "DATA\r\nx\r\n",
            &format!("220 mx\r\n354 go\r\n{gone}"),
            "the program is gone",
        ),
        ("printf '421 not today\\r\\n'; exit", "", "421 not today\r\n", ""),
        ("printf '220 mx\\r\\n421 late\\r\\n'; exit", "", "220 mx\r\n421 late\r\n", ""),
        (
            "printf '220 mx\\r\\n'; read -r x; printf '421 now\\r\\n'",
            "NOOP\r\nNOOP\r\n",
            "220 mx\r\n421 now\r\n",
            "",
        ),
        (
            "printf '220 mx\\r\\n250 what\\r\\n'; read -r x",
            "",
            &format!("220 mx\r\n{gone}"),
            "unexplained words of the program",
        ),
        ("echo segmentation fault; read -r x", "", gone, "unexplained words of the program"),
        ("exec /nowhere 2>/dev/null", "", gone, "the program is gone"),
    ] {
        let server = program(script).start();
        let mut client = server.connect();
        client.try_send(said);
        let rest = client.rest();
        assert_eq!(String::from_utf8_lossy(&rest), heard, "{script}");
        assert_eq!(client.end(), Some(End::Clean), "{script}");
        drop(client);
        server.idle();
        assert!(server.log().contains(line), "{script}: {}", server.log());
    }
    let server = Server::new("starttls-wrap ./nowhere").start();
    let mut client = server.connect();
    assert_eq!(client.reply(), gone.trim_end());
    client.closed();
    server.logged("unable to run ./nowhere");
}

// DESIGN 2: the monitor ends with the last program's exit code; killed by a signal: 111; never started, since the handshake failed: 0.
#[test]
fn the_exit_code_is_the_last_programs() {
    let arms = "SEVEN) exit 7 ;;\nKILL) kill -9 $$ ;;";
    for (command, tls, code) in [
        ("SEVEN", false, 7),
        ("KILL", false, 111),
        ("SEVEN", true, 7),
        ("KILL", true, 111),
        ("QUIT", true, 0),
    ] {
        let mut single = Server::new("starttls-wrap ./scripted").scripted_with(arms).single();
        single.client.reply();
        if tls {
            single.client.starttls();
        }
        single.client.send(format!("{command}\r\n"));
        single.client.rest();
        assert_eq!(single.code(), Some(code), "{command} {tls}");
    }
    let mut single = Server::new("starttls-wrap ./scripted").scripted_with(arms).single();
    single.client.play("S: 220 *\nC: STARTTLS\nS: 220 *\nC: no handshake");
    single.client.rest();
    assert_eq!(single.code(), Some(0));
    let mut single = Server::new("starttls-wrap ./nowhere").single();
    single.client.rest();
    assert_eq!(single.code(), Some(111));
}

// DESIGN 2: client half-close: SHUT_WR towards the program, replies go on.
#[test]
fn a_client_that_half_closes_gets_all_replies() {
    let server = Server::new(CHAIN).start();
    let body = "half-closed\r\n".repeat(20_000_000 / 13);
    for tls in [false, true] {
        let mut client = greeted(&server, tls);
        client.expect("EHLO client.test", "250");
        client.send("MAIL FROM:<>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\n");
        client.send(format!("{body}.\r\nQUIT\r\n"));
        client.half_close();
        let rest = String::from_utf8(client.rest()).expect("ASCII");
        let codes: Vec<_> = rest.lines().map(|line| &line[..4]).collect();
        assert_eq!(codes, ["250 ", "250 ", "354 ", "250 ", "221 "]);
        assert_eq!(client.end(), Some(End::Clean));
    }
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    assert!(mails.iter().all(|mail| mail.len() > 20_000_000 / 13 * 12));
    // Without QUIT, the program learns of the end all the same; and in a body it is no end of the message.
    for (said, codes) in [
        ("NOOP\r\n", "250"),
        ("EHLO x\r\nNOO", "250"),
        ("MAIL FROM:<>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\nlost\r\n", "354"),
        ("MAIL FROM:<>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\nlost\r\n.", "354"),
        ("MAIL FROM:<>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\nlost\r\n.\r", "354"),
    ] {
        for tls in [false, true] {
            let mut client = greeted(&server, tls);
            client.send(said);
            client.half_close();
            let rest = String::from_utf8(client.rest()).expect("ASCII");
            assert!(rest.contains(codes) && !rest.contains("qp"), "{said}: {rest}");
        }
    }
    server.idle();
    assert_eq!(server.mails().len(), 2);
}

// DESIGN 2: replies go on, also where the client asks for TLS and then ends.
#[test]
fn a_client_that_half_closes_behind_starttls() {
    let server = scripted("HOLD) read -r x <hold; say '250 released' ;;");
    make_fifo(&server.folder, "hold");
    let server = server.start();
    let mut client = greeted(&server, false);
    client.send("HOLD\r\nSTARTTLS\r\n");
    client.half_close();
    server.logged("saw <HOLD>");
    fs::write(server.folder.path("hold"), "go\n").expect("release the program");
    assert_eq!(client.reply(), "250 released");
    client.closed();
}

// A program that never speaks must at least learn that its client has gone.
#[test]
fn a_program_that_never_speaks_sees_the_clients_end() {
    for (script, tls) in [
        ("read -r x; echo 'program: ended' >&2", false),
        ("[ -z \"$SSL\" ] && printf '220 mx\\r\\n'; read -r x; echo \"program: ended\" >&2", true),
    ] {
        let server = program(script).start();
        let mut client = server.connect();
        if tls {
            client.reply();
            client.starttls();
        }
        client.half_close();
        client.rest();
        drop(client);
        server.logged("program: ended");
        server.idle();
    }
}

// DESIGN 2: EPIPE towards a program only stops the writing; reading goes on, so a last 221 or 421 is never lost.
#[test]
fn last_words_of_a_program_that_reads_no_more() {
    for how in ["", "perl -e 'shutdown(STDIN, 0)';"] {
        // The program before TLS ends with its input.
        let script = "printf '220 mx\\r\\n'; read -r x || exit; HOW echo deaf $SSL >&2; read -r x <hold; printf '421 last words\\r\\n'";
        let server = program(&script.replace("HOW", how));
        make_fifo(&server.folder, "hold");
        let server = server.start();
        for tls in [false, true] {
            let mut client = greeted(&server, tls);
            client.send("NOOP\r\n");
            server.logged(if tls { "deaf 1" } else { "deaf" });
            client.send("NOOP filler\r\n".repeat(1000));
            fs::write(server.folder.path("hold"), "go\n").expect("release the program");
            assert_eq!(client.reply(), "421 last words", "{how}");
            client.closed();
        }
    }
}

// A program that ends its output but goes on reading has nothing more to say.
#[test]
fn a_program_that_half_closes() {
    let half = "printf '220 mx\\r\\n'; read -r x; printf '250 ok\\r\\n'; exec perl -e 'shutdown(STDOUT, 1); 1 while <STDIN>; print STDERR \"program: ended\\n\"'";
    let server = program(half).start();
    for tls in [false, true] {
        let mut client = greeted(&server, tls);
        client.expect("NOOP", "250");
        client.closed();
        assert_eq!(client.end(), Some(End::Clean));
    }
    server.idle();
    assert_eq!(server.log().matches("program: ended").count(), 2);
}

// DESIGN 2, 6: a client that resets: the program gets its end, is never killed, and one line tells of it.
#[test]
fn clients_that_reset() {
    let server = scripted("HOLD) read -r x <hold; log released ;;");
    make_fifo(&server.folder, "hold");
    let server = server.start();
    let lost = || server.log().matches("client lost: ").count();
    let mut count = 0;
    for tls in [false, true] {
        for said in [
            "",
            "NOO",
            "NOOP\r\n",
            "DATA\r\nx\r\n",
            "DATA\r\nx\n.\r\nx",
            "HOLD\r\n",
            "HOLD\r\nNOOP\r\n",
        ] {
            let mut client = greeted(&server, tls);
            let first = said.split_inclusive("\r\n").next().filter(|line| line.ends_with("\r\n"));
            let line = first.map(|line| format!("saw <{}>", line.trim_end()));
            let times = |line: &str| server.log().matches(line).count();
            let before = line.as_deref().map(times);
            client.send(said);
            until("the first line behind the wrapper", || {
                (line.as_deref().map(times) > before || line.is_none()).then_some(())
            });
            client.reset();
            count += 1;
            if said.starts_with("HOLD") {
                fs::write(server.folder.path("hold"), "go\n").expect("release the program");
            }
            until("the log line of a reset", || (lost() == count).then_some(()));
            server.idle();
        }
    }
    assert_eq!(
        server.log().matches("scripted: ended").count(),
        server.log().matches("scripted: started").count()
    );
    assert_eq!(server.log().matches("released").count(), 4);
    let mut client = server.connect();
    client.reply();
    client.expect("STARTTLS", "220");
    client.reset();
    server.logged("tls failed from=client");
    server.idle();
}

// DESIGN 6.2: a client that reads nothing stops the program's words, and gets all of them when it reads on.
#[test]
fn a_client_that_stops_reading() {
    let server = scripted("BIG) yes \"250-$(printf '%0100d' 0)\" | head -n 200000 | sed 's/$/\\r/'; say '250 done' ;;").start();
    for tls in [false, true] {
        let mut client = greeted(&server, tls);
        client.send("BIG\r\nNOOP\r\n");
        let first = client.line().expect("a line");
        // More than all buffers on the way hold is still to come.
        let mut lines = 1;
        while client.line().expect("a line") == first {
            lines += 1;
        }
        assert_eq!(lines, 200_000);
        assert_eq!(client.reply(), "250 NOOP");
        let mut client = greeted(&server, tls);
        client.send("BIG\r\nNOOP\r\n");
        client.line().expect("a line");
        client.reset();
    }
    server.idle();
}

// DESIGN 6.2: full queues stop the reading. Each LF is worth a reply of 66 bytes, which nobody takes.
#[test]
fn a_client_that_only_sends_does_not_fill_memory() {
    let server = scripted("").start();
    for tls in [false, true] {
        let mut client = greeted(&server, tls);
        let session = Session::of(&server);
        client.stream().set_write_timeout(Some(Duration::from_secs(1))).expect("set a deadline");
        // The kernel's buffers hold less than this, so somewhere it stops.
        let all_taken = (0..16).all(|_| client.try_send("\n".repeat(1_000_000)));
        let memory = session.net.status("VmRSS").expect("a living process");
        let kib: u32 = memory.trim_end_matches(" kB").parse().expect("a number");
        assert!(!all_taken && kib < 32_768, "{memory}");
        client.reset();
        server.idle();
    }
}

// RFC 5321 3.8: 421 between replies on SIGTERM. DESIGN 2: a program is never killed.
#[test]
fn sigterm_says_421_between_replies() {
    let server = scripted("HOLD*) read -r x <hold; say 250-released '250 now' ;;");
    make_fifo(&server.folder, "hold");
    let server = server.start();
    let terminate =
        || kill(Pid::from_raw(Session::of(&server).monitor.pid), Signal::SIGTERM).expect("SIGTERM");
    let shutting_down = "421 4.3.2 shutting down";
    for tls in [false, true] {
        let mut client = greeted(&server, tls);
        client.expect("NOOP", "250");
        terminate();
        assert_eq!(client.reply(), shutting_down);
        client.closed();
        assert_eq!(client.end(), Some(End::Clean));
        drop(client);
        server.idle();

        let mut client = greeted(&server, tls);
        client.send(format!("HOLD {tls}\r\nNOOP\r\n"));
        server.logged(&format!("saw <HOLD {tls}>"));
        terminate();
        fs::write(server.folder.path("hold"), "go\n").expect("release the program");
        assert_eq!(client.reply(), "250-released\n250 now");
        assert_eq!(client.reply(), "250 NOOP");
        assert_eq!(client.reply(), shutting_down);
        client.closed();
        drop(client);
        server.idle();

        let mut client = greeted(&server, tls);
        client.expect("DATA", "354");
        terminate();
        assert_eq!(client.reply(), shutting_down);
        client.closed();
        drop(client);
        server.idle();
    }
    // What is left of a message that nobody will take is not waited for.
    let mut client = greeted(&server, false);
    client.expect("DATA", "354");
    client.send("x\n.\n");
    until("the end of the program", || {
        (!server.sessions().iter().any(|p| p.name == "scripted")).then_some(())
    });
    terminate();
    assert_eq!(client.reply(), shutting_down);
    client.closed();
    drop(client);
    server.idle();
    // The client waits for TLS: no word can be said before that, and whatever was quicker, it is told or closed.
    let mut client = server.connect();
    client.reply();
    client.expect("STARTTLS", "220");
    terminate();
    // Its handshake is over for the client before it is for the server.
    client.try_handshake().ok();
    let rest = String::from_utf8(client.rest()).expect("ASCII");
    assert!(["", shutting_down].contains(&rest.trim_end()), "{rest}");
    drop(client);
    server.idle();
    let log = server.log();
    assert_eq!(
        log.matches("scripted: ended").count(),
        log.matches("scripted: started").count(),
        "{log}"
    );
}

// DESIGN 2: pipes as 0 and 1 work too, and O_NONBLOCK is never set on descriptors from outside.
#[test]
fn pipes_instead_of_sockets() {
    for tls in [false, true] {
        for pipes in [false, true] {
            let server = Server::new("starttls-wrap smtpd");
            let mut single = if pipes { server.single_by_pipes() } else { server.single() };
            single.client.reply();
            if tls {
                single.client.starttls();
            }
            single.client.expect("EHLO client.test", "250");
            for process in single.processes() {
                for descriptor in 0..3 {
                    assert!(!nonblocking(process.pid, descriptor), "{process:?} {descriptor}");
                }
            }
            let body = "line\r\n".repeat(100_000);
            assert!(single.client.deliver(&body).starts_with("250 "));
            single.client.expect("QUIT", "221");
            single.client.closed();
            assert_eq!(single.code(), Some(0));
        }
    }
}

/// What everyone may write to, to release a program that reads it.
fn make_fifo(folder: &Folder, name: &str) {
    mkfifo(&folder.path(name), Mode::S_IRWXU).expect("make a fifo");
    fs::set_permissions(folder.path(name), fs::Permissions::from_mode(0o666)).expect("chmod");
}

fn nonblocking(pid: i32, descriptor: u32) -> bool {
    // proc(5): "flags: 0104002", in octal. The key process and the program before TLS may have ended meanwhile.
    let Ok(info) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")) else {
        return false;
    };
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
    i32::from_str_radix(flags, 8).expect("a number") & libc::O_NONBLOCK != 0
}
