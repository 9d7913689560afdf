//! What IMAP's server says, and what may be seen of it.

use plumb::relay::Side;

use super::{KEYWORD_MAX, Kind, Pending, Replying, Session, Stage};
use crate::literal::{Marker, marker};
use crate::message::Show;
use crate::redact::{self, Then, cut_word};
use crate::story::{Ended, Piece, Story};

impl Session {
    /// A line of the server.
    pub(super) fn reply(&mut self, text: &[u8], ended: Ended, story: &mut Story) -> Then {
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

    /// Octets of the server's literal.
    pub(super) fn fetched(&mut self, left: u64, octets: &[u8], story: &mut Story) {
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

/// A status response; what it says in words is hidden where it could repeat a secret.
fn show_status(text: &[u8], words: &[u8], secret: bool, ended: Ended, story: &mut Story) {
    let (_, message) = cut_word(words);
    if !secret || message.is_empty() {
        return story.said(Side::Server, &[Piece::Shown(text)], ended);
    }
    let shown = text.get(..text.len().saturating_sub(message.len())).unwrap_or_default();
    story.said(Side::Server, &[Piece::Shown(shown), Piece::Hidden(message.len())], ended);
}

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
