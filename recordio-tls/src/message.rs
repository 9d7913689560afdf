//! A message going by: counted, and shown as far as was asked for.

use plumb::middle::Side;

use crate::story::Story;

/// How much of a message is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Show {
    /// Only its size.
    #[default]
    Size,
    /// Its header as well (-b).
    Header,
    /// All of it (-B).
    Whole,
}

/// One message, or a chunk of one.
#[derive(Debug)]
pub struct Message {
    show: Show,
    seen: Seen,
    bytes: u64,
    lines: u64,
}

/// Where in the message we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// At the beginning of a line of the header.
    LineStart,
    /// CR at the beginning of a line of the header.
    LineStartCr,
    /// A part of a line of the header.
    HeaderLine,
    /// The empty line that ends the header.
    HeaderEnd,
}

impl Message {
    /// A message of which nothing has been seen.
    pub fn new(show: Show) -> Message {
        Message { show, seen: Seen::LineStart, bytes: 0, lines: 0 }
    }

    /// Goes on with a part of it.
    pub fn text(&mut self, from: Side, text: &[u8], story: &mut Story) {
        self.bytes = self.bytes.saturating_add(count(text.len()));
        self.lines = self.lines.saturating_add(count_lines(text));
        match self.show {
            Show::Size => {}
            Show::Header => self.header(from, text, story),
            Show::Whole => story.text(from, text),
        }
    }

    /// Goes on with a part of something of which only the length may be seen.
    pub fn count(&mut self, octets: &[u8]) {
        self.bytes = self.bytes.saturating_add(count(octets.len()));
    }

    /// How many bytes it had; the next one begins.
    pub fn take_count(&mut self) -> usize {
        let bytes = self.bytes;
        *self = Message::new(self.show);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The line that ends it, which is no part of it.
    pub fn end_line(&self, from: Side, line: &[u8], story: &mut Story) {
        if self.show == Show::Whole {
            story.text(from, line);
        }
    }

    /// Says how long it was; `kind` is what the protocol calls it.
    pub fn end(&mut self, from: Side, kind: &str, story: &mut Story) {
        if self.show != Show::Whole {
            story.note(from, format_args!("{kind} {} bytes {} lines", self.bytes, self.lines));
        }
        *self = Message::new(self.show);
    }

    /// Says that it did not come to its end.
    pub fn cut(&mut self, from: Side, kind: &str, story: &mut Story) {
        let (bytes, lines) = (self.bytes, self.lines);
        story.note(from, format_args!("{kind} {bytes} bytes {lines} lines, cut off"));
        *self = Message::new(self.show);
    }

    /// Says how long a chunk was; its successor goes on with the same message.
    pub fn end_chunk(&mut self, from: Side, story: &mut Story) {
        let seen = self.seen;
        self.end(from, "chunk", story);
        self.seen = seen;
    }

    fn header(&mut self, from: Side, text: &[u8], story: &mut Story) {
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            if self.seen == Seen::HeaderEnd {
                return;
            }
            self.seen = match (self.seen, line) {
                (Seen::LineStart, b"\r\n" | b"\n") | (Seen::LineStartCr, b"\n") => Seen::HeaderEnd,
                (Seen::LineStart, b"\r") => Seen::LineStartCr,
                (_, [.., b'\n']) => Seen::LineStart,
                _ => Seen::HeaderLine,
            };
            story.text(from, line);
        }
    }
}

fn count_lines(text: &[u8]) -> u64 {
    text.chunks(usize::from(u8::MAX))
        .map(|part| {
            let lines =
                part.iter().fold(0_u8, |lines, &byte| lines.wrapping_add(u8::from(byte == b'\n')));
            u64::from(lines)
        })
        .fold(0, u64::saturating_add)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::Grammar;

    fn shown(show: Show, parts: &[&[u8]]) -> String {
        let mut story = Story::new(Grammar::Recordio, 7, "");
        let mut message = Message::new(show);
        for part in parts {
            message.text(Side::Client, part, &mut story);
        }
        message.end(Side::Client, "body", &mut story);
        String::from_utf8(story.lines().to_vec()).unwrap()
    }

    const TEXT: &[u8] = b"Subject: s\r\n\r\nsecret\r\n\r\nend\r\n";

    #[test]
    fn only_what_was_asked_for_is_shown() {
        let size = format!("7 < [body {} bytes 5 lines]\n", TEXT.len());
        assert_eq!(shown(Show::Size, &[TEXT]), size);
        assert_eq!(shown(Show::Header, &[TEXT]), format!("7 < Subject: s\r \n7 < \r \n{size}"));
        assert!(shown(Show::Whole, &[TEXT]).contains("7 < secret\r \n"));
    }

    #[test]
    fn the_header_ends_at_the_same_place_however_it_is_split() {
        for first in 0..TEXT.len() {
            for second in first..TEXT.len() {
                let parts = [&TEXT[..first], &TEXT[first..second], &TEXT[second..]];
                let shown = shown(Show::Header, &parts);
                assert!(!shown.contains("sec") && !shown.contains("end"), "{shown}");
                assert!(shown.ends_with("[body 29 bytes 5 lines]\n"));
            }
        }
    }
}
