//! Certificates by name, as certbot, acme.sh and lego keep them, asked for by a client that sends any name.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;

use chain_tests::folder::Key;
use chain_tests::server::Builder;
use chain_tests::{CHAIN, Server};

/// Puts a certificate for `host` where an ACME client would.
fn issue(server: &Builder, host: &str, key: Key, certificate: &str, secret: &str) {
    let folder = &server.folder;
    folder.certificate("issued", key, &[host]);
    for (from, to) in [("issued.pem", certificate), ("issued.key", secret)] {
        let to = folder.path("certs").join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(folder.path(from), to).unwrap();
    }
}

/// What a client that sends this name is shown: the subject of the certificate, or the number of the alert.
fn shown(server: &Server, options: &[&str]) -> String {
    let output = Command::new("timeout")
        .args(["60", "openssl", "s_client", "-starttls", "smtp"])
        .args(["-connect", &server.address().to_string()])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let after = |mark: &str| said.split(mark).nth(1).and_then(|rest| rest.lines().next());
    let subject = after("subject=CN = ").map(str::to_owned);
    let alert = after("SSL alert number ").map(|number| format!("alert {number}"));
    alert.or(subject).unwrap_or_else(|| panic!("{options:?}: {said}"))
}

// DESIGN 5: "CERTDIR in the layouts of certbot (wildcards under the base name), acme.sh (name_ecc and name) and lego (flat name.crt, name.key,
// _.name.crt); several per name, ECDSA before RSA ... a candidate counts only if its names match; otherwise CERTFILE".
#[test]
fn every_name_gets_its_certificate() {
    let server = Server::new(CHAIN);
    issue(&server, "a.test", Key::P256, "a.test/fullchain.pem", "a.test/privkey.pem");
    issue(&server, "*.b.test", Key::P256, "b.test/fullchain.pem", "b.test/privkey.pem");
    issue(&server, "c.test", Key::P256, "c.test_ecc/fullchain.cer", "c.test_ecc/c.test.key");
    issue(&server, "c.test", Key::Rsa, "c.test/fullchain.cer", "c.test/c.test.key");
    issue(&server, "d.test", Key::P256, "d.test.crt", "d.test.key");
    issue(&server, "*.e.test", Key::P256, "_.e.test.crt", "_.e.test.key");
    issue(&server, "other.test", Key::P256, "f.test/fullchain.pem", "f.test/privkey.pem");
    let names: Vec<String> = (0..50).map(|number| format!("n{number}.test")).collect();
    for name in &names[..3] {
        let [certificate, key] = ["fullchain", "privkey"].map(|file| format!("{name}/{file}.pem"));
        issue(&server, name, Key::P256, &certificate, &key);
    }
    let certs = server.folder.text("certs");
    let server = server.env("CERTDIR", &certs).start();
    let label = "a".repeat(63);
    let longest = [&label[..], &label, &label, &label[..62]].join(".");
    for (name, expected) in [
        ("a.test", "a.test"),
        ("A.TeSt", "a.test"),
        ("mx.b.test", "*.b.test"),
        ("too.deep.b.test", "mx.test"),
        ("c.test", "c.test"),
        ("d.test", "d.test"),
        ("mx.e.test", "*.e.test"),
        ("f.test", "mx.test"),
        ("unknown.test", "mx.test"),
        ("127.0.0.1", "mx.test"),
        // What is no host name never comes to the choice: the TLS library itself ends the handshake (illegal_parameter).
        ("a.test.", "a.test"),
        (&longest, "alert 47"),
        ("../certs/a.test", "alert 47"),
        ("*.b.test", "alert 47"),
    ] {
        assert_eq!(shown(&server, &["-servername", name]), expected, "{name}");
    }
    assert_eq!(shown(&server, &["-noservername"]), "mx.test");
    for name in &names[..3] {
        assert_eq!(&shown(&server, &["-servername", name]), name);
    }
    // Both kinds of clients get a certificate that they can check.
    for (schemes, certificate) in
        [("ECDSA+SHA256:RSA-PSS+SHA256", "c.test_ecc"), ("RSA-PSS+SHA256", "c.test")]
    {
        let subject = shown(&server, &["-servername", "c.test", "-sigalgs", schemes]);
        assert_eq!(subject, "c.test", "{schemes}");
        let path = server.folder.path("certs").join(certificate).join("fullchain.cer");
        let digest = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(path)
            .output()
            .unwrap();
        let digest = String::from_utf8(digest.stdout).unwrap().replace(':', "").to_lowercase();
        let digest = digest.trim().rsplit('=').next().unwrap();
        server.logged(&format!("cert=sha256:{digest}"));
    }
}

// "renewal by rename and by directory symlink under load loses no session".
#[test]
fn renewal_under_load_loses_no_session() {
    let server = Server::new(CHAIN);
    for version in VERSIONS {
        let [certificate, key] = ["pem", "key"].map(|end| format!("{version}/mx.{end}"));
        issue(&server, "mx.test", Key::P256, &certificate, &key);
    }
    let certs = server.folder.path("certs");
    symlink(VERSIONS[0], certs.join("live")).unwrap();
    let live = |name: &str| certs.join("live").join(name).to_str().unwrap().to_owned();
    let server = server.env("CERTFILE", &live("mx.pem")).env("KEYFILE", &live("mx.key")).start();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let mut client = server.connect();
                        client.reply();
                        client.starttls();
                        client.expect("QUIT", "221");
                    }
                })
            })
            .collect();
        let mut versions = VERSIONS.iter().cycle();
        while !clients.iter().all(thread::ScopedJoinHandle::is_finished) {
            symlink(versions.next().unwrap(), certs.join("next")).unwrap();
            fs::rename(certs.join("next"), certs.join("live")).unwrap();
            thread::yield_now();
        }
    });
    assert_eq!(server.log().matches("tls ok").count(), 100, "{}", server.log());
}

/// Enough that none is back before a session has opened both of its files.
const VERSIONS: [&str; 5] = ["one", "two", "three", "four", "five"];
