//! Descriptors: made close-on-exec, adopted by number, passed on, and closed.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, sockopt};

pub use crate::packet::{DESCRIPTORS_MAX, recv_packet, send_packet};

/// Two connected AF_UNIX stream sockets, both close-on-exec.
pub fn socketpair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SockType::Stream)
}

/// Two connected AF_UNIX sockets that keep the bounds of packets, both close-on-exec.
pub fn packetpair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SockType::SeqPacket)
}

/// Takes over the descriptor with number `n` and marks it close-on-exec; an error where it is not open.
///
/// To be called at most once for each number, and not for one that this process opened itself.
pub fn adopt(n: RawFd) -> io::Result<OwnedFd> {
    set_cloexec(n)?;
    // SAFETY: it is open (just checked) and came with the process, so nothing in it owns the number yet; the caller's duty is to ask once.
    Ok(unsafe { OwnedFd::from_raw_fd(n) })
}

/// Puts a descriptor on the number `n`, where it stays open across exec, and closes what was there.
pub fn move_to(fd: OwnedFd, n: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == n {
        return inherit(fd).map(drop);
    }
    put_on(fd.as_fd(), n)
}

/// Puts a copy of the descriptor with number `from` on the number `to`; `from` stays as it is.
pub fn copy_to(from: RawFd, to: RawFd) -> io::Result<()> {
    set_cloexec(from)?;
    // SAFETY: it is open (just checked), and the borrow ends with this function.
    put_on(unsafe { BorrowedFd::borrow_raw(from) }, to)
}

/// Lets a descriptor stay open across exec, and gives its number (for SASLFD).
pub fn inherit(fd: OwnedFd) -> io::Result<RawFd> {
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(fd.into_raw_fd())
}

/// Marks the descriptor with number `n` close-on-exec; an error where it is not open.
pub fn set_cloexec(n: RawFd) -> io::Result<()> {
    if n < 0 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: the borrow ends with this function, and fcntl(2) of a closed number only fails.
    let fd = unsafe { BorrowedFd::borrow_raw(n) };
    let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD)?) | FdFlag::FD_CLOEXEC;
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Puts /dev/null, open for reading and writing, on the given numbers.
pub fn null_stdio(which: &[RawFd]) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    which.iter().try_for_each(|&n| put_on(null.as_fd(), n))?;
    // Where the number was closed, open(2) may have chosen it.
    if which.contains(&null.as_raw_fd()) { inherit(null.into()).map(drop) } else { Ok(()) }
}

/// Closes every descriptor but those given; for a forked child that has nothing else open that it still owns.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 0;
    for fd in keep {
        if fd > first {
            close_range(first, fd.saturating_sub(1))?;
        }
        first = fd.saturating_add(1);
    }
    close_range(first, u32::MAX)
}

/// Whether a descriptor is a socket, of whatever kind.
pub fn is_socket(fd: impl AsFd) -> bool {
    socket::getsockopt(&fd, sockopt::SockType).is_ok()
}

/// Sends small segments at once (TCP_NODELAY); no effect on what is not TCP.
pub fn no_delay(fd: impl AsFd) {
    // Fails exactly where there is nothing to set.
    socket::setsockopt(&fd, sockopt::TcpNoDelay, &true).ok();
}

/// One write to a pipe or socket that fails with EAGAIN where it would have to wait, whatever another process has written meanwhile.
pub(crate) fn write_stream_now(n: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: one iovec over a slice that lives longer than the call and is only read.
    let written = unsafe { libc::pwritev2(n, &raw const part, 1, NO_OFFSET, libc::RWF_NOWAIT) };
    match Errno::result(written) {
        Ok(count) => usize::try_from(count).map_err(io::Error::other),
        // Linux before 6.4 for pipes, FIFOs with a name, and filters that do not know the call.
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => {
            write_when_ready(n, bytes)
        }
        Err(other) => Err(other.into()),
    }
}

/// One write to a file, which poll(2) always calls ready.
pub(crate) fn write_file(n: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the borrow ends with this function, and write(2) to a closed number only fails.
    Ok(nix::unistd::write(unsafe { BorrowedFd::borrow_raw(n) }, bytes)?)
}

/// One write after poll(2) has said that there is room.
pub(crate) fn write_when_ready(n: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the borrow ends with this function, and poll(2) and write(2) of a closed number only fail.
    let fd = unsafe { BorrowedFd::borrow_raw(n) };
    let mut asked = [PollFd::new(fd, PollFlags::POLLOUT)];
    if poll(&mut asked, PollTimeout::ZERO)? == 0 {
        return Err(Errno::EAGAIN.into());
    }
    Ok(nix::unistd::write(fd, bytes)?)
}

fn pair(kind: SockType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socket::socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?)
}

fn put_on(fd: BorrowedFd<'_>, n: RawFd) -> io::Result<()> {
    // SAFETY: dup2(2) only takes numbers; that nothing else owns `n` is what the callers ask for.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), n) })?;
    Ok(())
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: only takes numbers; that nothing in the process still owns them is the caller's duty.
    match Errno::result(unsafe { libc::close_range(first, last, 0) }) {
        Ok(_) => Ok(()),
        // Linux before 5.9, and filters that do not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => close_each(first, last),
        Err(other) => Err(other.into()),
    }
}

/// Closes the numbers of a range that /proc/self/fd lists.
fn close_each(first: u32, last: u32) -> io::Result<()> {
    let open: Vec<u32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| (first..=last).contains(fd)) {
        // SAFETY: only takes a number; EBADF for the folder's own descriptor is harmless.
        unsafe { libc::close(fd.cast_signed()) };
    }
    Ok(())
}

/// pwritev2(2): like writev(2), at the file's own offset.
const NO_OFFSET: libc::off_t = -1;
