//! mailfront's smtpfront-qmail, as Debian packs it, behind starttls-wrap: what it is told, and what it no longer knows.

use std::collections::BTreeMap;
use std::fs;

use chain_tests::server::Builder;
use chain_tests::{Client, Server, peers};

/// Writes down the environment, one file a program, and becomes what follows.
const WITNESS: &str = "#!/bin/sh\nenv >\"$0.$$\"\nexec \"$@\"\n";

/// `user` and `secret`, as mailfront's password checker has them (RFC 4616 2).
const AUTH: &str = "AUTH PLAIN AHVzZXIAc2VjcmV0";

/// mailfront with a witness in front of it, or none where that was skipped.
fn mailfront(wrapper: &str) -> Option<Builder> {
    let server = Server::new(&format!("{wrapper} ./witness ./smtpfront-qmail"));
    server.folder.script("witness", WITNESS);
    peers::mailfront(&server.folder).then_some(server)
}

type Environment = BTreeMap<String, String>;

/// The environments seen by the witness, those of the first program first.
fn witnessed(server: &Server) -> Vec<Environment> {
    let mut found: Vec<_> = fs::read_dir(server.folder.path(""))
        .expect("read the folder")
        .map(|entry| entry.expect("read the folder"))
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("witness."))
        .collect();
    found.sort_by_key(|entry| entry.metadata().and_then(|data| data.modified()).expect("a time"));
    let text = |entry: &fs::DirEntry| fs::read_to_string(entry.path()).expect("an environment");
    let lines = |text: String| {
        let entries = text.lines().filter_map(|line| line.split_once('='));
        entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    found.iter().map(|entry| lines(text(entry))).collect()
}

/// What administrators, other terminators and patches may have left in the environment, and what must become of it.
const LEFT: [(&str, &str); 14] = [
    ("SSL_PROTOCOL", "SSLv2"),
    ("SSL_CIPHER", "NULL"),
    ("SSL_CLIENT_S_DN", "CN=liar"),
    ("SSL_TLS_SNI_SERVERNAME", "liar.test"),
    ("SSL_CERT_FILE", "/kept"),
    ("SSLCTLFD", "7"),
    ("SSLREADFD", "8"),
    ("SSLWRITEFD", "9"),
    ("UCSPITLS", "!"),
    ("FORCETLS", "1"),
    ("SMTPS", "1"),
    ("STARTTLS", ""),
    ("SSLCERT", "/liar"),
    ("TLS_PROVIDER", "dotls, TLS Server=TLSv1.3"),
];

/// The wrapper's own settings and those of other terminators: nobody behind it needs them.
const OURS: [&str; 11] = [
    "CERTFILE",
    "KEYFILE",
    "CERTDIR",
    "CAFILE",
    "TICKETKEYS",
    "TLS_UID",
    "UCSPITLS",
    "FORCE_TLS",
    "SMTPS",
    "STARTTLS",
    "TLS_PROVIDER",
];

fn check_common(environment: &Environment, client: &Client) {
    for name in OURS {
        assert!(!environment.contains_key(name), "{name} in {environment:?}");
    }
    let address = client.stream().local_addr().expect("an address");
    let expected = [
        ("PROTO", "TCP".to_owned()),
        ("TCPREMOTEIP", address.ip().to_string()),
        ("TCPREMOTEPORT", address.port().to_string()),
        ("DENY_TLS", "1".to_owned()),
        ("DISABLETLS", "1".to_owned()),
        ("FORCETLS", "0".to_owned()),
        ("SSL_CERT_FILE", "/kept".to_owned()),
    ];
    for (name, value) in expected {
        assert_eq!(environment.get(name), Some(&value), "{name}");
    }
}

/// Names of variables that tell of TLS.
fn tls_names(environment: &Environment) -> Vec<&str> {
    environment.keys().filter(|name| name.starts_with("SSL")).map(String::as_str).collect()
}

#[test]
fn the_environment_tells_the_truth_before_and_after_the_handshake() {
    let Some(mut server) = mailfront("starttls-wrap") else { return };
    for (name, value) in LEFT {
        server = server.env(name, value);
    }
    let server = server.start();
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO client.test", "250");
    let [before] = &witnessed(&server)[..] else { panic!("not one program") };
    check_common(before, &client);
    assert_eq!(tls_names(before), ["SSL_CERT_FILE"]);
    assert!(!before.contains_key("SSLCERT"));
    assert!(!before.contains_key("ALLOW_INSECURE_AUTH"));

    client.starttls();
    client.expect("EHLO client.test", "250");
    let [_, after] = &witnessed(&server)[..] else { panic!("not two programs") };
    check_common(after, &client);
    let suite = client.tls().negotiated_cipher_suite().expect("a cipher suite").suite();
    let suite = format!("{suite:?}").replace("TLS13_", "TLS_");
    let expected = [
        ("SSL", "1"),
        ("SSL_PROTOCOL", "TLSv1.3"),
        ("SSL_CIPHER", &suite),
        ("SSL_TLS_SNI_SERVERNAME", "mx.test"),
        ("ALLOW_INSECURE_AUTH", "1"),
        ("CONNID", &before["CONNID"]),
    ];
    for (name, value) in expected {
        assert_eq!(after.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!after.contains_key("SSL_CLIENT_S_DN"), "nobody has verified a client certificate");
}

#[test]
fn with_tls_from_the_first_byte_there_is_one_program_and_it_knows() {
    for (wrapper, setting) in [("starttls-wrap -i", ""), ("starttls-wrap", "1")] {
        let Some(server) = mailfront(wrapper) else { return };
        let server = server.env("SSL", setting).start();
        let mut client = server.connect();
        client.handshake();
        client.reply();
        client.expect("EHLO client.test", "250");
        let [environment] = &witnessed(&server)[..] else { panic!("not one program") };
        assert_eq!(environment.get("SSL_PROTOCOL").map(String::as_str), Some("TLSv1.3"));
        assert_eq!(environment.get("SSL").map(String::as_str), Some("1"));
    }
}

/// RFC 3207 4.2: "The server MUST discard any knowledge obtained from the client, such as the argument to the EHLO command".
#[test]
fn nothing_of_the_session_in_clear_is_left_after_the_handshake() {
    let Some(server) = mailfront("starttls-wrap") else { return };
    let server = server.env("ALLOW_INSECURE_AUTH", "1").start();
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO clear.test", "250");
    client.expect(AUTH, "235");
    client.expect("MAIL FROM:<clear@clear.test>", "250");
    client.expect("RCPT TO:<clear@elsewhere.test>", "250");

    client.starttls();
    client.expect("DATA", "503");
    client.expect("RCPT TO:<postmaster@mx.test>", "503");
    client.expect("MAIL FROM:<sender@client.test>", "250");
    client.expect("RCPT TO:<inside@elsewhere.test>", "550");
    client.expect("RCPT TO:<postmaster@mx.test>", "250");
    client.expect("DATA", "354");
    client.send("Subject: without EHLO\r\n\r\nhello\r\n.\r\n");
    assert!(client.reply().starts_with("250"), "{}", client.transcript());
    client.expect("EHLO inside.test", "250");
    client.expect(AUTH, "235");
    client.expect("QUIT", "221");
    client.closed();

    let [mail] = &server.mails()[..] else { panic!("not one mail") };
    let mail = String::from_utf8_lossy(mail);
    assert!(!mail.contains("clear.test"), "said in clear: {mail}");
    assert!(mail.contains("with SMTP via TCP"), "EHLO was said in clear only: {mail}");
}

#[test]
fn auth_is_hidden_and_refused_in_clear_and_offered_inside_tls() {
    let Some(server) = mailfront("starttls-wrap") else { return };
    let server = server.start();
    let mut client = server.connect();
    client.reply();
    assert!(!client.expect("EHLO client.test", "250").contains("AUTH"));
    client.expect(AUTH, "538 5.7.11");
    client.expect("NOOP", "250");
    client.starttls();
    let offers = client.expect("EHLO client.test", "250");
    assert!(offers.contains("AUTH") && !offers.contains("STARTTLS"), "{offers}");
    client.expect(AUTH, "235");
    client.expect("STARTTLS", "503");
}
