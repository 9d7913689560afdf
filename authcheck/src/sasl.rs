//! SASL's mechanisms, the server's side: what the client has said, and what is asked of it next.

use crate::cram;
use crate::scram::{Challenge, Channel, ClientFirst, Fault};
use crate::secret::Secret;
use crate::verify::Proof;

/// The mechanisms, in the order in which they are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256 with channel binding (RFC 7677).
    ScramSha256Plus,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN (never standardised).
    Login,
    /// CRAM-MD5 (RFC 2195).
    CramMd5,
}

/// What the client's next message will be.
#[derive(Debug)]
pub enum Exchange {
    /// PLAIN's one message.
    Plain,
    /// LOGIN's first answer.
    LoginName,
    /// LOGIN's second answer.
    LoginPassword(Vec<u8>),
    /// The answer to this challenge.
    Cram(Vec<u8>),
    /// SCRAM's first message.
    ScramFirst,
    /// SCRAM's final message.
    ScramFinal(Box<Challenge>),
    /// The empty answer to the server's final message, by this login.
    ScramEnd(Vec<u8>),
}

/// What a message leads to.
#[derive(Debug)]
pub enum Step {
    /// The next challenge (334), and what is expected then.
    Ask(Vec<u8>, Exchange),
    /// Is this proof right?
    Judge(Vec<u8>, Proof),
    /// Which salt has this client? Then ask its challenge.
    Salt(ClientFirst),
    /// SCRAM: the proof is right; if the account may be used, this message goes to the client.
    Proven(Vec<u8>, Vec<u8>),
    /// SCRAM: the proof of this login is wrong.
    Disproven(Vec<u8>),
    /// SCRAM: the client has seen that we know its verifier.
    Done(Vec<u8>),
    /// The message is malformed, or asks for what cannot be.
    Fault(Fault),
}

impl Mechanism {
    /// Every mechanism, in the order in which they are offered.
    pub const ALL: [Self; 5] =
        [Self::ScramSha256Plus, Self::ScramSha256, Self::Plain, Self::Login, Self::CramMd5];

    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
        }
    }

    /// The mechanism with this name, in any case of letters.
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|one| name.eq_ignore_ascii_case(one.name().as_bytes()))
    }

    /// What is asked first, where the client has sent no initial response: the challenge, and the exchange that it begins.
    pub fn begin(self, random: &[u8; 16], host: &str) -> (Vec<u8>, Exchange) {
        match self {
            Self::ScramSha256Plus | Self::ScramSha256 => (Vec::new(), Exchange::ScramFirst),
            Self::Plain => (Vec::new(), Exchange::Plain),
            Self::Login => (LOGIN_NAME.to_vec(), Exchange::LoginName),
            Self::CramMd5 => {
                let challenge = cram::challenge(random, host);
                (challenge.clone(), Exchange::Cram(challenge))
            }
        }
    }

    /// Whether the client speaks first (RFC 4954 4: only then it may send an initial response).
    pub fn client_first(self) -> bool {
        self != Self::CramMd5
    }
}

impl Exchange {
    /// Takes the client's message, base64 already off.
    pub fn answer(self, message: &[u8], channel: Channel<'_>) -> Step {
        match self {
            Self::Plain => plain(message),
            Self::LoginName => {
                Step::Ask(LOGIN_PASSWORD.to_vec(), Self::LoginPassword(message.to_vec()))
            }
            Self::LoginPassword(_) if message.contains(&0) => Step::Fault(Fault::Malformed),
            Self::LoginPassword(login) => Step::Judge(login, Proof::Password(message.into())),
            Self::Cram(challenge) => cram(challenge, message),
            Self::ScramFirst => match ClientFirst::parse(message, channel) {
                Ok(first) => Step::Salt(first),
                Err(fault) => Step::Fault(fault),
            },
            Self::ScramFinal(challenge) => {
                let login = challenge.login().to_vec();
                match challenge.finish(message) {
                    Ok((login, last)) => Step::Proven(login, last),
                    Err(Fault::Refused) => Step::Disproven(login),
                    Err(fault) => Step::Fault(fault),
                }
            }
            Self::ScramEnd(login) if message.is_empty() => Step::Done(login),
            Self::ScramEnd(_) => Step::Fault(Fault::Malformed),
        }
    }
}

/// `authzid NUL authcid NUL password`; nobody may act for somebody else (RFC 4616 2).
fn plain(message: &[u8]) -> Step {
    let fields: Vec<_> = message.split(|byte| *byte == 0).collect();
    match fields[..] {
        [_, login, password] if login.is_empty() || password.is_empty() => {
            Step::Fault(Fault::Malformed)
        }
        [authzid, login, password] if authzid.is_empty() || authzid == login => {
            Step::Judge(login.to_vec(), Proof::Password(Secret::from(password)))
        }
        [_, _, _] => Step::Fault(Fault::Refused),
        _ => Step::Fault(Fault::Malformed),
    }
}

/// `login SP digest`; the login may hold blanks itself (RFC 2195 2).
fn cram(challenge: Vec<u8>, message: &[u8]) -> Step {
    let at = message.iter().rposition(|byte| *byte == b' ').unwrap_or(message.len());
    match message.split_at_checked(at) {
        Some((login, [b' ', digest @ ..])) if cram::is_digest(digest) => {
            Step::Judge(login.to_vec(), Proof::Cram { challenge, digest: digest.to_vec() })
        }
        _ => Step::Fault(Fault::Malformed),
    }
}

/// What every client of LOGIN waits for.
const LOGIN_NAME: &[u8] = b"Username:";
const LOGIN_PASSWORD: &[u8] = b"Password:";

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(step: Step) -> Result<(Vec<u8>, Proof), Fault> {
        match step {
            Step::Judge(login, proof) => Ok((login, proof)),
            Step::Fault(fault) => Err(fault),
            other => panic!("{other:?}"),
        }
    }

    // RFC 4616 2: message = [authzid] UTF8NUL authcid UTF8NUL passwd
    #[test]
    fn plain_messages() {
        let secret = || Proof::Password(b"tanstaaftanstaaf"[..].into());
        for (message, result) in [
            (&b"\0tim\0tanstaaftanstaaf"[..], Ok((b"tim".to_vec(), secret()))),
            (b"tim\0tim\0tanstaaftanstaaf", Ok((b"tim".to_vec(), secret()))),
            (b"Ursel\0Kurt\0xipj3plmq", Err(Fault::Refused)),
            (b"\0tim\0", Err(Fault::Malformed)),
            (b"\0\0tanstaaftanstaaf", Err(Fault::Malformed)),
            (b"tim\0tanstaaftanstaaf", Err(Fault::Malformed)),
            (b"\0tim\0tanstaaf\0tanstaaf", Err(Fault::Malformed)),
            (b"\0tim\0tanstaaf\0", Err(Fault::Malformed)),
            (b"", Err(Fault::Malformed)),
        ] {
            let step = Exchange::Plain.answer(message, Channel::None);
            assert_eq!(judged(step), result, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn login_asks_twice() {
        let (challenge, exchange) = Mechanism::Login.begin(&[0; 16], "h");
        assert_eq!(challenge, b"Username:");
        let Step::Ask(challenge, exchange) = exchange.answer(b"tim", Channel::None) else {
            panic!()
        };
        assert_eq!(challenge, b"Password:");
        let judge = judged(exchange.answer(b"secret", Channel::None)).unwrap();
        assert_eq!(judge, (b"tim".to_vec(), Proof::Password(b"secret"[..].into())));
        let nul = Exchange::LoginPassword(b"tim".to_vec()).answer(b"sec\0ret", Channel::None);
        assert_eq!(judged(nul), Err(Fault::Malformed));
    }

    // RFC 2195 2: the user name may hold blanks: the digest is behind the last one.
    #[test]
    fn cram_answers() {
        let digest = "b913a602c7eda7a495b4e6e7334d3890";
        let (challenge, _) = Mechanism::CramMd5.begin(&[1; 16], "mail.example.org");
        assert_eq!(challenge, b"<01010101010101010101010101010101@mail.example.org>");
        for (message, login) in [
            (format!("tim {digest}"), Some("tim")),
            (format!("tim tom {digest}"), Some("tim tom")),
            (format!("tim {}", digest.to_uppercase()), None),
            (format!("tim {digest} "), None),
            (digest.to_owned(), None),
            (String::new(), None),
        ] {
            let exchange = Exchange::Cram(challenge.clone());
            let judged = judged(exchange.answer(message.as_bytes(), Channel::None)).ok();
            let proof = Proof::Cram { challenge: challenge.clone(), digest: digest.into() };
            assert_eq!(judged, login.map(|login| (login.into(), proof)), "{message}");
        }
    }

    #[test]
    fn names() {
        for mechanism in Mechanism::ALL {
            let name = mechanism.name().to_ascii_lowercase();
            assert_eq!(Mechanism::parse(name.as_bytes()), Some(mechanism));
        }
        assert_eq!(Mechanism::parse(b"DIGEST-MD5"), None);
        assert_eq!(Mechanism::parse(b"PLAIN "), None);
    }

    #[test]
    fn no_answer_makes_any_exchange_panic() {
        let mut seed = 1_u32;
        for length in 0..2_000 {
            let message: Vec<u8> = (0..length % 60)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b"nyp=,r\0 abc\xff"[usize::try_from(seed >> 24).unwrap() % 12]
                })
                .collect();
            for exchange in
                [Exchange::Plain, Exchange::LoginName, Exchange::Cram(vec![]), Exchange::ScramFirst]
            {
                drop(exchange.answer(&message, Channel::None));
            }
        }
    }
}
