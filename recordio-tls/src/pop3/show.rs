//! What may be seen of POP3's PASS, APOP and status lines.

use plumb::middle::Side;

use super::Asked;
use crate::redact::{cut_word, show_verb};
use crate::story::{Ended, Piece, Story};

/// PASS, whose password may have blanks in it, or with a user's name in front of what is hidden, as APOP has its digest (RFC 1939 7).
pub(super) fn show_secret(verb: &[u8], args: &[u8], named: bool, ended: Ended, story: &mut Story) {
    let (user, digest) = cut_word(args);
    if !named || digest.is_empty() {
        return show_verb(verb, args, ended, story);
    }
    let blank = Piece::Shown(b" ");
    let [verb, user, digest] =
        [Piece::Shown(verb), Piece::Shown(user), Piece::Hidden(digest.len())];
    story.said(Side::Client, &[verb, blank, user, blank, digest], ended);
}

/// A status line; of the greeting, and of replies to what was hidden, only a part.
pub(super) fn show_status(
    asked: Asked,
    text: &[u8],
    words: &[u8],
    ended: Ended,
    story: &mut Story,
) {
    let hidden = match asked {
        Asked::Secret | Asked::Auth => words.len(),
        // RFC 1939 7: the stamp that an APOP digest is made with.
        Asked::Greeting => words
            .iter()
            .position(|&byte| byte == b'<')
            .map_or(0, |at| words.len().saturating_sub(at)),
        _ => 0,
    };
    let shown = text.get(..text.len().saturating_sub(hidden)).unwrap_or_default();
    let pieces = [Piece::Shown(shown), Piece::Hidden(hidden)];
    story.said(Side::Server, if hidden == 0 { &pieces[..1] } else { &pieces }, ended);
}
