//! Control files, environment and arguments.

use std::process::Command;

use plumb::process::Ended;

use crate::place::{Place, Told, mail};

const NO_GATEWAY: &str = "553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts";

/// The answer to RCPT.
fn rcpt(place: &Place, address: &str) -> String {
    let told = place.session(format!("MAIL FROM:<>\r\nRCPT TO:<{address}>\r\n"));
    told.replies.lines().last().unwrap().to_owned()
}

#[test]
fn who_may_be_written_to() {
    let place = Place::new().file("control/rcpthosts", "MX.test\n.wild.test\n");
    for address in ["a@mx.test", "a@MX.TEST", "a@x.wild.test", "postmaster"] {
        assert_eq!(rcpt(&place, address), "250 2.1.5 ok", "{address}");
    }
    for address in ["a@other.test", "a@wild.test", "a", "\"a@mx.test\"@other.test"] {
        assert_eq!(rcpt(&place, address), NO_GATEWAY, "{address}");
    }
    // qmail-smtpd(8): RELAYCLIENT, even empty, lets everything pass, and is appended.
    let relay = place.variable("RELAYCLIENT", "@mx.test");
    assert_eq!(rcpt(&relay, "a@other.test"), "250 2.1.5 ok");
    relay.session(mail("x\r\n"));
    assert_eq!(relay.read("envelope"), "Ffrom@client.test\0Tto@mx.test@mx.test\0\0");
}

#[test]
fn without_rcpthosts_nobody_may_send_here() {
    let place = Place::new().without("control/rcpthosts");
    assert_eq!(rcpt(&place, "a@mx.test"), NO_GATEWAY);
    assert_eq!(rcpt(&place, "postmaster"), "250 2.1.5 ok");
    assert_eq!(rcpt(&place.variable("RELAYCLIENT", ""), "a@mx.test"), "250 2.1.5 ok");
}

fn database(place: &Place, name: &str, records: &[(&str, &str)]) {
    cdb::replace(&place.path(name), 0o600, |maker| {
        records.iter().try_for_each(|(key, value)| maker.add(key.as_bytes(), value.as_bytes()))
    })
    .unwrap();
}

#[test]
fn databases_of_domains_and_mailboxes() {
    let place = Place::new();
    database(&place, "control/morercpthosts.cdb", &[("more.test", "")]);
    assert_eq!(rcpt(&place, "a@more.test"), "250 2.1.5 ok");
    database(&place, "control/validrcptto.cdb", &[("a@mx.test", ""), ("@more.test", "")]);
    let nobody = "550 5.1.1 sorry, no mailbox here by that name";
    assert_eq!(rcpt(&place, "A@mx.test"), "250 2.1.5 ok");
    assert_eq!(rcpt(&place, "b@more.test"), "250 2.1.5 ok");
    assert_eq!(rcpt(&place, "b@mx.test"), nobody);
    assert_eq!(rcpt(&place, "b@other.test"), NO_GATEWAY);
    database(&place, "other.cdb", &[("b@mx.test", ""), ("a@mx.test", "-")]);
    let other = place.variable("VALIDRCPTTO_CDB", "other.cdb");
    assert_eq!(rcpt(&other, "b@mx.test"), "250 2.1.5 ok");
    assert_eq!(rcpt(&other, "a@mx.test"), nobody);
    let off = other.variable("VALIDRCPTTO_CDB", "");
    assert_eq!(rcpt(&off, "b@mx.test"), "250 2.1.5 ok");
    let damaged = off.file("control/morercpthosts.cdb", [0xff; 3000]);
    assert_eq!(rcpt(&damaged, "a@more.test"), "451 4.3.0 unable to read controls");
    assert_eq!(rcpt(&damaged, "a@mx.test"), "250 2.1.5 ok");
}

#[test]
fn rcptcheck_has_the_last_word() {
    let place = Place::new()
        .script("check", "[ \"$RECIPIENT\" = good@mx.test ] && exit 0; exit 100")
        .variable("RCPTCHECK", "check");
    assert_eq!(rcpt(&place, "good@mx.test"), "250 2.1.5 ok");
    assert_eq!(rcpt(&place, "bad@mx.test"), "550 5.1.1 sorry, no mailbox here by that name");
    assert_eq!(rcpt(&place, "good@other.test"), NO_GATEWAY);
}

fn turned_away(told: &Told, reply: &str, code: u8, words: &[&str]) {
    assert_eq!(told.replies, format!("{reply}\r\n"), "{told:?}");
    assert_eq!(told.ended, Ended::Code(code), "{told:?}");
    assert_eq!(told.log.lines().count(), 1, "{told:?}");
    assert!(words.iter().all(|word| told.log.contains(word)), "{words:?}: {told:?}");
}

#[test]
fn controls_that_cannot_be_read() {
    let unable = "421 4.3.0 unable to read controls";
    let told = Place::new().without("control/me").session("");
    turned_away(&told, unable, 100, &["control/me"]);
    let told = Place::new().file("control/databytes", "10M\n").session("");
    turned_away(&told, unable, 111, &["control/databytes"]);
    let told = Place::new().variable("DATABYTES", "much").session("");
    turned_away(&told, unable, 100, &["DATABYTES"]);
    let told = Place::new().variable("QMAILHOME", "/nonexistent").session("");
    turned_away(&told, unable, 111, &["/nonexistent"]);
    let told = Place::new().variable("VALIDRCPTTO_CDB", "missing.cdb").session("");
    turned_away(&told, unable, 111, &["missing.cdb"]);
    let told = Place::new().file("control/validrcptto.cdb", "short").session("");
    turned_away(&told, unable, 111, &["validrcptto.cdb"]);
    let place = Place::new().without("control/rcpthosts");
    std::fs::create_dir(place.path("control/rcpthosts")).unwrap();
    turned_away(&place.session(""), unable, 111, &["control/rcpthosts"]);
}

#[test]
fn a_greeting_of_ones_own() {
    let place = Place::new().file("control/smtpgreeting", "mail.test no\x1b spam \nx\n");
    let place = place.without("control/me");
    let told = place.session("HELO x\r\n");
    assert_eq!(told.replies, "220 mail.test no? spam ESMTP\r\n250 mail.test no? spam\r\n");
}

// DESIGN: contradictions are refused at start, and both variables are named.
#[test]
fn contradictions() {
    let refused = "421 4.3.5 unable to serve: settings contradict";
    let told = Place::new().variable("FORCE_TLS", "1").variable("DENY_TLS", "1").session("");
    turned_away(&told, refused, 100, &["FORCE_TLS", "DENY_TLS"]);
    let told = Place::new().variable("REQUIRE_AUTH", "1").session("");
    turned_away(&told, refused, 100, &["REQUIRE_AUTH", "SASLFD"]);
    let told = Place::new().variable("AUTH_CDB", "users.cdb").session("");
    turned_away(&told, refused, 100, &["AUTH_CDB", "authcheck -s"]);
}

#[test]
fn the_arguments_of_auth_patches_get_a_hint() {
    for arguments in [&["mx.test", "vchkpw", "/bin/true"][..], &["-x"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_smtpd")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(100));
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.lines().count() == 1 && log.contains("authcheck -s -x 'vchkpw /bin/true'"));
        assert!(output.stdout.starts_with(b"421 4.3.5 "));
    }
}

#[test]
fn verbose_tells_of_every_end() {
    let place = Place::new();
    let log = |arguments: &[&str]| {
        let mut smtpd = Command::new(env!("CARGO_BIN_EXE_smtpd"));
        let output = smtpd.args(arguments).env("QMAILHOME", place.path("")).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(log(&[]), "");
    assert!(log(&["-v"]).contains(": ended by=client connid="));
}
