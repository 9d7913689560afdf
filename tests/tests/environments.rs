//! Run scripts of this family export every switch, most of them 0 or empty: "jms1's and sagredo's kind of environment ... behave as §4 says;
//! every refused contradiction names both variables".

use chain_tests::server::Builder;
use chain_tests::users::{self, PLAIN, SUBMISSION};
use chain_tests::{Client, Server, peers};

/// What jms1's run scripts and his patch's page export besides the six switches.
const JMS1: &str = "PORT=25 SMTPGREETING= GREETDELAY=0 DROP_PRE_GREET=0 MAXRCPT= VALIDRCPTTO_CDB= VALIDRCPTTO_LIMIT=10 VALIDRCPTTO_LOG=2 \
    SPFBEHAVIOR=3 RBLSMTPD= AUTH_CDB= ALLOW_CRAM=0 QMAILSMTPD_HELP_VERSION=0";
/// What sagredo's export besides those of TLS and AUTH.
const SAGREDO: &str = "SMTPD_GREETDELAY=0 CHKUSER_START=ALWAYS CHKUSER_RCPTLIMIT=50 SPFBEHAVIOR=3 BRTLIMIT=2 MAXRCPT=100 RBLSMTPD= \
    FORCEAUTHMAILFROM=0 REJECTNULLSENDERS=0 DNSBLLIST= TLSCIPHERS= VALIDRCPTTO=0 ALLOW_BARELF=0";

/// A script's settings; whether AUTH is shown, then MAIL, AUTH, and MAIL after it, as clients see them in clear and inside TLS: with smtpd
/// behind the wrapper, then with mailfront, where that is another matter (it knows nothing of SMTPAUTH). Empty where one cannot get there.
struct Script {
    wrapper: &'static str,
    settings: &'static str,
    smtpd: [&'static str; 2],
    mailfront: [&'static str; 2],
}

const fn script(
    wrapper: &'static str,
    settings: &'static str,
    smtpd: [&'static str; 2],
    mailfront: [&'static str; 2],
) -> Script {
    Script { wrapper, settings, smtpd, mailfront }
}

#[rustfmt::skip]
const OF_JMS1: [Script; 9] = [
    // 25, as shipped, without AUTH.
    script("starttls-wrap", "SSL=0 FORCE_TLS=0 DENY_TLS=0 AUTH=0 REQUIRE_AUTH=0 ALLOW_INSECURE_AUTH=0",
        ["- 250 503 250", "- 250 503 250"], ["- 250 503 250", "- 250 503 250"]),
    // 25, AUTH inside TLS only.
    script("starttls-wrap", "SSL=0 FORCE_TLS=0 DENY_TLS=0 AUTH=1 REQUIRE_AUTH=0 ALLOW_INSECURE_AUTH=0",
        ["- 250 538 250", "+ 250 235 250"], ["- 250 538 250", "+ 250 235 250"]),
    script("starttls-wrap", "SSL= FORCE_TLS= DENY_TLS= AUTH= REQUIRE_AUTH= ALLOW_INSECURE_AUTH=",
        ["- 250 538 250", "+ 250 235 250"], ["- 250 538 250", "+ 250 235 250"]),
    // 25, what his page has for old clients.
    script("starttls-wrap", "SSL=0 FORCE_TLS=0 DENY_TLS=0 AUTH=1 REQUIRE_AUTH=0 ALLOW_INSECURE_AUTH=1",
        ["+ 250 235 250", "+ 250 235 250"], ["+ 250 235 250", "+ 250 235 250"]),
    // 25 without TLS, for recordio and greylite.
    script("starttls-wrap", "SSL=0 FORCE_TLS=0 DENY_TLS=1 AUTH=0 REQUIRE_AUTH=0 ALLOW_INSECURE_AUTH=0",
        ["- 250 503 250", ""], ["- 250 503 250", ""]),
    script("starttls-wrap", "SSL=0 FORCE_TLS=0 DENY_TLS=1 AUTH=1 REQUIRE_AUTH=0 ALLOW_INSECURE_AUTH=0",
        ["- 250 538 250", ""], ["- 250 538 250", ""]),
    // 465.
    script("starttls-wrap", "PORT=465 SSL=1 FORCE_TLS=0 DENY_TLS=0 AUTH=1 REQUIRE_AUTH=1 ALLOW_INSECURE_AUTH=0",
        ["", "+ 530 235 250"], ["", "+ 530 235 250"]),
    // 587.
    script("starttls-wrap", "PORT=587 SSL=0 FORCE_TLS=1 DENY_TLS=0 AUTH=1 REQUIRE_AUTH=1 ALLOW_INSECURE_AUTH=0",
        ["- 530 530 530", "+ 530 235 250"], ["- 530 530 530", "+ 530 235 250"]),
    script("starttls-wrap", "PORT=587 SSL=0 FORCE_TLS=1 DENY_TLS=0 AUTH=1 REQUIRE_AUTH=1 ALLOW_INSECURE_AUTH=1",
        ["- 530 530 530", "+ 530 235 250"], ["- 530 530 530", "+ 530 235 250"]),
];

#[rustfmt::skip]
const OF_SAGREDO: [Script; 6] = [
    // 25: no AUTH.
    script("starttls-wrap", "SMTPAUTH=- FORCETLS=0 DISABLETLS=0",
        ["- 250 538 250", "- 250 503 250"], ["- 250 538 250", "+ 250 235 250"]),
    script("starttls-wrap", "SMTPAUTH=- AUTH=0 FORCETLS=0 DISABLETLS=1",
        ["- 250 503 250", "- 250 503 250"], ["- 250 503 250", "- 250 503 250"]),
    // 587: his FORCETLS is about AUTH only, and AUTH waits for TLS here however it is set.
    script("starttls-wrap", "SMTPAUTH=! FORCETLS=1 DISABLETLS=0",
        ["- 530 538 530", "+ 530 235 250"], ["- 250 538 250", "+ 250 235 250"]),
    script("starttls-wrap", "SMTPAUTH=! FORCETLS=0 DISABLETLS=0 FORCE_TLS=1 REQUIRE_AUTH=1",
        ["- 530 530 530", "+ 530 235 250"], ["- 530 530 530", "+ 530 235 250"]),
    // 465: his SMTPS makes his own smtpd begin with TLS; here the option does it, and SMTPS reaches nobody.
    script("starttls-wrap -i", "SMTPAUTH=! SMTPS=1 FORCETLS=0 DISABLETLS=0",
        ["", "+ 530 235 250"], ["", "+ 250 235 250"]),
    // s/qmail's way of asking for TLS reaches nobody either.
    script("starttls-wrap", "UCSPITLS=! SMTPAUTH= REQUIRE_AUTH=0",
        ["- 250 538 250", "+ 250 235 250"], ["- 250 538 250", "+ 250 235 250"]),
];

#[test]
fn jms1s_environments() {
    OF_JMS1.iter().for_each(|script| plays_with_both(script, JMS1));
}

#[test]
fn sagredos_environments() {
    OF_SAGREDO.iter().for_each(|script| plays_with_both(script, SAGREDO));
}

fn plays_with_both(script: &Script, exported: &str) {
    let server = Server::new(&SUBMISSION.replace("starttls-wrap", script.wrapper));
    users::one(&server.folder);
    plays(with(server, exported, script), script, script.smtpd);
    let server = Server::new(&format!("{} ./smtpfront-qmail", script.wrapper));
    if peers::mailfront(&server.folder) {
        plays(with(server, exported, script), script, script.mailfront);
    }
}

fn with(server: Builder, exported: &str, script: &Script) -> Builder {
    let settings = [exported, script.settings].join(" ");
    set(server, &settings)
}

fn set(server: Builder, settings: &str) -> Builder {
    let settings = settings.split_whitespace().filter_map(|setting| setting.split_once('='));
    settings.fold(server, |server, (name, value)| server.env(name, value))
}

fn plays(server: Builder, script: &Script, [clear, inside]: [&str; 2]) {
    let server = server.start();
    let immediate = clear.is_empty();
    let told = |seen: &str, client: &Client| {
        format!(
            "{} {}: {seen}\n{}\n{}",
            server.chain(),
            script.settings,
            client.transcript(),
            server.log()
        )
    };
    let mut client = server.connect();
    if immediate {
        client.handshake();
        client.reply();
    } else {
        client.reply();
        let seen = policy(&mut client);
        assert_eq!(seen, clear, "{}", told("in clear", &client));
        let offered = client.transcript().contains("STARTTLS");
        assert_eq!(offered, !inside.is_empty(), "{}", told("in clear", &client));
        if inside.is_empty() {
            client.expect("STARTTLS", "502");
            return;
        }
        client.starttls();
    }
    let seen = policy(&mut client);
    assert_eq!(seen, inside, "{}", told("inside TLS", &client));
    client.expect("QUIT", "221");
}

/// Whether AUTH is offered, and the codes that MAIL, AUTH, and MAIL after it get.
fn policy(client: &mut Client) -> String {
    let offers = client.expect("EHLO client.test", "250");
    let shown = if offers.contains("AUTH") { "+" } else { "-" };
    let mut code = |command: &str| client.ask(command)[..3].to_owned();
    let before = code("MAIL FROM:<a@client.test>");
    code("RSET");
    let auth = code(&format!("AUTH PLAIN {PLAIN}"));
    format!("{shown} {before} {auth} {}", code("MAIL FROM:<a@client.test>"))
}

// DESIGN 4: "Refused at start, with 421 4.3.5, one log line that names both variables, exit 100", whatever else is exported.
#[test]
fn contradictions_among_many_switches() {
    let off = "SSL=0 FORCE_TLS=0 DENY_TLS=0 AUTH=1 REQUIRE_AUTH=0 ALLOW_INSECURE_AUTH=0";
    for (chain, settings, names) in [
        (SUBMISSION, "FORCE_TLS=1 DENY_TLS=1", ["FORCE_TLS", "DENY_TLS"]),
        (SUBMISSION, "SSL=1 DENY_TLS=1", ["SSL", "DENY_TLS"]),
        (SUBMISSION, "REQUIRE_AUTH=1 AUTH=0", ["REQUIRE_AUTH", "AUTH"]),
        (SUBMISSION, "REQUIRE_AUTH=1 DENY_TLS=1", ["REQUIRE_AUTH", "DENY_TLS"]),
        // What the wrapper does not know is for smtpd to refuse.
        (SUBMISSION, "REQUIRE_AUTH=1 SMTPAUTH=-", ["REQUIRE_AUTH", "SMTPAUTH"]),
        (SUBMISSION, "SMTPAUTH=! AUTH=0", ["SMTPAUTH", "AUTH"]),
        ("starttls-wrap smtpd", "REQUIRE_AUTH=1", ["REQUIRE_AUTH", "SASLFD"]),
        ("starttls-wrap smtpd", "SMTPAUTH=!", ["SMTPAUTH", "SASLFD"]),
        ("starttls-wrap smtpd", "AUTH_CDB=/nowhere", ["AUTH_CDB", "SASLFD"]),
        ("smtpd", "FORCE_TLS=1 DENY_TLS=1", ["FORCE_TLS", "DENY_TLS"]),
        ("smtpd", "FORCE_TLS=1 DISABLETLS=1", ["FORCE_TLS", "DISABLETLS"]),
        ("smtpd", "UCSPITLS=! DISABLETLS=1", ["UCSPITLS", "DISABLETLS"]),
        ("smtpd", "REQUIRE_AUTH=1 AUTH=0", ["REQUIRE_AUTH", "AUTH"]),
        ("smtpd", "REQUIRE_AUTH=1 DENY_TLS=1", ["REQUIRE_AUTH", "DENY_TLS"]),
    ] {
        let server = Server::new(chain);
        users::one(&server.folder);
        let mut single = set(server, &[JMS1, off, settings].join(" ")).single();
        let told = format!("{chain}: {settings}");
        assert!(single.client.reply().starts_with("421 4.3.5 "), "{told}");
        single.client.closed();
        assert_eq!(single.code(), Some(100), "{told}");
        let log = single.log();
        let fatal: Vec<&str> = log.lines().filter(|line| line.contains("fatal: ")).collect();
        assert_eq!(fatal.len(), 1, "{told}: {log}");
        assert!(names.iter().all(|name| fatal[0].contains(name)), "{told}: {log}");
    }
}
