//! The TLS and AUTH policy of the ring that owns TLS, as clients meet it and as the program behind it does not.

use chain_tests::server::Builder;
use chain_tests::{Client, Server};

fn scripted(settings: &str) -> Builder {
    let server = Server::new("starttls-wrap setuidgid nobody ./scripted");
    let settings = settings.split_whitespace().filter_map(|setting| setting.split_once('='));
    settings.fold(server, |server, (name, value)| server.env(name, value)).scripted()
}

/// Whether AUTH is offered, and the codes that AUTH and MAIL get.
fn policy(client: &mut Client) -> String {
    let offers = client.expect("EHLO client.test", "250");
    let shown = if offers.contains("AUTH") { "+" } else { "-" };
    let mail = client.ask("MAIL FROM:<>")[..3].to_owned();
    let auth = client.ask("AUTH PLAIN AHVzZXIAc2VjcmV0")[..3].to_owned();
    format!("{shown} {mail} {auth} {}", &client.ask("MAIL FROM:<>")[..3])
}

// DESIGN 4: the settings table, for any program: AUTH offered or not, MAIL, AUTH, and MAIL after AUTH; in clear, then inside TLS.
#[test]
fn the_fifteen_cells() {
    for (settings, clear, inside) in [
        ("DENY_TLS=1 REQUIRE_AUTH=1 ALLOW_INSECURE_AUTH=1", "+ 530 235 250", ""),
        ("DENY_TLS=1 ALLOW_INSECURE_AUTH=1", "+ 250 235 250", ""),
        ("DENY_TLS=1 AUTH=0", "- 250 503 250", ""),
        ("REQUIRE_AUTH=1 ALLOW_INSECURE_AUTH=1", "+ 530 235 250", "+ 530 235 250"),
        ("ALLOW_INSECURE_AUTH=1", "+ 250 235 250", "+ 250 235 250"),
        ("AUTH=0", "- 250 503 250", "- 250 503 250"),
        ("REQUIRE_AUTH=1", "- 530 538 530", "+ 530 235 250"),
        ("", "- 250 538 250", "+ 250 235 250"),
        // A switch is on when its value is an integer above 0; scripts export them all.
        (
            "DENY_TLS=0 FORCE_TLS= REQUIRE_AUTH=no ALLOW_INSECURE_AUTH=0 AUTH=1",
            "- 250 538 250",
            "+ 250 235 250",
        ),
        ("FORCE_TLS=1 REQUIRE_AUTH=1", "- 530 530 530", "+ 530 235 250"),
        ("FORCE_TLS=1", "- 530 530 530", "+ 250 235 250"),
        ("FORCE_TLS=1 AUTH=0", "- 530 530 530", "- 250 503 250"),
        ("SSL=1 REQUIRE_AUTH=1", "", "+ 530 235 250"),
        ("SSL=1 FORCE_TLS=1", "", "+ 250 235 250"),
        ("SSL=1 AUTH=0", "", "- 250 503 250"),
    ] {
        let server = scripted(settings).start();
        let mut client = server.connect();
        if clear.is_empty() {
            client.handshake();
            client.reply();
        } else {
            client.reply();
            assert_eq!(policy(&mut client), clear, "{settings}: {}", client.transcript());
            let offered = client.transcript().contains("STARTTLS");
            assert_eq!(offered, !inside.is_empty(), "{settings}: {}", client.transcript());
        }
        if inside.is_empty() {
            client.expect("STARTTLS", "502");
        } else {
            if !clear.is_empty() {
                client.starttls();
            }
            assert_eq!(policy(&mut client), inside, "{settings}: {}", client.transcript());
        }
        client.expect("QUIT", "221");
        drop(client);
        server.idle();
        // What was refused reached nobody.
        let log = server.log();
        let passed = |verb: &str, codes: &str| {
            log.matches(&format!("saw <{verb}")).count()
                - [clear, inside].concat().matches(codes).count()
        };
        assert_eq!((passed("MAIL", " 250"), passed("AUTH", " 235")), (0, 0), "{settings}: {log}");
    }
}

// DESIGN 4: 538, so that no client is tempted; what follows may be the password: 500 by the wrapper, and passed to nobody.
// Predecessor: smtpd-starttls-proxy went on offering AUTH in clear.
#[test]
fn a_password_that_nobody_asked_for_reaches_nobody() {
    for (settings, code) in [("", "538"), ("AUTH=0", "503"), ("FORCE_TLS=1", "530")] {
        let server = scripted(settings).start();
        let mut client = server.connect();
        client.reply();
        client.send("AUTH PLAIN\r\nAUTH LOGIN\r\ndXNlcg==\r\ncGFzc3dvcmQ=\r\n*\r\nNOOP\r\n");
        for _ in 0..2 {
            assert!(client.reply().starts_with(code), "{}", client.transcript());
        }
        for _ in 0..3 {
            let refused = if code == "530" { "530 " } else { "500 5.5.2 " };
            assert!(client.reply().starts_with(refused), "{}", client.transcript());
        }
        assert_eq!(client.reply(), "250 NOOP");
        client.expect("QUIT", "221");
        drop(client);
        server.idle();
        let log = server.log();
        assert_eq!(log.matches("saw <").count(), 2, "{log}");
        assert!(!log.contains("cGFzc"), "{log}");
        // Once is enough: a client could fill the log otherwise.
        assert_eq!(log.matches("AUTH refused").count(), 1, "{log}");
    }
}

// RFC 3207 4: everything but EHLO, NOOP, STARTTLS and QUIT gets 530 where TLS is required; BDAT's octets are eaten.
#[test]
fn required_tls() {
    let server = scripted("FORCE_TLS=1").start();
    let mut client = server.connect();
    client.reply();
    for command in [
        "HELO x",
        "MAIL FROM:<>",
        "RCPT TO:<a@b>",
        "DATA",
        "RSET",
        "VRFY x",
        "EXPN x",
        "HELP",
        "XCLIENT NAME=x",
        "",
    ] {
        assert_eq!(client.ask(command), "530 5.7.0 Must issue a STARTTLS command first");
    }
    client.send("BDAT 6 LAST\r\nNOOP\r\nNOOP x\r\n");
    assert!(client.reply().starts_with("530 5.7.0 "));
    assert_eq!(client.reply(), "250 NOOP x");
    client.expect("EHLO x", "250");
    client.starttls();
    client.expect("HELO x", "250");
    client.expect("QUIT", "221");
    drop(client);
    server.idle();
    assert_eq!(server.log().matches("saw <").count(), 4, "{}", server.log());
}

// RFC 4954 6: 530 until a 235 was seen; a refused AUTH is none, and an exchange of several lines is one.
#[test]
fn mail_only_after_auth() {
    let server = scripted("REQUIRE_AUTH=1 SSL=1").scripted_with(
        "'AUTH LOGIN') say '334 VXNlcm5hbWU6' ;;
         dXNlcg==) say '334 UGFzc3dvcmQ6' ;;
         c2VjcmV0) say '235 welcome' ;;
         YmFk|'*') say '535 no' ;;
         235) say '235 what' ;;",
    );
    let server = server.start();
    let mut client = server.connect();
    client.handshake();
    client.play(
        "S: 220 scripted
         C: AUTH LOGIN
         S: 334 *
         C: dXNlcg==
         S: 334 *
         C: YmFk
         S: 535 no
         C: MAIL FROM:<>
         S: 530 5.7.0 Authentication required
         C: AUTH LOGIN
         S: 334 *
         C: *
         S: 535 no
         C: 235
         S: 235 what
         C: MAIL FROM:<>
         S: 530 5.7.0 Authentication required
         C: AUTH LOGIN
         S: 334 *
         C: dXNlcg==
         S: 334 *
         C: c2VjcmV0
         S: 235 welcome
         C: MAIL FROM:<>
         S: 250 *
         C: QUIT
         S: 221 bye
         -- end",
    );
}

// DESIGN 4: what contradicts itself is refused at start: 421 4.3.5, one log line that names both, exit 100.
#[test]
fn contradictions() {
    for (wrapper, settings, names) in [
        ("starttls-wrap", "FORCE_TLS=1 DENY_TLS=1", ["FORCE_TLS", "DENY_TLS"]),
        ("starttls-wrap", "SSL=1 DENY_TLS=1", ["SSL", "DENY_TLS"]),
        ("starttls-wrap -i", "DENY_TLS=1", ["-i", "DENY_TLS"]),
        ("starttls-wrap", "REQUIRE_AUTH=1 AUTH=0", ["REQUIRE_AUTH", "AUTH"]),
        ("starttls-wrap", "REQUIRE_AUTH=1 DENY_TLS=1", ["REQUIRE_AUTH", "DENY_TLS"]),
    ] {
        let server = Server::new(&format!("{wrapper} ./scripted")).scripted();
        let settings = settings.split_whitespace().filter_map(|setting| setting.split_once('='));
        let mut single =
            settings.fold(server, |server, (name, value)| server.env(name, value)).single();
        assert!(single.client.reply().starts_with("421 4.3.5 "), "{}", single.client.transcript());
        single.client.closed();
        assert_eq!(single.code(), Some(100));
        let log = single.log();
        assert!(names.iter().all(|name| log.contains(name)), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}
