//! STARTTLS through UCSPI-TLS, with a server that only pretends.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use crate::place::{Place, Running, mail};

/// What the far ends of the three descriptors are.
struct Server {
    control: UnixStream,
    plain: UnixStream,
}

fn start(place: &Place) -> (Running, Server) {
    let (control, control_end) = UnixStream::pair().unwrap();
    let (plain, plain_end) = UnixStream::pair().unwrap();
    let running =
        place.start(&[(control_end.as_fd(), 7), (plain_end.as_fd(), 8), (plain_end.as_fd(), 9)]);
    (running, Server { control, plain })
}

fn place() -> Place {
    Place::new()
        .variable("UCSPITLS", "")
        .variable("SSLCTLFD", "7")
        .variable("SSLREADFD", "8")
        .variable("SSLWRITEFD", "9")
}

// RFC 3207 4.2: after the handshake nothing is left of what the client said before.
#[test]
fn after_the_handshake_all_is_forgotten() {
    let place = place().queue("cat >message; cat <&1 >envelope; env >variables");
    let (mut running, mut server) = start(&place);
    running.say("EHLO first.test\r\nMAIL FROM:<a@b>\r\nRCPT TO:<old@mx.test>\r\n");
    while running.hear() != "250 2.1.5 ok" {}
    running.say("STARTTLS\r\n");
    assert_eq!(running.hear(), "220 2.0.0 ready for tls");
    let mut command = [0];
    server.control.read_exact(&mut command).unwrap();
    assert_eq!(&command, b"Y");
    server.control.write_all(b"SSL_PROTOCOL=TLSv1.3\0SSL_SNI\0SSL_CIPHER=TLS_AES").unwrap();
    server.control.write_all(b"_256_GCM_SHA384\0\0").unwrap();
    let transcript = format!("DATA\r\nSTARTTLS\r\nEHLO second.test\r\n{}", mail("x\r\n"));
    server.plain.write_all(transcript.as_bytes()).unwrap();
    let mut replies = String::new();
    server.plain.read_to_string(&mut replies).unwrap();
    assert!(
        replies.starts_with("503 5.5.1 MAIL first\r\n503 5.5.1 TLS already active\r\n250-mx.test"),
        "{replies}"
    );
    assert!(!replies.contains("STARTTLS") && replies.ends_with("221 2.0.0 mx.test\r\n"));
    let told = running.end();
    assert_eq!(told.replies, "", "nothing more in clear");
    assert!(place.read("message").starts_with(
        "Received: from unknown (HELO second.test) (unknown)\n  by unknown with ESMTPS \
         (TLSv1.3 TLS_AES_256_GCM_SHA384); "
    ));
    assert_eq!(place.read("envelope"), "Ffrom@client.test\0Tto@mx.test\0\0");
    assert!(place.read("variables").contains("SSL_PROTOCOL=TLSv1.3\n"));
    assert!(!place.read("variables").contains("SSLCTLFD"));
}

// DESIGN 4: smtpd keeps the rules itself where it speaks UCSPI-TLS: no AUTH in clear, and the same password process after it.
#[test]
fn auth_waits_for_the_handshake() {
    let place = place().variable("SASLFD", "6");
    let (mut passwords, passwords_end) = UnixStream::pair().unwrap();
    passwords.write_all(b"MECHS PLAIN LOGIN\n235 tim\n").unwrap();
    let (mut control, control_end) = UnixStream::pair().unwrap();
    let (mut plain, plain_end) = UnixStream::pair().unwrap();
    let mut running = place.start(&[
        (passwords_end.as_fd(), 6),
        (control_end.as_fd(), 7),
        (plain_end.as_fd(), 8),
        (plain_end.as_fd(), 9),
    ]);
    drop((passwords_end, control_end, plain_end));
    running.say("EHLO first.test\r\nAUTH PLAIN AHRpbQB4\r\n");
    let mut heard = String::new();
    while !heard.contains("538 5.7.11") {
        heard.push_str(&running.hear());
    }
    assert!(heard.contains("250 STARTTLS") && !heard.contains("AUTH PLAIN"), "{heard}");
    running.say("STARTTLS\r\n");
    assert_eq!(running.hear(), "220 2.0.0 ready for tls");
    control.read_exact(&mut [0]).unwrap();
    control.write_all(b"SSL_PROTOCOL=TLSv1.3\0\0").unwrap();
    plain.write_all(b"EHLO second.test\r\nAUTH PLAIN AHRpbQB4\r\nQUIT\r\n").unwrap();
    let mut replies = String::new();
    plain.read_to_string(&mut replies).unwrap();
    assert!(replies.contains("250 AUTH PLAIN LOGIN\r\n235 2.7.0 ok, go ahead\r\n221"), "{replies}");
    running.end();
    let mut asked = String::new();
    passwords.read_to_string(&mut asked).unwrap();
    assert_eq!(asked, "MECHS\nAUTH PLAIN AHRpbQB4\n", "what came in clear was passed on");
}

// CVE-2011-0411: what came in clear behind STARTTLS is neither kept nor run.
#[test]
fn nothing_may_follow_starttls() {
    for behind in ["NOOP\r\n", "N"] {
        let place = place();
        let (mut running, mut server) = start(&place);
        running.hear();
        running.say(&format!("STARTTLS\r\n{behind}"));
        assert_eq!(running.hear(), "503 5.5.1 nothing may follow STARTTLS before its reply");
        assert_eq!(running.end().replies, "");
        let mut asked = Vec::new();
        server.control.read_to_end(&mut asked).unwrap();
        assert_eq!(asked, b"", "the handshake was begun");
    }
}

// A failed handshake ends the session; it never goes back to clear.
#[test]
fn a_failed_handshake_is_the_end() {
    let place = place();
    let (mut running, mut server) = start(&place);
    running.hear();
    running.say("STARTTLS\r\n");
    assert_eq!(running.hear(), "220 2.0.0 ready for tls");
    server.control.read_exact(&mut [0]).unwrap();
    drop(server);
    let told = running.end();
    assert_eq!(told.replies, "");
    assert!(told.log.contains("unable to start TLS"), "{told:?}");
}

#[test]
fn starttls_is_offered_only_where_it_can_be_had() {
    let place = Place::new().variable("UCSPITLS", "");
    let told = place.session("EHLO x\r\nSTARTTLS\r\n");
    assert!(
        !told.replies.contains("250 STARTTLS")
            && told.replies.ends_with("502 5.5.1 unimplemented\r\n")
    );
    let demanded = self::place().variable("UCSPITLS", "!");
    let (mut running, _server) = start(&demanded);
    running.say("MAIL FROM:<>\r\nEHLO x\r\n");
    running.hear();
    assert_eq!(running.hear(), "530 5.7.0 Must issue a STARTTLS command first");
    let told = running.end();
    assert!(told.replies.ends_with("250 STARTTLS\r\n"), "{told:?}");
}
