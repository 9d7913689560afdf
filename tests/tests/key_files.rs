//! Key and certificate files that cannot be used, and those that are replaced.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use chain_tests::folder::{Key, NAME};
use chain_tests::programs::needs_root;
use chain_tests::{CHAIN, Client, Server};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// Asks for TLS, is refused, and delivers in clear; the log must tell once why.
fn refused_with(server: &Server, words: &str) -> Client {
    // Otherwise it could be a renewal, and would be waited for.
    server.folder.age(&[""]);
    for name in ["cert.pem", "cert.key"] {
        if server.folder.path(name).is_file() {
            server.folder.age(&[name]);
        }
    }
    let told = |log: &str| {
        log.lines().filter(|line| line.contains(&format!("tls key unusable: {words}"))).count()
    };
    let before = server.log();
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO client.test", "250");
    assert_eq!(client.ask("STARTTLS"), "454 4.7.0 TLS not available at the moment");
    let reply = client.deliver("Subject: in clear\r\n\r\nhello\r\n");
    assert!(reply.starts_with("250 "), "{words}: {}", client.transcript());
    let log = server.log();
    let unusable = |log: &str| log.matches("tls key unusable: ").count();
    assert_eq!(told(&log), told(&before) + 1, "{words}: {log}");
    assert_eq!(unusable(&log), unusable(&before) + 1, "{words}: {log}");
    assert_eq!(server.take_mails().len(), 1);
    client
}

// RFC 3207 4: 454 TLS not available due to temporary reason; DESIGN 5: "the session goes on in clear".
#[test]
fn with_an_unusable_key_mail_still_flows_in_clear() {
    let server = Server::new(CHAIN);
    server.folder.certificate("other", Key::P256, &[NAME]);
    let server = server.start();
    let path = |name: &str| server.folder.path(name);
    let [certificate, key, other] =
        ["cert.pem", "cert.key", "other.key"].map(|name| fs::read(path(name)).unwrap());
    let encrypt = ["pkey", "-aes256", "-passout", "pass:secret", "-in"];
    let encrypted = output(Command::new("openssl").args(encrypt).arg(path("cert.key")));
    let old = ["ec", "-aes256", "-passout", "pass:secret", "-in"];
    let encrypted_as_of_old = output(Command::new("openssl").args(old).arg(path("cert.key")));
    let half = &key[..key.len() / 2];
    for (file, content, words) in [
        ("cert.key", &b""[..], "the key file: "),
        (
            "cert.key",
            b"-----BEGIN EC PRIVATE KEY-----\nno\n-----END EC PRIVATE KEY-----\n",
            "the key file: ",
        ),
        ("cert.key", half, "the key file: "),
        ("cert.key", &encrypted, "the key file is encrypted"),
        ("cert.key", &encrypted_as_of_old, "the key file is encrypted"),
        ("cert.key", &certificate, "the key file: "),
        ("cert.key", &other, "key and certificate: "),
        ("cert.pem", b"", "the certificate file: no certificate"),
        ("cert.pem", b"no PEM at all\n", "the certificate file: no certificate"),
        ("cert.pem", &certificate[..100], "the certificate file: "),
    ] {
        server.folder.write(file, content);
        refused_with(&server, words);
        server.folder.write("cert.pem", &certificate);
        server.folder.write("cert.key", &key);
    }
    // A named pipe that nobody writes to must not hang anybody; nor may a folder.
    fs::remove_file(path("cert.key")).unwrap();
    mkfifo(&path("cert.key"), Mode::from_bits_truncate(0o600)).unwrap();
    refused_with(&server, "the key file: ");
    fs::remove_file(path("cert.key")).unwrap();
    fs::create_dir(path("cert.key")).unwrap();
    refused_with(&server, "unable to read the key file: Is a directory");
    fs::remove_dir(path("cert.key")).unwrap();
    server.folder.write("cert.key", &key);
    for file in ["cert.key", "cert.pem"] {
        let aside = path("aside");
        fs::rename(path(file), &aside).unwrap();
        let words = format!("unable to open {}: No such file or directory", path(file).display());
        let mut client = refused_with(&server, &words);
        fs::rename(&aside, path(file)).unwrap();
        // Read at the handshake: what is mended serves the next STARTTLS of the same session.
        client.starttls();
        client.expect("EHLO client.test", "250");
    }
    for line in String::from_utf8(key).unwrap().lines().filter(|line| !line.starts_with('-')) {
        assert!(!server.log().contains(line), "{}", server.log());
    }
}

// The same for variables that are not set, and for files that only their owner may read.
#[test]
fn with_no_key_at_hand_mail_still_flows_in_clear() {
    let server = Server::new(CHAIN).without("CERTFILE").start();
    refused_with(&server, "CERTFILE is not set");
    let server = Server::new(CHAIN).without("CERTFILE").without("KEYFILE").start();
    refused_with(&server, "CERTFILE is not set");
    let server = Server::new(CHAIN).without("KEYFILE").start();
    refused_with(&server, "the key file: ");
    let both = ["cert.pem", "cert.key"].map(|name| fs::read(server.folder.path(name)).unwrap());
    server.folder.write("cert.pem", both.concat());
    let mut client = server.connect();
    client.reply();
    client.starttls();

    let server = Server::new(CHAIN).ordinary().start();
    let key = server.folder.path("cert.key");
    fs::set_permissions(&key, Permissions::from_mode(0o000)).unwrap();
    refused_with(&server, &format!("unable to open {}: Permission denied", key.display()));
}

// DESIGN 5: "Read at the handshake: a renewal needs no signal."
#[test]
fn a_certificate_replaced_between_two_connections_is_shown_by_the_second() {
    let server = Server::new(CHAIN).start();
    let shown = || {
        let mut client = server.connect();
        client.reply();
        client.starttls();
        client.expect("QUIT", "221");
        client.tls().peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown();
    assert_eq!(shown(), first);
    server.folder.certificate("cert", Key::Rsa, &[NAME]);
    assert_ne!(shown(), first);
}

// DESIGN 2: CERTFILE and KEYFILE may be root's alone: the monitor opens them, and key has given up root when it reads them.
#[test]
fn files_of_root_alone_are_enough() {
    if !needs_root() {
        return;
    }
    let server = Server::new(CHAIN).start();
    for name in ["cert.pem", "cert.key"] {
        fs::set_permissions(server.folder.path(name), Permissions::from_mode(0o400)).unwrap();
    }
    let mut client = server.connect();
    client.reply();
    client.starttls();
    client.expect("QUIT", "221");
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("openssl");
    assert!(output.status.success(), "{}", output.stderr.escape_ascii());
    output.stdout
}
