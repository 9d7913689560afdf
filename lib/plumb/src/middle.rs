//! Who stands between a client and a program.

use std::io;
use std::time::Duration;

/// The two sides of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected.
    Client,
    /// The program that serves.
    Server,
}

/// Somebody in the middle: is shown what each side sends and says what the other gets.
pub trait Middle {
    /// These bytes came from this side.
    fn bytes(&mut self, from: Side, bytes: &[u8], out: &mut Outbox);
    /// This side will send nothing more; where that is the end of all, say so by `stop`.
    fn eof(&mut self, from: Side, out: &mut Outbox);
    /// The connection to this side broke off.
    fn lost(&mut self, from: Side, _error: &io::Error, out: &mut Outbox) {
        self.eof(from, out);
    }
    /// Whether more of this side can be taken now.
    fn accepts(&self, from: Side) -> bool;
    /// How long is waited from now on, and for whom.
    fn patience(&self) -> Patience;
    /// It was waited that long.
    fn expired(&mut self, out: &mut Outbox);
    /// The watched descriptor has something to say, or its other end is gone.
    fn alarmed(&mut self, _out: &mut Outbox) {}
}

/// How long a relay waits; the time starts anew where this is another one than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// For a word of either side.
    Either(Duration),
    /// For a word of the program: a client cannot buy time by sending, or by reading, a byte now and then.
    Server(Duration),
}

/// What is on its way out.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Bytes for the client.
    pub client: Vec<u8>,
    /// Bytes for the program.
    pub server: Vec<u8>,
    /// The program gets no more than this: tell it so once it has it.
    pub hang_up: bool,
    /// The relay is over once the client has its bytes.
    pub stop: bool,
    /// The program says nothing more: tell the client so once it has its bytes; over when the program reads no more either.
    pub half_close: bool,
}
