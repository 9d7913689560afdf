//! The mail programs that people have authenticate and deliver, inside TLS, each by the mechanisms that it knows.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use chain_tests::users::{self, SUBMISSION};
use chain_tests::{Server, programs};

/// A client's name, the mechanism that it is told to use, and one delivery to someone elsewhere.
type Case = (&'static str, &'static str, fn(&Server, &str) -> Output);

const MAIL: &str = "Subject: authenticated\r\n\r\nbody\r\n";

fn server() -> Server {
    let server = Server::new(SUBMISSION).env("FORCE_TLS", "1").env("REQUIRE_AUTH", "1");
    users::one(&server.folder);
    server.start()
}

fn every(cases: &[Case]) {
    let server = server();
    for (name, mechanism, client) in cases {
        let output = client(&server, mechanism);
        let said = said(&output);
        assert!(
            output.status.success(),
            "{name} {mechanism}: {}\n{said}\n{}",
            output.status,
            server.log()
        );
        server.idle();
        let mails = server.take_mails();
        assert_eq!(mails.len(), 1, "{name} {mechanism}\n{said}\n{}", server.log());
        let mail = String::from_utf8_lossy(&mails[0]).into_owned();
        assert!(mail.contains("(user@127.0.0.1)"), "{name}: {mail}");
        assert!(mail.contains(" with ESMTPSA (TLSv1.3 "), "{name}: {mail}");
        assert!(mail.contains("body\n"), "{name}: {mail}");
    }
    let log = server.log();
    for (name, mechanism, _) in cases {
        let line = format!("AUTH successful [127.0.0.1] user mech={} ", mechanism.to_uppercase());
        assert!(log.contains(&line), "{name}: {line} in {log}");
    }
    assert!(!log.contains("secret") && !log.contains("AHVzZXIAc2VjcmV0"), "{log}");
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// A client that cannot hang the test, and what it reads.
fn run(command: &mut Command, input: &str) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("start a client");
    // A client that does not read its input says why by its exit code.
    child.stdin.take().expect("its input").write_all(input.as_bytes()).ok();
    child.wait_with_output().expect("wait for a client")
}

fn client(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["60", program]);
    command
}

#[test]
fn swaks() {
    if !programs::debian("swaks", "swaks libnet-ssleay-perl") {
        return;
    }
    let swaks = |server: &Server, mechanism: &str| {
        let address = server.address().to_string();
        let options =
            ["--server", &address, "-tls", "--from", "a@client.test", "--to", "b@elsewhere.test"];
        let user = ["--auth", mechanism, "--auth-user", "user", "--auth-password", "secret"];
        run(client("swaks").args(options).args(user).args(["--data", "-"]), MAIL)
    };
    every(&[("swaks", "PLAIN", swaks), ("swaks", "LOGIN", swaks), ("swaks", "CRAM-MD5", swaks)]);
}

#[test]
fn curl() {
    if !programs::debian("curl", "curl") {
        return;
    }
    let curl = |server: &Server, mechanism: &str| {
        let url = format!("smtp://{}/client.test", server.address());
        let ca = server.folder.text("ca.pem");
        let options = ["-sS", "--ssl-reqd", "--cacert", &ca, "--user", "user:secret"];
        let mail = ["--mail-from", "a@client.test", "--mail-rcpt", "b@elsewhere.test", "-T", "-"];
        let mechanism = format!("AUTH={mechanism}");
        run(
            client("curl").args(options).args(["--login-options", &mechanism]).args(mail).arg(url),
            MAIL,
        )
    };
    every(&[("curl", "PLAIN", curl), ("curl", "LOGIN", curl), ("curl", "CRAM-MD5", curl)]);
}

#[test]
fn smtplib() {
    if !programs::debian("python3", "python3") {
        return;
    }
    let smtplib = |server: &Server, mechanism: &str| {
        let code = "import smtplib, ssl, sys
tls = ssl.create_default_context(cafile=sys.argv[3])
s = smtplib.SMTP('127.0.0.1', int(sys.argv[1]))
s.starttls(context=tls)
s.ehlo()
s.user, s.password = 'user', 'secret'
s.auth(sys.argv[2], getattr(s, 'auth_' + sys.argv[2].lower().replace('-', '_')))
s.sendmail('a@client.test', 'b@elsewhere.test', sys.stdin.read())
s.quit()
";
        let (port, ca) = (server.address().port().to_string(), server.folder.text("ca.pem"));
        run(client("python3").args(["-c", code, &port, mechanism, &ca]), MAIL)
    };
    every(&[
        ("smtplib", "PLAIN", smtplib),
        ("smtplib", "LOGIN", smtplib),
        ("smtplib", "CRAM-MD5", smtplib),
    ]);
}

#[test]
fn msmtp() {
    if !programs::debian("msmtp", "msmtp") {
        return;
    }
    let msmtp = |server: &Server, mechanism: &str| {
        let port = server.address().port();
        let ca = server.folder.text("ca.pem");
        let options = [
            "--file=/dev/null".into(),
            "--host=127.0.0.1".into(),
            format!("--port={port}"),
            "--tls=on".into(),
            format!("--tls-trust-file={ca}"),
            format!("--auth={}", mechanism.to_lowercase()),
            "--user=user".into(),
            "--passwordeval=echo secret".into(),
            "--from=a@client.test".into(),
            "b@elsewhere.test".into(),
        ];
        run(client("msmtp").args(options), MAIL)
    };
    every(&[
        ("msmtp", "SCRAM-SHA-256", msmtp),
        ("msmtp", "PLAIN", msmtp),
        ("msmtp", "CRAM-MD5", msmtp),
    ]);
}

#[test]
fn mutt() {
    if !programs::debian("mutt", "mutt") {
        return;
    }
    let mutt = |server: &Server, mechanism: &str| {
        let port = server.address().port();
        let ca = server.folder.text("ca.pem");
        let settings = format!(
            "set smtp_url=\"smtp://user@127.0.0.1:{port}/\"\nset smtp_pass=secret\nset ssl_starttls=yes\n\
             set ssl_force_tls=yes\nset smtp_authenticators=\"{}\"\nset ssl_ca_certificates_file=\"{ca}\"\n\
             set certificate_file=\"{ca}\"\nset ssl_usesystemcerts=no\nset from=a@client.test\nset use_envelope_from=yes\n\
             set envelope_from_address=a@client.test\nset copy=no\nset tls_verify_dates=yes\nset hostname=client.test\n",
            mechanism.to_lowercase()
        );
        server.folder.write("muttrc", settings);
        let file = server.folder.text("muttrc");
        run(
            client("mutt").env("HOME", server.folder.text("")).args([
                "-n",
                "-F",
                &file,
                "-s",
                "x",
                "b@elsewhere.test",
            ]),
            "body\n",
        )
    };
    every(&[("mutt", "SCRAM-SHA-256", mutt)]);
}

// RFC 9266: the channel binding of TLS 1.3, which the wrapper exports and the password process checks.
#[test]
fn gsasl_binds_the_channel() {
    if !programs::debian("gsasl", "gsasl") {
        return;
    }
    let server = server();
    for mechanism in ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"] {
        for (password, right) in [("secret", true), ("wrong", false)] {
            let address = server.address().to_string();
            let ca = server.folder.text("ca.pem");
            // Where -PLUS is offered it takes SCRAM without it for an attack.
            let binding = if mechanism.ends_with("PLUS") { &[][..] } else { &["--no-cb"] };
            let options =
                ["--smtp", "--connect", &address, "-m", mechanism, "-a", "user", "-p", password];
            let output =
                run(client("gsasl").args(options).args(binding).args(["--x509-ca-file", &ca]), "");
            assert_eq!(output.status.success(), right, "{mechanism} {password}: {}", said(&output));
            let outcome = if right { "successful" } else { "failed" };
            server.logged(&format!("AUTH {outcome} [127.0.0.1] user mech={mechanism} "));
        }
    }
}
