//! What made greylite hang, lose replies or let spam pass, one test for each defect that the stream shows.

use super::*;

fn passing(smtpd: Smtpd) -> Site {
    Site::new().rules("pass").smtpd(smtpd)
}

/// The session is the one without the gate, however it is cut.
fn unchanged(smtpd: Smtpd, input: &str) {
    let site = passing(smtpd);
    let played = site.play_split(input.as_bytes());
    assert_eq!(played.heard, site.play_without(input.as_bytes()).heard);
    assert!(played.stopped, "{}", played.heard);
}

/// A host's mail to these recipients is delayed and comes in after a minute.
fn delayed_then_queued(sender: &str, recipient: &str) {
    let site = Site::new();
    let script = format!("EHLO c\r\n{}QUIT\r\n", mail(sender, &[recipient]));
    let played = site.play_split(script.as_bytes());
    assert!(
        played.heard.ends_with(&format!("250 sender ok\n{GREY}{GREY}221 bye\n")),
        "{}",
        played.heard
    );
    let script = format!("EHLO c\r\n{}{BODY}QUIT\r\n", mail(sender, &[recipient]));
    let played = site.later(60).play_split(script.as_bytes());
    assert_eq!(played.queued.len(), 1, "{}", played.heard);
}

#[test]
fn defect_1_a_greeting_of_several_lines() {
    unchanged(Smtpd::with(Quirk::Wordy), "QUIT\r\n");
}

#[test]
fn defect_2_refusals_of_several_lines() {
    let script = "EHLO c\r\nXYZZY\r\nDATA\r\nMAIL FROM:<a@b>\r\nRCPT TO:<nobody@x>\r\nQUIT\r\n";
    unchanged(Smtpd::with(Quirk::Wordy), script);
}

// RFC 5321 4.5.1: <postmaster> without a domain must be taken.
#[test]
fn defect_3_postmaster_without_a_domain() {
    delayed_then_queued("a@x.example", "postmaster");
    delayed_then_queued("a@x.example", "PostMaster");
}

#[test]
fn defect_4_literals_quoted_and_other_alphabets() {
    for address in [
        "a@[192.0.2.1]",
        "a@[IPv6:2001:db8::1]",
        "\"a b\"@x.example",
        "\u{fc}@\u{fc}.example",
        "@r.example:a@x.example",
    ] {
        delayed_then_queued(address, "b@y.example");
        delayed_then_queued("a@x.example", address);
    }
}

#[test]
fn defect_5_nul_in_a_command() {
    let played = Site::new().play_split(b"NOOP\r\nMAIL FROM:<a\0@b>\r\nNOOP\r\nQUIT\r\n");
    assert_eq!(played.heard.matches("250 still here").count(), 2);
    assert_eq!(played.heard.matches("500 5.5.2").count(), 1);
    assert!(played.heard.ends_with("221 bye\n"));
}

#[test]
fn defect_6_commands_of_more_than_1023_bytes() {
    let token = "dG9rZW4=".repeat(1_534);
    let script = lines(&["EHLO c", &format!("AUTH XOAUTH2 {token}"), "*", "NOOP", "QUIT"]);
    unchanged(Smtpd::default(), &script);
}

// RFC 2920 3.2: what is pipelined behind a refusal is answered, in order, and the connection stays.
#[test]
fn defect_7_pipelined_commands_behind_a_refusal() {
    let script = format!(
        "EHLO c\r\n{}RSET\r\nNOOP\r\nQUIT\r\n",
        mail("a@x.example", &["b@y.example", "c@y.example"])
    );
    let played = Site::new().play_split(script.as_bytes());
    let end = format!("250 sender ok\n{GREY}{GREY}{GREY}250 flushed\n250 still here\n221 bye\n");
    assert!(played.heard.ends_with(&end), "{}", played.heard);
}

// RFC 5321 4.5.3.2.6: 10 minutes and more for the reply after the final dot.
#[test]
fn defect_8_a_program_that_takes_its_time_after_the_final_dot() {
    let site = passing(Smtpd::default());
    let mut gate = Gate::new(site.judge());
    let mut out = Outbox::default();
    let mut smtpd = Smtpd::default();
    gate.bytes(Side::Server, &smtpd.greeting(), &mut out);
    for part in [mail("a@x.example", &["b@y.example"]).as_str(), BODY] {
        gate.bytes(Side::Client, part.as_bytes(), &mut out);
        let mut replies = smtpd.bytes(&std::mem::take(&mut out.server));
        while part != BODY && !replies.is_empty() {
            gate.bytes(Side::Server, &replies, &mut out);
            replies = smtpd.bytes(&std::mem::take(&mut out.server));
        }
    }
    assert!(matches!(gate.patience(), Patience::Server(time) if time.as_secs() >= 600));
}

#[test]
fn defect_10_several_passes_of_one_host_at_the_same_time() {
    let site = Site::new();
    let script = format!("{}{BODY}", mail("a@x.example", &["b@y.example"]));
    site.play(&script);
    site.later(60);
    let mut sessions: Vec<Session> = (0..6).map(|_| Session::new(&site, 1)).collect();
    for byte in script.as_bytes().chunks(1) {
        sessions.iter_mut().for_each(|session| session.client(byte));
    }
    for session in sessions {
        assert_eq!(session.played().queued.len(), 1);
    }
}

// RFC 4954 4: only 235 means that the client has logged in.
#[test]
fn defect_11_cancelled_and_refused_logins_and_refused_tls_change_nothing() {
    for attempt in [
        "AUTH LOGIN\r\n*\r\n",
        "AUTH LOGIN\r\nx\r\ny\r\n",
        "AUTH LOGIN\r\nx\r\n*\r\n",
        "STARTTLS\r\n",
    ] {
        let site = Site::new().smtpd(Smtpd::with(Quirk::NoTls));
        let script =
            format!("EHLO c\r\n{attempt}{}QUIT\r\n", mail("a@x.example", &["b@y.example"]));
        let played = site.play_split(script.as_bytes());
        assert!(played.heard.ends_with(&format!("{GREY}{GREY}221 bye\n")), "{}", played.heard);
        assert!(!site.log().contains("left-alone"));
        assert!(!site.log().contains("blind"));
    }
    // Whoever has logged in is refused nothing either.
    let site = Site::new().rules("refuse sender @x.example").smtpd(Smtpd::with(Quirk::Gullible));
    let script = format!(
        "EHLO c\r\nAUTH LOGIN\r\nx\r\ny\r\n{}{BODY}QUIT\r\n",
        mail("a@x.example", &["b@y.example"])
    );
    let played = site.play_split(script.as_bytes());
    assert_eq!(played.queued.len(), 1, "{}", played.heard);
    assert!(site.log().contains("left-alone why=authenticated"));
}

#[test]
fn defect_11_tls_that_greylist_cannot_see_into_is_logged() {
    let site = Site::new();
    let played = site.play_split(b"EHLO c\r\nSTARTTLS\r\n\x16\x03\x01\0\r\n250 x\r\n\xff");
    assert!(
        played.heard.ends_with("220 go ahead\n\u{16}\u{3}\u{1}\0\n250 x\n\u{fffd}"),
        "{:?}",
        played.heard
    );
    assert!(site.log().starts_with("blind: "), "{}", site.log());
}

#[test]
fn defect_12_an_immediate_retry_does_not_pass() {
    let site = Site::new();
    for _ in 0..20 {
        let played = site.later(2).play(&mail("a@x.example", &["b@y.example"]));
        assert!(played.heard.contains("450 4.7.1"), "{}", played.heard);
    }
    assert!(site.store.0.borrow().hosts.is_empty());
}

#[test]
fn defect_13_every_transaction_of_a_session_is_looked_at() {
    let site = Site::new().rules("pass recipient postmaster@");
    let one = format!("{}{BODY}", mail("a@x.example", &["postmaster@y.example"]));
    let two = mail("b@x.example", &["c@y.example"]);
    for between in ["", "RSET\r\n", "EHLO c\r\n", "HELO c\r\n", "NOOP\r\n"] {
        let played = site.play_split(format!("EHLO c\r\n{one}{between}{two}QUIT\r\n").as_bytes());
        assert_eq!(played.queued.len(), 1);
        assert!(played.heard.ends_with(&format!("{GREY}{GREY}221 bye\n")), "{}", played.heard);
        site.store.0.borrow_mut().waiting.clear();
    }
}

#[test]
fn defect_13_rset_games_gain_nothing() {
    let site = Site::new().rules("pass recipient postmaster@");
    let script = "EHLO c\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<postmaster@y.example>\r\nRSET\r\n\
        MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nRSET\r\nRCPT TO:<c@y.example>\r\nDATA\r\n\
        MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nEHLO c\r\nDATA\r\n\
        MAIL FROM:<>\r\nRCPT TO:<b@y.example>\r\nRSET\r\nMAIL FROM:<a@x.example>\r\nDATA\r\nQUIT\r\n";
    let played = site.play_split(script.as_bytes());
    assert!(!played.heard.contains("354"), "{}", played.heard);
    assert!(played.queued.is_empty());
}

// What has not been said (no EHLO, no MAIL) counts as not said.
#[test]
fn defect_14_recipients_before_anything_else() {
    let site = Site::new();
    let bare =
        format!("RCPT TO:<b@y.example>\r\nDATA\r\n{}", mail("a@x.example", &["b@y.example"]));
    let played = site.play_split(bare.as_bytes());
    assert!(
        played
            .heard
            .ends_with(&format!("503 MAIL first\n503 RCPT first\n250 sender ok\n{GREY}{GREY}"))
    );
    assert_eq!(site.store.0.borrow().waiting.len(), 1);
}

// Case and extensions of one sender do not begin a new wait, nor end one.
#[test]
fn defect_15_senders_are_stored_whole() {
    let site = Site::new();
    for sender in ["o'brien@b.example", "O'Brien@B.example", "o'brien+x@b.example"] {
        site.later(5).play(&mail(sender, &["c@y.example"]));
    }
    let waiting: Vec<_> = site.store.0.borrow().waiting.keys().cloned().collect();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].sender, "o'brien@b.example");
    for sender in ["#x@b.example", "$x@b.example", "x@b.example", "!x@b.example", "a%x@b.example"] {
        site.play(&mail(sender, &["c@y.example"]));
    }
    assert_eq!(site.store.0.borrow().waiting.len(), 6);
}

// Even a host that a rule delays for long is known once it has come back.
#[test]
fn defect_19_suspicious_hosts_become_known_too() {
    let site = Site::new().rules("delay 600");
    site.play(&mail("a@x.example", &["b@y.example"]));
    let script = format!(
        "{}{BODY}{}{BODY}",
        mail("a@x.example", &["b@y.example"]),
        mail("c@x.example", &["b@y.example"])
    );
    let played = site.later(600).play(&script);
    assert_eq!(played.queued.len(), 2);
    assert!(site.store.0.borrow().hosts.contains_key(HOST));
}

#[test]
fn defect_20_null_senders_and_rset() {
    let site = Site::new();
    let callout = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@y.example>\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@y.example>\r\nQUIT\r\n";
    unchanged(Smtpd::default(), callout);
    let played = site.play_split(callout.as_bytes());
    assert_eq!(played.heard, site.play_without(callout.as_bytes()).heard);
    assert_eq!(site.log(), "");
}
