//! TLS from outside: records are counted, hellos and alerts decoded, without any key.

use plumb::middle::Side;

use crate::hello::{ClientHello, ServerHello, key_exchange_group};
use crate::names::Name;
use crate::records::{Cut, Kind, Place, Records};
use crate::story::Story;

/// A connection that speaks TLS, or should.
#[derive(Debug, Default)]
pub struct TlsView {
    client: Spoken,
    server: Spoken,
    session: Vec<u8>,
    version: Option<u16>,
    failed: bool,
}

/// What one side has said.
#[derive(Debug, Default)]
struct Spoken {
    records: Records,
    bytes: u64,
    handshake: Vec<u8>,
    alert: Vec<u8>,
    alerts: u64,
    encrypted: bool,
}

impl TlsView {
    /// Goes on with what a side sent.
    pub fn bytes(&mut self, from: Side, mut bytes: &[u8], story: &mut Story) {
        let total = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let side = self.side(from);
        side.bytes = side.bytes.saturating_add(total);
        while !bytes.is_empty() {
            let (kind, part, rest, over) = match self.side(from).records.cut(bytes) {
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
        let note = match side.records.place() {
            Place::Lost => return,
            // RFC 5246 7.2.1: whoever ends says so; in TLS 1.3 nobody else can see it.
            Place::Between => {
                let tells = side.encrypted && version.is_some_and(|version| version < TLS13);
                if tells && side.alerts == 0 {
                    story.note(from, "TLS end without an alert");
                }
                return;
            }
            Place::Inside(note) => note,
        };
        self.failed = true;
        story.note(from, note);
    }

    /// What there is to say at the end.
    pub fn finish(&self, story: &mut Story) {
        story.session(format_args!(
            "TLS < {} records {} bytes > {} records {} bytes",
            self.client.records.count(),
            self.client.bytes,
            self.server.records.count(),
            self.server.bytes
        ));
    }

    /// Whether a fatal alert or something else than TLS was seen.
    pub fn failed(&self) -> bool {
        self.failed
    }

    fn side(&mut self, side: Side) -> &mut Spoken {
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

/// The first handshake message, if all of it is there: its kind, its body, and what follows.
fn cut_message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, a, b, c], rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    let (message, rest) = rest.split_at_checked(length)?;
    Some((kind, message, rest))
}

/// Longest handshake message that is put together: certificate chains of servers before TLS 1.3 fit.
const MESSAGE_MAX: usize = 64 * 1024;

const TLS13: u16 = 0x0304;
const WARNING: u8 = 1;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
