//! What the three protocols have in common: lines that readers could disagree on, and mechanisms whose exchange must not be seen.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plumb::relay::Side;
use wire::{Line, LineReader};
use zeroize::Zeroizing;

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
    /// By a TLS handshake.
    Tls,
    /// In a way that two readers could understand differently, for this reason: nothing more of it may be seen.
    Dark(&'static str),
}

/// A line as every reader sees it, or why readers could differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// Text, and how it ended.
    Text(&'a [u8], Ended),
    /// A NUL is in it, which some readers drop and some take for its end.
    Nul(usize, Ended),
    /// Longer than LINE_LIMIT.
    TooLong,
    /// A bare CR is in it, which some readers take for a line end.
    BareCr,
}

/// Looks at a line; a bare LF ends a line for all readers that we know, or makes them refuse it.
pub fn read(line: Line<'_>) -> Read<'_> {
    match line {
        Line::Clean(text) => Read::Text(text, Ended::CrLf),
        Line::Nul(text) => Read::Nul(text.len(), Ended::CrLf),
        Line::Bare(text) if text.contains(&b'\r') => Read::BareCr,
        Line::Bare(text) if text.contains(&0) => Read::Nul(text.len(), Ended::Lf),
        Line::Bare(text) => Read::Text(text, Ended::Lf),
        Line::TooLong => Read::TooLong,
    }
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
pub fn show_unended(from: Side, reader: &LineReader, story: &mut Story) {
    let rest = reader.rest();
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
        [0x16, ..] => story.note(Side::Client, "TLS before the reply to STARTTLS"),
        _ => {
            let count = waiting.len();
            let what = format_args!("INJECTION: {count} bytes in clear behind STARTTLS");
            story.note(Side::Client, what);
        }
    }
}

/// The first word, and what follows it and its blanks.
pub fn cut_word(text: &[u8]) -> (&[u8], &[u8]) {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | 0x0b | 0x0c);
    let end = text.iter().position(blank).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    let start = rest.iter().position(|byte| !blank(byte)).unwrap_or(rest.len());
    (word, rest.get(start..).unwrap_or_default())
}

/// Whether a word that is no command we know looks like one of an extension, and not like a secret.
pub fn is_like_a_verb(word: &[u8]) -> bool {
    word.len() <= VERB_MAX && word.iter().all(u8::is_ascii_alphabetic)
}

/// A command of which only the verb (behind its tag) may be seen.
pub fn show_verb(verb: &[u8], args: &[u8], ended: Ended, story: &mut Story) {
    let pieces = [Piece::Shown(verb), Piece::Shown(b" "), Piece::Hidden(args.len())];
    let count = if args.is_empty() { 1 } else { 3 };
    story.said(Side::Client, pieces.get(..count).unwrap_or(&pieces), ended);
}

/// What follows a mechanism's name, and what else is known of the exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exchange {
    /// The next answer is `NUL user NUL password`, in base64.
    Plain,
    /// The next answer is the user's name, in base64.
    LoginUser,
    /// Nothing in it can be told apart.
    #[default]
    Other,
}

impl Exchange {
    /// The exchange that a mechanism's name opens; none for a word that is no known mechanism and so may be anything.
    fn open(mechanism: &[u8]) -> Option<Exchange> {
        let name =
            MECHANISMS.iter().find(|name| mechanism.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(match *name {
            "PLAIN" => Exchange::Plain,
            "LOGIN" => Exchange::LoginUser,
            _ => Exchange::Other,
        })
    }

    /// Shows the command (`verb`, with its tag) that begins an exchange: AUTH mechanism [initial-response] (RFC 4954 4, 5034 4, 4959 3).
    pub fn begin(
        verb: &[u8],
        args: &[u8],
        users: bool,
        ended: Ended,
        story: &mut Story,
    ) -> Exchange {
        let (mechanism, initial) = cut_word(args);
        let Some(mut exchange) = Exchange::open(mechanism) else {
            show_verb(verb, args, ended, story);
            return Exchange::Other;
        };
        let blank = Piece::Shown(b" ");
        let head = [Piece::Shown(verb), blank, Piece::Shown(mechanism)];
        if initial.is_empty() {
            story.said(Side::Client, &head, ended);
        } else {
            let mut user = Vec::new();
            let answer = exchange.answer(initial, users, &mut user);
            story.said(Side::Client, &[&head[..], &[blank, answer]].concat(), ended);
        }
        exchange
    }

    /// Hides an answer, but for the user's name where that was asked for and is certain.
    pub fn answer<'a>(&mut self, line: &[u8], users: bool, user: &'a mut Vec<u8>) -> Piece<'a> {
        let exchange = std::mem::take(self);
        if line == b"*" || line == b"=" {
            // RFC 4954 4: a cancelled exchange, an empty answer.
            *self = if line == b"=" { exchange } else { Exchange::Other };
            return Piece::Shown(if line == b"*" { b"*" } else { b"=" });
        }
        if users && let Some(name) = exchange.user(line) {
            *user = name;
            return Piece::HiddenBut(line.len(), user);
        }
        Piece::Hidden(line.len())
    }

    /// A challenge, of which only the two fixed prompts of LOGIN may be seen.
    pub fn challenge<'a>(&mut self, text: &'a [u8]) -> Piece<'a> {
        match text {
            LOGIN_USER => Piece::Shown(text),
            LOGIN_PASSWORD => {
                *self = Exchange::Other;
                Piece::Shown(text)
            }
            [] => Piece::Shown(text),
            _ => {
                *self = Exchange::Other;
                Piece::Hidden(text.len())
            }
        }
    }

    fn user(self, line: &[u8]) -> Option<Vec<u8>> {
        let plain = Zeroizing::new(STANDARD.decode(line).ok()?);
        match self {
            // RFC 4616 2: [authzid] NUL authcid NUL passwd
            Exchange::Plain => plain.split(|&byte| byte == 0).nth(1).map(<[u8]>::to_vec),
            Exchange::LoginUser => Some(plain.to_vec()),
            Exchange::Other => None,
        }
    }
}

/// Longest line that is kept: longer than any AUTH line that a server takes (RFC 4954 4: 12,288 bytes).
pub const LINE_LIMIT: usize = 64 * 1024;

/// Most bytes of a client that wait for a reply which decides what they are.
pub const HELD_LIMIT: usize = 64 * 1024;

/// Most commands without their replies.
pub const PENDING_LIMIT: usize = wire::PIPELINE_LIMIT;

/// Longest word that is taken for a verb.
const VERB_MAX: usize = 8;

/// "Username:" and "Password:".
const LOGIN_USER: &[u8] = b"VXNlcm5hbWU6";
const LOGIN_PASSWORD: &[u8] = b"UGFzc3dvcmQ6";

/// Words behind AUTH and AUTHENTICATE that are certainly no secret.
const MECHANISMS: [&str; 22] = [
    "PLAIN",
    "LOGIN",
    "CRAM-MD5",
    "CRAM-SHA1",
    "CRAM-SHA256",
    "DIGEST-MD5",
    "SCRAM-SHA-1",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-512",
    "SCRAM-SHA-512-PLUS",
    "XOAUTH2",
    "OAUTHBEARER",
    "GSSAPI",
    "GS2-KRB5",
    "GSS-SPNEGO",
    "NTLM",
    "KERBEROS_V4",
    "EXTERNAL",
    "ANONYMOUS",
    "SKEY",
];

/// Why nothing more is shown.
pub const BARE_CR: &str = "a bare CR in a command";
/// Why nothing more is shown.
pub const LONG_REPLY: &str = "a reply line without an end";
/// Why nothing more is shown.
pub const TOO_EARLY: &str = "too much was sent before a reply";
/// Why nothing more is shown.
pub const UNASKED: &str = "a reply that nothing explains";
