//! What the client says, and whether it goes on to the program.

use plumb::middle::Outbox;
use wire::{BadLine, Command, FromClient, Verb, chunk};

use super::{Gate, Octets, Stage, UnderWay, address, put};
use crate::judge::{Ruling, Verdict};
use crate::transaction::Offer;
use crate::words::{self, Event};

impl Gate {
    /// Takes one thing from the client; false if there is nothing, or not yet.
    pub(super) fn take_from_client(&mut self, out: &mut Outbox) -> bool {
        if self.stage != Stage::Dialogue {
            return false;
        }
        if let Some(line) = self.held.take() {
            self.command(line, out);
            return self.held.is_none();
        }
        let Some(next) = self.client.next(self.dialogue.expects()) else { return false };
        match next {
            FromClient::Command(line) => {
                let line = line.to_vec();
                self.command(line, out);
                return self.held.is_none();
            }
            FromClient::AuthResponse(line) => {
                put(&mut out.server, line);
                self.dialogue.forwarded_auth();
            }
            FromClient::Bad(BadLine::TooLong) => self.dialogue.own(words::LONG_LINE),
            FromClient::Bad(BadLine::Bare | BadLine::Nul | BadLine::StartTls) => {
                self.dialogue.own(words::BAD_LINE)
            }
            FromClient::Body(part) => out.server.extend_from_slice(part),
            FromClient::BodyEnd(part) => {
                out.server.extend_from_slice(part);
                self.dialogue.body_ended();
            }
            FromClient::Ambiguous(part) => {
                out.server.extend_from_slice(part);
                out.hang_up = true;
                self.judge.report(&Event::Ambiguous);
                self.stage = Stage::Draining;
                self.drain(out);
            }
            FromClient::Chunk(octets) => {
                if self.octets == Octets::Pass {
                    out.server.extend_from_slice(octets);
                }
                self.dialogue.chunk_passed(octets.len());
            }
        }
        true
    }

    fn command(&mut self, line: Vec<u8>, out: &mut Outbox) {
        let Command { verb, args } = Command::parse(&line);
        if touches_transaction(verb) && self.dialogue.owes_reply() {
            self.held = Some(line);
            return;
        }
        match verb {
            Verb::Mail => {
                self.forward(verb, &line, out);
                self.under_way = UnderWay::Mail(line);
            }
            Verb::Rcpt => self.rcpt(&line, args, out),
            Verb::Data => match self.refusal() {
                None => self.forward(verb, &line, out),
                Some(reply) => {
                    self.dialogue.own(&reply);
                    self.forget(out);
                }
            },
            Verb::Bdat => self.bdat(&line, args, out),
            Verb::Ehlo => {
                self.chunking = false;
                self.forward(verb, &line, out);
            }
            verb => self.forward(verb, &line, out),
        }
    }

    fn rcpt(&mut self, line: &[u8], args: &[u8], out: &mut Outbox) {
        let Some(transaction) = &self.transaction else {
            return self.offer(line, Offer::Unexplained, out);
        };
        let (sender, recipient) = (transaction.sender(), address(args, b"TO"));
        let offer = match self.judge.ruling(sender, &recipient) {
            Ruling::Refuse => return self.dialogue.own(words::REFUSED),
            Ruling::Pass => Offer::Real,
            // Callouts ask with a null sender and go away: it waits at DATA (RFC 6647 4.2).
            Ruling::Wait(delay) if sender.is_empty() => Offer::Late { recipient, delay },
            Ruling::Wait(delay) => {
                match self.judge.verdict(sender, &recipient, delay, transaction.first()) {
                    Verdict::Pass => Offer::Real,
                    Verdict::Admit(attempt) => Offer::Admitted(attempt),
                    Verdict::Delay(attempt) if !self.judge.enforced => Offer::Watched(attempt),
                    Verdict::Delay(attempt) if transaction.has_real() => {
                        self.judge.delayed(&attempt);
                        return self.dialogue.own(&words::greylisted(attempt.left()));
                    }
                    Verdict::Delay(attempt) => Offer::Ghost(attempt),
                }
            }
        };
        if transaction.has_ghosts() && offer.is_real() {
            self.own_command(b"RSET", out);
            self.under_way = UnderWay::Restart(line.to_vec(), offer);
        } else {
            self.offer(line, offer, out);
        }
    }

    /// What DATA or BDAT gets instead of being forwarded.
    fn refusal(&mut self) -> Option<Vec<u8>> {
        let transaction = self.transaction.as_mut()?;
        transaction.refusal(&mut self.judge).map(words::greylisted)
    }

    fn bdat(&mut self, line: &[u8], args: &[u8], out: &mut Outbox) {
        let Some((size, last)) = chunk(args) else {
            return self.end(words::BAD_CHUNK, out);
        };
        self.octets = Octets::Eaten;
        if !self.chunking {
            self.dialogue.refused_chunk(size, words::NO_CHUNKING);
        } else if let Some(reply) = self.refusal() {
            self.forget(out);
            self.dialogue.refused_chunk(size, &reply);
        } else {
            self.octets = Octets::Pass;
            put(&mut out.server, line);
            self.dialogue.forwarded_chunk(size);
            if last {
                self.under_way = UnderWay::LastChunk;
            }
        }
    }

    pub(super) fn offer(&mut self, line: &[u8], offer: Offer, out: &mut Outbox) {
        self.forward(Verb::Rcpt, line, out);
        self.under_way = UnderWay::Rcpt(offer);
    }

    fn forward(&mut self, verb: Verb, line: &[u8], out: &mut Outbox) {
        put(&mut out.server, line);
        self.dialogue.forwarded(verb);
    }

    pub(super) fn own_command(&mut self, line: &[u8], out: &mut Outbox) {
        put(&mut out.server, line);
        self.dialogue.sent_own_command();
    }

    fn forget(&mut self, out: &mut Outbox) {
        self.own_command(b"RSET", out);
        self.under_way = UnderWay::Forget;
    }
}

/// Whether a command is judged by the state of the transaction, or changes it.
fn touches_transaction(verb: Verb) -> bool {
    use Verb::*;
    matches!(verb, Mail | Rcpt | Data | Bdat | Rset | Helo | Ehlo | Auth)
}
