//! smtpd and queue-maildir in a chain: what a kill at any step leaves behind.

use chain_tests::{CHAIN, Client, Process, Server, programs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ALONE: &str = "setuidgid nobody smtpd";

const MESSAGE: &str = "Subject: once\r\n\r\nbody\r\n";

/// The dialogue, each step with the beginning of its reply; the second half of the body has none.
const STEPS: [(&str, &str); 7] = [
    ("", "220"),
    ("EHLO client.test\r\n", "250"),
    ("MAIL FROM:<sender@client.test>\r\n", "250"),
    ("RCPT TO:<postmaster@mx.test>\r\n", "250"),
    ("DATA\r\n", "354"),
    ("Subject: once\r\n\r\n", ""),
    ("body\r\n.\r\n", "250"),
];

/// Whether the message was accepted, as far as the client was told.
fn accepted(client: &Client) -> bool {
    client
        .transcript()
        .lines()
        .any(|line| line.contains("S: 250 2.0.0 ok ") && line.contains(" qp "))
}

/// Goes through the first steps; as many as succeed.
fn go(client: &mut Client, steps: &[(&str, &str)]) {
    for (said, reply) in steps {
        if !client.try_send(said) {
            return;
        }
        if !reply.is_empty() && client.line().is_none() {
            return;
        }
        while client.transcript().lines().last().is_some_and(|line| line.starts_with("S: 250-")) {
            client.line();
        }
    }
}

/// What must hold however a session ended: nothing runs any more, and a 250 stands for one message.
fn judge(server: &Server, mut client: Client, what: &str) -> (bool, usize) {
    // A session whose queue was killed goes on.
    client.try_send("QUIT\r\n");
    client.rest();
    let (accepted, transcript) = (accepted(&client), client.transcript().to_owned());
    drop(client);
    server.idle();
    let mails = server.take_mails();
    let whole = |mail: &Vec<u8>| mail.ends_with(b"Subject: once\n\nbody\n");
    assert!(mails.iter().all(whole), "{what}: a part of a message");
    assert!(mails.len() <= 1, "{what}: {} messages", mails.len());
    assert!(!accepted || mails.len() == 1, "{what}:\n{transcript}");
    (accepted, mails.len())
}

fn kill_one(process: &Process) {
    // It may have ended meanwhile.
    kill(Pid::from_raw(process.pid), Signal::SIGKILL).ok();
}

// DESIGN: kill -9 of any process after each reply.
#[test]
fn a_kill_of_any_process_after_any_reply() {
    for (chain, tls) in [(ALONE, false), (CHAIN, false), (CHAIN, true)] {
        let server = Server::new(chain).start();
        for steps in 1..=STEPS.len() {
            let mut victim = 0;
            loop {
                let mut client = server.connect();
                if tls {
                    go(&mut client, &STEPS[..2]);
                    client.starttls();
                }
                // Inside TLS there is no second greeting.
                go(&mut client, &STEPS[usize::from(tls)..steps]);
                let mut sessions = server.sessions();
                sessions.sort_by_key(|process| process.pid);
                let Some(process) = sessions.get(victim) else { break };
                kill_one(process);
                go(&mut client, &STEPS[steps.max(usize::from(tls))..]);
                judge(
                    &server,
                    client,
                    &format!("{chain}, TLS {tls}: {process:?} after step {steps}"),
                );
                victim += 1;
            }
            assert!(victim > 0, "{chain}: no process after step {steps}");
            server.idle();
            server.take_mails();
        }
    }
}

/// Runs `program` under strace, which kills it at one of its system calls.
fn traced(program: &str, call: &str, when: u32) -> String {
    let what = format!("inject={call}:signal=KILL:when={when}");
    format!("#!/bin/sh\nexec strace -qq -o /dev/null -e trace={call} -e {what} {program}\n")
}

/// Plays the whole dialogue; gives whether a message was accepted and how many there are.
fn deliver(server: &Server, what: &str) -> (bool, usize) {
    let mut client = server.connect();
    go(&mut client, &STEPS);
    judge(server, client, what)
}

// Before and after each write to the queue and each reply, and while smtpd waits for the queue.
#[test]
fn a_kill_of_smtpd_at_any_of_its_system_calls() {
    if !programs::debian("strace", "strace") {
        return;
    }
    let mut accepted_and_killed = 0;
    for (call, times) in
        [("sendto", 7), ("write", 4), ("wait4", 2), ("pidfd_open", 1), ("pipe2", 3), ("clone3", 1)]
    {
        for when in 1..=times {
            let server = Server::new("./traced");
            server.folder.script("traced", &traced("smtpd", call, when));
            let server = server.start();
            let (accepted, _) = deliver(&server, &format!("smtpd killed at {call} {when}"));
            accepted_and_killed += u32::from(accepted);
        }
    }
    // Only the kill at the reply to QUIT, and those at calls that were not made so often.
    assert!((1..=4).contains(&accepted_and_killed), "{accepted_and_killed}");
}

// Before and after fsync, link and the end.
#[test]
fn a_kill_of_the_queue_at_any_of_its_system_calls() {
    if !programs::debian("strace", "strace") {
        return;
    }
    let (mut none, mut one) = (0, 0);
    for (call, times) in [
        ("read", 4),
        ("openat", 3),
        ("write", 2),
        ("fsync", 2),
        ("link,linkat", 1),
        ("unlink", 1),
        ("exit_group", 1),
    ] {
        for when in 1..=times {
            let server = Server::new(ALONE);
            let queue = server.folder.script("queue", &traced("queue-maildir", call, when));
            let server = server.env("QMAILQUEUE", &queue).start();
            let (accepted, count) = deliver(&server, &format!("queue killed at {call} {when}"));
            assert!(!accepted, "{call} {when}: the queue was killed, and smtpd said 250");
            match count {
                0 => none += 1,
                _ => one += 1,
            }
        }
    }
    // After the link it is there, but nobody could say so.
    assert!(none >= 10 && one >= 3, "{none} {one}: the kills did not fall where meant");
}

// A queue that hangs and is then killed from outside: 451, and the session goes on.
#[test]
fn a_queue_that_hangs_and_is_killed() {
    let server = Server::new(CHAIN);
    let hang = server.folder.script("hang", "#!/bin/sh\nexec sleep 1000\n");
    let server = server.env("QMAILQUEUE", &hang).start();
    let mut client = server.connect();
    client.reply();
    client.expect("EHLO client.test", "250");
    client.expect("MAIL FROM:<sender@client.test>", "250");
    client.expect("RCPT TO:<postmaster@mx.test>", "250");
    client.expect("DATA", "354");
    client.send(format!("{MESSAGE}.\r\n"));
    let queue = chain_tests::until("the queue", || {
        server.sessions().into_iter().find(|process| process.name == "sleep")
    });
    kill_one(&queue);
    assert_eq!(client.reply(), "451 4.3.0 qq crashed");
    client.expect("NOOP", "250");
    client.expect("QUIT", "221");
    client.closed();
    assert!(server.mails().is_empty());
}

// Both address families, both listeners, root and an ordinary user: mail arrives once, and says how.
#[test]
fn mail_arrives_whoever_listens() {
    for builder in [
        Server::new(ALONE),
        Server::new(ALONE).ipv6(),
        Server::new(ALONE).systemd(),
        Server::new(ALONE).systemd().ipv6(),
        Server::new(ALONE).ordinary(),
        Server::new(ALONE).softlimit(20_000_000),
    ] {
        let server = builder.start();
        let mut client = server.connect();
        client.reply();
        client.expect("EHLO client.test", "250");
        assert!(client.deliver(MESSAGE).starts_with("250 2.0.0 ok "), "{}", client.transcript());
        client.expect("QUIT", "221");
        client.closed();
        server.idle();
        let mail = String::from_utf8(server.mails().remove(0)).expect("a mail in UTF-8");
        let from =
            format!("Received: from unknown (HELO client.test) ({})\n", server.address().ip());
        assert!(mail.contains(&from), "{mail}");
        assert!(mail.contains("Delivered-To: postmaster@mx.test\n") && mail.ends_with("\nbody\n"));
    }
}
