//! Message bodies: where they end, and what some other reader might take for their end.

use crate::scan::find_line_end;

/// What a look at a part of a body found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The body goes on.
    More,
    /// CRLF.CRLF: the body is over (RFC 5321 4.1.1.4).
    End,
    /// A dot between other line ends than exactly these: some smtpd would end the message here.
    Ambiguous,
}

/// Follows a body that passes unchanged to somebody else's decoder.
#[derive(Debug)]
pub struct Body {
    seen: Seen,
    draining: bool,
}

/// What the last bytes were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing of interest.
    Text,
    /// CR.
    Cr,
    /// CR LF, or the beginning of the body.
    CrLf,
    /// A bare LF, or any line end with NULs behind it.
    LooseEnd,
    /// A dot behind any of these ends, perhaps with NULs behind it; not the one of CRLF.CRLF.
    Dot,
}

impl Default for Body {
    fn default() -> Body {
        Body::new()
    }
}

impl Body {
    /// At the beginning of a body.
    pub fn new() -> Body {
        Body { seen: Seen::CrLf, draining: false }
    }

    /// How many of `bytes` may pass on, and why no more may.
    ///
    /// With `More`, what is left over (a dot, or a dot and CR) must be shown again with what follows it.
    /// With `End`, the end has passed. With `Ambiguous`, the byte that some smtpd would take for the
    /// last of the message has not.
    pub fn scan(&mut self, bytes: &[u8]) -> (usize, Verdict) {
        let mut passed: usize = 0;
        loop {
            let rest = bytes.get(passed..).unwrap_or_default();
            if self.seen == Seen::Text {
                let plain = find_line_end(rest).unwrap_or(rest.len());
                passed = passed.saturating_add(plain);
            }
            let rest = bytes.get(passed..).unwrap_or_default();
            if self.seen == Seen::CrLf
                && let Some((length, verdict)) = self.dot_line(rest)
            {
                return (passed.saturating_add(length), verdict);
            }
            let Some(&byte) = rest.first() else { return (passed, Verdict::More) };
            let (seen, ambiguous) = step(self.seen, byte);
            if ambiguous && !self.draining {
                return (passed, Verdict::Ambiguous);
            }
            self.seen = seen;
            passed = passed.saturating_add(1);
        }
    }

    /// From here on only the true end counts, and nothing passes.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Looks ahead from the start of a line: what a dot there means, where it is more than text.
    fn dot_line(&self, rest: &[u8]) -> Option<(usize, Verdict)> {
        match rest {
            [b'.'] | [b'.', b'\r'] => Some((0, Verdict::More)),
            [b'.', b'\r', b'\n', ..] => Some((3, Verdict::End)),
            [b'.', b'\r' | b'\n', ..] if !self.draining => Some((0, Verdict::Ambiguous)),
            _ => None,
        }
    }
}

/// The next state, and whether this byte ends a message for some smtpd but not by RFC 5321.
fn step(seen: Seen, byte: u8) -> (Seen, bool) {
    use Seen::*;
    let next = match (seen, byte) {
        (CrLf | Cr | LooseEnd, b'.') | (Dot, 0) => Dot,
        (CrLf | Cr | LooseEnd, 0) => LooseEnd,
        (Cr, b'\n') => CrLf,
        (_, b'\r') => Cr,
        (_, b'\n') => LooseEnd,
        _ => Text,
    };
    (next, seen == Dot && matches!(byte, b'\r' | b'\n'))
}

/// Turns a body into what qmail-queue reads: dots unstuffed, lines ended by LF (RFC 5321 4.5.2).
#[derive(Debug)]
pub struct Decoder {
    line: Decoded,
    bare: bool,
}

/// What the decoder has seen last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decoded {
    Text,
    AfterCr,
    AfterCrLf,
    AfterDot,
    AfterDotCr,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// At the beginning of a body that ends with CRLF.CRLF.
    pub fn new() -> Decoder {
        Decoder { line: Decoded::AfterCrLf, bare: false }
    }

    /// Appends what `bytes` stand for to `out`; returns how many were used and whether the body is over.
    pub fn decode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        let mut used: usize = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            if self.line == Decoded::Text {
                let plain = find_line_end(rest).unwrap_or(rest.len());
                out.extend_from_slice(rest.get(..plain).unwrap_or_default());
                used = used.saturating_add(plain);
            }
            let Some(&byte) = bytes.get(used) else { return (used, false) };
            used = used.saturating_add(1);
            if self.line == Decoded::AfterDotCr && byte == b'\n' {
                return (used, true);
            }
            self.line = self.put(byte, out);
        }
    }

    /// Whether a bare CR or a bare LF was in it; such a message must not be queued.
    pub fn saw_bare(&self) -> bool {
        self.bare
    }

    /// Appends what the octets of a chunk stand for to `out`: no dots are stuffed there (RFC 3030 2).
    pub fn decode_chunk(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        if matches!(self.line, Decoded::AfterCrLf | Decoded::AfterDot | Decoded::AfterDotCr) {
            self.line = Decoded::Text;
        }
        while let Some((&byte, rest)) = octets.split_first() {
            if self.line == Decoded::Text {
                let plain = find_line_end(octets).unwrap_or(octets.len());
                let (text, rest) = octets.split_at_checked(plain).unwrap_or((octets, &[]));
                out.extend_from_slice(text);
                octets = rest;
                if !text.is_empty() {
                    continue;
                }
            }
            self.line = match self.put(byte, out) {
                Decoded::AfterCr => Decoded::AfterCr,
                _ => Decoded::Text,
            };
            octets = rest;
        }
    }

    /// Ends a message sent in chunks: a CR that is its last byte is a bare one.
    pub fn finish_chunks(&mut self, out: &mut Vec<u8>) {
        if self.line == Decoded::AfterCr {
            self.bare = true;
            out.push(b'\r');
        }
    }

    fn put(&mut self, byte: u8, out: &mut Vec<u8>) -> Decoded {
        use Decoded::*;
        match (self.line, byte) {
            (AfterCrLf, b'.') => AfterDot,
            (AfterCr, b'\n') => {
                out.push(b'\n');
                AfterCrLf
            }
            (AfterDot, b'\r') => AfterDotCr,
            (AfterCr | AfterDotCr, _) => {
                self.bare = true;
                out.push(b'\r');
                self.line = Text;
                self.put(byte, out)
            }
            (_, b'\r') => AfterCr,
            (_, b'\n') => {
                self.bare = true;
                out.push(b'\n');
                Text
            }
            _ => {
                out.push(byte);
                Text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    const SYMBOLS: [u8; 5] = [b'\r', b'\n', b'.', 0, b'x'];
    const AFTER: &[u8] = b"MAIL FROM:<evil@example.org>\r\n.\r\n";

    /// What reached the far side, and how it ended.
    #[derive(Debug, PartialEq, Eq, Clone)]
    struct Passed {
        bytes: Vec<u8>,
        verdict: Verdict,
        /// How much of the input belongs to the message, up to its true end.
        length: usize,
    }

    fn relay(parts: &[&[u8]]) -> Passed {
        let (mut body, mut buffer, mut bytes) = (Body::new(), Vec::new(), Vec::new());
        let (mut verdict, mut length) = (Verdict::More, 0);
        for part in parts {
            buffer.extend_from_slice(part);
            loop {
                let (count, found) = body.scan(&buffer);
                length += count;
                let passed = buffer.drain(..count);
                if verdict == Verdict::More {
                    bytes.extend(passed);
                } else {
                    drop(passed);
                }
                match found {
                    Verdict::More => break,
                    Verdict::End if verdict == Verdict::More => {
                        return Passed { bytes, verdict: Verdict::End, length };
                    }
                    Verdict::End => return Passed { bytes, verdict, length },
                    Verdict::Ambiguous => {
                        assert_eq!(verdict, Verdict::More, "ambiguous twice");
                        verdict = Verdict::Ambiguous;
                        body.drain();
                    }
                }
            }
        }
        Passed { bytes, verdict, length }
    }

    fn decode(parts: &[&[u8]]) -> (Vec<u8>, bool, bool, usize) {
        let (mut decoder, mut out, mut length) = (Decoder::new(), Vec::new(), 0);
        for part in parts {
            let (used, end) = decoder.decode(part, &mut out);
            length += used;
            if end {
                return (out, true, decoder.saw_bare(), length);
            }
        }
        (out, false, decoder.saw_bare(), length)
    }

    /// Every reading of "a dot alone on a line" that is not exactly CRLF.CRLF.
    fn loosely_ended(bytes: &[u8]) -> bool {
        let mut padded = b"\r\n".to_vec();
        padded.extend_from_slice(bytes);
        let text: Vec<u8> = padded.iter().copied().filter(|&byte| byte != 0).collect();
        text.windows(3).any(|w| matches!(w, [b'\r' | b'\n', b'.', b'\r' | b'\n']))
    }

    fn all_strings(longest: usize, mut check: impl FnMut(&[u8])) {
        for length in 0..=longest {
            let count = SYMBOLS.len().pow(u32::try_from(length).unwrap());
            for mut index in 0..count {
                let string: Vec<u8> = (0..length)
                    .map(|_| {
                        let symbol = SYMBOLS[index % SYMBOLS.len()];
                        index /= SYMBOLS.len();
                        symbol
                    })
                    .collect();
                check(&string);
            }
        }
    }

    fn around(string: &[u8]) -> Vec<Vec<u8>> {
        [&b""[..], b"\r\n", b"body", b"body\r\n"]
            .iter()
            .map(|before| [before, string, AFTER].concat())
            .collect()
    }

    // DESIGN 6.4: relay and smtpd agree, and what a smtpd that ends at LF.LF, LF.CRLF, CRLF.LF or CR.CR
    // would take for an end never reaches it; RFC 5321 4.1.1.4: only CRLF.CRLF is the end.
    #[test]
    fn relay_and_decoder_agree_on_every_string() {
        all_strings(6, |string| {
            for input in around(string) {
                let shown = input.escape_ascii();
                let relayed = relay(&[&input]);
                let (text, ended, bare, length) = decode(&[&input]);
                assert!(ended, "{shown}");
                assert_eq!(length, relayed.length, "{shown}");
                if relayed.verdict == Verdict::Ambiguous {
                    assert!(!loosely_ended(&relayed.bytes), "{shown}");
                } else {
                    assert_eq!(relayed.bytes, &input[..length], "{shown}");
                    let body = &relayed.bytes[..length - 3];
                    assert!(!loosely_ended(body), "{shown}");
                    assert_eq!(bare, has_bare(body), "{shown}");
                }
                assert!(bare || !text.contains(&b'\r'), "{shown}");
            }
        });
    }

    #[test]
    fn every_split_gives_the_same() {
        all_strings(6, |string| {
            let input = [string, AFTER].concat();
            let (whole, decoded) = (relay(&[&input]), decode(&[&input]));
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(relay(&bytes), whole);
            assert_eq!(decode(&bytes), decoded);
            for at in 0..=string.len() + 3 {
                let (first, second) = input.split_at(at);
                assert_eq!(relay(&[first, second]), whole, "{} {at}", input.escape_ascii());
                assert_eq!(decode(&[first, second]), decoded);
            }
        });
    }

    fn has_bare(bytes: &[u8]) -> bool {
        let mut before = 0;
        let mut bare = false;
        for &byte in bytes.iter().chain(b"x") {
            bare |= (byte == b'\n') != (before == b'\r');
            before = byte;
        }
        bare
    }

    // RFC 5321 4.5.2: a leading dot is removed once.
    #[test]
    fn dots_are_unstuffed_once_and_lines_end_with_lf() {
        for (input, text) in [
            (&b".\r\n"[..], &b""[..]),
            (b"a\r\n.\r\n", b"a\n"),
            (b"..\r\n.x\r\n...\r\n.\r\n", b".\nx\n..\n"),
            (b"a.b\r\n\r\n.\r\n", b"a.b\n\n"),
            (b"nul\0\xff\r\n.\r\n", b"nul\0\xff\n"),
        ] {
            assert_eq!(decode(&[input]), (text.to_vec(), true, false, input.len()));
        }
    }

    // RFC 3030 2: the octets of a chunk are not dot-stuffed and need not end in CRLF.
    #[test]
    fn chunks_decode_the_same_however_they_are_cut() {
        for (input, text, bare) in [
            (&b".\r\n..x\r\n.\r\n"[..], &b".\n..x\n.\n"[..], false),
            (b"no end", b"no end", false),
            (b"\r\n", b"\n", false),
            (b"a\rb\r\n", b"a\rb\n", true),
            (b"a\nb\r\n", b"a\nb\n", true),
            (b"a\r", b"a\r", true),
            (b"a\r\r\n", b"a\r\n", true),
        ] {
            for at in 0..=input.len() {
                let (mut decoder, mut out) = (Decoder::new(), Vec::new());
                decoder.decode_chunk(&input[..at], &mut out);
                decoder.decode_chunk(&input[at..], &mut out);
                decoder.finish_chunks(&mut out);
                assert_eq!((&out[..], decoder.saw_bare()), (text, bare), "{at}");
            }
        }
    }
}
