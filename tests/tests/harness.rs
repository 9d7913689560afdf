//! The harness itself, with programs that are not ours.

use chain_tests::{Folder, Server, peers, process, until};

/// The smallest server that speaks in lines.
const PARROT: &str = "#!/bin/sh
printf '220 parrot\\r\\n'
echo 'parrot: ready' >&2
while read -r line; do
  case $line in
    Q*) printf '221-bye\\r\\n221 bye\\r\\n'; exit ;;
    *) printf '250 %s\\r\\n' \"${line%?}\" ;;
  esac
done
";

const SESSION: &str = "
    S: 220 parrot
    C: EHLO client.test
    C: NOOP
    S: 250 EHLO *.test
    S: 250 *
    C: QUIT
    S: 221-bye
    S: 221 bye
    -- end
";

fn parrot() -> chain_tests::server::Builder {
    let server = Server::new("./parrot");
    server.folder.script("parrot", PARROT);
    server
}

#[test]
fn a_transcript_is_played_against_tcpserver_and_systemd() {
    for server in [
        parrot(),
        parrot().ipv6(),
        parrot().systemd(),
        parrot().systemd().ipv6(),
        parrot().ordinary(),
    ] {
        let server = server.start();
        server.connect().play(SESSION);
        server.connect().play_in_pieces(SESSION, 1);
        server.logged("parrot: ready");
        server.idle();
    }
}

#[test]
#[should_panic(expected = "expected S: 250 something")]
fn a_transcript_that_differs_fails() {
    parrot().start().connect().play("S: 220 parrot\nC: NOOP\nS: 250 something\n");
}

#[test]
fn sessions_are_seen_from_outside() {
    let server = parrot().env("MARK", "seen").start();
    let mut client = server.connect();
    assert_eq!(client.reply(), "220 parrot");
    let sessions = server.sessions();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    let parrot = &sessions[0];
    assert_eq!((parrot.parent, parrot.name.as_str()), (server.process().pid, "parrot"));
    assert_eq!(parrot.environment()["MARK"], "seen");
    assert_eq!(parrot.descriptors()[&0], parrot.descriptors()[&1]);
    assert_eq!(parrot.uid(), nix::unistd::getuid().as_raw());
    assert!(parrot.remembers(b"MARK=seen"));
    assert!(!parrot.remembers(format!("MARK={}", "unseen").as_bytes()));
    client.reset();
    until("the end of the session", || (!parrot.alive()).then_some(()));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_system_call_can_be_injected() {
    use chain_tests::inject::{Outcome, syscall};
    let server = parrot().start();
    let mut client = server.connect();
    client.reply();
    let parrot = server.sessions().remove(0);
    let result = syscall(parrot.pid, libc::SYS_getpid, [0; 3]);
    assert_eq!(result, Outcome::Returned(parrot.pid.into()));
    let nowhere = syscall(parrot.pid, libc::SYS_chdir, [0; 3]);
    assert_eq!(nowhere, Outcome::Returned((-libc::EFAULT).into()));
    client.play("C: still there\nS: 250 still there\nC: Q\nS: 221-*\nS: 221 *\n-- end");
    assert!(process::of(1).is_some());
}

/// Each foreign server alone under tcpserver takes a mail: what the tests behind starttls-wrap find is then theirs or ours.
#[test]
fn unpacked_peers_take_mail() {
    let peers = [
        ("./smtpfront-qmail", peers::mailfront as fn(&Folder) -> bool, "new"),
        ("./exim -bs", peers::exim, "input"),
        // Postfix asks its other daemons about a peer with an address, and takes a caller on a pipe for a local one.
        ("recordio ./sendmail -bs", peers::postfix, "maildrop"),
    ];
    for (chain, prepare, place) in peers {
        let server = Server::new(chain);
        if !prepare(&server.folder) {
            continue;
        }
        let server = server.start();
        let mut client = server.connect();
        client.reply();
        client.expect("EHLO client.test", "250");
        if chain == "./smtpfront-qmail" {
            client.expect("AUTH PLAIN AHVzZXIAc2VjcmV0", "235");
        }
        let reply = client.deliver("Subject: a mail\r\n\r\nhello\r\n");
        assert!(reply.starts_with("250 "), "{}", client.transcript());
        client.expect("QUIT", "221");
        client.closed();
        let kept = server.folder.find(b"Subject: a mail");
        assert!(kept.iter().any(|path| path.contains(place)), "{chain}: {kept:?}");
    }
}
