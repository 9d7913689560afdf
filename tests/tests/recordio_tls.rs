//! The recorder before and behind TLS: real ClientHellos, injected plaintext, and one story of two recorders.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

use chain_tests::folder::NAME;
use chain_tests::{Client, Folder, Server, peers};
use plumb::middle::Side;
use recordio_tls::redact::Settings;
use recordio_tls::story::{Grammar, Story};
use recordio_tls::watch::{TlsBy, Watch};

/// What a client sends behind STARTTLS, or at once: whole TLS records until a ClientHello is complete.
fn first_flight(command: &mut Command, port_at: impl Fn(&mut Command, u16)) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    port_at(command, listener.local_addr().expect("an address").port());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start a client");
    let (mut stream, _) = listener.accept().expect("accept");
    let mut lines = BufReader::new(stream.try_clone().expect("a second descriptor"));
    stream.write_all(b"220 mx.test ESMTP\r\n").expect("greet");
    let mut line = String::new();
    loop {
        line.clear();
        assert!(lines.read_line(&mut line).expect("a command") > 0, "no STARTTLS");
        if line.to_ascii_uppercase().starts_with("STARTTLS") {
            break;
        }
        stream.write_all(b"250-mx.test\r\n250 STARTTLS\r\n").expect("answer");
    }
    stream.write_all(b"220 go\r\n").expect("answer");
    let mut header = [0; 5];
    lines.read_exact(&mut header).expect("a record");
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    lines.read_exact(&mut hello).expect("a whole record");
    drop((stream, lines));
    child.wait().expect("wait for the client");
    [&header[..], &hello].concat()
}

/// What the recorder says of these segments of the client behind a STARTTLS.
fn told(segments: &[&[u8]]) -> String {
    let mut story = Story::new(Grammar::Own, 7, "5f.7");
    let mut watch = Watch::new(None, TlsBy::Program, Settings::default());
    for (from, bytes) in [
        (Side::Server, &b"220 mx\r\n"[..]),
        (Side::Client, b"STARTTLS\r\n"),
        (Side::Server, b"220 go\r\n"),
    ] {
        watch.bytes(from, bytes, &mut story);
    }
    segments.iter().for_each(|segment| watch.bytes(Side::Client, segment, &mut story));
    let lines = String::from_utf8(story.lines().to_vec()).expect("ASCII");
    lines.lines().filter(|line| line.contains("[TLS")).collect()
}

/// The same handshake bytes in records of this size.
fn in_records(record: &[u8], size: usize) -> Vec<u8> {
    let records = record[5..].chunks(size).map(|part| {
        let length = u16::try_from(part.len()).expect("a short record").to_be_bytes();
        [&record[..3], &length, part].concat()
    });
    records.collect::<Vec<_>>().concat()
}

/// Decodes the hello whole, cut at every offset, and in records of every size up to 40.
fn decoded(hello: &[u8]) -> String {
    let whole = told(&[hello]);
    for at in 1..hello.len() {
        let (one, two) = hello.split_at(at);
        assert_eq!(told(&[one, two]), whole, "cut at {at}");
    }
    for size in 1..40 {
        let records = in_records(hello, size);
        assert_eq!(told(&[&records]), whole, "records of {size}");
        let segments: Vec<&[u8]> = records.chunks(7).collect();
        assert_eq!(told(&segments), whole, "records of {size} in segments of 7");
    }
    whole
}

fn holds(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "no {word} in {line}");
    }
}

// Real ClientHellos of openssl, curl, Python and Postfix are decoded (SNI, versions, groups, ALPN) also when split.
#[test]
fn openssls_hello() {
    let options = ["s_client", "-starttls", "smtp", "-servername", NAME, "-alpn", "smtp,x y"];
    let groups = ["-groups", "X25519:P-384", "-min_protocol", "TLSv1.2", "-connect"];
    let hello =
        first_flight(Command::new("openssl").args(options).args(groups), |command, port| {
            command.arg(format!("127.0.0.1:{port}"));
        });
    let line = decoded(&hello);
    holds(&line, &["< [TLS ClientHello sni=mx.test versions=TLSv1.3,TLSv1.2 "]);
    holds(&line, &[" groups=x25519,secp384r1 keys=x25519 ", " alpn=smtp,x\\x20y ", " ciphers="]);
}

// The hybrid share makes a hello of more than 1,200 bytes, which comes in several segments.
#[test]
fn openssl_3_5s_hello() {
    let Some(libraries) = peers::openssl_3_5() else { return };
    let mut command = Command::new("openssl");
    command.env("LD_LIBRARY_PATH", libraries);
    command.args(["s_client", "-starttls", "smtp", "-servername", NAME, "-connect"]);
    let hello = first_flight(&mut command, |command, port| {
        command.arg(format!("127.0.0.1:{port}"));
    });
    assert!(hello.len() > 1200, "{} bytes", hello.len());
    holds(
        &decoded(&hello),
        &["sni=mx.test ", " groups=X25519MLKEM768,", " keys=X25519MLKEM768,x25519"],
    );
}

#[test]
fn curls_hello() {
    let options = ["-s", "--ssl-reqd", "--mail-from", "a@b.test", "--mail-rcpt", "c@d.test", "-T"];
    let mut command = Command::new("curl");
    let hello = first_flight(command.args(options).arg("/dev/null"), |command, port| {
        let resolve = format!("{NAME}:{port}:127.0.0.1");
        command.args(["--resolve", &resolve, &format!("smtp://{NAME}:{port}")]);
    });
    let line = decoded(&hello);
    holds(&line, &["sni=mx.test ", "versions=TLSv1.3,TLSv1.2", "groups=x25519,", "keys=x25519"]);
}

#[test]
fn pythons_hello() {
    const CLIENT: &str = "import smtplib, ssl, sys
context = ssl.create_default_context()
context.set_alpn_protocols(['smtp'])
context.maximum_version = ssl.TLSVersion.TLSv1_2
smtplib.SMTP('localhost', int(sys.argv[1])).starttls(context=context)";
    let mut command = Command::new("python3");
    let hello = first_flight(command.args(["-c", CLIENT]), |command, port| {
        command.arg(port.to_string());
    });
    let line = decoded(&hello);
    holds(&line, &["sni=localhost versions=TLSv1.2 ", "groups=x25519,", " alpn=smtp "]);
    assert!(!line.contains("keys="), "{line}");
}

#[test]
fn postfixs_hello() {
    let folder = Folder::new();
    if !peers::postfix(&folder) {
        return;
    }
    let mut command = Command::new(folder.path("posttls-finger"));
    let hello = first_flight(command.args(["-c", "-l", "encrypt", "-s", NAME]), |command, port| {
        command.arg(format!("[127.0.0.1]:{port}"));
    });
    holds(&decoded(&hello), &["sni=mx.test ", "versions=TLSv1.3,TLSv1.2", "groups=x25519,"]);
}

/// A session with STARTTLS, and what it is in clear inside.
fn deliver(client: &mut Client) {
    client.reply();
    client.expect("EHLO outside.test", "250");
    client.starttls();
    client.expect("EHLO inside.test", "250");
    assert!(client.deliver("Subject: private\r\n\r\nprivate\r\n").starts_with("250"));
    client.expect("QUIT", "221");
}

fn connid(line: &str) -> &str {
    line.split(' ').nth(2).expect("a CONNID")
}

// Behind starttls-wrap the plaintext, with the TLS facts once at its start; two recorders, one story by CONNID.
#[test]
fn two_recorders_tell_one_story() {
    let chain = "recordio-tls starttls-wrap recordio-tls setuidgid nobody smtpd";
    let server = Server::new(chain).env("CONNID", "not an id").start();
    deliver(&mut server.connect());
    server.idle();
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("recordio-tls: ")).collect();
    let id = connid(lines[0]);
    assert!(lines.iter().all(|line| connid(line) == id), "{log}");
    assert!(log.lines().all(|line| line.contains(id)), "every ring names the connection: {log}");

    let pid = |line: &str| line.split([' ', ':']).nth(2).map(str::to_owned);
    // The one in front is not always the first to say something.
    let hello = lines.iter().find(|line| line.contains("[TLS ClientHello")).expect("a hello");
    let (outside, behind): (Vec<&str>, Vec<&str>) =
        lines.iter().partition(|line| pid(line) == pid(hello));
    let (outside, behind) = (outside.join("\n"), behind.join("\n"));
    holds(&outside, &["< STARTTLS", "> 220 ", "< [TLS ClientHello sni=mx.test versions=TLSv1.3"]);
    holds(
        &outside,
        &["> [TLS ServerHello version=TLSv1.3 cipher=TLS_", "- [TLS < ", "peer=127.0.0.1:"],
    );
    assert!(!outside.contains("inside.test") && !outside.contains("MAIL"), "{outside}");
    holds(&behind, &["< EHLO inside.test", "< MAIL FROM:", "< [body 29 bytes 3 lines]", "> 221 "]);
    // The program before TLS and the program inside it are two, and only one knows of TLS.
    let starts: Vec<_> = behind.lines().filter(|line| line.contains("- [start ")).collect();
    assert_eq!(starts.len(), 2, "{behind}");
    assert_eq!(behind.matches(" tls=TLSv1.3 ").count(), 1, "{behind}");
    holds(starts[1], &["peer=127.0.0.1:", " tls=TLSv1.3 cipher=TLS_", " sni=mx.test"]);
    assert!(!log.contains("private"), "{log}");
}

// Plaintext injected behind STARTTLS is flagged, whether or not the server refuses it.
#[test]
fn injection_is_flagged_in_front_of_starttls_wrap() {
    let server = Server::new("recordio-tls starttls-wrap setuidgid nobody smtpd").start();
    for (injected, what) in [
        (&b"STARTTLS\r\nRSET\r\n"[..], "6 bytes in clear"),
        (b"STARTTLS\r\nMAIL FROM:<evil", "15 bytes in clear"),
    ] {
        let mut client = server.connect();
        client.reply();
        client.expect("EHLO x", "250");
        client.send(injected);
        client.rest();
        drop(client);
        server.idle();
        let log = server.log();
        assert!(log.contains(&format!("< [INJECTION: {what} behind STARTTLS]")), "{log}");
    }
}

// TLS from the first byte, its alerts, and the versions before 1.3, from outside.
#[test]
fn tls_from_the_first_byte_and_its_alerts() {
    let server = Server::new("recordio-tls starttls-wrap -i setuidgid nobody smtpd").start();
    let mut client = server.connect();
    client.handshake();
    client.reply();
    client.expect("QUIT", "221");
    drop(client);
    let log = server.logged("- [TLS < ");
    assert!(log.contains(" records "), "{log}");
    server.logged("< [TLS ClientHello sni=mx.test");

    let port = server.address().port();
    let openssl = |options: &[&str]| {
        Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
            .args(options)
            .stdin(Stdio::null())
            .output()
            .expect("run openssl")
    };
    let ca = server.folder.text("ca.pem");
    openssl(&["-tls1_2", "-groups", "P-256", "-CAfile", &ca]);
    server.logged("> [TLS ServerHello version=TLSv1.2 cipher=ECDHE-ECDSA-");
    server.logged("> [TLS ServerKeyExchange group=secp256r1]");
    // TLS 1.2: an alert behind the handshake is encrypted, but can be seen to be one.
    server.logged("< [TLS alert encrypted]");
    // A share that the server has no use for: it asks for another one.
    openssl(&["-groups", "X448:P-256"]);
    server.logged("> [TLS HelloRetryRequest version=TLSv1.3 cipher=TLS_");
    openssl(&["-tls1_2", "-verify_return_error"]);
    server.logged("< [TLS alert fatal unknown_ca]");
    openssl(&["-tls1_2", "-cipher", "AES128-SHA"]);
    server.logged("> [TLS alert fatal ");
}

// What is no TLS behind a 220 to STARTTLS, or at the first byte, is told and not shown.
#[test]
fn what_is_no_tls_is_told_and_not_shown() {
    let server = Server::new("recordio-tls starttls-wrap setuidgid nobody smtpd").start();
    for (sent, noted) in [
        (&b"AUTH PLAIN c2VjcmV0\r\n"[..], "< [NOT TLS, not shown]"),
        (b"\x80\x2e\x01\x00\x02secret", "< [SSLv2 ClientHello]"),
        (b"\x16\x03\x01\xff\xffsecret", "< [NOT TLS (a record too long), not shown]"),
    ] {
        let mut client = server.connect();
        client.reply();
        client.expect("STARTTLS", "220");
        client.send(sent);
        client.half_close();
        client.rest();
        drop(client);
        server.logged(noted);
    }
    server.idle();
    assert!(!server.log().contains("secret") && !server.log().contains("c2VjcmV0"));
}

// Random bytes never crash or stall it.
#[test]
fn random_bytes_neither_crash_nor_stall() {
    let server = Server::new("recordio-tls -B cat").start();
    let mut seed = 1_u64;
    thread::scope(|scope| {
        for _ in 0..4 {
            let salt = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            seed = seed.wrapping_add(2);
            let server = &server;
            scope.spawn(move || {
                for begins in [
                    &b""[..],
                    b"\x16\x03\x01",
                    b"220 ",
                    b"+OK\r\n",
                    b"* OK\r\n",
                    b"\x16\x03\x03\x00\x04\x01\x00\x00\x00",
                ] {
                    for round in 0..10_u64 {
                        let mut state = salt.wrapping_add(round) | 1;
                        let random = std::iter::repeat_with(|| {
                            state ^= state << 13;
                            state ^= state >> 7;
                            state ^= state << 17;
                            // Line ends, colons and digits more often than chance would have them.
                            let [byte, choice, ..] = state.to_le_bytes();
                            match choice {
                                0..=15 => b'\r',
                                16..=40 => b'\n',
                                41..=60 => b' ',
                                61..=70 => b'.',
                                71..=80 => b'2',
                                _ => byte,
                            }
                        });
                        let sent: Vec<u8> =
                            begins.iter().copied().chain(random.take(20_000)).collect();
                        let mut client = server.connect();
                        client.try_send(&sent);
                        client.half_close();
                        assert!(client.rest() == sent);
                    }
                }
            });
        }
    });
    server.idle();
    assert!(!server.log().contains("fatal"), "{}", server.log());
}
