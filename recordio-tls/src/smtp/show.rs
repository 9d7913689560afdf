//! What may be seen of SMTP's commands and replies.

use plumb::relay::Side;
use wire::{Asked, Command, ReplyLine, Verb};

use super::Session;
use crate::redact::{self, Exchange, cut_word};
use crate::story::{Ended, Piece, Story};

impl Session {
    /// Shows a command, but for what authenticates.
    pub(super) fn show_command(&mut self, text: &[u8], ended: Ended, story: &mut Story) {
        let Command { verb, args } = Command::parse(text);
        match verb {
            Verb::Auth => {
                let verb = cut_word(text.trim_ascii_start()).0;
                let users = self.settings.users;
                self.exchange = Exchange::begin(verb, args, users, ended, story);
            }
            Verb::Other => self.show_other(text, args, ended, story),
            Verb::Bdat if wire::chunk(args).is_none() => {
                redact::show_verb(cut_word(text.trim_ascii_start()).0, args, ended, story);
            }
            _ => story.said(Side::Client, &[Piece::Shown(text)], ended),
        }
    }

    /// A word that is no command of SMTP: shown where it can only be one of an extension.
    fn show_other(&mut self, text: &[u8], args: &[u8], ended: Ended, story: &mut Story) {
        let word = cut_word(text.trim_ascii_start()).0;
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("ETRN") || is("XFORWARD") {
            return story.said(Side::Client, &[Piece::Shown(text)], ended);
        }
        if is("XCLIENT") {
            return show_xclient(word, args, ended, story);
        }
        if is("BURL") || !self.authenticating && redact::is_like_a_verb(word) {
            return redact::show_verb(word, args, ended, story);
        }
        story.said(Side::Client, &[Piece::Hidden(text.len())], ended);
    }

    /// Shows a reply; of one to AUTH, or to a command that was hidden, the codes only: servers repeat what they heard.
    pub(super) fn show_reply(
        &mut self,
        asked: Asked,
        text: &[u8],
        reply: &ReplyLine<'_>,
        ended: Ended,
        story: &mut Story,
    ) {
        let hides = matches!(asked, Asked::Command(Verb::Auth | Verb::Other) | Asked::AuthResponse)
            || AUTH_CODES.contains(&reply.code);
        if !hides {
            return story.said(Side::Server, &[Piece::Shown(text)], ended);
        }
        let codes = text.len().saturating_sub(reply.text.len());
        let (codes, words) = text.split_at_checked(codes).unwrap_or((text, &[]));
        if reply.code == CHALLENGE {
            let challenge = self.exchange.challenge(words);
            return story.said(Side::Server, &[Piece::Shown(codes), challenge], ended);
        }
        let (status, words) = cut_status(words);
        let pieces = [Piece::Shown(codes), Piece::Shown(status), Piece::Hidden(words.len())];
        story.said(Side::Server, if words.is_empty() { &pieces[..2] } else { &pieces }, ended);
    }
}

/// Postfix' XCLIENT: attributes of the client, of which only addresses and names may be seen.
fn show_xclient(verb: &[u8], args: &[u8], ended: Ended, story: &mut Story) {
    let mut pieces = vec![Piece::Shown(verb)];
    for attribute in args.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        pieces.push(Piece::Shown(b" "));
        let equals = attribute.iter().position(|&byte| byte == b'=');
        let (name, value) = attribute.split_at_checked(equals.unwrap_or(0)).unwrap_or_default();
        if XCLIENT_SHOWN.iter().any(|shown| name.eq_ignore_ascii_case(shown.as_bytes())) {
            pieces.push(Piece::Shown(attribute));
        } else if name.eq_ignore_ascii_case(b"LOGIN") {
            pieces.extend([Piece::Shown(name), Piece::Shown(b"=")]);
            pieces.push(Piece::Hidden(value.len().saturating_sub(1)));
        } else {
            pieces.push(Piece::Hidden(attribute.len()));
        }
    }
    story.said(Side::Client, &pieces, ended);
}

/// An enhanced status code with its blank (RFC 2034 4), and what follows it.
fn cut_status(text: &[u8]) -> (&[u8], &[u8]) {
    let (word, rest) = cut_word(text);
    let fields = word.split(|&byte| byte == b'.');
    let number =
        |field: &[u8]| (1..=3).contains(&field.len()) && field.iter().all(u8::is_ascii_digit);
    if word.iter().filter(|&&byte| byte == b'.').count() == 2 && fields.into_iter().all(number) {
        text.split_at_checked(text.len().saturating_sub(rest.len())).unwrap_or((text, &[]))
    } else {
        (&[], text)
    }
}

/// RFC 4954 4 and 6: codes of AUTH, which some servers also give to others.
const AUTH_CODES: [u16; 5] = [235, 432, 534, 535, 538];

/// RFC 4954 4: the reply that asks for an answer.
const CHALLENGE: u16 = 334;

const XCLIENT_SHOWN: [&str; 8] =
    ["NAME", "ADDR", "PORT", "PROTO", "HELO", "DESTADDR", "DESTPORT", "REVERSE_NAME"];
