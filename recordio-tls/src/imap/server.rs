//! What IMAP's server says, and what may be seen of it.

use plumb::middle::Side;

use super::{Imap, KEYWORD_MAX, Kind, Pending, Replying, Stage};
use crate::literal::{Marker, marker};
use crate::message::Show;
use crate::redact::{self, Then, cut_word};
use crate::story::{Ended, Piece, Story};

impl Imap {
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
        // Its turn comes before that of any later command.
        let idle = self.pending.iter_mut().find(|pending| pending.kind == Kind::Idle);
        match (self.stage, last, idle) {
            (_, _, Some(idle)) => idle.kind = Kind::Idling,
            (Stage::Go(count), ..) => self.stage = Stage::Literal(count),
            (Stage::Wait, Some(Kind::Authenticate), None) => {
                let challenge = self.exchange.challenge(words);
                story.said(Side::Server, &[Piece::Shown(b"+ "), challenge], ended);
                self.stage = Stage::Answer;
                return Then::Same;
            }
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
        let secret = self.hides();
        let Some(Pending { kind, tag_hidden, .. }) = self.pending.remove(at) else {
            return Then::Dark(redact::UNASKED);
        };
        let status = cut_word(words).0;
        self.failed = !status.eq_ignore_ascii_case(b"OK");
        let shown_from = if tag_hidden { tag.len() } else { 0 };
        show_status(text, shown_from, words, secret, ended, story);
        if is_last && matches!(self.stage, Stage::Go(_) | Stage::Wait | Stage::Answer) {
            self.stage = Stage::Command;
        }
        match kind {
            Kind::StartTls if self.failed => Then::TlsRefused,
            Kind::StartTls => Then::Tls,
            Kind::Compress if !self.failed => Then::Dark(COMPRESSED),
            _ => Then::Same,
        }
    }

    fn untagged(&mut self, text: &[u8], words: &[u8], ended: Ended, story: &mut Story) {
        let (first, rest) = cut_word(words);
        let number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
        let keyword = if number { cut_word(rest).0 } else { first };
        let among =
            |names: &[&str]| names.iter().any(|name| keyword.eq_ignore_ascii_case(name.as_bytes()));
        let secret = self.hides();
        if among(STATUSES) {
            if among(&["BAD"]) {
                // What was too odd to have a tag is answered like this.
                self.pending.retain(|pending| !pending.tag.is_empty());
            }
            show_status(text, 0, words, secret, ended, story);
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
        // RFC 4467: what answers GENURLAUTH has a token in it.
        if self.hides() {
            self.fetched.count(octets);
            if left == 0 {
                let hidden = [Piece::Hidden(self.fetched.take_count())];
                story.said(Side::Server, &hidden, Ended::Open);
            }
        } else {
            self.fetched.text(Side::Server, octets, story);
            if left == 0 {
                self.fetched.end(Side::Server, "literal", story);
            }
        }
        self.replying = if left == 0 { Replying::Rest } else { Replying::Literal(left) };
    }

    fn show_fetched(&mut self, text: &[u8], ended: Ended, story: &mut Story) {
        let secret = self.hides();
        if self.settings.show == Show::Whole && !secret {
            story.said(Side::Server, &[Piece::Shown(text)], ended);
        } else if !text.is_empty() {
            story.said(Side::Server, &[Piece::Hidden(text.len())], ended);
        }
    }
}

/// A status response, behind its tag where that is hidden; what it says in words is hidden where it could repeat a secret.
fn show_status(
    text: &[u8],
    from: usize,
    words: &[u8],
    secret: bool,
    ended: Ended,
    story: &mut Story,
) {
    let (_, message) = cut_word(words);
    let hidden = if secret { message.len() } else { 0 };
    let shown = text.get(from..text.len().saturating_sub(hidden)).unwrap_or_default();
    let pieces = [Piece::Hidden(from), Piece::Shown(shown), Piece::Hidden(hidden)];
    let pieces = pieces.iter().copied().filter(|piece| *piece != Piece::Hidden(0));
    story.said(Side::Server, &pieces.collect::<Vec<_>>(), ended);
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

const COMPRESSED: &str = "it is compressed";
