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
