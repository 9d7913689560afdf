//! CRAM-MD5 (RFC 2195): challenges, and the context that stands for the password.

use std::fmt;

use md5::block_api::compress;
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::text;

/// The MD5 states after HMAC's two padded keys: as good as the password for CRAM-MD5, and no more.
///
/// Written as 64 hex digits, outer state first, as other servers' {CRAM-MD5} scheme has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Context {
    outer: State,
    inner: State,
}

type State = Zeroizing<[u32; 4]>;

impl Context {
    /// The context of a password.
    pub fn of(password: &[u8]) -> Self {
        let mut key = [0; BLOCK];
        if password.len() > BLOCK {
            // RFC 2104 2: keys longer than a block are hashed first.
            key.iter_mut().zip(Md5::digest(password)).for_each(|(k, byte)| *k = byte);
        } else {
            key.iter_mut().zip(password).for_each(|(k, byte)| *k = *byte);
        }
        let context = Self {
            outer: after_block(&padded(&key, OUTER)),
            inner: after_block(&padded(&key, INNER)),
        };
        key.zeroize();
        context
    }

    /// Reads 64 lower-case hex digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let bytes = Zeroizing::new(text::unhex::<32>(text)?);
        let (outer, inner) = bytes.split_at(16);
        Some(Self { outer: state(outer), inner: state(inner) })
    }

    /// The 64 hex digits.
    pub fn text(&self) -> String {
        let words = self.outer.iter().chain(self.inner.iter());
        text::hex(&words.flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Whether `digest` answers `challenge`: 32 lower-case hex digits (RFC 2195 2).
    pub fn answers(&self, challenge: &[u8], digest: &[u8]) -> bool {
        let inner = finish(&self.inner, challenge);
        let outer = finish(&self.outer, &inner);
        text::hex(&outer).as_bytes().ct_eq(digest).into()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Context")
    }
}

/// A challenge that never comes again: 128 random bits at `host` (RFC 2195 2).
pub fn challenge(random: &[u8; 16], host: &str) -> Vec<u8> {
    format!("<{}@{host}>", text::hex(random)).into_bytes()
}

/// Whether a field has the form of a challenge.
pub fn is_challenge(field: &[u8]) -> bool {
    field.starts_with(b"<") && field.ends_with(b">") && field.contains(&b'@')
}

/// Whether a field has the form of a digest.
pub fn is_digest(field: &[u8]) -> bool {
    text::unhex::<16>(field).is_some()
}

/// The end of an MD5 that has gone over one block already.
fn finish(state: &State, message: &[u8]) -> [u8; 16] {
    let mut state = state.clone();
    let bits = u64::try_from(message.len().saturating_add(BLOCK)).unwrap_or(u64::MAX);
    let mut rest = message.to_vec();
    // RFC 1321 3.1, 3.2: a one bit, zeroes, the length in bits.
    rest.push(0x80);
    while rest.len() % BLOCK != LENGTH_AT {
        rest.push(0);
    }
    rest.extend_from_slice(&bits.saturating_mul(8).to_le_bytes());
    compress(&mut state, rest.as_chunks::<BLOCK>().0);
    let mut digest = [0; 16];
    for (place, byte) in digest.iter_mut().zip(state.iter().flat_map(|word| word.to_le_bytes())) {
        *place = byte;
    }
    digest
}

fn after_block(block: &[u8; BLOCK]) -> State {
    let mut state = Zeroizing::new(START);
    compress(&mut state, std::slice::from_ref(block));
    state
}

fn padded(key: &[u8; BLOCK], with: u8) -> Zeroizing<[u8; BLOCK]> {
    Zeroizing::new(key.map(|byte| byte ^ with))
}

fn state(bytes: &[u8]) -> State {
    let mut state = Zeroizing::new([0; 4]);
    for (word, four) in state.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*four);
    }
    state
}

/// RFC 1321: bytes of a block, where its length begins in the last one, and the initial state.
const BLOCK: usize = 64;
const LENGTH_AT: usize = 56;
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// RFC 2104 2: opad and ipad.
const OUTER: u8 = 0x5c;
const INNER: u8 = 0x36;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use hmac::{Hmac, KeyInit, Mac};

    use super::*;

    // RFC 2195 2: the example of user tim.
    #[test]
    fn the_vector_of_the_rfc() {
        let context = Context::of(b"tanstaaftanstaaf");
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        assert!(context.answers(challenge, b"b913a602c7eda7a495b4e6e7334d3890"));
        for wrong in [
            &b"b913a602c7eda7a495b4e6e7334d3891"[..],
            b"B913A602C7EDA7A495B4E6E7334D3890",
            b"b913a602c7eda7a495b4e6e7334d389",
            b"",
        ] {
            assert!(!context.answers(challenge, wrong));
        }
        assert!(!context.answers(
            b"<1896.697170953@postoffice.reston.mci.net>",
            b"b913a602c7eda7a495b4e6e7334d3890"
        ));
    }

    #[test]
    fn a_context_is_the_hmac_of_its_password() {
        for password in [&b""[..], b"x", &[b'k'; 63], &[b'k'; 64], &[b'k'; 65], &[b'k'; 300]] {
            for length in [0, 1, 55, 56, 63, 64, 65, 200] {
                let challenge = vec![b'c'; length];
                let mut hmac = Hmac::<Md5>::new_from_slice(password).unwrap();
                hmac.update(&challenge);
                let digest = text::hex(&hmac.finalize().into_bytes());
                assert!(Context::of(password).answers(&challenge, digest.as_bytes()));
            }
        }
    }

    // What `doveadm pw -s CRAM-MD5 -p secret` of 2.3.19 prints.
    #[test]
    fn the_text_of_a_context() {
        let text = "cd3ba7deaad6e5ca23448ba42e379747a9e0f7f1fbc00c8a81bbaac395731b56";
        assert_eq!(Context::of(b"secret").text(), text);
        assert_eq!(Context::parse(text.as_bytes()), Some(Context::of(b"secret")));
        assert_eq!(Context::parse(&text.as_bytes()[1..]), None);
        assert_eq!(format!("{:?}", Context::of(b"x")), "Context");
    }

    #[test]
    fn ten_thousand_challenges_are_all_different() {
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            let mut random = [0; 16];
            plumb::random::fill(&mut random).unwrap();
            let challenge = challenge(&random, "mail.example.org");
            assert!(is_challenge(&challenge));
            assert!(seen.insert(challenge));
        }
    }

    #[test]
    fn forms() {
        assert!(is_digest(b"b913a602c7eda7a495b4e6e7334d3890"));
        assert!(!is_digest(b"b913a602c7eda7a495b4e6e7334d38900"));
        assert!(!is_digest(b"B913A602C7EDA7A495B4E6E7334D3890"));
        for no in [&b"<1896.1>"[..], b"1896@x>", b"<1896@x", b"", b"<>"] {
            assert!(!is_challenge(no));
        }
    }
}
