//! TLS from outside: records are counted, hellos and alerts decoded, without any key.

use plumb::relay::Side;

use crate::hello::{ClientHello, ServerHello, key_exchange_group};
use crate::names::Name;
use crate::redact::HTTP;
use crate::story::Story;

/// A connection that speaks TLS, or should.
#[derive(Debug, Default)]
pub struct TlsView {
    client: Records,
    server: Records,
    session: Vec<u8>,
    version: Option<u16>,
    failed: bool,
}

/// The records of one side.
#[derive(Debug)]
struct Records {
    reading: Reading,
    handshake: Vec<u8>,
    alert: Vec<u8>,
    alerts: u64,
    encrypted: bool,
    count: u64,
    bytes: u64,
}

/// Where in a record we are.
#[derive(Debug)]
enum Reading {
    Header(Vec<u8>),
    Payload(Kind, usize),
    /// It was no TLS.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ChangeCipherSpec,
    /// An alert, and whether it is short enough to be readable.
    Alert(bool),
    Handshake,
    Other,
}

impl Default for Records {
    fn default() -> Records {
        Records {
            reading: Reading::Header(Vec::new()),
            handshake: Vec::new(),
            alert: Vec::new(),
            alerts: 0,
            encrypted: false,
            count: 0,
            bytes: 0,
        }
    }
}

impl TlsView {
    /// Goes on with what a side sent.
    pub fn bytes(&mut self, from: Side, mut bytes: &[u8], story: &mut Story) {
        let total = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let side = self.side(from);
        side.bytes = side.bytes.saturating_add(total);
        while !bytes.is_empty() {
            let (kind, part, rest, over) = match self.side(from).cut(bytes) {
                Cut::Header(rest) => {
                    bytes = rest;
                    continue;
                }
                Cut::NotTls(why) => {
                    self.failed = true;
                    return story.note(from, why);
                }
                Cut::Lost => return,
                Cut::Payload { kind, part, rest, over } => (kind, part, rest, over),
            };
            self.payload(from, kind, part, over, story);
            bytes = rest;
        }
    }

    /// A side has ended: by an alert, or cut off.
    pub fn eof(&mut self, from: Side, story: &mut Story) {
        let version = self.version;
        let side = self.side(from);
        let note = match &side.reading {
            Reading::Lost => return,
            // RFC 5246 7.2.1: whoever ends says so; in TLS 1.3 nobody else can see it.
            Reading::Header(header) if header.is_empty() => {
                let tells = side.encrypted && version.is_some_and(|version| version < TLS13);
                if tells && side.alerts == 0 {
                    story.note(from, "TLS end without an alert");
                }
                return;
            }
            Reading::Header(header) if header.first().is_some_and(u8::is_ascii_uppercase) => {
                NOT_TLS
            }
            Reading::Header(_) | Reading::Payload(..) => "TLS cut off inside a record",
        };
        self.failed = true;
        story.note(from, note);
    }

    /// What there is to say at the end.
    pub fn finish(&self, story: &mut Story) {
        story.session(format_args!(
            "TLS < {} records {} bytes > {} records {} bytes",
            self.client.count, self.client.bytes, self.server.count, self.server.bytes
        ));
    }

    /// Whether a fatal alert or something else than TLS was seen.
    pub fn failed(&self) -> bool {
        self.failed
    }

    fn side(&mut self, side: Side) -> &mut Records {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn payload(&mut self, from: Side, kind: Kind, part: &[u8], over: bool, story: &mut Story) {
        let version = self.version;
        let side = self.side(from);
        match kind {
            // RFC 8446 5: in TLS 1.3 it means nothing, and what is encrypted looks like data.
            Kind::ChangeCipherSpec => side.encrypted |= version != Some(TLS13),
            Kind::Alert(readable) if !over => {
                if readable {
                    side.alert.extend_from_slice(part);
                }
            }
            Kind::Alert(readable) => {
                side.alerts = side.alerts.saturating_add(1);
                if !readable {
                    return story.note(from, "TLS alert encrypted");
                }
                side.alert.extend_from_slice(part);
                self.alert(from, story);
            }
            Kind::Handshake if !side.encrypted => {
                side.handshake.extend_from_slice(part);
                self.messages(from, story);
            }
            Kind::Handshake | Kind::Other => {}
        }
    }

    fn alert(&mut self, from: Side, story: &mut Story) {
        if let [level, description] = *std::mem::take(&mut self.side(from).alert) {
            let level = if level == WARNING { "warning" } else { "fatal" };
            self.failed |= level == "fatal";
            story.note(from, format_args!("TLS alert {level} {}", Name::Alert(description)));
        }
    }

    /// Looks at the handshake messages that are complete; they may span records, and records may hold several.
    fn messages(&mut self, from: Side, story: &mut Story) {
        let mut bytes = std::mem::take(&mut self.side(from).handshake);
        let mut rest = &bytes[..];
        while let Some((kind, message, after)) = cut_message(rest) {
            self.message(from, kind, message, story);
            rest = after;
        }
        if rest.len() > MESSAGE_MAX {
            self.side(from).encrypted = true;
            story.note(from, "TLS handshake message too long");
            return;
        }
        let used = bytes.len().saturating_sub(rest.len());
        bytes.drain(..used);
        self.side(from).handshake = bytes;
    }

    fn message(&mut self, from: Side, kind: u8, message: &[u8], story: &mut Story) {
        match (from, kind) {
            (Side::Client, CLIENT_HELLO) => match ClientHello::parse(message) {
                Some(hello) => {
                    story.note(from, &hello);
                    self.session = hello.session;
                }
                None => story.note(from, "TLS ClientHello malformed"),
            },
            (Side::Server, SERVER_HELLO) => match ServerHello::parse(message) {
                Some(hello) => self.server_hello(hello, story),
                None => story.note(from, "TLS ServerHello malformed"),
            },
            (Side::Server, SERVER_KEY_EXCHANGE) => {
                if let Some(group) = key_exchange_group(message) {
                    story.note(
                        from,
                        format_args!("TLS ServerKeyExchange group={}", Name::Group(group)),
                    );
                }
            }
            (Side::Server, CERTIFICATE_REQUEST) => story.note(from, "TLS CertificateRequest"),
            _ => {}
        }
    }

    fn server_hello(&mut self, mut hello: ServerHello, story: &mut Story) {
        self.version = Some(hello.version);
        // RFC 5246 7.4.1.3: the id of the session that is resumed.
        hello.resumed |=
            hello.version < TLS13 && !self.session.is_empty() && hello.session == self.session;
        story.note(Side::Server, &hello);
    }
}

/// What `cut` found.
enum Cut<'a> {
    Header(&'a [u8]),
    Payload { kind: Kind, part: &'a [u8], rest: &'a [u8], over: bool },
    NotTls(&'static str),
    Lost,
}

impl Records {
    /// Takes a header or (a part of) a payload off the front.
    fn cut<'a>(&mut self, bytes: &'a [u8]) -> Cut<'a> {
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

/// The first handshake message, if all of it is there: its kind, its body, and what follows.
fn cut_message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, a, b, c], rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    let (message, rest) = rest.split_at_checked(length)?;
    Some((kind, message, rest))
}

const NOT_TLS: &str = "NOT TLS, not shown";

const HEADER: usize = 5;

/// RFC 5246 6.2.3: at most 2^14 + 2048.
const RECORD_MAX: usize = 16_384 + 2_048;

/// RFC 8446 6: level and description; an encrypted one is longer.
const ALERT_LENGTH: usize = 2;

/// Longest handshake message that is put together: certificate chains of servers before TLS 1.3 fit.
const MESSAGE_MAX: usize = 64 * 1024;

const TLS13: u16 = 0x0304;
const WARNING: u8 = 1;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
