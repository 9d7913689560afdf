//! AUTH over every way of starting the chain, and where there is too little memory for any password.

use chain_tests::server::Builder;
use chain_tests::single::Single;
use chain_tests::users::{self, PLAIN, SUBMISSION};
use chain_tests::{Client, Server, programs};

const WRONG: &str = "AHVzZXIAaHVudGVyMg==";

fn submission() -> Builder {
    chain(SUBMISSION)
}

fn chain(words: &str) -> Builder {
    let server = Server::new(words);
    users::one(&server.folder);
    server
}

fn immediate() -> Builder {
    chain(&SUBMISSION.replace("starttls-wrap", "starttls-wrap -i"))
}

/// A wrong and a right password inside TLS, then one mail to someone elsewhere.
fn submit(client: &mut Client, immediate: bool) {
    if immediate {
        client.handshake();
        client.reply();
    } else {
        client.reply();
        assert!(!client.expect("EHLO client.test", "250").contains("AUTH"));
        client.expect(&format!("AUTH PLAIN {PLAIN}"), "538 5.7.11");
        client.starttls();
    }
    assert!(client.expect("EHLO client.test", "250").contains("AUTH SCRAM-SHA-256-PLUS "));
    client.expect(&format!("AUTH PLAIN {WRONG}"), "535 5.7.8");
    client.expect(&format!("AUTH PLAIN {PLAIN}"), "235 2.7.0");
    client.expect("MAIL FROM:<a@client.test>", "250");
    client.expect("RCPT TO:<b@elsewhere.test>", "250");
    client.expect("DATA", "354");
    client.expect("Subject: x\r\n\r\nbody\r\n.", "250");
    client.expect("QUIT", "221");
    client.closed();
}

/// What the log and the mail must tell, where the client's address is `ip`.
fn told(log: &str, mail: &[u8], ip: &str) {
    for outcome in ["failed", "successful"] {
        let line = format!("AUTH {outcome} [{ip}] user mech=PLAIN tls=TLSv1.3");
        assert_eq!(log.matches(&line).count(), 1, "{line} in {log}");
    }
    assert!(!log.contains("secret") && !log.contains("hunter2"), "{log}");
    let mail = String::from_utf8_lossy(mail);
    assert!(mail.contains("(user@") && mail.contains(" with ESMTPSA (TLSv1.3 "), "{mail}");
}

fn served(start: impl Fn(Builder) -> Builder) {
    for (builder, immediate) in [(submission(), false), (immediate(), true)] {
        let server = start(builder).start();
        submit(&mut server.connect(), immediate);
        server.idle();
        let ip = server.address().ip().to_string();
        told(&server.log(), &server.take_mails()[0], &ip);
    }
}

#[test]
fn tcpserver() {
    served(|builder| builder);
    served(Builder::ipv6);
}

#[test]
fn tcpserver_as_an_ordinary_user() {
    served(Builder::ordinary);
}

#[test]
fn systemd_socket_activate() {
    if programs::debian("systemd-socket-activate", "systemd") {
        served(Builder::systemd);
        served(|builder| builder.systemd().ordinary());
    }
}

// RFC 8314 3.3: TLS from the first byte, told by the environment instead of the option.
#[test]
fn ssl_in_the_environment() {
    let server = submission().env("SSL", "1").start();
    submit(&mut server.connect(), true);
}

/// How one connection is started without a UCSPI server, and what is known of the client's address then.
type Way = (fn(Builder) -> Single, &'static str);

const ALONE: [Way; 2] = [(Builder::single, "127.0.0.1"), (Builder::single_by_pipes, "unknown")];

#[test]
fn inetd_and_pipes() {
    for (start, ip) in ALONE {
        for (builder, immediate) in [(submission(), false), (immediate(), true)] {
            let mut single = start(builder);
            submit(&mut single.client, immediate);
            assert_eq!(single.code(), Some(0), "{}", single.log());
            let mails = std::fs::read_dir(single.folder.path("Maildir/new")).expect("Maildir");
            let mails: Vec<_> = mails.map(|entry| entry.expect("a mail").path()).collect();
            told(&single.log(), &std::fs::read(&mails[0]).expect("a mail"), ip);
        }
    }
}

// 64 MB is enough for the whole chain and its hash.
#[test]
fn softlimit() {
    served(|builder| builder.softlimit(64_000_000));
}

/// The memory in which qmail's own run scripts start tcpserver; argon2id alone takes as much.
const SMALL: u64 = 20_000_000;

// RFC 4954 6: 454 where the fault is ours: who has the right password must not be told that it is wrong.
#[test]
fn a_softlimit_that_no_hash_fits_into() {
    let server = submission().softlimit(SMALL).start();
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO client.test", "250");
    client.starttls();
    client.expect("EHLO client.test", "250");
    let nobody = "AG5vYm9keQBzZWNyZXQ=";
    for plain in [PLAIN, WRONG, nobody, PLAIN] {
        client.expect(&format!("AUTH PLAIN {plain}"), "454 4.7.0");
    }
    client.expect("MAIL FROM:<a@client.test>", "250");
    client.expect("RCPT TO:<b@elsewhere.test>", "553");
    client.expect("QUIT", "221");
    server.idle();
    let log = server.log();
    let line = "AUTH unavailable [127.0.0.1] - mech=PLAIN tls=TLSv1.3 reason=\"not enough memory for this hash\"";
    assert_eq!(log.matches(line).count(), 4, "{log}");
    assert!(!log.contains("AUTH failed"), "fail2ban would ban who did nothing wrong: {log}");
}

// A password process that cannot be had is our fault, and the client is told so.
#[test]
fn a_saslfd_that_leads_nowhere() {
    for value in ["99", "x", ""] {
        let server = Server::new("setuidgid nobody smtpd").env("SASLFD", value).start();
        let mut client = server.connect();
        assert!(client.reply().starts_with("421 4.3.5"), "{}", client.transcript());
        client.closed();
        let log = server.logged("fatal");
        assert!(log.contains("SASLFD"), "{log}");
    }
}
