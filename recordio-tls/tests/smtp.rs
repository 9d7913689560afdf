//! What is shown and hidden of SMTP sessions.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic
)]

mod common;

use common::{ALL, DEFAULT, Step, cut, log, shows, singly, steps};
use plumb::middle::Side;
use recordio_tls::message::Show;
use recordio_tls::redact::Settings;

// DESIGN 5: bodies are sizes; every other line is shown.
#[test]
fn a_plain_session() {
    let script = "
        S: 220-mx.test ESMTP
        S: 220 wait [for] it
        C: EHLO client.test
        S: 250-mx.test
        S: 250 PIPELINING
        C: MAIL FROM:<a@b> BODY=8BITMIME
        S: 250 ok
        C: RCPT TO:<c@d>
        S: 250 ok
        C: DATA
        S: 354 go
        C: Subject: private
        C:
        C: ..private
        C: .
        S: 250 queued
        C: RSET
        S: 250 ok
        C: QUIT
        S: 221 bye";
    let dialogue = |body: &str| {
        format!(
            "> 220-mx.test ESMTP\n> 220 wait [for] it\n< EHLO client.test\n> 250-mx.test\n> 250 PIPELINING\n\
             < MAIL FROM:<a@b> BODY=8BITMIME\n> 250 ok\n< RCPT TO:<c@d>\n> 250 ok\n< DATA\n> 354 go\n{body}\n\
             > 250 queued\n< RSET\n> 250 ok\n< QUIT\n> 221 bye\n"
        )
    };
    let size = "< [body 31 bytes 3 lines]";
    shows(DEFAULT, script, &dialogue(size));
    let header = Settings { show: Show::Header, users: false };
    shows(header, script, &dialogue(&format!("< Subject: private\n< \n{size}")));
    shows(ALL, script, &dialogue("< Subject: private\n< \n< ..private\n< ."));
}

// RFC 4954 4: the initial response, the exchange, its end; only the mechanism, the prompts of LOGIN and the codes are seen.
#[test]
fn auth_in_all_its_forms() {
    shows(
        DEFAULT,
        "S: 220 mx
         C: AUTH PLAIN AHRlc3QAc2VjcmV0
         S: 235 2.7.0 welcome test
         C: auth\\tLogin
         S: 334 VXNlcm5hbWU6
         C: dGVzdA==
         S: 334 UGFzc3dvcmQ6
         C: c2VjcmV0
         S: 535 5.7.8 no: c2VjcmV0
         C:  AUTH  CRAM-MD5
         S: 334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2U+
         C: dGVzdCBkZWFk
         S: 535-5.7.8 one
         S: 535 5.7.8 two
         C: AUTH PLAIN
         S: 334 
         C: *
         S: 501 5.7.0 cancelled
         C: AUTH EXTERNAL =
         S: 235 ok
         C: AUTH c2VjcmV0
         S: 504 c2VjcmV0 unknown
         C: AUTH
         S: 501 what?
         C: AUTH XOAUTH2 c2VjcmV0
         S: 334 eyJzdGF0dXMiOiI0MDEifQ==
         C:
         S: 535 no",
        "> 220 mx
         < AUTH PLAIN [redacted 16]
         > 235 2.7.0 [redacted 12]
         < auth Login
         > 334 VXNlcm5hbWU6
         < [redacted 8]
         > 334 UGFzc3dvcmQ6
         < [redacted 8]
         > 535 5.7.8 [redacted 12]
         < AUTH CRAM-MD5
         > 334 [redacted 36]
         < [redacted 12]
         > 535-5.7.8 [redacted 3]
         > 535 5.7.8 [redacted 3]
         < AUTH PLAIN
         > 334 
         < *
         > 501 5.7.0 [redacted 9]
         < AUTH EXTERNAL =
         > 235 [redacted 2]
         < AUTH [redacted 8]
         > 504 [redacted 16]
         < AUTH
         > 501 [redacted 5]
         < AUTH XOAUTH2 [redacted 8]
         > 334 [redacted 24]
         < [redacted 0]
         > 535 [redacted 2]",
    );
}

// -u: the user's name where it is certain, never the password.
#[test]
fn users_on_demand() {
    let users = Settings { users: true, ..DEFAULT };
    shows(
        users,
        "S: 220 mx
         C: AUTH PLAIN AHRlc3QAc2VjcmV0
         S: 535 no
         C: AUTH PLAIN
         S: 334 
         C: YWRtaW4AdGVzdABzZWNyZXQ=
         S: 535 no
         C: AUTH LOGIN
         S: 334 VXNlcm5hbWU6
         C: dGVzdA==
         S: 334 UGFzc3dvcmQ6
         C: c2VjcmV0
         S: 535 no
         C: AUTH LOGIN dGVzdA==
         S: 334 UGFzc3dvcmQ6
         C: c2VjcmV0
         S: 535 no
         C: AUTH LOGIN
         S: 334 UGFzc3dvcmQ6
         C: c2VjcmV0
         S: 535 no
         C: AUTH PLAIN c2VjcmV0
         S: 535 no
         C: AUTH CRAM-MD5
         S: 334 VXNlcm5hbWU6
         C: dGVzdA==
         S: 535 no",
        "> 220 mx
         < AUTH PLAIN [redacted 16 user=test]
         > 535 [redacted 2]
         < AUTH PLAIN
         > 334 
         < [redacted 24 user=test]
         > 535 [redacted 2]
         < AUTH LOGIN
         > 334 VXNlcm5hbWU6
         < [redacted 8 user=test]
         > 334 UGFzc3dvcmQ6
         < [redacted 8]
         > 535 [redacted 2]
         < AUTH LOGIN [redacted 8 user=test]
         > 334 UGFzc3dvcmQ6
         < [redacted 8]
         > 535 [redacted 2]
         < AUTH LOGIN
         > 334 UGFzc3dvcmQ6
         < [redacted 8]
         > 535 [redacted 2]
         < AUTH PLAIN [redacted 8]
         > 535 [redacted 2]
         < AUTH CRAM-MD5
         > 334 VXNlcm5hbWU6
         < [redacted 8]
         > 535 [redacted 2]",
    );
}

// A client that sends its password after a refusal, or pipelined behind AUTH.
#[test]
fn secrets_behind_a_refusal_stay_hidden() {
    shows(
        DEFAULT,
        "S: 220 mx
         C: GET / HTTP/1.0
         S: 500 what is /?
         C: AUTH LOGIN\\r\\ndGVzdA==\\r\\nc2VjcmV0\\r\\nNOOP\\r\\nsecret
         S: 538 5.7.11 not here
         S: 500 dGVzdA==?
         S: 500 5.5.2 c2VjcmV0?
         S: 250 ok
         S: 500 secret?
         C: QUIT
         S: 221 bye",
        "> 220 mx
         < [HTTP on this port]
         < [redacted 14]
         > 500 [redacted 10]
         < AUTH LOGIN
         > 538 5.7.11 [redacted 8]
         < [redacted 8]
         < [redacted 8]
         < NOOP
         < [redacted 6]
         > 500 [redacted 9]
         > 500 5.5.2 [redacted 9]
         > 250 [redacted 2]
         > 500 [redacted 7]
         < QUIT
         > 221 bye",
    );
}

#[test]
fn extensions_that_carry_credentials() {
    shows(
        DEFAULT,
        "S: 220 mx
         C: XCLIENT NAME=a LOGIN=secret ADDR=1.2.3.4 PASS=secret
         S: 220 mx
         C: XFORWARD NAME=a
         S: 250 ok
         C: ETRN example.org
         S: 250 ok
         C: BURL imap://secret LAST
         S: 250 ok
         C: XVERYLONGVERB secret
         S: 500 what",
        "> 220 mx
         < XCLIENT NAME=a LOGIN=[redacted 6] ADDR=1.2.3.4 [redacted 11]
         > 220 [redacted 2]
         < XFORWARD NAME=a
         > 250 [redacted 2]
         < ETRN example.org
         > 250 [redacted 2]
         < BURL [redacted 18]
         > 250 [redacted 2]
         < [redacted 20]
         > 500 [redacted 4]",
    );
}

// RFC 3030 2: octets are counted, whatever is in them.
#[test]
fn chunks_are_counted_and_not_read() {
    let script = "
        S: 220 mx
        C: EHLO x
        S: 250-mx
        S: 250 CHUNKING
        C: BDAT 16\\r\\nS: s\\r\\n\\r\\nAUTH x\\r\\nBDAT 5 LAST\\r\\na\\r\\nb\\n...
        S: 250 ok
        S: 250 queued
        C: NOOP
        S: 250 ok";
    let dialogue = |one: &str, two: &str| {
        format!(
            "> 220 mx\n< EHLO x\n> 250-mx\n> 250 CHUNKING\n< BDAT 16\n{one}> 250 ok\n< BDAT 5 LAST\n{two}\
             > 250 queued\n< NOOP\n> 250 ok\n"
        )
    };
    shows(
        DEFAULT,
        script,
        &dialogue("< [chunk 16 bytes 3 lines]\n", "< [chunk 5 bytes 2 lines]\n"),
    );
    let header = Settings { show: Show::Header, users: false };
    shows(
        header,
        script,
        &dialogue("< S: s\n< \n< [chunk 16 bytes 3 lines]\n", "< [chunk 5 bytes 2 lines]\n"),
    );
}

// DESIGN 5: where the stream becomes ambiguous, nothing more of it is shown.
#[test]
fn ambiguity_ends_the_story() {
    let opened = "S: 220 mx\nC: EHLO x\nS: 250 CHUNKING\n";
    let in_body = format!("{opened}C: DATA\nS: 354 go\n");
    let secret = "C: AUTH PLAIN c2VjcmV0\nS: 235 c2VjcmV0\nC: secret\nS: 500 secret\n";
    for (before, odd) in [
        (opened, "C: NOOP\\rAUTH PLAIN secret"),
        (opened, "S: 250 ok"),
        (opened, "S: 334 c2VjcmV0"),
        (opened, "S: 354 go"),
        (opened, "S: secret"),
        (opened, "C: BDAT secret"),
        (opened, "C: BDAT 5 secret"),
        (opened, "C: NOOP\nS: 334 x"),
        (opened, "C: NOOP\nS: 354 x"),
        (&in_body, "C: x\\n.\\r\\n..."),
        (&in_body, "C: x\\r\\n.\\n..."),
        (&in_body, "C: x\\r.\\r..."),
        (&in_body, "S: 250 early"),
    ] {
        for settings in [DEFAULT, ALL] {
            let log = log(settings, &steps(&format!("{before}{odd}\n{secret}")));
            assert!(log.contains("not shown from here on"), "{odd}\n{log}");
            assert!(!log.contains("c2VjcmV0") && !log.contains("secret"), "{odd}\n{log}");
            assert!(log.contains("[not shown: < "), "{log}");
        }
    }
}

// RFC 3030 4.2: a server without CHUNKING takes the octets for commands.
#[test]
fn a_chunk_that_was_not_offered_is_not_trusted() {
    let session = "S: 220 mx\nC: EHLO x\nS: 250 mx\nC: BDAT 30\\r\\nAUTH PLAIN secret\\r\\n...\n";
    let log = log(ALL, &steps(session));
    assert!(log.contains("not shown from here on") && !log.contains("secret"), "{log}");
}

// Lines that end in a bare LF are what people type; NULs and lines without end are nothing to show.
#[test]
fn odd_lines() {
    let long = "x".repeat(70_000);
    let session = format!(
        "S: 220 mx
         C: NOOP\\n...
         S: 250 ok\\n...
         C: NOOP\\0AUTH PLAIN secret
         S: 500 secret
         C: {long}
         S: 500 too long
         C: AUTH LOGIN
         S: 334 VXNlcm5hbWU6
         C: {long}
         S: 500 too long
         C: AUTH LOGIN
         S: 334 VXNlcm5hbWU6
         C: sec\\0ret
         S: 500 no
         C: \\x1b[2J\\x9b
         S: 250 \\x1b]0;title\\x07"
    );
    let log = log(DEFAULT, &steps(&session));
    let expected = "> 220 mx\\r \n< NOOP \n> 250 ok \n< [redacted 22]\\r \n> 500 [redacted 6]\\r \n\
        < [line of more than 65536 bytes, not shown]\n> 500 [redacted 8]\\r \n< AUTH LOGIN\\r \n\
        > 334 VXNlcm5hbWU6\\r \n< [line of more than 65536 bytes, not shown]\n> 500 [redacted 8]\\r \n\
        < AUTH LOGIN\\r \n> 334 VXNlcm5hbWU6\\r \n< [redacted 7]\\r \n> 500 [redacted 2]\\r \n\
        < [redacted 5]\\r \n> 250 [redacted 10]\\r \n";
    assert!(log.starts_with(expected), "{log}");
}

// A partial line is held, and flushed at the end by the rules of its state.
#[test]
fn what_has_no_end_at_the_end() {
    let ends = |script: &str| {
        let log = log(DEFAULT, &steps(&format!("S: 220 mx\n{script}")));
        log.lines().rev().nth(1).expect("a line").to_owned()
    };
    assert_eq!(ends("C: QUIT..."), "< QUIT+");
    assert_eq!(ends("C: AUTH PLAIN sec..."), "< AUTH PLAIN [redacted 3]+");
    assert_eq!(ends("C: NOOP\\rx..."), "< [redacted 6]+");
    assert_eq!(ends("C: DATA\nC: early..."), "< [redacted 5]+");
    assert_eq!(ends("C: DATA\nS: 354 go\nC: half"), "< [body 6 bytes 1 lines, cut off]");
    assert_eq!(ends("S: 421 tim..."), "> [redacted 7]+");
}

// A reply of AUTH is one wherever it comes: a server that answers once too often shifts all others.
#[test]
fn codes_of_auth_hide_their_words() {
    shows(
        DEFAULT,
        "S: 220 mx
         C: NOOP\\r\\nAUTH PLAIN c2VjcmV0\\r\\nRSET
         S: 250 ok
         S: 250 once too often
         S: 535 5.7.8 c2VjcmV0?",
        "> 220 mx
         < NOOP
         < AUTH PLAIN [redacted 8]
         > 250 [redacted 2]
         > 250 [redacted 14]
         < RSET
         > 535 5.7.8 [redacted 9]",
    );
}

// RFC 5321 3.8: a server may say 421 at any time.
#[test]
fn a_server_may_close() {
    shows(DEFAULT, "S: 220 mx\nS: 421 timeout", "> 220 mx\n> 421 timeout");
    let body = "S: 220 mx\nC: DATA\nS: 354 go\nC: x\nS: 421 slow";
    let log = log(DEFAULT, &steps(body));
    assert!(log.contains("> 421 slow") && !log.contains("from here on"), "{log}");
}

// CVE-2011-0411: what comes behind STARTTLS before its reply was never protected.
#[test]
fn injection_behind_starttls_is_flagged() {
    let opened = "S: 220 mx\nC: EHLO x\nS: 250 STARTTLS\n";
    let log = |rest: &str| log(DEFAULT, &steps(&format!("{opened}{rest}")));
    let injected = log("C: STARTTLS\\r\\nAUTH PLAIN secret\nS: 220 go\n");
    assert!(injected.contains("< [INJECTION: 19 bytes in clear behind STARTTLS]"), "{injected}");
    assert!(!injected.contains("secret"));
    let later = log("C: STARTTLS\nC: NO...\nS: 220 go\n");
    assert!(later.contains("[INJECTION: 2 bytes"), "{later}");
    let refused = log("C: STARTTLS\\r\\nNOOP\nS: 503 no\nS: 250 ok\n");
    assert!(refused.contains("[INJECTION: 6 bytes") && refused.contains("< NOOP"), "{refused}");
    let clean = log("C: STARTTLS\nS: 220 go\n");
    assert!(!clean.contains("INJECTION") && clean.contains("- [TLS < 0 records"), "{clean}");
    let stripped = log("C: STARTTLS\nS: 220 go\nC: AUTH PLAIN secret\nS: 235 ok\n");
    assert!(stripped.contains("< [NOT TLS, not shown]"), "{stripped}");
    assert!(stripped.contains("> [NOT TLS, not shown]") && !stripped.contains("secret"));
}

// Replies and held lines are tried in turn: the log is the same however both streams are cut.
#[test]
fn the_log_does_not_depend_on_segments() {
    let session: Vec<Step> = steps(
        "S: 220 mx
         C: EHLO x
         S: 250-mx\\r\\n250-AUTH PLAIN LOGIN\\r\\n250 CHUNKING
         C: AUTH LOGIN\\r\\ndGVzdA==\\r\\nc2VjcmV0\\r\\nMAIL FROM:<a@b>\\r\\nRCPT TO:<c@d>\\r\\nDATA\\r\\nbody\\r\\n.\\r\\nNOOP
         S: 334 VXNlcm5hbWU6\\r\\n334 UGFzc3dvcmQ6\\r\\n235 ok\\r\\n250 ok\\r\\n250 ok\\r\\n354 go\\r\\n250 ok\\r\\n250 ok
         C: BDAT 6 LAST\\r\\nAUTH\\r\\nQUIT
         S: 250 ok\\r\\n221 bye",
    );
    let whole = log(DEFAULT, &session);
    assert!(whole.contains("< [body 6 bytes 1 lines]") && whole.contains("> 221 bye"), "{whole}");
    assert_eq!(log(DEFAULT, &singly(&session)), whole);
    let longest = session.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
    for offset in 0..longest {
        assert_eq!(log(DEFAULT, &cut(&session, offset)), whole, "cut at {offset}");
    }
}

// Held lines are capped.
#[test]
fn what_waits_for_a_reply_is_bounded() {
    let mut session = steps("S: 220 mx\nC: DATA");
    session.extend((0..20).map(|_| (Side::Client, vec![b'x'; 4096])));
    let log = log(ALL, &session);
    assert!(log.contains("too much was sent before a reply"), "{log}");
}
