//! IMAP's commands, and what may be seen of them.

use plumb::relay::Side;

use super::{KEYWORD_MAX, Kind};
use crate::redact::{Settings, cut_word};
use crate::story::{Ended, Piece, Story};

/// RFC 9051 6.2.3: LOGIN user password, both as atoms, quoted or as literals.
pub(super) fn show_login(
    head: &[u8],
    args: &[u8],
    settings: Settings,
    ended: Ended,
    story: &mut Story,
) {
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

/// Whether a word looks like a tag, and not like a secret.
pub(super) fn is_tag(word: &[u8]) -> bool {
    word.len() <= KEYWORD_MAX && word.iter().all(u8::is_ascii_alphanumeric)
}

/// Commands that we know, and what is known of them; anything else is hidden.
pub(super) const COMMANDS: &[(&str, Kind)] = &[
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
