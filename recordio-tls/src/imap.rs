//! IMAP: shows the dialogue, hides what authenticates, counts literals (RFC 9051, 4959, 7888).

mod command;
mod server;

use std::collections::VecDeque;

use plumb::middle::Side;
use wire::{Line, LineReader};

use crate::exchange::Exchange;
use crate::literal::{Marker, marker};
use crate::message::Message;
use crate::redact::{self, Burst, PENDING_LIMIT, Settings, Then};
use crate::story::{Ended, Piece, Story};

/// One IMAP session.
#[derive(Debug)]
pub struct Imap {
    settings: Settings,
    stage: Stage,
    replying: Replying,
    pending: VecDeque<Pending>,
    sent: Message,
    fetched: Message,
    exchange: Exchange,
    burst: Burst,
    failed: bool,
}

/// A command whose tagged reply has not come.
#[derive(Debug)]
struct Pending {
    tag: Vec<u8>,
    kind: Kind,
    /// The tag may itself be a secret.
    tag_hidden: bool,
    /// Replies may repeat what must not be seen.
    secret: bool,
}

/// What is known of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One that changes nothing of how the session goes on.
    Plain,
    /// Its literal is a message.
    Append,
    Login,
    Authenticate,
    StartTls,
    Compress,
    Idle,
    /// IDLE, behind the server's `+`.
    Idling,
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
            settings,
            stage: Stage::Wait,
            replying: Replying::Line,
            pending: VecDeque::new(),
            sent: Message::new(settings.show),
            fetched: Message::new(settings.show),
            exchange: Exchange::Other,
            burst: Burst::default(),
            failed: false,
        }
    }

    /// Looks at the next thing that the client said; none before more of it, or a reply, has come.
    pub fn client(&mut self, lines: &mut LineReader, story: &mut Story) -> Option<Then> {
        match self.stage {
            Stage::Go(_) | Stage::Wait => None,
            Stage::Literal(left) => {
                let octets = lines.take(usize::try_from(left).unwrap_or(usize::MAX));
                (left == 0 || !octets.is_empty()).then(|| self.literal(left, octets, story))
            }
            Stage::Command if redact::is_tls(lines.rest()) => Some(Then::TlsUnasked),
            Stage::Command | Stage::Rest | Stage::Answer => {
                Some(self.line(lines.next_line()?, story))
            }
        }
    }

    /// Looks at the next thing that the server said.
    pub fn server(&mut self, lines: &mut LineReader, story: &mut Story) -> Option<Then> {
        if let Replying::Literal(left) = self.replying {
            let octets = lines.take(usize::try_from(left).unwrap_or(usize::MAX));
            if left > 0 && octets.is_empty() {
                return None;
            }
            self.fetched(left, octets, story);
            return Some(Then::Same);
        }
        let Some((text, ended)) = redact::read_reply(lines.next_line()?) else {
            return Some(Then::Dark(redact::LONG_REPLY));
        };
        Some(self.reply(text, ended, story))
    }

    /// Whether the last tagged reply refused its command.
    pub fn failed(&self) -> bool {
        self.failed
    }

    fn line(&mut self, line: Line<'_>, story: &mut Story) -> Then {
        match (redact::read(line, story), self.stage) {
            (Err(dark), _) => dark,
            (Ok(text), Stage::Answer) => {
                if let Some((text, ended)) = text {
                    let mut user = Vec::new();
                    let answer = self.exchange.answer(text, self.settings.users, &mut user);
                    story.said(Side::Client, &[answer], ended);
                }
                self.stage = Stage::Wait;
                Then::Same
            }
            (Ok(None), _) => Then::Dark(ODD_LINE),
            (Ok(Some((text, ended))), Stage::Rest) => {
                if !text.is_empty() {
                    story.said(Side::Client, &[Piece::Hidden(text.len())], ended);
                }
                self.goes_on_behind(text)
            }
            (Ok(Some((text, ended))), _) => self.command(text, ended, story),
        }
    }

    fn command(&mut self, text: &[u8], ended: Ended, story: &mut Story) -> Then {
        if self.pending.len() >= PENDING_LIMIT {
            return Then::Dark(redact::TOO_EARLY);
        }
        let idles =
            self.pending.iter().any(|pending| matches!(pending.kind, Kind::Idle | Kind::Idling));
        if idles && text.eq_ignore_ascii_case(b"DONE") {
            // RFC 2177 3: ends IDLE, without a tag.
            story.said(Side::Client, &[Piece::Shown(text)], ended);
            return Then::Same;
        }
        let pending = self.show_command(text, ended, story);
        self.burst.asked(!self.pending.is_empty(), pending.secret);
        self.pending.push_back(pending);
        self.goes_on_behind(text)
    }

    /// Whether what the server says may repeat what was hidden: two commands may have had the same tag, and some servers answer twice.
    fn hides(&self) -> bool {
        self.burst.hides() || self.pending.iter().any(|pending| pending.secret)
    }

    /// A line of a command has been told; a part of a message may be given by a URL with a token in it (RFC 4469, 4467).
    fn goes_on_behind(&mut self, text: &[u8]) -> Then {
        let catenates =
            text.windows(CATENATE.len()).any(|part| part.eq_ignore_ascii_case(CATENATE));
        let last = self.pending.back_mut();
        if let Some(pending) = last.filter(|last| catenates && last.kind == Kind::Append) {
            pending.kind = Kind::Plain;
            pending.secret = true;
            self.burst.asked(true, true);
        }
        self.ended_by(marker(text))
    }

    /// What follows a line of a command.
    fn ended_by(&mut self, marker: Marker) -> Then {
        let kind = self.pending.back().map(|pending| pending.kind);
        self.stage = match marker {
            Marker::Odd => return Then::Dark(ODD_LITERAL),
            Marker::Asks(count) => Stage::Go(count),
            Marker::Follows(count) => Stage::Literal(count),
            Marker::None
                if matches!(kind, Some(Kind::Authenticate | Kind::StartTls | Kind::Compress)) =>
            {
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

const CATENATE: &[u8] = b"CATENATE";

const ODD_LINE: &str = "a command with NUL, or without an end";
const ODD_LITERAL: &str = "a literal that some servers would not see";
