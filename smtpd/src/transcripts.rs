//! Sessions as transcripts: `C:` says the client, `S:` the server; every one also cut at each byte.
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::net::IpAddr;

use wire::{Decoder, LineReader};

use crate::auth::Account;
use crate::policy::{Mechanisms, Policy};
use crate::replies::{self, Reply};
use crate::session::{Action, Rules, Session};

/// Plays a session with recipients at mx.test only, and a queue that always succeeds.
struct Stage {
    session: Session,
    lines: LineReader,
    said: String,
    body: Option<Decoder>,
    octets: Option<(u64, After)>,
    messages: Vec<String>,
    text: Vec<u8>,
    ended: bool,
}

enum After {
    Say(Reply),
    Go { size: u64, last: bool },
}

impl Stage {
    fn new(rules: Rules) -> Stage {
        Stage {
            session: Session::new(rules),
            lines: LineReader::new(12_352),
            said: String::new(),
            body: None,
            octets: None,
            messages: Vec::new(),
            text: Vec::new(),
            ended: false,
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
        while !self.ended && self.step() {}
    }

    /// Whether there was something to do.
    fn step(&mut self) -> bool {
        if let Some(mut decoder) = self.body.take() {
            let (used, over) = decoder.decode(self.lines.rest(), &mut self.text);
            self.lines.take(used);
            match over {
                true => self.finish(decoder.saw_bare()),
                false => self.body = Some(decoder),
            }
            return over;
        }
        if let Some((left, after)) = self.octets.take() {
            let taken = self.lines.take(left as usize).to_vec();
            let left = left - taken.len() as u64;
            if left > 0 {
                self.text.extend(if matches!(after, After::Go { .. }) { &taken[..] } else { b"" });
                self.octets = Some((left, after));
                return false;
            }
            match after {
                After::Say(reply) => self.say(&reply),
                After::Go { size, last } => {
                    self.text.extend(taken);
                    match last {
                        true => self.finish(false),
                        false => self.say(&replies::chunk_received(size)),
                    }
                }
            }
            return true;
        }
        let Some(line) = self.lines.next_line() else { return false };
        let action = self.session.line(&line);
        self.act(action);
        true
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Reply(reply) | Action::Pipelined(reply) => self.say(&reply),
            Action::Judge(address) => {
                let refused = (wire::domain(&address).is_some_and(|domain| domain != b"mx.test"))
                    .then_some(replies::NO_GATEWAY);
                let reply = self.session.judged(address, refused);
                self.say(&reply);
            }
            Action::Body => {
                self.say(&replies::GO_AHEAD);
                self.body = Some(Decoder::new());
            }
            Action::Chunk { size, last } => self.octets = Some((size, After::Go { size, last })),
            Action::Skip { size, reply } => self.octets = Some((size, After::Say(reply))),
            Action::StartTls => {
                self.say(&replies::START_TLS);
                self.session = std::mem::take(&mut self.session).after_handshake(b"TLSv1.3".into());
            }
            Action::Authenticate { mechanism, arguments } => {
                let account = Account { login: b"tim".into(), variables: vec![] };
                let reply = match (&*mechanism, &*arguments) {
                    ("PLAIN", b"AHRpbQB4") => self.session.authenticated(&account),
                    _ => self.session.refused(replies::passed_on("535 5.7.8 no")),
                };
                self.say(&reply);
            }
            Action::Quit(reply) => {
                self.say(&reply);
                self.ended = true;
            }
        }
    }

    fn finish(&mut self, bare: bool) {
        let outcome = if bare { replies::BARE_IN_BODY } else { replies::accepted(1, 2) };
        if let Some(envelope) = self.session.envelope().filter(|_| !bare) {
            let mut message = envelope.sender.escape_ascii().to_string();
            for recipient in &envelope.recipients {
                message.push_str(&format!(" > {}", recipient.escape_ascii()));
            }
            self.messages.push(format!("{message}: {}", self.text.escape_ascii()));
        }
        self.text.clear();
        let reply = self.session.over(outcome);
        self.say(&reply);
    }

    fn say(&mut self, reply: &Reply) {
        self.said.push_str(&format!("{reply}\n").replace("\r\n", "\n"));
    }
}

fn rules() -> Rules {
    Rules { greeting: "mx.test".into(), ..Rules::default() }
}

/// Plays the transcript whole, split in two at every byte, and byte by byte; gives the messages.
#[track_caller]
fn play(rules: &Rules, transcript: &str) -> Vec<String> {
    let lines = || transcript.lines().map(str::trim_start);
    let input: Vec<u8> =
        lines().filter_map(|line| line.strip_prefix("C:")).flat_map(unescape).collect();
    let expected: String =
        lines().filter_map(|line| line.strip_prefix("S: ")).map(|l| format!("{l}\n")).collect();
    let heard = |parts: &mut dyn Iterator<Item = &[u8]>| {
        let mut stage = Stage::new(rules.clone());
        parts.for_each(|part| stage.hear(part));
        (stage.said, stage.messages)
    };
    let whole = heard(&mut [&input[..]].into_iter());
    assert_eq!(whole.0, expected);
    for at in 1..input.len() {
        assert_eq!(heard(&mut [&input[..at], &input[at..]].into_iter()), whole, "cut at {at}");
    }
    assert_eq!(heard(&mut input.chunks(1)), whole, "byte by byte");
    whole.1
}

/// `\r`, `\n`, `\0`, `\8` (a byte above 127) and `\c` (no CRLF here) in a line of the client.
fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.strip_prefix(' ').unwrap_or(line).chars();
    while let Some(c) = rest.next() {
        match (c, c == '\\') {
            (_, true) => match rest.next().expect("an escape") {
                'r' => bytes.push(b'\r'),
                'n' => bytes.push(b'\n'),
                '0' => bytes.push(0),
                '8' => bytes.push(0xfc),
                'c' => return bytes,
                other => panic!("\\{other}"),
            },
            _ => bytes.push(c as u8),
        }
    }
    bytes.extend(b"\r\n");
    bytes
}

// RFC 5321 D.1: a typical transaction.
#[test]
fn a_transaction() {
    let messages = play(
        &rules(),
        "C: EHLO client.test
         S: 250-mx.test
         S: 250-PIPELINING
         S: 250-8BITMIME
         S: 250-ENHANCEDSTATUSCODES
         S: 250-CHUNKING
         S: 250-SIZE 0
         S: 250 LIMITS RCPTMAX=1000
         C: MAIL FROM:<a@client.test>
         S: 250 2.1.0 ok
         C: RCPT TO:<b@mx.test>
         S: 250 2.1.5 ok
         C: RCPT TO:<green@other.test>
         S: 553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts
         C: rcpt to:<POSTMASTER>
         S: 250 2.1.5 ok
         C: DATA
         S: 354 go ahead
         C: Subject: x
         C:
         C: ..dot
         C: .
         S: 250 2.0.0 ok 1 qp 2
         C: QUIT
         S: 221 2.0.0 mx.test
         C: NOOP",
    );
    assert_eq!(messages, ["a@client.test > b@mx.test > POSTMASTER: Subject: x\\n\\n.dot\\n"]);
}

#[test]
fn simple_commands() {
    play(
        &rules(),
        "C: HELO x
         S: 250 mx.test
         C: NOOP with words
         S: 250 2.0.0 ok
         C: vrfy someone
         S: 252 2.0.0 send some mail, i'll try my best
         C: EXPN list
         S: 502 5.5.1 unimplemented
         C: HELP
         S: 214 2.0.0 see RFC 5321
         C: RSET
         S: 250 2.0.0 flushed
         C: AUTH PLAIN AGEAYg==
         S: 503 5.5.1 auth not available
         C: STARTTLS
         S: 502 5.5.1 unimplemented
         C: EHLO
         S: 501 HELO and EHLO need a name
         C: RSET now
         S: 501 5.5.4 syntax error
         C: STARTTLS now
         S: 501 5.5.4 syntax error
         C: QUIT please
         S: 501 5.5.4 syntax error
         C: TURN
         S: 500 5.5.2 unrecognised
         C:
         S: 500 5.5.2 unrecognised
         C: QUIT
         S: 221 2.0.0 mx.test",
    );
}

// RFC 5321 4.1.4: the order of commands.
#[test]
fn order() {
    let messages = play(
        &rules(),
        "C: RCPT TO:<a@mx.test>
         S: 503 5.5.1 MAIL first
         C: DATA
         S: 503 5.5.1 MAIL first
         C: MAIL FROM:<>
         S: 250 2.1.0 ok
         C: MAIL FROM:<x@y>
         S: 503 5.5.1 only one MAIL command allowed
         C: DATA
         S: 503 5.5.1 RCPT first
         C: RCPT TO:<a@mx.test>
         S: 250 2.1.5 ok
         C: RSET
         S: 250 2.0.0 flushed
         C: RCPT TO:<a@mx.test>
         S: 503 5.5.1 MAIL first
         C: MAIL FROM:<>
         S: 250 2.1.0 ok
         C: RCPT TO:<a@mx.test>
         S: 250 2.1.5 ok
         C: HELO again
         S: 250 mx.test
         C: DATA
         S: 503 5.5.1 MAIL first
         C: MAIL FROM:<>
         S: 250 2.1.0 ok
         C: RCPT TO:<b@mx.test>
         S: 250 2.1.5 ok
         C: DATA
         S: 354 go ahead
         C: .
         S: 250 2.0.0 ok 1 qp 2
         C: DATA
         S: 503 5.5.1 MAIL first",
    );
    assert_eq!(messages, [" > b@mx.test: "]);
}

#[test]
fn addresses() {
    play(
        &rules(),
        "C: MAIL FROM:<a@b
         S: 501 5.1.7 syntax error in the sender address
         C: MAIL FROM:<\\8@b>
         S: 553 5.6.7 sorry, an address beyond ASCII needs SMTPUTF8, which is not offered
         C: MAIL FROM: <a@b>
         S: 250 2.1.0 ok
         C: RCPT TO:<>
         S: 501 5.1.3 syntax error in the recipient address
         C: RCPT TO:<x y@mx.test>
         S: 501 5.1.3 syntax error in the recipient address
         C: RCPT TO:<\\8@mx.test>
         S: 553 5.6.7 sorry, an address beyond ASCII needs SMTPUTF8, which is not offered
         C: RCPT TO:<@relay.test:x@mx.test> NOTIFY=NEVER
         S: 555 5.5.4 unsupported parameter
         C: RCPT TO:<@relay.test:x@mx.test>
         S: 250 2.1.5 ok",
    );
}

// RFC 1870 6.1, RFC 6152 3, RFC 4954 5, RFC 5321 4.1.1.11.
#[test]
fn parameters_of_mail() {
    let limited = Rules { databytes: 1000, ..rules() };
    for (parameters, reply) in [
        ("SIZE=1000", "250 2.1.0 ok"),
        ("size=0000000000000000999", "250 2.1.0 ok"),
        ("SIZE=1001", "552 5.3.4 sorry, that message size exceeds my databytes limit"),
        ("SIZE=4294967296", "552 5.3.4 sorry, that message size exceeds my databytes limit"),
        (
            "SIZE=18446744073709551616",
            "552 5.3.4 sorry, that message size exceeds my databytes limit",
        ),
        (
            "SIZE=99999999999999999999",
            "552 5.3.4 sorry, that message size exceeds my databytes limit",
        ),
        ("SIZE=100000000000000000000", "501 5.5.4 syntax error"),
        ("SIZE=-1", "501 5.5.4 syntax error"),
        ("SIZE=", "501 5.5.4 syntax error"),
        ("SIZE", "501 5.5.4 syntax error"),
        ("SIZE=1 SIZE=2", "501 5.5.4 syntax error"),
        ("BODY=7BIT", "250 2.1.0 ok"),
        ("body=8bitmime SIZE=1", "250 2.1.0 ok"),
        ("BODY=BINARYMIME", "501 5.5.4 syntax error"),
        ("AUTH=<>", "250 2.1.0 ok"),
        ("AUTH=a+40b", "250 2.1.0 ok"),
        ("AUTH", "501 5.5.4 syntax error"),
        ("RET=FULL", "555 5.5.4 unsupported parameter"),
        ("SMTPUTF8", "555 5.5.4 unsupported parameter"),
    ] {
        play(&limited, &format!("C: MAIL FROM:<> {parameters}\nS: {reply}"));
    }
    play(&rules(), "C: MAIL FROM:<> SIZE=99999999999999999999\nS: 250 2.1.0 ok");
}

// RFC 5321 2.3.8: only CRLF ends a line; 4.5.3.1: limits are answered, not suffered.
#[test]
fn malformed_lines() {
    play(
        &rules(),
        "C: NOOP\\n\\c
         S: 500 5.5.2 lines end in CRLF and hold no other CR or LF
         C: NO\\rOP
         S: 500 5.5.2 lines end in CRLF and hold no other CR or LF
         C: NO\\0OP
         S: 501 5.5.2 NUL in a command
         C: NOOP
         S: 250 2.0.0 ok",
    );
    let long = format!(
        "C: NOOP {}\nS: 500 5.5.2 line too long\nC: NOOP\nS: 250 2.0.0 ok",
        "x".repeat(2042)
    );
    play(&rules(), &long);
    play(&rules(), &format!("C: NOOP {}\nS: 250 2.0.0 ok", "x".repeat(2041)));
}

// RFC 5321 4.5.2 and 2.3.8: a message with a bare CR or LF is read to its true end and refused.
#[test]
fn bare_line_ends_in_a_body() {
    for bare in ["a\\rb", "a\\nb", "a\\n.\\c\nC: ", "\\r.\\rb", ".\\nMAIL FROM:<>", "a\\r"] {
        let messages = play(
            &rules(),
            &format!(
                "C: MAIL FROM:<>
                 S: 250 2.1.0 ok
                 C: RCPT TO:<a@mx.test>
                 S: 250 2.1.5 ok
                 C: DATA
                 S: 354 go ahead
                 C: {bare}
                 C: .
                 S: 550 5.5.2 bare CR or LF in the message
                 C: DATA
                 S: 503 5.5.1 MAIL first"
            ),
        );
        assert_eq!(messages, [""; 0], "{bare}");
    }
}

// RFC 3030 2 and 4.2.
#[test]
fn chunks() {
    let messages = play(
        &rules(),
        "C: BDAT 6
         C: QUIT
         S: 503 5.5.1 MAIL first
         C: MAIL FROM:<a@b>
         S: 250 2.1.0 ok
         C: BDAT 6 LAST
         C: QUIT
         S: 503 5.5.1 RCPT first
         C: RCPT TO:<a@mx.test>
         S: 250 2.1.5 ok
         C: BDAT 3
         C: .\\c
         C:
         S: 250 2.0.0 ok 3 octets received
         C: RCPT TO:<b@mx.test>
         S: 503 5.5.1 the message has begun with BDAT
         C: DATA
         S: 503 5.5.1 the message has begun with BDAT
         C: MAIL FROM:<x@y>
         S: 503 5.5.1 only one MAIL command allowed
         C: NOOP
         S: 250 2.0.0 ok
         C: bdat 0 last
         S: 250 2.0.0 ok 1 qp 2
         C: MAIL FROM:<a@b>
         S: 250 2.1.0 ok
         C: RCPT TO:<a@mx.test>
         S: 250 2.1.5 ok
         C: BDAT 1
         C: x\\c
         S: 250 2.0.0 ok 1 octets received
         C: RSET
         S: 250 2.0.0 flushed
         C: BDAT 0 LAST
         S: 503 5.5.1 MAIL first
         C: BDAT 1x
         S: 501 5.5.4 syntax error
         C: QUIT",
    );
    assert_eq!(messages, ["a@b > a@mx.test: .\\r\\n"]);
}

#[test]
fn bad_senders_are_refused_at_rcpt() {
    let rules = Rules { bad_senders: vec![b"@bad.test".to_vec()], ..rules() };
    play(
        &rules,
        "C: MAIL FROM:<x@Bad.test>
         S: 250 2.1.0 ok
         C: RCPT TO:<a@mx.test>
         S: 553 5.7.1 sorry, your envelope sender is in my badmailfrom list
         C: DATA
         S: 503 5.5.1 RCPT first",
    );
}

#[test]
fn relay_clients_and_own_addresses() {
    let rules = Rules {
        relay_client: Some(b"@mx.test".to_vec()),
        local_literal: Some((IpAddr::from([192, 0, 2, 1]), b"lit.test".to_vec())),
        ..rules()
    };
    let messages = play(
        &rules,
        "C: MAIL FROM:<a@[192.0.2.1]>
         S: 250 2.1.0 ok
         C: RCPT TO:<b@[IPv6:::ffff:192.0.2.1]>
         S: 250 2.1.5 ok
         C: RCPT TO:<b@[192.0.2.2]>
         S: 250 2.1.5 ok
         C: DATA
         S: 354 go ahead
         C: .
         S: 250 2.0.0 ok 1 qp 2",
    );
    assert_eq!(messages, ["a@lit.test > b@lit.test@mx.test > b@[192.0.2.2]@mx.test: "]);
}

// RFC 5321 4.5.3.1.10: 452 for what is too much; what was accepted stays.
#[test]
fn too_many_recipients() {
    let mut stage = Stage::new(rules());
    stage.hear(b"MAIL FROM:<>\r\n");
    for n in 0..1100 {
        stage.hear(format!("RCPT TO:<u{n}@mx.test>\r\n").as_bytes());
    }
    assert_eq!(stage.said.matches("250 2.1.5 ok").count(), 1000);
    assert_eq!(stage.said.matches("452 4.5.3 too many recipients").count(), 100);
    stage.hear(b"DATA\r\n.\r\n");
    assert_eq!(stage.messages[0].matches(" > ").count(), 1000);
    assert!(stage.messages[0].ends_with(" > u999@mx.test: "));
}

#[test]
fn twenty_errors_are_enough() {
    let mut stage = Stage::new(rules());
    for _ in 0..19 {
        stage.hear(b"FOO\r\n");
    }
    stage.hear(b"MAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\nDATA\r\n.\r\n");
    assert_eq!(stage.messages.len(), 1, "an accepted message pays for the errors before it");
    for _ in 0..20 {
        stage.hear(b"FOO\r\n");
    }
    assert!(!stage.ended);
    stage.hear(b"NOOP\r\nNOOP\r\n");
    assert!(stage.ended && stage.said.ends_with("\n421 4.7.0 too many errors\n"));
}

#[test]
fn web_browsers_are_turned_away_before_their_body() {
    play(
        &rules(),
        "C: POST / HTTP/1.1
         S: 421 4.7.0 this is not a web server
         C: Host: mx.test
         C:
         C: MAIL FROM:<>",
    );
}

// RFC 3207 4: what is allowed before TLS, and 4.2: what is left of it afterwards.
#[test]
fn starttls() {
    let policy = Policy { offers_tls: true, force_tls: true, ..Policy::default() };
    play(
        &Rules { policy, ..rules() },
        "C: HELO x
         S: 530 5.7.0 Must issue a STARTTLS command first
         C: EHLO x
         S: 250-mx.test
         S: 250-PIPELINING
         S: 250-8BITMIME
         S: 250-ENHANCEDSTATUSCODES
         S: 250-CHUNKING
         S: 250-SIZE 0
         S: 250-LIMITS RCPTMAX=1000
         S: 250 STARTTLS
         C: MAIL FROM:<a@b>
         S: 530 5.7.0 Must issue a STARTTLS command first
         C: AUTH PLAIN
         S: 530 5.7.0 Must issue a STARTTLS command first
         C: BDAT 6
         C: QUIT
         S: 530 5.7.0 Must issue a STARTTLS command first
         C: NOOP
         S: 250 2.0.0 ok
         C: STARTTLS
         S: 220 2.0.0 ready for tls
         C: STARTTLS
         S: 503 5.5.1 TLS already active
         C: EHLO x
         S: 250-mx.test
         S: 250-PIPELINING
         S: 250-8BITMIME
         S: 250-ENHANCEDSTATUSCODES
         S: 250-CHUNKING
         S: 250-SIZE 0
         S: 250 LIMITS RCPTMAX=1000
         C: MAIL FROM:<a@b>
         S: 250 2.1.0 ok",
    );
    let policy = Policy { offers_tls: true, ..Policy::default() };
    play(
        &Rules { policy, ..rules() },
        "C: MAIL FROM:<a@b>
         S: 250 2.1.0 ok
         C: RCPT TO:<a@mx.test>
         S: 250 2.1.5 ok
         C: STARTTLS
         S: 220 2.0.0 ready for tls
         C: DATA
         S: 503 5.5.1 MAIL first",
    );
}

#[test]
fn required_authentication() {
    let policy = Policy { require_auth: true, ..Policy::default() };
    let mail = "C: MAIL FROM:<a@b>\nS: 530 5.7.0";
    play(
        &Rules { policy: policy.clone(), ..rules() },
        &format!("{mail} Must issue a STARTTLS command first"),
    );
    let policy = Policy { in_tls: true, ..policy };
    play(&Rules { policy, ..rules() }, &format!("{mail} Authentication required"));
}

/// AUTH possible: in TLS, with a password process that can do two things.
fn auth(settings: Policy) -> Rules {
    let mechanisms = Some(vec!["PLAIN".into(), "CRAM-MD5".into()]);
    Rules { policy: Policy { auth: true, ..settings }, mechanisms, ..rules() }
}

// RFC 4954 4: AUTH once, outside a transaction, by a mechanism that is offered.
#[test]
fn authentication() {
    let policy = Policy { in_tls: true, require_auth: true, ..Policy::default() };
    play(
        &auth(policy),
        "C: EHLO client.test
         S: 250-mx.test
         S: 250-PIPELINING
         S: 250-8BITMIME
         S: 250-ENHANCEDSTATUSCODES
         S: 250-CHUNKING
         S: 250-SIZE 0
         S: 250-LIMITS RCPTMAX=1000
         S: 250 AUTH PLAIN CRAM-MD5
         C: AUTH
         S: 501 5.5.4 syntax error
         C: AUTH LOGIN
         S: 504 5.5.4 auth type unimplemented
         C: AUTH DIGEST-MD5
         S: 504 5.5.4 auth type unimplemented
         C: AUTH PLAIN wrong
         S: 535 5.7.8 no
         C: MAIL FROM:<a@b>
         S: 530 5.7.0 Authentication required
         C: auth plain  AHRpbQB4
         S: 235 2.7.0 ok, go ahead
         C: AUTH PLAIN AHRpbQB4
         S: 503 5.5.1 you're already authenticated
         C: MAIL FROM:<a@b> AUTH=somebody
         S: 250 2.1.0 ok
         C: EHLO client.test
         S: 250-mx.test
         S: 250-PIPELINING
         S: 250-8BITMIME
         S: 250-ENHANCEDSTATUSCODES
         S: 250-CHUNKING
         S: 250-SIZE 0
         S: 250 LIMITS RCPTMAX=1000",
    );
    play(
        &auth(Policy { insecure_auth: true, offers_tls: true, ..Policy::default() }),
        "C: MAIL FROM:<a@b>
         S: 250 2.1.0 ok
         C: AUTH PLAIN AHRpbQB4
         S: 503 5.5.1 no auth during mail transaction
         C: RSET
         S: 250 2.0.0 flushed
         C: AUTH PLAIN AHRpbQB4
         S: 235 2.7.0 ok, go ahead
         C: STARTTLS
         S: 503 5.5.1 no TLS after auth",
    );
    let clear = auth(Policy { offers_tls: true, ..Policy::default() });
    let needs_tls = "C: EHLO client.test
         S: 250-mx.test
         S: 250-PIPELINING
         S: 250-8BITMIME
         S: 250-ENHANCEDSTATUSCODES
         S: 250-CHUNKING
         S: 250-SIZE 0
         S: 250-LIMITS RCPTMAX=1000
         S: 250 STARTTLS
         C: AUTH PLAIN AHRpbQB4
         S: 538 5.7.11 auth not available without TLS";
    play(&clear, needs_tls);
    play(
        &Rules { mechanisms: None, ..auth(Policy { in_tls: true, ..Policy::default() }) },
        "C: AUTH PLAIN AHRpbQB4\nS: 454 4.7.0 temporary authentication failure",
    );
    let mechanisms = Mechanisms::OnlyCram;
    play(
        &auth(Policy { in_tls: true, mechanisms, ..Policy::default() }),
        "C: AUTH PLAIN AHRpbQB4\nS: 504 5.5.4 auth type unimplemented",
    );
}

// The record decides over relaying and size; without a word of it, the client may relay.
#[test]
fn what_an_account_may() {
    let variable = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    for (variables, relay, databytes) in [
        (vec![], "", 5),
        (vec![variable("DATABYTES", "9")], "", 9),
        (vec![variable("DATABYTES", "many")], "", 5),
        (vec![variable("RELAYCLIENT", "@gate.test")], "@gate.test", 5),
    ] {
        let mut session = Session::new(Rules { databytes: 5, ..rules() });
        let account = Account { login: b"tim".into(), variables };
        assert_eq!(session.authenticated(&account), replies::AUTHENTICATED);
        assert_eq!(session.rules.relay_client.as_deref(), Some(relay.as_bytes()));
        assert_eq!(session.databytes(), databytes);
        let trace = session.trace();
        assert_eq!((trace.authenticated, trace.remote_info), (true, Some(&b"tim"[..])));
    }
}

#[test]
fn only_auth_may_be_long() {
    let mut session = Session::new(auth(Policy { in_tls: true, ..Policy::default() }));
    let mut line = |start: &str, length: usize| {
        let line = [start.as_bytes(), &vec![b'x'; length]].concat();
        session.line(&wire::Line::Clean(&line))
    };
    assert_eq!(line("NOOP ", 2041), Action::Reply(replies::OK));
    assert_eq!(line("NOOP ", 2042), Action::Reply(replies::LINE_TOO_LONG));
    assert!(matches!(line("AUTH PLAIN ", 12_288), Action::Authenticate { .. }));
    assert_eq!(session.line(&wire::Line::TooLong), Action::Reply(replies::AUTH_TOO_LONG));
}

// RFC 2920 3.2: these replies may not wait for company.
#[test]
fn which_replies_may_wait() {
    let mut session = Session::new(rules());
    for (line, waits) in [
        (&b"MAIL FROM:<a@b>"[..], true),
        (b"RCPT TO:<>", true),
        (b"RSET", true),
        (b"EHLO x", false),
        (b"DATA", false),
        (b"VRFY x", false),
        (b"EXPN x", false),
        (b"NOOP", false),
        (b"TURN", false),
    ] {
        let action = session.line(&wire::Line::Clean(line));
        let held = matches!(action, Action::Pipelined(_));
        assert_eq!(held, waits, "{}", line.escape_ascii());
    }
}

#[test]
fn no_input_makes_it_stumble() {
    let words: [&[u8]; 24] = [
        b"MAIL FROM:",
        b"RCPT TO:",
        b"<a@mx.test>",
        b"<>",
        b"DATA",
        b"BDAT ",
        b"1",
        b"9",
        b" LAST",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b".",
        b"\0",
        b"\xff",
        b"EHLO x",
        b"RSET",
        b"HELO ",
        b"SIZE=",
        b" ",
        b"\r\n.\r\n",
        b"STARTTLS",
    ];
    let mut seed = 42_u64;
    let mut random = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % bound
    };
    for _ in 0..3000 {
        let input: Vec<u8> =
            (0..random(40)).flat_map(|_| words[random(words.len())].to_vec()).collect();
        let mut whole = Stage::new(rules());
        whole.hear(&input);
        let mut parts = Stage::new(rules());
        let mut rest = &input[..];
        while !rest.is_empty() {
            let (part, later) = rest.split_at(1 + random(rest.len()));
            parts.hear(part);
            rest = later;
        }
        assert_eq!(parts.said, whole.said, "{}", input.escape_ascii());
        assert_eq!(parts.messages, whole.messages, "{}", input.escape_ascii());
        assert!(!whole.messages.concat().contains("\\r"), "{}", input.escape_ascii());
    }
}
