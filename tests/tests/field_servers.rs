//! Mail servers that nobody here wrote: in front of the chain as its clients, and behind starttls-wrap as its programs.

use std::io::Write;
use std::process::{Command, Stdio};

use chain_tests::postfix::Postfix;
use chain_tests::server::Builder;
use chain_tests::{CHAIN, Folder, Server, peers, until};

fn arrived(server: &Server, subject: &str) {
    let mails = until("a mail", || Some(server.mails()).filter(|mails| !mails.is_empty()));
    assert_eq!(mails.len(), 1);
    let mail = String::from_utf8_lossy(&mails[0]);
    assert!(mail.contains(&format!("\nSubject: {subject}\n")), "{mail}");
    assert!(mail.contains(" with ESMTPS (TLSv1.3 TLS_"), "{mail}");
}

// "a queueing Postfix ... relay[s] mail through it over STARTTLS", the certificate verified by name (RFC 3207 4.1).
#[test]
fn a_queueing_postfix_relays_over_verified_tls() {
    let server = Server::new(CHAIN).env("FORCE_TLS", "1").start();
    let ca = server.folder.text("ca.pem");
    let settings = format!(
        "smtp_tls_security_level = secure\nsmtp_tls_secure_cert_match = mx.test\nsmtp_tls_CAfile = {ca}\nsmtp_tls_loglevel = 1\n"
    );
    let Some(postfix) = Postfix::towards(&server, &settings) else { return };
    postfix.send("sender@client.test", "postmaster@mx.test", "by Postfix");
    arrived(&server, "by Postfix");
    until("its word", || postfix.log().contains("status=sent (250 ").then_some(()));
    assert!(postfix.log().contains("Verified TLS connection established"), "{}", postfix.log());
}

/// An Exim that hands everything to one host, inside verified TLS.
const EXIM: &str = "begin routers
all:
  driver = manualroute
  transport = tls
  route_list = * 127.0.0.1
  self = send
begin transports
tls:
  driver = smtp
  port = PORT
  helo_data = client.test
  hosts_require_tls = *
  tls_verify_certificates = CA
  tls_verify_hosts = *
  tls_verify_cert_hostnames =
  tls_sni = mx.test
";

// "a queueing Exim ... relay[s] mail through it over STARTTLS".
#[test]
fn a_queueing_exim_relays_over_verified_tls() {
    let folder = Folder::new();
    if !peers::exim(&folder) {
        return;
    }
    let server = Server::new(CHAIN).env("FORCE_TLS", "1").start();
    folder.certificate("cert", chain_tests::folder::Key::P256, &["client.test"]);
    let port = server.address().port().to_string();
    let routes = EXIM.replace("PORT", &port).replace("CA", &server.folder.text("ca.pem"));
    let conf = std::fs::read_to_string(folder.path("exim4/conf")).unwrap();
    folder.write("exim4/conf", conf + &routes);
    let exim = |words: &[&str], input: &str| {
        let mut process = Command::new("timeout")
            .args(["60", &folder.text("exim")])
            .args(words)
            .current_dir(folder.path(""))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(process.wait().unwrap().success(), "exim {words:?}");
    };
    exim(&["-odq", "-f", "sender@client.test", "postmaster@mx.test"], "Subject: by Exim\n\ntext\n");
    assert_eq!(server.mails().len(), 0, "not queued");
    exim(&["-qff"], "");
    let log = std::fs::read_to_string(folder.path("exim4/log/main")).unwrap_or_default();
    assert!(log.contains(" => postmaster@mx.test ") && log.contains(" CV=yes "), "{log}");
    arrived(&server, "by Exim");
}

/// A foreign server behind `wrapper`, which relays for nobody but local callers.
fn behind(wrapper: &str, program: &str) -> Option<Builder> {
    let server = Server::new(&format!("{wrapper} {program}"));
    match program {
        "./exim -bs" => {
            if !peers::exim(&server.folder) {
                return None;
            }
            let conf = std::fs::read_to_string(server.folder.path("exim4/conf")).unwrap();
            // As Debian has it: "Accept if the source is local SMTP (i.e. not over TCP/IP)", else only for this domain.
            let strict = "  accept hosts = :\n  accept domains = mx.test\n  deny message = relay not permitted\n";
            server.folder.write("exim4/conf", conf.replace("  accept\n", strict));
        }
        _ => {
            if !peers::postfix(&server.folder) {
                return None;
            }
        }
    }
    Some(server)
}

const FOREIGN: [(&str, &str); 2] = [("./exim -bs", "input"), ("./sendmail -bs", "maildrop")];

// DESIGN 5: "the program's own STARTTLS (always: in clear, under DENY_TLS, inside TLS; the program never sees that command)".
#[test]
fn exim_and_postfix_take_mail_behind_starttls_wrap_which_owns_starttls() {
    for (program, place) in FOREIGN {
        let Some(server) = behind("starttls-wrap", program) else { continue };
        let server = server.start();
        let mut client = server.connect();
        client.reply();
        let offers = client.expect("EHLO client.test", "250");
        assert_eq!(offers.matches("STARTTLS").count(), 1, "{offers}");
        client.starttls();
        let offers = client.expect("EHLO client.test", "250");
        assert!(!offers.contains("STARTTLS"), "{offers}");
        client.expect("STARTTLS", "503");
        let reply = client.deliver("Subject: inside\r\n\r\nhello\r\n");
        assert!(reply.starts_with("250 "), "{}", client.transcript());
        client.expect("QUIT", "221");
        client.closed();
        let kept = server.folder.find(b"Subject: inside");
        assert!(kept.iter().any(|path| path.contains(place)), "{program}: {kept:?}");

        let Some(denied) = behind("starttls-wrap", program) else { continue };
        let denied = denied.env("DENY_TLS", "1").start();
        let mut client = denied.connect();
        client.reply();
        let offers = client.expect("EHLO client.test", "250");
        assert!(!offers.contains("STARTTLS"), "{offers}");
    }
}

// DESIGN, first page: "Programs that learn the peer from getpeername and not from TCPREMOTEIP ... take a caller on a socketpair or pipe for a local
// one and relay for anyone: fit for tests, not as an MX behind any wrapper". Whoever changes that must change the pages, too.
#[test]
fn caveat_exim_and_postfix_take_a_caller_behind_a_wrapper_for_a_local_one() {
    for (program, _) in FOREIGN {
        let Some(server) = behind("starttls-wrap", program) else { continue };
        let server = server.start();
        let mut client = server.connect();
        client.reply();
        client.starttls();
        client.expect("EHLO client.test", "250");
        client.expect("MAIL FROM:<anyone@client.test>", "250");
        client.expect("RCPT TO:<anyone@elsewhere.test>", "250");
    }
    // Alone under tcpserver Exim sees whom it talks to.
    let Some(server) = behind("", "./exim -bs") else { return };
    let server = server.start();
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO client.test", "250");
    client.expect("MAIL FROM:<anyone@client.test>", "250");
    client.expect("RCPT TO:<anyone@elsewhere.test>", "550");
}
