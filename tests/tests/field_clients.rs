//! Clients that nobody here wrote deliver through the chain over STARTTLS.

use std::process::{Command, Output, Stdio};

use chain_tests::{CHAIN, Server, peers, programs, until};

/// The client, its command with what it needs to be there, and the Debian package that has it.
struct Client {
    name: &'static str,
    needs: &'static [&'static str],
    package: &'static str,
    command: fn(&Server) -> Command,
}

const CLIENTS: [Client; 4] = [
    Client {
        name: "aiosmtplib",
        // Debian's own Python: there may be another in front of it that knows nothing of Debian's modules.
        needs: &["/usr/bin/python3", "-c", "import aiosmtplib"],
        package: "python3-aiosmtplib",
        command: aiosmtplib,
    },
    Client {
        name: "Net::SMTP",
        needs: &["/usr/bin/perl", "-MNet::SMTP", "-MIO::Socket::SSL", "-e1"],
        package: "libio-socket-ssl-perl",
        command: net_smtp,
    },
    Client { name: "msmtp", needs: &["msmtp", "--version"], package: "msmtp", command: msmtp },
    Client { name: "mutt", needs: &["mutt", "-v"], package: "mutt", command: mutt },
];

const BODY: &str = "first\n.leading dot\nlast\n";

// "aiosmtplib, Perl Net::SMTP, msmtp, mutt ... against the chain"; each trusts the test's CA alone.
#[test]
fn mail_clients_deliver_over_starttls() {
    let server = Server::new(CHAIN).env("FORCE_TLS", "1").start();
    server.folder.write("mail", format!("Subject: from a client\n\n{BODY}"));
    server.folder.write("body", BODY);
    for client in CLIENTS {
        if !programs::works(client.needs, client.package) {
            continue;
        }
        let mut command = (client.command)(&server);
        let input = std::fs::File::open(server.folder.path(match client.name {
            "mutt" => "body",
            _ => "mail",
        }));
        let said = run(command.stdin(input.unwrap()), client.name);
        server.idle();
        let [mail] = &server.take_mails()[..] else {
            panic!("{}: not one mail\n{said}", client.name)
        };
        let mail = String::from_utf8_lossy(mail);
        let (head, body) = mail.split_once("\n\n").unwrap();
        assert_eq!(body, BODY, "{}", client.name);
        assert!(head.contains(" with ESMTPS (TLSv1.3 TLS_"), "{}: {head}", client.name);
        assert!(head.contains("\nSubject: from a client"), "{}: {head}", client.name);
    }
}

fn run(command: &mut Command, name: &str) -> String {
    let output: Output = command.output().unwrap_or_else(|error| panic!("{name}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{name}: {}\n{said}", output.status);
    said
}

/// A client that cannot hang the test, at home in the test's folder.
fn client(server: &Server, words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").args(words).current_dir(server.folder.path(""));
    command.env("HOME", server.folder.path("")).env("LC_ALL", "C");
    command
}

fn port(server: &Server) -> String {
    server.address().port().to_string()
}

fn aiosmtplib(server: &Server) -> Command {
    let program = "import aiosmtplib, asyncio, sys
async def main():
    refused, text = await aiosmtplib.send(sys.stdin.read(), sender='sender@client.test',
        recipients=['postmaster@mx.test'], hostname='127.0.0.1', port=int(sys.argv[1]),
        start_tls=True, cert_bundle='ca.pem')
    assert not refused, refused
asyncio.run(main())
";
    client(server, &["/usr/bin/python3", "-c", program, &port(server)])
}

fn net_smtp(server: &Server) -> Command {
    let program = r#"
use strict;
use Net::SMTP;
my $s = Net::SMTP->new('127.0.0.1', Port => $ARGV[0], Hello => 'client.test', Timeout => 60) or die "connect: $@";
sub must { my $done = shift; $done or die $s->code . ' ' . $s->message }
must($s->starttls(SSL_ca_file => 'ca.pem', SSL_verifycn_name => 'mx.test'));
must($s->mail('sender@client.test'));
must($s->to('postmaster@mx.test'));
must($s->data());
must($s->datasend([<STDIN>]));
must($s->dataend());
must($s->quit());
"#;
    client(server, &["/usr/bin/perl", "-e", program, &port(server)])
}

fn msmtp(server: &Server) -> Command {
    let port = format!("--port={}", port(server));
    let mut command = client(server, &["msmtp", "--host=127.0.0.1", &port, "--auth=off"]);
    command.args(["--file=/dev/null", "--domain=client.test", "--from=sender@client.test"]);
    command.args(["--tls=on", "--tls-starttls=on", "--tls-trust-file=ca.pem"]);
    command.args(["--tls-host-override=mx.test", "postmaster@mx.test"]);
    command
}

fn mutt(server: &Server) -> Command {
    let settings = format!(
        "set smtp_url=\"smtp://127.0.0.1:{}/\"\nset ssl_starttls=yes ssl_force_tls=yes\n\
         set ssl_ca_certificates_file=\"ca.pem\" ssl_usesystemcerts=no certificate_file=\"ca.pem\"\n\
         set hostname=client.test from=sender@client.test use_envelope_from=yes\n\
         set copy=no fcc_attach=no record=\"\" folder=\".\" spoolfile=\"./spool\"\n",
        server.address().port()
    );
    server.folder.write("muttrc", settings);
    let words = ["mutt", "-n", "-F", "muttrc", "-s", "from a client", "postmaster@mx.test"];
    client(server, &words)
}

// "posttls-finger": what Postfix would find, the certificate verified by name.
#[test]
fn posttls_finger_verifies_the_certificate() {
    let server = Server::new(CHAIN);
    if !peers::postfix(&server.folder) {
        return;
    }
    let server = server.start();
    let mut finger =
        client(&server, &["./posttls-finger", "-l", "secure", "-F", "ca.pem", "-s", "mx.test"]);
    finger.arg(format!("[127.0.0.1]:{}", port(&server))).arg("mx.test").stdin(Stdio::null());
    let said = run(&mut finger, "posttls-finger");
    assert!(said.contains("Verified TLS connection established"), "{said}");
    assert!(said.contains("TLSv1.3") && said.contains("250-CHUNKING"), "{said}");
    server.logged("tls ok");
}

// "smtp-source (500 mails, 20 at a time)"; it has no TLS of its own (Postfix 3.7).
#[test]
fn smtp_source_loses_none_of_500_mails() {
    let server = Server::new(CHAIN).slots(40);
    if !peers::postfix(&server.folder) {
        return;
    }
    let server = server.start();
    let words = ["./smtp-source", "-s", "20", "-m", "500", "-l", "4000", "-M", "client.test"];
    let mut source = client(&server, &words);
    source.args(["-f", "sender@client.test", "-t", "postmaster@mx.test"]);
    source.arg(format!("127.0.0.1:{}", port(&server))).stdin(Stdio::null());
    run(&mut source, "smtp-source");
    until("500 mails", || (server.mails().len() == 500).then_some(()));
    server.idle();
    let mails = server.mails();
    assert_eq!(mails.len(), 500);
    assert!(mails.iter().all(|mail| mail.len() > 4_000), "a mail that is not whole");
}
