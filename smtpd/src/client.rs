//! The client's side: lines and blocks in, replies out, and the time that is allowed for them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use nix::unistd::{read, write};
use wire::{Line, LineReader};

use crate::replies::{self, Reply};

/// Why a session ends without QUIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client has gone.
    Closed,
    /// It said or heard nothing for the time that control/timeoutsmtpd allows.
    Timeout,
    /// Its message came too slowly.
    TooSlow,
    /// The session took too long.
    SessionOver,
}

impl End {
    /// For the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "client",
            Self::Timeout => "timeout",
            Self::TooSlow => "slowness",
            Self::SessionOver => "age",
        }
    }

    /// What to say, where somebody may still listen (RFC 5321 3.8).
    pub fn reply(self) -> Option<Reply> {
        match self {
            Self::Closed => None,
            Self::Timeout => Some(replies::TIMEOUT),
            Self::TooSlow => Some(replies::TOO_SLOW),
            Self::SessionOver => Some(replies::SESSION_OVER),
        }
    }
}

/// The client on descriptors 0 and 1, whose flags are never changed: others share them.
#[derive(Debug)]
pub struct Client {
    input: OwnedFd,
    output: OwnedFd,
    lines: LineReader,
    block: Vec<u8>,
    replies: Vec<u8>,
    timeout: Duration,
    session_end: Instant,
}

impl Client {
    /// The client of a session that begins now; `timeout` is for each wait.
    pub fn new(timeout: Duration) -> io::Result<Self> {
        let (input, output) = (plumb::fds::adopt(0)?, plumb::fds::adopt(1)?);
        plumb::fds::no_delay(&output);
        Ok(Self {
            input,
            output,
            lines: LineReader::new(LINE_LIMIT),
            block: vec![0; BLOCK],
            replies: Vec::new(),
            timeout,
            session_end: after(SESSION_LIMIT),
        })
    }

    /// The next command line, if it is here already.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        self.lines.next_line()
    }

    /// Whether nothing is here, nor in the kernel, that was not yet looked at.
    pub fn is_silent(&self) -> bool {
        let mut asked = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
        self.lines.is_empty() && poll(&mut asked, PollTimeout::ZERO) == Ok(0)
    }

    /// Waits for more; replies go out before.
    pub fn fill(&mut self) -> Result<(), End> {
        let count = self.read(None)?;
        self.lines.push(self.block.get(..count).unwrap_or_default());
        Ok(())
    }

    /// Shows `take` what is here or comes next; it returns how much of it it has used.
    pub fn block(&mut self, pace: &mut Pace, take: impl FnOnce(&[u8]) -> usize) -> Result<(), End> {
        if !self.lines.rest().is_empty() {
            let used = take(self.lines.rest());
            self.lines.take(used);
            return Ok(());
        }
        let count = self.read(Some(pace))?;
        let block = self.block.get(..count).unwrap_or_default();
        let used = take(block);
        self.lines.push(block.get(used..).unwrap_or_default());
        Ok(())
    }

    /// Adds a reply to those that wait.
    pub fn say(&mut self, reply: &Reply) -> Result<(), End> {
        self.replies.extend_from_slice(format!("{reply}\r\n").as_bytes());
        if self.replies.len() >= REPLIES { self.flush() } else { Ok(()) }
    }

    /// Sends the replies that wait.
    pub fn flush(&mut self) -> Result<(), End> {
        let replies = std::mem::take(&mut self.replies);
        let deadline = after(self.timeout).min(self.session_end.max(after(LAST_WORDS)));
        let mut rest = replies.as_slice();
        while !rest.is_empty() {
            match write_now(self.output.as_fd(), rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    wait(self.output.as_fd(), PollFlags::POLLOUT, deadline)?;
                }
                Err(_) => return Err(End::Closed),
            }
        }
        Ok(())
    }

    /// Says its last words and ends, so that they arrive: TCP would drop them for bytes nobody read.
    pub fn hang_up(mut self, last_words: Option<&Reply>) {
        if let Some(reply) = last_words {
            self.replies.extend_from_slice(format!("{reply}\r\n").as_bytes());
        }
        let is_tcp = plumb::ucspi::addresses(&self.output).0.is_some();
        if self.flush().is_err() || !is_tcp || self.is_silent() {
            return;
        }
        if shutdown(self.output.as_raw_fd(), Shutdown::Write).is_ok() {
            self.drain();
        }
    }

    fn drain(&mut self) {
        let (deadline, mut drained) = (after(LAST_WORDS), 0_usize);
        while drained < DRAIN && wait(self.input.as_fd(), PollFlags::POLLIN, deadline).is_ok() {
            match read(&self.input, &mut self.block) {
                Ok(count) if count > 0 => drained = drained.saturating_add(count),
                _ => return,
            }
        }
    }

    fn read(&mut self, pace: Option<&mut Pace>) -> Result<usize, End> {
        self.flush()?;
        let begin = Instant::now();
        let patience = pace.as_ref().map_or(Duration::MAX, |pace| pace.patience());
        let deadline = after(self.timeout.min(patience)).min(self.session_end);
        loop {
            if let Err(end) = wait(self.input.as_fd(), PollFlags::POLLIN, deadline) {
                return Err(self.why(end, deadline, patience));
            }
            match read(&self.input, &mut self.block) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => {
                    return match pace.is_none_or(|pace| pace.keeps_up(count, begin.elapsed())) {
                        true => Ok(count),
                        false => Err(End::TooSlow),
                    };
                }
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => return Err(End::Closed),
            }
        }
    }

    fn why(&self, end: End, deadline: Instant, patience: Duration) -> End {
        match end {
            End::Timeout if deadline >= self.session_end => End::SessionOver,
            End::Timeout if patience < self.timeout => End::TooSlow,
            other => other,
        }
    }
}

/// How fast a message comes: 500 bytes a second, over any minute that was spent waiting for it.
#[derive(Debug, Default)]
pub struct Pace {
    waited: Duration,
    bytes: usize,
}

impl Pace {
    /// How long may still be waited before the pace is judged.
    fn patience(&self) -> Duration {
        PACE_WINDOW.saturating_sub(self.waited)
    }

    /// Takes in what came after which wait.
    fn keeps_up(&mut self, bytes: usize, waited: Duration) -> bool {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.waited < PACE_WINDOW {
            return true;
        }
        let enough = self.bytes >= PACE_BYTES;
        *self = Self::default();
        enough
    }
}

/// MSG_DONTWAIT on sockets; a pipe that poll(2) calls writable takes PIPE_BUF bytes at once.
fn write_now(output: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    match send(output.as_raw_fd(), bytes, flags) {
        Err(Errno::ENOTSOCK) => {
            let mut asked = [PollFd::new(output, PollFlags::POLLOUT)];
            if poll(&mut asked, PollTimeout::ZERO)? == 0 {
                return Err(Errno::EAGAIN);
            }
            write(output, bytes.get(..nix::libc::PIPE_BUF).unwrap_or(bytes))
        }
        sent => sent,
    }
}

fn wait(fd: BorrowedFd<'_>, event: PollFlags, deadline: Instant) -> Result<(), End> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the last wait does not become a busy one.
        let left = left.saturating_add(Duration::from_micros(999));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, event)], timeout) {
            Ok(0) if Instant::now() >= deadline => return Err(End::Timeout),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(_) => return Err(End::Closed),
        }
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

/// RFC 4954 4: 12,288 bytes for an answer in AUTH; the command with such an initial response, and CRLF.
const LINE_LIMIT: usize = 12_288 + 64;

/// One read; twice the usual socket buffer's share of a message.
const BLOCK: usize = 64 * 1024;

/// Replies wait for each other up to this length.
const REPLIES: usize = 4096;

/// No session of one client lasts longer.
const SESSION_LIMIT: Duration = Duration::from_secs(3600);

/// How long the last reply may take, and how much is read after it.
const LAST_WORDS: Duration = Duration::from_secs(2);
const DRAIN: usize = 64 * 1024;

/// Over a window of a minute a message comes with at least 500 bytes a second.
const PACE_WINDOW: Duration = Duration::from_secs(60);
const PACE_BYTES: usize = 60 * 500;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_pace_of_500_bytes_a_second_is_enough() {
        let mut pace = Pace::default();
        assert!((0..600).all(|_| pace.keeps_up(500, SECOND)));
    }

    #[test]
    fn less_is_not() {
        let mut pace = Pace::default();
        assert!((0..59).all(|_| pace.keeps_up(499, SECOND)));
        assert!(!pace.keeps_up(499, SECOND));
        let mut pace = Pace::default();
        assert!((0..59).all(|_| pace.keeps_up(10_000, SECOND)), "a fast start is no credit");
        assert!(pace.keeps_up(10_000, SECOND));
        assert!((0..59).all(|_| pace.keeps_up(1, SECOND)));
        assert!(!pace.keeps_up(1, SECOND));
    }

    #[test]
    fn a_stall_ends_with_the_window() {
        let mut pace = Pace::default();
        assert!(pace.keeps_up(1_000_000, SECOND));
        assert_eq!(pace.patience(), Duration::from_secs(59));
        assert!(pace.keeps_up(1, Duration::from_secs(70)), "enough came before the stall");
        assert_eq!(pace.patience(), PACE_WINDOW);
    }
}
