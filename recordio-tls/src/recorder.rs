//! Stands between client and program: passes every byte on as it came, and writes down what may be seen.

use std::io;
use std::time::{Duration, SystemTime};

use plumb::die::reason;
use plumb::middle::{Middle, Outbox, Patience, Side};
use plumb::relay::Ending;

use crate::sink::Sink;
use crate::story::Story;
use crate::watch::Watch;

/// One session and its log.
#[derive(Debug)]
pub struct Recorder {
    watch: Watch,
    story: Story,
    sink: Sink,
    stopping: bool,
    broken: bool,
}

impl Recorder {
    /// Begins the log with what is known before anybody speaks.
    pub fn new(watch: Watch, mut story: Story, sink: Sink, start: &str) -> Recorder {
        story.seen_at(SystemTime::now);
        story.session(start);
        let mut recorder = Recorder { watch, story, sink, stopping: false, broken: false };
        recorder.write();
        recorder
    }

    /// Whether the client now speaks with another process on the same socket, which then must not be shut down.
    pub fn handed_over(&self) -> bool {
        self.watch.handed_over()
    }

    /// Ends the log; a reader who has fallen behind gets a second to catch up.
    pub fn finish(mut self, ending: Ending) {
        self.story.seen_at(SystemTime::now);
        if let Ending::ClientLost(error) = ending
            && !self.broken
        {
            self.note_lost(Side::Client, &error);
        }
        self.watch.finish(&mut self.story);
        self.write();
        if self.broken || self.watch.bad() {
            self.sink.release();
        }
        self.sink.finish(LAST_WORDS);
    }

    fn write(&mut self) {
        self.sink.put(self.story.lines(), &self.story.session_head());
        self.story.clear();
    }

    fn note_lost(&mut self, from: Side, error: &io::Error) {
        self.broken = true;
        match error.kind() {
            io::ErrorKind::ConnectionReset => self.story.note(from, "RST"),
            _ => self.story.note(from, format_args!("ERR {}", reason(error))),
        }
    }

    fn ended(&mut self, from: Side, out: &mut Outbox) {
        match from {
            Side::Client => out.hang_up = true,
            // The socket itself is still in use by others.
            Side::Server if self.watch.handed_over() => {
                out.stop = true;
                self.stopping = true;
            }
            Side::Server => out.half_close = true,
        }
        self.write();
    }
}

impl Middle for Recorder {
    fn bytes(&mut self, from: Side, bytes: &[u8], out: &mut Outbox) {
        match from {
            Side::Client => out.server.extend_from_slice(bytes),
            Side::Server => out.client.extend_from_slice(bytes),
        }
        self.story.seen_at(SystemTime::now);
        self.watch.bytes(from, bytes, &mut self.story);
        self.write();
    }

    fn eof(&mut self, from: Side, out: &mut Outbox) {
        self.story.seen_at(SystemTime::now);
        self.watch.eof(from, &mut self.story);
        self.story.note(from, "EOF");
        self.ended(from, out);
    }

    fn lost(&mut self, from: Side, error: &io::Error, out: &mut Outbox) {
        if from == Side::Server {
            // A program that ends without reading everything: an end like any other.
            return self.eof(from, out);
        }
        self.story.seen_at(SystemTime::now);
        self.watch.eof(from, &mut self.story);
        self.note_lost(from, error);
        self.ended(from, out);
    }

    fn accepts(&self, from: Side) -> bool {
        from == Side::Server || !self.watch.handed_over()
    }

    fn patience(&self) -> Patience {
        if self.sink.waits() && !self.stopping { RETRY } else { IDLE }
    }

    fn expired(&mut self, _out: &mut Outbox) {
        self.sink.flush();
    }
}

/// How soon lines that wait for their reader are tried again while nobody speaks.
const RETRY: Patience = Patience::Either(Duration::from_millis(200));

/// A recorder ends no session: only the end of the chain limits the dialogue (DESIGN 6.7).
const IDLE: Patience = Patience::Either(Duration::from_secs(24 * 3600));

/// How long the last lines may wait for their reader, when the session is over.
const LAST_WORDS: Duration = Duration::from_secs(1);
