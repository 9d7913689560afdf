//! What is spoken: SMTP, POP3 or IMAP, TLS from outside, or something of which nothing may be shown.

use plumb::relay::Side;

use crate::imap::Imap;
use crate::pop3::Pop3;
use crate::redact::{HELD_LIMIT, Settings, Then};
use crate::smtp::Smtp;
use crate::story::Story;
use crate::tlsview::TlsView;

/// A protocol whose dialogue we can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP and submission.
    Smtp,
    /// POP3.
    Pop3,
    /// IMAP4.
    Imap,
}

/// Who takes over where TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsBy {
    /// The program behind us, on the stream that we relay.
    Program,
    /// A process before us, on the client's own socket (UCSPI-TLS).
    Ucspi,
}

/// One session, as far as it is understood.
#[derive(Debug)]
pub struct Watch {
    protocol: Option<Protocol>,
    tls_by: TlsBy,
    settings: Settings,
    stage: Stage,
    sent: u64,
    heard: u64,
}

#[derive(Debug)]
enum Stage {
    /// Nobody knows yet; what the client has said so far.
    Opening(Vec<u8>),
    Smtp(Box<Smtp>),
    Pop3(Box<Pop3>),
    Imap(Box<Imap>),
    Tls(Box<TlsView>),
    /// The client now speaks with somebody else.
    HandedOver,
    /// Nothing more may be shown; so many bytes of each side were looked at before.
    Dark(u64, u64),
}

impl Watch {
    /// A session in which nobody has said anything; without a protocol the greeting decides.
    pub fn new(protocol: Option<Protocol>, tls_by: TlsBy, settings: Settings) -> Watch {
        Watch { protocol, tls_by, settings, stage: Stage::Opening(Vec::new()), sent: 0, heard: 0 }
    }

    /// Goes on with what a side said.
    pub fn bytes(&mut self, from: Side, bytes: &[u8], story: &mut Story) {
        let total = self.total(from);
        *total = total.saturating_add(length(bytes));
        let then = match &mut self.stage {
            Stage::Opening(_) => return self.open(from, bytes, story),
            Stage::Smtp(smtp) => smtp.bytes(from, bytes, story),
            Stage::Pop3(pop3) => pop3.bytes(from, bytes, story),
            Stage::Imap(imap) => imap.bytes(from, bytes, story),
            Stage::Tls(tls) => {
                tls.bytes(from, bytes, story);
                Then::Same
            }
            Stage::HandedOver | Stage::Dark(..) => Then::Same,
        };
        self.follow(from, then, story);
    }

    /// A side has ended.
    pub fn eof(&mut self, from: Side, story: &mut Story) {
        match &mut self.stage {
            Stage::Smtp(smtp) => smtp.eof(from, story),
            Stage::Pop3(pop3) => pop3.eof(from, story),
            Stage::Imap(imap) => imap.eof(from, story),
            Stage::Opening(held) if from == Side::Client && !held.is_empty() => {
                story.note(
                    from,
                    format_args!("{} bytes before any greeting, not shown", held.len()),
                );
            }
            _ => {}
        }
    }

    /// What there is to say when both sides have ended.
    pub fn finish(&mut self, story: &mut Story) {
        match &self.stage {
            Stage::Tls(tls) => tls.finish(story),
            Stage::Dark(sent, heard) => {
                let [sent, heard] =
                    [self.sent.saturating_sub(*sent), self.heard.saturating_sub(*heard)];
                story.session(format_args!("not shown: < {sent} bytes > {heard} bytes"));
            }
            _ => {}
        }
        story.session(format_args!("end < {} bytes > {} bytes", self.sent, self.heard));
    }

    /// Whether the client speaks with somebody else from now on, so that we must not read what it sends.
    pub fn handed_over(&self) -> bool {
        matches!(self.stage, Stage::HandedOver)
    }

    /// Whether the session has not gone well so far: its last command failed, or nobody can say.
    pub fn bad(&self) -> bool {
        match &self.stage {
            Stage::Smtp(smtp) => smtp.failed(),
            Stage::Pop3(pop3) => pop3.failed(),
            Stage::Imap(imap) => imap.failed(),
            Stage::Tls(tls) => tls.failed(),
            Stage::Opening(_) | Stage::Dark(..) => true,
            Stage::HandedOver => false,
        }
    }

    /// The first byte of a ClientHello or of a greeting tells all protocols apart.
    fn open(&mut self, from: Side, bytes: &[u8], story: &mut Story) {
        let Stage::Opening(held) = &mut self.stage else { return };
        if bytes.is_empty() {
            return;
        }
        if from == Side::Client {
            held.extend_from_slice(bytes);
            if held.first() == Some(&TLS_HANDSHAKE) {
                let held = std::mem::take(held);
                self.stage = Stage::Tls(Box::default());
                self.replay([&held, b""], story);
            } else if held.len() > HELD_LIMIT {
                self.go_dark(from, NO_GREETING, story);
            }
            return;
        }
        let held = std::mem::take(held);
        match self.protocol.or_else(|| greeted(bytes)) {
            Some(Protocol::Smtp) => self.stage = Stage::Smtp(Box::new(Smtp::new(self.settings))),
            Some(Protocol::Pop3) => self.stage = Stage::Pop3(Box::new(Pop3::new(self.settings))),
            Some(Protocol::Imap) => self.stage = Stage::Imap(Box::new(Imap::new(self.settings))),
            None => return self.go_dark(from, UNKNOWN, story),
        }
        self.replay([&held, bytes], story);
    }

    /// Looks at bytes of client and server once more, now that it is known what they are.
    fn replay(&mut self, bytes: [&[u8]; 2], story: &mut Story) {
        let turns = [(Side::Client, bytes[0]), (Side::Server, bytes[1])];
        for (from, bytes) in turns {
            let total = self.total(from);
            *total = total.saturating_sub(length(bytes));
        }
        turns.into_iter().for_each(|(from, bytes)| self.bytes(from, bytes, story));
    }

    fn total(&mut self, from: Side) -> &mut u64 {
        if from == Side::Client { &mut self.sent } else { &mut self.heard }
    }

    fn follow(&mut self, from: Side, then: Then, story: &mut Story) {
        match then {
            Then::Same => {}
            Then::Dark(why) => self.go_dark(from, why, story),
            Then::Tls if self.tls_by == TlsBy::Ucspi => {
                story.note(from, "TLS by UCSPI-TLS, not seen from here");
                self.stage = Stage::HandedOver;
            }
            Then::Tls => {
                let [client, server] = self.unread();
                self.stage = Stage::Tls(Box::default());
                let early = client.first() == Some(&TLS_HANDSHAKE);
                self.replay([if early { &client } else { b"" }, &server], story);
            }
        }
    }

    /// What both sides said that nobody has looked at.
    fn unread(&self) -> [Vec<u8>; 2] {
        let sides = [Side::Client, Side::Server];
        match &self.stage {
            Stage::Smtp(smtp) => sides.map(|side| smtp.unread(side).to_vec()),
            Stage::Pop3(pop3) => sides.map(|side| pop3.unread(side).to_vec()),
            Stage::Imap(imap) => sides.map(|side| imap.unread(side).to_vec()),
            _ => [Vec::new(), Vec::new()],
        }
    }

    fn go_dark(&mut self, from: Side, why: &str, story: &mut Story) {
        story.note(from, format_args!("not shown from here on: {why}"));
        let [client, server] = self.unread();
        self.stage = match self.stage {
            Stage::Opening(_) => Stage::Dark(0, 0),
            _ => Stage::Dark(
                self.sent.saturating_sub(length(&client)),
                self.heard.saturating_sub(length(&server)),
            ),
        };
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn greeted(bytes: &[u8]) -> Option<Protocol> {
    match bytes {
        [b'0'..=b'9', ..] => Some(Protocol::Smtp),
        [b'+' | b'-', ..] => Some(Protocol::Pop3),
        [b'*', ..] => Some(Protocol::Imap),
        _ => None,
    }
}

/// RFC 8446 5.1: no line of any of these protocols begins with it.
const TLS_HANDSHAKE: u8 = 22;

const NO_GREETING: &str = "too much was sent before the greeting";
const UNKNOWN: &str = "the greeting is not SMTP, POP3 or IMAP";
