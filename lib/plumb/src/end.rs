//! One side of a session: the descriptors that it is read from and written to.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use nix::unistd::{read, write};

use crate::fds::is_socket;
use crate::wait::{after, wait};

/// One side's descriptors.
#[derive(Debug)]
pub struct End<'fd> {
    pub(crate) input: BorrowedFd<'fd>,
    pub(crate) output: BorrowedFd<'fd>,
    pub(crate) input_is_socket: bool,
    pub(crate) output_is_socket: bool,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl<'fd> End<'fd> {
    /// A side that is read from one descriptor and written to another, or to the same.
    pub fn new(input: BorrowedFd<'fd>, output: BorrowedFd<'fd>) -> End<'fd> {
        End {
            input,
            output,
            input_is_socket: is_socket(input),
            output_is_socket: is_socket(output),
            readable: true,
            writable: true,
        }
    }

    /// A side that is one socket.
    pub fn socket(socket: BorrowedFd<'fd>) -> End<'fd> {
        End::new(socket, socket)
    }

    /// Reads what is there, at most `buffer.len()` bytes; none when nothing is there.
    ///
    /// # Errors
    /// Those of recv(2) and read(2); 0 bytes mean the end.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let got = if self.input_is_socket {
            recv(self.input.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)
        } else {
            read(self.input, buffer)
        };
        later(got)
    }

    /// Writes what can be written without waiting; none when nothing can.
    ///
    /// On anything but a socket this must follow a poll(2) that allowed it.
    ///
    /// # Errors
    /// Those of send(2) and write(2).
    pub fn transmit(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let sent = if self.output_is_socket {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            send(self.output.as_raw_fd(), bytes, flags)
        } else {
            write(self.output, bytes.get(..ATOMIC).unwrap_or(bytes))
        };
        later(sent)
    }

    /// Writes from the front of a buffer as long as this side takes it.
    pub(crate) fn drain(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut sent: usize = 0;
        let result = loop {
            let rest = bytes.get(sent..).unwrap_or_default();
            if rest.is_empty() || !self.writable {
                break Ok(());
            }
            match self.transmit(rest) {
                Ok(None) => break Ok(()),
                Ok(Some(count)) => sent = sent.saturating_add(count),
                Err(error) => break Err(error),
            }
            if !self.output_is_socket {
                break Ok(());
            }
        };
        bytes.drain(..sent.min(bytes.len()));
        result
    }

    /// Whether bytes are waiting that nobody has read.
    pub fn has_unread(&self) -> bool {
        if self.input_is_socket {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
            return matches!(recv(self.input.as_raw_fd(), &mut [0], flags), Ok(1..));
        }
        let mut fds = [PollFd::new(self.input, PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
            && fds.iter().any(|fd| fd.revents().is_some_and(|r| r.contains(PollFlags::POLLIN)))
    }

    /// Closes a connection so that nothing sent is lost: SHUT_WR, then read until the peer closes,
    /// for at most 2 s and 64 KiB.
    pub fn finish(&mut self) {
        self.shut_down_output();
        let deadline = after(LINGER);
        let mut buffer = [0; 4096];
        let mut left = LINGER_BYTES;
        while self.readable && self.input_is_socket && left > 0 {
            if !matches!(wait(self.input, PollFlags::POLLIN, deadline), Ok(true)) {
                return;
            }
            match self.receive(&mut buffer) {
                Ok(Some(0)) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count.unwrap_or(0)),
            }
        }
    }

    pub(crate) fn shut_down_output(&mut self) {
        if self.writable && self.output_is_socket {
            // A peer that is gone already needs no telling.
            let _ = shutdown(self.output.as_raw_fd(), Shutdown::Write);
        }
        self.writable = false;
    }
}

fn later(result: nix::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a pipe takes without blocking once poll(2) has allowed it (PIPE_BUF).
const ATOMIC: usize = 4096;

/// How long a closed connection is waited for, and how much of it is read meanwhile.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 * 1024;
