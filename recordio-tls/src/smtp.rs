//! SMTP: shows the dialogue, hides what authenticates.

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

    fn show_command(&mut self, text: &[u8], ended: Ended, story: &mut Story) {
        let Command { verb, args } = Command::parse(text);
        match verb {
            Verb::Auth => {
                let verb = cut_word(text.trim_ascii_start()).0;
                let users = self.settings.users;
                self.exchange = Exchange::begin(verb, args, users, ended, story);
            }
            Verb::Other => self.show_other(text, args, ended, story),
            Verb::Bdat if wire::chunk(args).is_none() => {
                redact::show_verb(cut_word(text.trim_ascii_start()).0, args, ended, story);
            }
            _ => story.said(Side::Client, &[Piece::Shown(text)], ended),
        }
    }

    /// A word that is no command of SMTP: shown where it can only be one of an extension.
    fn show_other(&mut self, text: &[u8], args: &[u8], ended: Ended, story: &mut Story) {
        let word = cut_word(text.trim_ascii_start()).0;
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("ETRN") || is("XFORWARD") {
            return story.said(Side::Client, &[Piece::Shown(text)], ended);
        }
        if is("XCLIENT") {
            return show_xclient(word, args, ended, story);
        }
        if is("BURL") || !self.authenticating && redact::is_like_a_verb(word) {
            return redact::show_verb(word, args, ended, story);
        }
        story.said(Side::Client, &[Piece::Hidden(text.len())], ended);
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

    fn show_reply(
        &mut self,
        asked: Asked,
        text: &[u8],
        reply: &ReplyLine<'_>,
        ended: Ended,
        story: &mut Story,
    ) {
        let hides = matches!(asked, Asked::Command(Verb::Auth | Verb::Other) | Asked::AuthResponse);
        if !hides {
            return story.said(Side::Server, &[Piece::Shown(text)], ended);
        }
        let codes = text.len().saturating_sub(reply.text.len());
        let (codes, words) = text.split_at_checked(codes).unwrap_or((text, &[]));
        if reply.code == CHALLENGE {
            let challenge = self.exchange.challenge(words);
            return story.said(Side::Server, &[Piece::Shown(codes), challenge], ended);
        }
        let (status, words) = cut_status(words);
        let pieces = [Piece::Shown(codes), Piece::Shown(status), Piece::Hidden(words.len())];
        story.said(Side::Server, if words.is_empty() { &pieces[..2] } else { &pieces }, ended);
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

/// Postfix' XCLIENT: attributes of the client, of which only addresses and names may be seen.
fn show_xclient(verb: &[u8], args: &[u8], ended: Ended, story: &mut Story) {
    let mut pieces = vec![Piece::Shown(verb)];
    for attribute in args.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        pieces.push(Piece::Shown(b" "));
        let equals = attribute.iter().position(|&byte| byte == b'=');
        let (name, value) = attribute.split_at_checked(equals.unwrap_or(0)).unwrap_or_default();
        if XCLIENT_SHOWN.iter().any(|shown| name.eq_ignore_ascii_case(shown.as_bytes())) {
            pieces.push(Piece::Shown(attribute));
        } else if name.eq_ignore_ascii_case(b"LOGIN") {
            pieces.extend([Piece::Shown(name), Piece::Shown(b"=")]);
            pieces.push(Piece::Hidden(value.len().saturating_sub(1)));
        } else {
            pieces.push(Piece::Hidden(attribute.len()));
        }
    }
    story.said(Side::Client, &pieces, ended);
}

/// An enhanced status code with its blank (RFC 2034 4), and what follows it.
fn cut_status(text: &[u8]) -> (&[u8], &[u8]) {
    let (word, rest) = cut_word(text);
    let fields = word.split(|&byte| byte == b'.');
    let number =
        |field: &[u8]| (1..=3).contains(&field.len()) && field.iter().all(u8::is_ascii_digit);
    if word.iter().filter(|&&byte| byte == b'.').count() == 2 && fields.into_iter().all(number) {
        text.split_at_checked(text.len().saturating_sub(rest.len())).unwrap_or((text, &[]))
    } else {
        (&[], text)
    }
}

/// RFC 4954 4: the reply that asks for an answer.
const CHALLENGE: u16 = 334;

const XCLIENT_SHOWN: [&str; 8] =
    ["NAME", "ADDR", "PORT", "PROTO", "HELO", "DESTADDR", "DESTPORT", "REVERSE_NAME"];

const AMBIGUOUS_END: &str = "some servers would end the message here, others would not";
const NO_REPLY: &str = "the server does not speak SMTP";
const ODD_CHUNK: &str = "BDAT that some servers would not take";
