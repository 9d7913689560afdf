//! POP3: shows the dialogue, hides what authenticates (RFC 1939, 2449, 2595, 5034).

mod show;

use std::collections::VecDeque;

use plumb::relay::Side;
use wire::{Body, LineReader, Verdict};

use self::show::{show_secret, show_status};
use crate::message::Message;
use crate::redact::{self, Exchange, HELD_LIMIT, LINE_LIMIT, PENDING_LIMIT, Read, Settings, Then};
use crate::redact::{cut_word, show_verb};
use crate::story::{Ended, Piece, Story};

/// One POP3 session.
#[derive(Debug)]
pub struct Pop3 {
    client: LineReader,
    server: LineReader,
    session: Session,
}

#[derive(Debug)]
struct Session {
    settings: Settings,
    pending: VecDeque<Asked>,
    /// The next line of the client answers a challenge.
    challenged: bool,
    replying: Replying,
    end: Body,
    message: Message,
    exchange: Exchange,
    authenticating: bool,
    failed: bool,
}

/// What a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Greeting,
    /// One line.
    Line,
    /// A line, and a list if it is `+OK`.
    List,
    /// A line, and a message if it is `+OK`.
    Message,
    /// One line, which may repeat what must not be seen.
    Secret,
    Auth,
    StartTls,
}

/// What the server's next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replying {
    Status,
    List,
    Message,
}

impl Pop3 {
    /// A session before its greeting.
    pub fn new(settings: Settings) -> Pop3 {
        Pop3 {
            client: LineReader::new(LINE_LIMIT),
            server: LineReader::new(LINE_LIMIT),
            session: Session {
                settings,
                pending: VecDeque::from([Asked::Greeting]),
                challenged: false,
                replying: Replying::Status,
                end: Body::new(),
                message: Message::new(settings.show),
                exchange: Exchange::Other,
                authenticating: false,
                failed: false,
            },
        }
    }

    /// Goes on with what a side said.
    pub fn bytes(&mut self, from: Side, bytes: &[u8], story: &mut Story) -> Then {
        match from {
            Side::Client => {
                self.client.push(bytes);
                self.client_lines(story)
            }
            Side::Server => {
                self.server.push(bytes);
                self.server_lines(story)
            }
        }
    }

    /// A side has ended; what it said without a line end is hidden.
    pub fn eof(&mut self, from: Side, story: &mut Story) {
        if from == Side::Server && self.session.replying == Replying::Message {
            self.session.message.cut(from, "message", story);
        }
        let reader = if from == Side::Client { &self.client } else { &self.server };
        redact::show_unended(from, reader, story);
    }

    /// What a side said that nobody has looked at.
    pub fn unread(&self, from: Side) -> &[u8] {
        if from == Side::Client { self.client.rest() } else { self.server.rest() }
    }

    /// Whether the last reply refused its command.
    pub fn failed(&self) -> bool {
        self.session.failed
    }

    fn client_lines(&mut self, story: &mut Story) -> Then {
        while self.session.takes_lines() {
            let Some(line) = self.client.next_line() else { return Then::Same };
            let then = self.session.line(redact::read(line), story);
            if then != Then::Same {
                return then;
            }
        }
        if self.client.rest().len() > HELD_LIMIT {
            Then::Dark(redact::TOO_EARLY)
        } else {
            Then::Same
        }
    }

    fn server_lines(&mut self, story: &mut Story) -> Then {
        loop {
            if self.session.replying == Replying::Message {
                let (count, verdict) = self.session.end.scan(self.server.rest());
                if count == 0 && verdict == Verdict::More {
                    return Then::Same;
                }
                self.session.message(self.server.take(count), verdict, story);
                continue;
            }
            let Some(line) = self.server.next_line() else { return Then::Same };
            let Some((text, ended)) = redact::read_reply(line) else {
                return Then::Dark(redact::LONG_REPLY);
            };
            if self.session.pending.front() == Some(&Asked::StartTls) {
                redact::note_injection(self.client.rest(), story);
            }
            let then = self.session.reply(text, ended, story);
            if then != Then::Same {
                return then;
            }
            let then = self.client_lines(story);
            if then != Then::Same {
                return then;
            }
        }
    }
}

impl Session {
    fn takes_lines(&self) -> bool {
        let barrier =
            matches!(self.pending.back(), Some(Asked::Greeting | Asked::Auth | Asked::StartTls));
        self.challenged || !barrier && self.pending.len() < PENDING_LIMIT
    }

    fn line(&mut self, line: Read<'_>, story: &mut Story) -> Then {
        let challenged = std::mem::take(&mut self.challenged);
        let mut user = Vec::new();
        match line {
            Read::BareCr => return Then::Dark(redact::BARE_CR),
            Read::TooLong => redact::note_too_long(Side::Client, story),
            Read::Nul(count, ended) => story.said(Side::Client, &[Piece::Hidden(count)], ended),
            Read::Text(text, ended) if challenged => {
                let answer = self.exchange.answer(text, self.settings.users, &mut user);
                story.said(Side::Client, &[answer], ended);
            }
            Read::Text(text, ended) => {
                let asked = self.command(text, ended, story);
                self.pending.push_back(asked);
                return Then::Same;
            }
        }
        if !challenged {
            self.pending.push_back(Asked::Secret);
        }
        Then::Same
    }

    fn command(&mut self, text: &[u8], ended: Ended, story: &mut Story) -> Asked {
        let (verb, args) = cut_word(text.trim_ascii());
        let is = |name: &str| verb.eq_ignore_ascii_case(name.as_bytes());
        if is("AUTH") && !args.is_empty() {
            self.authenticating = true;
            self.exchange = Exchange::begin(verb, args, self.settings.users, ended, story);
            return Asked::Auth;
        }
        if is("PASS") || is("APOP") {
            self.authenticating = true;
            show_secret(verb, args, is("APOP"), ended, story);
            return Asked::Secret;
        }
        if let Some((_, asked)) = COMMANDS.iter().find(|(name, _)| is(name)) {
            story.said(Side::Client, &[Piece::Shown(text)], ended);
            return if *asked == Asked::List && !args.is_empty() { Asked::Line } else { *asked };
        }
        if redact::is_like_a_verb(verb) && !self.authenticating {
            show_verb(verb, args, ended, story);
        } else {
            story.said(Side::Client, &[Piece::Hidden(text.len())], ended);
        }
        Asked::Secret
    }

    fn reply(&mut self, text: &[u8], ended: Ended, story: &mut Story) -> Then {
        let from = Side::Server;
        if self.replying == Replying::List {
            story.said(from, &[Piece::Shown(text)], ended);
            if text == b"." {
                self.replying = Replying::Status;
            }
            return Then::Same;
        }
        let (status, words) = cut_word(text);
        match (status, self.pending.front()) {
            (b"+", Some(Asked::Auth)) => {
                self.challenged = true;
                let challenge = self.exchange.challenge(words);
                story.said(from, &[Piece::Shown(b"+ "), challenge], ended);
                Then::Same
            }
            (b"-ERR", None) => {
                // RFC 1939 3: a server that has waited too long may say so.
                story.said(from, &[Piece::Shown(text)], ended);
                Then::Same
            }
            (b"+OK" | b"-ERR", Some(&asked)) => {
                self.pending.pop_front();
                self.failed = status == b"-ERR";
                show_status(asked, text, words, ended, story);
                self.follow(asked)
            }
            _ => Then::Dark(redact::UNASKED),
        }
    }

    /// What comes behind the status.
    fn follow(&mut self, asked: Asked) -> Then {
        match asked {
            Asked::StartTls if !self.failed => return Then::Tls,
            Asked::List if !self.failed => self.replying = Replying::List,
            Asked::Message if !self.failed => {
                self.replying = Replying::Message;
                self.end = Body::new();
                // Only the server says where its message ends: CRLF.CRLF (RFC 1939 3).
                self.end.drain();
            }
            _ => {}
        }
        Then::Same
    }

    fn message(&mut self, bytes: &[u8], verdict: Verdict, story: &mut Story) {
        let from = Side::Server;
        if verdict != Verdict::End {
            return self.message.text(from, bytes, story);
        }
        self.message.text(from, bytes.strip_suffix(b".\r\n").unwrap_or(bytes), story);
        self.message.end_line(from, b".\r\n", story);
        self.message.end(from, "message", story);
        self.replying = Replying::Status;
    }
}

/// Commands in which nothing is secret, and what answers them.
const COMMANDS: [(&str, Asked); 15] = [
    ("USER", Asked::Line),
    ("STAT", Asked::Line),
    ("LIST", Asked::List),
    ("UIDL", Asked::List),
    ("RETR", Asked::Message),
    ("TOP", Asked::Message),
    ("DELE", Asked::Line),
    ("NOOP", Asked::Line),
    ("RSET", Asked::Line),
    ("QUIT", Asked::Line),
    ("CAPA", Asked::List),
    ("AUTH", Asked::List),
    ("STLS", Asked::StartTls),
    ("LANG", Asked::List),
    ("UTF8", Asked::Line),
];
