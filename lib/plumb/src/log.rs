//! One line per event on descriptor 2, which never blocks the session and never reaches the client.

use std::fmt::Display;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::OnceLock;
use std::time::Instant;

use nix::poll::PollFlags;
use nix::sys::stat::{FileStat, SFlag};

use crate::fds;
use crate::ucspi::CONNID_MAX;
use crate::wait::wait;

/// Longest line in bytes, its line feed included: below PIPE_BUF (4,096), so that lines of many processes never mix.
pub const LINE_MAX: usize = 4_000;

/// The log of one session: `program: pid: event key=value ... connid=...`.
#[derive(Debug)]
pub struct Log {
    program: &'static str,
    pid: u32,
    connid: String,
    stderr: Outlet,
    lost: u64,
}

/// A descriptor that takes log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlet {
    number: RawFd,
    kind: Kind,
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A pipe or socket, where the kernel can be asked not to wait.
    Stream,
    /// A file, in which there is always room.
    File,
    /// A terminal or device.
    Other,
    /// The client's own socket, or nothing.
    Silent,
}

impl Log {
    /// A log, made before the process is locked in, in the name of `pid`, which a relay gives as its program's; an empty `connid` is left out.
    pub fn new(program: &'static str, pid: u32, connid: impl Into<String>) -> Self {
        Self { program, pid, connid: connid.into(), stderr: Outlet::stderr(), lost: 0 }
    }

    /// Writes one event, or counts it as lost where it would have to wait.
    pub fn line(&mut self, event: impl Display) {
        let line = self.format(&event.to_string());
        match self.stderr.write(line.as_bytes()) {
            Ok(_) => self.lost = 0,
            Err(_) => self.lost = self.lost.saturating_add(1),
        }
    }

    /// The line as it is written: printable ASCII, the event cut so that the whole fits.
    fn format(&self, event: &str) -> String {
        let mut tail = String::new();
        if !self.connid.is_empty() {
            tail = format!(" connid={}", printable(self.connid.as_bytes(), CONNID_MAX));
        }
        if self.lost > 0 {
            tail = format!("{tail} lost={}", self.lost);
        }
        let head = format!("{}: {}: ", self.program, self.pid);
        let room = LINE_MAX.saturating_sub(head.len()).saturating_sub(tail.len()).saturating_sub(1);
        format!("{head}{}{tail}\n", printable(event.as_bytes(), room))
    }
}

/// A value that came from outside: no space, quote or control byte survives, so that it cannot forge a key or a line; at most `limit` bytes.
pub fn value(bytes: &[u8], limit: usize) -> String {
    escape(bytes, limit, |byte| byte.is_ascii_graphic() && !b"\\\"".contains(&byte))
}

/// Whether descriptor 2 is the socket of descriptor 0 or 1 (inetd, systemd without StandardError): nothing may be written there.
pub fn stderr_is_client() -> bool {
    status(libc::STDERR_FILENO).is_ok_and(|stderr| is_client(&stderr))
}

fn is_client(status_of_log: &FileStat) -> bool {
    let same = |other: FileStat| {
        (other.st_dev, other.st_ino) == (status_of_log.st_dev, status_of_log.st_ino)
    };
    kind(status_of_log) == SFlag::S_IFSOCK
        && [libc::STDIN_FILENO, libc::STDOUT_FILENO]
            .into_iter()
            .any(|fd| status(fd).is_ok_and(same))
}

/// Puts /dev/null on descriptor 2 where it is the client's own socket, so that neither we nor a program behind us can write a log into the session.
pub fn hide_from_client() -> io::Result<()> {
    if stderr_is_client() { fds::null_stdio(&[libc::STDERR_FILENO]) } else { Ok(()) }
}

/// Looks at descriptor 2 once, before the process is locked in and may not look any more.
pub(crate) fn remember_stderr() {
    STDERR.get_or_init(Outlet::stderr);
}

/// The last words of a program that ends.
pub(crate) fn fatal(message: &str) {
    let line = format!("{}\n", printable(message.as_bytes(), LINE_MAX.saturating_sub(1)));
    let stderr = STDERR.get().copied().unwrap_or_else(Outlet::stderr);
    // Nobody is left to be told.
    stderr.write(line.as_bytes()).ok();
}

impl Outlet {
    /// Descriptor 2; to be looked at before the process is locked in.
    pub fn stderr() -> Self {
        Self::of(libc::STDERR_FILENO)
    }

    /// The descriptor with this number; to be looked at before the process is locked in.
    pub fn of(number: RawFd) -> Self {
        let kind = match status(number) {
            Err(_) => Kind::Silent,
            Ok(stat) if is_client(&stat) => Kind::Silent,
            Ok(stat) if [SFlag::S_IFIFO, SFlag::S_IFSOCK].contains(&kind(&stat)) => Kind::Stream,
            Ok(stat) if kind(&stat) == SFlag::S_IFREG => Kind::File,
            Ok(_) => Kind::Other,
        };
        Self { number, kind }
    }

    /// Waits until it takes more, or until `deadline`; whether it does.
    pub fn wait_for_room(self, deadline: Instant) -> io::Result<bool> {
        // SAFETY: the borrow ends with this call, and poll(2) of a closed number only says so.
        let fd = unsafe { BorrowedFd::borrow_raw(self.number) };
        wait(fd, PollFlags::POLLOUT, deadline)
    }

    /// One write(2) that does not wait: how many bytes are done with, or EAGAIN where it would have to wait.
    pub fn write(self, lines: &[u8]) -> io::Result<usize> {
        match self.kind {
            Kind::Silent => Ok(lines.len()),
            Kind::Stream => fds::write_stream_now(self.number, lines),
            Kind::File => fds::write_file(self.number, lines),
            Kind::Other => fds::write_when_ready(self.number, lines),
        }
    }
}

fn status(fd: RawFd) -> io::Result<FileStat> {
    // SAFETY: the borrow ends with this call, and fstat(2) of a closed number only fails.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(nix::sys::stat::fstat(fd)?)
}

fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT
}

fn printable(bytes: &[u8], limit: usize) -> String {
    escape(bytes, limit, |byte| byte == b' ' || byte.is_ascii_graphic())
}

/// Replaces what may not be seen by `\xNN`, and stops before `limit` bytes are exceeded.
fn escape(bytes: &[u8], limit: usize, plain: impl Fn(u8) -> bool) -> String {
    let mut text = String::new();
    for &byte in bytes {
        let shown =
            if plain(byte) { char::from(byte).to_string() } else { format!("\\x{byte:02x}") };
        if text.len().saturating_add(shown.len()) > limit {
            break;
        }
        text.push_str(&shown);
    }
    text
}

static STDERR: OnceLock<Outlet> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_forge_a_key_or_a_line() {
        assert_eq!(value(b"mail.example.org", 100), "mail.example.org");
        assert_eq!(value(b"a b=c\n\"\\\xff", 100), "a\\x20b=c\\x0a\\x22\\x5c\\xff");
    }

    #[test]
    fn a_value_is_bounded_and_never_ends_inside_an_escape() {
        assert_eq!(value(b"abcdef", 3), "abc");
        assert_eq!(value(b"ab\0cd", 5), "ab");
        assert_eq!(value(b"ab\0cd", 6), "ab\\x00");
        assert_eq!(value(b"abc", 0), "");
    }
}
