//! Base64 and hex, strictly.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::secret::Secret;

/// Decodes base64 without any leniency: no blanks, no other alphabet, padding exactly where it belongs (RFC 4954 4).
pub fn decode(text: &[u8]) -> Option<Secret> {
    STANDARD.decode(text).ok().map(Secret::new)
}

/// Encodes to base64 with padding.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes base64 without padding, as PHC strings have it.
pub fn decode_unpadded(text: &str) -> Option<Secret> {
    STANDARD_NO_PAD.decode(text).ok().map(Secret::new)
}

/// Encodes to base64 without padding.
pub fn encode_unpadded(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// `N` bytes from lower-case hex.
pub fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 4954 4: "The base64 decoder MUST NOT accept characters outside the alphabet, nor pads that are not at the end."
    #[test]
    fn base64_is_strict() {
        for (text, bytes) in [
            (&b""[..], Some(&b""[..])),
            (b"AGEAYg==", Some(b"\0a\0b")),
            (b"AGEAYg", None),
            (b"AGEAYg=", None),
            (b"AGEAYg===", None),
            (b"=AAA", None),
            (b"AAA=BBB=", None),
            (b"AAA=BBB", None),
            (b"AAAA====", None),
            (b"AG EAYg==", None),
            (b"AGEAYg== ", None),
            (b"AGEAYh==", None),
            (b"AGEA-_==", None),
            (b"*", None),
            (b"\xff\xff\xff\xff", None),
        ] {
            assert_eq!(decode(text).as_deref(), bytes, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn hex_is_lower_case() {
        assert_eq!(unhex(b"00ff7a"), Some([0, 255, 0x7a]));
        assert_eq!(hex(&[0, 255, 0x7a]), "00ff7a");
        for bad in [&b"00FF7a"[..], b"00ff7", b"00ff7a00", b"00ff7g"] {
            assert_eq!(unhex::<3>(bad), None);
        }
    }
}
