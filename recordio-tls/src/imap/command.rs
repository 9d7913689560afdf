//! IMAP's commands, and what may be seen of them.

use plumb::middle::Side;

use super::{Imap, KEYWORD_MAX, Kind, Pending};
use crate::exchange::Exchange;
use crate::redact::{self, Settings, cut_word};
use crate::story::{Ended, Piece, Story};

impl Imap {
    /// Shows a command, but for what authenticates; a tag that does not look like one is hidden, too.
    pub(super) fn show_command(&mut self, text: &[u8], ended: Ended, story: &mut Story) -> Pending {
        let (tag, rest) = cut_word(text);
        let (verb, args) = cut_word(rest);
        let mut pending = Pending {
            tag: tag.to_vec(),
            kind: Kind::Plain,
            tag_hidden: !is_tag(tag),
            secret: true,
        };
        let found = COMMANDS.iter().find(|(name, ..)| verb.eq_ignore_ascii_case(name.as_bytes()));
        let Some(&(_, takes, kind)) = found else {
            pending.tag_hidden = true;
            redact::show_unknown(text, ended, story);
            return pending;
        };
        pending.kind = kind;
        let head = text.get(..text.len().saturating_sub(args.len())).unwrap_or(text);
        let head = head.trim_ascii_end();
        match (kind, takes) {
            _ if pending.tag_hidden => {
                self.exchange = Exchange::Other;
                story.said(Side::Client, &[Piece::Hidden(text.len())], ended);
            }
            (Kind::Authenticate, _) => {
                self.exchange = Exchange::begin(head, args, self.settings.users, ended, story);
            }
            (Kind::Login, _) => show_login(head, args, self.settings, ended, story),
            (Kind::Append, _) => {
                pending.secret = false;
                redact::show_verb(head, args, ended, story);
            }
            (_, Args::Hidden) => redact::show_verb(head, args, ended, story),
            (_, Args::None) if !args.is_empty() => redact::show_verb(head, args, ended, story),
            _ => {
                pending.secret = false;
                story.said(Side::Client, &[Piece::Shown(text)], ended);
            }
        }
        pending
    }
}

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
            b'"' => return (bytes.next() == Some(b' ')).then_some(text),
            b'\\' => text.push(bytes.next()?),
            _ => text.push(byte),
        }
    }
    None
}

/// Whether a word looks like a tag, and not like a secret.
fn is_tag(word: &[u8]) -> bool {
    word.len() <= KEYWORD_MAX
        && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(byte))
}

/// What may be seen behind a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Args {
    /// All.
    Shown,
    /// Nothing: secrets, or what names messages and users.
    Hidden,
    /// There are none; what stands there may be anything.
    None,
}

/// Commands that we know, and what is known of them; anything else is hidden.
const COMMANDS: &[(&str, Args, Kind)] = &[
    ("LOGIN", Args::Hidden, Kind::Login),
    ("AUTHENTICATE", Args::Hidden, Kind::Authenticate),
    ("STARTTLS", Args::None, Kind::StartTls),
    ("COMPRESS", Args::Shown, Kind::Compress),
    ("IDLE", Args::None, Kind::Idle),
    // RFC 4469, 4467: its parts may be given as URLs with a token in them.
    ("APPEND", Args::Hidden, Kind::Append),
    ("CAPABILITY", Args::None, Kind::Plain),
    ("NOOP", Args::None, Kind::Plain),
    ("LOGOUT", Args::None, Kind::Plain),
    ("NAMESPACE", Args::None, Kind::Plain),
    ("CHECK", Args::None, Kind::Plain),
    ("CLOSE", Args::None, Kind::Plain),
    ("UNSELECT", Args::None, Kind::Plain),
    ("EXPUNGE", Args::None, Kind::Plain),
    ("ENABLE", Args::Shown, Kind::Plain),
    ("SELECT", Args::Shown, Kind::Plain),
    ("EXAMINE", Args::Shown, Kind::Plain),
    ("CREATE", Args::Shown, Kind::Plain),
    ("DELETE", Args::Shown, Kind::Plain),
    ("RENAME", Args::Shown, Kind::Plain),
    ("SUBSCRIBE", Args::Shown, Kind::Plain),
    ("UNSUBSCRIBE", Args::Shown, Kind::Plain),
    ("LIST", Args::Shown, Kind::Plain),
    ("LSUB", Args::Shown, Kind::Plain),
    ("XLIST", Args::Shown, Kind::Plain),
    ("STATUS", Args::Shown, Kind::Plain),
    ("SEARCH", Args::Shown, Kind::Plain),
    ("SORT", Args::Shown, Kind::Plain),
    ("THREAD", Args::Shown, Kind::Plain),
    ("FETCH", Args::Shown, Kind::Plain),
    ("STORE", Args::Shown, Kind::Plain),
    ("COPY", Args::Shown, Kind::Plain),
    ("MOVE", Args::Shown, Kind::Plain),
    ("UID", Args::Shown, Kind::Plain),
    ("ID", Args::Hidden, Kind::Plain),
    ("GETQUOTA", Args::Hidden, Kind::Plain),
    ("GETQUOTAROOT", Args::Hidden, Kind::Plain),
    ("GETACL", Args::Hidden, Kind::Plain),
    ("SETACL", Args::Hidden, Kind::Plain),
    ("MYRIGHTS", Args::Hidden, Kind::Plain),
    ("GETMETADATA", Args::Hidden, Kind::Plain),
    ("SETMETADATA", Args::Hidden, Kind::Plain),
    ("NOTIFY", Args::Hidden, Kind::Plain),
    ("GENURLAUTH", Args::Hidden, Kind::Plain),
    ("URLFETCH", Args::Hidden, Kind::Plain),
    ("RESETKEY", Args::Hidden, Kind::Plain),
];
