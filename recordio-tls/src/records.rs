//! The records of TLS, cut from what one side sends.

use crate::redact::HTTP;

/// The records of one side.
#[derive(Debug, Default)]
pub struct Records {
    reading: Reading,
    count: u64,
}

/// Where in a record we are.
#[derive(Debug)]
enum Reading {
    Header(Vec<u8>),
    Payload(Kind, usize),
    /// It was no TLS.
    Lost,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading::Header(Vec::new())
    }
}

/// What a record holds (RFC 8446 B.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From here on a side encrypts, before TLS 1.3.
    ChangeCipherSpec,
    /// An alert, and whether it is short enough to be readable.
    Alert(bool),
    /// A part of the handshake.
    Handshake,
    /// Data, or what nobody knows.
    Other,
}

/// What `cut` found.
#[derive(Debug)]
pub enum Cut<'a> {
    /// Bytes of a header, and what follows them.
    Header(&'a [u8]),
    /// A part of a payload, what follows it, and whether the record is over.
    Payload {
        /// Of which record.
        kind: Kind,
        /// The part.
        part: &'a [u8],
        /// What follows.
        rest: &'a [u8],
        /// Whether it was the last.
        over: bool,
    },
    /// This is no TLS, and why.
    NotTls(&'static str),
    /// It was none before.
    Lost,
}

/// Where the records of a side end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between two records.
    Between,
    /// Inside one, or in what may be the beginning of one; with what is to be said of that.
    Inside(&'static str),
    /// Behind what is no TLS.
    Lost,
}

impl Records {
    /// How many there have been.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Where the last byte was.
    pub fn place(&self) -> Place {
        match &self.reading {
            Reading::Lost => Place::Lost,
            Reading::Header(header) => match header.first() {
                None => Place::Between,
                Some(first) if first.is_ascii_uppercase() => Place::Inside(NOT_TLS),
                Some(_) => Place::Inside(CUT_OFF),
            },
            Reading::Payload(..) => Place::Inside(CUT_OFF),
        }
    }

    /// Takes a header or (a part of) a payload off the front.
    pub fn cut<'a>(&mut self, bytes: &'a [u8]) -> Cut<'a> {
        match &mut self.reading {
            Reading::Lost => Cut::Lost,
            Reading::Header(header) => {
                let missing = HEADER.saturating_sub(header.len()).min(bytes.len());
                let (part, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
                header.extend_from_slice(part);
                match parse_header(header) {
                    Header::Partial => {}
                    Header::Record(kind, length) => {
                        self.count = self.count.saturating_add(1);
                        self.reading = begin(kind, length);
                    }
                    Header::NotTls(why) => {
                        self.reading = Reading::Lost;
                        return Cut::NotTls(why);
                    }
                }
                Cut::Header(rest)
            }
            Reading::Payload(kind, left) => {
                let (part, rest) = bytes.split_at_checked(*left).unwrap_or((bytes, &[]));
                let kind = *kind;
                *left = left.saturating_sub(part.len());
                let over = *left == 0;
                if over {
                    self.reading = Reading::Header(Vec::new());
                }
                Cut::Payload { kind, part, rest, over }
            }
        }
    }
}

/// What five bytes are, or the beginning of them.
enum Header {
    Partial,
    Record(Kind, usize),
    NotTls(&'static str),
}

fn begin(kind: Kind, length: usize) -> Reading {
    if length == 0 { Reading::Header(Vec::new()) } else { Reading::Payload(kind, length) }
}

/// RFC 8446 5.1; refuses what cannot be TLS at the first byte that shows it.
fn parse_header(header: &[u8]) -> Header {
    match header {
        [0x80..=0xff, _, 1, ..] => return Header::NotTls("SSLv2 ClientHello"),
        [0x80..=0xff] | [0x80..=0xff, _] => return Header::Partial,
        [20..=24] | [20..=24, 3] | [20..=24, 3, _] | [20..=24, 3, _, _] => return Header::Partial,
        [20..=24, 3, ..] => {}
        [b'A'..=b'Z', ..] if header.len() < HEADER => return Header::Partial,
        header if is_http(header) => return Header::NotTls("HTTP and not TLS, not shown"),
        _ => return Header::NotTls(NOT_TLS),
    }
    let &[kind, _, _, high, low] = header else { return Header::Partial };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > RECORD_MAX {
        return Header::NotTls("NOT TLS (a record too long), not shown");
    }
    Header::Record(
        match kind {
            20 => Kind::ChangeCipherSpec,
            21 => Kind::Alert(length == ALERT_LENGTH),
            22 => Kind::Handshake,
            _ => Kind::Other,
        },
        length,
    )
}

/// Whether these are the first bytes of a request of HTTP (RFC 9112 3).
fn is_http(bytes: &[u8]) -> bool {
    let begins = |method: &&str| method.bytes().chain([b' ']).zip(bytes).all(|(a, &b)| a == b);
    HTTP.iter().any(begins)
}

const NOT_TLS: &str = "NOT TLS, not shown";
const CUT_OFF: &str = "TLS cut off inside a record";

const HEADER: usize = 5;

/// RFC 5246 6.2.3: at most 2^14 + 2048.
const RECORD_MAX: usize = 16_384 + 2_048;

/// RFC 8446 6: level and description; an encrypted one is longer.
const ALERT_LENGTH: usize = 2;
