//! Bytes of a side as they may be seen: printable ASCII, and escapes for the rest.

/// Longest escape: `\xNN`.
pub const ESCAPE_MAX: usize = 4;

/// How many of the first bytes may be seen as they are: printable ASCII, a backslash only where `backslash` says so.
pub fn plain_length(bytes: &[u8], backslash: bool) -> usize {
    let mut length: usize = 0;
    for word in bytes.chunks_exact(8) {
        let mut octets = [0; 8];
        octets.copy_from_slice(word);
        if !is_plain(u64::from_le_bytes(octets)) {
            break;
        }
        length = length.saturating_add(8);
    }
    let rest = bytes.get(length..).unwrap_or_default();
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && (byte != b'\\' || backslash);
    let more = rest.iter().position(|&byte| !plain(byte)).unwrap_or(rest.len());
    length.saturating_add(more)
}

/// Appends one byte that may not be seen as it is.
pub fn escape(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            let digit = |value: u8| HEX.get(usize::from(value)).copied().unwrap_or(b'?');
            out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Whether all eight bytes are printable ASCII and none a backslash.
fn is_plain(word: u64) -> bool {
    let any_below = |word: u64, limit: u64| word.wrapping_sub(ONES.wrapping_mul(limit)) & !word;
    let any_of = |byte: u64| any_below(word ^ ONES.wrapping_mul(byte), 1);
    (word | any_below(word, 0x20) | any_of(0x7f) | any_of(0x5c)) & ONES.wrapping_mul(0x80) == 0
}

/// A one in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    #[test]
    fn words_of_eight_agree_with_single_bytes() {
        for byte in 0..=255_u8 {
            let mut word = [b'~'; 8];
            for place in 0..8 {
                word[place] = byte;
                let plain = matches!(byte, b' '..=b'~') && byte != b'\\';
                assert_eq!(is_plain(u64::from_le_bytes(word)), plain, "{byte}");
                word[place] = b'~';
            }
        }
    }
}
