//! The gate between client and program: a `Middle` that turns recipients away and keeps both sides in step.
//!
//! Recipients that the program has taken and the client was refused are ghosts; the program never
//! holds ghosts and real recipients at the same time.

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::time::Duration;

use plumb::middle::{Middle, Outbox, Patience, Side};
use wire::{ClientStream, Dialogue, Expect, FromClient, LineReader};

use crate::judge::Judge;
use crate::transaction::{Offer, Transaction};
use crate::words::{self, Event};

/// One session.
pub struct Gate {
    judge: Judge,
    client: ClientStream,
    server: LineReader,
    dialogue: Dialogue,
    stage: Stage,
    transaction: Option<Transaction>,
    under_way: UnderWay,
    /// A command that is judged only when every reply before it is known.
    held: Option<Vec<u8>>,
    /// Whether the program's last EHLO reply offered CHUNKING.
    chunking: bool,
    octets: Octets,
    client_gone: bool,
}

/// How far the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Both sides speak SMTP.
    Dialogue,
    /// TLS has begun behind us: bytes pass.
    Blind,
    /// An ambiguous body is read to its end.
    Draining,
    /// Nothing passes any more.
    Over,
}

/// What the reply that is awaited will change.
#[derive(Debug, PartialEq, Eq)]
enum UnderWay {
    Nothing,
    /// MAIL with its line.
    Mail(Vec<u8>),
    /// RCPT.
    Rcpt(Offer),
    /// BDAT LAST.
    LastChunk,
    /// RSET of our own, so that a transaction refused by us is over.
    Forget,
    /// RSET of our own, then MAIL again, then this RCPT line.
    Restart(Vec<u8>, Offer),
    /// MAIL again, then this RCPT line.
    Replay(Vec<u8>, Offer),
}

/// Where a chunk's octets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Octets {
    Pass,
    Eaten,
}

impl Gate {
    /// A gate before the program's greeting.
    pub fn new(judge: Judge) -> Gate {
        Gate {
            judge,
            client: ClientStream::new(COMMAND_LIMIT),
            server: LineReader::new(REPLY_LIMIT),
            dialogue: Dialogue::new(),
            stage: Stage::Dialogue,
            transaction: None,
            under_way: UnderWay::Nothing,
            held: None,
            chunking: false,
            octets: Octets::Pass,
            client_gone: false,
        }
    }

    /// The session is over, and nobody waits any more.
    pub fn finish(&mut self) {
        self.judge.finish();
    }

    /// Goes on as far as what has arrived allows. After every single reply the client's turn comes
    /// first, since a reply says what the client's next line is.
    fn run(&mut self, out: &mut Outbox) {
        loop {
            while let Some(reply) = self.dialogue.due() {
                out.client.extend(reply);
            }
            if !self.take_from_client(out) && !self.take_from_server(out) {
                break;
            }
        }
        out.hang_up |= self.client_gone && !self.has_more_for_server();
    }

    /// Whether something is left that will go to the program once it has answered.
    fn has_more_for_server(&self) -> bool {
        let starting_over = matches!(self.under_way, UnderWay::Restart(..) | UnderWay::Replay(..));
        let waits = self.client.waiting() > 0 && self.dialogue.expects() == Expect::Nothing;
        self.held.is_some() || starting_over || waits
    }

    /// TLS begins behind us, so nothing can be judged any more.
    fn go_blind(&mut self, out: &mut Outbox) {
        self.judge.report(&Event::Blind);
        self.stage = Stage::Blind;
        if let Some(FromClient::Chunk(bytes)) = self.client.next(Expect::Chunk(u64::MAX)) {
            out.server.extend_from_slice(bytes);
        }
        let rest = self.server.rest().len();
        out.client.extend_from_slice(self.server.take(rest));
    }

    fn drain(&mut self, out: &mut Outbox) {
        if self.client.drain() {
            self.end(words::AMBIGUOUS, out);
        } else if self.client_gone {
            out.stop = true;
        }
    }

    fn out_of_step(&mut self, out: &mut Outbox) {
        self.judge.report(&Event::OutOfStep);
        self.end(words::OUT_OF_STEP, out);
    }

    fn end(&mut self, reply: &[u8], out: &mut Outbox) {
        out.client.extend_from_slice(reply);
        out.hang_up = true;
        out.stop = true;
        self.stage = Stage::Over;
    }
}

impl Middle for Gate {
    fn bytes(&mut self, from: Side, bytes: &[u8], out: &mut Outbox) {
        match (self.stage, from) {
            (Stage::Blind, Side::Client) => out.server.extend_from_slice(bytes),
            (Stage::Blind, Side::Server) => out.client.extend_from_slice(bytes),
            (Stage::Draining, Side::Client) => {
                self.client.push(bytes);
                self.drain(out);
            }
            (Stage::Draining, Side::Server) | (Stage::Over, _) => {}
            (Stage::Dialogue, Side::Client) => {
                self.client.push(bytes);
                self.run(out);
            }
            (Stage::Dialogue, Side::Server) => {
                self.server.push(bytes);
                self.run(out);
            }
        }
    }

    fn eof(&mut self, from: Side, out: &mut Outbox) {
        match (self.stage, from) {
            (Stage::Draining, Side::Server) => {}
            (Stage::Dialogue, Side::Server) if self.dialogue.owes_reply() => {
                self.end(words::PROGRAM_GONE, out);
            }
            (Stage::Draining, Side::Client) | (_, Side::Server) => out.stop = true,
            (Stage::Blind, Side::Client) => out.hang_up = true,
            (_, Side::Client) => {
                self.client_gone = true;
                self.run(out);
            }
        }
    }

    fn accepts(&self, from: Side) -> bool {
        from == Side::Server || self.client.waiting() < HELD_LIMIT
    }

    fn patience(&self) -> Patience {
        match self.stage {
            Stage::Over => LAST_WORDS,
            Stage::Draining => DRAINING,
            // The reply to a chunk is not owed before its end.
            _ if self.dialogue.in_body() => IDLE,
            _ if self.dialogue.owes_reply() => OWING,
            _ => IDLE,
        }
    }

    fn expired(&mut self, out: &mut Outbox) {
        self.judge.report(&Event::Timeout);
        // Inside TLS no word of ours would be understood.
        let reply = if self.stage == Stage::Blind { b"" } else { words::TIMEOUT };
        self.end(reply, out);
    }
}

/// The address of MAIL or RCPT; where it is malformed, and the program takes it all the same, the whole argument.
fn address(args: &[u8], keyword: &[u8]) -> Vec<u8> {
    wire::path(args, keyword).map_or_else(|_| args.to_vec(), |(address, _)| address)
}

fn put(to: &mut Vec<u8>, line: &[u8]) {
    to.extend_from_slice(line);
    to.extend_from_slice(b"\r\n");
}

/// Longest command line: 12,288 bytes of AUTH (RFC 4954 4) and what may stand before them.
const COMMAND_LIMIT: usize = 16_384;

/// Longest reply line: a challenge may be as long as an answer to one.
const REPLY_LIMIT: usize = 16_384;

/// How many bytes of a client wait for their turn; more stay in its socket.
const HELD_LIMIT: usize = 65_536;

/// Only the end of the chain limits the dialogue; this is longer than its 1,200 s.
const IDLE: Patience = Patience::Either(Duration::from_secs(1_260));

/// A program that scans what it got may be silent for long (RFC 5321 4.5.3.2.6: 10 minutes).
const OWING: Patience = Patience::Server(Duration::from_secs(3_600));

/// An ambiguous message is read to its end that long: 100 MB at a megabit a second.
const DRAINING: Patience = Patience::Server(Duration::from_secs(900));

/// For a client that does not read what ends its session.
const LAST_WORDS: Patience = Patience::Server(Duration::from_secs(300));
