//! Sessions as transcripts: what each side says, and what the other gets.

use std::collections::HashMap;
use std::ffi::OsString;

use plumb::middle::{Outbox, Patience, Side};

use super::Wrap;
use crate::policy::Policy;

/// Runs a script of lines: `C>` and `P>` are said by client and program, `C<` and `P<` are what they get.
///
/// `\r`, `\n` and `\0` are written out; CRLF is added to a line that does not end with `\c`.
/// `C.` and `P.` are the ends of what they say; `hang up`, `stop`, `tls` are what must have come of it;
/// `waits` is that a client cannot buy time by sending, `patient` that it can.
fn play(mut wrap: Wrap, script: &str, split: bool) {
    let mut out = Outbox::default();
    let mut expected: HashMap<char, Vec<u8>> = HashMap::new();
    let (mut at_client, mut at_program) = (Vec::new(), Vec::new());
    for line in script.lines().map(str::trim_start).filter(|line| !line.is_empty()) {
        let said = bytes(line.get(3..).unwrap_or_default());
        let step = if split { 1 } else { said.len().max(1) };
        match line.split_at(line.len().min(2)).0 {
            "C>" => said.chunks(step).for_each(|part| wrap.client_says(part, &mut out)),
            "P>" => said.chunks(step).for_each(|part| wrap.program_says(part, &mut out)),
            "C." => wrap.ended(Side::Client, &mut out),
            "P." => wrap.ended(Side::Server, &mut out),
            "C<" => expected.entry('C').or_default().extend(said),
            "P<" => expected.entry('P').or_default().extend(said),
            "no" => wrap.go_on_in_clear(&mut out),
            "te" => wrap.terminate(&mut out),
            "ex" => wrap.expired(&mut out),
            "ha" => assert!(out.hang_up, "{script}: no hang up"),
            "st" => assert!(out.stop && !wrap.wants_tls(), "{script}: no stop"),
            "on" => assert!(!out.stop && !out.hang_up, "{script}: an end"),
            "tl" => assert!(out.stop && wrap.wants_tls(), "{script}: no tls"),
            "wa" => assert!(matches!(wrap.patience(), Patience::Server(_)), "{script}: patient"),
            "pa" => assert!(matches!(wrap.patience(), Patience::Either(_)), "{script}: waits"),
            "in" => assert!(wrap.injected(), "{script}: no injection"),
            other => panic!("{other}"),
        }
        at_client.append(&mut out.client);
        at_program.append(&mut out.server);
    }
    for (side, got) in [('C', at_client), ('P', at_program)] {
        let wanted = expected.remove(&side).unwrap_or_default();
        let (got, wanted) = (got.escape_ascii().to_string(), wanted.escape_ascii().to_string());
        assert_eq!(got, wanted, "{side} in {script}");
    }
}

fn bytes(text: &str) -> Vec<u8> {
    let (text, end) = match text.strip_suffix("\\c") {
        Some(text) => (text, ""),
        None => (text, "\r\n"),
    };
    let text = text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0");
    format!("{text}{end}").into_bytes()
}

fn policy(settings: &[(&str, &str)]) -> Policy {
    let value = |name: &str| {
        settings.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    };
    Policy::from_environment(value, false).unwrap()
}

fn clear(settings: &[(&str, &str)], script: &str) {
    for split in [false, true] {
        play(Wrap::in_clear(policy(settings)), script, split);
    }
}

fn inside(settings: &[(&str, &str)], script: &str) {
    for split in [false, true] {
        play(Wrap::after_starttls(policy(settings)), script, split);
    }
}

// DESIGN 5: STARTTLS is put in as the second line, AUTH is hidden in clear; everything else passes.
#[test]
fn a_session_in_clear() {
    clear(
        &[],
        r"
        P> 220-mx\c
        P> \r\n220 ESMTP
        C< 220-mx
        C< 220 ESMTP
        C> EHLO x
        P< EHLO x
        P> 250-mx\r\n250-AUTH LOGIN\r\n250 PIPELINING
        C< 250-mx\r\n250-STARTTLS\r\n250 PIPELINING
        C> MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA
        P< MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA
        P> 250 ok\r\n250 ok\r\n354 go
        C< 250 ok\r\n250 ok\r\n354 go
        C> Subject: x\r\n\r\n..\0\r\n.\r\nQUIT
        P< Subject: x\r\n\r\n..\0\r\n.
        P> 250 queued
        C< 250 queued
        P< QUIT
        P> 221 bye
        C< 221 bye
        on
        P.
        stop",
    );
}

// RFC 3207 4: no argument; DESIGN 5: works after HELO, too; the program never sees it.
#[test]
fn starttls_is_answered_here() {
    clear(
        &[],
        r"
        P> 220 mx
        C< 220 mx
        C> HELO x\r\nSTARTTLS y\r\nstarttls
        P< HELO x
        P> 250 mx
        C< 250 mx
        C< 501 5.5.4 STARTTLS takes no argument
        tls
        no key
        C< 454 4.7.0 TLS not available at the moment
        C> NOOP
        P< NOOP
        on",
    );
}

// RFC 8689 2: only inside TLS; a program that offers it in clear does not get it, offered or not.
#[test]
fn requiretls_is_inside_tls_only() {
    clear(
        &[],
        r"
        P> 220 mx
        C< 220 mx
        C> EHLO x
        P< EHLO x
        P> 250-mx\r\n250 REQUIRETLS
        C< 250-mx\r\n250 STARTTLS
        C> MAIL FROM:<a@b> SIZE=1 RequireTLS\r\nMAIL FROM:<requiretls@b> SIZE=1\r\nMAIL FROM:<> XREQUIRETLS
        C< 555 5.5.4 REQUIRETLS needs TLS
        P< MAIL FROM:<requiretls@b> SIZE=1\r\nMAIL FROM:<> XREQUIRETLS
        on",
    );
    inside(
        &[],
        r"
        P> 220 mx
        C> MAIL FROM:<a@b> REQUIRETLS
        P< MAIL FROM:<a@b> REQUIRETLS",
    );
}

// CVE-2011-0411: what follows STARTTLS is neither run nor handed to TLS.
#[test]
fn nothing_behind_starttls_goes_on() {
    for behind in [r"NOOP\r\n\c", r"NOO\c", r"\n\c", "\u{16}\u{3}\u{1}\\c"] {
        clear(&[], &format!("P> 220 mx\nC< 220 mx\nC> STARTTLS\\r\\n{behind}\ntls\nin"));
    }
    clear(
        &[],
        r"
        P> 220 mx
        C< 220 mx
        C> STARTTLS\n\c
        C< 500 5.5.2 a line ends with CRLF and has no other CR, LF or NUL
        stop",
    );
}

// RFC 3207 4.2: no STARTTLS inside TLS, neither shown nor taken; the second greeting is swallowed.
#[test]
fn a_session_inside_tls() {
    inside(
        &[("REQUIRE_AUTH", "1")],
        r"
        C> EHLO x\r\nSTARTTLS
        P> 220-mx\r\n220 ESMTP
        P< EHLO x
        P> 250-mx\r\n250-STARTTLS\r\n250-REQUIRETLS\r\n250 AUTH PLAIN
        C< 250-mx\r\n250-REQUIRETLS\r\n250 AUTH PLAIN
        C< 503 5.5.1 TLS is on already
        C> MAIL FROM:<a@b>
        C< 530 5.7.0 Authentication required
        C> AUTH LOGIN
        P< AUTH LOGIN
        P> 334 VXNlcm5hbWU6
        C< 334 VXNlcm5hbWU6
        C> QUIT\c
        C> xx
        P< QUITxx
        P> 235 ok
        C< 235 ok
        C> MAIL FROM:<a@b>
        P< MAIL FROM:<a@b>
        on",
    );
}

// DESIGN 2: a greeting other than 220 is the answer to the client's first command; EOF before it is 421.
#[test]
fn a_program_that_does_not_want_to_go_on_inside_tls() {
    inside(
        &[],
        r"
        P> 554-no\r\n554 never
        P.
        on
        C> EHLO x\r\nMAIL FROM:<a@b>
        C< 554-no\r\n554 never
        stop",
    );
    inside(&[], "C> EHLO x\nP> 220-half\nP.\nC< 421 4.3.0 service not available\nstop");
    inside(&[], "ex\nC< 421 4.4.2 timeout\nstop");
}

// DESIGN 4: refused AUTH is 538, and what may be the password reaches nobody.
#[test]
fn a_password_that_nobody_asked_for_stays_here() {
    clear(
        &[],
        r"
        P> 220 mx
        C< 220 mx
        C> AUTH LOGIN\r\ncGFzc3dvcmQ=\r\nNOOP
        C< 538 5.7.11 auth not available without TLS
        C< 500 5.5.2 unrecognised
        P< NOOP
        P> 250 ok
        C< 250 ok
        on",
    );
}

// DESIGN 6.4: the last byte of an ambiguous end never reaches the program, whose side is closed; 6.7: that takes no longer
// because a client trickles.
#[test]
fn an_ambiguous_end_ends_the_session() {
    for (ends, passes) in [
        (r"hi\n.\r\nMAIL\r\n", r"hi\n.\c"),
        (r"hi\r\n.\nMAIL\r\n", r"hi\r\n\c"),
        (r"hi\r.\rMAIL\r\n", r"hi\r.\c"),
        (r"\0.\r\nMAIL\r\n", r"\0.\c"),
    ] {
        clear(
            &[],
            &format!(
                r"
                P> 220 mx
                C< 220 mx
                C> DATA
                P< DATA
                P> 354 go
                C< 354 go
                C> {ends}\c
                P< {passes}
                hang up
                waits
                P.
                C> .\r\nQUIT
                C< 550 5.5.2 ambiguous end of data
                stop"
            ),
        );
    }
}

// DESIGN 6.3: BDAT only after CHUNKING was offered, octets eaten otherwise; what cannot be counted ends it.
#[test]
fn chunks() {
    clear(
        &[],
        r"
        P> 220 mx
        C< 220 mx
        C> BDAT 6\r\nQUIT\r\nNOOP
        C< 503 5.5.1 BDAT not available
        P< NOOP
        P> 250 ok
        C< 250 ok
        C> EHLO x
        P< EHLO x
        P> 250-mx\r\n250 CHUNKING
        C< 250-mx\r\n250-STARTTLS\r\n250 CHUNKING
        C> BDAT 6\r\nQUI\c
        P< BDAT 6\r\nQUI\c
        patient
        C> T\r\nBDAT 0 LAST\r\nBDAT x
        P< T
        P> 250 ok
        C< 250 ok
        P< BDAT 0 LAST
        P> 250 ok
        C< 250 ok
        C< 501 5.5.4 malformed BDAT
        stop",
    );
}

// DESIGN 6.1, RFC 4954 4: a line that readers could see differently reaches nobody, and an exchange is cancelled.
#[test]
fn bad_lines() {
    clear(
        &[("ALLOW_INSECURE_AUTH", "1")],
        r"
        P> 220 mx
        C< 220 mx
        C> NOOP\rQUIT\r\nNO\0OP\r\nNOOP
        C< 500 5.5.2 a line ends with CRLF and has no other CR, LF or NUL
        C< 500 5.5.2 a line ends with CRLF and has no other CR, LF or NUL
        P< NOOP
        P> 250 ok
        C< 250 ok
        C> AUTH PLAIN
        P< AUTH PLAIN
        P> 334 \c
        P> \r\n\c
        C< 334 \c
        C< \r\n\c
        C> AGEAYg==\n\c
        P< *
        P> 501 cancelled
        C< 500 5.5.2 a line ends with CRLF and has no other CR, LF or NUL
        C> NOOP
        P< NOOP
        on",
    );
}

// DESIGN 6.5: a reply inside a body, or that nothing explains, ends the session; 421 is always explained.
#[test]
fn replies_out_of_turn() {
    let gone = "C< 421 4.3.0 service not available\nstop";
    for said in ["250 what", "354 go", "no reply at all", "220 again"] {
        clear(&[], &format!("P> 220 mx\nC< 220 mx\nP> {said}\n{gone}"));
    }
    clear(&[], &format!("P> 220 mx\nC< 220 mx\nC> XX\nP< XX\nP> 354 go\n{gone}"));
    let data = "P> 220 mx\nC< 220 mx\nC> DATA\nP< DATA\nP> 354 go\nC< 354 go";
    clear(&[], &format!("{data}\nP> 451 no\n{gone}"));
    clear(&[], &format!("{data}\nP> 421 down\nC< 421 down\non\nP.\nstop"));
    clear(&[], "P> 220 mx\nC< 220 mx\nP> 421 idle\nC< 421 idle\non\nP.\nstop");
}

// DESIGN 2: program gone where a reply is due: 421; where none is due, just the end.
#[test]
fn programs_that_go() {
    clear(&[], "P.\nC< 421 4.3.0 service not available\nstop");
    clear(&[], "P> 220 mx\nC< 220 mx\nP.\nstop");
    clear(
        &[],
        "P> 220 mx\nC< 220 mx\nC> NOOP\nP< NOOP\nP.\nC< 421 4.3.0 service not available\nstop",
    );
}

// RFC 5321 4.1.1.10: QUIT is the last command, and what is behind it is owed nothing.
#[test]
fn a_command_behind_quit() {
    clear(
        &[],
        r"
        P> 220 mx
        C< 220 mx
        C> QUIT\r\nNOOP
        P< QUIT
        P> 221 bye
        C< 221 bye
        P< NOOP
        P.
        stop",
    );
}

// RFC 5321 4.1.1.1, 2.4: an unfinished command is no command; DESIGN 2: half-close passes on.
#[test]
fn clients_that_go() {
    clear(
        &[],
        r"
        P> 220 mx
        C< 220 mx
        C> EHLO x\r\nNOOP\r\nQUI\c
        P< EHLO x
        C.
        on
        P> 250 mx
        C< 250-mx\r\n250 STARTTLS
        P< NOOP
        hang up
        P> 250 ok
        C< 250 ok
        P.
        stop",
    );
}

// RFC 5321 3.8: 421 between replies.
#[test]
fn termination() {
    clear(&[], "P> 220 mx\nC< 220 mx\nte\nC< 421 4.3.2 shutting down\nstop");
    clear(
        &[],
        r"
        P> 220 mx
        C< 220 mx
        C> NOOP\r\nNOOP
        P< NOOP\r\nNOOP
        P> 250 o\c
        te
        on
        P> k\r\n250-o\r\n\c
        P> 250 k
        C< 250 ok\r\n250-o\r\n250 k
        C< 421 4.3.2 shutting down
        stop",
    );
}

// RFC 3207 4: where TLS is required.
#[test]
fn required_tls() {
    clear(
        &[("FORCE_TLS", "1")],
        r"
        P> 220 mx
        C< 220 mx
        C> EHLO x
        P< EHLO x
        P> 502 no
        C< 502 no
        C> MAIL FROM:<a@b>\r\nBDAT 3\r\nabcNOOP
        C< 530 5.7.0 Must issue a STARTTLS command first
        C< 530 5.7.0 Must issue a STARTTLS command first
        P< NOOP
        P> 250 ok
        C< 250 ok
        on",
    );
}

// DESIGN 2: -k keeps the one program: RSET sent, its reply swallowed; 503 inside a transaction or after a 235.
#[test]
fn a_kept_program() {
    let mut policy = policy(&[("ALLOW_INSECURE_AUTH", "1")]);
    policy.keep = true;
    let late = "C< 503 5.5.1 STARTTLS comes before MAIL and AUTH";
    for (before, after) in
        [(r"C> MAIL FROM:<a@b>\r\nSTARTTLS", ""), ("C> AUTH PLAIN AGEAYg==\nC> STARTTLS", "35")]
    {
        let code = if after.is_empty() { "250" } else { "235" };
        let passed =
            before.lines().next().unwrap().replace("C> ", "P< ").replace(r"\r\nSTARTTLS", "");
        let script = format!(
            "P> 220 mx\nC< 220 mx\n{before}\n{passed}\nP> {code} ok\nC< {code} ok\n{late}\non"
        );
        play(Wrap::in_clear(policy), &script, false);
    }
    play(
        Wrap::in_clear(policy),
        "P> 220 mx\nC< 220 mx\nC> MAIL x\nP< MAIL x\nP> 250 ok\nC< 250 ok\nC> RSET\nP< RSET\nP> 250 ok\nC< 250 ok\nC> STARTTLS\ntls",
        true,
    );
    let kept = || {
        let mut out = Outbox::default();
        let wrap = Wrap::with_kept_program(policy, &mut out);
        assert_eq!(out.server, b"RSET\r\n");
        wrap
    };
    play(kept(), "C> EHLO x\nP> 250 flushed\nP< EHLO x\nP> 250 mx\nC< 250 mx\non", true);
    play(kept(), "P> 502 what\nC< 421 4.3.0 service not available\nstop", true);
}
