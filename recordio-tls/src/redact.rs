//! What the three protocols have in common: lines that readers could disagree on, and replies that could repeat what was hidden.

use plumb::middle::Side;
use wire::Line;

use crate::message::Show;
use crate::story::{Ended, Piece, Story};

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How much of messages is shown.
    pub show: Show,
    /// Whether the names of users who log in are shown (-u).
    pub users: bool,
}

/// How the session goes on behind what was just read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// As before.
    Same,
    /// By a TLS handshake, to which the server has agreed.
    Tls,
    /// As before: the server does not want TLS now.
    TlsRefused,
    /// By a TLS handshake that nobody has asked for.
    TlsUnasked,
    /// In a way that two readers could understand differently, for this reason: nothing more of it may be seen.
    Dark(&'static str),
}

/// The text of a client's line and how it ended; none where it has been told already, as too long or with a NUL, which some readers drop
/// and some take for its end.
///
/// A bare LF ends a line for all readers that we know, or makes them refuse it; a bare CR ends it for some, which is the error.
pub fn read<'a>(line: Line<'a>, story: &mut Story) -> Result<Option<(&'a [u8], Ended)>, Then> {
    let (text, ended) = match line {
        Line::Clean(text) | Line::Nul(text) => (text, Ended::CrLf),
        Line::Bare(text) if text.contains(&b'\r') => return Err(Then::Dark(BARE_CR)),
        Line::Bare(text) => (text, Ended::Lf),
        Line::TooLong => {
            note_too_long(Side::Client, story);
            return Ok(None);
        }
    };
    if text.contains(&0) {
        story.said(Side::Client, &[Piece::Hidden(text.len())], ended);
        return Ok(None);
    }
    Ok(Some((text, ended)))
}

/// Whether a client begins a TLS handshake: no line of any of these protocols begins with that byte (RFC 8446 5.1).
pub fn is_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&TLS_HANDSHAKE)
}

/// What a server says, on whose line ends nobody has to agree: CR CR LF is one, too.
pub fn read_reply(line: Line<'_>) -> Option<(&[u8], Ended)> {
    match line {
        Line::Clean(text) | Line::Nul(text) => Some((text, Ended::CrLf)),
        Line::Bare([text @ .., b'\r']) => Some((text, Ended::CrLf)),
        Line::Bare(text) => Some((text, Ended::Lf)),
        Line::TooLong => None,
    }
}

/// What is left when a side has ended and nobody can say what it was to become.
pub fn show_unended(from: Side, rest: &[u8], story: &mut Story) {
    if !rest.is_empty() {
        story.said(from, &[Piece::Hidden(rest.len())], Ended::Open);
    }
}

/// A line that was too long to be kept.
pub fn note_too_long(from: Side, story: &mut Story) {
    story.note(from, format_args!("line of more than {LINE_LIMIT} bytes, not shown"));
}

/// Bytes that came behind STARTTLS before the server had agreed (CVE-2011-0411).
pub fn note_injection(waiting: &[u8], story: &mut Story) {
    match waiting {
        [] => {}
        waiting if is_tls(waiting) => story.note(Side::Client, "TLS before the reply to STARTTLS"),
        _ => {
            let count = waiting.len();
            let what = format_args!("INJECTION: {count} bytes in clear behind STARTTLS");
            story.note(Side::Client, what);
        }
    }
}

/// The first word, and what follows it and its blanks.
pub fn cut_word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(is_blank).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    let start = rest.iter().position(|byte| !is_blank(byte)).unwrap_or(rest.len());
    (word, rest.get(start..).unwrap_or_default())
}

/// What isspace(3) takes for a blank, the line ends left out.
pub fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c)
}

/// Whether this is one of these words, in any case of letters.
pub fn is_among(word: &[u8], words: &[&str]) -> bool {
    words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

/// A command of which only the verb (behind its tag) may be seen.
pub fn show_verb(verb: &[u8], args: &[u8], ended: Ended, story: &mut Story) {
    let pieces = [Piece::Shown(verb), Piece::Shown(b" "), Piece::Hidden(args.len())];
    let count = if args.is_empty() { 1 } else { 3 };
    story.said(Side::Client, pieces.get(..count).unwrap_or(&pieces), ended);
}

/// A line that is no command we know, and so may be anything.
pub fn show_unknown(text: &[u8], ended: Ended, story: &mut Story) {
    let (method, rest) = cut_word(text);
    if HTTP.iter().any(|known| method == known.as_bytes())
        && rest.windows(6).any(|window| window == b" HTTP/")
    {
        story.note(Side::Client, "HTTP on this port");
    }
    story.said(Side::Client, &[Piece::Hidden(text.len())], ended);
}

/// Commands sent without waiting, as long as replies are due: where something in one of them is hidden, the reply to any of them may
/// repeat it, since servers answer empty lines or not, and some answer twice.
#[derive(Debug, Default)]
pub struct Burst {
    secret: bool,
}

impl Burst {
    /// A command goes by, while replies are due or not.
    pub fn asked(&mut self, replies_due: bool, secret: bool) {
        self.secret = secret || self.secret && replies_due;
    }

    /// Whether of replies only the codes may be seen.
    pub fn hides(&self) -> bool {
        self.secret
    }
}

/// Longest line that is kept: longer than any AUTH line that a server takes (RFC 4954 4: 12,288 bytes).
pub const LINE_LIMIT: usize = 64 * 1024;

/// Most bytes of a client that wait for a reply which decides what they are.
pub const HELD_LIMIT: usize = 64 * 1024;

/// Most commands without their replies.
pub const PENDING_LIMIT: usize = wire::PIPELINE_LIMIT;

/// Why nothing more is shown.
pub const BARE_CR: &str = "a bare CR in a command";
/// Why nothing more is shown.
pub const LONG_REPLY: &str = "a reply line without an end";
/// Why nothing more is shown.
pub const TOO_EARLY: &str = "too much was sent before a reply";
/// Why nothing more is shown.
pub const UNASKED: &str = "a reply that nothing explains";

/// RFC 8446 5.1: what the first record of a client is.
const TLS_HANDSHAKE: u8 = 22;

/// RFC 9110 9.3.
pub const HTTP: [&str; 8] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
