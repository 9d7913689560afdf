//! A dialogue in lines: both streams, and the protocol that says what is in them.

use plumb::middle::Side;
use wire::LineReader;

use crate::imap::Imap;
use crate::pop3::Pop3;
use crate::redact::{self, HELD_LIMIT, LINE_LIMIT, Settings, Then};
use crate::smtp::Smtp;
use crate::story::Story;

/// A protocol whose dialogue we can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP and submission.
    Smtp,
    /// POP3.
    Pop3,
    /// IMAP4.
    Imap,
}

/// One dialogue.
#[derive(Debug)]
pub struct Talk {
    client: LineReader,
    server: LineReader,
    session: Session,
}

#[derive(Debug)]
enum Session {
    Smtp(Box<Smtp>),
    Pop3(Box<Pop3>),
    Imap(Box<Imap>),
}

impl Talk {
    /// A dialogue before its greeting.
    pub fn new(protocol: Protocol, settings: Settings) -> Talk {
        let session = match protocol {
            Protocol::Smtp => Session::Smtp(Box::new(Smtp::new(settings))),
            Protocol::Pop3 => Session::Pop3(Box::new(Pop3::new(settings))),
            Protocol::Imap => Session::Imap(Box::new(Imap::new(settings))),
        };
        Talk { client: LineReader::new(LINE_LIMIT), server: LineReader::new(LINE_LIMIT), session }
    }

    /// Goes on with what a side said.
    pub fn bytes(&mut self, from: Side, bytes: &[u8], story: &mut Story) -> Then {
        match from {
            Side::Client => {
                self.client.push(bytes);
                self.client_says(story)
            }
            Side::Server => {
                self.server.push(bytes);
                self.server_says(story)
            }
        }
    }

    /// A side has ended in the middle of something.
    pub fn eof(&mut self, from: Side, story: &mut Story) {
        let reader = if from == Side::Client { &self.client } else { &self.server };
        if reader.rest().is_empty() && !reader.is_empty() {
            return redact::note_too_long(from, story);
        }
        match &mut self.session {
            Session::Smtp(smtp) => smtp.eof(from, reader.rest(), story),
            Session::Pop3(pop3) => pop3.eof(from, reader.rest(), story),
            Session::Imap(_) => redact::show_unended(from, reader.rest(), story),
        }
    }

    /// What a side said that nobody has looked at.
    pub fn unread(&self, from: Side) -> &[u8] {
        if from == Side::Client { self.client.rest() } else { self.server.rest() }
    }

    /// Whether the last reply to anything but a goodbye refused it.
    pub fn failed(&self) -> bool {
        match &self.session {
            Session::Smtp(smtp) => smtp.failed(),
            Session::Pop3(pop3) => pop3.failed(),
            Session::Imap(imap) => imap.failed(),
        }
    }

    fn client_says(&mut self, story: &mut Story) -> Then {
        loop {
            let step = match &mut self.session {
                Session::Smtp(smtp) => smtp.client(&mut self.client, story),
                Session::Pop3(pop3) => pop3.client(&mut self.client, story),
                Session::Imap(imap) => imap.client(&mut self.client, story),
            };
            match step {
                Some(Then::Same) => {}
                Some(then) => return then,
                None if self.client.rest().len() > HELD_LIMIT => {
                    return Then::Dark(redact::TOO_EARLY);
                }
                None => return Then::Same,
            }
        }
    }

    /// Behind each single reply the client's held lines are tried: it may have said what they are.
    fn server_says(&mut self, story: &mut Story) -> Then {
        loop {
            let step = match &mut self.session {
                Session::Smtp(smtp) => smtp.server(&mut self.server, story),
                Session::Pop3(pop3) => pop3.server(&mut self.server, story),
                Session::Imap(imap) => imap.server(&mut self.server, story),
            };
            let Some(then) = step else { return Then::Same };
            if matches!(then, Then::Tls | Then::TlsRefused) {
                redact::note_injection(self.client.rest(), story);
            }
            if !matches!(then, Then::Same | Then::TlsRefused) {
                return then;
            }
            let then = self.client_says(story);
            if then != Then::Same {
                return then;
            }
        }
    }
}
