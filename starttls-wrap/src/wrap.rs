//! The wrapper's part in the dialogue: plaintext in, plaintext out, no descriptors and no clock.

mod client;
mod program;
#[cfg(test)]
mod transcripts;

use std::time::Duration;

use plumb::middle::{Outbox, Patience, Side};
use wire::{ClientStream, Dialogue, Line, LineReader};

use crate::ehlo::EhloReply;
use crate::policy::{Policy, Progress};
use crate::replies;

/// One dialogue between a client and one program, before TLS or inside it.
#[derive(Debug)]
pub struct Wrap {
    policy: Policy,
    progress: Progress,
    stage: Stage,
    greeting: Greeting,
    client: ClientStream,
    program: LineReader,
    dialogue: Dialogue,
    ehlo: EhloReply,
    chunking: bool,
    eats_chunk: bool,
    auth_refused: bool,
    in_transaction: bool,
    resetting: bool,
    client_ended: bool,
    in_reply: bool,
    closing: bool,
    notes: Vec<String>,
}

/// What the wrapper is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Passing on what may pass.
    Talking,
    /// The client asked for TLS, and nothing else may be done.
    Starting,
    /// Throwing away the rest of an ambiguous message.
    Draining,
    /// To end with these words, once the replies that are owed have come.
    Ending(&'static [u8]),
    /// All is said.
    Over,
}

/// What becomes of the program's greeting.
#[derive(Debug)]
enum Greeting {
    /// The client sees it, or has.
    Passes,
    /// The client has seen one before TLS; this one is collected (RFC 3207 4.2).
    Swallowed(Vec<u8>),
    /// It was no 220 and answers the client's first command.
    Refusal(Vec<u8>),
}

impl Wrap {
    /// A session in clear.
    pub fn in_clear(policy: Policy) -> Wrap {
        Wrap::new(policy, false, Greeting::Passes)
    }

    /// The session after STARTTLS with the program from before it (-k), which is told to forget what it can.
    pub fn with_kept_program(policy: Policy, out: &mut Outbox) -> Wrap {
        let mut wrap = Wrap::new(policy, true, Greeting::Passes);
        out.server.extend_from_slice(b"RSET\r\n");
        wrap.dialogue = Dialogue::greeted();
        wrap.dialogue.sent_own_command();
        wrap.resetting = true;
        wrap
    }

    /// A session that has TLS from the first byte.
    pub fn in_tls(policy: Policy) -> Wrap {
        Wrap::new(policy, true, Greeting::Passes)
    }

    /// The session after STARTTLS: nothing is known of the one before it (RFC 3207 4.2).
    pub fn after_starttls(policy: Policy) -> Wrap {
        Wrap::new(policy, true, Greeting::Swallowed(Vec::new()))
    }

    fn new(policy: Policy, tls: bool, greeting: Greeting) -> Wrap {
        Wrap {
            policy,
            progress: Progress { tls, authenticated: false },
            stage: Stage::Talking,
            greeting,
            client: ClientStream::new(LINE_LIMIT),
            program: LineReader::new(LINE_LIMIT),
            dialogue: Dialogue::new(),
            ehlo: EhloReply::default(),
            chunking: false,
            eats_chunk: false,
            auth_refused: false,
            in_transaction: false,
            resetting: false,
            client_ended: false,
            in_reply: false,
            closing: false,
            notes: Vec::new(),
        }
    }

    /// What the client sent.
    pub fn client_says(&mut self, bytes: &[u8], out: &mut Outbox) {
        self.client.push(bytes);
        self.turn(out);
    }

    /// What the program sent.
    pub fn program_says(&mut self, bytes: &[u8], out: &mut Outbox) {
        self.program.push(bytes);
        loop {
            let line = match self.program.next_line() {
                None => return,
                Some(Line::Clean(line) | Line::Nul(line) | Line::Bare(line)) => line.to_vec(),
                Some(Line::TooLong) => return self.unexplained("a line too long", out),
            };
            if matches!(self.stage, Stage::Draining | Stage::Over) {
                continue;
            }
            self.reply_line(&line, out);
            self.turn(out);
        }
    }

    /// A side that ends.
    pub fn ended(&mut self, side: Side, out: &mut Outbox) {
        match side {
            Side::Client => {
                self.client_ended = true;
                match self.stage {
                    Stage::Draining => return self.end(b"", out),
                    Stage::Starting => self.stage = Stage::Ending(b""),
                    _ => {}
                }
                self.turn(out);
            }
            Side::Server => self.program_ended(out),
        }
    }

    /// Whether more of this side can be taken now.
    pub fn accepts(&self, side: Side) -> bool {
        match side {
            Side::Client => self.client.waiting() < HELD_LIMIT,
            Side::Server => true,
        }
    }

    /// How long is waited, and for whom (DESIGN 6.7: only the end of the chain limits the dialogue).
    pub fn patience(&self) -> Patience {
        match (&self.greeting, self.stage) {
            (_, Stage::Over) => LAST_WORDS,
            (_, Stage::Draining) => DRAIN_TIME,
            (Greeting::Swallowed(_) | Greeting::Refusal(_), _) => GREETING_TIME,
            // The reply to a chunk is not owed before its end.
            _ if self.dialogue.in_body() => IDLE_TIME,
            _ if self.dialogue.owes_reply() => REPLY_TIME,
            _ => IDLE_TIME,
        }
    }

    /// It was waited that long.
    pub fn expired(&mut self, out: &mut Outbox) {
        self.note("timeout");
        self.end(replies::TIMEOUT, out);
    }

    /// Ends the session between replies (RFC 5321 3.8).
    pub fn terminate(&mut self, out: &mut Outbox) {
        match self.stage {
            Stage::Talking | Stage::Starting => {
                self.note("terminated");
                self.stage = Stage::Ending(replies::SHUTTING_DOWN);
                self.turn(out);
            }
            Stage::Draining => {
                self.note("terminated");
                self.end(replies::SHUTTING_DOWN, out);
            }
            Stage::Ending(_) | Stage::Over => {}
        }
    }

    /// Whether the client asked for TLS and waits for the answer to that alone.
    pub fn wants_tls(&self) -> bool {
        self.stage == Stage::Starting && !self.dialogue.owes_reply()
    }

    /// Whether anything came behind STARTTLS: it must neither be run nor reach TLS (CVE-2011-0411).
    pub fn injected(&self) -> bool {
        !self.client.is_empty()
    }

    /// Goes on in clear after a STARTTLS that could not be granted (RFC 3207 4: 454).
    pub fn go_on_in_clear(&mut self, out: &mut Outbox) {
        self.stage = Stage::Talking;
        out.stop = false;
        out.client.extend_from_slice(replies::TLS_UNAVAILABLE);
        self.turn(out);
    }

    /// Ends the session with these words.
    pub fn end(&mut self, words: &[u8], out: &mut Outbox) {
        if self.stage != Stage::Over {
            out.client.extend_from_slice(words);
            out.stop = true;
            self.stage = Stage::Over;
        }
    }

    /// What the log should know, once.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Does everything that can be done with what has come.
    fn turn(&mut self, out: &mut Outbox) {
        loop {
            while let Some(reply) = self.dialogue.due() {
                out.client.extend(reply);
            }
            match self.stage {
                Stage::Talking => {}
                Stage::Starting => {
                    out.stop = self.wants_tls();
                    return;
                }
                Stage::Draining => {
                    if self.client.drain() {
                        self.end(replies::AMBIGUOUS_END, out);
                    }
                    return;
                }
                Stage::Ending(words) => return self.end_between_replies(words, out),
                Stage::Over => return,
            }
            if !self.take_from_client(out) {
                return;
            }
        }
    }

    fn end_between_replies(&mut self, words: &[u8], out: &mut Outbox) {
        if self.dialogue.in_body() || !(self.in_reply || self.dialogue.owes_reply()) {
            self.end(words, out);
        }
    }

    fn note(&mut self, event: &str) {
        self.notes.push(event.to_owned());
    }
}

/// RFC 4954 4 asks for AUTH lines of 12,288 octets; the program behind decides below this.
const LINE_LIMIT: usize = 16 * 1024;
/// How much of the client is held while a reply is awaited.
const HELD_LIMIT: usize = 64 * 1024;
/// The program after TLS must greet by then (RFC 5321 4.5.3.2.1).
const GREETING_TIME: Patience = Patience::Server(Duration::from_secs(300));
/// Longer than any program that keeps RFC 5321 4.5.3.2.7 and qmail's 1,200 s waits for a command.
const IDLE_TIME: Patience = Patience::Either(Duration::from_secs(1260));
/// Longer than any scanner takes for a message.
const REPLY_TIME: Patience = Patience::Server(Duration::from_secs(3600));
/// An ambiguous message is read to its end that long: 100 MB at a megabit a second.
const DRAIN_TIME: Patience = Patience::Server(Duration::from_secs(900));
/// For a client that does not read what ends its session.
const LAST_WORDS: Patience = Patience::Server(Duration::from_secs(300));
