//! The exchange of a SASL mechanism, of which only the mechanism may be seen, and how long each answer is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plumb::middle::Side;
use zeroize::Zeroizing;

use crate::redact::{cut_word, show_verb};
use crate::story::{Ended, Piece, Story};

/// What the next answer is, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exchange {
    /// `NUL user NUL password`, in base64.
    Plain,
    /// The user's name, in base64.
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
        match line {
            // RFC 4954 4: a cancelled exchange.
            b"*" => Piece::Shown(b"*"),
            // RFC 4954 4: an empty answer, behind which the true one may still come.
            b"=" => {
                *self = exchange;
                Piece::Shown(b"=")
            }
            line => match exchange.user(line).filter(|_| users) {
                Some(name) => {
                    *user = name;
                    Piece::HiddenBut(line.len(), user)
                }
                None => Piece::Hidden(line.len()),
            },
        }
    }

    /// A challenge, of which only the two fixed prompts of LOGIN may be seen.
    pub fn challenge<'a>(&mut self, text: &'a [u8]) -> Piece<'a> {
        match (text, *self) {
            (LOGIN_USER, _) | (b"", Exchange::Plain) => Piece::Shown(text),
            (LOGIN_PASSWORD | b"", _) => {
                *self = Exchange::Other;
                Piece::Shown(text)
            }
            _ => {
                *self = Exchange::Other;
                Piece::Hidden(text.len())
            }
        }
    }

    fn user(self, line: &[u8]) -> Option<Vec<u8>> {
        let plain = Zeroizing::new(STANDARD.decode(line).ok()?);
        match self {
            // RFC 4616 2: [authzid] NUL authcid NUL passwd; with a part missing, the password may stand in its place.
            Exchange::Plain => {
                let mut parts = plain.split(|&byte| byte == 0);
                match [parts.next(), parts.next(), parts.next(), parts.next()] {
                    [Some(_), Some(user), Some(_), None] => Some(user.to_vec()),
                    _ => None,
                }
            }
            Exchange::LoginUser => Some(plain.to_vec()),
            Exchange::Other => None,
        }
    }
}

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
