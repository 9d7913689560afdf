//! What a program may answer to a recipient.

use super::*;

/// Whatever stands in a reply to RCPT, its last line says whether there is a ghost.
#[test]
fn every_answer_to_a_recipient_that_must_wait() {
    let step = "421 4.3.0 lost step with the mail server\n";
    for (reply, heard, ghost) in [
        ("250 ok\r\n", GREY, true),
        ("251 will forward\r\n", GREY, true),
        ("252 will see\r\n", GREY, true),
        ("250-one\r\n250 two\r\n", GREY, true),
        ("250-one\r\n550 two\r\n", "550 two\n", false),
        ("452 too many\r\n", "452 too many\n", false),
        ("552 too much\r\n", "552 too much\n", false),
        ("421 closing\r\n", "421 closing\n", false),
        ("354 go ahead\r\n", step, false),
        ("334 \r\n", step, false),
        ("nonsense\r\n", step, false),
        ("250 ok\r250 ok\r\n", step, false),
    ] {
        let site = Site::new();
        let mut session = Session::new(&site, usize::MAX);
        session.client(b"MAIL FROM:<a@x.example>\r\n");
        let before = session.heard.len();
        let mut out = Outbox::default();
        session.gate.bytes(Side::Client, b"RCPT TO:<b@y.example>\r\n", &mut out);
        for byte in reply.as_bytes().chunks(1) {
            assert!(out.client.is_empty() || !out.stop);
            session.gate.bytes(Side::Server, byte, &mut out);
        }
        assert_eq!(text(&out.client), heard, "{reply}");
        assert_eq!(text(&session.heard[before..]), "");
        assert_eq!(site.store.0.borrow().waiting.len(), usize::from(ghost), "{reply}");
        out = Outbox::default();
        session.gate.bytes(Side::Client, b"DATA\r\n", &mut out);
        assert_eq!(out.server == b"RSET\r\n", ghost, "{reply}");
    }
}

#[test]
fn recipients_without_mail_that_the_program_takes_end_the_session() {
    let site = Site::new().smtpd(Smtpd::with(Quirk::Lax));
    let played = site.play_split(b"SAML FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n");
    assert!(
        played.heard.ends_with("502 unimplemented\n421 4.3.0 lost step with the mail server\n"),
        "{}",
        played.heard
    );
    assert!(played.stopped);
}
