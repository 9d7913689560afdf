//! The dialogue is the one without greylist, except for what was refused.

use super::*;

/// The same session with and without the gate, for a host that has nothing to wait for.
fn same(site: &Site, input: &[u8]) -> Played {
    let without = site.play_without(input);
    let with = site.play_split(input);
    assert_eq!(with.heard, without.heard);
    assert_eq!(with.seen, without.seen);
    assert_eq!(with.queued, without.queued);
    with
}

fn passing() -> Site {
    Site::new().rules("pass")
}

fn wordy(site: Site) -> Site {
    site.smtpd(Smtpd::with(Quirk::Wordy))
}

fn everything() -> Vec<u8> {
    let mut input = lines(&[
        "EHLO c.example",
        "NOOP",
        "VRFY x",
        "MAIL FROM:<a@[192.0.2.1]> BODY=8BITMIME",
        "RCPT TO:<postmaster>",
        "RCPT TO:<b@[IPv6:2001:db8::1]>",
        "RCPT TO:<\"quoted, \\\" local\"@y.example>",
        "RCPT TO:<@route.example:c@y.example>",
        "RCPT TO:<nobody@y.example>",
        "RCPT TO: unbracketed@y.example",
        "RCPT",
        "DATA",
    ])
    .replace("RCPT\r\n", "RCPT TO:\r\n")
    .into_bytes();
    input.extend(b"8-bit \xff\x80, NUL \0, dots\r\n..\r\n. x\r\n.");
    input.extend([b'x'; 3_000]);
    input.extend(b"\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<b@y.example>\r\nBDAT 9\r\n\r\n.\r\n\0\xff\r\nBDAT 0 LAST\r\nRSET\r\n");
    input.extend(
        lines(&[
            "noop",
            "helo c",
            "MAIL FROM:<a@b>",
            "RSET",
            "DATA",
            "AUTH LOGIN",
            "dXNlcg==",
            "cGFzcw==",
            "XYZZY",
            "QUIT",
            "NOOP",
        ])
        .bytes(),
    );
    input
}

#[test]
fn every_kind_of_command_and_body_passes_unchanged() {
    let played = same(&passing(), &everything());
    assert_eq!(played.queued.len(), 2);
    assert_eq!(played.queued[0].1.len(), 6);
    same(&wordy(passing()), &everything());
}

/// Like [`everything`], of a client that sends no body where DATA is refused.
fn everything_refused() -> Vec<u8> {
    let mut input = lines(&["EHLO c.example", "NOOP", "RCPT TO:<early@y.example>"]).into_bytes();
    for sender in ["a@[192.0.2.1]", "\"q \\\" q\"@x.example", "A+b@x.example> SIZE=9 AUTH=<"] {
        let to = ["postmaster", "b@[IPv6:2001:db8::1]", "nobody@y.example", "\"q q\"@y.example"];
        input.extend(mail(sender, &to).bytes());
        input.extend(lines(&["VRFY x", "RCPT TO:<late@y.example>", "noop x", "XYZZY"]).bytes());
    }
    input.extend(b"MAIL FROM:<8bit\xff@x>\r\nRCPT TO:<\xfe@y>\r\nRSET\r\nHELP\r\n");
    input.extend(b"MAIL FROM:<>\r\nRCPT TO:<b@y.example>\r\nRSET\r\n");
    input.extend(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nMAIL FROM:<e@f>\r\nAUTH LOGIN\r\n*\r\nhelo c\r\nQUIT\r\n");
    input
}

#[test]
fn for_an_unknown_host_only_the_refusals_differ() {
    let grey = GREY.replace("\n", "\r\n");
    for (site, ok) in [
        (Site::new(), "250 recipient ok\r\n"),
        (wordy(Site::new()), "250-well,\r\n250 recipient ok\r\n"),
    ] {
        let played = site.play_split(&everything_refused());
        let mut smtpd = site.smtpd.clone();
        let mut expected = smtpd.greeting();
        let mut null = false;
        for line in everything_refused().split_inclusive(|&byte| byte == b'\n') {
            null = if line.starts_with(b"MAIL") { line.starts_with(b"MAIL FROM:<>") } else { null };
            if line == b"DATA\r\n" {
                expected.extend(grey.bytes());
                smtpd.bytes(b"RSET\r\n");
                continue;
            }
            let reply = smtpd.bytes(line);
            let refused = line.starts_with(b"RCPT") && reply == ok.as_bytes() && !null;
            expected.extend(if refused { grey.clone().into() } else { reply });
        }
        assert_eq!(played.heard, text(&expected));
        assert_eq!(played.heard.matches(GREY).count(), 14);
        assert_eq!(played.seen, smtpd.seen);
        assert!(played.queued.is_empty());
    }
}

// RFC 5321 4.5.3.1.10: at least 100 recipients; here 1,000.
#[test]
fn a_thousand_recipients_in_order() {
    let recipients: Vec<String> = (0..1_000)
        .map(|n| if n % 7 == 3 { format!("nobody@{n}.example") } else { format!("b{n}@y.example") })
        .collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let script = format!("EHLO c\r\n{}NOOP\r\nQUIT\r\n", mail("a@x.example", &recipients));
    let site = Site::new();
    let played = site.play(&script);
    let expected = site.play_without(script.as_bytes()).heard;
    let refused = expected.replace("250 recipient ok\n", GREY).replace("354 go ahead\n", GREY);
    // The smtpd without a gate is left in the body.
    assert_eq!(played.heard, format!("{refused}250 still here\n221 bye\n"));
    assert_eq!(site.store.0.borrow().waiting.len(), 1);
    let script = format!("EHLO c\r\n{}{BODY}QUIT\r\n", mail("a@x.example", &recipients));
    let played = site.later(60).play(&script);
    assert_eq!(played.heard, site.play_without(script.as_bytes()).heard);
    assert_eq!(played.queued[0].1.len(), 1_000 - 143);
}

// RFC 4954 4: lines of up to 12,288 octets.
#[test]
fn long_commands_pass_and_longer_ones_get_an_answer() {
    let site = passing();
    let response = "x".repeat(12_286);
    let script = lines(&["EHLO c", &"NOOP".repeat(3_000), "AUTH LOGIN", &response, "*", "NOOP"]);
    let played = site.play(&script);
    assert_eq!(played.heard, site.play_without(script.as_bytes()).heard);
    let script = lines(&["EHLO c", &"y".repeat(20_000), "NOOP", "QUIT"]);
    let played = site.play_split(script.as_bytes());
    assert!(
        played.heard.ends_with("500 5.5.6 line too long\n250 still here\n221 bye\n"),
        "{}",
        played.heard
    );
}

// DESIGN 6.1: a command is forwarded only if it ends in CRLF and holds no other CR, LF or NUL.
#[test]
fn lines_that_readers_could_split_differently_stay_here() {
    let played = passing().play_split(
        b"NOOP\nNOOP\rX\r\nNOOP\0X\r\nAUTH LOGIN\r\nab\nab\rc\r\n*\r\nNOOP\r\nQUIT\r\n",
    );
    assert_eq!(played.heard.matches("500 5.5.2 ").count(), 5);
    assert_eq!(played.seen, ["AUTH LOGIN", "*", "NOOP", "QUIT"]);
}

// DESIGN 6.3, RFC 3030 4.2: octets of a refused chunk are eaten.
#[test]
fn chunks_that_nobody_offered_are_refused() {
    let site = Site::new().smtpd(Smtpd::with(Quirk::NoChunking));
    let played = site.play_split(b"EHLO c\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\nQUIT\r\n");
    assert!(
        played
            .heard
            .ends_with("8BITMIME\n503 5.5.1 CHUNKING was not offered\n250 still here\n221 bye\n"),
        "{}",
        played.heard
    );
    // "this program's last EHLO reply"
    let site = Site::new().smtpd(Smtpd::with(Quirk::ChunkingOnce));
    let played = site.play_split(b"EHLO c\r\nEHLO c\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n");
    assert!(played.heard.ends_with("CHUNKING was not offered\n250 still here\n"));
    for args in ["", "-1", "5 FIRST", "99999999999999999999"] {
        let played = passing().play_split(format!("EHLO c\r\nBDAT {args}\r\nNOOP\r\n").as_bytes());
        assert!(played.heard.contains("501 5.5.4 "), "{}", played.heard);
        assert!(played.stopped);
        assert_eq!(played.seen, ["EHLO c"]);
    }
}

// DESIGN 6.4
#[test]
fn an_ambiguous_body_never_ends_at_the_program() {
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r"] {
        let script = format!(
            "{}text{end}MAIL FROM:<evil@x>\r\n.\r\nNOOP\r\n",
            mail("a@x.example", &["b@y.example"])
        );
        let played = passing().play_split(script.as_bytes());
        assert!(
            played.heard.ends_with("354 go ahead\n550 5.5.2 ambiguous end of data\n"),
            "{end:?} {}",
            played.heard
        );
        assert!(played.queued.is_empty());
        assert!(played.stopped);
    }
}

// DESIGN 6.5: "any reply that no outstanding command explains, ends the session (421 where that is possible)"
#[test]
fn an_unexplained_reply_ends_the_session() {
    for (reply, heard) in [
        ("250 what?\r\n", "421 4.3.0 lost step with the mail server\n"),
        ("nonsense\r\n", "421 4.3.0 lost step with the mail server\n"),
        ("421 shutting down\r\n", "421 shutting down\n"),
    ] {
        let mut session = Session::new(&passing(), usize::MAX);
        session.client(b"NOOP\r\n");
        session.server(reply.as_bytes());
        session.pump();
        let played = session.played();
        assert_eq!(played.heard, format!("220 mx.example ESMTP\n250 still here\n{heard}"));
    }
}

#[test]
fn a_client_that_closes_its_half_is_still_answered() {
    let site = Site::new().rules("pass recipient postmaster@");
    let mut session = Session::new(&site, 1);
    session.client(
        format!(
            "{}{BODY}NOOP\r\npartial",
            mail("a@x.example", &["b@y.example", "postmaster@y.example"])
        )
        .as_bytes(),
    );
    session.hang_up();
    assert!(session.out.hang_up);
    let played = session.played();
    assert!(played.heard.ends_with("250 queued\n250 still here\n"), "{}", played.heard);
    assert_eq!(played.seen.last().unwrap(), "NOOP");
}

/// The end of the client arrives while the program still owes replies to what the client had sent.
#[test]
fn a_half_close_waits_for_what_is_held() {
    let site = Site::new().rules("pass recipient postmaster@");
    let mut gate = Gate::new(site.judge());
    let mut smtpd = Smtpd::default();
    let mut out = Outbox::default();
    let script =
        format!("{}{BODY}QUIT\r\n", mail("a@x.example", &["b@y.example", "postmaster@y.example"]));
    gate.bytes(Side::Client, script.as_bytes(), &mut out);
    gate.eof(Side::Client, &mut out);
    let mut replies = smtpd.greeting();
    while !replies.is_empty() {
        assert_eq!(out.hang_up, smtpd.seen.last().is_some_and(|line| line == "QUIT"));
        gate.bytes(Side::Server, &replies, &mut out);
        replies = smtpd.bytes(&std::mem::take(&mut out.server));
    }
    assert!(out.hang_up);
    assert_eq!(smtpd.queued.len(), 1);
    assert!(text(&out.client).ends_with("250 queued\n221 bye\n"));
}

/// While the gate starts a transaction over, it still has something to say to the program.
#[test]
fn a_half_close_waits_for_the_gates_own_commands() {
    let site = Site::new().rules("pass recipient postmaster@");
    let mut session = Session::new(&site, 1);
    session.client(b"MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\n");
    let mut out = Outbox::default();
    session.gate.bytes(Side::Client, b"RCPT TO:<postmaster@y.example>\r\n", &mut out);
    session.gate.eof(Side::Client, &mut out);
    for line in ["RSET\r\n", "MAIL FROM:<a@x.example>\r\n"] {
        assert!(!out.hang_up);
        assert_eq!(std::mem::take(&mut out.server), line.as_bytes());
        session.gate.bytes(Side::Server, b"250 ok\r\n", &mut out);
    }
    assert!(out.hang_up);
    assert_eq!(out.server, b"RCPT TO:<postmaster@y.example>\r\n");
}

/// Nobody is left who could send the true end.
#[test]
fn an_ambiguous_body_of_a_client_that_is_gone_ends_the_session() {
    let script = format!("{}text\n.\nmore\r\n", mail("a@x.example", &["b@y.example"]));
    let mut gate = Gate::new(passing().judge());
    let (mut smtpd, mut out) = (Smtpd::default(), Outbox::default());
    gate.bytes(Side::Client, script.as_bytes(), &mut out);
    gate.eof(Side::Client, &mut out);
    let mut replies = smtpd.greeting();
    while !replies.is_empty() {
        gate.bytes(Side::Server, &replies, &mut out);
        replies = smtpd.bytes(&std::mem::take(&mut out.server));
    }
    assert!(out.stop && smtpd.queued.is_empty());
}

// DESIGN 6.4: "the body is drained to CRLF.CRLF"; a client that trickles does not make that last.
#[test]
fn a_client_buys_no_time_while_its_ambiguous_body_is_thrown_away() {
    let script = format!("{}text\n.\nmore\r\n", mail("a@x.example", &["b@y.example"]));
    let mut session = Session::new(&passing(), usize::MAX);
    session.client(script.as_bytes());
    session.pump();
    assert!(session.out.hang_up && !session.out.stop);
    assert!(matches!(session.gate.patience(), Patience::Server(_)));
}

// DESIGN 2: "Program gone where a reply is due: 421 4.3.0."
#[test]
fn a_program_that_ends_owing_a_reply_leaves_a_word() {
    for (script, heard) in [("", ""), ("NOOP\r\n", "421 4.3.0 mail server is gone\r\n")] {
        let mut session = Session::new(&passing(), 1);
        session.gate.bytes(Side::Client, script.as_bytes(), &mut session.out);
        session.gate.eof(Side::Server, &mut session.out);
        assert!(session.out.stop);
        assert_eq!(session.out.client, heard.as_bytes());
    }
}

// RFC 3030 2: the reply comes behind the last octet, and a client may take its time for them.
#[test]
fn a_chunk_under_way_is_owed_no_reply() {
    let mut session = Session::new(&passing(), usize::MAX);
    session
        .client(b"EHLO c\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nBDAT 9\r\nhalf ");
    assert!(matches!(session.gate.patience(), Patience::Either(_)));
    session.gate.bytes(Side::Client, b"over", &mut session.out);
    assert_eq!(session.out.server, b"over");
    assert!(matches!(session.gate.patience(), Patience::Server(_)));
}

#[test]
fn silence_ends_a_session_with_a_word() {
    let mut session = Session::new(&Site::new(), 1);
    assert_eq!(session.gate.patience(), Patience::Either(Duration::from_secs(1_260)));
    session.gate.bytes(Side::Client, b"NOOP\r\n", &mut session.out);
    assert_eq!(session.gate.patience(), Patience::Server(Duration::from_secs(3_600)));
    session.gate.expired(&mut session.out);
    assert_eq!(session.out.client, words_timeout());
    assert!(session.out.stop);
}

fn words_timeout() -> &'static [u8] {
    crate::words::TIMEOUT
}

// DESIGN 6.2: full queues stop the reading, never the session.
#[test]
fn a_client_that_runs_ahead_is_read_no_further() {
    let mut gate = Gate::new(Site::new().judge());
    let mut out = Outbox::default();
    assert!(gate.accepts(Side::Client));
    gate.bytes(Side::Client, "NOOP\r\n".repeat(12_000).as_bytes(), &mut out);
    assert!(!gate.accepts(Side::Client));
    assert!(gate.accepts(Side::Server));
}
