//! Secrets where none belong: typed as commands, behind commands, in the wrong protocol, and repeated by servers out of turn.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::expect_used)]
#![allow(clippy::panic)]

mod common;

use common::{DEFAULT, all_cuts, log, never_seen, shows, steps};
use recordio_tls::redact::Settings;

// A word that is no command may be the password of somebody who typed too early, or whose client is out of step.
#[test]
fn a_password_is_no_command() {
    for (greeting, refusal) in [("220 mx", "500"), ("+OK", "-ERR"), ("* OK", "hunter2hunter2 BAD")]
    {
        let log =
            never_seen(&format!("S: {greeting}\nC: hunter2hunter2\nS: {refusal} hunter2hunter2?"));
        assert!(log.contains("< [redacted 14]"), "{log}");
        never_seen(&format!("S: {greeting}\nC: hunter2hunter2 hunter2hunter2\nS: {refusal} what"));
        never_seen(&format!("S: {greeting}\nC: hunter2hunter2..."));
    }
    for word in ["hunter", "hunt", "unte"] {
        never_seen(&format!("S: 220 mx\nC: {word}\nS: 500 {word}?"));
        never_seen(&format!("S: +OK\nC: {word}\nS: -ERR {word}?"));
        never_seen(&format!("S: * OK\nC: {word}\nS: {word} BAD what"));
        never_seen(&format!("S: * OK\nC: a {word}\nS: a BAD {word}?"));
    }
}

// RFC 5321 3.8, RFC 9051 7.1.5: a server that closes says so unasked, and may say what it has heard last.
#[test]
fn a_goodbye_repeats_no_password() {
    for script in [
        "S: 220 mx\nC: hunter2hunter2\nS: 500 what\nS: 421 too many errors, last hunter2hunter2",
        "S: 220 mx\nC: AUTH PLAIN aHVudGVyMmh1bnRlcjI=\nS: 535 no\nS: 421 4.7.0 no hunter2hunter2 here",
        "S: * OK\nC: hunter2hunter2\nS: hunter2hunter2 BAD what\nS: * BYE last hunter2hunter2",
        "S: * OK\nC: a LOGIN u hunter2hunter2\nS: a NO\nS: * BYE no hunter2hunter2 here",
    ] {
        never_seen(script);
    }
}

// RFC 5321 4.1.1, RFC 1939, RFC 9051 6: commands without arguments; what stands behind them is a slip.
#[test]
fn nothing_is_shown_behind_commands_that_take_nothing() {
    for verb in ["QUIT", "RSET", "DATA", "STARTTLS", "noop"] {
        let log = never_seen(&format!(
            "S: 220 mx\nC: {verb} hunter2hunter2\nS: 501 no hunter2hunter2 here"
        ));
        assert!(log.contains(&format!("< {verb} [redacted 14]")), "{log}");
    }
    for verb in ["QUIT", "STAT", "RSET", "NOOP", "capa", "STLS"] {
        never_seen(&format!("S: +OK\nC: {verb} hunter2hunter2\nS: -ERR no hunter2hunter2 here"));
    }
    for verb in ["LOGOUT", "noop", "CAPABILITY", "STARTTLS", "IDLE", "CHECK", "EXPUNGE"] {
        never_seen(&format!(
            "S: * OK\nC: a {verb} hunter2hunter2\nS: a BAD no hunter2hunter2 here"
        ));
    }
}

// RFC 4954 4: whatever the letters and blanks, and whoever runs ahead, is refused, cancels or gives up.
#[test]
fn auth_in_every_disguise() {
    for line in [
        "AUTH PLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "auth plain AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        " aUtH\\t \\tpLaIn\\t AHRlc3QAaHVudGVyMmh1bnRlcjI= ",
        "AUTH\\x0bPLAIN\\x0cAHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "AUTH PLAIN\\xa0AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "AUTH=PLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "AUTHPLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "AUTH AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "AUTH PLAIN test hunter2hunter2",
        "AUTH LOGIN dGVzdA== aHVudGVyMmh1bnRlcjI=",
        "AUTH XHUNTER hunter2hunter2",
        "\\x00AUTH PLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "AUTH PLAIN\\x00AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "\\xefAUTH PLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "AUTH PLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=\\rNOOP",
        "EHLO x\\rAUTH PLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "MAIL FROM:<>\\x00AUTH PLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=",
    ] {
        let greeted = "S: 220 mx\nC: EHLO x\nS: 250 AUTH PLAIN LOGIN";
        never_seen(&format!("{greeted}\nC: {line}\nS: 535 you said {line}\nC: QUIT\nS: 221 bye"));
        never_seen(&format!("{greeted}\nC: {line}\\n...\nS: 500 {line}?"));
        never_seen(&format!("{greeted}\nC: {line}..."));
        let log = never_seen(&format!(
            "{greeted}\nC: NOOP\\r\\n{line}\\r\\nQUIT\nS: 250 ok\nS: 535 {line}\nS: 221 bye"
        ));
        assert!(log.contains("< NOOP"), "{log}");
    }
}

#[test]
fn exchanges_that_go_wrong() {
    let greeted = "S: 220 mx\nC: EHLO x\nS: 250-AUTH PLAIN LOGIN\nS: 250 STARTTLS\n";
    for (what, said) in [
        (
            "behind several lines",
            "C: AUTH PLAIN\nS: 334-aHVudGVyMmh1bnRlcjI=\nS: 334 \nC: AHRlc3QAaHVudGVyMmh1bnRlcjI=\nS: 535-hunter2hunter2\nS: 535 no",
        ),
        (
            "cancelled, then pipelined",
            "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: *\\r\\ndGVzdA==\\r\\naHVudGVyMmh1bnRlcjI=\nS: 501 no\nS: 500 dGVzdA==\nS: 500 aHVudGVyMmh1bnRlcjI=",
        ),
        (
            "before any 334",
            "C: AUTH LOGIN\\r\\ndGVzdA==\\r\\naHVudGVyMmh1bnRlcjI=\nS: 334 VXNlcm5hbWU6\nS: 334 UGFzc3dvcmQ6\nS: 235 welcome",
        ),
        (
            "refused at once",
            "C: AUTH LOGIN\\r\\ndGVzdA==\\r\\naHVudGVyMmh1bnRlcjI=\nS: 538 no\nS: 500 dGVzdA==\nS: 502 aHVudGVyMmh1bnRlcjI=",
        ),
        (
            "one answer too many",
            "C: AUTH LOGIN dGVzdA==\\r\\naHVudGVyMmh1bnRlcjI=\\r\\naHVudGVyMmh1bnRlcjI=\nS: 334 UGFzc3dvcmQ6\nS: 535 no\nS: 500 aHVudGVyMmh1bnRlcjI=",
        ),
        (
            "another prompt",
            "C: AUTH LOGIN =\nS: 334 cGFzc3dvcmQ=\nC: aHVudGVyMmh1bnRlcjI=\nS: 535 no",
        ),
        ("no prompt", "C: AUTH LOGIN =\nS: 334 \nC: aHVudGVyMmh1bnRlcjI=\nS: 535 no"),
        ("no prompt at all", "C: AUTH LOGIN\nS: 334 \nC: aHVudGVyMmh1bnRlcjI=\nS: 535 no"),
        ("PLAIN without its first part", "C: AUTH PLAIN dGVzdABodW50ZXIyaHVudGVyMg==\nS: 535 no"),
        ("PLAIN of one part too many", "C: AUTH PLAIN AABodW50ZXIyaHVudGVyMgA=\nS: 535 no"),
        (
            "the answer as it is",
            "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: test\nS: 334 UGFzc3dvcmQ6\nC: hunter2hunter2\nS: 535 hunter2hunter2",
        ),
        (
            "an empty answer",
            "C: AUTH PLAIN\nS: 334 \nC:\nS: 501 no\nC: hunter2hunter2\nS: 500 hunter2hunter2",
        ),
        (
            "TLS refused",
            "C: STARTTLS\nS: 454 no\nC: AUTH PLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=\nS: 535 no",
        ),
        (
            "an answer behind the end",
            "C: AUTH PLAIN\nS: 334 \nC: AHRlc3QAaHVudGVyMmh1bnRlcjI=...\nS: 421 bye",
        ),
    ] {
        let log = never_seen(&format!("{greeted}{said}"));
        assert!(log.contains("AUTH"), "{what}: {log}");
    }
}

// Servers answer an empty line or not, and some answer twice: the words of a reply may belong to another command.
#[test]
fn a_reply_out_of_turn_is_not_trusted() {
    never_seen("S: 220 mx\nC: \\r\\nNOOP\\r\\nhunter2hunter2\nS: 250 ok\nS: 500 hunter2hunter2?");
    never_seen(
        "S: 220 mx\nC: NOOP\\r\\nhunter2hunter2\\r\\nRSET\nS: 250 ok\nS: 250 twice\nS: 500 hunter2hunter2?",
    );
    never_seen(
        "S: +OK\nC: USER u\\r\\nPASS hunter2hunter2\\r\\nSTAT\nS: +OK\nS: +OK\nS: -ERR hunter2hunter2",
    );
    never_seen("S: +OK\nC: \\r\\nPASS hunter2hunter2\nS: -ERR hunter2hunter2");
    never_seen("S: +OK\nC: CAPA\nS: +OK\nC: PASS hunter2hunter2\nS: -ERR hunter2hunter2");
    never_seen("S: * OK\nC: a NOOP\\r\\na LOGIN test hunter2hunter2\nS: a NO hunter2hunter2");
}

// RFC 4954 5, Postfix' XCLIENT and XFORWARD, RFC 4468, RFC 1985.
#[test]
fn users_and_tokens_in_other_commands() {
    let script = "
        S: 220 mx
        C: MAIL FROM:<a@b> auth=test+40b SIZE=5
        S: 250 ok
        C: MAIL FROM:<a@b> AUTH=<>
        S: 250 ok
        C: XCLIENT NAME=a LOGIN=test hunter2hunter2
        S: 220 mx
        C: XFORWARD ADDR=1.2.3.4 SECRET=x
        S: 250 ok
        C: BURL imap://x;urlauth=hunter2hunter2
        S: 554 no";
    shows(
        DEFAULT,
        script,
        "> 220 mx
         < MAIL FROM:<a@b> auth=[redacted 8] SIZE=5
         > 250 ok
         < MAIL FROM:<a@b> AUTH=<>
         > 250 ok
         < XCLIENT NAME=a LOGIN=[redacted 4] [redacted 14]
         > 220 [redacted 2]
         < XFORWARD ADDR=1.2.3.4 [redacted 8]
         > 250 [redacted 2]
         < BURL [redacted 31]
         > 554 [redacted 2]",
    );
    let users = log(Settings { users: true, ..DEFAULT }, &steps(script));
    assert!(users.contains("auth=test+40b SIZE=5"), "{users}");
}

// LMTP, ManageSieve, FTP, NNTP and HTTP are other dialogues; a server that greets as one and speaks another.
#[test]
fn other_protocols_are_not_shown() {
    for (said, noted) in [
        (
            "S: \"IMPLEMENTATION\" \"x\"\nS: OK\nC: AUTHENTICATE \"PLAIN\" {28+}\\r\\nAHRlc3QAaHVudGVyMmh1bnRlcjI=\nS: OK",
            "the greeting is not",
        ),
        (
            "S: 220 lmtp\nC: LHLO x\nS: 250-x\nS: 250 ok\nC: DATA\nS: 354 go\nC: x\nC: .\nS: 250 one\nS: 250 hunter2hunter2",
            "a reply that nothing explains",
        ),
        (
            "S: 220 ftp\nC: USER test\nS: 331 password\nC: PASS hunter2hunter2\nS: 230 hunter2hunter2",
            "< PASS [redacted 14]",
        ),
        (
            "S: 200 nntp\nC: AUTHINFO USER test\nS: 381 more\nC: AUTHINFO PASS hunter2hunter2\nS: 281 ok",
            "> 281 [redacted 2]",
        ),
        (
            "S: 220 mx\nC: GET / HTTP/1.1\\r\\nAuthorization: Basic aHVudGVyMmh1bnRlcjI=\\r\\nCookie: hunter2hunter2\\r\\n\nS: 500 what",
            "< [HTTP on this port]",
        ),
        (
            "S: 220 mx\nC: a LOGIN test hunter2hunter2\nS: 500 a LOGIN test hunter2hunter2?",
            "> 500 [",
        ),
        (
            "S: 220 mx\nC: PASS hunter2hunter2\nS: +OK hunter2hunter2",
            "the server does not speak SMTP",
        ),
        (
            "S: +OK\nC: a LOGIN test hunter2hunter2\nS: a OK hunter2hunter2",
            "a reply that nothing explains",
        ),
        (
            "S: +OK\nC: AUTH PLAIN\nS: 334 \nC: AHRlc3QAaHVudGVyMmh1bnRlcjI=\nS: 235 ok",
            "a reply that nothing explains",
        ),
        ("S: * OK\nC: PASS hunter2hunter2\nS: +OK hunter2hunter2", "a reply that nothing explains"),
        ("C: hunter2hunter2\nS: 220 mx\nS: 500 hunter2hunter2?", "> 220 mx"),
        ("C: hunter2hunter2", "16 bytes before any greeting"),
        ("S: hunter2hunter2\nC: hunter2hunter2", "the greeting is not"),
    ] {
        let log = never_seen(said);
        assert!(log.contains(noted), "{noted}\n{log}");
    }
}

// RFC 5321 4.5.2, RFC 3030: what looks like AUTH in a message is the message; what follows its end is a command.
#[test]
fn messages_with_dots_and_the_command_behind_them() {
    for body in [
        ".\\r\\n",
        "..\\r\\n.\\r\\n",
        "AUTH PLAIN hunter2hunter2\\r\\n..x\\r\\n.\\r\\n",
        "\\x80\\xff\\x00\\r\\n.\\r\\n",
    ] {
        let session = format!(
            "S: 220 mx\nC: DATA\nS: 354 go\nC: {body}AUTH PLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=\nS: 250 queued\nS: 535 no"
        );
        let steps = steps(&session);
        let log = log(DEFAULT, &steps);
        assert!(log.contains("< AUTH PLAIN [redacted 28]") && !log.contains("hunter"), "{log}");
        all_cuts(&steps, &log);
    }
    let log = never_seen(
        "S: 220 mx\nC: EHLO x\nS: 250 CHUNKING\nC: BDAT 3\\r\\na\\r\\nBDAT 2 LAST\\r\\n\\xff.AUTH PLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=\nS: 250 ok\nS: 250 ok\nS: 535 no",
    );
    assert!(
        log.contains("< [chunk 2 bytes") && log.contains("< AUTH PLAIN [redacted 28]"),
        "{log}"
    );
}

// A line that never ends is told at the end, too.
#[test]
fn a_line_without_an_end_is_told() {
    let long = "x".repeat(70_000);
    let log = log(DEFAULT, &steps(&format!("S: 220 mx\nC: AUTH PLAIN {long}...")));
    assert!(log.contains("< [line of more than 65536 bytes, not shown]"), "{log}");
}
