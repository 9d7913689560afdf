//! The clients that administrators have at hand deliver through the chain, over every way of starting it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use chain_tests::server::Builder;
use chain_tests::{CHAIN, Server, programs};

/// The memory in which qmail's own run scripts start tcpserver, and with it each of our processes.
const SMALL: u64 = 20_000_000;

#[test]
fn ipv4() {
    every_client(Server::new);
}

#[test]
fn ipv6() {
    every_client(|chain| Server::new(chain).ipv6());
}

#[test]
fn systemd_socket_activate() {
    if programs::debian("systemd-socket-activate", "systemd") {
        every_client(|chain| Server::new(chain).systemd());
    }
}

#[test]
fn systemd_socket_activate_ipv6() {
    if programs::debian("systemd-socket-activate", "systemd") {
        every_client(|chain| Server::new(chain).systemd().ipv6());
    }
}

#[test]
fn ordinary_user() {
    every_client(|chain| Server::new(chain).ordinary());
}

#[test]
fn softlimit() {
    every_client(|chain| Server::new(chain).softlimit(SMALL));
}

#[test]
fn ordinary_user_with_softlimit() {
    every_client(|chain| Server::new(chain).ordinary().softlimit(SMALL));
}

/// How a client comes to TLS, and what RFC 3848 calls the session in the Received line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Clear,
    Starttls,
    Immediate,
}

/// Its name, how it comes to TLS, and one delivery by it.
type Client = (&'static str, How, fn(&Server) -> Output);

const CLIENTS: [Client; 11] = [
    ("swaks", How::Clear, |server| swaks(server, &[])),
    ("swaks --pipeline", How::Clear, |server| swaks(server, &["--pipeline"])),
    ("swaks -tls", How::Starttls, |server| swaks(server, &["-tls"])),
    ("swaks -tls --pipeline", How::Starttls, |server| swaks(server, &["-tls", "--pipeline"])),
    ("swaks -tls-on-connect", How::Immediate, |server| swaks(server, &["-tls-on-connect"])),
    ("openssl s_client -starttls smtp", How::Starttls, |server| {
        s_client(server, &["-starttls", "smtp"])
    }),
    ("openssl s_client", How::Immediate, |server| s_client(server, &[])),
    ("curl --ssl-reqd", How::Starttls, |server| curl(server, "smtp")),
    ("curl smtps", How::Immediate, |server| curl(server, "smtps")),
    ("smtplib", How::Starttls, |server| {
        smtplib(server, "SMTP(sys.argv[2], int(sys.argv[3])); s.starttls(context=tls)")
    }),
    ("smtplib SMTP_SSL", How::Immediate, |server| {
        smtplib(server, "SMTP_SSL(sys.argv[2], int(sys.argv[3]), context=tls)")
    }),
];

/// What every client sends, with CRLF, and with a line that begins with a dot.
const MAIL: &str = "Subject: from a client\r\n\r\nfirst\r\n.leading dot\r\nlast\r\n";

fn every_client(start: impl Fn(&str) -> Builder) {
    let packages =
        [("swaks", "swaks libnet-ssleay-perl"), ("curl", "curl"), ("python3", "python3")];
    if !packages.iter().all(|(program, package)| programs::debian(program, package)) {
        return;
    }
    let server = start(CHAIN).start();
    let immediate = start(&CHAIN.replace("starttls-wrap", "starttls-wrap -i")).start();
    for (name, how, client) in CLIENTS {
        let server = if how == How::Immediate { &immediate } else { &server };
        let output = client(server);
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{name}: {}\n{said}", output.status);
        server.idle();
        let mails = server.take_mails();
        assert_eq!(mails.len(), 1, "{name}\n{said}");
        let mail = String::from_utf8_lossy(&mails[0]).into_owned();
        assert!(mail.ends_with("\n\nfirst\n.leading dot\nlast\n"), "{name}: {mail}");
        let protocol =
            if how == How::Clear { " with ESMTP; " } else { " with ESMTPS (TLSv1.3 TLS_" };
        assert!(mail.contains(protocol), "{name}: {mail}");
    }
}

/// A client that cannot hang the test.
fn client(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["60", program]);
    command
}

fn swaks(server: &Server, options: &[&str]) -> Output {
    let address = server.address();
    client("swaks")
        .args(["--server", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args([
            "--ehlo",
            "client.test",
            "--from",
            "sender@client.test",
            "--to",
            "postmaster@mx.test",
        ])
        .args(["--tls-verify", "--tls-ca-path", &server.folder.text("ca.pem")])
        .args(["--data", &MAIL.trim_end().replace("\r\n", "\\n")])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .expect("swaks")
}

fn curl(server: &Server, scheme: &str) -> Output {
    server.folder.write("mail", MAIL);
    client("curl")
        .args(["--silent", "--show-error", "--ssl-reqd", "--cacert", &server.folder.text("ca.pem")])
        .args(["--mail-from", "sender@client.test", "--mail-rcpt", "postmaster@mx.test"])
        .args([
            "--upload-file",
            &server.folder.text("mail"),
            &format!("{scheme}://{}/client.test", server.address()),
        ])
        .stdin(Stdio::null())
        .output()
        .expect("curl")
}

fn smtplib(server: &Server, begin: &str) -> Output {
    let program = format!(
        "import smtplib, ssl, sys
tls = ssl.create_default_context(cafile=sys.argv[1])
s = smtplib.{begin}
assert s.sendmail('sender@client.test', ['postmaster@mx.test'], {MAIL:?}) == {{}}
code, text = s.quit()
assert code == 221, text
"
    );
    let address = server.address();
    client("python3")
        .args(["-c", &program, &server.folder.text("ca.pem")])
        .args([address.ip().to_string(), address.port().to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("python3")
}

/// Types a session into `openssl s_client`, each line when its turn has come.
fn s_client(server: &Server, options: &[&str]) -> Output {
    let mut process = client("openssl")
        .args(["s_client", "-quiet", "-crlf", "-connect", &server.address().to_string()])
        .args([
            "-CAfile",
            &server.folder.text("ca.pem"),
            "-verify_return_error",
            "-name",
            "client.test",
        ])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl");
    let mut typed = process.stdin.take().expect("a pipe");
    let mut seen = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let mut wait =
        |code: &str| seen.by_ref().map_while(Result::ok).any(|line| line.starts_with(code));
    let mail = MAIL.replace("\r\n", "\n").replace("\n.", "\n..");
    let dialogue = [
        ("EHLO client.test", "250 "),
        ("MAIL FROM:<sender@client.test>", "250 2.1.0"),
        ("RCPT TO:<postmaster@mx.test>", "250 2.1.5"),
        ("DATA", "354 "),
        (&format!("{mail}."), "250 2."),
        ("QUIT", "221 "),
    ];
    for (line, code) in dialogue {
        if writeln!(typed, "{line}").is_err() || !wait(code) {
            break;
        }
    }
    drop(typed);
    process.wait_with_output().expect("wait for openssl")
}
