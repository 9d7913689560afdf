//! Ghosts: recipients that smtpd took and the client was refused.

use super::*;
use crate::triplet::Waiting;

fn session(mails: &[&str]) -> String {
    format!("EHLO c.example\r\n{}QUIT\r\n", mails.concat())
}

/// The smtpd's transactions: what it saw between MAIL and the next MAIL, RSET or DATA.
fn queued(played: &Played) -> Vec<(&str, Vec<&str>)> {
    played
        .queued
        .iter()
        .map(|(mail, recipients, _)| {
            (mail.as_str(), recipients.iter().map(String::as_str).collect())
        })
        .collect()
}

// DESIGN 5: "no real recipient yet: forward; on 2xx and delay, remember and answer 450: a ghost"
#[test]
fn an_unknown_triple_is_delayed_and_passes_when_it_comes_back() {
    let site = Site::new();
    let script = session(&[&mail("a@x.example", &["b@y.example"]), "NOOP\r\n"]);
    let first = site.play_split(script.as_bytes());
    let after = |start: &str| {
        first.heard.split_once(start).unwrap_or_else(|| panic!("{}", first.heard)).1.to_owned()
    };
    assert_eq!(
        after("8BITMIME\n"),
        format!("250 sender ok\n{GREY}{GREY}250 still here\n221 bye\n")
    );
    assert_eq!(
        first.seen,
        [
            "EHLO c.example",
            "MAIL FROM:<a@x.example>",
            "RCPT TO:<b@y.example>",
            "RSET",
            "NOOP",
            "QUIT"
        ]
    );
    assert!(first.queued.is_empty());
    let again = format!("{}{BODY}", mail("a@x.example", &["b@y.example"]));
    let early = site.later(59).play(&again);
    assert!(early.heard.contains("450 4.7.1 Greylisted, retry=00:00:01\n"), "{}", early.heard);
    let played = site.later(1).play_split(session(&[&again]).as_bytes());
    assert_eq!(queued(&played), [("<a@x.example>", vec!["<b@y.example>"])]);
    assert!(
        site.log()
            .contains("passed why=came-back host=192.0.2.0/24 from=<a@x.example> to=<b@y.example> waited=60 attempt=3 key=triple")
    );
}

// RFC 6647 5 (1): after a successful retry all further traffic from the host is allowed, whatever its envelope.
#[test]
fn once_a_host_has_passed_the_rest_of_its_session_passes() {
    let site = Site::new();
    site.play(&mail("a@x.example", &["b@y.example"]));
    let two = [
        mail("a@x.example", &["b@y.example"]),
        BODY.into(),
        mail("other@z.example", &["c@y.example"]),
        BODY.into(),
    ];
    let played = site.later(61).play_split(session(&[&two.concat()]).as_bytes());
    assert_eq!(played.queued.len(), 2, "{}", played.heard);
    assert!(site.store.0.borrow().hosts.contains_key(HOST));
    site.store.0.borrow_mut().hosts.clear();
    site.play(&mail("a@x.example", &["b@y.example"]));
    site.later(61).store.0.borrow_mut().asked = 0;
    site.play(&two.concat());
    // The first recipient's triple, and the host's admission.
    assert_eq!(site.store.0.borrow().asked, 2);
}

// DESIGN 5: "The smtpd's own verdict comes first, so unknown recipients never enter the store."
#[test]
fn unknown_recipients_never_enter_the_store() {
    let site = Site::new();
    let played =
        site.play_split(session(&[&mail("a@x.example", &["nobody@y.example"])]).as_bytes());
    assert!(played.heard.contains("550 no such user\n503 RCPT first\n"), "{}", played.heard);
    assert!(site.store.0.borrow().waiting.is_empty());
}

// RFC 6647 2.3 and 5 (1): the first recipient is enough; here the first that smtpd takes.
#[test]
fn the_first_taken_recipient_counts_for_all() {
    let site = Site::new();
    let to = ["nobody@y.example", "b@y.example", "c@y.example"];
    let first = site.play(&mail("a@x.example", &to));
    assert!(
        first.heard.contains(&format!("550 no such user\n{GREY}{GREY}{GREY}")),
        "{}",
        first.heard
    );
    let waiting: Vec<_> = site.store.0.borrow().waiting.values().copied().collect();
    assert_eq!(waiting, [Waiting { first: NOW, tries: 1 }]);
    let script = format!("{}{BODY}", mail("a@x.example", &to));
    let played = site.later(60).play_split(script.as_bytes());
    assert_eq!(queued(&played), [("<a@x.example>", vec!["<b@y.example>", "<c@y.example>"])]);
}

// DESIGN 5: "A real recipient is there and delay: answer 450, do not forward."
#[test]
fn behind_a_real_recipient_a_ghost_is_not_even_forwarded() {
    let site = Site::new().rules("pass recipient postmaster@");
    let script = format!("{}{BODY}", mail("a@x.example", &["postmaster@y.example", "b@y.example"]));
    let played = site.play_split(script.as_bytes());
    assert!(
        played.heard.contains(&format!("250 recipient ok\n{GREY}354 go ahead\n250 queued\n")),
        "{}",
        played.heard
    );
    assert_eq!(queued(&played), [("<a@x.example>", vec!["<postmaster@y.example>"])]);
    assert!(!played.seen.contains(&"RCPT TO:<b@y.example>".to_owned()));
    assert!(site.store.0.borrow().waiting.is_empty());
}

// DESIGN 5: "Ghosts are there and pass: first RSET and the stored MAIL line again, both replies swallowed, then forward."
#[test]
fn before_a_real_recipient_the_ghosts_are_exorcised() {
    for smtpd in [Smtpd::default(), Smtpd::with(Quirk::Wordy)] {
        let site = Site::new().rules("pass recipient postmaster@").smtpd(smtpd);
        let to = ["b@y.example", "c@y.example", "postmaster@y.example", "d@y.example"];
        let script = format!("{}{BODY}", mail("a@x.example> SIZE=9 BODY=8BITMIME", &to))
            .replace("BITMIME>", "BITMIME");
        let played = site.play_split(script.as_bytes());
        assert_eq!(
            queued(&played),
            [("<a@x.example> SIZE=9 BODY=8BITMIME", vec!["<postmaster@y.example>"])]
        );
        assert_eq!(played.seen.iter().filter(|line| line.starts_with("MAIL")).count(), 2);
        assert_eq!(played.heard.matches("sender ok").count(), 1, "{}", played.heard);
        assert_eq!(played.heard.matches(GREY).count(), 3);
        assert!(!played.heard.contains("flushed"));
    }
}

// DESIGN 5: "not both 2xx: 451 4.3.0 for this RCPT, transaction over"
#[test]
fn a_program_that_does_not_start_over_gets_no_real_recipient() {
    let script = mail("a@x.example", &["b@y.example", "postmaster@y.example"]);
    for smtpd in [Smtpd::with(Quirk::StubbornRset), Smtpd::with(Quirk::OneMail)] {
        let site = Site::new().rules("pass recipient postmaster@").smtpd(smtpd);
        let played = site.play_split(script.as_bytes());
        let (_, end) = played.heard.split_once(GREY).unwrap();
        assert!(end.starts_with("451 4.3.0 "), "{end}");
        assert!(!end.contains("354"), "{end}");
        assert!(played.queued.is_empty());
    }
}

// DESIGN 5: "Null senders are refused at DATA, so callouts live."
#[test]
fn null_senders_wait_at_data() {
    let site = Site::new();
    let callout = session(&["MAIL FROM:<>\r\nRCPT TO:<b@y.example>\r\n"]);
    let played = site.play_split(callout.as_bytes());
    assert!(
        played.heard.ends_with("250 sender ok\n250 recipient ok\n221 bye\n"),
        "{}",
        played.heard
    );
    assert!(site.store.0.borrow().waiting.is_empty());
    let bounce = format!("{}NOOP\r\n", mail("", &["b@y.example", "c@y.example"]));
    let played = site.play_split(bounce.as_bytes());
    let end = format!("250 recipient ok\n250 recipient ok\n{GREY}250 still here\n");
    assert!(played.heard.ends_with(&end), "{}", played.heard);
    assert!(!played.seen.contains(&"DATA".to_owned()));
    let again = format!("{}{BODY}", mail("", &["b@y.example", "c@y.example"]));
    let played = site.later(60).play_split(again.as_bytes());
    assert_eq!(queued(&played), [("<>", vec!["<b@y.example>", "<c@y.example>"])]);
}

// DESIGN 5: "BDAT octets are counted and dropped" (RFC 3030 4.2)
#[test]
fn chunks_for_ghosts_are_eaten() {
    let chunks = "BDAT 7\r\nQUIT\r\n.BDAT 10 LAST\r\nRCPT TO:\r\nNOOP\r\n";
    for sender in ["a@x.example", ""] {
        let site = Site::new();
        let head = mail(sender, &["b@y.example"]).replace("DATA\r\n", "");
        let script = format!("EHLO c.example\r\n{head}{chunks}");
        let played = site.play_split(script.as_bytes());
        let end = format!("{GREY}503 RCPT first\n250 still here\n");
        assert!(played.heard.ends_with(&end), "{}", played.heard);
        let played = site.later(60).play_split(script.as_bytes());
        assert!(
            played.heard.ends_with("octets received\n250 queued\n250 still here\n"),
            "{}",
            played.heard
        );
        assert_eq!(played.queued[0].2, b"QUIT\r\n.RCPT TO:\r\n");
    }
}

#[test]
fn rules_delay_and_refuse() {
    let site = Site::new().rules(
        "delay 600 recipient slow@y.example\nrefuse sender @bad.example\npass recipient free@y.example",
    );
    let played = site.play(&mail("a@x.example", &["slow@y.example"]));
    assert!(played.heard.contains("450 4.7.1 Greylisted, retry=00:10:00\n"), "{}", played.heard);
    let early = site.later(599).play(&mail("a@x.example", &["slow@y.example"]));
    assert!(early.heard.contains("retry=00:00:01"));
    let refused = mail("a@bad.example", &["free@y.example"]);
    let played = site.play_split(refused.as_bytes());
    assert!(
        played.heard.ends_with("550 5.7.1 refused by local policy\n503 RCPT first\n"),
        "{}",
        played.heard
    );
    assert!(
        site.log().contains(
            "refused why=rule host=192.0.2.0/24 from=<a@bad.example> to=<free@y.example>"
        )
    );
    let played = site.play(&format!("{}{BODY}", mail("a@x.example", &["free@y.example"])));
    assert_eq!(played.queued.len(), 1);
}

// RFC 6647 5 (1): "after a successful retry"; a transaction is no retry of itself, whatever its recipients' delays, however slow.
#[test]
fn what_began_in_this_transaction_has_not_come_back() {
    let site = Site::new().rules("delay 0 recipient quick@y.example");
    let played = site.play(&mail("a@x.example", &["b@y.example", "quick@y.example"]));
    // Both recipients, and DATA.
    assert_eq!(played.heard.matches("450 4.7.1 ").count(), 3, "{}", played.heard);
    let mut session = Session::new(&site, usize::MAX);
    session.client(b"MAIL FROM:<c@x.example>\r\nRCPT TO:<b@y.example>\r\n");
    site.later(60);
    session.client(b"RCPT TO:<d@y.example>\r\n");
    let heard = session.played().heard;
    assert_eq!(heard.matches("450 ").count(), 2, "{heard}");
    assert!(site.store.0.borrow().hosts.is_empty());
}

// DESIGN 5: "Log-only mode."
#[test]
fn in_log_only_mode_everything_passes_and_the_log_says_what_would_not() {
    let mut site = Site::new().rules("refuse sender @bad.example");
    site.enforced = false;
    for (sender, recipients, logged) in [
        (
            "a@x.example",
            &["b@y.example", "c@y.example"][..],
            "would-delay why=new host=192.0.2.0/24 from=<a@x.example> to=<c@y.example> left=60 waited=0 attempt=1",
        ),
        (
            "",
            &["b@y.example"],
            "would-delay why=new host=192.0.2.0/24 from=<> to=<b@y.example> left=60",
        ),
        (
            "a@bad.example",
            &["b@y.example"],
            "would-refuse why=rule host=192.0.2.0/24 from=<a@bad.example> to=<b@y.example>",
        ),
    ] {
        let script = format!("EHLO c\r\n{}{BODY}QUIT\r\n", mail(sender, recipients));
        let played = site.play_split(script.as_bytes());
        assert_eq!(played.heard, site.play_without(script.as_bytes()).heard);
        assert!(site.log().contains(logged), "{}", site.log());
    }
    let script = mail("a@x.example", &["b@y.example"]);
    site.later(60).play(&script);
    assert!(site.log().contains("passed "), "{}", site.log());
}

// DESIGN 5: "after the first failure the store counts as down for the rest of the session, mail passes, the log says so"
#[test]
fn a_broken_store_lets_mail_pass_and_is_asked_once() {
    let site = Site::new();
    site.store.0.borrow_mut().broken = true;
    let two = format!("{}{BODY}", mail("a@x.example", &["b@y.example"])).repeat(2);
    let played = site.play_split(session(&[&two]).as_bytes());
    assert_eq!(played.queued.len(), 2);
    assert_eq!(site.log().matches("store-down").count(), 1);
    site.store.0.borrow_mut().asked = 0;
    site.play(&two);
    assert_eq!(site.store.0.borrow().asked, 1);
}

/// A disk that is full: reading works, writing does not.
#[test]
fn what_cannot_be_remembered_passes() {
    for sender in ["a@x.example", ""] {
        let site = Site::new();
        site.store.0.borrow_mut().full = true;
        let script = format!("{}{BODY}", mail(sender, &["b@y.example", "c@y.example"]));
        let played = site.play_split(script.as_bytes());
        assert_eq!(played.queued[0].1.len(), 2, "{}", played.heard);
        assert_eq!(site.log().matches("store-down").count(), 1);
    }
}

#[test]
fn a_second_mail_command_keeps_the_ghosts() {
    let site = Site::new().rules("pass recipient postmaster@");
    let script = "MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nMAIL FROM:<c@x.example>\r\nDATA\r\n\
        MAIL FROM:<d@x.example>\r\nRCPT TO:<b@y.example>\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster@y.example>\r\nDATA\r\n";
    let played = site.play_split(format!("{script}{BODY}").as_bytes());
    assert_eq!(queued(&played), [("<>", vec!["<postmaster@y.example>"])], "{}", played.heard);
    assert_eq!(played.heard.matches(GREY).count(), 3);
}
