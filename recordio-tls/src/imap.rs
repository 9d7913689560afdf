//! IMAP: shows the dialogue, hides what authenticates, counts literals (RFC 9051, 4959, 7888).

use std::collections::VecDeque;

use plumb::relay::Side;
use wire::LineReader;

use crate::literal::{Marker, marker};
use crate::message::{Message, Show};
use crate::redact::cut_word;
use crate::redact::{self, Exchange, HELD_LIMIT, LINE_LIMIT, PENDING_LIMIT, Read, Settings, Then};
use crate::story::{Ended, Piece, Story};

/// One IMAP session.
#[derive(Debug)]
pub struct Imap {
    client: LineReader,
    server: LineReader,
    session: Session,
}

#[derive(Debug)]
struct Session {
    settings: Settings,
    stage: Stage,
    replying: Replying,
    pending: VecDeque<Pending>,
    sent: Message,
    fetched: Message,
    exchange: Exchange,
    authenticating: bool,
    starttls_answered: bool,
    failed: bool,
}

/// A command whose tagged reply has not come.
#[derive(Debug)]
struct Pending {
    tag: Vec<u8>,
    kind: Kind,
    /// The tag may itself be a secret.
    tag_hidden: bool,
}

/// What is known of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing in it is secret.
    Plain,
    /// Its literal is a message.
    Append,
    /// LOGIN, or a command that we do not know: replies to it may repeat what must not be seen.
    Secret,
    Authenticate,
    StartTls,
    Idle,
}

/// What the client's next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Command,
    /// Octets of a literal.
    Literal(u64),
    /// The command's line goes on behind a literal.
    Rest,
    /// A literal of this size if the server says `+`, else a command.
    Go(u64),
    /// The answer to a challenge.
    Answer,
    /// Nobody knows before the server has said something.
    Wait,
}

/// What the server's next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replying {
    Line,
    Literal(u64),
    Rest,
}

impl Imap {
    /// A session before its greeting.
    pub fn new(settings: Settings) -> Imap {
        Imap {
            client: LineReader::new(LINE_LIMIT),
            server: LineReader::new(LINE_LIMIT),
            session: Session {
                settings,
                stage: Stage::Wait,
                replying: Replying::Line,
                pending: VecDeque::new(),
                sent: Message::new(settings.show),
                fetched: Message::new(settings.show),
                exchange: Exchange::Other,
                authenticating: false,
                starttls_answered: false,
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
        let reader = if from == Side::Client { &self.client } else { &self.server };
        redact::show_unended(from, reader, story);
    }

    /// What a side said that nobody has looked at.
    pub fn unread(&self, from: Side) -> &[u8] {
        if from == Side::Client { self.client.rest() } else { self.server.rest() }
    }

    /// Whether the last tagged reply refused its command.
    pub fn failed(&self) -> bool {
        self.session.failed
    }

    fn client_lines(&mut self, story: &mut Story) -> Then {
        loop {
            let then = match self.session.stage {
                Stage::Go(_) | Stage::Wait if self.client.rest().len() > HELD_LIMIT => {
                    Then::Dark(redact::TOO_EARLY)
                }
                Stage::Go(_) | Stage::Wait => return Then::Same,
                Stage::Literal(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX);
                    match self.client.take(count) {
                        [] if left > 0 => return Then::Same,
                        octets => self.session.literal(left, octets, story),
                    }
                }
                Stage::Command | Stage::Rest | Stage::Answer => {
                    let Some(line) = self.client.next_line() else { return Then::Same };
                    self.session.line(redact::read(line), story)
                }
            };
            if then != Then::Same {
                return then;
            }
        }
    }

    fn server_lines(&mut self, story: &mut Story) -> Then {
        loop {
            if let Replying::Literal(left) = self.session.replying {
                let count = usize::try_from(left).unwrap_or(usize::MAX);
                match self.server.take(count) {
                    [] if left > 0 => return Then::Same,
                    octets => self.session.fetched(left, octets, story),
                }
                continue;
            }
            let Some(line) = self.server.next_line() else { return Then::Same };
            let Some((text, ended)) = redact::read_reply(line) else {
                return Then::Dark(redact::LONG_REPLY);
            };
            let mut then = self.session.reply(text, ended, story);
            if std::mem::take(&mut self.session.starttls_answered) {
                redact::note_injection(self.client.rest(), story);
            }
            if then == Then::Same {
                then = self.client_lines(story);
            }
            if then != Then::Same {
                return then;
            }
        }
    }
}

impl Session {
    fn line(&mut self, line: Read<'_>, story: &mut Story) -> Then {
        match (line, self.stage) {
            (Read::BareCr, _) => Then::Dark(redact::BARE_CR),
            (Read::TooLong | Read::Nul(..), Stage::Command | Stage::Rest) => Then::Dark(ODD_LINE),
            (Read::TooLong, _) => {
                redact::note_too_long(Side::Client, story);
                self.stage = Stage::Wait;
                Then::Same
            }
            (Read::Nul(count, ended), _) => {
                story.said(Side::Client, &[Piece::Hidden(count)], ended);
                self.stage = Stage::Wait;
                Then::Same
            }
            (Read::Text(text, ended), Stage::Answer) => {
                let mut user = Vec::new();
                let answer = self.exchange.answer(text, self.settings.users, &mut user);
                story.said(Side::Client, &[answer], ended);
                self.stage = Stage::Wait;
                Then::Same
            }
            (Read::Text(text, ended), Stage::Rest) => {
                if !text.is_empty() {
                    story.said(Side::Client, &[Piece::Hidden(text.len())], ended);
                }
                self.ended_by(marker(text))
            }
            (Read::Text(text, ended), _) => self.command(text, ended, story),
        }
    }

    fn command(&mut self, text: &[u8], ended: Ended, story: &mut Story) -> Then {
        if self.pending.len() >= PENDING_LIMIT {
            return Then::Dark(redact::TOO_EARLY);
        }
        let (tag, rest) = cut_word(text);
        let (verb, args) = cut_word(rest);
        let idles = self.pending.iter().any(|pending| pending.kind == Kind::Idle);
        if idles && text.eq_ignore_ascii_case(b"DONE") {
            // RFC 2177 3: ends IDLE, without a tag.
            story.said(Side::Client, &[Piece::Shown(text)], ended);
            return Then::Same;
        }
        let known = COMMANDS.iter().find(|(name, _)| verb.eq_ignore_ascii_case(name.as_bytes()));
        let kind = known.map_or(Kind::Secret, |(_, kind)| *kind);
        let head = text.get(..text.len().saturating_sub(args.len())).unwrap_or(text);
        let head = head.trim_ascii_end();
        let mut tag_hidden = false;
        match kind {
            Kind::Authenticate => {
                self.exchange = Exchange::begin(head, args, self.settings.users, ended, story);
            }
            Kind::Secret if known.is_some() => show_login(head, args, self.settings, ended, story),
            Kind::Secret if !self.authenticating && is_tag(tag) && redact::is_like_a_verb(verb) => {
                redact::show_verb(head, args, ended, story);
            }
            Kind::Secret => {
                tag_hidden = true;
                story.said(Side::Client, &[Piece::Hidden(text.len())], ended);
            }
            _ => story.said(Side::Client, &[Piece::Shown(text)], ended),
        }
        self.authenticating |= known.is_some() && matches!(kind, Kind::Secret | Kind::Authenticate);
        self.pending.push_back(Pending { tag: tag.to_vec(), kind, tag_hidden });
        self.ended_by(marker(text))
    }

    /// What follows a line of a command.
    fn ended_by(&mut self, marker: Marker) -> Then {
        let kind = self.pending.back().map(|pending| pending.kind);
        self.stage = match marker {
            Marker::Odd => return Then::Dark(ODD_LITERAL),
            Marker::Asks(count) => Stage::Go(count),
            Marker::Follows(count) => Stage::Literal(count),
            Marker::None if matches!(kind, Some(Kind::Authenticate | Kind::StartTls)) => {
                Stage::Wait
            }
            Marker::None => Stage::Command,
        };
        Then::Same
    }

    /// Octets of the client's literal: a message of APPEND, else hidden.
    fn literal(&mut self, left: u64, octets: &[u8], story: &mut Story) -> Then {
        let left = left.saturating_sub(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        let appends = self.pending.back().is_some_and(|pending| pending.kind == Kind::Append);
        if !appends {
            self.sent.count(octets);
        } else {
            self.sent.text(Side::Client, octets, story);
        }
        if left == 0 && appends {
            self.sent.end(Side::Client, "literal", story);
        } else if left == 0 {
            story.said(Side::Client, &[Piece::Hidden(self.sent.take_count())], Ended::Open);
        }
        self.stage = if left == 0 { Stage::Rest } else { Stage::Literal(left) };
        Then::Same
    }

    fn reply(&mut self, text: &[u8], ended: Ended, story: &mut Story) -> Then {
        let literal = match marker(text) {
            Marker::Asks(count) | Marker::Follows(count) => Replying::Literal(count),
            Marker::None | Marker::Odd => Replying::Line,
        };
        if self.replying == Replying::Rest {
            self.show_fetched(text, ended, story);
            self.replying = literal;
            return Then::Same;
        }
        let (word, words) = cut_word(text);
        match word {
            b"+" => self.goes_on(text, words, ended, story),
            b"*" => {
                if self.stage == Stage::Wait && self.pending.is_empty() {
                    // RFC 9051 7.1: the greeting.
                    self.stage = Stage::Command;
                }
                self.replying = literal;
                self.untagged(text, words, ended, story);
                Then::Same
            }
            tag => self.tagged(tag, text, words, ended, story),
        }
    }

    /// RFC 9051 7.6: the server wants more of the last command.
    fn goes_on(&mut self, text: &[u8], words: &[u8], ended: Ended, story: &mut Story) -> Then {
        let last = self.pending.back().map(|pending| pending.kind);
        match (self.stage, last) {
            (Stage::Go(count), _) => self.stage = Stage::Literal(count),
            (Stage::Wait, Some(Kind::Authenticate)) => {
                let challenge = self.exchange.challenge(words);
                story.said(Side::Server, &[Piece::Shown(b"+ "), challenge], ended);
                self.stage = Stage::Answer;
                return Then::Same;
            }
            _ if self.pending.iter().any(|pending| pending.kind == Kind::Idle) => {}
            _ => return Then::Dark(redact::UNASKED),
        }
        story.said(Side::Server, &[Piece::Shown(text)], ended);
        Then::Same
    }

    fn tagged(
        &mut self,
        tag: &[u8],
        text: &[u8],
        words: &[u8],
        ended: Ended,
        story: &mut Story,
    ) -> Then {
        let Some(at) = self.pending.iter().position(|pending| pending.tag == tag) else {
            return Then::Dark(redact::UNASKED);
        };
        let is_last = at.saturating_add(1) == self.pending.len();
        let Some(Pending { kind, tag_hidden, .. }) = self.pending.remove(at) else {
            return Then::Dark(redact::UNASKED);
        };
        let status = cut_word(words).0;
        self.failed = !status.eq_ignore_ascii_case(b"OK");
        if tag_hidden {
            story.said(Side::Server, &[Piece::Hidden(text.len())], ended);
        } else {
            show_status(text, words, hides(kind), ended, story);
        }
        if is_last && matches!(self.stage, Stage::Go(_) | Stage::Wait | Stage::Answer) {
            self.stage = Stage::Command;
        }
        if kind == Kind::StartTls {
            self.starttls_answered = true;
            return if self.failed { Then::Same } else { Then::Tls };
        }
        Then::Same
    }

    fn untagged(&mut self, text: &[u8], words: &[u8], ended: Ended, story: &mut Story) {
        let (first, rest) = cut_word(words);
        let number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
        let keyword = if number { cut_word(rest).0 } else { first };
        let among =
            |names: &[&str]| names.iter().any(|name| keyword.eq_ignore_ascii_case(name.as_bytes()));
        let secret = self.pending.iter().any(|pending| hides(pending.kind));
        if among(STATUSES) {
            show_status(text, words, secret, ended, story);
        } else if among(DATA) || self.settings.show == Show::Whole && !secret {
            story.said(Side::Server, &[Piece::Shown(text)], ended);
        } else {
            let after = if number { rest } else { words };
            let (_, args) = cut_word(after);
            let shown = text.get(..text.len().saturating_sub(args.len())).unwrap_or_default();
            let shown = if keyword.len() <= KEYWORD_MAX { shown } else { b"* " };
            let hidden = text.len().saturating_sub(shown.len());
            story.said(Side::Server, &[Piece::Shown(shown), Piece::Hidden(hidden)], ended);
        }
    }

    fn fetched(&mut self, left: u64, octets: &[u8], story: &mut Story) {
        let left = left.saturating_sub(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        self.fetched.text(Side::Server, octets, story);
        if left == 0 {
            self.fetched.end(Side::Server, "literal", story);
        }
        self.replying = if left == 0 { Replying::Rest } else { Replying::Literal(left) };
    }

    fn show_fetched(&mut self, text: &[u8], ended: Ended, story: &mut Story) {
        if self.settings.show == Show::Whole {
            story.said(Side::Server, &[Piece::Shown(text)], ended);
        } else if !text.is_empty() {
            story.said(Side::Server, &[Piece::Hidden(text.len())], ended);
        }
    }
}

/// Whether replies may repeat what must not be seen.
fn hides(kind: Kind) -> bool {
    matches!(kind, Kind::Secret | Kind::Authenticate)
}

/// RFC 9051 6.2.3: LOGIN user password, both as atoms, quoted or as literals.
fn show_login(head: &[u8], args: &[u8], settings: Settings, ended: Ended, story: &mut Story) {
    let user = first_argument(args);
    let args = match &user {
        Some(user) if settings.users => Piece::HiddenBut(args.len(), user),
        _ => Piece::Hidden(args.len()),
    };
    story.said(Side::Client, &[Piece::Shown(head), Piece::Shown(b" "), args], ended);
}

/// The first of several arguments, where it is an atom or quoted and surely not the password.
fn first_argument(args: &[u8]) -> Option<Vec<u8>> {
    let Some(quoted) = args.strip_prefix(b"\"") else {
        let (atom, rest) = cut_word(args);
        return (!rest.is_empty()).then(|| atom.to_vec());
    };
    let mut text = Vec::new();
    let mut bytes = quoted.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return Some(text),
            b'\\' => text.push(bytes.next()?),
            _ => text.push(byte),
        }
    }
    None
}

/// A status response; what it says in words is hidden where it could repeat a secret.
fn show_status(text: &[u8], words: &[u8], secret: bool, ended: Ended, story: &mut Story) {
    let (_, message) = cut_word(words);
    if !secret || message.is_empty() {
        return story.said(Side::Server, &[Piece::Shown(text)], ended);
    }
    let shown = text.get(..text.len().saturating_sub(message.len())).unwrap_or_default();
    story.said(Side::Server, &[Piece::Shown(shown), Piece::Hidden(message.len())], ended);
}

/// Whether a word looks like a tag, and not like a secret.
fn is_tag(word: &[u8]) -> bool {
    word.len() <= KEYWORD_MAX && word.iter().all(u8::is_ascii_alphanumeric)
}

/// Commands that we know, and what is known of them; anything else is hidden.
const COMMANDS: &[(&str, Kind)] = &[
    ("LOGIN", Kind::Secret),
    ("AUTHENTICATE", Kind::Authenticate),
    ("STARTTLS", Kind::StartTls),
    ("IDLE", Kind::Idle),
    ("APPEND", Kind::Append),
    ("CAPABILITY", Kind::Plain),
    ("NOOP", Kind::Plain),
    ("LOGOUT", Kind::Plain),
    ("ENABLE", Kind::Plain),
    ("SELECT", Kind::Plain),
    ("EXAMINE", Kind::Plain),
    ("CREATE", Kind::Plain),
    ("DELETE", Kind::Plain),
    ("RENAME", Kind::Plain),
    ("SUBSCRIBE", Kind::Plain),
    ("UNSUBSCRIBE", Kind::Plain),
    ("LIST", Kind::Plain),
    ("LSUB", Kind::Plain),
    ("NAMESPACE", Kind::Plain),
    ("STATUS", Kind::Plain),
    ("CHECK", Kind::Plain),
    ("CLOSE", Kind::Plain),
    ("UNSELECT", Kind::Plain),
    ("EXPUNGE", Kind::Plain),
    ("SEARCH", Kind::Plain),
    ("FETCH", Kind::Plain),
    ("STORE", Kind::Plain),
    ("COPY", Kind::Plain),
    ("MOVE", Kind::Plain),
    ("UID", Kind::Plain),
];

/// RFC 9051 7.1.
const STATUSES: &[&str] = &["OK", "NO", "BAD", "BYE", "PREAUTH"];

/// Responses that hold nothing of messages and users.
const DATA: &[&str] = &[
    "CAPABILITY",
    "ENABLED",
    "FLAGS",
    "LIST",
    "LSUB",
    "STATUS",
    "SEARCH",
    "ESEARCH",
    "NAMESPACE",
    "EXISTS",
    "RECENT",
    "EXPUNGE",
];

/// Longest word that is taken for a tag or a keyword.
const KEYWORD_MAX: usize = 16;

const ODD_LINE: &str = "a command with NUL, or without an end";
const ODD_LITERAL: &str = "a literal that some servers would not see";
