//! The marks of IMAP's literals.

/// What the end of a line says about the octets behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The line is complete.
    None,
    /// So many octets follow if the other side agrees (RFC 9051 4.3).
    Asks(u64),
    /// So many octets follow at once (RFC 7888).
    Follows(u64),
    /// Some readers would see a literal here, others would not.
    Odd,
}

/// Looks at the end of a line.
pub fn marker(line: &[u8]) -> Marker {
    let Some(inside) = line.strip_suffix(b"}") else { return Marker::None };
    let Some(brace) = inside.iter().rposition(|&byte| byte == b'{') else { return Marker::None };
    let (before, size) = inside.split_at_checked(brace).unwrap_or_default();
    let size = size.strip_prefix(b"{").unwrap_or(size);
    let (digits, follows) = match size {
        [digits @ .., b'+' | b'-'] => (digits, true),
        digits => (digits, false),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Marker::None;
    }
    let before = before.strip_suffix(b"~").unwrap_or(before);
    if !matches!(before, [] | [.., b' ' | b'(']) {
        return Marker::Odd;
    }
    match str::from_utf8(digits).map(str::parse) {
        Ok(Ok(count)) if follows => Marker::Follows(count),
        Ok(Ok(count)) => Marker::Asks(count),
        _ => Marker::Odd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9051 4.3: a number in braces, and CRLF; RFC 7888 3: with a plus sign.
    #[test]
    fn markers() {
        for (line, found) in [
            (&b"a LOGIN {4}"[..], Marker::Asks(4)),
            (b"a LOGIN {0}", Marker::Asks(0)),
            (b"a LOGIN {11+}", Marker::Follows(11)),
            (b"a APPEND x {11-}", Marker::Follows(11)),
            (b"a APPEND x ~{11}", Marker::Asks(11)),
            (b"* 1 FETCH (BODY[] {3}", Marker::Asks(3)),
            (b"x ({3}", Marker::Asks(3)),
            (b"{3}", Marker::Asks(3)),
            (b"a LOGIN u p{4}", Marker::Odd),
            (b"a LOGIN \"u {4}\"", Marker::None),
            (b"a LOGIN {99999999999999999999}", Marker::Odd),
            (b"a LOGIN {}", Marker::None),
            (b"a LOGIN {+}", Marker::None),
            (b"a LOGIN {4x}", Marker::None),
            (b"a LOGIN u}", Marker::None),
            (b"a NOOP", Marker::None),
        ] {
            assert_eq!(marker(line), found, "{}", line.escape_ascii());
        }
    }
}
