//! What is shown and hidden of POP3 sessions.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic
)]

mod common;

use common::{ALL, DEFAULT, cut, log, shows, singly, steps};
use recordio_tls::redact::Settings;

// PASS (blanks and all), APOP's digest and the banner's stamp are hidden, the user is shown.
#[test]
fn a_session_with_every_secret() {
    shows(
        DEFAULT,
        "S: +OK POP3 <1896.697170952@dbc> ready
         C: USER test
         S: +OK send secret
         C: pass\\tmy secret word
         S: -ERR wrong: my secret word
         C: APOP test c4c9334bac560ecc979e58001b3e22fb
         S: +OK c4c9334bac560ecc979e58001b3e22fb
         C: APOP secret
         S: -ERR
         C: AUTH
         S: +OK
         S: PLAIN
         S: .
         C: AUTH PLAIN AHRlc3QAc2VjcmV0
         S: -ERR [AUTH] no
         C: AUTH LOGIN
         S: + VXNlcm5hbWU6
         C: dGVzdA==
         S: + UGFzc3dvcmQ6
         C: c2VjcmV0
         S: -ERR no
         C: AUTH CRAM-MD5
         S: + PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2U+
         C: *
         S: -ERR no
         C: secret
         S: -ERR unknown secret
         C: QUIT
         S: +OK bye",
        "> +OK POP3 [redacted 26]
         < USER test
         > +OK send secret
         < pass [redacted 14]
         > -ERR [redacted 21]
         < APOP test [redacted 32]
         > +OK [redacted 32]
         < APOP [redacted 6]
         > -ERR
         < AUTH
         > +OK
         > PLAIN
         > .
         < AUTH PLAIN [redacted 16]
         > -ERR [redacted 9]
         < AUTH LOGIN
         > + VXNlcm5hbWU6
         < [redacted 8]
         > + UGFzc3dvcmQ6
         < [redacted 8]
         > -ERR [redacted 2]
         < AUTH CRAM-MD5
         > + [redacted 36]
         < *
         > -ERR [redacted 2]
         < [redacted 6]
         > -ERR [redacted 14]
         < QUIT
         > +OK bye",
    );
}

// RFC 1939 3, 5: lists and messages end with a line that is a dot.
#[test]
fn lists_and_messages() {
    let script = "
         S: +OK hi
         C: CAPA\\r\\nLIST\\r\\nLIST 1\\r\\nRETR 1\\r\\nTOP 1 0\\r\\nRETR 9\\r\\nNOOP
         S: +OK\\r\\nUSER\\r\\n.\\r\\n+OK 2\\r\\n1 20\\r\\n2 30\\r\\n.\\r\\n+OK 1 20
         S: +OK 20\\r\\nSubject: x\\r\\n\\r\\n..dot\\n.\\nsecret\\r\\n.
         S: +OK\\r\\nSubject: x\\r\\n\\r\\n.\\r\\n-ERR none\\r\\n+OK";
    let expected = |one: &str, two: &str| {
        format!(
            "> +OK hi\n< CAPA\n< LIST\n< LIST 1\n< RETR 1\n< TOP 1 0\n< RETR 9\n< NOOP\n\
             > +OK\n> USER\n> .\n> +OK 2\n> 1 20\n> 2 30\n> .\n> +OK 1 20\n> +OK 20\n{one}\n\
             > +OK\n{two}\n> -ERR none\n> +OK"
        )
    };
    let two = "> [message 14 bytes 2 lines]";
    shows(DEFAULT, script, &expected("> [message 30 bytes 5 lines]", two));
    let one = "> Subject: x\n> \n> ..dot \n> . \n> secret\n> .";
    let whole = log(ALL, &steps(script));
    for line in one.lines() {
        assert!(whole.contains(line), "{line}\n{whole}");
    }
}

#[test]
fn users_on_demand() {
    shows(
        Settings { users: true, ..DEFAULT },
        "S: +OK
         C: AUTH PLAIN AHRlc3QAc2VjcmV0
         S: +OK",
        "> +OK
         < AUTH PLAIN [redacted 16 user=test]
         > +OK",
    );
}

// DESIGN 5: where the stream becomes ambiguous, nothing more of it is shown.
#[test]
fn ambiguity_ends_the_story() {
    for odd in ["C: NOOP\\rPASS secret", "S: secret", "S: + secret", "S: +OK", "S: +OKAY secret"] {
        let log = log(ALL, &steps(&format!("S: +OK\n{odd}\nC: PASS secret\nS: +OK secret")));
        assert!(log.contains("not shown from here on") && !log.contains("secret"), "{odd}\n{log}");
    }
}

// RFC 2595 4: TLS begins behind the CRLF of the reply to STLS.
#[test]
fn stls() {
    let log = |script: &str| log(DEFAULT, &steps(&format!("S: +OK\n{script}")));
    let begun = log("C: STLS\nS: +OK go\nC: \\x16\\x03\\x01\\0\\x01...");
    assert!(begun.contains("- [TLS < 1 records"), "{begun}");
    let injected = log("C: STLS\\r\\nPASS secret\nS: +OK go");
    assert!(injected.contains("[INJECTION: 13 bytes") && !injected.contains("secret"));
    let refused = log("C: STLS\nS: -ERR no\nC: NOOP\nS: +OK");
    assert!(refused.contains("< NOOP") && !refused.contains("INJECTION"), "{refused}");
}

#[test]
fn the_log_does_not_depend_on_segments() {
    let session = steps(
        "S: +OK <1@2>
         C: AUTH LOGIN\\r\\ndGVzdA==\\r\\nc2VjcmV0\\r\\nUSER u\\r\\nPASS p q\\r\\nRETR 1\\r\\nLIST\\r\\nQUIT
         S: + VXNlcm5hbWU6\\r\\n+ UGFzc3dvcmQ6\\r\\n-ERR no\\r\\n+OK\\r\\n+OK\\r\\n+OK\\r\\nx\\r\\n\\r\\n..\\r\\n.\\r\\n+OK\\r\\n.\\r\\n+OK",
    );
    let whole = log(DEFAULT, &session);
    assert!(whole.contains("> [message 9 bytes 3 lines]"), "{whole}");
    assert_eq!(log(DEFAULT, &singly(&session)), whole);
    for offset in 0..100 {
        assert_eq!(log(DEFAULT, &cut(&session, offset)), whole, "cut at {offset}");
    }
}
