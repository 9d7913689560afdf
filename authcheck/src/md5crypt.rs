//! $1$ hashes, as FreeBSD's crypt(3) of 1994 makes them: to be read, in databases of that age, and never to be made.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Whether `password` is the one that `hash` was made of; none where it is no such hash.
pub fn matches(hash: &str, password: &[u8]) -> Option<bool> {
    let (salt, text) = parts(hash)?;
    Some(encode(&compute(salt.as_bytes(), password)).as_bytes().ct_eq(text.as_bytes()).into())
}

/// Salt and digest of `$1$SALT$DIGEST`.
pub fn parts(hash: &str) -> Option<(&str, &str)> {
    let (salt, text) = hash.strip_prefix("$1$")?.split_once('$')?;
    let known = text.bytes().all(|byte| ALPHABET.contains(&byte));
    (salt.len() <= SALT_MAX && text.len() == TEXT && known).then_some((salt, text))
}

fn compute(salt: &[u8], password: &[u8]) -> Zeroizing<[u8; 16]> {
    let mut digest = md5(&[password, salt, password]);
    let mut first = Md5::new_with_prefix(password).chain_update(b"$1$").chain_update(salt);
    for part in password.chunks(digest.len()) {
        first.update(digest.get(..part.len()).unwrap_or_default());
    }
    let mut bits = password.len();
    while bits > 0 {
        // What looks like a slip in the original is the scheme by now.
        let odd = bits & 1 == 1;
        first.update(if odd { &[0][..] } else { password.get(..1).unwrap_or_default() });
        bits >>= 1;
    }
    *digest = first.finalize().into();
    for round in 0..ROUNDS {
        let odd = round & 1 == 1;
        let (begin, end) = if odd { (password, &digest[..]) } else { (&digest[..], password) };
        let salt = if round % 3 > 0 { salt } else { b"" };
        let again = if round % 7 > 0 { password } else { b"" };
        digest = md5(&[begin, salt, again, end]);
    }
    digest
}

fn md5(parts: &[&[u8]]) -> Zeroizing<[u8; 16]> {
    let mut md5 = Md5::new();
    parts.iter().for_each(|part| md5.update(part));
    Zeroizing::new(md5.finalize().into())
}

/// crypt(3)'s own order of bytes, six bits to a character.
fn encode(digest: &[u8; 16]) -> String {
    let byte = |at: usize| u32::from(digest.get(at).copied().unwrap_or_default());
    let groups =
        ORDER.map(|[high, middle, low]| (byte(high) << 16 | byte(middle) << 8 | byte(low), 4));
    let characters = groups.into_iter().chain([(byte(11), 2)]).flat_map(|(bits, count)| {
        (0..count).map(move |place| {
            let six = usize::try_from(bits >> (6_u32.saturating_mul(place)) & 63).unwrap_or(0);
            char::from(ALPHABET.get(six).copied().unwrap_or_default())
        })
    });
    characters.collect()
}

const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
/// crypt(3)'s own digits of base 64.
pub const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ROUNDS: usize = 1_000;
const SALT_MAX: usize = 8;
const TEXT: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    // Made by openssl passwd -1 and mkpasswd -m md5crypt.
    #[test]
    fn hashes_of_other_programs() {
        for (password, hash) in [
            ("abc", "$1$ab./cdEF$hz2T5wCoafmxeg3mHlWiW0"),
            ("", "$1$ab./cdEF$AQ/b9G0NTUBhM49VvV5el1"),
            ("tanstaaf", "$1$ab./cdEF$wULB6vtfAyzPB6sJDz/RD0"),
            ("a long password with more than sixteen bytes", "$1$ab./cdEF$wUwTaZQ//XR.S3W53ly2//"),
            ("secret", "$1$/alf.QlS$eTgQyOf74eEtm5ZG7jzH40"),
        ] {
            assert_eq!(matches(hash, password.as_bytes()), Some(true), "{password}");
            assert_eq!(matches(hash, b"another"), Some(false));
        }
    }

    #[test]
    fn what_is_none() {
        for hash in [
            "",
            "$1$",
            "$1$salt",
            "$1$salt$hash",
            "$1$saltsalts$hz2T5wCoafmxeg3mHlWiW0",
            "$1$s$hz2T5wCoafmxeg3mHlWiW!",
        ] {
            assert_eq!(matches(hash, b"x"), None, "{hash}");
        }
    }
}
