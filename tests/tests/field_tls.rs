//! What foreign TLS clients and scanners find on the chain.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use chain_tests::folder::Key;
use chain_tests::hello::{Answer, ClientHello, X25519, X25519_MLKEM_768, answer};
use chain_tests::{CHAIN, Server, peers, programs, until};

/// Runs a command that cannot hang the test, and gives all it said.
fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("start a client");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn openssl(server: &Server, options: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["60", "openssl", "s_client", "-starttls", "smtp", "-servername", "mx.test"]);
    command.args(["-CAfile", &server.folder.text("ca.pem"), "-verify_return_error"]);
    command.args(["-connect", &server.address().to_string()]).args(options);
    command
}

// RFC 5246 E.1: a server that supports no version as low as the client's "MUST send a 'protocol_version' alert message and close".
#[test]
fn tls_1_0_and_1_1_get_the_alert_protocol_version() {
    let server = Server::new(CHAIN).start();
    for version in ["-tls1", "-tls1_1"] {
        let heard = said(&mut openssl(&server, &[version, "-cipher", "DEFAULT@SECLEVEL=0"]));
        assert!(heard.contains("SSL alert number 70"), "{version}: {heard}");
    }
    server.idle();
    assert_eq!(server.log().matches("tls failed from=server").count(), 2, "{}", server.log());
    // The same from a client that is cut off after each byte.
    let mut client = server.connect();
    client.reply();
    client.expect("STARTTLS", "220");
    client.send_singly(TLS_1_1_HELLO);
    let mut alert = Vec::new();
    client.stream().read_to_end(&mut alert).unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 70]);
}

/// A ClientHello of TLS 1.1 with one cipher suite and no extension (RFC 4346 7.4.1.2).
const TLS_1_1_HELLO: &[u8] = b"\x16\x03\x01\0\x2d\x01\0\0\x29\x03\x02\
    0123456789abcdef0123456789abcdef\0\0\x02\0\x2f\x01\0";

// RFC 8446 6.2, handshake_failure: "unable to negotiate an acceptable set of security parameters".
#[test]
fn a_client_that_knows_no_signature_of_ours_gets_the_alert_handshake_failure() {
    let server = Server::new(CHAIN).start();
    for version in ["-tls1_2", "-tls1_3"] {
        let heard = said(&mut openssl(&server, &[version, "-sigalgs", "RSA-PSS+SHA256"]));
        assert!(heard.contains("SSL alert number 40"), "{version}: {heard}");
    }
    let heard = said(&mut openssl(&server, &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]));
    assert!(heard.contains("SSL alert number 40"), "{heard}");
}

// "sslscan ... find[s] nothing worse than the self-signed certificate"
#[test]
fn sslscan_finds_nothing() {
    if !programs::debian("sslscan", "sslscan") {
        return;
    }
    let server = Server::new(CHAIN).start();
    let found = said(
        Command::new("timeout")
            .args(["120", "sslscan", "--starttls-smtp", "--no-colour", "--xml=-"])
            .arg(server.address().to_string()),
    );
    let enabled: Vec<_> = found
        .lines()
        .filter(|line| line.contains("<protocol ") && line.contains("enabled=\"1\""))
        .filter_map(|line| line.split("version=\"").nth(1)?.split('"').next())
        .collect();
    assert_eq!(enabled, ["1.2", "1.3"], "{found}");
    assert_eq!(found.matches("vulnerable=\"0\"").count(), 2, "{found}");
    assert_eq!(found.matches("<cipher ").count(), 6, "{found}");
    for worse in
        ["vulnerable=\"1\"", "strength=\"weak\"", "strength=\"null\"", "strength=\"medium\""]
    {
        assert!(!found.contains(worse), "{worse}: {found}");
    }
    assert!(found.contains("<renegotiation supported=\"0\""), "{found}");
}

// "testssl.sh ... find[s] nothing worse than the self-signed certificate"
#[test]
fn testssl_finds_nothing() {
    if !programs::debian("testssl", "testssl.sh") {
        return;
    }
    let server = Server::new(CHAIN).start();
    let report = server.folder.text("testssl.csv");
    let heard = said(
        Command::new("timeout")
            .args(["300", "testssl", "--quiet", "--color", "0", "--warnings", "batch"])
            .args(["--nodns", "none", "--openssl", "/usr/bin/openssl", "-t", "smtp"])
            .args(["-p", "-s", "-H", "-I", "-R", "-C", "-O", "-Z", "--csvfile", &report])
            .arg(server.address().to_string()),
    );
    let report = std::fs::read_to_string(report).unwrap_or_default();
    let findings: Vec<Vec<&str>> = report
        .lines()
        .map(|line| line.trim_matches('"').split("\",\"").collect::<Vec<_>>())
        .filter(|fields| fields.len() > 4 && fields[0] != "id" && fields[0] != "engine_problem")
        .collect();
    assert!(findings.iter().any(|fields| fields[0] == "heartbleed"), "{heard}\n{report}");
    assert!(findings.iter().any(|fields| fields[0] == "TLS1_3"), "{heard}\n{report}");
    for fields in &findings {
        assert!(matches!(fields[3], "OK" | "INFO"), "{fields:?}\n{heard}");
    }
}

// "sslyze find[s] nothing worse than the self-signed certificate"
#[test]
fn sslyze_finds_nothing() {
    let Some(modules) = peers::python("sslyze") else { return };
    let server = Server::new(CHAIN).start();
    let heard = said(
        Command::new("timeout")
            .args(["120", "python3", "-m", "sslyze", "--starttls=smtp", "--sslv2", "--sslv3"])
            .args(["--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--compression", "--robot"])
            .args(["--heartbleed", "--openssl_ccs", "--fallback", "--reneg", "--early_data"])
            .arg(server.address().to_string())
            .env("PYTHONPATH", modules),
    );
    assert!(heard.contains("SCANS COMPLETED"), "{heard}");
    for good in [
        "OK - Compression disabled",
        "OK - Not vulnerable to Heartbleed",
        "OK - Not vulnerable to OpenSSL CCS injection",
        "OK - Not vulnerable, RSA cipher suites not supported",
        "Client Renegotiation DoS Attack:   OK - Not vulnerable",
        "Secure Renegotiation:              OK - Supported",
    ] {
        assert!(heard.contains(good), "{good}: {heard}");
    }
    assert_eq!(heard.matches("the server rejected all cipher suites").count(), 4, "{heard}");
    assert!(!heard.contains("VULNERABLE") && !heard.contains("Error when"), "{heard}");
}

// "X25519MLKEM768 negotiated with a client that has it ..., and X25519 with one that has not."
#[test]
fn the_hybrid_group_with_openssl_3_5_and_x25519_with_an_older_one() {
    let server = Server::new(CHAIN).start();
    let deliver = |libraries: Option<String>| {
        let mut command = openssl(&server, &[]);
        command.envs(libraries.map(|path| ("LD_LIBRARY_PATH", path)));
        said(&mut command)
    };
    deliver(None);
    let old = server.logged("tls ok");
    // OpenSSL 3.5 and newer have ML-KEM and offer the hybrid group first; before that none has it.
    let version = said(Command::new("openssl").arg("version"));
    if version.contains("OpenSSL 3.0") {
        assert!(old.contains(" group=X25519 "), "{old}");
    }
    let Some(libraries) = peers::openssl_3_5() else { return };
    deliver(Some(libraries));
    server.logged(" group=X25519MLKEM768 ");
}

// RFC 8446 4.1.4: a client whose first key share is for a group that nobody here knows is asked for another; its certificate is chosen
// twice, and its name looked up once.
#[test]
fn a_hello_retry() {
    let server = Server::new(CHAIN);
    server.folder.issue("mx.test", Key::P256, "mx.test.crt", "mx.test.key");
    server.folder.issue("mx.test", Key::Rsa, "mx.test/fullchain.pem", "mx.test/privkey.pem");
    let certs = server.folder.text("certs");
    let server = server.env("CERTDIR", &certs).start();
    for (groups, sigalgs) in [
        ("X448:X25519", "ECDSA+SHA256:RSA-PSS+SHA256"),
        ("X448:P-256", "ECDSA+SHA256"),
        ("X448:P-384", "RSA-PSS+SHA256"),
    ] {
        let options = ["-tls1_3", "-groups", groups, "-sigalgs", sigalgs, "-msg"];
        let heard = said(&mut openssl(&server, &options));
        assert_eq!(heard.matches(", ClientHello").count(), 2, "{heard}");
        assert!(heard.contains("Verify return code: 0 (ok)"), "{heard}");
    }
    assert_eq!(server.log().matches("tls ok ").count(), 3, "{}", server.log());
}

// FIPS 203 7.2: the encapsulation key's length and coefficients are checked. RFC 7748 6.1: so is an all-zero shared secret. RFC 8446 4.2.8:
// illegal_parameter.
#[test]
fn key_shares_that_are_none_get_the_alert_illegal_parameter() {
    let server = Server::new(CHAIN).start();
    let hybrid = |lattice: &[u8], curve: &[u8]| (X25519_MLKEM_768, [lattice, curve].concat());
    let refused = Answer::Alert(47);
    for (share, expected) in [
        (hybrid(&[0; 1184], &[9; 32]), Answer::Accepted),
        (hybrid(&[0; 1184], &[0; 32]), refused.clone()),
        // Coefficients above the modulus 3329.
        (hybrid(&[0xff; 1184], &[9; 32]), refused.clone()),
        (hybrid(&[0; 1183], &[9; 32]), refused.clone()),
        (hybrid(&[0; 1185], &[9; 32]), refused.clone()),
        (hybrid(&[], &[9; 32]), refused.clone()),
        (hybrid(&[], &[9]), refused.clone()),
        ((X25519, vec![9; 32]), Answer::Accepted),
        ((X25519, vec![0; 32]), refused.clone()),
        ((X25519, vec![9; 31]), refused.clone()),
        ((X25519, vec![9; 33]), refused),
    ] {
        let told = format!("{:x} {} {}", share.0, share.1.len(), share.1[0]);
        let hello = ClientHello { tls_1_3: true, share, ..ClientHello::asking_for(b"mx.test") };
        let mut client = server.connect();
        client.reply();
        client.expect("STARTTLS", "220");
        client.stream().write_all(&hello.bytes()).unwrap();
        assert_eq!(answer(client.stream()), expected, "{told}");
    }
    server.idle();
    assert!(!server.log().contains("killed"), "{}", server.log());
}

// "abrupt closes at every step of the handshake leave nothing behind"
#[test]
fn a_client_that_goes_away_at_any_byte_of_its_handshake_leaves_nothing_behind() {
    let server = Server::new(CHAIN).start();
    let begin = || {
        let mut client = server.connect();
        client.reply();
        client.expect("STARTTLS", "220");
        client
    };
    let (_tls, hello) = begin().hello();
    let steps: Vec<usize> = (0..hello.len()).step_by(13).chain([hello.len()]).collect();
    for (index, step) in steps.iter().enumerate() {
        let client = begin();
        client.stream().write_all(&hello[..*step]).unwrap();
        match index % 2 {
            0 => client.reset(),
            _ => drop(client),
        }
    }
    // After the server's whole flight, and in the middle of the client's second one.
    for cut in [0, 1, 6, 20] {
        let client = begin();
        let (mut tls, hello) = client.hello();
        client.stream().write_all(&hello).unwrap();
        let mut second = Vec::new();
        while second.is_empty() {
            tls.read_tls(&mut client.stream()).unwrap();
            tls.process_new_packets().unwrap();
            tls.write_tls(&mut second).unwrap();
        }
        client.stream().write_all(&second[..cut]).unwrap();
        client.reset();
    }
    server.idle();
    until("a server without children", || server.process().children().is_empty().then_some(()));
    assert!(!server.log().contains("tls ok"), "{}", server.log());
    let mut client = server.connect();
    client.reply();
    client.starttls();
    client.expect("QUIT", "221");
}
