//! SMTP: shows the dialogue, hides what authenticates.

mod show;

use plumb::middle::Side;
use wire::{
    Asked, Body, Command, Dialogue, Expect, FromServer, Line, LineReader, ReplyLine, Verb, Verdict,
};

use crate::exchange::Exchange;
use crate::message::Message;
use crate::redact::{self, Burst, Settings, Then, cut_word};
use crate::story::{Ended, Story};

/// One SMTP session.
#[derive(Debug)]
pub struct Smtp {
    settings: Settings,
    dialogue: Dialogue,
    end: Body,
    message: Message,
    exchange: Exchange,
    burst: Burst,
    /// AUTH has been tried: a word that is no command may be a secret.
    authenticating: bool,
    /// The last EHLO reply offered CHUNKING.
    chunking: bool,
    /// The chunk under way is the last one of its message.
    last_chunk: bool,
    failed: bool,
}

impl Smtp {
    /// A session before its greeting.
    pub fn new(settings: Settings) -> Smtp {
        Smtp {
            settings,
            dialogue: Dialogue::new(),
            end: Body::new(),
            message: Message::new(settings.show),
            exchange: Exchange::Other,
            burst: Burst::default(),
            authenticating: false,
            chunking: false,
            last_chunk: false,
            failed: false,
        }
    }

    /// Looks at the next thing that the client said; none before more of it, or a reply, has come.
    pub fn client(&mut self, lines: &mut LineReader, story: &mut Story) -> Option<Then> {
        match self.dialogue.expects() {
            Expect::Nothing => None,
            Expect::Command if redact::is_tls(lines.rest()) => Some(Then::TlsUnasked),
            Expect::Command => Some(self.command(lines.next_line()?, story)),
            Expect::AuthResponse => Some(self.answer(lines.next_line()?, story)),
            Expect::Body => {
                let (count, verdict) = self.end.scan(lines.rest());
                (count > 0 || verdict != Verdict::More)
                    .then(|| self.body(lines.take(count), verdict, story))
            }
            Expect::Chunk(left) => {
                let octets = lines.take(usize::try_from(left).unwrap_or(usize::MAX));
                (!octets.is_empty()).then(|| self.chunk(octets, story))
            }
        }
    }

    /// Looks at the next reply line.
    pub fn server(&mut self, lines: &mut LineReader, story: &mut Story) -> Option<Then> {
        let Some((text, ended)) = redact::read_reply(lines.next_line()?) else {
            return Some(Then::Dark(redact::LONG_REPLY));
        };
        Some(self.reply(text, ended, story))
    }

    /// A side has ended; what it said without a line end is shown like a line, where all readers would read it alike.
    pub fn eof(&mut self, from: Side, rest: &[u8], story: &mut Story) {
        let odd =
            rest.strip_suffix(b"\r").unwrap_or(rest).iter().any(|byte| b"\r\0".contains(byte));
        match self.dialogue.expects() {
            _ if from == Side::Server => redact::show_unended(from, rest, story),
            Expect::Body => self.message.cut(from, "body", story),
            Expect::Chunk(_) => self.message.cut(from, "chunk", story),
            Expect::Command if !rest.is_empty() && !odd => {
                self.show_command(rest, Ended::Open, story);
            }
            _ => redact::show_unended(from, rest, story),
        }
    }

    /// Whether the last reply to anything but QUIT refused it.
    pub fn failed(&self) -> bool {
        self.failed
    }

    fn command(&mut self, line: Line<'_>, story: &mut Story) -> Then {
        let due = self.dialogue.owes_reply();
        match redact::read(line, story) {
            Err(dark) => dark,
            Ok(None) => {
                self.burst.asked(due, true);
                self.dialogue.forwarded(Verb::Other);
                Then::Same
            }
            Ok(Some((text, ended))) => {
                let secret = self.show_command(text, ended, story);
                self.burst.asked(due, secret);
                self.forwarded(Command::parse(text))
            }
        }
    }

    fn forwarded(&mut self, command: Command<'_>) -> Then {
        match command.verb {
            Verb::Bdat => return self.chunk_begins(command.args),
            Verb::Helo | Verb::Ehlo => self.chunking = false,
            Verb::Auth => self.authenticating = true,
            Verb::Data => self.message = Message::new(self.settings.show),
            _ => {}
        }
        self.dialogue.forwarded(command.verb);
        Then::Same
    }

    /// RFC 3030: octets follow, unless the server has never heard of them.
    fn chunk_begins(&mut self, args: &[u8]) -> Then {
        let Some((size, last)) = wire::chunk(args).filter(|_| self.chunking) else {
            return Then::Dark(ODD_CHUNK);
        };
        self.last_chunk = last;
        self.dialogue.forwarded_chunk(size);
        Then::Same
    }

    fn answer(&mut self, line: Line<'_>, story: &mut Story) -> Then {
        match redact::read(line, story) {
            Err(dark) => return dark,
            Ok(None) => {}
            Ok(Some((text, ended))) => {
                let mut user = Vec::new();
                let answer = self.exchange.answer(text, self.settings.users, &mut user);
                story.said(Side::Client, &[answer], ended);
            }
        }
        self.burst.asked(self.dialogue.owes_reply(), true);
        self.dialogue.forwarded_auth();
        Then::Same
    }

    fn body(&mut self, bytes: &[u8], verdict: Verdict, story: &mut Story) -> Then {
        let from = Side::Client;
        match verdict {
            Verdict::More => self.message.text(from, bytes, story),
            Verdict::End => {
                let text = bytes.strip_suffix(b".\r\n").unwrap_or(bytes);
                self.message.text(from, text, story);
                self.message.end_line(from, b".\r\n", story);
                self.message.end(from, "body", story);
                self.end = Body::new();
                self.dialogue.body_ended();
            }
            Verdict::Ambiguous => {
                self.message.text(from, bytes, story);
                self.message.cut(from, "body", story);
                return Then::Dark(AMBIGUOUS_END);
            }
        }
        Then::Same
    }

    fn chunk(&mut self, octets: &[u8], story: &mut Story) -> Then {
        self.message.text(Side::Client, octets, story);
        self.dialogue.chunk_passed(octets.len());
        if !matches!(self.dialogue.expects(), Expect::Chunk(_)) {
            if self.last_chunk {
                self.message.end(Side::Client, "chunk", story);
            } else {
                self.message.end_chunk(Side::Client, story);
            }
        }
        Then::Same
    }

    fn reply(&mut self, text: &[u8], ended: Ended, story: &mut Story) -> Then {
        let Some(reply) = ReplyLine::parse(text) else { return Then::Dark(NO_REPLY) };
        let asked = match self.dialogue.server(&reply) {
            FromServer::Reply(asked) => asked,
            FromServer::Closing => {
                // It may repeat what the last command was.
                let nothing = Asked::Command(Verb::Noop);
                self.show_reply(nothing, text, &reply, ended, story);
                return Then::Same;
            }
            FromServer::Unasked => return Then::Dark(redact::UNASKED),
        };
        self.show_reply(asked, text, &reply, ended, story);
        self.learn(asked, &reply, story)
    }

    /// What the reply changes.
    fn learn(&mut self, asked: Asked, reply: &ReplyLine<'_>, story: &mut Story) -> Then {
        if asked != Asked::Command(Verb::Quit) {
            self.failed = reply.code >= 400;
        }
        match asked {
            Asked::Command(Verb::Ehlo) if reply.code == 250 => {
                let keyword = cut_word(reply.text).0;
                self.chunking |= keyword.eq_ignore_ascii_case(b"CHUNKING");
                show::note_masked(Side::Server, keyword, story);
                Then::Same
            }
            Asked::Command(Verb::StartTls) if reply.last && reply.code == 220 => Then::Tls,
            Asked::Command(Verb::StartTls) if reply.last => Then::TlsRefused,
            _ => Then::Same,
        }
    }
}

const AMBIGUOUS_END: &str = "some servers would end the message here, others would not";
const NO_REPLY: &str = "the server does not speak SMTP";
const ODD_CHUNK: &str = "BDAT that some servers would not take";
