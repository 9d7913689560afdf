//! Reply lines.

/// One line of a reply (RFC 5321 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLine<'a> {
    /// The reply code, 100 to 599.
    pub code: u16,
    /// Whether no further line of this reply follows.
    pub last: bool,
    /// The text behind the code and its mark.
    pub text: &'a [u8],
}

impl<'a> ReplyLine<'a> {
    /// Takes a line without its end apart; none if it is no reply line.
    pub fn parse(line: &'a [u8]) -> Option<ReplyLine<'a>> {
        let (digits, rest) = line.split_at_checked(3)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let code = str::from_utf8(digits).ok()?.parse().ok()?;
        let (last, text) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return None,
        };
        (100..600).contains(&code).then_some(ReplyLine { code, last, text })
    }

    /// Whether the command was carried out (RFC 5321 4.2.1: a code of 2yz).
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 5321 4.2: Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
    #[test]
    fn reply_lines() {
        for (line, reply) in [
            (&b"250 ok"[..], Some((250, true, &b"ok"[..]))),
            (b"250-more", Some((250, false, b"more"))),
            (b"250", Some((250, true, b""))),
            (b"334 ", Some((334, true, b""))),
            (b"25", None),
            (b"2500 ok", None),
            (b"ok", None),
            (b"099 low", None),
            (b"600 high", None),
            (b"+12 x", None),
            (b"250_x", None),
        ] {
            let parsed = ReplyLine::parse(line).map(|l| (l.code, l.last, l.text));
            assert_eq!(parsed, reply, "{}", line.escape_ascii());
        }
    }
}
