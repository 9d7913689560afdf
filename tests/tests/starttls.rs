//! STARTTLS and TLS from the first byte: what is answered, what ends, what is known afterwards.

use std::fs;
use std::io::{Read, Write};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use chain_tests::client::End;
use chain_tests::folder::Key;
use chain_tests::server::Builder;
use chain_tests::{CHAIN, Client, Server};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

fn scripted() -> Builder {
    Server::new("starttls-wrap setuidgid nobody ./scripted").scripted()
}

/// Requires the end, with nothing but at most one alert of TLS before it (RFC 8446 5.1: content type 21).
fn ended_without_words(client: &mut Client) {
    let rest = client.rest();
    let alert = rest.first() == Some(&21) && rest.len() == 7;
    assert!(rest.is_empty() || alert, "{}", rest.escape_ascii());
}

// RFC 3207 4: STARTTLS takes no argument: 501. 4.2: none inside TLS: 503. DESIGN 5: STARTTLS after HELO works too.
#[test]
fn what_starttls_is_answered() {
    let server = scripted().start();
    server.connect().play(
        "S: 220 scripted
         C: STARTTLS x
         S: 501 5.5.4 *
         C: HELO client.test
         S: 250 HELO client.test
         C: starttls
         S: 220 2.0.0 *
         -- TLS
         C: STARTTLS
         C: STARTTLS x
         C: EHLO client.test
         S: 503 5.5.1 *
         S: 501 5.5.4 *
         S: 250-scripted
         S: 250-PIPELINING
         S: 250-AUTH PLAIN LOGIN
         S: 250-REQUIRETLS
         S: 250 *
         C: QUIT
         S: 221 bye
         -- end",
    );
    server.idle();
    assert!(!server.log().to_lowercase().contains("saw <starttls"), "{}", server.log());
}

// RFC 3207 4.2: after the handshake nothing is known that the client said before it; the greeting is not said again.
#[test]
fn a_new_program_knows_nothing_of_the_session_in_clear() {
    let server = scripted().env("ALLOW_INSECURE_AUTH", "1").start();
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO clear.test", "250");
    client.expect("AUTH PLAIN AHVzZXIAc2VjcmV0", "235");
    client.expect("MAIL FROM:<clear@clear.test>", "250");
    client.expect("RCPT TO:<clear@clear.test>", "250");
    client.starttls();
    client.expect("RSET", "250 RSET");
    client.expect("QUIT", "221");
    client.closed();
    drop(client);
    server.idle();
    let log = server.log();
    let (clear, inside) =
        log.split_once("scripted: started tls=TLSv1.3").expect("a second program");
    assert!(clear.contains("started tls=none") && clear.contains("saw <RCPT"), "{log}");
    assert!(inside.contains("saw <RSET>") && !inside.contains("clear"), "{log}");
    // The first one read the end of its input, and no STARTTLS or QUIT before it.
    assert_eq!(log.matches("scripted: ended").count(), 2, "{log}");
    assert_eq!(log.matches("saw <").count(), 6, "{log}");
}

// DESIGN 2: -k keeps the one program: RSET is sent, its reply swallowed; STARTTLS is 503 inside a transaction or after a 235.
#[test]
fn a_kept_program_gets_rset_and_no_starttls_too_late() {
    let server = Server::new("starttls-wrap -k setuidgid nobody ./scripted").scripted();
    let server = server.env("ALLOW_INSECURE_AUTH", "1").start();
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO clear.test", "250");
    client.expect("MAIL FROM:<clear@clear.test>", "250");
    client.expect("STARTTLS", "503");
    client.expect("RSET", "250");
    client.starttls();
    client.expect("EHLO inside.test", "250-scripted");
    client.expect("AUTH PLAIN AHVzZXIAc2VjcmV0", "235");
    client.expect("QUIT", "221");
    let mut client = server.connect();
    client.reply();
    client.expect("AUTH PLAIN AHVzZXIAc2VjcmV0", "235");
    client.expect("STARTTLS", "503");
    client.expect("QUIT", "221");
    drop(client);
    server.idle();
    let log = server.log();
    assert_eq!(log.matches("started tls=none").count(), 2, "{log}");
    let seen: Vec<&str> =
        log.lines().filter_map(|line| line.strip_prefix("scripted: saw ")).collect();
    assert_eq!(seen[2..5], ["<RSET>", "<RSET>", "<EHLO inside.test>"]);
}

// DESIGN 2: a greeting other than 220 is the answer to the client's first command and ends the session; EOF before it is 421.
#[test]
fn a_second_program_that_does_not_want_to() {
    let script = |inside: &str| {
        format!(
            "#!/bin/sh\nif [ -z \"$SSL_PROTOCOL\" ]; then printf '220 clear\\r\\n'; else {inside}; fi\nread -r line\n"
        )
    };
    for (inside, reply) in [
        ("printf '554-not\\r\\n554 now\\r\\n'; exit", "554-not\n554 now"),
        ("printf '554 not now\\r\\n'", "554 not now"),
        ("printf '220-half\\r\\n'; exit", "421 4.3.0 service not available"),
        ("exit", "421 4.3.0 service not available"),
        ("printf 'what?\\r\\n'", "421 4.3.0 service not available"),
    ] {
        let server = Server::new("starttls-wrap setuidgid nobody ./moody");
        server.folder.script("moody", &script(inside));
        let server = server.start();
        let mut client = server.connect();
        client.reply();
        client.starttls();
        client.try_send("EHLO client.test\r\n");
        assert_eq!(client.reply(), reply, "{inside}");
        client.closed();
        // The same where the client leaves without a word: nobody waits for its first command.
        let mut client = server.connect();
        client.reply();
        client.starttls();
        client.half_close();
        client.rest();
        drop(client);
        server.idle();
    }
}

// RFC 3207 4: 454 where TLS cannot be had now. DESIGN 5: and the session goes on in clear, to the program's own exit code.
#[test]
fn without_a_usable_key_mail_flows_in_clear() {
    for (file, content) in [
        ("cert.key", None),
        ("cert.key", Some("nonsense")),
        ("cert.pem", Some("")),
        ("cert.pem", None),
    ] {
        let server = Server::new("starttls-wrap ./scripted").scripted_with("SEVEN) exit 7 ;;");
        match content {
            Some(content) => server.folder.write(file, content),
            None => fs::remove_file(server.folder.path(file)).expect("remove a file"),
        }
        let mut single = server.single();
        single
            .client
            .play("S: 220 *\nC: STARTTLS\nS: 454 4.7.0 *\nC: NOOP\nS: 250 NOOP\nC: STARTTLS");
        single.client.play("S: 454 4.7.0 *\nC: SEVEN\nS: 421 4.3.0 *\n-- end");
        assert_eq!(single.code(), Some(7), "{file} {content:?}: {}", single.log());
        assert!(single.log().contains("tls key unusable: "), "{}", single.log());
    }
    let server = Server::new(CHAIN).env("KEYFILE", "/nowhere").start();
    let mut client = server.connect();
    client.reply();
    client.expect("STARTTLS", "454");
    client.expect("EHLO client.test", "250");
    assert!(client.deliver("Subject: in clear\r\n\r\nhello\r\n").starts_with("250"));
    assert_eq!(server.mails().len(), 1);
}

// A process is started for each try, and an attacker may ask without end.
#[test]
fn a_key_that_stays_unusable_is_tried_three_times() {
    let server = Server::new("starttls-wrap ./scripted").scripted();
    server.folder.write("cert.key", "nonsense");
    let mut single = server.single();
    single.client.play("S: 220 *");
    for _ in 0..10 {
        single.client.play("C: STARTTLS\nS: 454 4.7.0 *");
    }
    single.client.play("C: NOOP\nS: 250 NOOP\nC: QUIT\nS: 221 *\n-- end");
    single.code();
    assert_eq!(single.log().matches("tls key unusable: ").count(), 3, "{}", single.log());
}

// DESIGN 5: read at the handshake: a renewal needs no signal.
#[test]
fn a_renewed_certificate_is_the_next_handshakes() {
    let server = Server::new(CHAIN).start();
    let shown = || {
        let mut client = server.connect();
        client.reply();
        client.starttls();
        client.tls().peer_certificates().expect("certificates")[0].to_vec()
    };
    let first = shown();
    assert_eq!(shown(), first);
    server.folder.certificate("cert", Key::Rsa, &["mx.test"]);
    assert_ne!(shown(), first);
}

// RFC 8446 4.4.4: the client may send data as soon as it has sent its Finished. DESIGN 5: it is drained before polling.
#[test]
fn a_first_command_in_the_segment_of_the_clients_finished() {
    let server = Server::new(CHAIN).start();
    for immediate in [false, true] {
        let immediate_server;
        let server = match immediate {
            false => &server,
            true => {
                immediate_server = Server::new(CHAIN).env("SSL", "1").start();
                &immediate_server
            }
        };
        for _ in 0..20 {
            let mut client = server.connect();
            if !immediate {
                client.reply();
                client.expect("STARTTLS", "220");
            }
            let (mut tls, hello) = client.hello();
            let mut stream = client.stream();
            stream.write_all(&hello).expect("send");
            while tls.is_handshaking() {
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).expect("read");
                assert_ne!(count, 0, "closed in the handshake");
                tls.read_tls(&mut &buffer[..count]).expect("read");
                tls.process_new_packets().expect("a handshake");
            }
            tls.writer().write_all(b"EHLO early.test\r\nQUIT\r\n").expect("write");
            let mut flight = Vec::new();
            while tls.wants_write() {
                tls.write_tls(&mut flight).expect("write");
            }
            stream.write_all(&flight).expect("send");
            client.finish_handshake(tls).expect("a handshake that is over");
            if immediate {
                assert!(client.reply().starts_with("220 "));
            }
            assert!(client.reply().starts_with("250-"), "{}", client.transcript());
            assert!(client.reply().starts_with("221 "), "{}", client.transcript());
            client.closed();
            assert_eq!(client.end(), Some(End::Clean));
        }
    }
}

// RFC 8997: TLS 1.2 is the floor and works.
#[test]
fn tls_1_2_tells_the_program_so() {
    let server = scripted().start();
    let mut client = server.connect();
    client.reply();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(server.folder.path("ca.pem")).expect("the CA")
    {
        roots.add(certificate.expect("a certificate")).expect("a CA");
    }
    let old = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12]);
    let old = old.with_root_certificates(roots).with_no_client_auth();
    client.configure(|config| *config = old);
    client.starttls();
    client.expect("QUIT", "221");
    client.closed();
    assert_eq!(client.end(), Some(End::Clean), "RFC 5246 7.2.1: close_notify on both sides");
    server.logged("scripted: started tls=TLSv1.2");
    server.logged("tls ok version=TLSv1.2 cipher=ECDHE-ECDSA-");
}

// DESIGN 2: a failed handshake closes the session and never goes back to clear.
#[test]
fn a_failed_handshake_ends_the_session() {
    let server = scripted().start();
    for bytes in [
        &b"NOOP INJECTED\r\n"[..],
        b"\r\n",
        &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0],
        &[0; 5],
        &[22, 3, 1, 255, 255, 1],
    ] {
        let mut client = server.connect();
        client.reply();
        client.expect("STARTTLS", "220");
        client.send(bytes);
        client.try_send("NOOP INJECTED\r\nQUIT\r\n");
        ended_without_words(&mut client);
    }
    // A client that does not trust the certificate says so, and the log says whose alert it was.
    let mut client = server.connect();
    client.reply();
    client.configure(|config| {
        let other = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
        *config = other.with_no_client_auth();
    });
    client.expect("STARTTLS", "220");
    client.try_handshake().expect_err("a handshake without trust");
    server.logged("tls failed alert=unknown_ca from=client");
    drop(client);
    let mut client = server.connect();
    client.reply();
    client.expect("STARTTLS", "220");
    client.half_close();
    ended_without_words(&mut client);
    server.logged("tls failed from=client reason=closed");
    drop(client);
    server.idle();
    assert_eq!(server.log().matches("tls failed from=server").count(), 5, "{}", server.log());
    assert!(!server.log().contains("INJECTED"), "{}", server.log());
}

// RFC 8314 3.3: TLS from the first byte; what is no TLS gets no SMTP reply, and no program is started for it.
#[test]
fn plain_text_on_a_port_with_tls_from_the_first_byte() {
    for server in [
        scripted().env("SSL", "1").start(),
        Server::new("starttls-wrap -i setuidgid nobody ./scripted").scripted().start(),
    ] {
        for words in ["EHLO client.test\r\n", "\r\n", "GET / HTTP/1.0\r\n\r\n"] {
            let mut client = server.connect();
            client.send(words);
            ended_without_words(&mut client);
        }
        let mut client = server.connect();
        client.half_close();
        client.closed();
        let mut client = server.connect();
        client.handshake();
        client.play("S: 220 scripted\nC: STARTTLS\nS: 503 *\nC: QUIT\nS: 221 bye\n-- end");
        drop(client);
        server.idle();
        assert_eq!(server.log().matches("scripted: started").count(), 1, "{}", server.log());
        assert!(server.log().contains("started tls=TLSv1.3"), "{}", server.log());
    }
}

// DESIGN 3: SSL=1 together with another terminator's variables: it sits in front: 421, exit 100.
#[test]
fn another_terminator_in_front() {
    for (name, value) in
        [("SSL_PROTOCOL", "TLSv1.3"), ("SSL_CIPHER", "x"), ("SSLREMOTEIP", "127.0.0.1")]
    {
        let mut single = scripted().env("SSL", "1").env(name, value).single();
        assert!(single.client.reply().starts_with("421 4.3.5 "), "{}", single.client.transcript());
        single.client.closed();
        assert_eq!(single.code(), Some(100));
        let log = single.log();
        assert!(log.contains("SSL ") && log.contains(name) && log.lines().count() == 1, "{log}");
    }
}

// DESIGN 6.7: a handshake has 30 s in all, however it is spent.
#[test]
fn a_handshake_that_does_not_come_to_an_end() {
    let clear = scripted().start();
    let immediate = scripted().env("SSL", "1").start();
    let granted = || {
        let mut client = clear.connect();
        client.reply();
        client.expect("STARTTLS", "220");
        client
    };
    scope(|scope| {
        for client in [granted(), immediate.connect()] {
            scope.spawn(|| times_out(client, &[]));
        }
        for client in [granted(), immediate.connect()] {
            // The delays are the attack.
            scope.spawn(|| times_out(client, &[20, 5, 4]));
        }
    });
    for server in [&clear, &immediate] {
        server.idle();
        let log = server.log();
        assert_eq!(log.matches("tls failed from=client reason=").count(), 2, "{log}");
    }
}

/// Sends a byte of a ClientHello after each of these seconds, and requires the end at 30 s: not sooner, and not 30 s after the first byte.
fn times_out(mut client: Client, seconds: &[u64]) {
    let (began, (_, hello)) = (Instant::now(), client.hello());
    for (seconds, byte) in seconds.iter().zip(hello) {
        sleep(Duration::from_secs(*seconds));
        if !client.try_send([byte]) {
            break;
        }
    }
    ended_without_words(&mut client);
    let spent = began.elapsed().as_secs();
    assert!((29..45).contains(&spent), "{spent}");
}
