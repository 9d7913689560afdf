//! Lines from SASLFD, in memory that is zeroed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::{Zeroize, Zeroizing};

use crate::secret::Secret;

/// A socket read line by line.
#[derive(Debug)]
pub struct Lines {
    socket: File,
    buffer: Zeroizing<[u8; LINE_MAX]>,
    length: usize,
}

impl Lines {
    /// Reads from here on.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket: File::from(socket), buffer: Zeroizing::new([0; LINE_MAX]), length: 0 }
    }

    /// The socket, for the answers.
    pub fn socket(&mut self) -> &mut File {
        &mut self.socket
    }

    /// The next line without its LF; none at the end, after the deadline, and where a line is too long.
    pub fn next(&mut self, deadline: Option<Instant>) -> io::Result<Option<Secret>> {
        loop {
            let filled = self.buffer.get(..self.length).unwrap_or_default();
            if let Some(at) = filled.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.take(at)));
            }
            if !wait(&self.socket, deadline)? {
                return Ok(None);
            }
            let room = self.buffer.get_mut(self.length..).unwrap_or_default();
            let count = match self.socket.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            if count == 0 {
                return Ok(None);
            }
            self.length = self.length.saturating_add(count);
        }
    }

    fn take(&mut self, at: usize) -> Secret {
        let line = Secret::from(self.buffer.get(..at).unwrap_or_default());
        let rest = at.saturating_add(1);
        self.buffer.copy_within(rest.., 0);
        self.length = self.length.saturating_sub(rest);
        self.buffer.get_mut(self.length..).unwrap_or_default().zeroize();
        line
    }
}

/// Whether there is something to read before the deadline.
fn wait(socket: &File, deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
        let mut asked = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut asked, timeout(left)) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

/// Waits, without the system calls that a sandbox may lack for it.
pub fn pause(time: Duration) -> io::Result<()> {
    let end = Instant::now().checked_add(time);
    while let Some(left) = end.map(|end| end.saturating_duration_since(Instant::now()))
        && !left.is_zero()
    {
        match poll(&mut [], timeout(Some(left))) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

/// Milliseconds, rounded up.
fn timeout(left: Option<Duration>) -> PollTimeout {
    left.map_or(PollTimeout::NONE, |left| {
        PollTimeout::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(PollTimeout::MAX)
    })
}

/// Longest line on SASLFD in bytes, its LF included: RFC 4954's 12,288 and a word in front.
const LINE_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (Lines, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Lines::new(ours.into()), theirs)
    }

    /// Every line that is there now.
    fn all(lines: &mut Lines) -> Vec<Vec<u8>> {
        let next = || lines.next(Some(Instant::now())).unwrap().map(|line| line.to_vec());
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn lines_are_the_same_however_they_are_split() {
        let said = b"MECHS\nAUTH PLAIN AGEAYg==\n\nLINE x\r\nCANCEL\nno end";
        let expected = [&b"MECHS"[..], b"AUTH PLAIN AGEAYg==", b"", b"LINE x\r", b"CANCEL"];
        for at in 0..=said.len() {
            let (mut lines, mut theirs) = pair();
            theirs.write_all(&said[..at]).unwrap();
            let mut found = all(&mut lines);
            theirs.write_all(&said[at..]).unwrap();
            found.extend(all(&mut lines));
            assert_eq!(found, expected, "split at {at}");
            drop(theirs);
            assert!(lines.next(None).unwrap().is_none(), "half a line is none");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_the_end() {
        for (length, fits) in [(LINE_MAX, true), (LINE_MAX + 1, false)] {
            let (mut lines, mut theirs) = pair();
            let mut said = vec![b'x'; length - 1];
            said.push(b'\n');
            theirs.write_all(&said).unwrap();
            let line = lines.next(None).unwrap();
            assert_eq!(line.map(|line| line.len()), fits.then_some(length - 1));
        }
    }

    // What is behind a line in the buffer must not keep what was in it.
    #[test]
    fn a_line_that_was_taken_is_not_in_the_buffer_any_more() {
        let (mut lines, mut theirs) = pair();
        theirs.write_all(b"LINE dGFuc3RhYWY=\nMECHS\n").unwrap();
        assert_eq!(all(&mut lines).len(), 2);
        assert!(lines.buffer.iter().all(|byte| *byte == 0));
    }
}
