//! A mail transaction and who is in it.

use crate::judge::{Attempt, Judge, Verdict};
use crate::triplet::Seconds;

/// A transaction that the program has begun with a MAIL command.
#[derive(Debug)]
pub struct Transaction {
    line: Vec<u8>,
    sender: Vec<u8>,
    recipients: Recipients,
    /// The first recipient that had to wait, whose triple counts for all (RFC 6647 5 (1)).
    first: Option<Attempt>,
}

/// Whom the program holds as recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Recipients {
    Nobody,
    /// Taken by the program, refused to the client; a retry after so many seconds will pass.
    Ghosts(Seconds),
    /// Taken, and the client knows.
    Real,
    /// Taken, and the client knows; this one, of a null sender, will be judged at DATA.
    Late {
        recipient: Vec<u8>,
        delay: Seconds,
    },
}

/// What a recipient becomes if the program takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// A real one.
    Real,
    /// A real one, whose host is known from then on.
    Admitted(Attempt),
    /// A ghost.
    Ghost(Attempt),
    /// A real one that would have been a ghost (log-only mode).
    Watched(Attempt),
    /// A real one of a null sender, to be judged at DATA.
    Late {
        /// Its address.
        recipient: Vec<u8>,
        /// How long it must wait.
        delay: Seconds,
    },
    /// Nothing sensible: there was no MAIL before it.
    Unexplained,
}

impl Offer {
    /// Whether the client will be told that it is taken.
    pub fn is_real(&self) -> bool {
        !matches!(self, Offer::Ghost(_))
    }
}

impl Transaction {
    /// The program has accepted MAIL. Where a transaction was under way, programs differ in what
    /// becomes of its recipients: so they are taken to be still there.
    pub fn mail(current: &mut Option<Transaction>, line: Vec<u8>, sender: Vec<u8>) {
        let recipients =
            current.take().map_or(Recipients::Nobody, |transaction| transaction.recipients);
        *current = Some(Transaction { line, sender, recipients, first: None });
    }

    /// The MAIL line, without its end.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// The sender's address; empty for the null sender.
    pub fn sender(&self) -> &[u8] {
        &self.sender
    }

    /// The first recipient that had to wait.
    pub fn first(&self) -> Option<&Attempt> {
        self.first.as_ref()
    }

    /// Whether the program holds recipients that the client was refused.
    pub fn has_ghosts(&self) -> bool {
        matches!(self.recipients, Recipients::Ghosts(_))
    }

    /// Whether the program holds recipients that the client was granted.
    pub fn has_real(&self) -> bool {
        matches!(self.recipients, Recipients::Real | Recipients::Late { .. })
    }

    /// The program has taken a recipient, and the client is told.
    pub fn taken(&mut self, offer: Offer, judge: &mut Judge) {
        match offer {
            Offer::Admitted(attempt) => judge.admit(&attempt),
            Offer::Watched(attempt) => {
                self.wait(&attempt, judge);
                judge.delayed(&attempt);
            }
            _ if self.has_ghosts() => return,
            Offer::Late { recipient, delay } => {
                if !matches!(self.recipients, Recipients::Late { .. }) {
                    self.recipients = Recipients::Late { recipient, delay };
                }
                return;
            }
            Offer::Real | Offer::Ghost(_) | Offer::Unexplained => {}
        }
        if self.recipients == Recipients::Nobody {
            self.recipients = Recipients::Real;
        }
    }

    /// The program has taken a recipient that must come back. False if the store has failed, and it need not.
    pub fn ghost(&mut self, attempt: Attempt, judge: &mut Judge) -> bool {
        if !self.wait(&attempt, judge) && !self.has_ghosts() {
            self.taken(Offer::Real, judge);
            return false;
        }
        judge.delayed(&attempt);
        self.recipients = Recipients::Ghosts(attempt.left());
        true
    }

    /// Only the first recipient is remembered, the others wait with it. False if the store has failed.
    fn wait(&mut self, attempt: &Attempt, judge: &mut Judge) -> bool {
        if self.first.is_none() {
            self.first = judge.remember(attempt);
        }
        self.first.is_some()
    }

    /// How many seconds the message must still wait; none if it may come in.
    pub fn refusal(&mut self, judge: &mut Judge) -> Option<Seconds> {
        match &self.recipients {
            Recipients::Ghosts(left) => Some(*left),
            Recipients::Late { recipient, delay } => {
                let verdict = judge.verdict(&self.sender, recipient, *delay, None);
                let left = refused_late(verdict, judge);
                if left.is_none() {
                    self.recipients = Recipients::Real;
                }
                left
            }
            Recipients::Nobody | Recipients::Real => None,
        }
    }

    /// RSET and MAIL again have succeeded: the program holds nobody.
    pub fn restarted(&mut self) {
        self.recipients = Recipients::Nobody;
    }
}

fn refused_late(verdict: Verdict, judge: &mut Judge) -> Option<Seconds> {
    match verdict {
        Verdict::Pass => None,
        Verdict::Admit(attempt) => {
            judge.admit(&attempt);
            None
        }
        Verdict::Delay(attempt) => {
            judge.remember(&attempt)?;
            judge.delayed(&attempt);
            judge.enforced.then(|| attempt.left())
        }
    }
}
