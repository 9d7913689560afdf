//! What the client sends, cut into what the dialogue says it is.

use crate::body::{Body, Verdict};
use crate::command::{Command, Verb};
use crate::dialogue::Expect;
use crate::line::{Line, LineReader};

/// The next thing that the client said.
#[derive(Debug, PartialEq, Eq)]
pub enum FromClient<'a> {
    /// A command line, without its CRLF.
    Command(&'a [u8]),
    /// A line of an AUTH exchange, without its CRLF.
    AuthResponse(&'a [u8]),
    /// A line that must not reach any server.
    Bad(BadLine),
    /// A part of the message, as it came.
    Body(&'a [u8]),
    /// The last part of the message, its CRLF.CRLF included.
    BodyEnd(&'a [u8]),
    /// What came before an ambiguous end of the message; call `drain` from here on.
    Ambiguous(&'a [u8]),
    /// Octets of a chunk.
    Chunk(&'a [u8]),
}

/// Why a line must not reach any server: readers could disagree on where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLine {
    /// A bare CR or LF is in it, or ends it.
    Bare,
    /// A NUL is in it.
    Nul,
    /// It would be STARTTLS but for one of these, and what is behind it may be meant for another reader.
    StartTls,
    /// It is too long.
    TooLong,
}

/// The client's side of a session, read by what the dialogue expects.
#[derive(Debug)]
pub struct ClientStream {
    lines: LineReader,
    body: Body,
}

impl ClientStream {
    /// A stream whose command lines have at most `limit` bytes, their CRLF included.
    pub fn new(limit: usize) -> ClientStream {
        ClientStream { lines: LineReader::new(limit), body: Body::new() }
    }

    /// Takes over what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
    }

    /// How many bytes have arrived and were not looked at yet.
    pub fn waiting(&self) -> usize {
        self.lines.rest().len()
    }

    /// Whether nothing is left, not even the beginning of a line.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The next thing that the client said, or none before more arrives or `expect` changes.
    pub fn next(&mut self, expect: Expect) -> Option<FromClient<'_>> {
        match expect {
            Expect::Nothing => None,
            Expect::Command => {
                self.body = Body::new();
                Some(line(self.lines.next_line()?, FromClient::Command))
            }
            Expect::AuthResponse => Some(line(self.lines.next_line()?, FromClient::AuthResponse)),
            Expect::Body => self.next_of_body(),
            Expect::Chunk(left) => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.waiting());
                (count > 0).then(|| FromClient::Chunk(self.lines.take(count)))
            }
        }
    }

    /// Throws away the rest of an ambiguous message; true once its true end has gone by.
    pub fn drain(&mut self) -> bool {
        self.body.drain();
        let (count, verdict) = self.body.scan(self.lines.rest());
        self.lines.take(count);
        verdict == Verdict::End
    }

    fn next_of_body(&mut self) -> Option<FromClient<'_>> {
        let (count, verdict) = self.body.scan(self.lines.rest());
        let passed = self.lines.take(count);
        match verdict {
            Verdict::More if passed.is_empty() => None,
            Verdict::More => Some(FromClient::Body(passed)),
            Verdict::Ambiguous => Some(FromClient::Ambiguous(passed)),
            Verdict::End => {
                self.body = Body::new();
                Some(FromClient::BodyEnd(passed))
            }
        }
    }
}

fn line<'a>(line: Line<'a>, clean: fn(&'a [u8]) -> FromClient<'a>) -> FromClient<'a> {
    match line {
        Line::Clean(line) => clean(line),
        Line::Nul(line) | Line::Bare(line) if is_starttls(line) => {
            FromClient::Bad(BadLine::StartTls)
        }
        Line::Nul(_) => FromClient::Bad(BadLine::Nul),
        Line::Bare(_) => FromClient::Bad(BadLine::Bare),
        Line::TooLong => FromClient::Bad(BadLine::TooLong),
    }
}

/// Whether the line is STARTTLS for a reader that ends lines at a CR, an LF or a NUL.
fn is_starttls(line: &[u8]) -> bool {
    let first = line.split(|byte| matches!(byte, b'\r' | 0)).next().unwrap_or_default();
    Command::parse(first).verb == Verb::StartTls
}
