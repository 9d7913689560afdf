//! What the program says: passed on, shown as the policy has it, or kept from the client.

use plumb::middle::Outbox;
use wire::{Asked, FromServer, ReplyLine, Verb};

use super::{Greeting, HELD_LIMIT, Stage, Wrap};
use crate::ehlo::Shown;
use crate::replies;

impl Wrap {
    pub(super) fn reply_line(&mut self, line: &[u8], out: &mut Outbox) {
        let Some(parsed) = ReplyLine::parse(line) else {
            return self.unexplained("no reply line", out);
        };
        self.in_reply = !parsed.last;
        self.closing |= parsed.code == 421;
        match self.dialogue.server(&parsed) {
            FromServer::Reply(asked) => self.reply(asked, &parsed, line, out),
            FromServer::Closing => pass_reply(line, out),
            FromServer::Unasked => self.unexplained(&format!("code={}", parsed.code), out),
        }
    }

    fn reply(&mut self, asked: Asked, parsed: &ReplyLine<'_>, line: &[u8], out: &mut Outbox) {
        if parsed.last {
            self.take_note_of(asked, parsed, out);
        }
        match asked {
            Asked::Swallowed => {}
            Asked::Greeting => self.greet(parsed, line, out),
            Asked::Command(Verb::Ehlo) => self.ehlo_line(parsed, line, out),
            Asked::Command(_) | Asked::AuthResponse | Asked::Body => pass_reply(line, out),
        }
    }

    /// What a finished reply changes.
    fn take_note_of(&mut self, asked: Asked, reply: &ReplyLine<'_>, out: &mut Outbox) {
        match asked {
            Asked::Command(Verb::Auth) | Asked::AuthResponse => {
                self.progress.authenticated |= reply.code == 235;
            }
            Asked::Body => self.in_transaction = false,
            // Whatever is said behind QUIT is owed no reply (RFC 5321 4.1.1.10).
            Asked::Command(Verb::Quit) => self.closing |= reply.succeeded(),
            Asked::Command(Verb::Rset | Verb::Helo | Verb::Ehlo) if reply.succeeded() => {
                self.in_transaction = false;
            }
            Asked::Swallowed if std::mem::take(&mut self.resetting) && !reply.succeeded() => {
                self.unexplained("a refused RSET", out);
            }
            _ => {}
        }
    }

    fn greet(&mut self, parsed: &ReplyLine<'_>, line: &[u8], out: &mut Outbox) {
        let Greeting::Swallowed(lines) = &mut self.greeting else {
            return pass_reply(line, out);
        };
        lines.extend_from_slice(line);
        lines.extend_from_slice(b"\r\n");
        if lines.len() > HELD_LIMIT {
            return self.unexplained("a greeting too long", out);
        }
        if parsed.last {
            self.greeting = match parsed.code {
                220 => Greeting::Passes,
                _ => Greeting::Refusal(std::mem::take(lines)),
            };
        }
    }

    pub(super) fn refuse_all(&mut self, out: &mut Outbox) {
        if let Greeting::Refusal(lines) = std::mem::replace(&mut self.greeting, Greeting::Passes) {
            self.note("the program refused the session inside TLS");
            self.end(&lines, out);
        }
    }

    fn ehlo_line(&mut self, parsed: &ReplyLine<'_>, line: &[u8], out: &mut Outbox) {
        if !self.ehlo.push(line) {
            return self.unexplained("an EHLO reply too long", out);
        }
        if parsed.last {
            let clear = !self.progress.tls;
            let finished = self.ehlo.finish(Shown {
                starttls: clear && self.policy.offers_starttls(),
                auth: self.policy.allows_auth(self.progress.tls),
                requiretls: !clear,
            });
            self.chunking = finished.chunking;
            out.client.extend(finished.reply);
        }
    }

    pub(super) fn program_ended(&mut self, out: &mut Outbox) {
        let owed = self.dialogue.owes_reply() || self.dialogue.in_body();
        match self.stage {
            Stage::Draining | Stage::Over => {}
            Stage::Starting if !owed => {}
            _ if matches!(self.greeting, Greeting::Refusal(_)) => {}
            _ if owed && !self.closing => {
                self.note("the program is gone");
                self.end(replies::PROGRAM_GONE, out);
            }
            _ => self.end(b"", out),
        }
    }

    pub(super) fn unexplained(&mut self, what: &str, out: &mut Outbox) {
        self.note(&format!("unexplained words of the program: {what}"));
        self.end(replies::PROGRAM_GONE, out);
    }
}

fn pass_reply(line: &[u8], out: &mut Outbox) {
    out.client.extend_from_slice(line);
    out.client.extend_from_slice(b"\r\n");
}
