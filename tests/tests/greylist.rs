//! greylist in the chain: who waits, who passes, and who holds what.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use chain_tests::folder::{NAME, ORDINARY};
use chain_tests::greylisting::{GREYLIST, assert_grey, greet, greylist, postmaster, try_mail};
use chain_tests::postfix::Postfix;
use chain_tests::programs::{needs_root, root};
use chain_tests::server::Builder;
use chain_tests::session::holds;
use chain_tests::users::{self, PLAIN};
use chain_tests::{Client, Process, Server, programs, until};

const BEHIND_TLS: &str = "starttls-wrap greylist setuidgid nobody smtpd";

/// Delayed, let in when it comes back, and then left alone.
fn three_visits(server: &Server, connect: impl Fn(&Server) -> Client) {
    let mut first = connect(server);
    assert_grey(&try_mail(&mut first, "sender@client.test"));
    assert_grey(&try_mail(&mut first, "another@client.test"));
    first.expect("NOOP", "250");
    first.expect("QUIT", "221");
    first.closed();
    assert!(server.mails().is_empty());
    let mut second = connect(server);
    assert!(second.deliver("Subject: again\r\n\r\ntext\r\n").starts_with("250 "));
    second.expect("QUIT", "221");
    server.logged("passed why=came-back host=");
    let mut third = connect(server);
    server.logged("left-alone why=known host=");
    let left = until("the lookup's end", || {
        let sessions = server.sessions();
        sessions.iter().all(|process| process.name != "greylist").then_some(sessions)
    });
    assert!(left.iter().any(|process| process.name == "smtpd"), "{left:?}");
    assert!(third.deliver("Subject: third\r\n\r\ntext\r\n").starts_with("250 "));
    third.expect("QUIT", "221");
    third.closed();
    assert_eq!(server.mails().len(), 2);
    server.idle();
}

// "Behind starttls-wrap the same inside STARTTLS and on 465."
#[test]
fn in_clear_inside_starttls_and_from_the_first_byte() {
    let immediate = BEHIND_TLS.replace("starttls-wrap", "starttls-wrap -i");
    for server in [
        greylist(GREYLIST),
        greylist(GREYLIST).ordinary(),
        greylist(GREYLIST).ipv6(),
        greylist(GREYLIST).softlimit(20_000_000),
        greylist(BEHIND_TLS),
    ] {
        three_visits(&server.start(), greet);
    }
    three_visits(&greylist(BEHIND_TLS).start(), |server| {
        let mut client = greet(server);
        client.starttls();
        client.expect("EHLO client.test", "250");
        client
    });
    three_visits(&greylist(&immediate).start(), |server| {
        let mut client = server.connect();
        client.handshake();
        client.reply();
        client.expect("EHLO client.test", "250");
        client
    });
}

/// The relay of the only session, and the program it relays for.
fn relay(server: &Server) -> (Process, Process) {
    until("a relay", || {
        let sessions = server.sessions();
        let program = sessions.iter().find(|process| process.name == "smtpd")?.clone();
        let relay = sessions.iter().find(|process| process.parent == program.pid)?.clone();
        Some((relay, program))
    })
}

// DESIGN 2, "Who holds what": relay child: client side on 0 and 1, log, program side, its store; 2: "locked in", "runs as the owner of
// the store's folder"
#[test]
fn what_the_relay_holds_and_who_it_is() {
    // /proc shows what a locked-in process holds to root only.
    if !needs_root() {
        return;
    }
    let server = greylist(GREYLIST).start();
    let mut client = greet(&server);
    let (relay, program) = relay(&server);
    let held = holds(&relay).replace(&server.folder.text("grey/store"), "/store");
    assert_eq!(held, "0 client, 1 client, 2 log, /store, /store-shm, /store-wal, program");
    // What whoever started tcpserver left open may come behind.
    let held = holds(&program);
    assert!(held.starts_with("0 program, 1 program, 2 log") && !held.contains("store"), "{held}");
    assert_eq!(program.descriptors()[&0], program.descriptors()[&1]);
    assert_eq!(relay.status("NoNewPrivs").as_deref(), Some("1"));
    assert_eq!(relay.status("Seccomp").as_deref(), Some("2"));
    assert_eq!(program.status("NoNewPrivs").as_deref(), Some("0"));
    assert_eq!(relay.uid(), ORDINARY);
    let folder = fs::read_link(format!("/proc/{}/root", relay.pid)).expect("its root");
    assert_eq!(folder, fs::canonicalize(server.folder.path("grey")).expect("the folder"));
    let mode = fs::metadata(server.folder.path("grey/store")).expect("a store").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    client.expect("QUIT", "221");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_relay_that_tries_more_than_it_may_is_killed() {
    use chain_tests::inject::{Outcome, syscall};
    if !needs_root() {
        return;
    }
    let server = greylist(GREYLIST).start();
    for call in [
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_execve,
        libc::SYS_ptrace,
        libc::SYS_clone,
        libc::SYS_kill,
        libc::SYS_prctl,
        libc::SYS_setuid,
        libc::SYS_chroot,
    ] {
        let mut client = greet(&server);
        let outcome = syscall(relay(&server).0.pid, call, [0; 3]);
        assert_eq!(outcome, Outcome::Killed(nix::sys::signal::Signal::SIGSYS), "{call}");
        client.rest();
        server.idle();
    }
}

#[test]
fn what_is_set_up_wrongly_is_said_to_client_and_log() {
    let refused = |server: Builder, reason: &str| {
        let server = server.start();
        let mut client = server.connect();
        client.play("S: 421 4.3.5 *\n-- end");
        let line = server.logged("greylist: fatal: ");
        assert!(line.contains(reason), "{line}");
        server.idle();
    };
    refused(greylist(GREYLIST).without("GREYLIST_DB"), "GREYLIST_DB is not set");
    refused(greylist(GREYLIST).env("GREYLIST_DB", "redis://cache/"), "not supported yet");
    refused(greylist(GREYLIST).env("GREYLIST_DELAY", "soon"), "GREYLIST_DELAY is no number");
    let server = greylist(GREYLIST).file("rules", "pass network 192.0.2.0/24\nshrug\n");
    let rules = server.folder.text("rules");
    refused(server.env("GREYLIST_RULES", &rules), "/rules: line 2: no such action: shrug");
    // A FIFO, a device and a file without end would keep every client waiting.
    for rules in ["fifo", "/dev/zero", "sparse"] {
        let server = greylist(GREYLIST);
        let path = if rules.starts_with('/') { rules.into() } else { server.folder.text(rules) };
        if rules == "fifo" {
            nix::unistd::mkfifo(path.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        } else if rules == "sparse" {
            let file = fs::File::create(&path).expect("make a file");
            file.set_len(1 << 40).expect("make it long");
        }
        refused(server.env("GREYLIST_RULES", &path), "no file of at most 1048576 bytes");
    }
    let server = greylist(GREYLIST);
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(server.folder.path("grey"), open).expect("chmod");
    refused(server, "/grey: chmod o-w");
    if root() {
        let server = greylist(GREYLIST);
        let store = server.folder.text("store");
        refused(server.env("GREYLIST_DB", &store), "belongs to root");
    }
}

#[test]
fn exit_codes_tell_configuration_from_failure() {
    let greylist = programs::folder().join("greylist");
    let run = |words: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(&greylist);
        command.args(words).env_clear().envs(environment.iter().copied());
        command.output().expect("greylist").status.code()
    };
    assert_eq!(run(&[], &[]), Some(100));
    assert_eq!(run(&["-x", "true"], &[]), Some(100));
    assert_eq!(run(&["/bin/true"], &[]), Some(100));
    assert_eq!(run(&["/bin/true"], &[("GREYLIST", "0")]), Some(0));
    assert_eq!(run(&["/bin/false"], &[("RELAYCLIENT", "")]), Some(1));
    assert_eq!(run(&["/nonexistent"], &[("GREYLIST", "0")]), Some(111));
}

#[test]
fn switched_off_for_a_client_it_is_not_there_at_all() {
    for (name, value) in [("GREYLIST", "0"), ("RELAYCLIENT", "")] {
        let server = greylist(GREYLIST).env(name, value).start();
        let mut client = greet(&server);
        let sessions = server.sessions();
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        assert!(client.deliver("text\r\n").starts_with("250 "));
        assert!(!server.folder.path("grey/store").exists());
    }
}

#[test]
fn log_only_mode_lets_everything_pass() {
    let server = greylist(GREYLIST).env("GREYLIST", "log").start();
    let mut client = greet(&server);
    assert!(client.deliver("text\r\n").starts_with("250 "));
    server.logged(
        "would-delay why=new host=127.0.0.0/24 from=<sender@client.test> to=<postmaster@mx.test>",
    );
}

// DESIGN 5: "Host key by name where GREYLIST_HOST=1 asserts that it is verified, so that pools of senders pass."
#[test]
fn the_machines_of_a_pool_are_one_sender_where_names_are_verified() {
    for (verified, host) in [("1", "pool.example.com"), ("0", "127.0.0.0/24")] {
        let chain = format!("env TCPREMOTEHOST=out-17.pool.example.com {GREYLIST}");
        let server = greylist(&chain).env("GREYLIST_HOST", verified).start();
        assert_grey(&try_mail(&mut greet(&server), "sender@client.test"));
        server.logged(&format!("delayed why=new host={host} "));
    }
}

// DESIGN 3: SASLFD's login, 235, is what counts; here said by a program that takes every password.
#[test]
fn a_login_is_believed_and_an_attempt_is_not() {
    const PARROT: &str = "#!/bin/sh
printf '220 parrot\\r\\n'
while read -r line; do
  case $line in
    AUTH*PLAIN*good*) printf '235 ok\\r\\n' ;;
    AUTH*) printf '334 \\r\\n'; read -r _; printf '501 cancelled\\r\\n' ;;
    DATA*) printf '354 go\\r\\n' ;;
    Q*) printf '221 bye\\r\\n'; exit ;;
    *) printf '250 ok\\r\\n' ;;
  esac
done
";
    let server = greylist("greylist ./parrot");
    server.folder.script("parrot", PARROT);
    let server = server.start();
    let mut client = server.connect();
    client.reply();
    client.expect("AUTH PLAIN", "334");
    client.expect("*", "501");
    assert_grey(&try_mail(&mut client, "sender@client.test"));
    client.expect("AUTH PLAIN good", "235");
    client.expect("MAIL FROM:<sender@client.test>", "250");
    client.expect("RCPT TO:<somebody@else.test>", "250");
    client.expect("DATA", "354");
    server.logged("left-alone why=authenticated");
}

// The whole chain of the README; RFC 6647 5 (7): "not on any authenticated session".
#[test]
fn in_the_whole_chain_a_login_is_left_alone() {
    let chain = "starttls-wrap recordio-tls greylist authcheck -s users.cdb setuidgid nobody smtpd";
    let server = greylist(chain);
    users::one(&server.folder);
    let server = server.start();
    let inside = |attempt: &str, expected: &str| {
        let mut client = greet(&server);
        client.starttls();
        client.expect("EHLO client.test", "250");
        client.expect(attempt, expected);
        client
    };
    let wrong = "AUTH PLAIN AHVzZXIAd3Jvbmc=";
    assert_grey(&try_mail(&mut inside(wrong, "535"), "sender@client.test"));
    let mut client = inside(&format!("AUTH PLAIN {PLAIN}"), "235");
    client.expect("MAIL FROM:<another@client.test>", "250");
    client.expect("RCPT TO:<somebody@else.test>", "250");
    client.expect("RSET", "250");
    assert!(client.deliver("text\r\n").starts_with("250 "));
    server.logged("left-alone why=authenticated");
}

/// What a client hears, without the numbers that differ from session to session.
fn heard(server: &Server, script: &[u8], singly: bool) -> String {
    let mut client = server.connect();
    match singly {
        true => client.send_singly(script),
        false => client.send(script),
    }
    let heard = String::from_utf8_lossy(&client.rest()).into_owned();
    server.idle();
    let stable = |line: &str| match line.starts_with("250 2.0.0 ok ") {
        true => "250 2.0.0 ok".to_owned(),
        false => line.to_owned(),
    };
    heard.lines().map(stable).collect::<Vec<_>>().join("\n")
}

// "The dialogue seen by client and by smtpd equals the one without greylist, except for the refused RCPTs"
#[test]
fn the_dialogue_is_that_without_greylist() {
    let me = postmaster();
    let long = "x".repeat(12_000);
    let mut script = format!(
        "EHLO c\r\nNOOP\r\nVRFY x\r\nHELP\r\nXYZZY\r\nNOOP {long}\r\nRCPT TO:<{me}>\r\n\
         MAIL FROM:<a@[192.0.2.1]> SIZE=9\r\nRCPT TO:<postmaster>\r\nRCPT TO:<nobody@else.test>\r\n\
         RCPT TO:<\"post master\"@{NAME}>\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<{me}>\r\nRSET\r\nDATA\r\n"
    )
    .into_bytes();
    let mails = format!(
        "MAIL FROM:<a@b.test>\r\nRCPT TO:<{me}>\r\nDATA\r\n8-bit \u{fc}\0\r\n..\r\n.\r\n\
         MAIL FROM:<>\r\nRCPT TO:<{me}>\r\nBDAT 6\r\nQUIT\r\nBDAT 5 LAST\r\n.x.\r\n\
         MAIL FROM:<a@b.test>\r\nRCPT TO:<{me}>\r\nBDAT 0 LAST\r\nBDAT 3\r\nabcNOOP\r\n"
    );
    let end = b"MAIL FROM:<a@b.test>\r\nQUIT\r\n";
    let without = Server::new("setuidgid nobody smtpd").start();
    let watching = greylist(GREYLIST).env("GREYLIST", "log").start();
    let refusing = greylist(GREYLIST).env("GREYLIST_DELAY", "9").start();
    for singly in [false, true] {
        let whole = [&script[..], mails.as_bytes(), end].concat();
        assert_eq!(heard(&watching, &whole, singly), heard(&without, &whole, singly));
    }
    assert_eq!(without.mails().len(), watching.mails().len());
    // For an unknown host: no body, since DATA is refused.
    for _ in 0..3 {
        script.extend(format!("MAIL FROM:<a@b.test>\r\nRCPT TO:<{me}>\r\nRSET\r\n").bytes());
    }
    script.extend(end);
    for singly in [false, true] {
        let expected = heard(&without, &script, singly);
        let refused = heard(&refusing, &script, singly);
        assert_eq!(refused.lines().count(), expected.lines().count());
        let mut differ: Vec<_> =
            refused.lines().zip(expected.lines()).filter(|(one, other)| one != other).collect();
        differ.retain(|(one, other)| {
            !(one.starts_with("450 4.7.1 Greylisted, retry=00:00:0") && other.starts_with("250 "))
        });
        assert!(differ.is_empty(), "{differ:?}");
        assert_eq!(refused.matches("450 4.7.1").count(), 5);
    }
    assert!(refusing.mails().is_empty());
}

// "1,000 recipients; the answers keep their order"
#[test]
fn a_thousand_recipients_in_order() {
    let mut script = String::from("EHLO c\r\nMAIL FROM:<a@b.test>\r\n");
    for number in 0..1_000 {
        // After 20 errors smtpd would say 421.
        let host = if number % 70 == 3 { "else.test" } else { NAME };
        script += &format!("RCPT TO:<postmaster{number}@{host}>\r\n");
    }
    script += &format!("RCPT TO:<{}>\r\nRSET\r\nQUIT\r\n", postmaster());
    let without = Server::new("setuidgid nobody smtpd").start();
    let refusing = greylist(GREYLIST).env("GREYLIST_DELAY", "9").start();
    let expected = heard(&without, script.as_bytes(), false);
    let ok = expected.lines().filter(|line| line.starts_with("250 ")).count();
    assert!(ok > 980 && expected.lines().count() > 1_003, "{ok}");
    for singly in [false, true] {
        let refused = heard(&refusing, script.as_bytes(), singly);
        let mut greylisted = 0;
        for (one, other) in refused.lines().zip(expected.lines()) {
            if one != other {
                assert!(one.starts_with("450 4.7.1 Greylisted") && other.starts_with("250 "));
                greylisted += 1;
            }
        }
        assert_eq!(refused.lines().count(), expected.lines().count());
        assert!(greylisted > 980, "{greylisted}");
    }
}

// greylite's defect 9: an alarm of 8 minutes is left on whatever follows.
#[test]
fn defect_9_no_alarm_and_no_signal_mask_is_left_to_the_program() {
    const WITNESS: &str = "#!/usr/bin/env python3
import os, signal, sys
left = signal.alarm(0)
masked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
ignored = [s for s in (signal.SIGCHLD, signal.SIGALRM) if signal.getsignal(s) == signal.SIG_IGN]
print('witness: alarm=%d masked=%d ignored=%d' % (left, len(masked), len(ignored)), file=sys.stderr)
os.execvp(sys.argv[1], sys.argv[1:])
";
    if !programs::debian("python3", "python3") {
        return;
    }
    for environment in [("GREYLIST", "1"), ("GREYLIST", "0"), ("RELAYCLIENT", "")] {
        let server = greylist("greylist ./witness setuidgid nobody smtpd");
        server.folder.script("witness", WITNESS);
        let server = server.env(environment.0, environment.1).start();
        greet(&server).expect("QUIT", "221");
        server.logged("witness: alarm=0 masked=0 ignored=0");
    }
}

// greylite's defect 17: O_NONBLOCK is set on the client's socket, and a full socket is taken for an error.
#[test]
fn defect_17_the_clients_socket_stays_blocking() {
    let server = greylist(GREYLIST).start();
    let _client = greet(&server);
    let (relay, program) = relay(&server);
    for process in [&relay, &program] {
        for number in [0, 1] {
            let text = fs::read_to_string(format!("/proc/{}/fdinfo/{number}", process.pid));
            let text = text.expect("its descriptor");
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
            let flags = i32::from_str_radix(flags.trim(), 8).expect("octal");
            assert_eq!(flags & libc::O_NONBLOCK, 0, "{text}");
        }
    }
}

/// The client reads nothing before it has sent everything; replies and commands fill every buffer in between.
#[test]
fn defect_17_a_client_that_does_not_read_for_long_loses_no_reply() {
    const COUNT: usize = 60_000;
    let server = greylist(GREYLIST).start();
    let mut client = greet(&server);
    let mut writer = client.stream().try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, "NOOP\r\n".repeat(COUNT).as_bytes())
    });
    for _ in 0..COUNT {
        assert!(client.reply().starts_with("250 "));
    }
    sender.join().expect("the sender").expect("send");
    client.expect("QUIT", "221");
}

// greylite's defect 18: a client that closes its half gets no more replies.
#[test]
fn defect_18_a_half_close_leaves_the_replies() {
    let server = greylist(GREYLIST).start();
    let mut client = greet(&server);
    client.send("NOOP\r\nVRFY x\r\nNOOP\r\n");
    client.half_close();
    for expected in ["250", "252", "250"] {
        assert!(client.reply().starts_with(expected), "{}", client.transcript());
    }
    client.closed();
}

// DESIGN 2: "Program gone where a reply is due: 421 4.3.0."
#[test]
fn a_program_that_is_not_there_or_dies_leaves_a_word() {
    let server = greylist("greylist ./missing").start();
    server.connect().play("S: 421 4.3.0 *\n-- end");
    server.logged("unable to run ./missing");
    let server = greylist(GREYLIST).start();
    let mut client = greet(&server);
    let (_, program) = relay(&server);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(program.pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("kill the program");
    client.closed();
}

/// A relay that dies takes its session with it, and nothing else.
#[test]
fn a_relay_that_is_killed_ends_its_session() {
    let server = greylist(GREYLIST).start();
    let mut client = greet(&server);
    assert_grey(&try_mail(&mut client, "sender@client.test"));
    let (relay, _) = relay(&server);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(relay.pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("kill the relay");
    client.rest();
    server.idle();
    assert!(greet(&server).deliver("text\r\n").starts_with("250 "));
}

// "swaks shows 450 and later 250"
#[test]
fn swaks_is_told_to_come_back_and_comes_in() {
    if !programs::debian("swaks", "swaks libnet-ssleay-perl") {
        return;
    }
    for (chain, options) in [
        (GREYLIST.to_owned(), &[][..]),
        (GREYLIST.to_owned(), &["--pipeline"]),
        (BEHIND_TLS.to_owned(), &["-tls"]),
        (BEHIND_TLS.to_owned(), &["-tls", "--pipeline"]),
        (BEHIND_TLS.replace("starttls-wrap", "starttls-wrap -i"), &["-tls-on-connect"]),
    ] {
        let server = greylist(&chain).start();
        let swaks = || {
            let output = Command::new("timeout")
                .args(["60", "swaks", "--server", &server.address().to_string()])
                .args(["--from", "sender@client.test", "--to", &postmaster()])
                .args(options)
                .output()
                .expect("swaks");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let said = swaks();
        assert!(
            said.contains("450 4.7.1 Greylisted, retry=00:00:01"),
            "{chain} {options:?} {said}"
        );
        assert!(server.mails().is_empty());
        let said = swaks();
        assert!(said.contains("250 2.0.0 ok"), "{chain} {options:?} {said}");
        assert_eq!(server.mails().len(), 1);
    }
}

// "a queueing Postfix (Debian) on loopback is greylisted, retries, and is let in", also "inside STARTTLS and on 465"
#[test]
fn a_queueing_postfix_comes_back_and_every_mail_arrives_once() {
    let immediate = BEHIND_TLS.replace("starttls-wrap", "starttls-wrap -i");
    for (chain, settings) in [
        (GREYLIST, ""),
        (BEHIND_TLS, "smtp_tls_security_level = encrypt\n"),
        (&immediate, "smtp_tls_security_level = encrypt\nsmtp_tls_wrappermode = yes\n"),
    ] {
        let server = greylist(chain).env("GREYLIST_DELAY", "1").start();
        let Some(postfix) = Postfix::towards(&server, settings) else { return };
        for number in 0..4 {
            let sender = format!("sender{number}@client.test");
            postfix.send(&sender, &postmaster(), &format!("number {number}"));
        }
        // A bounce has no sender and waits at DATA.
        postfix.send("<>", &postmaster(), "number 4");
        until("five mails", || (server.mails().len() == 5).then_some(()));
        let log = postfix.log();
        assert!(log.contains("450 4.7.1 Greylisted, retry=00:00:0"), "{log}");
        assert!(
            log.contains("status=deferred") && log.matches("status=sent").count() <= 5,
            "{log}"
        );
        until("five deliveries", || {
            (postfix.log().matches("status=sent").count() == 5).then_some(())
        });
        drop(postfix);
        server.idle();
        let mails = server.mails();
        for number in 0..5 {
            let subject = format!("Subject: number {number}\n");
            let found =
                mails.iter().filter(|mail| String::from_utf8_lossy(mail).contains(&subject));
            assert_eq!(found.count(), 1, "{subject}");
        }
        if chain != GREYLIST {
            assert!(
                mails.iter().all(|mail| String::from_utf8_lossy(mail).contains(" with ESMTPS "))
            );
        }
    }
}
