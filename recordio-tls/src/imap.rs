//! IMAP: shows the dialogue, hides what authenticates, counts literals (RFC 9051, 4959, 7888).

mod command;
mod server;

use std::collections::VecDeque;

use plumb::relay::Side;
use wire::LineReader;

use self::command::{COMMANDS, is_tag, show_login};
use crate::literal::{Marker, marker};
use crate::message::Message;
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
            // RFC 4469, 4467: its parts may be given as URLs with a token in them.
            Kind::Append => redact::show_verb(head, args, ended, story),
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
}

/// Longest word that is taken for a tag or a keyword.
const KEYWORD_MAX: usize = 16;

const ODD_LINE: &str = "a command with NUL, or without an end";
const ODD_LITERAL: &str = "a literal that some servers would not see";
