//! What may be seen of SMTP's commands and replies.

use plumb::middle::Side;
use wire::{Asked, Command, ReplyLine, Verb};

use super::Smtp;
use crate::exchange::Exchange;
use crate::redact::{self, cut_word, is_among, is_blank, show_verb};
use crate::story::{Ended, Piece, Story};

impl Smtp {
    /// Shows a command, but for what authenticates; whether something in it was hidden.
    pub(super) fn show_command(&mut self, text: &[u8], ended: Ended, story: &mut Story) -> bool {
        let Command { verb, args } = Command::parse(text);
        let word = cut_word(text.trim_ascii_start()).0;
        match verb {
            Verb::Auth => {
                let users = self.settings.users;
                self.exchange = Exchange::begin(word, args, users, ended, story);
                return true;
            }
            Verb::Other => return self.show_other(text, word, args, ended, story),
            // RFC 5321 4.1.1: what stands behind these means nothing, so it may be a slip of whoever types.
            Verb::Quit | Verb::Rset | Verb::Data | Verb::StartTls | Verb::Noop
                if !args.is_empty() => {}
            Verb::Bdat if wire::chunk(args).is_none() => {}
            Verb::Mail if !self.settings.users => {
                show_mail(text, ended, story);
                return false;
            }
            _ => {
                story.said(Side::Client, &[Piece::Shown(text)], ended);
                return false;
            }
        }
        show_verb(word, args, ended, story);
        true
    }

    /// A word that is no command of SMTP: shown where it is one of a known extension.
    fn show_other(
        &mut self,
        text: &[u8],
        word: &[u8],
        args: &[u8],
        ended: Ended,
        story: &mut Story,
    ) -> bool {
        note_masked(Side::Client, word, story);
        if is_among(word, &["ETRN"]) {
            story.said(Side::Client, &[Piece::Shown(text)], ended);
            return false;
        }
        if is_among(word, &["XCLIENT", "XFORWARD"]) {
            show_attributes(word, args, ended, story);
        } else if is_among(word, &["BURL"]) || !self.authenticating && is_among(word, &EXTENSIONS) {
            show_verb(word, args, ended, story);
        } else {
            redact::show_unknown(text, ended, story);
        }
        true
    }

    /// Shows a reply; of one to AUTH, or to commands of which something was hidden, the codes only: servers repeat what they heard.
    pub(super) fn show_reply(
        &mut self,
        asked: Asked,
        text: &[u8],
        reply: &ReplyLine<'_>,
        ended: Ended,
        story: &mut Story,
    ) {
        let hides = matches!(asked, Asked::Command(Verb::Auth | Verb::Other) | Asked::AuthResponse)
            || AUTH_CODES.contains(&reply.code)
            || self.burst.hides();
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

/// MAIL, whose AUTH= names a user (RFC 4954 5).
fn show_mail(text: &[u8], ended: Ended, story: &mut Story) {
    let mut pieces = Vec::new();
    for word in text.split_inclusive(is_blank) {
        match word.split_at_checked(AUTH.len()) {
            Some((name, user)) if name.eq_ignore_ascii_case(AUTH) => {
                let (shown, _) = cut_word(user);
                let blank = user.get(shown.len()..).unwrap_or_default();
                // RFC 4954 5: nobody who could be named.
                let user =
                    if shown == b"<>" { Piece::Shown(shown) } else { Piece::Hidden(shown.len()) };
                pieces.extend([Piece::Shown(name), user, Piece::Shown(blank)]);
            }
            _ => pieces.push(Piece::Shown(word)),
        }
    }
    story.said(Side::Client, &pieces, ended);
}

/// Says that a firewall has written over a word: it does not want the two to agree on TLS.
pub(super) fn note_masked(from: Side, word: &[u8], story: &mut Story) {
    let Some((last, before)) = word.split_last() else { return };
    if before.len() >= MASKED_MIN
        && before.iter().all(|&byte| byte == b'X')
        && last.is_ascii_uppercase()
    {
        story.note(from, "STRIPPED: somebody between has written over a command with X");
    }
}

/// Postfix' XCLIENT and XFORWARD: attributes of the client, of which only addresses and names may be seen.
fn show_attributes(verb: &[u8], args: &[u8], ended: Ended, story: &mut Story) {
    let mut pieces = vec![Piece::Shown(verb)];
    for attribute in args.split(is_blank).filter(|word| !word.is_empty()) {
        pieces.push(Piece::Shown(b" "));
        let equals = attribute.iter().position(|&byte| byte == b'=');
        let (name, value) = attribute.split_at_checked(equals.unwrap_or(0)).unwrap_or_default();
        if is_among(name, &ATTRIBUTES) {
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

/// Shortest word of X that is no accident, its last letter left out: Cisco's firewalls turn STARTTLS into XXXXXXXA, and EHLO into XXXX.
const MASKED_MIN: usize = 3;

const AUTH: &[u8] = b"AUTH=";

/// What follows them is hidden.
const EXTENSIONS: [&str; 9] =
    ["LHLO", "ATRN", "TURN", "SEND", "SOML", "SAML", "XEXCH50", "USER", "PASS"];

const ATTRIBUTES: [&str; 10] = [
    "NAME",
    "ADDR",
    "PORT",
    "PROTO",
    "HELO",
    "IDENT",
    "SOURCE",
    "DESTADDR",
    "DESTPORT",
    "REVERSE_NAME",
];
