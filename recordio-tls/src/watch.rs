//! What is spoken: SMTP, POP3 or IMAP, TLS from outside, or something of which nothing may be shown.

use plumb::middle::Side;

use crate::redact::{HELD_LIMIT, Settings, Then, is_tls};
use crate::story::Story;
use crate::talk::{Protocol, Talk};
use crate::tlsview::TlsView;

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
    Talk(Box<Talk>),
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
            Stage::Talk(talk) => talk.bytes(from, bytes, story),
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
            Stage::Talk(talk) => talk.eof(from, story),
            Stage::Tls(tls) => tls.eof(from, story),
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
            Stage::Talk(talk) => talk.failed(),
            Stage::Tls(tls) => tls.failed(),
            Stage::Opening(_) | Stage::Dark(..) => true,
            Stage::HandedOver => false,
        }
    }

    /// The first bytes of a ClientHello, of an alert or of a greeting tell all protocols apart.
    fn open(&mut self, from: Side, bytes: &[u8], story: &mut Story) {
        let Stage::Opening(held) = &mut self.stage else { return };
        if bytes.is_empty() {
            return;
        }
        if from == Side::Client {
            held.extend_from_slice(bytes);
            if is_tls(held) || is_sslv2(held) {
                let held = std::mem::take(held);
                self.stage = Stage::Tls(Box::default());
                self.replay([(Side::Client, &held), (Side::Server, b"")], story);
            } else if held.len() > HELD_LIMIT {
                self.go_dark(from, NO_GREETING, story);
            }
            return;
        }
        let held = std::mem::take(held);
        self.stage = match self.protocol.or_else(|| greeted(bytes)) {
            // The client speaks in clear with a server that speaks TLS only.
            None if bytes.first() == Some(&TLS_ALERT) => Stage::Tls(Box::default()),
            None => return self.go_dark(from, UNKNOWN, story),
            Some(protocol) => Stage::Talk(Box::new(Talk::new(protocol, self.settings))),
        };
        self.replay([(Side::Client, &held), (Side::Server, bytes)], story);
    }

    /// Looks at bytes of both sides once more, now that it is known what they are.
    fn replay(&mut self, turns: [(Side, &[u8]); 2], story: &mut Story) {
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
            Then::Same | Then::TlsRefused => {}
            Then::Dark(why) => self.go_dark(from, why, story),
            Then::Tls if self.tls_by == TlsBy::Ucspi => {
                story.note(from, "TLS by UCSPI-TLS, not seen from here");
                self.stage = Stage::HandedOver;
            }
            Then::Tls | Then::TlsUnasked => {
                if then == Then::TlsUnasked {
                    story.note(Side::Client, "TLS without STARTTLS");
                }
                let [mut client, server] = self.unread();
                self.stage = Stage::Tls(Box::default());
                if !is_tls(&client) {
                    client.clear();
                }
                let turns = [(Side::Client, &client[..]), (Side::Server, &server)];
                // Whose bytes these are that told it, goes on behind them.
                self.replay(if from == Side::Server { turns } else { [turns[1], turns[0]] }, story);
            }
        }
    }

    /// What both sides said that nobody has looked at.
    fn unread(&self) -> [Vec<u8>; 2] {
        let sides = [Side::Client, Side::Server];
        match &self.stage {
            Stage::Talk(talk) => sides.map(|side| talk.unread(side).to_vec()),
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

/// The hello of a client that knows TLS by hearsay only (RFC 6176): length and kind.
fn is_sslv2(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80..=0xff, _, 1, ..])
}

/// RFC 8446 5.1.
const TLS_ALERT: u8 = 21;

const NO_GREETING: &str = "too much was sent before the greeting";
const UNKNOWN: &str = "the greeting is not SMTP, POP3 or IMAP";
