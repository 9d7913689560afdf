//! AUTH over the whole chain: what a client says and hears, and what the queue learns of it.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use chain_tests::server::Builder;
use chain_tests::users::{self, PLAIN, SUBMISSION};
use chain_tests::{Client, Server, peers};

/// A submission service that takes AUTH in clear too, so that tests of the dialogue need no handshake.
fn submission() -> Builder {
    let server = Server::new(SUBMISSION).env("ALLOW_INSECURE_AUTH", "1");
    users::one(&server.folder);
    server
}

fn greeted(server: &Server) -> Client {
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO client.test", "250");
    client
}

/// Base64 of what a test says.
fn b64(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[bits >> (18 - 6 * place) & 63];
            encoded.push(if place <= chunk.len() { digit.into() } else { '=' });
        }
    }
    encoded
}

#[test]
fn exchanges() {
    let server = submission().start();
    let (user, secret) = (b64("user"), b64("secret"));
    for exchange in [
        format!("C: AUTH PLAIN {PLAIN}\n"),
        format!("C: AUTH PLAIN\nS: 334 \nC: {PLAIN}\n"),
        format!("C: auth login {user}\nS: 334 UGFzc3dvcmQ6\nC: {secret}\n"),
        format!(
            "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: {user}\nS: 334 UGFzc3dvcmQ6\nC: {secret}\n"
        ),
    ] {
        for size in [1, 7, usize::MAX] {
            let mut client = greeted(&server);
            let accepted = format!("{exchange}S: 235 2.7.0 ok, go ahead\n");
            client.play_in_pieces(&accepted, size);
            // RFC 4954 4: "After a successful AUTH command completes, a server MUST reject any further AUTH commands with a 503 reply."
            client.expect(&format!("AUTH PLAIN {PLAIN}"), "503 5.5.1");
            assert!(!client.expect("EHLO client.test", "250").contains("AUTH"));
        }
    }
}

// RFC 4954 4 and 6: the codes of what is refused, and that the session goes on in step.
#[test]
fn refusals() {
    let server = submission().start();
    let mut client = greeted(&server);
    client.play(
        "C: AUTH
         S: 501 5.5.4 syntax error
         C: AUTH DIGEST-MD5
         S: 504 5.5.4 auth type unimplemented
         C: AUTH PLAIN =
         S: 501 5.5.2 malformed authentication input
         C: AUTH PLAIN AHVzZXIAc2VjcmV
         S: 501 5.5.2 malformed authentication input
         C: AUTH PLAIN AAA=BBBB
         S: 501 5.5.2 malformed authentication input
         C: AUTH PLAIN =AAA
         S: 501 5.5.2 malformed authentication input
         C: AUTH CRAM-MD5 AHVzZXIAc2VjcmV0
         S: 501 5.7.0 this mechanism takes no initial response
         C: NOOP
         S: 250 2.0.0 ok",
    );
    client.expect("AUTH PLAIN", "334 ");
    client.expect("*", "501 5.7.0 authentication cancelled");
    client.expect("AUTH LOGIN", "334 ");
    client.expect("not base64", "501 5.5.2");
    client.expect("MAIL FROM:<a@client.test>", "250");
    client.expect(&format!("AUTH PLAIN {PLAIN}"), "503 5.5.1 no auth during mail transaction");
    client.expect("RSET", "250");
    client.expect("NOOP", "250");
    client.expect(&format!("AUTH PLAIN {PLAIN}"), "235");
}

// RFC 4954 4: 12,288 octets suffice for every mechanism, and a longer line fails the command with 500.
#[test]
fn long_lines() {
    let server = submission().start();
    // A message of 9,216 bytes in base64 is a line of 12,288; this one says nothing that a mechanism could use.
    let (last, over) = (12_288, [12_289, 12_292, 12_339, 12_340, 12_400, 16_372, 16_500, 100_000]);
    for (length, code) in [(last, "501 5.5.2")].into_iter().chain(over.map(|n| (n, "500 5.5.6"))) {
        let line = "A".repeat(length);
        for size in [1_000, usize::MAX] {
            let mut client = greeted(&server);
            // RFC 2920 3.1: AUTH ends a group, but who pipelines behind it is answered in step.
            for said in [format!("AUTH PLAIN {line}"), format!("AUTH PLAIN\r\n{line}")] {
                let bytes = format!("{said}\r\nNOOP\r\nMAIL FROM:<a@client.test>\r\nRSET\r\n");
                let cuts: Vec<_> = (1..bytes.len()).filter(|at| at % size == 0).collect();
                client.send_cut(&bytes, &cuts);
                if said.contains('\r') {
                    assert_eq!(client.reply(), "334 ");
                }
                let reply = client.reply();
                assert!(reply.starts_with(code), "{length}: {reply}");
                for reply in ["250 2.0.0 ok", "250 2.1.0 ok", "250 2.0.0 flushed"] {
                    assert_eq!(client.reply(), reply, "{length}: {}", client.transcript());
                }
            }
            client.expect(&format!("AUTH PLAIN {PLAIN}"), "235");
        }
    }
}

// The password of someone who has one of 9,000 bytes is wrong, not too long; the exchange takes it whole.
#[test]
fn the_longest_password_is_read_whole() {
    let server = Server::new("authcheck -s -x COMMAND setuidgid nobody smtpd")
        .env("ALLOW_INSECURE_AUTH", "1");
    let check = server.folder.script("check", CHECKPASSWORD);
    let server = server.word("COMMAND", &format!("{check} /bin/true")).start();
    let mut client = greeted(&server);
    let password = "x".repeat(9_216 - 6);
    let plain = b64(&format!("\0user\0{password}"));
    assert_eq!(plain.len(), 12_288);
    client.expect(&format!("AUTH PLAIN {plain}"), "535 5.7.8");
    server.logged(&format!("password of {} bytes", password.len()));
}

#[test]
fn two_failures_are_answered_and_the_third_ends_the_session() {
    let server = submission().start();
    let mut client = greeted(&server);
    for login in ["user", "nobody"] {
        let wrong = b64(&format!("\0{login}\0wrong"));
        client.expect(&format!("AUTH PLAIN {wrong}"), "535 5.7.8 authentication failed");
    }
    client.expect(&format!("AUTH LOGIN {}", b64("user")), "334 ");
    client.expect(&b64("wrong"), "421 4.7.0");
    client.closed();
    server.idle();
    let log = server.log();
    assert_eq!(log.matches("authcheck: ").count(), 3, "{log}");
    let first = "AUTH failed [127.0.0.1] user mech=PLAIN tls=none reason=wrong-password connid=";
    let second = "AUTH failed [127.0.0.1] - mech=PLAIN tls=none reason=unknown-user connid=";
    assert!(log.contains(first) && log.contains(second), "{log}");
    assert!(!log.contains("wrong\n") && !log.contains(&b64("wrong")), "{log}");
}

#[test]
fn a_database_that_cannot_be_read_is_454() {
    let server = submission();
    let whole = fs::read(server.folder.path("users.cdb")).expect("users.cdb");
    let server = server.start();
    let attempt = || greeted(&server).ask(&format!("AUTH PLAIN {PLAIN}"));
    assert!(attempt().starts_with("235"));
    for at in [0, 1000, 2047, 2050, 2070, 2200, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        server.folder.write("users.cdb", damaged);
        let reply = attempt();
        assert!(reply.starts_with("454 4.7.0"), "byte {at}: {reply}");
    }
    fs::remove_file(server.folder.path("users.cdb")).expect("remove users.cdb");
    assert!(attempt().starts_with("454 4.7.0"));
    let log = server.logged("No such file");
    assert!(log.contains("AUTH unavailable [127.0.0.1] - mech=PLAIN"), "{log}");
    users::one(&server.folder);
    assert!(attempt().starts_with("235"));
}

// "a users.cdb that is being replaced": by authcdb again and again, no session sees anything but one of the files.
#[test]
fn a_database_that_is_replaced_all_the_time() {
    let server = submission().start();
    let (done, folder) = (AtomicBool::new(false), &server.folder);
    let records =
        [&["-c", "user"][..], &["user", "env=AUTH_NOTE=x"]].map(|a| users::record(a, "secret"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for record in records.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                users::make(folder, std::slice::from_ref(record));
            }
        });
        for _ in 0..40 {
            let mut client = greeted(&server);
            let reply = client.ask(&format!("AUTH PLAIN {PLAIN}"));
            done.store(!reply.starts_with("235 "), Ordering::Relaxed);
            assert!(reply.starts_with("235 "), "{reply}\n{}", server.log());
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// A queue program that keeps what it is given.
const KEEPER: &str = "#!/bin/sh
cd \"${0%/*}\" && tr '\\0' '\\n' </proc/$$/environ >env && cat >message && cat <&1 >envelope
";

/// What the queue program of one message saw.
struct Seen {
    environment: String,
    message: String,
    envelope: String,
}

impl Seen {
    fn variable(&self, name: &str) -> Option<&str> {
        let lines = self.environment.lines();
        let values: Vec<_> =
            lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect();
        assert!(values.len() < 2, "{name} twice in {}", self.environment);
        values.first().copied()
    }
}

fn seen(server: &Server) -> Seen {
    let read =
        |name| fs::read_to_string(server.folder.path(&format!("Maildir/{name}"))).expect(name);
    Seen { environment: read("env"), message: read("message"), envelope: read("envelope") }
}

fn keeping(server: Builder) -> Builder {
    let queue = server.folder.script("Maildir/keeper", KEEPER);
    server.env("QMAILQUEUE", &queue)
}

#[test]
fn what_the_queue_learns_of_an_account() {
    let server =
        keeping(Server::new(SUBMISSION)).env("SMTPAUTHUSER", "liar").env("TCPREMOTEINFO", "ident");
    let user = users::record(&["user", "env=AUTH_QUOTA=5", "env=PATH=/nowhere"], "secret");
    let gate = users::record(
        &["gate@x.test", "env=RELAYCLIENT=@gate.test", "env=DATABYTES=100"],
        "secret",
    );
    users::make(&server.folder, &[user, gate]);
    let server = server.start();
    let session = |plain: Option<&str>| {
        let mut client = greeted(&server);
        client.starttls();
        client.expect("EHLO client.test", "250");
        if let Some(plain) = plain {
            client.expect(&format!("AUTH PLAIN {plain}"), "235");
        }
        client
    };
    let mut client = session(None);
    // RFC 4954 5: without authentication the parameter's value counts as <>.
    client.expect("MAIL FROM:<a@client.test> AUTH=boss@mx.test", "250");
    client.expect("RCPT TO:<postmaster@mx.test>", "250");
    client.expect("DATA", "354");
    client.expect("x\r\n.", "250");
    let anonymous = seen(&server);
    for name in ["SMTPAUTHUSER", "SMTP_AUTH_USER", "SMTPAUTHMETHOD", "RELAYCLIENT"] {
        assert_eq!(anonymous.variable(name), None, "{}", anonymous.environment);
    }
    assert!(!anonymous.message.contains("boss"), "{}", anonymous.message);
    assert!(anonymous.message.contains(" with ESMTPS (TLSv1.3 "), "{}", anonymous.message);

    let mut client = session(Some(PLAIN));
    client.expect("MAIL FROM:<a@client.test> AUTH=boss@mx.test", "250");
    client.expect("RCPT TO:<b@elsewhere.test>", "250");
    client.expect("DATA", "354");
    client.expect("x\r\n.", "250");
    let known = seen(&server);
    for (name, value) in [
        ("SMTPAUTHUSER", "user"),
        ("SMTP_AUTH_USER", "user"),
        ("SMTPAUTHMETHOD", "plain"),
        ("TCPREMOTEINFO", "user"),
        ("RELAYCLIENT", ""),
        ("AUTH_QUOTA", "5"),
    ] {
        assert_eq!(known.variable(name), Some(value), "{name} in {}", known.environment);
    }
    assert_ne!(known.variable("PATH"), Some("/nowhere"));
    assert_eq!(known.variable("SASLFD"), None);
    let received = known.message.lines().take(2).collect::<Vec<_>>().join("\n");
    assert!(received.contains("(user@127.0.0.1)"), "{received}");
    assert!(received.contains(" with ESMTPSA (TLSv1.3 "), "{received}");
    assert!(!known.message.contains("boss"), "{}", known.message);

    let mut client = session(Some(&b64("\0gate@X.Test\0secret")));
    client.expect("MAIL FROM:<a@client.test> SIZE=101", "552");
    client.expect("MAIL FROM:<a@client.test>", "250");
    client.expect("RCPT TO:<b@elsewhere.test>", "250");
    client.expect("DATA", "354");
    client.expect("x\r\n.", "250");
    let gate = seen(&server);
    assert_eq!(gate.envelope, "Fa@client.test\0Tb@elsewhere.test@gate.test\0\0");
    assert_eq!(gate.variable("RELAYCLIENT"), Some("@gate.test"));
    assert_eq!(gate.variable("DATABYTES"), Some("100"));
}

// RFC 3848: the session with AUTH and without TLS is ESMTPA.
#[test]
fn esmtpa() {
    let server = keeping(submission()).start();
    let mut client = greeted(&server);
    client.expect(&format!("AUTH PLAIN {PLAIN}"), "235");
    client.deliver("x\r\n");
    let message = seen(&server).message;
    assert!(
        message.contains("(user@127.0.0.1)") && message.contains(" with ESMTPA; "),
        "{message}"
    );
}

#[test]
fn smtpauth_chooses_among_the_mechanisms() {
    let all = "250 AUTH SCRAM-SHA-256 PLAIN LOGIN CRAM-MD5";
    for (value, offer) in [
        (None, Some(all)),
        (Some("+cram"), Some(all)),
        (Some(""), Some("250 AUTH SCRAM-SHA-256 PLAIN LOGIN")),
        (Some("cram"), Some("250 AUTH CRAM-MD5")),
        (Some("!cram"), Some("250 AUTH CRAM-MD5")),
        (Some("-"), None),
        (Some("0"), None),
    ] {
        let mut server = submission();
        if let Some(value) = value {
            server = server.env("SMTPAUTH", value);
        }
        let server = server.start();
        let mut client = server.connect();
        client.reply();
        let ehlo = client.expect("EHLO client.test", "250");
        let found = ehlo.lines().find(|line| line.contains("AUTH"));
        assert_eq!(found, offer, "{value:?}");
        if offer.is_none() {
            client.expect(&format!("AUTH PLAIN {PLAIN}"), "503 5.5.1");
        }
        let mail = client.ask("MAIL FROM:<a@client.test>");
        let required = value.is_some_and(|value| value.starts_with('!'));
        assert!(mail.starts_with(if required { "530 5.7.0" } else { "250" }), "{value:?}: {mail}");
    }
}

/// A checkpassword program in shell, for the user `user`.
const CHECKPASSWORD: &str = "#!/bin/bash
IFS= read -r -d '' login <&3
IFS= read -r -d '' password <&3
echo \"password of ${#password} bytes\" >&2
[ \"$login $password $1\" = 'user secret /bin/true' ]
";

#[test]
fn a_foreign_checkpassword_program() {
    let server = Server::new("starttls-wrap authcheck -s -x COMMAND setuidgid nobody smtpd");
    let check = server.folder.script("check", CHECKPASSWORD);
    let server = server.word("COMMAND", &format!("{check} /bin/true")).start();
    let mut client = greeted(&server);
    client.starttls();
    let ehlo = client.expect("EHLO client.test", "250");
    assert!(ehlo.contains("250 AUTH PLAIN LOGIN"), "{ehlo}");
    client.expect(&format!("AUTH PLAIN {}", b64("\0user\0wrong")), "535 5.7.8");
    client.expect(&format!("AUTH PLAIN {PLAIN}"), "235");
    client.expect("MAIL FROM:<a@client.test>", "250");
    client.expect("RCPT TO:<b@elsewhere.test>", "250");
}

#[test]
fn a_real_checkpassword_program() {
    let server = Server::new("starttls-wrap authcheck -s -x COMMAND setuidgid nobody smtpd");
    if !peers::checkpassword(&server.folder) {
        return;
    }
    let id = server.folder.script("id", "#!/bin/sh\nid -u >&2\n");
    let command = format!("{} {id}", server.folder.text("checkpassword"));
    let server = server.word("COMMAND", &command).start();
    let mut client = greeted(&server);
    client.starttls();
    client.expect("EHLO client.test", "250");
    client.expect(&format!("AUTH PLAIN {}", b64("\0user\0wrong")), "535 5.7.8");
    client.expect(&format!("AUTH PLAIN {PLAIN}"), "235");
    client.expect("QUIT", "221");
    server.idle();
    let log = server.log();
    assert!(log.lines().any(|line| line == "1000"), "{log}");
    assert!(log.contains("- mech=PLAIN tls=TLSv1.3 reason=refused"), "{log}");
}
