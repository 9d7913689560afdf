//! SMTP: shows the dialogue, hides what authenticates.

mod show;

use plumb::relay::Side;
use wire::{
    Asked, Body, Command, Dialogue, Expect, FromServer, LineReader, ReplyLine, Verb, Verdict,
};

use crate::message::Message;
use crate::redact::{self, Exchange, HELD_LIMIT, LINE_LIMIT, Read, Settings, Then, cut_word};
use crate::story::{Ended, Piece, Story};

/// One SMTP session.
#[derive(Debug)]
pub struct Smtp {
    client: LineReader,
    server: LineReader,
    session: Session,
}

#[derive(Debug)]
struct Session {
    settings: Settings,
    dialogue: Dialogue,
    end: Body,
    message: Message,
    exchange: Exchange,
    /// AUTH has been tried: a line that is no command may be a secret.
    authenticating: bool,
    /// The last EHLO reply offered CHUNKING.
    chunking: bool,
    /// The chunk under way is the last one of its message.
    last_chunk: bool,
    starttls_answered: bool,
    failed: bool,
}

impl Smtp {
    /// A session before its greeting.
    pub fn new(settings: Settings) -> Smtp {
        Smtp {
            client: LineReader::new(LINE_LIMIT),
            server: LineReader::new(LINE_LIMIT),
            session: Session {
                settings,
                dialogue: Dialogue::new(),
                end: Body::new(),
                message: Message::new(settings.show),
                exchange: Exchange::Other,
                authenticating: false,
                chunking: false,
                last_chunk: false,
                starttls_answered: false,
                failed: false,
            },
        }
    }

    /// Goes on with what a side said.
    pub fn bytes(&mut self, from: Side, bytes: &[u8], story: &mut Story) -> Then {
        match from {
            Side::Client => {
                self.client.push(bytes);
                self.client_lines(story)
            }
            Side::Server => {
                self.server.push(bytes);
                self.server_lines(story)
            }
        }
    }

    /// A side has ended; what it said without a line end is shown like a line.
    pub fn eof(&mut self, from: Side, story: &mut Story) {
        match from {
            Side::Client => self.client_eof(story),
            Side::Server => redact::show_unended(from, &self.server, story),
        }
    }

    /// What a side said that nobody has looked at.
    pub fn unread(&self, from: Side) -> &[u8] {
        if from == Side::Client { self.client.rest() } else { self.server.rest() }
    }

    /// Whether the last reply to anything but QUIT refused it.
    pub fn failed(&self) -> bool {
        self.session.failed
    }

    fn client_lines(&mut self, story: &mut Story) -> Then {
        loop {
            let then = match self.session.dialogue.expects() {
                Expect::Nothing if self.client.rest().len() > HELD_LIMIT => {
                    Then::Dark(redact::TOO_EARLY)
                }
                Expect::Nothing => return Then::Same,
                Expect::Command => {
                    let Some(line) = self.client.next_line() else { return Then::Same };
                    self.session.command(redact::read(line), story)
                }
                Expect::AuthResponse => {
                    let Some(line) = self.client.next_line() else { return Then::Same };
                    self.session.answer(redact::read(line), story)
                }
                Expect::Body => {
                    let (count, verdict) = self.session.end.scan(self.client.rest());
                    if count == 0 && verdict == Verdict::More {
                        return Then::Same;
                    }
                    self.session.body(self.client.take(count), verdict, story)
                }
                Expect::Chunk(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX);
                    match self.client.take(count) {
                        [] => return Then::Same,
                        octets => self.session.chunk(octets, story),
                    }
                }
            };
            if then != Then::Same {
                return then;
            }
        }
    }

    fn server_lines(&mut self, story: &mut Story) -> Then {
        while let Some(line) = self.server.next_line() {
            let Some((text, ended)) = redact::read_reply(line) else {
                return Then::Dark(redact::LONG_REPLY);
            };
            let then = self.session.reply(text, ended, story);
            if std::mem::take(&mut self.session.starttls_answered) {
                redact::note_injection(self.client.rest(), story);
            }
            if then != Then::Same {
                return then;
            }
            let then = self.client_lines(story);
            if then != Then::Same {
                return then;
            }
        }
        Then::Same
    }

    fn client_eof(&mut self, story: &mut Story) {
        let (from, rest) = (Side::Client, self.client.rest());
        match self.session.dialogue.expects() {
            Expect::Body => self.session.message.cut(from, "body", story),
            Expect::Chunk(_) => self.session.message.cut(from, "chunk", story),
            _ if rest.is_empty() => {}
            Expect::Command => self.session.show_command(rest, Ended::Open, story),
            _ => redact::show_unended(from, &self.client, story),
        }
    }
}

impl Session {
    fn command(&mut self, line: Read<'_>, story: &mut Story) -> Then {
        match line {
            Read::BareCr => return Then::Dark(redact::BARE_CR),
            Read::TooLong => redact::note_too_long(Side::Client, story),
            Read::Nul(count, ended) => story.said(Side::Client, &[Piece::Hidden(count)], ended),
            Read::Text(text, ended) => {
                self.show_command(text, ended, story);
                return self.forwarded(Command::parse(text));
            }
        }
        self.dialogue.forwarded(Verb::Other);
        Then::Same
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

    fn answer(&mut self, line: Read<'_>, story: &mut Story) -> Then {
        let mut user = Vec::new();
        match line {
            Read::BareCr => return Then::Dark(redact::BARE_CR),
            Read::TooLong => redact::note_too_long(Side::Client, story),
            Read::Nul(count, ended) => story.said(Side::Client, &[Piece::Hidden(count)], ended),
            Read::Text(text, ended) => {
                let answer = self.exchange.answer(text, self.settings.users, &mut user);
                story.said(Side::Client, &[answer], ended);
            }
        }
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
                story.said(Side::Server, &[Piece::Shown(text)], ended);
                return Then::Same;
            }
            FromServer::Unasked => return Then::Dark(redact::UNASKED),
        };
        self.show_reply(asked, text, &reply, ended, story);
        self.learn(asked, &reply)
    }

    /// What the reply changes.
    fn learn(&mut self, asked: Asked, reply: &ReplyLine<'_>) -> Then {
        if asked != Asked::Command(Verb::Quit) {
            self.failed = reply.code >= 400;
        }
        match asked {
            Asked::Command(Verb::Ehlo) if reply.code == 250 => {
                let keyword = cut_word(reply.text).0;
                self.chunking |= keyword.eq_ignore_ascii_case(b"CHUNKING");
            }
            Asked::Command(Verb::StartTls) if reply.last => {
                self.starttls_answered = true;
                if reply.code == 220 {
                    return Then::Tls;
                }
            }
            _ => {}
        }
        Then::Same
    }
}

const AMBIGUOUS_END: &str = "some servers would end the message here, others would not";
const NO_REPLY: &str = "the server does not speak SMTP";
const ODD_CHUNK: &str = "BDAT that some servers would not take";
