//! The lines of the log: who said what, escaped, each whole and short enough for one write.

use std::fmt::Display;
use std::time::SystemTime;

use plumb::log::{LINE_MAX, value};
use plumb::middle::Side;
use wire::find_line_end;

use crate::escape::{ESCAPE_MAX, escape, plain_length};
use crate::stamp::Stamp;

/// A part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// May be seen.
    Shown(&'a [u8]),
    /// Must not be seen; so many bytes.
    Hidden(usize),
    /// Must not be seen, but for the user's name in it (-u).
    HiddenBut(usize, &'a [u8]),
}

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By CRLF.
    CrLf,
    /// By a bare LF.
    Lf,
    /// Not at all: more of it may follow.
    Open,
}

/// Whose grammar the lines have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// `recordio-tls: PID: CONNID < text `, and notes about the session.
    Own,
    /// recordio's: `PID < text `.
    Recordio,
}

/// What one session writes to its log.
#[derive(Debug)]
pub struct Story {
    grammar: Grammar,
    stamp: Stamp,
    /// The stamp of what is being told.
    now: Vec<u8>,
    client: Vec<u8>,
    server: Vec<u8>,
    session: Vec<u8>,
    lines: Vec<u8>,
    /// Where the line that is being written begins, and where its text does.
    begin: usize,
    text: usize,
}

impl Story {
    /// The story of the program `pid` and the connection `connid`; nothing is in it.
    pub fn new(grammar: Grammar, pid: u32, connid: &str) -> Story {
        let common = match grammar {
            Grammar::Own => format!("recordio-tls: {pid}: {connid} "),
            Grammar::Recordio => format!("{pid} "),
        };
        let head = |mark: &str| format!("{common}{mark} ").into_bytes();
        Story {
            grammar,
            stamp: Stamp::None,
            now: Vec::new(),
            client: head("<"),
            server: head(">"),
            session: head("-"),
            lines: Vec::new(),
            begin: 0,
            text: 0,
        }
    }

    /// The same, with a stamp at the beginning of each line.
    #[must_use]
    pub fn stamped(self, stamp: Stamp) -> Story {
        Story { stamp, ..self }
    }

    /// What is told from here on was seen at the time that this clock gives, which is not asked in vain.
    pub fn seen_at(&mut self, clock: impl FnOnce() -> SystemTime) {
        if self.stamp != Stamp::None {
            self.now.clear();
            self.stamp.append(clock(), &mut self.now);
        }
    }

    /// What stands before a note about the session itself.
    pub fn session_head(&self) -> Vec<u8> {
        [&self.now[..], &self.session].concat()
    }

    /// The lines since `clear`.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Forgets the lines, which have been written.
    pub fn clear(&mut self) {
        self.lines.clear();
    }

    /// One line that a side said, or a part of one.
    pub fn said(&mut self, from: Side, pieces: &[Piece<'_>], ended: Ended) {
        self.begin(from);
        for piece in pieces {
            match piece {
                Piece::Shown(bytes) => self.append(from, bytes),
                Piece::Hidden(count) => self.append_mark(from, &format!("[redacted {count}]")),
                Piece::HiddenBut(count, user) => {
                    self.append_mark(from, &format!("[redacted {count} user={}]", shown(user)));
                }
            }
        }
        self.end(from, ended);
    }

    /// Plain text, line by line; what the last line of it lacks may follow later.
    pub fn text(&mut self, from: Side, mut text: &[u8]) {
        while !text.is_empty() {
            let (line, rest) = cut_line(text);
            text = rest;
            let (line, ended) = match line {
                [line @ .., b'\r', b'\n'] => (line, Ended::CrLf),
                [line @ .., b'\n'] => (line, Ended::Lf),
                line => (line, Ended::Open),
            };
            self.begin(from);
            self.append(from, line);
            self.end(from, ended);
        }
    }

    /// Something seen on one side that is no line of it: `[note]`.
    pub fn note(&mut self, from: Side, note: impl Display) {
        self.begin(from);
        self.finish_note(note);
    }

    /// Something about the session, for which recordio's grammar has no place.
    pub fn session(&mut self, note: impl Display) {
        if self.grammar == Grammar::Own {
            self.begin_with(Head::Session);
            self.finish_note(note);
        }
    }

    fn begin(&mut self, from: Side) {
        self.begin_with(match from {
            Side::Client => Head::Client,
            Side::Server => Head::Server,
        });
    }

    fn begin_with(&mut self, head: Head) {
        self.begin = self.lines.len();
        self.lines.extend_from_slice(&self.now);
        self.lines.extend_from_slice(match head {
            Head::Client => &self.client,
            Head::Server => &self.server,
            Head::Session => &self.session,
        });
        self.text = self.lines.len();
    }

    /// Puts in bytes of a side, escaped; where the line gets too long, a new one goes on.
    fn append(&mut self, from: Side, mut bytes: &[u8]) {
        if let Some((b'[', rest)) = bytes.split_first()
            && self.grammar == Grammar::Own
            && self.lines.len() == self.text
        {
            // Only notes begin with a bracket.
            self.lines.extend_from_slice(b"\\x5b");
            bytes = rest;
        }
        while let Some((&first, rest)) = bytes.split_first() {
            let room = self.room();
            if room < ESCAPE_MAX {
                self.end(from, Ended::Open);
                self.begin(from);
                continue;
            }
            let plain = plain_length(bytes, self.grammar == Grammar::Recordio).min(room);
            if plain == 0 {
                escape(first, &mut self.lines);
                bytes = rest;
                continue;
            }
            let (text, rest) = bytes.split_at_checked(plain).unwrap_or((bytes, &[]));
            self.lines.extend_from_slice(text);
            bytes = rest;
        }
    }

    /// Puts in our own words about a line, in one piece.
    fn append_mark(&mut self, from: Side, mark: &str) {
        if self.room() < mark.len() {
            self.end(from, Ended::Open);
            self.begin(from);
        }
        self.lines.extend_from_slice(mark.as_bytes());
    }

    fn end(&mut self, from: Side, ended: Ended) {
        match (ended, self.grammar) {
            (Ended::CrLf, Grammar::Recordio) => self.lines.extend_from_slice(b"\r \n"),
            (Ended::CrLf, Grammar::Own) => {
                self.append(from, b"\r");
                self.lines.extend_from_slice(b" \n");
            }
            (Ended::Lf, _) => self.lines.extend_from_slice(b" \n"),
            (Ended::Open, _) => self.lines.extend_from_slice(b"+\n"),
        }
    }

    fn finish_note(&mut self, note: impl Display) {
        let text = format!("[{note}]");
        let room = self.room();
        self.lines.extend_from_slice(text.as_bytes().get(..room).unwrap_or(text.as_bytes()));
        self.lines.push(b'\n');
    }

    /// How much the line can take before its end.
    fn room(&self) -> usize {
        TEXT_MAX.saturating_sub(self.lines.len().saturating_sub(self.begin))
    }
}

#[derive(Clone, Copy)]
enum Head {
    Client,
    Server,
    Session,
}

/// Bytes from outside as a value in a note.
pub fn shown(bytes: &[u8]) -> String {
    value(bytes, VALUE_MAX)
}

/// The first line, its LF included, or all of a text that has none; and what follows.
fn cut_line(text: &[u8]) -> (&[u8], &[u8]) {
    let mut length: usize = 0;
    loop {
        let rest = text.get(length..).unwrap_or_default();
        let Some(end) = find_line_end(rest) else { return (text, &[]) };
        length = length.saturating_add(end).saturating_add(1);
        if rest.get(end) == Some(&b'\n') {
            return text.split_at_checked(length).unwrap_or((text, &[]));
        }
    }
}

/// Longest line without its end: CR, a mark and LF.
const TEXT_MAX: usize = LINE_MAX.saturating_sub(8);

/// Longest value in a note, escapes included; a host name has at most 253 bytes.
const VALUE_MAX: usize = 256;

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    fn own() -> Story {
        Story::new(Grammar::Own, 7, "5f.7")
    }

    fn text(story: &Story) -> String {
        String::from_utf8(story.lines().to_vec()).unwrap()
    }

    #[test]
    fn lines_carry_pid_connid_direction_and_end() {
        let mut story = own();
        story.said(Side::Client, &[Piece::Shown(b"NOOP")], Ended::CrLf);
        story.said(Side::Server, &[Piece::Shown(b"250 "), Piece::Hidden(3)], Ended::Lf);
        story.said(Side::Client, &[Piece::HiddenBut(28, b"a b]")], Ended::Open);
        story.text(Side::Client, b"one\r\ntwo\nthree");
        story.note(Side::Server, "EOF");
        story.session("end");
        let head = "recordio-tls: 7: 5f.7";
        let expected = [
            "< NOOP\\r ",
            "> 250 [redacted 3] ",
            "< [redacted 28 user=a\\x20b]]+",
            "< one\\r ",
            "< two ",
            "< three+",
            "> [EOF]",
            "- [end]",
        ];
        let expected: String = expected.iter().map(|line| format!("{head} {line}\n")).collect();
        assert_eq!(text(&story), expected);
    }

    // The stamp is the first word of every line, in recordio's grammar too, and belongs to what is told behind it.
    #[test]
    fn stamped_lines() {
        use std::time::{Duration, UNIX_EPOCH};
        for (stamp, grammar, first, second) in [
            (
                Stamp::Iso,
                Grammar::Own,
                "1970-01-01T00:00:01.000000Z",
                "1970-01-01T00:00:02.000000Z",
            ),
            (
                Stamp::Tai64n,
                Grammar::Recordio,
                "@400000000000000b00000000",
                "@400000000000000c00000000",
            ),
        ] {
            let mut story = Story::new(grammar, 7, "5f.7").stamped(stamp);
            story.seen_at(|| UNIX_EPOCH + Duration::from_secs(1));
            story.text(Side::Client, b"one\r\ntwo\r\n");
            story.seen_at(|| UNIX_EPOCH + Duration::from_secs(2));
            story.said(Side::Server, &[Piece::Shown(&[b'x'; 5000])], Ended::Lf);
            let text = text(&story);
            let stamps: Vec<&str> =
                text.lines().filter_map(|line| line.split(' ').next()).collect();
            assert_eq!(stamps, [first, first, second, second], "{text}");
            assert!(text.lines().all(|line| line.len() < LINE_MAX));
            assert!(story.session_head().starts_with(second.as_bytes()));
        }
        let mut story = own();
        story.seen_at(|| unreachable!("nobody wants to know"));
    }

    // Line = pid SP dir SP bytes end LF; the CR is the last byte of the data.
    #[test]
    fn recordios_grammar() {
        let mut story = Story::new(Grammar::Recordio, 99, "5f.7");
        story.text(Side::Client, b"NOOP\r\n[EOF]\nDOS\\\x1b[2J");
        story.note(Side::Client, "EOF");
        story.session("end");
        assert_eq!(text(&story), "99 < NOOP\r \n99 < [EOF] \n99 < DOS\\\\x1b[2J+\n99 < [EOF]\n");
    }

    // No byte below 0x20 (except LF) or 0x7f to 0x9f in the output; only notes begin with a bracket.
    #[test]
    fn every_byte_is_escaped_at_every_place() {
        for byte in 0..=255_u8 {
            for place in 0..20 {
                let mut line = vec![b'x'; 20];
                line[place] = byte;
                let mut story = own();
                story.said(Side::Client, &[Piece::Shown(&line)], Ended::CrLf);
                let lines = story.lines();
                let printable = matches!(byte, b' '..=b'~') && byte != b'\\';
                let shown = printable && !(byte == b'[' && place == 0);
                assert_eq!(
                    lines.windows(2).any(|pair| pair == b"\\x" || pair == b"\\t"),
                    !shown && byte != b'\r',
                    "{byte} at {place}"
                );
                let (last, before) = lines.split_last().unwrap();
                assert_eq!(*last, b'\n');
                assert!(before.iter().all(|byte| matches!(byte, b' '..=b'~')));
            }
        }
    }

    // DESIGN 3: log lines of at most 4,000 bytes; long lines are split with `+`.
    #[test]
    fn long_lines_are_split_and_lose_nothing() {
        let mut story = own();
        let long: Vec<u8> = (0..20_000_u32).map(|n| (n % 256).to_le_bytes()[0]).collect();
        let long: Vec<u8> = long.into_iter().filter(|&byte| byte != b'\n').collect();
        story.text(Side::Client, &[&long[..], b"\r\n"].concat());
        let lines: Vec<&[u8]> = story.lines().split_inclusive(|&byte| byte == b'\n').collect();
        assert!(lines.iter().all(|line| line.len() <= LINE_MAX));
        let (last, parts) = lines.split_last().unwrap();
        assert!(parts.iter().all(|line| line.ends_with(b"+\n")));
        assert!(last.ends_with(b"\\r \n"));
        let head = "recordio-tls: 7: 5f.7 < ".len();
        let whole: Vec<u8> =
            parts.iter().flat_map(|line| &line[head..line.len() - 2]).copied().collect();
        let whole = [&whole[..], &last[head..last.len() - 4]].concat();
        let mut plain = Vec::new();
        let mut rest = &whole[..];
        while let Some((&first, after)) = rest.split_first() {
            let (byte, after) = match (first, after.first()) {
                (b'\\', Some(b'r')) => (b'\r', &after[1..]),
                (b'\\', Some(b't')) => (b'\t', &after[1..]),
                (b'\\', _) => {
                    let hex = str::from_utf8(&after[1..3]).unwrap();
                    (u8::from_str_radix(hex, 16).unwrap(), &after[3..])
                }
                _ => (first, after),
            };
            plain.push(byte);
            rest = after;
        }
        assert!(plain == long);
    }
}
