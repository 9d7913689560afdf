//! A log that cannot stall: a bounded queue in front of descriptor 2, written by whole lines, each write at most PIPE_BUF.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use plumb::log::{LINE_MAX, Outlet};
use plumb::wait::after;

use crate::queue::{ATOMIC, Keep, Queue, whole_lines};

/// Where the log goes, and what waits for its reader.
#[derive(Debug)]
pub struct Sink {
    writer: Writer,
    queue: Queue,
    keep: Keep,
}

impl Sink {
    /// A log with nothing in it.
    pub fn new(outlet: Outlet, keep: Keep) -> Sink {
        Sink { writer: Writer { outlet, gone: false }, queue: Queue::new(keep), keep }
    }

    /// Takes whole lines, line feeds included, each of at most LINE_MAX bytes; waits only where nothing may be lost.
    ///
    /// `mark` stands before `[LOST n]`, the line that counts lost ones.
    pub fn put(&mut self, lines: &[u8], mark: &[u8]) {
        self.flush();
        let mut rest = lines;
        if self.queue.is_idle() {
            while let Some(count) = self.writer.write(whole_lines(rest)) {
                rest = rest.get(count..).unwrap_or_default();
            }
        }
        if self.writer.gone {
            return;
        }
        self.queue.add(rest, mark);
        while self.queue.is_full() && self.waits() {
            self.wait(HOUR);
        }
    }

    /// Writes what waits, as far as the reader takes it.
    pub fn flush(&mut self) {
        while let Some(count) = self.writer.write(self.queue.next()) {
            self.queue.wrote(count);
        }
    }

    /// From here on nothing is kept back (the last lines come first, behind a count of those that are lost).
    pub fn release(&mut self) {
        self.queue.release();
    }

    /// Whether lines wait for their reader.
    pub fn waits(&self) -> bool {
        !self.writer.gone && !self.queue.next().is_empty()
    }

    /// Writes what is left at the end of a session, for at most `time` where lines may be lost.
    pub fn finish(&mut self, time: Duration) {
        self.queue.tell_lost();
        self.flush();
        let end = after(time);
        while self.waits() && (self.keep == Keep::All || Instant::now() < end) {
            self.wait(end.saturating_duration_since(Instant::now()).max(TICK));
        }
    }

    /// Waits for the reader, and writes what it takes.
    fn wait(&mut self, time: Duration) {
        match self.writer.outlet.wait_for_room(after(time)) {
            Ok(_) => self.flush(),
            Err(_) => self.writer.gone = true,
        }
    }
}

/// The descriptor, until its reader is gone.
#[derive(Debug)]
struct Writer {
    outlet: Outlet,
    gone: bool,
}

impl Writer {
    /// One write(2); none where there is nothing to write, or no room for it now.
    fn write(&mut self, lines: &[u8]) -> Option<usize> {
        if lines.is_empty() || self.gone {
            return None;
        }
        match self.outlet.write(lines) {
            Ok(count) => Some(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(0),
            Err(_) => {
                // The reader is gone or the disk is full: the session goes on.
                self.gone = true;
                None
            }
        }
    }
}

const _: () = assert!(LINE_MAX <= ATOMIC);

const HOUR: Duration = Duration::from_secs(3600);

/// Shortest wait.
const TICK: Duration = Duration::from_millis(10);
