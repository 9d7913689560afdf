//! What the client says: passed on, refused, or an end of its own.

use plumb::middle::Outbox;
use wire::{BadLine, Command, Expect, FromClient, Verb, chunk};

use super::{Greeting, Stage, Wrap};
use crate::replies;

impl Wrap {
    /// Takes the next thing that the client said; false when there is none.
    pub(super) fn take_from_client(&mut self, out: &mut Outbox) -> bool {
        let expect = self.dialogue.expects();
        match self.client.next(expect) {
            None => {
                self.nothing_left(expect, out);
                return false;
            }
            Some(_) if matches!(self.greeting, Greeting::Refusal(_)) => self.refuse_all(out),
            Some(FromClient::Command(line)) => {
                let line = line.to_vec();
                self.command(&line, out);
            }
            Some(FromClient::AuthResponse(line)) => {
                pass_line(line, out);
                self.dialogue.forwarded_auth();
            }
            Some(FromClient::Bad(bad)) => self.bad_line(bad, expect, out),
            Some(FromClient::Body(part)) => out.server.extend_from_slice(part),
            Some(FromClient::BodyEnd(part)) => {
                out.server.extend_from_slice(part);
                self.dialogue.body_ended();
            }
            Some(FromClient::Ambiguous(part)) => {
                out.server.extend_from_slice(part);
                out.hang_up = true;
                self.stage = Stage::Draining;
                self.note("ambiguous end of data");
            }
            Some(FromClient::Chunk(octets)) => {
                if !self.eats_chunk {
                    out.server.extend_from_slice(octets);
                }
                self.dialogue.chunk_passed(octets.len());
            }
        }
        true
    }

    /// Passes the client's end on once nothing of what it said is held any more.
    fn nothing_left(&mut self, expect: Expect, out: &mut Outbox) {
        if !self.client_ended {
            return;
        }
        out.hang_up |= expect != Expect::Nothing || self.client.is_empty();
        if matches!(self.greeting, Greeting::Refusal(_)) {
            self.end(b"", out);
        }
    }

    fn command(&mut self, line: &[u8], out: &mut Outbox) {
        let command = Command::parse(line);
        let refusal = self.policy.refusal(command.verb, self.progress);
        match (command.verb, refusal) {
            (Verb::Bdat, _) => self.bdat(line, command.args, refusal, out),
            (verb, Some(refusal)) => {
                if verb == Verb::Auth && !self.auth_refused {
                    self.auth_refused = true;
                    self.note("AUTH refused");
                }
                self.dialogue.own(refusal);
            }
            (Verb::StartTls, None) => self.starttls(command.args),
            (Verb::Mail, None) if !self.progress.tls && has_requiretls(command.args) => {
                self.dialogue.own(replies::REQUIRETLS_IN_CLEAR);
            }
            (Verb::Other, None) if self.auth_refused => self.dialogue.own(replies::UNRECOGNISED),
            (verb, None) => {
                self.in_transaction |= verb == Verb::Mail;
                pass_line(line, out);
                self.dialogue.forwarded(verb);
            }
        }
    }

    fn starttls(&mut self, args: &[u8]) {
        if !args.is_empty() {
            self.dialogue.own(replies::STARTTLS_ARGUMENT);
        } else if self.progress.tls {
            self.dialogue.own(replies::TLS_ALREADY);
        } else if !self.policy.offers_starttls() {
            self.dialogue.own(replies::STARTTLS_UNKNOWN);
        } else if self.policy.keep && (self.in_transaction || self.progress.authenticated) {
            self.dialogue.own(replies::STARTTLS_TOO_LATE);
        } else {
            self.stage = Stage::Starting;
        }
    }

    fn bdat(&mut self, line: &[u8], args: &[u8], refusal: Option<&[u8]>, out: &mut Outbox) {
        let refusal = refusal.or((!self.chunking).then_some(replies::NO_CHUNKING));
        self.eats_chunk = refusal.is_some();
        match (chunk(args), refusal) {
            (None, _) => {
                self.note("malformed BDAT");
                self.stage = Stage::Ending(replies::BAD_CHUNK);
            }
            (Some((size, _)), Some(refusal)) => self.dialogue.refused_chunk(size, refusal),
            (Some((size, _)), None) => {
                pass_line(line, out);
                self.dialogue.forwarded_chunk(size);
            }
        }
    }

    fn bad_line(&mut self, bad: BadLine, expect: Expect, out: &mut Outbox) {
        if expect == Expect::AuthResponse {
            // RFC 4954 4: the program still waits for a line, and "*" cancels.
            pass_line(b"*", out);
            self.dialogue.sent_own_command();
        }
        match bad {
            BadLine::Bare | BadLine::Nul => self.dialogue.own(replies::BAD_LINE),
            BadLine::TooLong => self.dialogue.own(replies::LINE_TOO_LONG),
            BadLine::StartTls => {
                self.note("malformed STARTTLS");
                self.stage = Stage::Ending(replies::BAD_LINE);
            }
        }
    }
}

fn pass_line(line: &[u8], out: &mut Outbox) {
    out.server.extend_from_slice(line);
    out.server.extend_from_slice(b"\r\n");
}

/// Whether MAIL asks for TLS all the way (RFC 8689 4), behind its path.
fn has_requiretls(args: &[u8]) -> bool {
    let parameters = args.rsplit(|&byte| byte == b'>').next().unwrap_or_default();
    parameters.split(u8::is_ascii_whitespace).any(|one| one.eq_ignore_ascii_case(b"REQUIRETLS"))
}
