//! `smtpd --check`, from outside.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn home(files: &[(&str, &str)]) -> PathBuf {
    let home =
        std::env::temp_dir().join(format!("smtpd-check-{}-{}", std::process::id(), files.len()));
    fs::create_dir_all(home.join("control")).unwrap();
    for (name, content) in files {
        fs::write(home.join("control").join(name), content).unwrap();
    }
    home
}

fn check(home: &PathBuf, variables: &[(&str, &str)]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_smtpd"))
        .arg("--check")
        .env_clear()
        .env("QMAILHOME", home)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    fs::remove_dir_all(home).unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

// The page: say what it would do with them, and name the files and variables of known patches that are not used.
#[test]
fn says_what_a_session_would_do() {
    let home = home(&[
        ("me", "mx.example.org\n"),
        ("rcpthosts", "example.org\n.example.org\n"),
        ("databytes", "1000000\n"),
        ("badrcptto", "x@example.org\n"),
        ("brtlimit", "2\n"),
    ]);
    let variables = [
        ("QMAILQUEUE", "/bin/true"),
        ("SPFBEHAVIOR", "3"),
        ("BRTLIMIT", "2"),
        ("CHKUSER_START", "ALWAYS"),
        ("TCPLOCALIP", "192.0.2.1"),
    ];
    let (text, code) = check(&home, &variables);
    for line in [
        "greeting    220 mx.example.org ESMTP",
        "policy      in clear; AUTH only inside TLS; mail without AUTH",
        "mail for    2 domains of control/rcpthosts",
        "size        at most 1000000 bytes",
        "waits       300 s for the client",
        "literal     [192.0.2.1] is mx.example.org",
        "not read    control/badrcptto control/brtlimit",
        "not used    BRTLIMIT CHKUSER_START SPFBEHAVIOR",
        "no problems",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert_eq!(code, Some(0));
}

#[test]
fn names_what_must_be_mended() {
    let (text, code) = check(&home(&[("me", "mx\n")]), &[("QMAILQUEUE", "/nowhere")]);
    assert!(text.contains("the postmaster alone") && text.contains("PROBLEM"), "{text}");
    assert_eq!(code, Some(1));
    let broken = [("me", "mx\n"), ("databytes", "many\n")];
    let (text, code) = check(&home(&broken), &[]);
    assert!(text.contains("PROBLEM") && text.contains("control/databytes"), "{text}");
    assert_eq!(code, Some(1));
    let switches = [("FORCE_TLS", "1"), ("DENY_TLS", "1")];
    let (text, code) = check(&home(&[]), &switches);
    assert!(text.contains("FORCE_TLS") && text.contains("DENY_TLS"), "{text}");
    assert_eq!(code, Some(1));
}

/// What qmail-smtpd's patches (netqmail's TLS, chkuser, jms1's, sagredo's, qregex, s/qmail) and indimail read below QMAILHOME.
const FILES: &str = "authservid badhelo badhelonorelay badloadertypes badmailfromnorelay badmimetypes badrcptto badrcpttonorelay brtlimit \
    clientca.pem clientcrl.pem dh1024.pem dh2048.pem dh512.pem dnsblfailclosed dnsbllist maxrcpt morevalidrcptto.cdb recipients recipients.cdb \
    rejectnullsenders rejectrelaytest rsa2048.pem rsa512.pem servercert.pem servercerts smtpplugins spfbehavior spfexp spfguess spfrules taps \
    tlsclients tlsserverciphers validrcptto";

/// What they read in the environment, a few of those with a common prefix among them.
const VARIABLES: &str = "ALLOW_BARELF ALLOW_CRAM AUTH_SET_DATABYTES AUTH_UNSET_SPFBEHAVIOR BADLOADERTYPE BADMIMETYPE BASE64 BRTLIMIT \
    CHKUSER_RCPTLIMIT CHKUSER_START DELIVERTO DISABLE_BADMAILFROM DISABLE_HELP DISABLE_MAXRCPT DISABLE_VRFY DNSBLFAILCLOSED DNSBLLIST \
    DNSBLSKIP DROP_PRE_GREET ERROR_FD FORCEAUTHMAILFROM GREETDELAY HELOCHECK LOCALMFCHECK LOGREGEX MAXRCPT MAXRECIPIENTS MFCHECK MFDNSCHECK \
    MOREVALIDRCPTTO_CDB NOBADHELO OLD_CLIENT QHPSI QMAILSMTPD_HELP_VERSION RBLSMTPD REJECTNULLSENDERS RELAYREJ SECURE_AUTH SMTPD_GREETDELAY \
    SMTPGREETING SMTPS SPF SPFBEHAVIOR STARTTLS TARPITCOUNT TARPITDELAY TLSCIPHERS TLS_PROVIDER VALIDRCPTTO VALIDRCPTTO_LIMIT VALIDRCPTTO_LOG";

// "names the files and variables of known patches that it ignores (badrcptto, SPFBEHAVIOR, BRTLIMIT ...)": every one that is known.
#[test]
fn every_file_and_variable_of_known_patches_is_named() {
    let files: Vec<&str> = FILES.split_whitespace().collect();
    let content: Vec<(&str, &str)> = files
        .iter()
        .map(|name| (*name, "x\n"))
        .chain([("me", "mx\n"), ("rcpthosts", "")])
        .collect();
    let home = home(&content);
    fs::create_dir(home.join("users")).unwrap();
    fs::write(home.join("users/authuser"), "").unwrap();
    let variables: Vec<(&str, &str)> =
        VARIABLES.split_whitespace().map(|name| (name, "0")).collect();
    let read =
        [("QMAILQUEUE", "/bin/true"), ("DATABYTES", "1"), ("FORCETLS", "1"), ("DENY_TLS", "0")];
    let (text, code) = check(&home, &[&variables[..], &read].concat());
    let named = |what: &str| -> Vec<String> {
        let line = text.lines().find_map(|line| line.strip_prefix(what));
        line.unwrap_or_else(|| panic!("{what}: {text}"))
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    let mut expected: Vec<String> = files.iter().map(|name| format!("control/{name}")).collect();
    expected.push("users/authuser".to_owned());
    assert_eq!(named("not read"), expected);
    assert_eq!(named("not used"), VARIABLES.split_whitespace().collect::<Vec<_>>());
    assert_eq!(code, Some(0), "{text}");
}

// qmail knows addresses and @domains; qregex's patterns would silently refuse nobody.
#[test]
fn patterns_in_badmailfrom_are_told_from_senders() {
    let senders = "a@b.test\n@c.test\n# comment\n.*@spam\\.test$\n!good@b.test\nnobody\n";
    let home = home(&[("me", "mx\n"), ("badmailfrom", senders), ("rcpthosts", "mx\n")]);
    let (text, _) = check(&home, &[("QMAILQUEUE", "/bin/true")]);
    assert!(text.contains("refuses     2 senders of badmailfrom\n"), "{text}");
    assert!(text.contains("not used    3 lines of badmailfrom: they are patterns\n"), "{text}");
}

// Wrong usage is 100, as in every program of the chain.
#[test]
fn check_takes_no_arguments() {
    let output = Command::new(env!("CARGO_BIN_EXE_smtpd")).args(["--check", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(100), "{}", output.stderr.escape_ascii());
}
