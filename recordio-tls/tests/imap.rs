//! What is shown and hidden of IMAP sessions.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic
)]

mod common;

use common::{ALL, DEFAULT, cut, log, shows, singly, steps};
use recordio_tls::message::Show;
use recordio_tls::redact::Settings;

// RFC 9051 6.2.3: user and password as atoms, quoted strings and literals in any mix; RFC 7888: literals that do not wait.
#[test]
fn login_in_all_its_forms() {
    shows(
        DEFAULT,
        "S: * OK [CAPABILITY IMAP4rev1] ready
         C: a1 LOGIN test secret
         S: a1 NO [AUTHENTICATIONFAILED] not secret
         C: a2 login \"te st\" \"s\\\\\"ecret\"
         S: * BAD you said secret
         S: a2 NO no
         C: a3 LOGIN {4}
         S: + go
         C: test {6}
         S: + go
         C: secret
         S: a3 NO
         C: a4 LOGIN {4+}\\r\\ntest {6+}\\r\\nsecret
         S: a4 OK [CAPABILITY secret] in
         C: a5 LOGIN test {6}
         S: a5 NO not like that
         C: a6 NOOP
         S: a6 OK done
         C: a7 LOGOUT
         S: * BYE bye
         S: a7 OK done",
        "> * OK [CAPABILITY IMAP4rev1] ready
         < a1 LOGIN [redacted 11]
         > a1 NO [redacted 33]
         < a2 login [redacted 18]
         > * BAD [redacted 15]
         > a2 NO [redacted 2]
         < a3 LOGIN [redacted 3]
         > + go
         < [redacted 4]+
         < [redacted 4]
         > + go
         < [redacted 6]+
         > a3 NO
         < a4 LOGIN [redacted 4]
         < [redacted 4]+
         < [redacted 5]
         < [redacted 6]+
         > a4 OK [redacted 22]
         < a5 LOGIN [redacted 8]
         > a5 NO [redacted 13]
         < a6 NOOP
         > a6 OK done
         < a7 LOGOUT
         > * BYE bye
         > a7 OK done",
    );
}

// RFC 9051 6.2.2, RFC 4959: AUTHENTICATE with and without an initial response, refused, cancelled, with lines behind it.
#[test]
fn authenticate_in_all_its_forms() {
    shows(
        DEFAULT,
        "S: * OK hi
         C: a1 AUTHENTICATE PLAIN AHRlc3QAc2VjcmV0
         S: a1 NO no
         C: a2 AUTHENTICATE PLAIN
         S: +
         C: AHRlc3QAc2VjcmV0
         S: a2 NO no
         C: a3 authenticate CRAM-MD5
         S: + PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2U+
         C: *
         S: a3 BAD cancelled
         C: a4 AUTHENTICATE LOGIN\\r\\ndGVzdA==\\r\\nc2VjcmV0
         S: a4 NO LOGIN is not offered
         S: dGVzdA== BAD what
         S: c2VjcmV0 BAD what
         C: a5 XSECRET secret
         S: a5 BAD secret?
         C: a6 AUTHENTICATE c2VjcmV0
         S: a6 NO",
        "> * OK hi
         < a1 AUTHENTICATE PLAIN [redacted 16]
         > a1 NO [redacted 2]
         < a2 AUTHENTICATE PLAIN
         > + \n         < [redacted 16]
         > a2 NO [redacted 2]
         < a3 authenticate CRAM-MD5
         > + [redacted 36]
         < *
         > a3 BAD [redacted 9]
         < a4 AUTHENTICATE LOGIN
         > a4 NO [redacted 20]
         < [redacted 8]
         < [redacted 8]
         > [redacted 8] BAD [redacted 4]
         > [redacted 8] BAD [redacted 4]
         < [redacted 17]
         > [redacted 2] BAD [redacted 7]
         < a6 AUTHENTICATE [redacted 8]
         > a6 NO",
    );
}

#[test]
fn users_on_demand() {
    shows(
        Settings { users: true, ..DEFAULT },
        "S: * OK hi
         C: a LOGIN test secret
         S: a NO
         C: b LOGIN \"te\\\\\\\\st\" secret
         S: b NO
         C: c LOGIN {4+}\\r\\ntest secret
         S: c NO
         C: d LOGIN secret
         S: d BAD",
        "> * OK hi
         < a LOGIN [redacted 11 user=test]
         > a NO
         < b LOGIN [redacted 15 user=te\\x5cst]
         > b NO
         < c LOGIN [redacted 4]
         < [redacted 4]+
         < [redacted 7]
         > c NO
         < d LOGIN [redacted 6]
         > d BAD",
    );
}

// Octets are counted, not lines; mail is a size.
#[test]
fn literals_and_mail() {
    let script = "
         S: * PREAUTH hi
         C: a APPEND inbox (\\\\Seen) {17}
         S: + go
         C: S: x\\r\\n\\r\\na LOGIN
         C:
         S: a OK done
         C: b SEARCH SUBJECT {6+}\\r\\nsecret ALL
         S: * SEARCH 1 2
         S: b OK done
         C: c UID FETCH 1 (BODY[])
         S: * 1 FETCH (UID 7 BODY[] {10}\\r\\nc OK\\r\\n+ x\\n FLAGS ())
         S: * 3 EXISTS
         S: c OK done
         C: d IDLE
         S: + idling
         S: * 4 EXISTS
         C: DONE
         S: d OK done
         C: e SELECT inbox
         S: * FLAGS (x)
         S: * URLFETCH secret
         S: e OK [READ-WRITE] done
         C: f XFOO secret
         S: f BAD secret";
    shows(
        DEFAULT,
        script,
        "> * PREAUTH hi
         < a APPEND [redacted 18]
         > + go
         < [literal 17 bytes 3 lines]
         > a OK done
         < b SEARCH SUBJECT {6+}
         < [redacted 6]+
         < [redacted 4]
         > * SEARCH 1 2
         > b OK done
         < c UID FETCH 1 (BODY[])
         > * 1 FETCH [redacted 18]
         > [literal 10 bytes 2 lines]
         > [redacted 10]
         > * 3 EXISTS
         > c OK done
         < d IDLE
         > + idling
         > * 4 EXISTS
         < DONE
         > d OK done
         < e SELECT inbox
         > * FLAGS (x)
         > * URLFETCH [redacted 6]
         > e OK [READ-WRITE] done
         < [redacted 13]
         > [redacted 1] BAD [redacted 6]",
    );
    let whole = log(ALL, &steps(script));
    assert!(whole.contains("> c OK\\r \n> + x \n>  FLAGS ())\\r \n"), "{whole}");
    let header = log(Settings { show: Show::Header, users: false }, &steps(script));
    assert!(header.contains("< S: x\\r \n< \\r \n< [literal 17 bytes"), "{header}");
}

// RFC 2177 3: the server's `+` for IDLE is none for the literal of a command behind it.
#[test]
fn each_plus_has_its_command() {
    shows(
        DEFAULT,
        "S: * OK hi
         C: a IDLE\\r\\nDONE\\r\\nb APPEND x {3}
         S: + idling
         S: a OK done
         S: + go
         C: abc
         S: b OK done",
        "> * OK hi
         < a IDLE
         < DONE
         < b APPEND [redacted 5]
         > + idling
         > a OK done
         > + go
         < [literal 3 bytes 0 lines]
         > b OK done",
    );
}

// What is too odd to have a tag is answered by an untagged BAD, and then all is well again.
#[test]
fn an_empty_line_hides_no_later_reply() {
    let log = log(DEFAULT, &steps("S: * OK hi\nC:\nS: * BAD what\nC: a NOOP\nS: a OK done"));
    assert!(log.contains("> * BAD [redacted 4]") && log.contains("> a OK done"), "{log}");
}

// DESIGN 5: where the stream becomes ambiguous, nothing more of it is shown.
#[test]
fn ambiguity_ends_the_story() {
    for odd in [
        "C: a NOOP\\ra LOGIN u secret",
        "C: a NOOP\\0",
        "C: a SEARCH x{3+}",
        "C: a SEARCH {99999999999999999999}",
        "S: + secret",
        "S: z OK secret",
        "C: a NOOP\nS: + secret",
    ] {
        let log = log(ALL, &steps(&format!("S: * OK\n{odd}\nC: x LOGIN u secret\nS: x OK secret")));
        assert!(log.contains("not shown from here on") && !log.contains("secret"), "{odd}\n{log}");
    }
}

#[test]
fn starttls() {
    let log = |script: &str| log(DEFAULT, &steps(&format!("S: * OK\n{script}")));
    let begun = log("C: a STARTTLS\nS: a OK go\nC: \\x16\\x03\\x01\\0\\x01...");
    assert!(begun.contains("- [TLS < 1 records"), "{begun}");
    let injected = log("C: a STARTTLS\\r\\nb LOGIN u secret\nS: a OK go");
    assert!(injected.contains("[INJECTION: 18 bytes") && !injected.contains("secret"));
    let refused = log("C: a STARTTLS\nS: a BAD no\nC: b NOOP\nS: b OK");
    assert!(refused.contains("< b NOOP") && !refused.contains("INJECTION"), "{refused}");
}

#[test]
fn the_log_does_not_depend_on_segments() {
    let session = steps(
        "S: * OK hi
         C: a LOGIN {4+}\\r\\nte\\r\\n {8+}\\r\\n\\r\\nb NOOP\\r\\nb AUTHENTICATE LOGIN\\r\\ndGVzdA==\\r\\nc2VjcmV0\\r\\nc APPEND x {3+}\\r\\na\\r\\n\\r\\nd LOGOUT
         S: a NO\\r\\n+ VXNlcm5hbWU6\\r\\n+ UGFzc3dvcmQ6\\r\\nb NO x\\r\\n* 1 FETCH ({3}\\r\\n\\r\\n* x)\\r\\nc OK\\r\\nd OK",
    );
    let whole = log(DEFAULT, &session);
    assert!(whole.contains("> d OK") && !whole.contains("NOOP"), "{whole}");
    assert_eq!(log(DEFAULT, &singly(&session)), whole);
    for offset in 0..120 {
        assert_eq!(log(DEFAULT, &cut(&session, offset)), whole, "cut at {offset}");
    }
}
