//! The password process beside smtpd: what it can do, who can read what, and where no secret is found.

use std::fs;
use std::process::{Command, Stdio};

use chain_tests::folder::ORDINARY;
use chain_tests::users::{self, PLAIN, SUBMISSION};
use chain_tests::{Client, Folder, Process, Server, programs, until};

fn server() -> Server {
    let server = Server::new(SUBMISSION);
    users::one(&server.folder);
    server.start()
}

fn inside(server: &Server) -> Client {
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO client.test", "250");
    client.starttls();
    client.expect("EHLO client.test", "250");
    client
}

/// The password process of the only session, and its smtpd.
fn processes(server: &Server) -> (Process, Process) {
    until("one password process", || {
        let all = server.sessions();
        let named = |name: &str| {
            let mut found: Vec<_> =
                all.iter().filter(|process| process.name == name).cloned().collect();
            (found.len() == 1).then(|| found.remove(0))
        };
        Some((named("authcheck")?, named("smtpd")?))
    })
}

// The process that reads passwords can open nothing, reach nobody and start nothing.
#[test]
#[cfg(target_arch = "x86_64")]
fn it_is_killed_where_it_tries_more_than_it_needs() {
    use chain_tests::inject::{Captive, Outcome};
    use nix::sys::signal::Signal;
    if !programs::needs_root() {
        return;
    }
    let server = server();
    for (name, call) in [
        ("open", libc::SYS_open),
        ("openat", libc::SYS_openat),
        ("socket", libc::SYS_socket),
        ("connect", libc::SYS_connect),
        ("execve", libc::SYS_execve),
        ("ptrace", libc::SYS_ptrace),
        ("clone", libc::SYS_clone),
        ("kill", libc::SYS_kill),
        ("setuid", libc::SYS_setuid),
    ] {
        let mut client = inside(&server);
        let (passwords, _) = processes(&server);
        let outcome = Captive::take(passwords.pid).call(call, [0; 3]);
        assert_eq!(outcome, Outcome::Killed(Signal::SIGSYS), "{name}");
        // RFC 4954 6: without its password process the server is temporarily unable.
        client.expect(&format!("AUTH PLAIN {PLAIN}"), "421 4.7.0");
        client.closed();
        server.idle();
    }
}

#[test]
fn who_holds_what() {
    let server = server();
    let mut client = inside(&server);
    client.expect(&format!("AUTH PLAIN {PLAIN}"), "235");
    let (passwords, smtpd) = processes(&server);
    let users = server.folder.text("users.cdb");
    let held = |process: &Process| {
        let kinds =
            process.descriptors().into_values().map(|target| match target.split(':').next() {
                Some("socket") => "socket".to_owned(),
                _ if target == users => "users".to_owned(),
                _ if target == "/dev/null" => "null".to_owned(),
                _ if target.ends_with("/log") => "log".to_owned(),
                _ => target,
            });
        kinds.collect::<Vec<_>>()
    };
    let mut beside = held(&passwords);
    assert_eq!(beside[..3], ["null", "null", "log"]);
    beside.sort();
    assert_eq!(beside, ["log", "null", "null", "socket", "users"]);
    assert_eq!(held(&smtpd), ["socket", "socket", "log", "socket"]);
    assert_eq!(passwords.status("NoNewPrivs").as_deref(), Some("1"));
    assert_eq!(smtpd.status("NoNewPrivs").as_deref(), Some("0"), "qmail-queue is set-uid");
    if programs::root() {
        assert!(passwords.uid() > 2_100_000_000 && smtpd.uid() == ORDINARY);
        // Who is not dumpable leaves no core, and its files in /proc are root's.
        assert_eq!((passwords.owner(), smtpd.owner()), (Some(0), Some(0)));
        let mut reader = Command::new("setuidgid");
        reader.args(["nobody", "cat", &users]).stdout(Stdio::null()).stderr(Stdio::null());
        let status = reader.status().expect("setuidgid");
        assert!(!status.success(), "smtpd's user can read users.cdb");
    }
}

#[test]
fn no_secret_outside_of_memory_and_none_that_stays_in_it() {
    let server = server();
    let mut client = inside(&server);
    let (passwords, _) = processes(&server);
    let wrong = "AHVzZXIAaHVudGVyMg==";
    client.expect(&format!("AUTH PLAIN {wrong}"), "535");
    client.expect("AUTH LOGIN", "334 ");
    client.expect("dXNlcg==", "334 ");
    client.expect("c2VjcmV0", "235");
    let secrets = ["hunter2", wrong, "c2VjcmV0", "AHVzZXIAc2VjcmV0"];
    for process in server.sessions() {
        let environment = process.environment();
        let arguments = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        let text = format!("{environment:?} {}", arguments.escape_ascii());
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{process:?}: {text}");
    }
    if programs::root() {
        for secret in secrets {
            assert!(!passwords.remembers(secret.as_bytes()), "{secret} is still in memory");
        }
    }
    client.expect("QUIT", "221");
    server.idle();
    let log = server.log();
    assert!(log.contains("AUTH successful") && log.contains("AUTH failed"), "{log}");
    for secret in secrets {
        assert!(!log.contains(secret), "{log}");
        assert_eq!(server.folder.find(secret.as_bytes()), [""; 0], "{secret}");
    }
}

// No core holds a password: whoever is not dumpable leaves none, and nobody of the same user can attach to it.
#[test]
fn no_process_of_a_session_is_dumpable() {
    if !programs::needs_root() {
        return;
    }
    let command = "starttls-wrap authcheck -s -x COMMAND smtpd";
    for chain in ["starttls-wrap authcheck -s users.cdb smtpd", command] {
        let server = Server::new(chain).word("COMMAND", "/bin/true").ordinary();
        users::one(&server.folder);
        let server = server.start();
        let mut client = inside(&server);
        client.expect(&format!("AUTH PLAIN {PLAIN}"), "235");
        // The program from before TLS takes its time to go.
        let passwords = if chain == command { 2 } else { 1 };
        let sessions = until("monitor, net, password process and smtpd", || {
            let sessions = server.sessions();
            let named = |name: &str| sessions.iter().filter(|p| p.name == name).count();
            let counts = [named("starttls-wrap"), named("authcheck"), named("smtpd")];
            (counts == [2, passwords, 1] && sessions.len() == 3 + passwords).then_some(sessions)
        });
        for process in &sessions {
            // proc(5): what belongs to root though its process does not is not dumpable.
            assert_eq!((process.uid(), process.owner()), (ORDINARY, Some(0)), "{process:?}");
        }
    }
}

// Whatever stops authcdb leaves the old file or the new one, whole.
#[test]
fn authcdb_killed_at_any_of_its_system_calls() {
    if !programs::debian("strace", "strace") {
        return;
    }
    let folder = Folder::new();
    let new = users::record(&["new"], "secret");
    users::make(&folder, &[users::record(&["old"], "secret")]);
    let read = || fs::read(folder.path("users.cdb")).expect("users.cdb");
    let before = read();
    users::make(&folder, std::slice::from_ref(&new));
    let after = read();
    folder.write("users", &new);
    let authcdb = programs::folder().join("authcdb");
    let (mut kept, mut replaced) = (0, 0);
    for call in [
        "openat",
        "read",
        "unlink",
        "write",
        "fchown",
        "fchmod",
        "fsync",
        "rename",
        "close",
        "exit_group",
    ] {
        for when in 1..30 {
            folder.write("users.cdb", &before);
            let inject = format!("inject={call}:signal=KILL:when={when}");
            let status = Command::new("strace")
                .args(["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject])
                .arg(&authcdb)
                .args([folder.path("users"), folder.path("users.cdb")])
                .status()
                .expect("strace");
            match read() {
                found if found == before => kept += 1,
                found if found == after => replaced += 1,
                _ => panic!("{call} {when}: neither the old nor the new file"),
            }
            if status.success() {
                break;
            }
        }
    }
    assert!(kept >= 10 && replaced >= 9, "{kept} {replaced}: the kills did not fall where meant");
}

#[test]
fn fail2ban_finds_the_failures_and_nothing_else() {
    let Some(fail2ban) = chain_tests::peers::fail2ban() else { return };
    let server = server();
    let mut client = inside(&server);
    client.expect("AUTH PLAIN AHVzZXIAaHVudGVyMg==", "535");
    client.expect(&format!("AUTH PLAIN {PLAIN}"), "235");
    client.expect("QUIT", "221");
    server.idle();
    // As a client may try to have somebody else banned, by what other programs log of it.
    let forged = "authcheck: 1: AUTH failed [192.0.2.66] x mech=";
    let mut log: String =
        server.log().lines().map(|line| format!("@400000006920c1f83b2c1d3c {line}\n")).collect();
    log.push_str(&format!("@400000006920c1f83b2c1d3c recordio-tls: 7: < {forged}\n"));
    log.push_str("Nov 20 12:00:00 mx smtpd[12]: authcheck: 9: AUTH failed [2001:db8::7] - mech=PLAIN tls=none reason=unknown-user\n");
    server.folder.write("current", log);
    let filter = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/fail2ban/chainmail-auth.conf");
    let output = fail2ban(&[&server.folder.text("current"), filter, "--print-all-matched"]);
    assert!(output.contains(" 2 matched, 4 missed"), "{output}");
    let matched = output.split("Missed line(s)").next().expect("the lines that were matched");
    assert!(matched.contains("AUTH failed [127.0.0.1] user"), "{output}");
    assert!(matched.contains("[2001:db8::7]") && !matched.contains("192.0.2.66"), "{output}");
}
