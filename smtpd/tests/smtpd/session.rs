//! Whole sessions, their pace and their end.

use std::io::Write;

use plumb::process::Ended;

use crate::place::{Place, mail};

const SESSION: &str = "EHLO client.test\r\nMAIL FROM:<from@client.test> SIZE=20 BODY=8BITMIME\r\n\
    RCPT TO:<to@mx.test>\r\nRCPT TO:<to@other.test>\r\nRCPT TO:<Postmaster>\r\nDATA\r\n\
    Subject: golden\r\n\r\n..\r\n.\r\nMAIL FROM:<>\r\nRSET\r\nVRFY x\r\nFOO\r\nQUIT\r\n";

const REPLIES: &str = "220 mx.test ESMTP\r\n250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n\
    250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-SIZE 0\r\n250 LIMITS RCPTMAX=1000\r\n\
    250 2.1.0 ok\r\n250 2.1.5 ok\r\n\
    553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts\r\n250 2.1.5 ok\r\n\
    354 go ahead\r\n250 2.0.0 ok N qp N\r\n250 2.1.0 ok\r\n250 2.0.0 flushed\r\n\
    252 2.0.0 send some mail, i'll try my best\r\n500 5.5.2 unrecognised\r\n221 2.0.0 mx.test\r\n";

/// Time and process number of the reply are another each time.
fn timeless(replies: &str) -> String {
    let lines = replies.split_inclusive("\r\n").map(|line| match line.split_once(" ok ") {
        Some(("250 2.0.0", _)) => "250 2.0.0 ok N qp N\r\n",
        _ => line,
    });
    lines.collect()
}

// RFC 2920 3.2: the same replies in the same order, however the input arrives.
#[test]
fn one_segment_and_single_bytes_give_the_same() {
    let place = Place::new();
    assert_eq!(timeless(&place.session(SESSION).replies), REPLIES);
    let mut running = place.start(&[]);
    let mut input = running.input.take().unwrap();
    let writer = std::thread::spawn(move || {
        SESSION.bytes().for_each(|byte| input.write_all(&[byte]).unwrap());
    });
    let told = running.end();
    writer.join().unwrap();
    assert_eq!(timeless(&told.replies), REPLIES);
    assert_eq!(told.ended, Ended::Code(0));
}

#[test]
fn every_cut_gives_the_same() {
    let place = Place::new();
    for at in 1..SESSION.len() {
        let (first, second) = SESSION.split_at(at);
        let mut running = place.start(&[]);
        // The greeting shows that smtpd waits for the first part.
        assert_eq!(running.hear(), "220 mx.test ESMTP");
        running.say(first);
        running.say(second);
        let told = running.end();
        assert_eq!(timeless(&format!("220 mx.test ESMTP\r\n{}", told.replies)), REPLIES, "{at}");
    }
}

// RFC 2920 3.2: every reply goes out before the client is waited for.
#[test]
fn replies_do_not_wait_for_the_next_command() {
    let place = Place::new();
    let mut running = place.start(&[]);
    assert_eq!(running.hear(), "220 mx.test ESMTP");
    for (line, reply) in [
        ("MAIL FROM:<>\r\n", "250 2.1.0 ok"),
        ("RCPT TO:<a@mx.test>\r\nRC", "250 2.1.5 ok"),
        ("PT TO:<b@mx.test>\r\n", "250 2.1.5 ok"),
        ("DATA\r\n", "354 go ahead"),
        (".\r\nNOOP\r\n", ""),
    ] {
        running.say(line);
        if !reply.is_empty() {
            assert_eq!(running.hear(), reply);
        }
    }
    assert!(running.hear().starts_with("250 2.0.0 ok "));
    assert_eq!(running.hear(), "250 2.0.0 ok");
}

#[test]
fn ten_thousand_pipelined_commands() {
    let told = Place::new().session("NOOP\r\n".repeat(10_000) + "QUIT\r\n");
    assert_eq!(told.replies.matches("250 2.0.0 ok\r\n").count(), 10_000);
    assert!(told.replies.ends_with("221 2.0.0 mx.test\r\n"));
}

// RFC 5321 4.1.1.10: the server must not close before QUIT, but a client that has gone is no error.
#[test]
fn a_client_that_goes_leaves_nothing() {
    for input in ["", "EHLO x\r\nMAIL FR", "MAIL FROM:<>\r\n", &mail("x\r\n")[..70]] {
        let told = Place::new().session(input);
        assert_eq!(told.ended, Ended::Code(0), "{told:?}");
        assert!(!told.log.contains("fatal"), "{told:?}");
    }
}

// RFC 5321 3.8 and 4.5.3.2: 421 before the server gives up.
#[test]
fn a_silent_client_is_told() {
    for (said, replies) in [
        ("", 0),
        ("NOOP\r\nNOO", 1),
        ("MAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\nDATA\r\nhalf a mess", 3),
        ("MAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\nBDAT 100\r\nhalf a mess", 2),
    ] {
        let place = Place::new().file("control/timeoutsmtpd", "1\n");
        let mut running = place.start(&[]);
        running.say(said);
        for _ in 0..=replies {
            running.hear();
        }
        assert_eq!(running.hear(), "421 4.4.2 timeout", "{said}");
        let told = running.end();
        assert!(told.log.contains("ended by=timeout"), "{told:?}");
        assert_eq!(place.read("envelope"), "");
    }
}

#[test]
fn twenty_errors_end_the_session() {
    let told = Place::new().session("FOO\r\n".repeat(30));
    assert_eq!(told.replies.matches("500 5.5.2 unrecognised\r\n").count(), 20);
    assert!(told.replies.ends_with("\r\n421 4.7.0 too many errors\r\n"), "{told:?}");
}

/// Bytes that were never read must not destroy the last reply (RFC 9293 3.6.1: a reset would).
#[test]
fn the_last_reply_arrives_over_tcp() {
    use std::io::Read;
    use std::os::fd::AsFd;
    let place = Place::new();
    let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    // More than smtpd reads at once, and there before it begins.
    client.write_all(&b"FOO\r\n".repeat(18_000)).unwrap();
    let running = place.start(&[(server.as_fd(), 0), (server.as_fd(), 1)]);
    drop(server);
    let mut replies = String::new();
    client.read_to_string(&mut replies).unwrap();
    assert!(replies.ends_with("\r\n421 4.7.0 too many errors\r\n"), "{replies}");
    drop(client);
    assert_eq!(running.end().ended, Ended::Code(0));
}

/// Standing alone, smtpd finds out itself who its client is.
#[test]
fn the_clients_address_from_the_socket() {
    use std::io::Read;
    use std::os::fd::AsFd;
    let place = Place::new().file("control/localiphost", "lit.test\n").variable("RELAYCLIENT", "");
    let place = place.queue("cat >message; cat <&1 >envelope; env >variables");
    let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let running = place.start(&[(server.as_fd(), 0), (server.as_fd(), 1)]);
    drop(server);
    let transcript = mail("x\r\n").replace("to@mx.test", "to@[IPv6:::1]");
    client.write_all(transcript.as_bytes()).unwrap();
    client.read_to_string(&mut String::new()).unwrap();
    running.end();
    assert!(
        place.read("message").starts_with("Received: from unknown (::1)\n  by ::1 with SMTP; ")
    );
    assert_eq!(place.read("envelope"), "Ffrom@client.test\0Tto@lit.test\0\0");
    assert!(place.read("variables").contains("TCPREMOTEIP=::1\n"));
    assert!(place.read("variables").contains("PROTO=TCP\n"));
}
