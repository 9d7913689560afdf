//! What the program says, what it changes, and whether the client hears it.

use plumb::middle::Outbox;
use wire::{Asked, Command, FromServer, Line, ReplyLine, Verb};

use super::{Gate, Stage, UnderWay, address, put};
use crate::transaction::{Offer, Transaction};
use crate::words;

impl Gate {
    /// Takes one reply line from the program; false if there is none yet.
    pub(super) fn take_from_server(&mut self, out: &mut Outbox) -> bool {
        if self.stage != Stage::Dialogue {
            return false;
        }
        let Some(line) = self.server.next_line() else { return false };
        let line = match line {
            Line::Clean(line) | Line::Nul(line) | Line::Bare(line) => line.to_vec(),
            Line::TooLong => Vec::new(),
        };
        let Some(reply) = ReplyLine::parse(&line).filter(|_| !line.contains(&b'\r')) else {
            self.out_of_step(out);
            return true;
        };
        match self.dialogue.server(&reply) {
            FromServer::Reply(Asked::Swallowed) => {
                if reply.last {
                    self.own_command_answered(reply.succeeded(), out);
                }
            }
            FromServer::Reply(asked) => self.answered(asked, &reply, &line, out),
            FromServer::Closing => put(&mut out.client, &line),
            FromServer::Unasked => self.out_of_step(out),
        }
        true
    }

    /// A reply line of the program's to a command of the client's.
    fn answered(&mut self, asked: Asked, reply: &ReplyLine<'_>, line: &[u8], out: &mut Outbox) {
        if asked == Asked::Command(Verb::Rcpt) && reply.succeeded() && self.hides_success() {
            if reply.last {
                self.hidden_success(line, out);
            }
            return;
        }
        put(&mut out.client, line);
        if asked == Asked::Command(Verb::Ehlo) && reply.succeeded() {
            self.chunking |= reply.text.trim_ascii().eq_ignore_ascii_case(b"CHUNKING");
        }
        if reply.last {
            self.follow(asked, reply, out);
        }
    }

    fn hides_success(&self) -> bool {
        matches!(self.under_way, UnderWay::Rcpt(Offer::Ghost(_) | Offer::Unexplained))
    }

    /// The program has taken a recipient that must come back, or one without any MAIL before it.
    fn hidden_success(&mut self, line: &[u8], out: &mut Outbox) {
        match (take(&mut self.under_way), &mut self.transaction) {
            (UnderWay::Rcpt(Offer::Ghost(attempt)), Some(transaction)) => {
                let left = attempt.left();
                match transaction.ghost(attempt, &mut self.judge) {
                    true => out.client.extend(words::greylisted(left)),
                    false => put(&mut out.client, line),
                }
            }
            _ => self.out_of_step(out),
        }
    }

    /// A whole reply has come: what it changes.
    fn follow(&mut self, asked: Asked, reply: &ReplyLine<'_>, out: &mut Outbox) {
        use Verb::*;
        let under_way = match asked {
            Asked::Command(Mail | Rcpt | Bdat) => take(&mut self.under_way),
            _ => UnderWay::Nothing,
        };
        match (asked, under_way) {
            (Asked::Command(Mail), UnderWay::Mail(line)) if reply.succeeded() => {
                let sender = address(Command::parse(&line).args, b"FROM");
                Transaction::mail(&mut self.transaction, line, sender);
            }
            (Asked::Command(Rcpt), UnderWay::Rcpt(offer)) if reply.succeeded() => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.taken(offer, &mut self.judge);
                }
            }
            (Asked::Command(Rset | Helo | Ehlo), _) if reply.succeeded() => {
                self.transaction = None;
            }
            (Asked::Body, _) | (Asked::Command(Bdat), UnderWay::LastChunk) => {
                self.transaction = None;
            }
            (Asked::Command(Auth) | Asked::AuthResponse, _) if reply.code == LOGGED_IN => {
                self.judge.trust();
            }
            (Asked::Command(Quit), _) if reply.succeeded() => self.stage = Stage::Over,
            (Asked::Command(StartTls), _) if reply.code == TLS_GO => self.go_blind(out),
            _ => {}
        }
    }

    /// The program has answered a command of our own.
    fn own_command_answered(&mut self, succeeded: bool, out: &mut Outbox) {
        let mail = self.transaction.as_ref().map(|transaction| transaction.line().to_vec());
        match (take(&mut self.under_way), succeeded, mail) {
            (UnderWay::Forget, true, _) => self.transaction = None,
            (UnderWay::Restart(rcpt, offer), true, Some(mail)) => {
                self.own_command(&mail, out);
                self.under_way = UnderWay::Replay(rcpt, offer);
            }
            (UnderWay::Replay(rcpt, offer), true, _) => {
                self.transaction.iter_mut().for_each(Transaction::restarted);
                self.offer(&rcpt, offer, out);
            }
            (UnderWay::Replay(..), false, _) => {
                self.transaction = None;
                self.dialogue.own(words::NOT_RESTARTED);
            }
            (UnderWay::Restart(..), ..) => self.dialogue.own(words::NOT_RESTARTED),
            _ => {}
        }
    }
}

fn take(under_way: &mut UnderWay) -> UnderWay {
    std::mem::replace(under_way, UnderWay::Nothing)
}

/// RFC 4954 6.
const LOGGED_IN: u16 = 235;

/// RFC 3207 4.
const TLS_GO: u16 = 220;
