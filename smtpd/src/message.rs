//! A message on its way from the client into the queue.

use std::time::{SystemTime, UNIX_EPOCH};

use wire::Decoder;

use crate::queue::{Outcome, Queue};
use crate::received::Hops;
use crate::replies::{self, Reply};
use crate::session::Envelope;

/// A message that is being received.
#[derive(Debug)]
pub struct Message {
    decoder: Decoder,
    hops: Hops,
    /// Bytes as they are stored, without the Received line, and the most there may be.
    size: u64,
    limit: u64,
    /// What the last look at the input stood for.
    text: Vec<u8>,
    /// None once it is known that the message must not be queued.
    queue: Option<Queue>,
    refused: Option<Reply>,
    ends_in_lf: bool,
}

impl Message {
    /// Begins a message of at most `limit` bytes (0: any) with its Received line.
    pub fn new(mut queue: Queue, received: &[u8], limit: u64) -> Self {
        queue.write(received);
        Self {
            decoder: Decoder::new(),
            hops: Hops::default(),
            size: 0,
            limit: if limit == 0 { u64::MAX } else { limit },
            text: Vec::new(),
            queue: Some(queue),
            refused: None,
            ends_in_lf: true,
        }
    }

    /// Takes in a part of a body; returns how many bytes belong to it and whether it is over.
    pub fn body(&mut self, bytes: &[u8]) -> (usize, bool) {
        let (used, over) = self.decoder.decode(bytes, &mut self.text);
        self.pass_on();
        (used, over)
    }

    /// Takes in octets of a chunk.
    pub fn chunk(&mut self, octets: &[u8]) {
        self.decoder.decode_chunk(octets, &mut self.text);
        self.pass_on();
    }

    /// Ends the last chunk; a last line without an end gets one, as qmail's programs expect it.
    pub fn end_chunks(&mut self) {
        self.decoder.finish_chunks(&mut self.text);
        self.pass_on();
        if !self.ends_in_lf {
            self.text.push(b'\n');
            self.pass_on();
        }
    }

    /// Why the message will not be queued, as far as is known.
    pub fn refused(&self) -> Option<&Reply> {
        self.refused.as_ref()
    }

    /// How many bytes have been taken in.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Queues the message, or tells why not.
    pub fn finish(self, envelope: &Envelope) -> Reply {
        let (Some(queue), None) = (self.queue, self.refused.as_ref()) else {
            return self.refused.unwrap_or(replies::NO_QUEUE);
        };
        let pid = queue.pid();
        match queue.close(&envelope.sender, &envelope.recipients) {
            Outcome::Queued => replies::accepted(unix_time(), pid),
            Outcome::Failed(reply) => reply,
        }
    }

    /// Gives the message up.
    pub fn abort(self) {
        if let Some(queue) = self.queue {
            queue.abort();
        }
    }

    fn pass_on(&mut self) {
        self.size = self.size.saturating_add(u64::try_from(self.text.len()).unwrap_or(u64::MAX));
        self.hops.read(&self.text);
        self.ends_in_lf = self.text.last().map_or(self.ends_in_lf, |&byte| byte == b'\n');
        self.refused = self.verdict();
        match self.queue.take() {
            Some(queue) if self.refused.is_some() => queue.abort(),
            Some(mut queue) => {
                queue.write(&self.text);
                self.queue = Some(queue);
            }
            None => {}
        }
        self.text.clear();
    }

    fn verdict(&self) -> Option<Reply> {
        if self.decoder.saw_bare() {
            return Some(replies::BARE_IN_BODY);
        }
        if self.size > self.limit {
            return Some(replies::TOO_BIG);
        }
        self.hops.are_too_many().then_some(replies::TOO_MANY_HOPS)
    }
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
