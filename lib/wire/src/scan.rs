//! Find the bytes that end lines, eight at a time.

/// The place of the first CR or LF.
pub fn find_line_end(bytes: &[u8]) -> Option<usize> {
    let words = bytes.chunks_exact(8);
    let tail = words.remainder();
    let mut offset: usize = 0;
    for word in words {
        let mut octets = [0; 8];
        octets.copy_from_slice(word);
        let word = u64::from_le_bytes(octets);
        let found = zero_bytes(word ^ REPEATED_CR) | zero_bytes(word ^ REPEATED_LF);
        if found != 0 {
            // The lowest marked byte is exact; a borrow can mark only bytes above it.
            let byte = usize::try_from(found.trailing_zeros() / 8).unwrap_or(0);
            return Some(offset.saturating_add(byte));
        }
        offset = offset.saturating_add(8);
    }
    let at = tail.iter().position(|&byte| byte == b'\r' || byte == b'\n')?;
    Some(offset.saturating_add(at))
}

/// The high bit of each byte that is zero (and perhaps of bytes above the first).
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
}

const REPEATED_CR: u64 = u64::from_le_bytes([b'\r'; 8]);
const REPEATED_LF: u64 = u64::from_le_bytes([b'\n'; 8]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_plain_search_at_every_place() {
        for filler in [b'x', 0, 0x0c, 0x0e, 0x0b, 0x8d, 0x8a, 0xff] {
            for length in 0..40 {
                let mut bytes = vec![filler; length];
                assert_eq!(find_line_end(&bytes), None);
                for at in 0..length {
                    for end in [b'\r', b'\n'] {
                        bytes[at] = end;
                        assert_eq!(find_line_end(&bytes), Some(at), "{filler} {length} {at}");
                        if at > 0 {
                            bytes[at - 1] = b'\n';
                            assert_eq!(find_line_end(&bytes), Some(at - 1));
                            bytes[at - 1] = filler;
                        }
                        bytes[at] = filler;
                    }
                }
            }
        }
    }
}
