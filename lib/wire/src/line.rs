//! Cut a stream into lines: bounded, and linear however the input is chopped.

use crate::scan::find_line_end;

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Ended by CRLF and free of any other CR, LF or NUL (RFC 5321 2.3.8).
    Clean(&'a [u8]),
    /// Ended by CRLF, with a NUL in it but no other CR or LF.
    Nul(&'a [u8]),
    /// Ended by a bare LF, or with a bare CR in it.
    Bare(&'a [u8]),
    /// Longer than the limit; its bytes are gone.
    TooLong,
}

/// A buffer that gives out lines and, where a message or a chunk follows, plain bytes.
#[derive(Debug)]
pub struct LineReader {
    buffer: Vec<u8>,
    start: usize,
    searched: usize,
    limit: usize,
    skipping: bool,
}

impl LineReader {
    /// A reader of lines of at most `limit` bytes, their end included.
    pub fn new(limit: usize) -> LineReader {
        LineReader { buffer: Vec::new(), start: 0, searched: 0, limit, skipping: false }
    }

    /// Takes over what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, or none yet.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        let Some(end) = self.find_lf() else {
            self.bound_unfinished();
            return None;
        };
        let begin = self.start;
        self.start = end.saturating_add(1);
        self.searched = self.start;
        let line = self.buffer.get(begin..end)?;
        let too_long = line.len() >= self.limit || self.skipping;
        self.skipping = false;
        if too_long {
            return Some(Line::TooLong);
        }
        Some(classify(line))
    }

    /// What has arrived and was not yet given out.
    pub fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Gives out the first `count` bytes of the rest, or as many as there are.
    pub fn take(&mut self, count: usize) -> &[u8] {
        let begin = self.start;
        self.start = self.start.saturating_add(count).min(self.buffer.len());
        self.searched = self.start;
        self.buffer.get(begin..self.start).unwrap_or_default()
    }

    /// Whether nothing is left, neither a line nor the beginning of one.
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty() && !self.skipping
    }

    fn find_lf(&mut self) -> Option<usize> {
        let mut from = self.searched.max(self.start);
        loop {
            let Some(at) = find_line_end(self.buffer.get(from..)?) else {
                self.searched = self.buffer.len();
                return None;
            };
            let at = from.saturating_add(at);
            if self.buffer.get(at) == Some(&b'\n') {
                return Some(at);
            }
            from = at.saturating_add(1);
        }
    }

    /// Forgets the bytes of a line that is too long already, so that no input without a line end fills memory.
    fn bound_unfinished(&mut self) {
        if self.skipping || self.rest().len() >= self.limit {
            self.skipping = true;
            self.buffer.clear();
            self.start = 0;
            self.searched = 0;
        }
    }
}

fn classify(until_lf: &[u8]) -> Line<'_> {
    match until_lf.split_last() {
        Some((b'\r', line)) if line.contains(&b'\r') => Line::Bare(line),
        Some((b'\r', line)) if line.contains(&0) => Line::Nul(line),
        Some((b'\r', line)) => Line::Clean(line),
        _ => Line::Bare(until_lf),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    fn all(reader: &mut LineReader) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line() {
            lines.push(format!("{line:?}"));
        }
        lines
    }

    // RFC 5321 2.3.8: only CRLF ends a line; CR and LF must not occur alone.
    #[test]
    fn lines_are_the_same_however_the_input_is_split() {
        let input = b"NOOP\r\nbare\nin\rside\r\n\r\n\n\r\r\nnu\0l\r\n0123456789ABCDEF\r\n0123456789ABCD\r\n0123456789ABCDEFx\r\nlast\r\nopen";
        let mut whole = LineReader::new(17);
        whole.push(input);
        let expected = all(&mut whole);
        assert_eq!(expected.len(), 11);
        assert_eq!(whole.rest(), b"open");
        assert_eq!(expected.iter().filter(|line| *line == "TooLong").count(), 2);
        for first in 0..=input.len() {
            let mut reader = LineReader::new(17);
            reader.push(&input[..first]);
            let mut lines = all(&mut reader);
            reader.push(&input[first..]);
            lines.extend(all(&mut reader));
            assert_eq!(lines, expected, "split at {first}");
        }
        let mut reader = LineReader::new(17);
        let mut lines = Vec::new();
        for byte in input {
            reader.push(&[*byte]);
            lines.extend(all(&mut reader));
        }
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_line_of_exactly_the_limit_passes_and_one_more_byte_does_not() {
        for (line, long) in [("123456\r\n", false), ("1234567\r\n", true)] {
            let mut reader = LineReader::new(8);
            reader.push(line.as_bytes());
            assert_eq!(reader.next_line() == Some(Line::TooLong), long);
        }
    }

    #[test]
    fn an_endless_line_does_not_fill_memory() {
        let mut reader = LineReader::new(100);
        for _ in 0..10_000 {
            reader.push(&[b'x'; 64]);
            assert_eq!(reader.next_line(), None);
            assert!(reader.buffer.len() <= 200);
        }
        assert!(!reader.is_empty());
        reader.push(b"\r\nNOOP\r\n");
        assert_eq!(reader.next_line(), Some(Line::TooLong));
        assert_eq!(reader.next_line(), Some(Line::Clean(b"NOOP")));
        assert!(reader.is_empty());
    }
}
