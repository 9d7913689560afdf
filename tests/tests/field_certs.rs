//! Certificates by name, as certbot, acme.sh and lego keep them, asked for by a client that sends any name.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use chain_tests::folder::Key;
use chain_tests::hello::{Answer, ClientHello, answer, counted, host_name};
use chain_tests::{CHAIN, Server};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

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
    server.folder.issue("a.test", Key::P256, "a.test/fullchain.pem", "a.test/privkey.pem");
    server.folder.issue("*.b.test", Key::P256, "b.test/fullchain.pem", "b.test/privkey.pem");
    server.folder.issue("c.test", Key::P256, "c.test_ecc/fullchain.cer", "c.test_ecc/c.test.key");
    server.folder.issue("d.test", Key::P256, "d.test.crt", "d.test.key");
    server.folder.issue("*.e.test", Key::P256, "_.e.test.crt", "_.e.test.key");
    server.folder.issue("other.test", Key::P256, "f.test/fullchain.pem", "f.test/privkey.pem");
    server.folder.issue(
        "*.g.test",
        Key::P256,
        "*.g.test_ecc/fullchain.cer",
        "*.g.test_ecc/*.g.test.key",
    );
    server.folder.issue("x_y.h.test", Key::P256, "x_y.h.test.crt", "x_y.h.test.key");
    let certs = server.folder.text("certs");
    let server = server.env("CERTDIR", &certs).start();
    for (name, expected) in [
        ("a.test", "a.test"),
        ("A.TeSt", "a.test"),
        ("a.test.", "a.test"),
        ("mx.b.test", "*.b.test"),
        ("too.deep.b.test", "mx.test"),
        ("c.test", "c.test"),
        ("d.test", "d.test"),
        ("mx.e.test", "*.e.test"),
        ("f.test", "mx.test"),
        ("mx.g.test", "*.g.test"),
        ("x_y.h.test", "x_y.h.test"),
        ("unknown.test", "mx.test"),
        ("127.0.0.1", "mx.test"),
        ("2001:db8::1", "mx.test"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let subject = shown(&server, &["-servername", name, version]);
            assert_eq!(subject, expected, "{name} {version}");
        }
    }
    assert_eq!(shown(&server, &["-noservername"]), "mx.test");
}

/// Of certbot, acme.sh and lego: where they keep certificate and key of a name.
const LAYOUTS: [(&str, [&str; 2]); 4] = [
    ("certbot", ["NAME/fullchain.pem", "NAME/privkey.pem"]),
    ("acme.sh", ["NAME_ecc/fullchain.cer", "NAME_ecc/NAME.key"]),
    ("acme.sh with RSA", ["NAME/fullchain.cer", "NAME/NAME.key"]),
    ("lego", ["NAME.crt", "NAME.key"]),
];

// "SNI: exact, wildcard, mixed case, trailing dot, unknown, none, an address, ... 50 names", in each layout.
#[test]
fn fifty_names_in_every_layout() {
    let names: Vec<String> = (0..50).map(|number| format!("n{number}.names.test")).collect();
    let server = Server::new(CHAIN);
    for name in &names {
        let [certificate, key] = LAYOUTS[0].1.map(|path| path.replace("NAME", name));
        server.folder.issue(name, Key::P256, &certificate, &key);
    }
    let certs = server.folder.path("certs");
    let server = server.env("CERTDIR", certs.to_str().unwrap()).start();
    let mut place = LAYOUTS[0].1;
    for (layout, next) in LAYOUTS {
        for name in &names {
            let [from, to] = [place, next].map(|p| p.map(|p| certs.join(p.replace("NAME", name))));
            for (from, to) in from.iter().zip(&to) {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::rename(from, to).unwrap();
            }
        }
        place = next;
        for (index, name) in names.iter().enumerate() {
            let path = certs.join(place[0].replace("NAME", name));
            let asked = match index % 3 {
                0 => name.clone(),
                1 => name.to_ascii_uppercase(),
                _ => format!("{name}."),
            };
            let answer = answered(&server, &ClientHello::asking_for(asked.as_bytes()));
            assert_eq!(answer, Answer::Certificate(leaf(&path)), "{layout}: {asked}");
        }
    }
}

// "ECDSA and RSA clients each get theirs": by their signature schemes, and in TLS 1.2 by their cipher suites (RFC 8422 5.1.1).
#[test]
fn clients_of_both_kinds_get_the_certificate_that_they_can_check() {
    for [ecdsa, rsa] in [
        [LAYOUTS[1].1, LAYOUTS[2].1],
        [LAYOUTS[0].1, ["NAME-0001/fullchain.pem", "NAME-0001/privkey.pem"]],
        [["NAME-0001/fullchain.pem", "NAME-0001/privkey.pem"], LAYOUTS[0].1],
    ] {
        let server = Server::new(CHAIN);
        for (key, [certificate, secret]) in [(Key::P256, ecdsa), (Key::Rsa, rsa)] {
            let [certificate, secret] = [certificate, secret].map(|p| p.replace("NAME", "c.test"));
            server.folder.issue("c.test", key, &certificate, &secret);
        }
        let certs = server.folder.text("certs");
        let server = server.env("CERTDIR", &certs).start();
        for (options, path) in [
            (&["-tls1_3"][..], ecdsa[0]),
            (&["-tls1_2"], ecdsa[0]),
            (&["-tls1_3", "-sigalgs", "RSA-PSS+SHA256:ECDSA+SHA256"], ecdsa[0]),
            (&["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"], rsa[0]),
            (&["-tls1_2", "-sigalgs", "ECDSA+SHA256"], ecdsa[0]),
            (&["-tls1_2", "-sigalgs", "RSA-PSS+SHA256"], rsa[0]),
            (&["-tls1_2", "-sigalgs", "RSA+SHA256"], rsa[0]),
            (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], rsa[0]),
            (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], ecdsa[0]),
        ] {
            let log = server.log().len();
            let subject = shown(&server, &[options, &["-servername", "c.test"]].concat());
            assert_eq!(subject, "c.test", "{options:?}");
            let path = server.folder.path("certs").join(path.replace("NAME", "c.test"));
            let digest = format!("cert=sha256:{}", fingerprint(&path));
            assert!(server.log()[log..].contains(&digest), "{options:?}: {}", server.log());
        }
    }
}

// What was issued before the kind of key was changed, or under certbot's first name, lies there for ever.
#[test]
fn a_certificate_that_has_expired_is_the_last_choice() {
    let server = Server::new(CHAIN);
    let [old, new] =
        [LAYOUTS[1].1, LAYOUTS[2].1].map(|place| place.map(|p| p.replace("NAME", "c.test")));
    server.folder.issue("c.test", Key::P256, &old[0], &old[1]);
    server.folder.issue("c.test", Key::Rsa, &new[0], &new[1]);
    let certs = server.folder.path("certs");
    let reissued = certs.join("reissued.pem");
    let expire = |certificate: &str, key: &str| {
        let path = certs.join(certificate);
        let mut openssl = Command::new("openssl");
        let openssl = openssl.args(["x509", "-days", "-1", "-in"]).arg(&path).arg("-signkey");
        let ended = openssl.arg(certs.join(key)).arg("-out").arg(&reissued).output().unwrap();
        assert!(ended.status.success(), "{}", ended.stderr.escape_ascii());
        fs::rename(&reissued, path).unwrap();
    };
    expire(&old[0], &old[1]);
    let server = server.env("CERTDIR", certs.to_str().unwrap()).start();
    let shown = || match answered(&server, &ClientHello::asking_for(b"c.test")) {
        Answer::Certificate(der) => der,
        other => panic!("{other:?}"),
    };
    assert_eq!(shown(), leaf(&certs.join(&new[0])));
    // Where all have, it is still the one for the name, and the first again.
    expire(&new[0], &new[1]);
    assert_eq!(shown(), leaf(&certs.join(&old[0])));
}

// RFC 6066 3: "Literal IPv4 and IPv6 addresses are not permitted in HostName"; what they and names that nobody could have get is in
// starttls-wrap.8 under CAVEATS. The TLS library ends the handshake where the name breaks the grammar of host names.
#[test]
fn names_that_are_none() {
    let server = Server::new(CHAIN);
    server.folder.issue("a.test", Key::P256, "a.test/fullchain.pem", "a.test/privkey.pem");
    server.folder.issue("*.b.test", Key::P256, "_.b.test.crt", "_.b.test.key");
    let certs = server.folder.path("certs");
    let server = server.env("CERTDIR", certs.to_str().unwrap()).start();
    let default = Answer::Certificate(leaf(&server.folder.path("cert.pem")));
    let wildcard = Answer::Certificate(leaf(&certs.join("_.b.test.crt")));
    let label = "a".repeat(63);
    let name = |last: usize| [&label[..], &label, &label, &label[..last]].join(".");
    assert_eq!(name(61).len(), 253);
    let two = counted(&[&host_name(b"a.test")[2..], &host_name(b"b.test")[2..]].concat());
    let cases: Vec<(Option<Vec<u8>>, Answer)> = vec![
        (None, default.clone()),
        (Some(host_name(b"192.0.2.1")), default.clone()),
        (Some(host_name(b"2001:db8::1")), default.clone()),
        (Some(host_name(name(61).as_bytes())), default.clone()),
        (Some(host_name(b"_._._")), default.clone()),
        (Some(host_name(b"localhost")), default.clone()),
        (Some(host_name(b"MX.b.test.")), wildcard),
        (Some(host_name(name(62).as_bytes())), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(&[b'a'; 64])), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(&[b'a'; 10_000])), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b"../certs/a.test")), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b"*.b.test")), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b"a.test\0b.test")), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b"a.test\0")), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b"a..test")), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b".a.test")), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b"a.test..")), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b".")), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b"-a.test")), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b"a-.test")), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b"a.123")), Answer::Alert(ILLEGAL_PARAMETER)),
        (Some(host_name(b"[192.0.2.1]")), Answer::Alert(ILLEGAL_PARAMETER)),
        // RFC 6066 3: another kind of name than host_name.
        (Some(counted(&[1, 0, 1, b'a'])), Answer::Alert(ILLEGAL_PARAMETER)),
        // RFC 6066 3: "opaque HostName<1..2^16-1>", "ServerName server_name_list<1..2^16-1>", one name of a kind.
        (Some(host_name(b"")), Answer::Alert(DECODE_ERROR)),
        (Some(counted(b"")), Answer::Alert(DECODE_ERROR)),
        (Some(Vec::new()), Answer::Alert(DECODE_ERROR)),
        (Some(two), Answer::Alert(DECODE_ERROR)),
    ];
    for (server_name, expected) in cases {
        let mut hello = ClientHello { server_name, ..ClientHello::asking_for(b"") };
        let shown = hello.server_name.clone().unwrap_or_default().escape_ascii().to_string();
        assert_eq!(answered(&server, &hello), expected, "{shown}");
        hello.tls_1_3 = true;
        let expected = match expected {
            Answer::Alert(_) => expected,
            _ => Answer::Accepted,
        };
        assert_eq!(answered(&server, &hello), expected, "TLS 1.3 {shown}");
    }
    // Every byte, alone between two that may stand there.
    for byte in 0..=255 {
        let answer = answered(&server, &ClientHello::asking_for(&[b'x', byte, b'x', b'.', b't']));
        let expected = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => default.clone(),
            _ => Answer::Alert(ILLEGAL_PARAMETER),
        };
        assert_eq!(answer, expected, "{byte}");
    }
    server.idle();
    assert!(!server.log().contains("unusable"), "{}", server.log());
    server.logged(
        "tls failed from=server reason=\"peer misbehaved: ServerNameMustContainOneHostName\"",
    );
}

/// What the server answers to this ClientHello behind STARTTLS.
fn answered(server: &Server, hello: &ClientHello) -> Answer {
    let mut client = server.connect();
    client.reply();
    client.expect("STARTTLS", "220");
    client.stream().write_all(&hello.bytes()).unwrap();
    answer(client.stream())
}

/// The server's own certificate in a PEM file, in DER.
fn leaf(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

/// Its SHA-256, as openssl computes it.
fn fingerprint(path: &Path) -> String {
    let mut openssl = Command::new("openssl");
    let openssl = openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(path);
    let digest = String::from_utf8(openssl.output().unwrap().stdout).unwrap();
    let digest = digest.trim().rsplit('=').next().unwrap();
    digest.replace(':', "").to_lowercase()
}

/// RFC 8446 6.2.
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
