//! The fifteen cells of the TLS and AUTH settings, seen by a client over the whole chain.

use chain_tests::server::Builder;
use chain_tests::users::{self, PLAIN, SUBMISSION};
use chain_tests::{Client, Server, peers};

/// What a client meets, in clear or inside TLS.
struct Meets {
    /// Of STARTTLS and AUTH, what EHLO offers.
    offers: &'static str,
    /// MAIL before AUTH.
    mail: &'static str,
    /// AUTH PLAIN with the right password.
    auth: &'static str,
}

const OK: &str = "250";
const IN: &str = "235";
const STARTTLS_FIRST: &str = "530 5.7.0 Must issue a STARTTLS command first";
const AUTH_FIRST: &str = "530 5.7.0 Authentication required";
const NEEDS_TLS: &str = "538 5.7.11";
const NO_AUTH: &str = "503 5.5.1";

const fn meets(offers: &'static str, mail: &'static str, auth: &'static str) -> Option<Meets> {
    Some(Meets { offers, mail, auth })
}

/// The settings, then the client in clear and inside TLS, where it can get there.
type Cell = (&'static str, Option<Meets>, Option<Meets>);

#[rustfmt::skip]
const TABLE: [Cell; 15] = [
    // No TLS offered.
    ("DENY_TLS=1 ALLOW_INSECURE_AUTH=1 REQUIRE_AUTH=1",
        meets("AUTH", AUTH_FIRST, IN), None),
    ("DENY_TLS=1 ALLOW_INSECURE_AUTH=1",
        meets("AUTH", OK, IN), None),
    ("DENY_TLS=1 AUTH=0",
        meets("", OK, NO_AUTH), None),
    // TLS offered, AUTH also in clear.
    ("ALLOW_INSECURE_AUTH=1 REQUIRE_AUTH=1",
        meets("STARTTLS AUTH", AUTH_FIRST, IN), meets("AUTH", AUTH_FIRST, IN)),
    ("ALLOW_INSECURE_AUTH=1",
        meets("STARTTLS AUTH", OK, IN), meets("AUTH", OK, IN)),
    ("ALLOW_INSECURE_AUTH=1 AUTH=0",
        meets("STARTTLS", OK, NO_AUTH), meets("", OK, NO_AUTH)),
    // TLS offered, AUTH only inside TLS.
    ("REQUIRE_AUTH=1",
        meets("STARTTLS", STARTTLS_FIRST, NEEDS_TLS), meets("AUTH", AUTH_FIRST, IN)),
    ("",
        meets("STARTTLS", OK, NEEDS_TLS), meets("AUTH", OK, IN)),
    ("AUTH=0",
        meets("STARTTLS", OK, NO_AUTH), meets("", OK, NO_AUTH)),
    // TLS required.
    ("FORCE_TLS=1 REQUIRE_AUTH=1",
        meets("STARTTLS", STARTTLS_FIRST, STARTTLS_FIRST), meets("AUTH", AUTH_FIRST, IN)),
    ("FORCE_TLS=1",
        meets("STARTTLS", STARTTLS_FIRST, STARTTLS_FIRST), meets("AUTH", OK, IN)),
    ("FORCE_TLS=1 AUTH=0",
        meets("STARTTLS", STARTTLS_FIRST, STARTTLS_FIRST), meets("", OK, NO_AUTH)),
    // TLS from the first byte.
    ("SSL=1 REQUIRE_AUTH=1",
        None, meets("AUTH", AUTH_FIRST, IN)),
    ("SSL=1",
        None, meets("AUTH", OK, IN)),
    ("SSL=1 AUTH=0",
        None, meets("", OK, NO_AUTH)),
];

#[test]
fn the_table_with_our_smtpd() {
    every_cell(true, || {
        let server = Server::new(SUBMISSION);
        users::one(&server.folder);
        Some(server)
    });
}

// The ring that owns TLS owns the policy: the same cells with an smtpd that has never heard of them.
#[test]
fn the_table_with_mailfront() {
    every_cell(false, || {
        let server = Server::new("starttls-wrap ./smtpfront-qmail");
        peers::mailfront(&server.folder).then_some(server)
    });
}

// The TLS half with a program that has no AUTH at all: nothing in the table may make it look as if it had.
#[test]
fn the_tls_half_with_postfix() {
    let strict = TABLE.iter().filter(|cell| !cell.0.contains("ALLOW_INSECURE_AUTH"));
    for (settings, clear, tls) in strict {
        let server = Server::new("starttls-wrap ./sendmail -bs");
        if !peers::postfix(&server.folder) {
            return;
        }
        let without = |meets: &Option<Meets>| {
            meets.as_ref().map(|meets| Meets {
                offers: if meets.offers.starts_with("STARTTLS") { "STARTTLS" } else { "" },
                mail: meets.mail,
                auth: if meets.auth == IN { "503 5.5.1" } else { meets.auth },
            })
        };
        cell(&(settings, without(clear), without(tls)), server, false);
    }
}

// smtpd without a ring that owns TLS owns the policy itself; nobody can come to TLS here.
#[test]
fn the_table_with_smtpd_alone() {
    for (settings, meets) in [
        ("", meets("", OK, NEEDS_TLS)),
        ("AUTH=0", meets("", OK, NO_AUTH)),
        ("REQUIRE_AUTH=1", meets("", STARTTLS_FIRST, NEEDS_TLS)),
        ("ALLOW_INSECURE_AUTH=1", meets("AUTH", OK, IN)),
        ("ALLOW_INSECURE_AUTH=1 REQUIRE_AUTH=1", meets("AUTH", AUTH_FIRST, IN)),
        ("ALLOW_INSECURE_AUTH=1 AUTH=0", meets("", OK, NO_AUTH)),
        ("FORCETLS=0", meets("AUTH", OK, IN)),
        ("FORCETLS=0 SMTPAUTH=!", meets("AUTH", AUTH_FIRST, IN)),
        ("DENY_TLS=1", meets("", OK, NEEDS_TLS)),
        ("DENY_TLS=1 AUTH=0", meets("", OK, NO_AUTH)),
        ("DENY_TLS=1 ALLOW_INSECURE_AUTH=1", meets("AUTH", OK, IN)),
        ("DENY_TLS=1 ALLOW_INSECURE_AUTH=1 REQUIRE_AUTH=1", meets("AUTH", AUTH_FIRST, IN)),
        ("FORCE_TLS=1", meets("", STARTTLS_FIRST, STARTTLS_FIRST)),
        ("FORCE_TLS=1 ALLOW_INSECURE_AUTH=1", meets("", STARTTLS_FIRST, STARTTLS_FIRST)),
        ("FORCE_TLS=1 AUTH=0", meets("", STARTTLS_FIRST, STARTTLS_FIRST)),
        // Whoever sets SSL=1 says that TLS is in front.
        ("SSL=1", meets("AUTH", OK, IN)),
        ("SSL=1 FORCE_TLS=1", meets("AUTH", OK, IN)),
        ("SSL=1 REQUIRE_AUTH=1", meets("AUTH", AUTH_FIRST, IN)),
        ("SSL=1 AUTH=0", meets("", OK, NO_AUTH)),
    ] {
        let Some(meets) = meets else { continue };
        let server = set(Server::new(ALONE), settings);
        users::one(&server.folder);
        let server = server.start();
        let connect = || {
            let mut client = server.connect();
            client.reply();
            client
        };
        see(settings, &meets, &connect, true);
    }
}

/// No TLS in front.
const ALONE: &str = "authcheck -s users.cdb setuidgid nobody smtpd";

fn set(server: Builder, settings: &str) -> Builder {
    settings.split_whitespace().fold(server, |server, setting| {
        let (name, value) = setting.split_once('=').expect("NAME=VALUE");
        server.env(name, value)
    })
}

/// Scripts of this family export every switch, on or off: with all others 0 or empty every cell is the same.
#[test]
fn the_table_with_every_other_switch_off() {
    let switches = ["DENY_TLS", "FORCE_TLS", "SSL", "ALLOW_INSECURE_AUTH", "REQUIRE_AUTH"];
    for (settings, off) in TABLE.iter().zip(["0", ""].iter().cycle()) {
        let mut server = Server::new(SUBMISSION);
        users::one(&server.folder);
        for name in switches {
            server = server.env(name, off);
        }
        if !settings.0.contains(" AUTH=") && !settings.0.starts_with("AUTH=") {
            server = server.env("AUTH", "1");
        }
        cell(settings, server, true);
    }
}

fn every_cell(ours: bool, server: impl Fn() -> Option<Builder>) {
    for settings in &TABLE {
        let Some(server) = server() else { return };
        cell(settings, server, ours);
    }
}

fn cell((settings, clear, tls): &Cell, server: Builder, ours: bool) {
    let server = set(server, settings).start();
    let immediate = settings.contains("SSL=1");
    let connect = |in_tls: bool| {
        let mut client = server.connect();
        if immediate {
            client.handshake();
        }
        client.reply();
        if in_tls && !immediate {
            client.expect("EHLO client.test", "250");
            client.starttls();
        }
        client
    };
    for (in_tls, meets) in [(false, clear), (true, tls)] {
        let Some(meets) = meets else { continue };
        let tempts = !in_tls && meets.offers.contains("AUTH");
        assert!(!tempts || settings.contains("ALLOW_INSECURE_AUTH=1"), "{settings}");
        see(&format!("{settings}, TLS: {in_tls}"), meets, &|| connect(in_tls), ours);
    }
    if clear.is_some() && tls.is_none() {
        let mut client = connect(false);
        let refused = client.ask("STARTTLS");
        assert!(refused.starts_with('5'), "{settings}: {refused}");
    }
}

fn see(cell: &str, meets: &Meets, connect: &dyn Fn() -> Client, ours: bool) {
    let mut client = connect();
    let ehlo = client.expect("EHLO client.test", "250");
    let keyword = |line: &str| line.get(4..)?.split(' ').next().map(str::to_owned);
    let mut offers: Vec<_> = ehlo.lines().skip(1).filter_map(keyword).collect();
    offers.retain(|word| word == "STARTTLS" || word == "AUTH");
    assert_eq!(offers.join(" "), meets.offers, "{cell}: EHLO");
    starts(cell, "MAIL", &client.ask("MAIL FROM:<a@client.test>"), meets.mail);

    let mut client = connect();
    client.expect("EHLO client.test", "250");
    let reply = client.ask(&format!("AUTH PLAIN {PLAIN}"));
    starts(cell, "AUTH", &reply, meets.auth);
    let mail = client.ask("MAIL FROM:<a@client.test>");
    if meets.auth == IN {
        starts(cell, "MAIL after AUTH", &mail, OK);
        if ours {
            starts(cell, "relaying", &client.ask("RCPT TO:<b@elsewhere.test>"), OK);
        }
    } else {
        starts(cell, "MAIL after a refused AUTH", &mail, meets.mail);
        if ours && meets.mail == OK {
            starts(cell, "relaying", &client.ask("RCPT TO:<b@elsewhere.test>"), "553");
        }
    }
}

fn starts(cell: &str, what: &str, reply: &str, expected: &str) {
    assert!(reply.starts_with(expected), "{cell}: {what}: {reply}, not {expected}");
}

// Settings that cannot both be meant are told to the client, and the log names both.
#[test]
fn contradictions() {
    const WITHOUT: &str = "setuidgid nobody smtpd";
    for (chain, settings, names) in [
        (SUBMISSION, "FORCE_TLS=1 DENY_TLS=1", ["FORCE_TLS", "DENY_TLS"]),
        (SUBMISSION, "SSL=1 DENY_TLS=1", ["SSL", "DENY_TLS"]),
        (SUBMISSION, "REQUIRE_AUTH=1 AUTH=0", ["REQUIRE_AUTH", "AUTH"]),
        (SUBMISSION, "REQUIRE_AUTH=1 DENY_TLS=1", ["REQUIRE_AUTH", "DENY_TLS"]),
        (ALONE, "FORCE_TLS=1 DENY_TLS=1", ["FORCE_TLS", "DENY_TLS"]),
        (ALONE, "REQUIRE_AUTH=1 AUTH=0", ["REQUIRE_AUTH", "AUTH"]),
        (ALONE, "REQUIRE_AUTH=1 DENY_TLS=1", ["REQUIRE_AUTH", "DENY_TLS"]),
        (ALONE, "SMTPAUTH=! AUTH=0", ["SMTPAUTH", "AUTH"]),
        (ALONE, "SMTPAUTH=- REQUIRE_AUTH=1", ["SMTPAUTH", "REQUIRE_AUTH"]),
        (WITHOUT, "REQUIRE_AUTH=1", ["REQUIRE_AUTH", "SASLFD"]),
        (WITHOUT, "SMTPAUTH=!", ["SMTPAUTH", "SASLFD"]),
        (WITHOUT, "AUTH_CDB=/etc/auth.cdb", ["AUTH_CDB", "SASLFD"]),
    ] {
        let server = set(Server::new(chain), settings);
        users::one(&server.folder);
        let server = server.start();
        let mut client = server.connect();
        assert!(client.reply().starts_with("421 4.3.5"), "{settings}: {}", client.transcript());
        client.closed();
        let log = server.logged("fatal");
        assert!(names.iter().all(|name| log.contains(name)), "{settings}: {log}");
    }
    let server =
        Server::new("starttls-wrap setuidgid nobody smtpd").env("REQUIRE_AUTH", "1").start();
    let mut client = server.connect();
    assert!(client.reply().starts_with("421 4.3.5"), "{}", client.transcript());
    let log = server.logged("fatal");
    assert!(log.contains("REQUIRE_AUTH") && log.contains("SASLFD"), "{log}");
}
