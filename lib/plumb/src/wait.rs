//! Wait for a descriptor until a moment.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until a descriptor is ready; false when the time is over.
///
/// # Errors
/// Those of poll(2).
pub fn wait(fd: BorrowedFd<'_>, what: PollFlags, deadline: Instant) -> io::Result<bool> {
    wait_for(&mut [PollFd::new(fd, what)], deadline)
}

/// As `wait`; false also when the other end of `peer` is gone.
///
/// # Errors
/// Those of poll(2).
pub fn wait_beside(
    peer: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    what: PollFlags,
    deadline: Instant,
) -> io::Result<bool> {
    // Asked for no event, poll(2) tells of an end only.
    wait_for(&mut [PollFd::new(fd, what), PollFd::new(peer, PollFlags::empty())], deadline)
}

/// Whether the first of them is ready by then, and not only another one.
fn wait_for(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        match poll(fds, until(deadline)) {
            Err(Errno::EINTR) => {}
            Ok(0) if Instant::now() < deadline => {}
            Ok(_) => return Ok(fds.first().and_then(PollFd::any).unwrap_or(false)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The moment this long from now.
pub fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

/// How long poll(2) has to wait for this moment.
pub(crate) fn until(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    // Rounded up, so that a wait never ends just before its time.
    let millis = left.as_millis().saturating_add(1);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
