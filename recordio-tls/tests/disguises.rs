//! Secrets in POP3 and IMAP, in whatever form they come.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::expect_used)]
#![allow(clippy::panic)]

mod common;

use common::never_seen;

// RFC 1939 7, RFC 5034.
#[test]
fn pop3_in_every_disguise() {
    for said in [
        "C: PASS hunter2hunter2 hunter2hunter2\nS: -ERR hunter2hunter2",
        "C:  pAsS\\thunter2hunter2\nS: -ERR no",
        "C: PASS  hunter2hunter2\\n...\nS: -ERR no",
        "C: PASS hunter2hunter2...",
        "C: PASS\\x00hunter2hunter2\nS: -ERR no",
        "C: PASS hunter2\\rhunter2hunter2\nS: -ERR no",
        "C: APOP hunter2hunter2\nS: -ERR no",
        "C: APOP user hunter2hunter2 hunter2hunter2\nS: -ERR no",
        "C: AUTH PLAIN\nS: + \nC: AHRlc3QAaHVudGVyMmh1bnRlcjI=\nS: -ERR AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "C: AUTH PLAIN\nS: +\nC: AHRlc3QAaHVudGVyMmh1bnRlcjI=\nS: +OK",
        "C: AUTH CRAM-MD5\nS: + aHVudGVyMmh1bnRlcjI=\nC: *\\r\\nhunter2hunter2\nS: -ERR no\nS: -ERR hunter2hunter2",
        "C: AUTH hunter2hunter2\nS: -ERR no",
        "C: XAUTH hunter2hunter2\nS: -ERR hunter2hunter2",
        "C: USER test hunter2hunter2\nS: -ERR not hunter2hunter2",
        "C: RPOP hunter2hunter2\nS: -ERR no",
    ] {
        never_seen(&format!("S: +OK hi <hunter2hunter2@mx>\n{said}"));
    }
}

// RFC 9051 4.3, 6.2.2, 6.2.3: quoted strings with escapes, literals anywhere, odd tags, initial responses.
#[test]
fn imap_in_every_disguise() {
    for said in [
        "C: a LOGIN test hunter2hunter2\nS: a NO hunter2hunter2",
        "C: a login \"te\\\\\"st\" \"hunter2\\\\\\\\hunter2\\\\\"\"\nS: a NO",
        "C: a LOGIN \"hunter2hunter2\"\nS: a BAD",
        "C: a LOGIN hunter2hunter2 \nS: a BAD",
        "C: a LOGIN \"hunter2hunter2\nS: a BAD",
        "C: a LOGIN {4}\nS: + go\nC: test {14}\nS: + go\nC: hunter2hunter2\nS: a NO hunter2hunter2",
        "C: a LOGIN {4+}\\r\\ntest {14+}\\r\\nhunter2hunter2\nS: a NO",
        "C: a LOGIN {4+}\\r\\ntest \"hunter2hunter2\"\nS: a NO",
        "C: a LOGIN test {14+}\\r\\nhunter2hunter2\nS: a OK",
        "C: a LOGIN test {14+} \\r\\nhunter2hunter2\nS: a BAD\nS: hunter2hunter2 BAD",
        "C: a LOGIN test {14}\nS: a NO\nC: hunter2hunter2\nS: hunter2hunter2 BAD",
        "C: a LOGIN {2}...",
        "C: a LOGIN {14+}\\r\\nhunter2...",
        "C: a AUTHENTICATE PLAIN AHRlc3QAaHVudGVyMmh1bnRlcjI=\nS: a NO",
        "C: a AUTHENTICATE PLAIN\nS: +\nC: AHRlc3QAaHVudGVyMmh1bnRlcjI=\nS: a NO AHRlc3QAaHVudGVyMmh1bnRlcjI=",
        "C: a AUTHENTICATE LOGIN\\r\\ndGVzdA==\\r\\naHVudGVyMmh1bnRlcjI=\nS: a NO no\nS: dGVzdA== BAD\nS: * BAD aHVudGVyMmh1bnRlcjI=",
        "C: a AUTHENTICATE hunter2hunter2\nS: a NO",
        "C: a+b LOGIN test hunter2hunter2\nS: a+b NO hunter2hunter2",
        "C: hunter2+hunter2+hunter2 LOGIN test hunter2hunter2\nS: hunter2+hunter2+hunter2 NO hunter2hunter2",
        "C: . LOGIN test hunter2hunter2\nS: . NO hunter2hunter2",
        "C: a ID (\"token\" \"hunter2hunter2\")\nS: * ID (\"token\" \"hunter2hunter2\")\nS: a OK hunter2hunter2",
        "C: a GENURLAUTH \"imap://x\" INTERNAL\nS: * GENURLAUTH \"imap://x:internal:hunter2hunter2\"\nS: a OK",
        "C: a GENURLAUTH \"imap://x\" INTERNAL\nS: * GENURLAUTH {14}\nS: hunter2hunter2 hunter2hunter2\nS: a OK",
        "C: a APPEND x CATENATE (URL {14+}\\r\\nhunter2hunter2)\nS: a NO hunter2hunter2",
        "C: a APPEND {5+}\\r\\ninbox CATENATE (URL {14+}\\r\\nhunter2hunter2)\nS: a NO hunter2hunter2",
        "C: a IDLE\nS: + idling\nC: hunter2hunter2\nS: a BAD hunter2hunter2",
    ] {
        never_seen(&format!("S: * OK hi\n{said}"));
    }
}

// RFC 4978: what is compressed cannot be told apart.
#[test]
fn compression_ends_the_story() {
    let log = never_seen(
        "S: * OK\nC: a COMPRESS DEFLATE\nS: a OK go\nC: hunter2hunter2\nS: hunter2hunter2",
    );
    assert!(log.contains("not shown from here on: it is compressed"), "{log}");
    let log = never_seen("S: * OK\nC: a COMPRESS DEFLATE\nS: a NO\nC: b NOOP\nS: b OK done");
    assert!(log.contains("> b OK done"), "{log}");
}
