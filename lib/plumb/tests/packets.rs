//! Packets keep their bounds, carry descriptors, and are refused where they do not fit.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use common::{in_child, read_all};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use plumb::fds::{self, DESCRIPTORS_MAX, packetpair, recv_packet, send_packet};
use plumb::process::Ended;

#[test]
fn packets_keep_their_bounds_and_end_with_none() {
    let (a, b) = packetpair().unwrap();
    send_packet(&a, b"one", &[]).unwrap();
    send_packet(&a, b"three", &[]).unwrap();
    drop(a);
    assert_eq!(received(&b, 100).unwrap(), Some(b"one".to_vec()));
    assert_eq!(received(&b, 100).unwrap(), Some(b"three".to_vec()));
    assert_eq!(received(&b, 100).unwrap(), None);
}

#[test]
fn a_descriptor_arrives_close_on_exec() {
    let (a, b) = packetpair().unwrap();
    let (pipe_end, other_end) = fds::socketpair().unwrap();
    send_packet(&a, b"take this", &[pipe_end.as_raw_fd()]).unwrap();
    drop(pipe_end);
    let (length, mut descriptors) = recv_packet(&b, &mut [0; 100], None).unwrap().unwrap();
    assert_eq!((length, descriptors.len()), (9, 1));
    let flags = nix::fcntl::fcntl(&descriptors[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, libc::FD_CLOEXEC);
    File::from(descriptors.remove(0)).write_all(b"through it").unwrap();
    assert_eq!(read_all(other_end), "through it");
}

#[test]
fn a_packet_that_does_not_fit_is_refused() {
    let (a, b) = packetpair().unwrap();
    send_packet(&a, &[b'x'; 11], &[]).unwrap();
    assert_eq!(received(&b, 10).unwrap_err(), Some(libc::EMSGSIZE));
    send_packet(&a, &[b'x'; 10], &[]).unwrap();
    assert_eq!(received(&b, 10).unwrap(), Some(vec![b'x'; 10]));
}

#[test]
fn a_packet_with_too_many_descriptors_is_refused_and_leaves_none() {
    let ended = in_child(|| {
        let (a, b) = packetpair().unwrap();
        let many: Vec<RawFd> = vec![a.as_raw_fd(); DESCRIPTORS_MAX + 1];
        assert_eq!(error(send_packet(&a, b"x", &many)), Some(libc::EMSGSIZE));
        let rights = [ControlMessage::ScmRights(&many)];
        sendmsg::<()>(a.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None)
            .unwrap();
        let before = open_descriptors();
        assert_eq!(received(&b, 10).unwrap_err(), Some(libc::EMSGSIZE));
        u8::from(open_descriptors() != before)
    });
    assert_eq!(ended, Ended::Code(0));
}

#[test]
fn an_empty_packet_is_not_sent_because_it_would_read_as_the_end() {
    let (a, _b) = packetpair().unwrap();
    assert_eq!(error(send_packet(&a, b"", &[])), Some(libc::EMSGSIZE));
}

#[test]
fn a_send_to_nobody_is_an_error_and_no_signal() {
    let ended = in_child(|| {
        // SAFETY: sets the default action, which std has replaced at start.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let (a, b) = packetpair().unwrap();
        drop(b);
        u8::from(error(send_packet(&a, b"x", &[])) != Some(libc::EPIPE))
    });
    assert_eq!(ended, Ended::Code(0));
}

#[test]
fn a_deadline_passes() {
    let (_a, b) = packetpair().unwrap();
    let deadline = Some(Instant::now() + Duration::from_millis(1));
    assert_eq!(error(recv_packet(&b, &mut [0; 10], deadline)), Some(libc::ETIMEDOUT));
}

#[test]
fn what_came_before_the_deadline_is_received_after_it() {
    let (a, b) = packetpair().unwrap();
    send_packet(&a, b"x", &[]).unwrap();
    assert!(recv_packet(&b, &mut [0; 10], Some(Instant::now())).unwrap().is_some());
}

fn received(from: &OwnedFd, room: usize) -> Result<Option<Vec<u8>>, Option<i32>> {
    let mut buffer = vec![0; room];
    let packet = recv_packet(from, &mut buffer, None).map_err(|cause| cause.raw_os_error())?;
    Ok(packet.map(|(length, _)| buffer[..length].to_vec()))
}

fn error<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|cause| cause.raw_os_error())
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
