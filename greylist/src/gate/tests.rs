//! The gate between a script and a small smtpd, both in memory.

#![allow(clippy::arithmetic_side_effects)]

mod answers;
mod chaos;
mod defects;
mod ghosts;
mod limits;
mod smtpd;
mod streams;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use plumb::middle::{Middle, Outbox, Patience, Side};

use super::Gate;
use crate::judge::Judge;
use crate::rules::Rules;
use crate::store::memory::Memory;
use crate::triplet::{Policy, Seconds};
use smtpd::{Quirk, Smtpd};

const NOW: Seconds = 1_800_000_000;
const HOST: &str = "192.0.2.0/24";

/// What all sessions of a test share.
struct Site {
    store: Memory,
    clock: Rc<Cell<Seconds>>,
    rules: Rules,
    enforced: bool,
    log: Rc<RefCell<Vec<String>>>,
    smtpd: Smtpd,
}

/// What came of a session.
#[derive(Debug)]
struct Played {
    /// What the client heard.
    heard: String,
    /// The lines that the smtpd saw.
    seen: Vec<String>,
    /// What the smtpd queued: sender, recipients, body.
    queued: Vec<(String, Vec<String>, Vec<u8>)>,
    stopped: bool,
}

impl Site {
    fn new() -> Site {
        Site {
            store: Memory::default(),
            clock: Rc::new(Cell::new(NOW)),
            rules: Rules::default(),
            enforced: true,
            log: Rc::default(),
            smtpd: Smtpd::default(),
        }
    }

    fn rules(mut self, text: &str) -> Site {
        self.rules = Rules::parse(text, 86_400).unwrap();
        self
    }

    fn smtpd(mut self, smtpd: Smtpd) -> Site {
        self.smtpd = smtpd;
        self
    }

    fn later(&self, seconds: Seconds) -> &Site {
        self.clock.set(self.clock.get() + seconds);
        self
    }

    fn judge(&self) -> Judge {
        let (clock, log) = (self.clock.clone(), self.log.clone());
        Judge {
            policy: Policy::default(),
            rules: self.rules.clone(),
            host: HOST.into(),
            host_only: false,
            enforced: self.enforced,
            store: Some(Box::new(self.store.clone())),
            asks: true,
            told: 0,
            clock: Box::new(move || clock.get()),
            report: Box::new(move |event| log.borrow_mut().push(event.to_string())),
        }
    }

    fn log(&self) -> String {
        self.log.borrow().join("\n")
    }

    /// What the same smtpd says without anybody in between.
    fn play_without(&self, input: &[u8]) -> Played {
        let mut smtpd = self.smtpd.clone();
        let mut heard = smtpd.greeting();
        heard.extend(smtpd.bytes(input));
        Played {
            heard: text(&heard),
            seen: smtpd.seen,
            queued: smtpd.queued,
            stopped: smtpd.closed,
        }
    }

    /// A session whose client sends these parts, each as soon as the one before has been dealt with.
    fn play_parts(&self, parts: &[&[u8]], reply_parts: usize) -> Played {
        let mut session = Session::new(self, reply_parts);
        for part in parts {
            session.client(part);
        }
        session.played()
    }

    fn play(&self, input: &str) -> Played {
        self.play_parts(&[input.as_bytes()], usize::MAX)
    }

    /// The session in one piece; and on other sites of the same state it is the same in every two pieces and byte by byte.
    fn play_split(&self, input: &[u8]) -> Played {
        let before = (self.store.copy(), self.log.borrow().clone());
        let rewind = || {
            self.store.put_back(&before.0);
            *self.log.borrow_mut() = before.1.clone();
        };
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        let mut ways: Vec<(Vec<&[u8]>, usize)> = vec![(bytes, 1)];
        let step = 1 + input.len() / 400;
        ways.extend((0..=input.len()).step_by(step).map(|at| {
            let (first, second) = input.split_at(at);
            (vec![first, second], if at % 2 == 0 { 7 } else { usize::MAX })
        }));
        let whole = self.play_parts(&[input], usize::MAX);
        let log = self.log();
        for (parts, reply_parts) in ways {
            rewind();
            let split = self.play_parts(&parts, reply_parts);
            let at = parts[0].len();
            assert_eq!(split.heard, whole.heard, "split at {at}");
            assert_eq!(split.seen, whole.seen, "split at {at}");
            assert_eq!(split.queued, whole.queued, "split at {at}");
            assert_eq!(self.log(), log, "split at {at}");
        }
        whole
    }
}

/// A gate with an smtpd behind it.
struct Session {
    gate: Gate,
    smtpd: Smtpd,
    out: Outbox,
    heard: Vec<u8>,
    reply_parts: usize,
}

impl Session {
    fn new(site: &Site, reply_parts: usize) -> Session {
        let mut session = Session {
            gate: Gate::new(site.judge()),
            smtpd: site.smtpd.clone(),
            out: Outbox::default(),
            heard: Vec::new(),
            reply_parts,
        };
        let greeting = session.smtpd.greeting();
        session.server(&greeting);
        session.pump();
        session
    }

    fn client(&mut self, bytes: &[u8]) {
        if !self.out.stop {
            self.gate.bytes(Side::Client, bytes, &mut self.out);
        }
        self.pump();
    }

    fn hang_up(&mut self) {
        self.gate.eof(Side::Client, &mut self.out);
        self.pump();
    }

    fn server(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(self.reply_parts.min(bytes.len()).max(1)) {
            if !self.out.stop {
                self.gate.bytes(Side::Server, part, &mut self.out);
            }
        }
    }

    /// Carries bytes to and fro until both sides are quiet.
    fn pump(&mut self) {
        loop {
            self.heard.append(&mut self.out.client);
            let bytes = std::mem::take(&mut self.out.server);
            if bytes.is_empty() {
                break;
            }
            let replies = self.smtpd.bytes(&bytes);
            self.server(&replies);
        }
        if self.smtpd.closed && !self.out.stop {
            self.gate.eof(Side::Server, &mut self.out);
            self.heard.append(&mut self.out.client);
        }
    }

    fn played(self) -> Played {
        Played {
            heard: text(&self.heard),
            seen: self.smtpd.seen,
            queued: self.smtpd.queued,
            stopped: self.out.stop,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", "\n")
}

/// Lines of a script, each ended by CRLF.
fn lines(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}

/// One mail of `sender` to `recipients`, pipelined as RFC 2920 allows.
fn mail(sender: &str, recipients: &[&str]) -> String {
    let mut script = format!("MAIL FROM:<{sender}>\r\n");
    for recipient in recipients {
        script += &format!("RCPT TO:<{recipient}>\r\n");
    }
    script + "DATA\r\n"
}

const BODY: &str = "Subject: x\r\n\r\ntext\r\n.\r\n";
const GREY: &str = "450 4.7.1 Greylisted, retry=00:01:00\n";
