//! POP3: shows the dialogue, hides what authenticates (RFC 1939, 2449, 2595, 5034).

mod show;

use std::collections::VecDeque;

use plumb::middle::Side;
use wire::{Body, Line, LineReader, Verdict};

use self::show::{show_secret, show_status};
use crate::exchange::Exchange;
use crate::message::Message;
use crate::redact::{self, Burst, PENDING_LIMIT, Settings, Then};
use crate::redact::{cut_word, is_among, show_verb};
use crate::story::{Ended, Piece, Story};

/// One POP3 session.
#[derive(Debug)]
pub struct Pop3 {
    settings: Settings,
    pending: VecDeque<Asked>,
    /// The next line of the client answers a challenge.
    challenged: bool,
    replying: Replying,
    end: Body,
    message: Message,
    exchange: Exchange,
    burst: Burst,
    /// Somebody has tried to log in: a word that is no command may be a secret.
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
            settings,
            pending: VecDeque::from([Asked::Greeting]),
            challenged: false,
            replying: Replying::Status,
            end: Body::new(),
            message: Message::new(settings.show),
            exchange: Exchange::Other,
            burst: Burst::default(),
            authenticating: false,
            failed: false,
        }
    }

    /// Looks at the next thing that the client said; none before more of it, or a reply, has come.
    pub fn client(&mut self, lines: &mut LineReader, story: &mut Story) -> Option<Then> {
        let barrier =
            matches!(self.pending.back(), Some(Asked::Greeting | Asked::Auth | Asked::StartTls));
        if !self.challenged && (barrier || self.pending.len() >= PENDING_LIMIT) {
            return None;
        }
        if redact::is_tls(lines.rest()) {
            return Some(Then::TlsUnasked);
        }
        Some(self.line(lines.next_line()?, story))
    }

    /// Looks at the next thing that the server said.
    pub fn server(&mut self, lines: &mut LineReader, story: &mut Story) -> Option<Then> {
        if self.replying == Replying::Message {
            let (count, verdict) = self.end.scan(lines.rest());
            let some = count > 0 || verdict != Verdict::More;
            some.then(|| self.message(lines.take(count), verdict, story))?;
            return Some(Then::Same);
        }
        let Some((text, ended)) = redact::read_reply(lines.next_line()?) else {
            return Some(Then::Dark(redact::LONG_REPLY));
        };
        Some(self.reply(text, ended, story))
    }

    /// A side has ended; what it said without a line end is hidden.
    pub fn eof(&mut self, from: Side, rest: &[u8], story: &mut Story) {
        if from == Side::Server && self.replying == Replying::Message {
            self.message.cut(from, "message", story);
        }
        redact::show_unended(from, rest, story);
    }

    /// Whether the last reply refused its command.
    pub fn failed(&self) -> bool {
        self.failed
    }

    fn line(&mut self, line: Line<'_>, story: &mut Story) -> Then {
        let challenged = std::mem::take(&mut self.challenged);
        let text = match redact::read(line, story) {
            Err(dark) => return dark,
            Ok(text) => text,
        };
        let asked = match text {
            Some((text, ended)) if challenged => {
                let mut user = Vec::new();
                let answer = self.exchange.answer(text, self.settings.users, &mut user);
                story.said(Side::Client, &[answer], ended);
                return Then::Same;
            }
            None if challenged => return Then::Same,
            Some((text, ended)) => self.command(text, ended, story),
            None => Asked::Secret,
        };
        self.burst.asked(!self.pending.is_empty(), matches!(asked, Asked::Secret | Asked::Auth));
        self.pending.push_back(asked);
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
        // Behind the name in USER nothing is expected, and so anything may stand there.
        let slips = is("USER") && !cut_word(args).1.is_empty();
        if is("PASS") || is("APOP") || slips {
            self.authenticating = true;
            show_secret(verb, args, !is("PASS"), ended, story);
            return Asked::Secret;
        }
        match COMMANDS.iter().find(|(name, ..)| is(name)) {
            Some((_, Args::None, _)) if !args.is_empty() => {
                show_verb(verb, args, ended, story);
                Asked::Secret
            }
            Some((_, _, asked)) => {
                story.said(Side::Client, &[Piece::Shown(text)], ended);
                if *asked == Asked::List && !args.is_empty() { Asked::Line } else { *asked }
            }
            None => {
                if is_among(verb, &EXTENSIONS) && !self.authenticating {
                    show_verb(verb, args, ended, story);
                } else {
                    redact::show_unknown(text, ended, story);
                }
                Asked::Secret
            }
        }
    }

    fn reply(&mut self, text: &[u8], ended: Ended, story: &mut Story) -> Then {
        let from = Side::Server;
        if self.replying == Replying::List {
            if text.starts_with(b"+OK") || text.starts_with(b"-ERR") {
                return Then::Dark(NO_LIST);
            }
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
                let shown = if self.burst.hides() { Asked::Secret } else { asked };
                show_status(shown, text, words, ended, story);
                self.follow(asked)
            }
            _ => Then::Dark(redact::UNASKED),
        }
    }

    /// What comes behind the status.
    fn follow(&mut self, asked: Asked) -> Then {
        match asked {
            Asked::StartTls if self.failed => return Then::TlsRefused,
            Asked::StartTls => return Then::Tls,
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

/// Whether a command has arguments; behind others stands what may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Args {
    None,
    Some,
}

/// Commands in which nothing is secret, and what answers them.
const COMMANDS: [(&str, Args, Asked); 15] = [
    ("USER", Args::Some, Asked::Line),
    ("STAT", Args::None, Asked::Line),
    ("LIST", Args::Some, Asked::List),
    ("UIDL", Args::Some, Asked::List),
    ("RETR", Args::Some, Asked::Message),
    ("TOP", Args::Some, Asked::Message),
    ("DELE", Args::Some, Asked::Line),
    ("NOOP", Args::None, Asked::Line),
    ("RSET", Args::None, Asked::Line),
    ("QUIT", Args::None, Asked::Line),
    ("CAPA", Args::None, Asked::List),
    ("AUTH", Args::None, Asked::List),
    ("STLS", Args::None, Asked::StartTls),
    ("LANG", Args::Some, Asked::List),
    ("UTF8", Args::Some, Asked::Line),
];

/// Commands of which only the verb is shown.
const EXTENSIONS: [&str; 4] = ["LAST", "RPOP", "XTND", "XSENDER"];

const NO_LIST: &str = "a list without an end";
