//! Where hosts and triples are remembered.

#[cfg(test)]
pub(crate) mod memory;
pub mod sqlite;

use std::fmt;
use std::time::Duration;

use crate::triplet::{Known, Policy, Seconds, Triple, Waiting};

/// A store that several processes share. Each operation is atomic and takes at most the store's deadline.
pub trait Store {
    /// What is known of a host.
    fn known(&mut self, host: &str) -> Result<Option<Known>, Down>;

    /// What is known of a triple.
    fn waiting(&mut self, triple: &Triple) -> Result<Option<Waiting>, Down>;

    /// Counts an attempt that was refused `now`; an entry first seen before `oldest`, or after `now`, begins afresh.
    /// False, and nothing has changed, where it would be a new one and HOST_LIMIT others of its host wait.
    fn remember(&mut self, triple: &Triple, now: Seconds, oldest: Seconds) -> Result<bool, Down>;

    /// The host is known from `now` on, and the triple waits no longer.
    fn admit(&mut self, triple: &Triple, now: Seconds) -> Result<(), Down>;

    /// A known host was here again.
    fn note(&mut self, host: &str, now: Seconds) -> Result<(), Down>;

    /// How much of the session's time it has taken until now.
    fn took(&self) -> Duration;

    /// The session is over and nobody waits: drops some entries that count no more, and does what else is due.
    fn tidy(&mut self, policy: &Policy, now: Seconds) -> Result<(), Down>;
}

/// How many triples of one host, besides its crowd, wait one by one: nobody who sends more at once needs
/// more of them to come back with, and one who invents senders fills no disk.
pub const HOST_LIMIT: u32 = 1_000;

/// Why a store cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down(pub String);

impl fmt::Display for Down {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
