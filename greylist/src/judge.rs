//! What is to become of a recipient: rules first, then what the store remembers.

use std::time::Duration;

use crate::normalise;
use crate::rules::{Action, Rules};
use crate::store::{Down, Store};
use crate::triplet::{Decision, Policy, Seconds, Triple, Waiting};
use crate::words::{Entry, Event};

/// One client's judge.
pub struct Judge {
    /// By which limits.
    pub policy: Policy,
    /// The rules that still matter for this client.
    pub rules: Rules,
    /// The client's network or domain (see `network::host_key`).
    pub host: String,
    /// Whether all the mail of a host counts as one triple.
    pub host_only: bool,
    /// False in log-only mode: then everything passes, and the log says what would have been refused.
    pub enforced: bool,
    /// What is remembered; none once it has failed.
    pub store: Option<Box<dyn Store>>,
    /// Whether the store is to be asked; if not, all mail passes that no rule refuses.
    pub asks: bool,
    /// How many attempts of this session the store has been told of.
    pub told: u32,
    /// The time.
    pub clock: Box<dyn Fn() -> Seconds>,
    /// The log.
    pub report: Box<dyn FnMut(&Event)>,
}

/// What the rules say of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It may come in.
    Pass,
    /// It may never come in.
    Refuse,
    /// It must have waited for so many seconds.
    Wait(Seconds),
}

/// What the store adds to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may come in.
    Pass,
    /// It came back in time: once the program has taken it, `admit` its host.
    Admit(Attempt),
    /// It must come back: once the program has taken it, `remember` it.
    Delay(Attempt),
}

/// A recipient, the triple that it waits with, and what is known of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    triple: Triple,
    sender: Vec<u8>,
    recipient: Vec<u8>,
    waiting: Option<Waiting>,
    decision: Decision,
}

impl Attempt {
    /// Seconds until a retry will pass; 0 for one that passes.
    pub fn left(&self) -> Seconds {
        match self.decision {
            Decision::Delay { left, .. } => left,
            Decision::Pass { .. } => 0,
        }
    }

    fn is_new(&self) -> bool {
        matches!(self.decision, Decision::Delay { attempt: 1, .. })
    }
}

impl Judge {
    /// What the rules say of a recipient.
    pub fn ruling(&mut self, sender: &[u8], recipient: &[u8]) -> Ruling {
        match self.rules.action(sender, recipient) {
            None => Ruling::Wait(self.policy.delay),
            Some(Action::Delay(seconds)) => Ruling::Wait(seconds),
            Some(Action::Pass) => {
                let (sender, recipient) = (sender.to_vec(), recipient.to_vec());
                self.report(&Event::Ruled { host: self.host.clone(), sender, recipient });
                Ruling::Pass
            }
            Some(Action::Refuse) => {
                let (host, enforced) = (self.host.clone(), self.enforced);
                let (sender, recipient) = (sender.to_vec(), recipient.to_vec());
                self.report(&Event::Refused { host, sender, recipient, enforced });
                if enforced { Ruling::Refuse } else { Ruling::Pass }
            }
        }
    }

    /// Whether a recipient has waited for `delay` seconds; `first` is the first of its transaction
    /// that had to wait, if there was one: then it waits with that (RFC 6647 5 (1)).
    pub fn verdict(
        &mut self,
        sender: &[u8],
        recipient: &[u8],
        delay: Seconds,
        first: Option<&Attempt>,
    ) -> Verdict {
        let (triple, waiting) = match first {
            Some(Attempt { triple, waiting, .. }) => (triple.clone(), *waiting),
            None => {
                let triple = self.triple(sender, recipient);
                let crowd = Triple::crowd(&self.host);
                match self.waiting(&triple) {
                    Some(waiting) => (triple, Some(waiting)),
                    None => match self.waiting(&crowd) {
                        Some(waiting) => (crowd, Some(waiting)),
                        None => (triple, None),
                    },
                }
            }
        };
        let decision = match self.policy.decide(delay, waiting, (self.clock)()) {
            // What began in this transaction has not come back.
            Decision::Pass { .. } if first.is_some_and(Attempt::is_new) => {
                Decision::Delay { left: delay.max(1), attempt: 1 }
            }
            decision => decision,
        };
        let (sender, recipient) = (sender.to_vec(), recipient.to_vec());
        let attempt = Attempt { triple, sender, recipient, waiting, decision };
        match decision {
            _ if !self.asks => Verdict::Pass,
            Decision::Pass { .. } => Verdict::Admit(attempt),
            Decision::Delay { .. } if first.is_none() && self.became_known() => Verdict::Pass,
            Decision::Delay { .. } => Verdict::Delay(attempt),
        }
    }

    /// The program has taken the first recipient that must come back. Gives what its transaction's
    /// further ones wait with; none where the store has failed: then it need not come back.
    pub fn remember(&mut self, attempt: &Attempt) -> Option<Attempt> {
        let Decision::Delay { attempt: tries, .. } = attempt.decision else { return None };
        let now = (self.clock)();
        let triple = self.keep(&attempt.triple, tries, now)?;
        let first = attempt.waiting.filter(|_| tries > 1).map_or(now, |waiting| waiting.first);
        let before = Waiting { first, tries: tries.saturating_sub(1) };
        Some(Attempt { triple, waiting: Some(before), ..attempt.clone() })
    }

    /// Tells the store of an attempt. Where the session or its host has made too many, those that are
    /// new wait together, as its host's crowd, and those that wait already are not counted on: whatever
    /// is delayed can come back.
    fn keep(&mut self, triple: &Triple, tries: u32, now: Seconds) -> Option<Triple> {
        let (oldest, may_tell) = (self.policy.oldest_waiting(now), self.told < SESSION_LIMIT);
        if !may_tell && tries > 1 {
            return Some(triple.clone());
        }
        self.told = self.told.saturating_add(1);
        if may_tell && self.ask(|store| store.remember(triple, now, oldest))? {
            return Some(triple.clone());
        }
        let crowd = Triple::crowd(&self.host);
        self.ask(|store| store.remember(&crowd, now, oldest))?;
        Some(crowd)
    }

    /// The client is told to come back with a recipient.
    pub fn delayed(&mut self, attempt: &Attempt) {
        let (host, sender, recipient, entry) = self.words(attempt);
        let (left, enforced) = (attempt.left(), self.enforced);
        self.report(&Event::Delayed { host, sender, recipient, left, entry, enforced });
    }

    /// The program has taken a recipient that came back: from now on its host is left alone.
    pub fn admit(&mut self, attempt: &Attempt) {
        let now = (self.clock)();
        self.ask(|store| store.admit(&attempt.triple, now));
        self.asks = false;
        let (host, sender, recipient, entry) = self.words(attempt);
        self.report(&Event::Passed { host, sender, recipient, entry });
    }

    /// What the log says of an attempt.
    fn words(&self, attempt: &Attempt) -> (String, String, Vec<u8>, Entry) {
        let before = attempt.waiting.map_or(0, |waiting| waiting.tries);
        let (waited, number) = match attempt.decision {
            Decision::Pass { waited } => (waited, before.saturating_add(1)),
            Decision::Delay { attempt: number, .. } => {
                let first = attempt.waiting.map(|waiting| waiting.first);
                let waited = first.map_or(0, |first| (self.clock)().saturating_sub(first));
                (waited, number)
            }
        };
        let crowd = attempt.triple == Triple::crowd(&self.host);
        let store = self.store.as_ref().map_or(Duration::ZERO, |store| store.took());
        let entry = Entry { waited, attempt: number, crowd, store };
        (self.host.clone(), normalise::sender(&attempt.sender), attempt.recipient.clone(), entry)
    }

    /// The client has logged in: nothing of its mail is judged any more (RFC 6647 5 (7)).
    pub fn trust(&mut self) {
        self.asks = false;
        self.rules = Rules::default();
        self.report(&Event::Trusted);
    }

    /// Writes a line in the log.
    pub fn report(&mut self, event: &Event) {
        (self.report)(event);
    }

    fn triple(&self, sender: &[u8], recipient: &[u8]) -> Triple {
        if self.host_only {
            return Triple::crowd(&self.host);
        }
        let host = self.host.clone();
        let (sender, recipient) = (normalise::sender(sender), normalise::recipient(recipient));
        Triple { host, sender, recipient }
    }

    /// The session is over: the store may be put in order.
    pub fn finish(&mut self) {
        let (policy, now) = (self.policy, (self.clock)());
        self.asks = self.store.is_some();
        self.ask(|store| store.tidy(&policy, now));
    }

    /// What is known of a triple, if that still counts.
    fn waiting(&mut self, triple: &Triple) -> Option<Waiting> {
        let waiting = self.ask(|store| store.waiting(triple)).flatten()?;
        self.policy.still_counts(waiting, (self.clock)()).then_some(waiting)
    }

    /// Whether another session of the same host has let it in meanwhile.
    fn became_known(&mut self) -> bool {
        let host = self.host.clone();
        let Some(known) = self.ask(|store| store.known(&host)) else { return true };
        let now = (self.clock)();
        self.asks = !known.is_some_and(|known| self.policy.knows(known, now));
        !self.asks
    }

    /// Asks the store, and never again once it has failed.
    fn ask<T>(&mut self, ask: impl FnOnce(&mut dyn Store) -> Result<T, Down>) -> Option<T> {
        let store = self.store.as_deref_mut().filter(|_| self.asks)?;
        match ask(store) {
            Ok(answer) => Some(answer),
            Err(down) => {
                self.store = None;
                self.asks = false;
                self.report(&Event::StoreDown(down.0));
                None
            }
        }
    }
}

/// How many attempts of one session the store is told of one by one. RFC 5321 4.5.3.1.10 lets a client expect
/// 100 recipients a transaction; whoever has more senders than that runs a list or invents them, and one entry does for all.
const SESSION_LIMIT: u32 = 100;
