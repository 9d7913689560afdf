//! Packets with descriptors over SOCK_SEQPACKET sockets.

use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Most descriptors in one packet: several certificates with their keys and a ticket file.
pub const DESCRIPTORS_MAX: usize = 32;

/// Sends one packet, which may not be empty (that would read as the end), with copies of descriptors.
pub fn send_packet(socket: impl AsFd, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
    if bytes.is_empty() || descriptors.len() > DESCRIPTORS_MAX {
        return Err(Errno::EMSGSIZE.into());
    }
    let socket = socket.as_fd().as_raw_fd();
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
    loop {
        match sendmsg::<()>(socket, &[IoSlice::new(bytes)], rights, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// Receives one packet and its descriptors, close-on-exec; None where the other side has ended.
///
/// A packet that does not fit, or whose descriptors do not, is an error (EMSGSIZE); so is a deadline that passes (ETIMEDOUT).
pub fn recv_packet(
    socket: impl AsFd,
    buffer: &mut [u8],
    deadline: Option<Instant>,
) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let (length, descriptors, flags) = loop {
        wait_readable(&socket, deadline)?;
        match recvmsg(socket.as_fd().as_raw_fd(), buffer) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            received => break received?,
        }
    };
    if flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(Errno::EMSGSIZE.into());
    }
    Ok(if length == 0 { None } else { Some((length, descriptors)) })
}

/// Waits until there is something to read; ETIMEDOUT where the deadline passes first.
pub(crate) fn wait_readable(socket: impl AsFd, deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let mut asked = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut asked, remaining(deadline)) {
            Ok(0) if deadline.is_some_and(|end| end <= Instant::now()) => {
                return Err(Errno::ETIMEDOUT.into());
            }
            Ok(0) | Err(Errno::EINTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

/// What poll(2) may still wait, rounded up to milliseconds.
fn remaining(deadline: Option<Instant>) -> PollTimeout {
    let Some(end) = deadline else { return PollTimeout::NONE };
    let left = end.saturating_duration_since(Instant::now());
    let rounded = left.as_micros().div_ceil(1_000);
    PollTimeout::try_from(rounded).unwrap_or(PollTimeout::MAX)
}

type Received = (usize, Vec<OwnedFd>, libc::c_int);

/// recvmsg(2) itself: nix gives up on truncated rights without closing those that came.
fn recvmsg(socket: RawFd, buffer: &mut [u8]) -> nix::Result<Received> {
    let mut control = MaybeUninit::<Control>::uninit();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>();
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: the header points to one iovec over `buffer` and to `control`, both alive and of the lengths given.
    let length = Errno::result(unsafe { libc::recvmsg(socket, &raw mut header, flags) })?;
    // SAFETY: the kernel has filled the header and what it points to.
    let descriptors = unsafe { rights(&header) };
    Ok((length.unsigned_abs(), descriptors, header.msg_flags))
}

/// Takes ownership of every descriptor that came with a message.
///
/// # Safety
/// `header` was filled by recvmsg(2), and its control buffer is alive.
unsafe fn rights(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the CMSG macros stay inside the control buffer; SCM_RIGHTS holds whole ints, new descriptors that nothing owns yet.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(head) = message.as_ref() {
            if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let start: *const RawFd = libc::CMSG_DATA(message).cast();
                let bytes = head.cmsg_len.saturating_sub(size_of::<libc::cmsghdr>());
                for index in 0..bytes.div_euclid(size_of::<RawFd>()) {
                    descriptors.push(OwnedFd::from_raw_fd(start.add(index).read_unaligned()));
                }
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    descriptors
}

/// Room for one SCM_RIGHTS message, aligned as its header must be.
#[repr(C)]
struct Control {
    head: libc::cmsghdr,
    descriptors: [RawFd; DESCRIPTORS_MAX],
}
